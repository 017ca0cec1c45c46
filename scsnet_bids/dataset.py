"""The output folder as a BIDS dataset of its own, and the input folder as one never written to."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scsnet_bids import __version__
from scsnet_bids.derivatives import write_sidecar
from scsnet_bids.errors import OutputError, UsageError, listed
from scsnet_bids.files import read_json, read_text, write_text

APP_NAME = "scsnet-bids"
BIDS_VERSION = "1.11.1"

# Names that the standard does not know yet; a final slash would leave a folder itself an error.
BIDSIGNORE = (
    "*.html",
    "sub-*/figures",
    "sub-*/ses-*/figures",
    "*_desc-preproc_dwi.bval",
    "*_desc-preproc_dwi.bvec",
    "*_dwiref.*",
    "*_dwimap.*",
    "*_xfm.*",
    "*_timeseries.*",
    "*_scalarstats.*",
    "*_qc.*",
    "group_*",
    "logs",
)

UNTOUCHED = frozenset({"code", "logs", "lost+found", "sourcedata", "work"})
"""What may lie in an output folder before its first run, since none of it is ever overwritten."""

_log = logging.getLogger(__name__)


def check_output_folder(folder: Path, bids_dir: Path) -> None:
    """Make sure that an output or work folder is writable and not part of the input.

    Parameters
    ----------
    folder : made if it does not exist
    bids_dir : input dataset

    Raises
    ------
    UsageError
        As :func:`refuse_input_folder`.
    OutputError
        If it cannot be written, or already holds another dataset.
    """
    refuse_input_folder(folder, bids_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Where it has a name, other jobs that look into the folder must not take it for content.
        tempfile.TemporaryFile(dir=folder, prefix=".").close()
    except OSError as error:
        raise OutputError(
            f"The output and work folders must be writable: {folder} is not ({error}). Correct "
            "its permissions, or choose another."
        ) from error
    refuse_other_dataset(folder)


def refuse_input_folder(folder: Path, bids_dir: Path) -> None:
    """Make sure that a folder is not part of the input.

    Parameters
    ----------
    folder : output or work folder; need not exist
    bids_dir : input dataset

    Raises
    ------
    UsageError
        If the folder, or a folder in it through a link, lies in the input dataset, other than
        below its ``derivatives/``.
    """
    people = [*folder.glob("sub-*"), *folder.glob("sub-*/ses-*")]
    below = [person / name for person in people for name in ("dwi", "figures")]
    links = [path for path in below if path.is_symlink()]
    places = [folder, folder / "logs", *people, *links]
    if any(_lies_in_input(place, bids_dir) for place in places):
        raise UsageError(
            f"The input dataset is never written to: {folder} lies in {bids_dir}. Choose a folder "
            f"outside it, or {bids_dir / 'derivatives' / APP_NAME}."
        )


def refuse_other_dataset(folder: Path) -> None:
    """Make sure that a folder holds no dataset that somebody else has written.

    Parameters
    ----------
    folder : need not exist

    Raises
    ------
    OutputError
        If it does, or if what it holds cannot be told.
    """
    path = folder / "dataset_description.json"
    if not path.exists() and not path.is_symlink():
        return
    try:
        authors = read_json(path).get("GeneratedBy")
    except (OSError, ValueError) as error:
        raise OutputError(
            f"The output folder must be empty or hold earlier output of {APP_NAME}: {path} cannot "
            f"be read ({error}). Put it right, or choose another folder."
        ) from error
    first = authors[0] if isinstance(authors, list) and authors else None
    if not isinstance(first, dict) or first.get("Name") != APP_NAME:
        raise OutputError(
            f"The output folder must be empty or hold earlier output of {APP_NAME}: {path} "
            "belongs to another dataset. Choose another folder."
        )


def refuse_other_files(folder: Path, bids_dir: Path) -> None:
    """Make sure that an output folder that is not described yet holds nothing of somebody else.

    Parameters
    ----------
    folder : output folder; need not exist
    bids_dir : input dataset, which may lie in it

    Raises
    ------
    OutputError
        If it holds more than hidden files, empty folders and what is ``UNTOUCHED``.
    """
    description = folder / "dataset_description.json"
    if description.exists() or not folder.is_dir():
        return
    found = sorted(p.name for p in folder.iterdir() if not _is_untouched(p, bids_dir))
    # Another job that starts at this moment writes the description before all else.
    if found and not description.exists():
        raise OutputError(
            f"The output folder must be empty or hold earlier output of {APP_NAME}: {folder} has "
            f"no {description.name}, and holds {listed(found)}. Move them away, or choose another "
            "folder."
        )


def write_dataset_files(
    out_dir: Path, bids_dir: Path, others: Mapping[str, Path] | None = None
) -> None:
    """Write what makes the output a BIDS dataset: description, README and ``.bidsignore``.

    Parameters
    ----------
    out_dir : output folder
    bids_dir : input dataset
    others : datasets that results are taken from, by name

    Raises
    ------
    UsageError, OutputError
        As :func:`check_output_folder` and :func:`refuse_other_files`.
    """
    check_output_folder(out_dir, bids_dir)
    refuse_other_files(out_dir, bids_dir)
    if out_dir.resolve().parent.name == "derivatives" and APP_NAME not in out_dir.resolve().name:
        _log.warning("The standard wants an output folder under derivatives/ called %s.", APP_NAME)
    write_sidecar(
        out_dir / "dataset_description.json", _describe_dataset(out_dir, bids_dir, others or {})
    )
    write_text(out_dir / ".bidsignore", "\n".join(BIDSIGNORE) + "\n")
    readme = files("scsnet_bids.boilerplate").joinpath("README_outputs.md")
    write_text(out_dir / "README.md", readme.read_text(encoding="utf-8"))
    for name in ("participants.tsv", "participants.json"):
        _copy_people(bids_dir / name, out_dir / name)


def _describe_dataset(out_dir: Path, bids_dir: Path, others: Mapping[str, Path]) -> dict[str, Any]:
    """Content of ``dataset_description.json``."""
    raw = _read_json(bids_dir / "dataset_description.json")
    # What earlier calls have taken is still in the sidecars that they wrote.
    earlier = _read_json(out_dir / "dataset_description.json").get("DatasetLinks")
    links = earlier if isinstance(earlier, dict) else {}
    links |= {name: _link(path, out_dir) for name, path in {"raw": bids_dir, **others}.items()}
    doi = raw.get("DatasetDOI")
    source = {"DOI": doi} if isinstance(doi, str) else {"URL": links["raw"]}
    description = {
        "Name": f"Region-wise spinal cord diffusion metrics of {raw.get('Name', bids_dir.name)}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": APP_NAME, "Version": __version__}],
        "HowToAcknowledge": "Please cite what logs/CITATION.md lists.",
        "SourceDatasets": [source, *({"URL": links[name]} for name in others)],
        "DatasetLinks": links,
    }
    return description | {key: raw[key] for key in ("License",) if isinstance(raw.get(key), str)}


def _link(folder: Path, out_dir: Path) -> str:
    """Write where a dataset lies, seen from the output."""
    return quote(Path(os.path.relpath(folder.resolve(), out_dir.resolve())).as_posix())


def _copy_people(source: Path, path: Path) -> None:
    """Copy what the input says about the participants, so that the group level needs no input."""
    try:
        text = read_text(source)
    except (OSError, ValueError) as error:
        if source.exists() or source.is_symlink():
            _log.warning("%s is not copied to the output (%s).", source, error)
        return
    write_text(path, text)


def _lies_in_input(folder: Path, bids_dir: Path) -> bool:
    """Tell whether a folder belongs to the input dataset; its derivatives do not."""
    folder, bids_dir = folder.resolve(), bids_dir.resolve()
    if not folder.is_relative_to(bids_dir):
        return False
    below = folder.relative_to(bids_dir).parts
    return len(below) < 2 or below[0] != "derivatives"


def _is_untouched(path: Path, bids_dir: Path) -> bool:
    """Tell whether what lies in an output folder is never overwritten, as an empty work folder."""
    if path.name in UNTOUCHED or bids_dir.resolve().is_relative_to(path.resolve()):
        return True
    if path.name.startswith("."):  # of systems and tools, such as .DS_Store and .git
        return path.name != ".bidsignore"
    return path.is_dir() and not any(path.glob("[!.]*"))


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, empty if the file holds none."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}
