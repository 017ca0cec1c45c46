"""Find the diffusion runs of a BIDS dataset, with the files that belong to each.

Only what is asked for is indexed: the ``dwi`` folders of the chosen participants, and the files
they may inherit from the levels above.

This is the only module that uses pybids.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scsnet_bids.errors import (
    EmptySelectionError,
    InvalidDatasetError,
    NoDwiError,
    UsageError,
    listed,
)
from scsnet_bids.files import read_json
from scsnet_bids.runs import (
    ENTITIES,
    DwiRun,
    comparable,
    is_raw_name,
    list_inherited,
    read_entities,
)

FILTERED = frozenset(
    {
        *("dwi", "anat", "bold", "sbref", "fmap", "flair", "t1w", "t2w", "t2starw", "roi"),
        *("asl", "m0scan", "pet", "perf", "meg", "eeg"),
    }
)
"""Kinds of images that filter files of BIDS Apps name."""
MEANT = (("datatype", "dwi"), ("suffix", "dwi"))
ABSENT = frozenset(
    {
        *("sample", "task", "tracksys", "nucleus", "volume", "ceagent", "staining", "tracer"),
        *("proc", "modality", "echo", "flip", "inv", "mt", "recording", "space", "atlas", "roi"),
        *("label", "desc", "from", "to", "mode", "hemi", "segmentation", "res", "den", "model"),
        *("subset", "split"),
    }
)
"""Entities, as pybids calls them, that no raw diffusion series has."""

Filters = Mapping[str, Any]
"""By long entity name: the wanted value, or a list of them; None is absent, ``"*"`` present."""

_log = logging.getLogger(__name__)


def find_runs(
    bids_dir: Path,
    participant_labels: Sequence[str] = (),
    session_labels: Sequence[str] = (),
    filters: Filters | None = None,
) -> list[DwiRun]:
    """Find the diffusion series of a dataset.

    Parameters
    ----------
    bids_dir : BIDS dataset; its derivatives and sourcedata are not looked at
    participant_labels, session_labels : with or without ``sub-``, ``ses-``; empty takes all
    filters : further conditions on entities

    Returns
    -------
    list of DwiRun, numbers in names sorted as numbers; left out are phase and complex parts, and,
    with a warning, files that are not named as the standard names a raw series

    Raises
    ------
    InvalidDatasetError
        If the folder is no BIDS dataset, or two series of it share a name.
    EmptySelectionError
        If a participant or session does not exist, or the conditions choose nothing.
    NoDwiError
        If the chosen participants have no diffusion series at all.
    UsageError
        If a filter names an entity that diffusion series do not have.
    """
    bids_dir, filters = bids_dir.absolute(), filters or {}
    check_dataset(bids_dir)
    _refuse_unknown_filters(filters)
    folders = _choose_folders([bids_dir], "sub", participant_labels)
    if session_labels:
        folders = _choose_folders(folders, "ses", session_labels)
    folders = _without_closed(folders)
    layout = _index(bids_dir, folders)
    images = _without_misnamed(_find_images(layout, bids_dir))
    _report_absent(folders, images)
    chosen = [path for path in images if _answers(path, filters)]
    if not chosen:
        raise EmptySelectionError(
            f"The filters must choose a diffusion series: {dict(filters)} leaves none of "
            f"{listed(path.name for path in images)}. Change the filters."
        )
    return _distinct([_describe_run(path) for path in chosen])


def read_filters(path: Path) -> Filters:
    """Read conditions on diffusion series from a filter file.

    Parameters
    ----------
    path : JSON such as ``{"dwi": {"acquisition": "axial", "run": [1, 2], "part": null}}``

    Returns
    -------
    conditions for :func:`find_runs`

    Raises
    ------
    UsageError
        If the file is not like that.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"A filter file must be a JSON object: {path} is not ({error}). Correct it."
        ) from error
    if not all(isinstance(conditions, dict) for conditions in content.values()):
        raise UsageError(f'A filter file must look like {{"dwi": {{"run": 1}}}}: {path} does not.')
    # Other spellings of dwi would leave all series in.
    unknown = {n for n in content if n.lower() not in FILTERED or (n.lower() == "dwi" != n)}
    if unknown:
        raise UsageError(
            f'A filter file names kinds of images, "dwi" for diffusion series: {path} names '
            f"{listed(sorted(unknown))}, which is none. Correct it."
        )
    others = sorted(set(content) - {"dwi"})
    if others:
        _log.warning('In %s only "dwi" is used, not %s.', path, listed(others))
    # Other apps ask for what is meant anyway.
    filters = {k: v for k, v in content.get("dwi", {}).items() if not _is_idle(k, v)}
    _refuse_unknown_filters(filters)
    return filters


def _is_idle(name: str, wanted: Any) -> bool:
    """Tell whether all diffusion series are as a condition of a filter file wants them."""
    told = (name, wanted) in MEANT or name == "extension"
    return told or (wanted is None and name in ABSENT)


def check_dataset(bids_dir: Path) -> None:
    """Make sure that a folder says it is a BIDS dataset.

    Parameters
    ----------
    bids_dir : folder

    Raises
    ------
    InvalidDatasetError
        If its description is missing or damaged.
    """
    path = bids_dir / "dataset_description.json"
    try:
        read_json(path)
    except (OSError, ValueError) as error:
        raise InvalidDatasetError(
            f"A BIDS dataset needs a dataset_description.json: {path} is missing or not a JSON "
            f"object ({error}). Check the input folder, or write a file with at least "
            '{"Name": "...", "BIDSVersion": "1.10.0"}.'
        ) from error


def _refuse_unknown_filters(filters: Filters) -> None:
    """Raise for a filter that no diffusion series can answer."""
    unknown = sorted(set(filters) - set(ENTITIES.values()))
    if unknown:
        raise UsageError(
            f"A filter must name an entity of diffusion series: {listed(unknown)} is none; "
            f"known are {listed(ENTITIES.values())}."
        )
    for name, wanted in filters.items():
        values = wanted if isinstance(wanted, list) else [wanted]
        if not all(value is None or type(value) in (str, int) for value in values):
            raise UsageError(
                f"A filter must be a word, a whole number, null, or a list of them: {name} is "
                f"{wanted!r}. Correct it."
            )


def _choose_folders(parents: Sequence[Path], key: str, labels: Sequence[str]) -> list[Path]:
    """Choose ``sub-`` or ``ses-`` folders by label; no labels choose all of them."""
    folders = [path for parent in parents for path in parent.glob(f"{key}-*") if path.is_dir()]
    wanted = {f"{key}-{label.removeprefix(f'{key}-')}" for label in labels}
    known = {path.name for path in folders}
    if wanted - known:
        raise EmptySelectionError(
            f"Every chosen {ENTITIES[key]} must exist: {listed(sorted(wanted - known))} does not; "
            f"there are {listed(sorted(known)) or 'none'}. Correct the labels."
        )
    return [path for path in folders if path.name in wanted or not wanted]


def _without_closed(folders: Sequence[Path]) -> list[Path]:
    """Leave out, with a warning, the folders of series that this user may not read."""
    closed: list[Path] = []
    kept = [part for folder in folders for part in _open_parts(folder, closed)]
    if closed:
        _log.warning("Left out, because it may not be read: %s.", listed(closed))
    if closed and not kept:
        raise InvalidDatasetError(
            f"A dataset must be readable: {listed(closed)} may not be read. Correct the "
            "permissions."
        )
    return kept


def _open_parts(folder: Path, closed: list[Path]) -> list[Path]:
    """Find what may be read of a participant or session; what may not is added to ``closed``."""
    if not os.access(folder, os.R_OK | os.X_OK):
        closed.append(folder)
        return []
    n_closed = len(closed)
    parts = [path for path in (folder / "dwi", *sorted(folder.glob("ses-*"))) if path.is_dir()]
    opened = [inner for part in parts for inner in _open_parts(part, closed)]
    return opened if len(closed) > n_closed else [folder]


def _index(bids_dir: Path, folders: Sequence[Path]) -> Any:
    """Index the diffusion files below participant (or session) folders, and those above them."""
    # pybids takes half a second to import, and the command line must start fast.
    from bids import BIDSLayout, BIDSLayoutIndexer

    chosen = "|".join(re.escape(path.relative_to(bids_dir).as_posix()) for path in folders)
    above = "|".join({re.escape(path.relative_to(bids_dir).parts[0]) for path in folders})
    inside = rf"(?:{above})|(?:{chosen})(?:/ses-[^/]+)?(?:/dwi)?"
    file = r"[^/]*dwi\.(?:nii|nii\.gz)"
    outside = re.compile(rf"^/(?!(?:{inside})$|(?:(?:{inside})/)?{file}$)")
    indexer = BIDSLayoutIndexer(
        validate=False,
        index_metadata=False,
        ignore=[outside],
        # A dataset must not bring its own rules for names.
        config_filename="no/file/of/this/name",
    )
    return BIDSLayout(bids_dir, validate=False, indexer=indexer)


def _find_images(layout: Any, bids_dir: Path) -> list[Path]:
    """List the magnitude series of a layout, in natural order."""
    # pybids reads all else from the names of the folders above the dataset as well.
    found = layout.get(suffix="dwi", extension=[".nii", ".nii.gz"], return_type="filename")
    images = [path for path in map(Path, found) if read_entities(path).get("part", "mag") == "mag"]
    return [path for path in images if path.relative_to(bids_dir).parent.name == "dwi"]


def _answers(path: Path, filters: Filters) -> bool:
    """Tell whether the name of a series is as filters want it."""
    own = {ENTITIES[key]: value for key, value in read_entities(path).items()}
    return all(
        any(
            _is_wanted(name, own.get(name), word)
            for word in (wanted if isinstance(wanted, list) else [wanted])
        )
        for name, wanted in filters.items()
    )


def _is_wanted(name: str, value: str | None, word: str | int | None) -> bool:
    """Tell whether the value of an entity is what one word of a filter wants."""
    if value is None or word is None or word == "*":
        return (value is None) == (word is None)
    if isinstance(word, int):
        return value.isdecimal() and int(value) == word
    return comparable(name, value) == comparable(name, word)


def _without_misnamed(images: Sequence[Path]) -> list[Path]:
    """Leave out, with a warning, what is not named as the standard names a raw series."""
    named = [path for path in images if is_raw_name(path)]
    misnamed = [path for path in images if path not in set(named)]
    if misnamed:
        _log.warning(
            "Left out: the standard names a diffusion series sub-<label>[_ses-<label>]..._dwi, "
            "labels of letters and digits, in the folders of its sub- and ses-: not so %s.",
            listed(misnamed),
        )
    return named


def _report_absent(folders: Sequence[Path], images: Sequence[Path]) -> None:
    """Name participants (or sessions) without a series; raise if none has one."""
    present = {parent for path in images for parent in path.parents}
    absent = [path for path in folders if path not in present]
    if not images:
        raise NoDwiError(
            "A dataset needs diffusion series: there is no dwi/*_dwi.nii.gz in "
            f"{listed(absent) or 'any sub-* folder'}. Check the input folder and its file names."
        )
    if absent:
        _log.warning("No diffusion series in %s.", listed(absent))


def _describe_run(image: Path) -> DwiRun:
    """Collect what belongs to an image by the inheritance principle."""
    entities = read_entities(image)
    applying = list_inherited(image, ".bval", ".bvec", ".json")
    sidecars = tuple(path for path in applying if path.suffix == ".json")
    of_kind = {path.suffix: path for path in applying}  # the most specific wins
    beside = image.with_name(image.name.split(".")[0])
    return DwiRun(
        image=image,
        bval=of_kind.get(".bval", beside.with_suffix(".bval")),
        bvec=of_kind.get(".bvec", beside.with_suffix(".bvec")),
        sidecars=sidecars,
        entities=tuple((key, entities[key]) for key in ENTITIES if key in entities),
    )


def _distinct(runs: list[DwiRun]) -> list[DwiRun]:
    """Refuse runs whose outputs would overwrite each other's."""
    first: dict[str, DwiRun] = {}
    for run in runs:
        if first.setdefault(run.prefix, run) is not run:
            raise InvalidDatasetError(
                f"Every series needs a name of its own: {first[run.prefix].image} and {run.image} "
                "differ in nothing but extension or order. Remove or rename one."
            )
    return runs
