"""Name and write what a run leaves behind: derivatives with their sidecars, and tables.

Every file is written whole or not at all.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scsnet_bids.errors import InputDataError, WiringError
from scsnet_bids.files import check_content, write_text, written_whole
from scsnet_bids.runs import DwiRun

OUTPUT_ENTITIES = ("from", "to", "mode", "model", "param", "seg", "label", "desc")
"""Entities that a derivative adds to those of its source, in the order of names."""

CARRIED_OVER = (
    "BodyPart",
    "BodyPartDetails",
    "EchoTime",
    "EffectiveEchoSpacing",
    "FlipAngle",
    "MagneticFieldStrength",
    "Manufacturer",
    "ManufacturersModelName",
    "MultibandAccelerationFactor",
    "PhaseEncodingDirection",
    "RepetitionTime",
    "SliceTiming",
    "TotalReadoutTime",
)
"""Metadata of the source that stay true of the corrected series."""
BY_STORAGE = ("PhaseEncodingDirection", "SliceTiming")
"""Those that tell axes and slices as the image stores them."""


@dataclass(frozen=True)
class Derivative:
    """One file of the output.

    Attributes
    ----------
    field : name of the product inside the workflows
    path : where it goes
    sidecar : what its JSON file says; None if it has none of its own
    """

    field: str
    path: Path
    sidecar: Mapping[str, Any] | None = None


def output_name(run: DwiRun, *, suffix: str, extension: str, **entities: str) -> str:
    """Name a derivative of a run.

    Parameters
    ----------
    run : the source
    suffix, extension : such as ``dwimap``, ``.nii.gz``
    entities : by short name, such as ``param="fa"``; at least one, so that no derivative ever has
        the name of a raw file

    Returns
    -------
    file name

    Raises
    ------
    WiringError
        If an entity is unknown or its value not alphanumeric.

    Examples
    --------
    >>> run = DwiRun(Path("a.nii"), Path("a.bval"), Path("a.bvec"), (), (("sub", "1"),))
    >>> output_name(run, suffix="dwimap", extension=".nii.gz", param="fa", model="tensor")
    'sub-1_model-tensor_param-fa_dwimap.nii.gz'
    """
    unknown = set(entities) - set(OUTPUT_ENTITIES)
    malformed = [value for value in (*entities.values(), suffix) if not value.isalnum()]
    if unknown or malformed or not entities or not extension.startswith("."):
        raise WiringError(
            f"A derivative needs entities out of {', '.join(OUTPUT_ENTITIES)} with letters and "
            f"digits for values, and an extension: found {entities}, {suffix}, {extension}."
        )
    added = [f"{key}-{entities[key]}" for key in OUTPUT_ENTITIES if key in entities]
    return "_".join([run.prefix, *added, suffix]) + extension


def output_path(
    out_dir: Path, run: DwiRun, *, suffix: str, extension: str, **entities: str
) -> Path:
    """Say where a derivative of a run goes; see :func:`output_name`."""
    name = output_name(run, suffix=suffix, extension=extension, **entities)
    return out_dir / run.output_folder / name


def sidecar_path(path: Path) -> Path:
    """Name the JSON file beside a derivative."""
    return path.with_name(path.name.split(".")[0] + ".json")


def raw_uri(run: DwiRun) -> str:
    """BIDS URI of the source image of a run."""
    return f"bids:raw:{(run.output_folder / run.image.name).as_posix()}"


def derivative_uri(path: Path, out_dir: Path) -> str:
    """BIDS URI of a file of the output."""
    return f"bids::{path.relative_to(out_dir).as_posix()}"


def describe_image(
    description: str, sources: Sequence[str], reference: str, **fields: Any
) -> dict[str, Any]:
    """Write down what the standard asks of every derived image.

    Parameters
    ----------
    description : one sentence
    sources : BIDS URIs of the files it was made from
    reference : BIDS URI of an image with the same voxels
    fields : whatever else its sidecar says

    Returns
    -------
    dict for :func:`write_sidecar`
    """
    return {
        "Description": description,
        "Sources": list(sources),
        "SpatialReference": reference,
        "SkullStripped": False,
        **fields,
    }


def carry_over(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the metadata of the source that stay true of the corrected series."""
    return {key: metadata[key] for key in CARRIED_OVER if key in metadata}


def save_derivative(derivative: Derivative, source: Path) -> Path:
    """Copy a product to its place in the output, with its sidecar.

    Parameters
    ----------
    derivative : where it goes and what its sidecar says
    source : file to copy

    Returns
    -------
    Path of the copy

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with written_whole(derivative.path) as partial:
        shutil.copyfile(source, partial)
    if derivative.sidecar is not None:
        write_sidecar(sidecar_path(derivative.path), derivative.sidecar)
    return derivative.path


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """Write a table as TSV with six significant digits; what is missing is ``n/a``.

    Parameters
    ----------
    path : file to write
    table : its index is not written

    Returns
    -------
    Path of the file

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    text: str = as_words(table).to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n")
    return write_text(path, text)


def as_words(table: pd.DataFrame) -> pd.DataFrame:
    """Write the floats of a table as its file has them; empty words are missing."""
    return table.apply(_as_words)


def join_flags(raised: Mapping[str, object]) -> str | None:
    """Write the flags that are raised into one cell; None, in files ``n/a``, if none is.

    >>> join_flags({"few_voxels": False, "cut_off": True, "implausible": True})
    'cut_off;implausible'
    """
    return ";".join(name for name, doubtful in raised.items() if doubtful) or None


def read_table(path: Path) -> pd.DataFrame:
    """Read a TSV table; ``n/a`` becomes nan. InputDataError says why it cannot be read."""
    return _read_tsv(path, na_values=["n/a"])


def read_words(path: Path) -> pd.DataFrame:
    """Read a TSV table as the words that it holds; InputDataError says why it cannot be read."""
    return _read_tsv(path, dtype=str)


def select_rows(table: pd.DataFrame, **cell: Any) -> pd.DataFrame:
    """Take the rows of a cell, such as ``scope="cord", region="white_matter"``."""
    return table[(table[list(cell)] == pd.Series(cell)).all(axis=1)]


def write_sidecar(path: Path, fields: Mapping[str, Any]) -> Path:
    """Write a JSON file; numpy's numbers and arrays become plain ones.

    Parameters
    ----------
    path : file to write
    fields : content; a nan in it is refused, since JSON has none

    Returns
    -------
    Path of the file

    Raises
    ------
    OutputError
        If it cannot be written.
    ValueError
        If a number is nan or infinite.
    """
    text = json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    return write_text(path, text + "\n")


def _read_tsv(path: Path, **how: Any) -> pd.DataFrame:
    """Read a TSV table, with further words to pandas."""
    try:
        check_content(path)
        table: pd.DataFrame = pd.read_csv(path, sep="\t", keep_default_na=False, **how)
    except (OSError, ValueError) as error:
        raise InputDataError(
            f"A table must be readable: {path} is not ({error}). Correct it, or remove it and run "
            "the participant level again."
        ) from error
    return table


def _as_words(column: pd.Series[Any]) -> pd.Series[Any]:
    """Write the floats of a column with six digits: many times faster than pandas does."""
    if column.dtype.kind == "O":
        return column.where(column != "")
    if column.dtype.kind != "f":
        return column
    words = ["n/a" if math.isnan(value) else f"{value:.6g}" for value in column.tolist()]
    return pd.Series(words, column.index, dtype=object)


def _plain(value: Any) -> Any:
    """Turn what JSON does not know into what it knows."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"{value!r} cannot be written as JSON.")
