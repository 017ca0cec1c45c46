"""A diffusion run: one series with the files that belong to it, and how they are named."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scsnet_bids.errors import (
    InputDataError,
    ScsnetError,
)
from scsnet_bids.files import read_json
from scsnet_bids.images import Grid

ENTITIES = {
    "sub": "subject",
    "ses": "session",
    "acq": "acquisition",
    "rec": "reconstruction",
    "dir": "direction",
    "run": "run",
    "part": "part",
    "chunk": "chunk",
}
"""Entities of a raw diffusion series in the order of the standard, with their long names."""
NUMBERED = ("run", "chunk")
"""Entities whose values are numbers."""
LABEL = re.compile(r"[0-9a-zA-Z+]+")
"""What the standard allows as the value of an entity."""


@dataclass(frozen=True)
class DwiRun:
    """One diffusion series and the files that belong to it.

    Attributes
    ----------
    image : NIfTI file
    bval, bvec : gradient files, inherited ones included; where there is none, the missing one
    sidecars : JSON files that apply, from the most general to the most specific; may be empty
    entities : (key, value) pairs of the file name, in the order of the standard
    """

    image: Path
    bval: Path
    bvec: Path
    sidecars: tuple[Path, ...]
    entities: tuple[tuple[str, str], ...]

    @property
    def participant(self) -> str:
        """Label without ``sub-``."""
        return dict(self.entities)["sub"]

    @property
    def session(self) -> str | None:
        """Label without ``ses-``; None where the dataset has no sessions."""
        return dict(self.entities).get("ses")

    @property
    def prefix(self) -> str:
        """How every name derived from the run begins, such as ``sub-01_run-01``."""
        return "_".join(f"{key}-{value}" for key, value in self.entities)

    @property
    def output_folder(self) -> Path:
        """Folder relative to the output, the same as in the source: ``sub-01/ses-pre/dwi``."""
        levels = [f"{key}-{value}" for key, value in self.entities if key in ("sub", "ses")]
        return Path(*levels, "dwi")


def read_entities(path: Path) -> dict[str, str]:
    """Read the entities of a file name as they are written; a word that is none has no value.

    >>> read_entities(Path("sub-01_dir-AP_moco_dwi.nii.gz"))
    {'sub': '01', 'dir': 'AP', 'moco': ''}
    """
    pairs = (part.partition("-") for part in path.name.split("_")[:-1])
    return {key: value for key, _, value in pairs}


def is_raw_name(path: Path, *others: str) -> bool:
    """Tell whether an image is named by entities of raw data, and lies in the folders of them.

    Parameters
    ----------
    path : image inside a participant's folder
    *others : entities that it may have besides those of a diffusion series

    Returns
    -------
    bool
    """
    entities = read_entities(path)
    folders = [f"{key}-{entities[key]}" for key in ("sub", "ses") if key in entities]
    return (
        len(entities) == path.name.count("_")  # no entity twice
        and {"sub"} <= entities.keys() <= {*ENTITIES, *others}
        and all(LABEL.fullmatch(label) for label in entities.values())
        and list(path.parents[1].parts[-len(folders) :]) == folders
    )


def comparable(key: str, value: str) -> str:
    """Write the value of an entity so that what means the same is the same.

    >>> comparable("run", "01"), comparable("acq", "01")
    ('1', '01')
    """
    return str(int(value)) if key in NUMBERED and value.isdecimal() else value


def list_inherited(path: Path, *extensions: str) -> list[Path]:
    """List the files that apply to an image by the inheritance principle.

    Parameters
    ----------
    path : image inside a participant's folder
    *extensions : of the files, such as ``.json``

    Returns
    -------
    list of Path, the most general first
    """
    suffix, own = _suffix(path.name), read_entities(path).items()
    applying: list[Path] = []
    for folder in _folders_above(path):
        names = [n for n in os.listdir(folder) if n.endswith(extensions) and _suffix(n) == suffix]
        files = [file for file in map(folder.joinpath, names) if read_entities(file).items() <= own]
        applying += sorted(files, key=lambda file: (len(read_entities(file)), file.name))
    return applying


def _suffix(name: str) -> str:
    """Suffix of a file name: ``dwi`` of ``sub-01_dwi.nii.gz`` and of ``dwi.json``."""
    return name.split(".", maxsplit=1)[0].rpartition("_")[2]


def _folders_above(path: Path) -> Iterator[Path]:
    """Folders from that of the dataset down to that of an image."""
    parents = list(path.parents)
    levels = [n for n, folder in enumerate(parents) if folder.name.startswith("sub-")]
    yield from reversed(parents[: min(levels, default=0) + 2])


def leave_out(
    good: Sequence[DwiRun],
    left_out: Mapping[DwiRun, ScsnetError],
    check: Callable[[DwiRun], object],
) -> tuple[list[DwiRun], dict[DwiRun, ScsnetError]]:
    """Leave out the runs that a check refuses.

    Parameters
    ----------
    good, left_out : runs as :func:`scsnet_bids.run_checks.check_runs` sorts them
    check : raises InputDataError for a run that cannot be processed

    Returns
    -------
    The same, with the runs that are refused among those left out
    """
    faulty: dict[DwiRun, ScsnetError] = {}
    for run in good:
        try:
            check(run)
        except InputDataError as error:
            faulty[run] = error
    return [run for run in good if run not in faulty], {**left_out, **faulty}


def read_metadata(run: DwiRun) -> dict[str, Any]:
    """Merge the JSON sidecars of a run; the more specific file wins.

    Parameters
    ----------
    run : with any number of sidecars, also none

    Returns
    -------
    dict without empty values (null, nan); empty if there is no sidecar

    Raises
    ------
    InputDataError
        If a sidecar is not a JSON object.
    """
    return merge_sidecars(run.sidecars)


def merge_sidecars(paths: Iterable[Path]) -> dict[str, Any]:
    """Merge JSON sidecars, the most general first; see :func:`read_metadata`."""
    metadata: dict[str, Any] = {}
    for path in paths:
        try:
            metadata |= read_json(path)
        except (OSError, ValueError) as error:
            raise InputDataError(
                f"A sidecar must be a JSON object: {path} is not ({error}). Correct or remove it."
            ) from error
    return {key: value for key, value in metadata.items() if value is not None}


class PhaseEncoding(NamedTuple):
    """How the phase was encoded.

    Attributes
    ----------
    axis : inner axis of the slice, 0 (left) or 1 (posterior)
    sign : 1 if it was encoded toward larger indices of that axis, -1 toward smaller ones, 0 if
        nobody says
    """

    axis: int
    sign: int


def phase_encoding(metadata: Mapping[str, Any], grid: Grid) -> PhaseEncoding:
    """Tell along which inner axis the phase was encoded, and which way round.

    Parameters
    ----------
    metadata : ``PhaseEncodingDirection`` names an axis of the file, ``-`` reverses it; of
        ``PhaseEncodingAxis``, which some converters write instead, the sign is not known
    grid : of the series

    Returns
    -------
    PhaseEncoding, along the posterior axis where no axis of the slices is given
    """
    direction = str(metadata.get("PhaseEncodingDirection", ""))
    named = direction or str(metadata.get("PhaseEncodingAxis", ""))
    file_axis = "ijk".find(named[:1]) if named else -1
    for inner_axis, (stored_axis, stored_sign) in enumerate(grid.storage[:2]):
        if stored_axis == file_axis:
            reversed_sign = -1 if direction.endswith("-") else 1
            return PhaseEncoding(inner_axis, int(stored_sign) * reversed_sign * bool(direction))
    return PhaseEncoding(1, 0)
