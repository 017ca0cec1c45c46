"""Where vertebral levels come from: a table that a person writes, or a folder of label images.

A table has one row per slice, or per range of slices, with the columns ``slice`` and ``level``; the
columns ``participant_id``, ``session``, ``run`` and so on say which series a row speaks of, as far
as they are there. A folder is searched for label images of the same participant and session, named
as BIDS or the Spinal Cord Toolbox name them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from scsnet_bids.arrays import FloatArray
from scsnet_bids.errors import ImageError, InputDataError, ScsnetError, UsageError, listed
from scsnet_bids.images import Grid, read_grid, read_image
from scsnet_bids.runs import DwiRun, comparable, leave_out
from scsnet_bids.vertebrae import (
    HIGHEST,
    SHORT_LEVEL_MM,
    Labels,
    is_vertebra,
    level_name,
    level_rank,
    levels_of_slices,
)
from scsnet_bids.word_tables import read_word_table

KEYS = {
    "sub": ("participant_id", "participant", "subject", "sub"),
    "ses": ("session", "session_id", "ses"),
    "acq": ("acquisition", "acq"),
    "rec": ("reconstruction", "rec"),
    "dir": ("direction", "dir"),
    "run": ("run",),
}
"""Columns of a table of levels by entity of the series."""

OWNERS = re.compile(r"(sub|ses)-[a-zA-Z0-9+]+")
"""What of a name says whose an image is, not what it shows: ``ses-discectomy`` means no discs."""
NAMED = re.compile(r"vert|disc|level|labeled", re.IGNORECASE)
DISCS = re.compile(r"disc", re.IGNORECASE)
SOURCES = ("_dwi", "_T2w", "_T1w", "")
"""Whose labels are taken first."""
FIELD_MM = 60.0
"""Label images of the spine reach this far beyond the field of an axial series."""


def find_levels(run: DwiRun, source: str) -> Path | None:
    """Find what tells the vertebral levels of a run.

    Parameters
    ----------
    run : the run
    source : table, or folder of label images; empty for none

    Returns
    -------
    Path of the table or label image; None if there is none that speaks of the run

    Raises
    ------
    UsageError
        If the source does not exist, or is a table that cannot be read.
    """
    if not source:
        return None
    path = Path(source)
    if path.is_dir():
        return _find_image(run, path)
    return path if len(_rows_of(run.prefix, _read_table(path))) else None


def check_levels(
    good: list[DwiRun], left_out: Mapping[DwiRun, ScsnetError], source: str
) -> tuple[list[DwiRun], dict[DwiRun, ScsnetError]]:
    """Check what tells the levels of runs before any of them is processed.

    Parameters
    ----------
    good, left_out : runs as :func:`scsnet_bids.run_checks.check_runs` sorts them
    source : table, or folder of label images; empty for none

    Returns
    -------
    The same, with the runs whose levels cannot be used left out

    Raises
    ------
    UsageError
        If the source cannot be used, or speaks of none of the runs.
    """
    found = {run: find_levels(run, source) for run in good}
    if source and good and not any(found.values()):
        raise UsageError(
            f"--levels must lead to the levels of the chosen series: {source} has none of "
            f"{listed(run.prefix for run in good)}. Check its names, or leave the option "
            "out."
        )

    def check(run: DwiRun) -> None:
        path = found[run]
        if path is not None:
            _check_source(run, path)

    return leave_out(good, left_out, check)


def describe_levels(run: DwiRun, source: str) -> str:
    """Say in a few words what tells the levels of a run; ``-`` if nothing does."""
    path = find_levels(run, source)
    if path is None:
        return "-"
    if path.suffix == ".tsv":
        names = list(_table_levels(path, run.prefix).values())
        if not names:
            return "-"
        return f"{names[-1]}-{names[0]}, table" if len(set(names)) > 1 else f"{names[0]}, table"
    labels = _read_labels(path)
    kind = "discs" if labels.are_discs else "labels"
    low, high = (level_name(int(n)) for n in (labels.number.min(), labels.number.max()))
    return f"{kind} {low}-{high}" + (" (dwi)" if "_dwi" in path.name else " (other scan)")


def read_levels(
    path: Path, run_name: str, cord_share: FloatArray, grid: Grid
) -> npt.NDArray[np.str_]:
    """Read the vertebral level of every slice.

    Parameters
    ----------
    path : table or label image
    run_name : such as ``sub-01_run-1``
    cord_share : (i, j, k) float array in [0, 1], part of each voxel that is cord
    grid : of the series

    Returns
    -------
    (k,) str array, empty where unknown

    Raises
    ------
    InputDataError
        If the table speaks of slices that there are not, or the image holds no labels.
    """
    if path.suffix != ".tsv":
        return levels_of_slices(_read_labels(path), cord_share, grid.affine)
    levels = _table_levels(path, run_name)
    _refuse_absent_slices(path, run_name, levels, grid.shape[2])
    return np.array([levels.get(k, "") for k in range(grid.shape[2])])


def _check_source(run: DwiRun, path: Path) -> None:
    """Make sure that levels belong to a run."""
    grid, _ = read_grid(run.image)
    if path.suffix == ".tsv":
        levels = _table_levels(path, run.prefix)
        _refuse_absent_slices(path, run.prefix, levels, grid.shape[2])
        _refuse_disorder(path, run.prefix, levels)
    else:
        _check_labels(run, path, _read_labels(path), grid)


def _check_labels(run: DwiRun, path: Path, labels: Labels, grid: Grid) -> None:
    """Make sure that labels follow one another, and lie where the series lies."""
    place = np.linalg.solve(grid.affine[:3, :3], (labels.place_mm - grid.affine[:3, 3]).T).T
    numbers = np.unique(labels.number)
    height = [float(np.median(place[labels.number == n, 2])) for n in numbers]
    wrong = np.flatnonzero(np.diff(height) > 0)
    if wrong.size:
        upper, lower = (level_name(int(n)) for n in numbers[wrong[0] : wrong[0] + 2])
        raise ImageError(
            f"Levels must follow one another from head to foot: in {path} {lower} lies above "
            f"{upper}. Correct the labels, or the orientation of their image."
        )
    margin = np.array([FIELD_MM, FIELD_MM, SHORT_LEVEL_MM]) / grid.spacing_mm
    inside = (place >= -margin) & (place <= np.array(grid.shape) - 1 + margin)
    if not inside.all(axis=1).any():
        raise ImageError(
            f"Labels must lie where the series lies, in scanner coordinates: {path} has none near "
            f"{run.image}. Check that both scans are of the same session, and that neither was "
            "moved or registered."
        )


def _find_image(run: DwiRun, folder: Path) -> Path | None:
    """Find the label image of a run's participant and session, that of the series first."""
    place = folder / run.output_folder.parent
    paths = [*place.glob("dwi/*.nii*"), *place.glob("anat/*.nii*")]
    fitting = [path for path in paths if _shows(path, NAMED) and _belongs(path, run)]

    def rank(path: Path) -> tuple[int, bool, str]:
        source = next(n for n, word in enumerate(SOURCES) if word in path.name)
        return source, _shows(path, DISCS), path.name

    return min(fitting, key=rank, default=None)


def _shows(path: Path, words: re.Pattern[str]) -> bool:
    """Tell whether a label image is of a kind, by its name."""
    return words.search(OWNERS.sub("", path.name)) is not None


def _belongs(path: Path, run: DwiRun) -> bool:
    """Tell whether a label image may speak of a run, by its name."""
    pairs = dict(part.split("-", 1) for part in path.name.split(".")[0].split("_") if "-" in part)
    own = dict(run.entities)
    shared = own.keys() if path.parent.name == "dwi" else own.keys() & {"sub", "ses"}
    return all(
        comparable(key, pairs.get(key, own[key])) == comparable(key, own[key]) for key in shared
    )


def _read_labels(path: Path) -> Labels:
    """Read a label image, or say why it is none."""
    image = read_image(path, np.float64)
    data, remedy = image.data, "Correct the image, or leave it out of the folder of --levels."
    if data.ndim != 3 or not np.array_equal(data, np.round(data)):
        raise ImageError(
            f"Labels of levels must be whole numbers in a 3D image: {path} is not so. {remedy}"
        )
    place = np.argwhere((data >= 1) & (data <= HIGHEST))
    if not len(place):
        raise ImageError(
            f"Labels of levels must lie between 1 (C1) and {HIGHEST} (L5): {path} has none. "
            f"{remedy}"
        )
    number = data[tuple(place.T)].astype(int)
    place_mm = place @ image.grid.affine[:3, :3].T + image.grid.affine[:3, 3]
    return Labels(number, place_mm, _shows(path, DISCS))


def _read_table(path: Path) -> pd.DataFrame:
    """Read a table of levels, all of it as words."""
    wanted = "--levels must name a folder of label images, or a table"
    table = read_word_table(path, ("slice", "level"), "levels", wanted)
    if path.suffix != ".tsv":
        raise UsageError(f"A table of levels must end in .tsv: found {path}. Rename it.")
    return table


def _rows_of(run_name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows that speak of a run; an empty cell, or n/a, speaks of all."""
    own = dict(part.split("-", 1) for part in run_name.split("_"))
    chosen = table["slice"] != ""
    for key, columns in KEYS.items():
        for column in (name for name in columns if name in table):
            chosen &= table[column].map(lambda word, key=key: _fits(word, key, own, run_name))
    return table[chosen]


def _fits(word: str, key: str, own: Mapping[str, str], run_name: str) -> bool:
    """Tell whether a cell speaks of a run: its label, with or without prefix, or its whole name."""
    if word in ("", "n/a", run_name):
        return True
    label, has = word.removeprefix(f"{key}-"), own.get(key, "")
    numbers = key == "run" and label.isdecimal() and has.isdecimal()
    return int(label) == int(has) if numbers else label == has


def _table_levels(path: Path, run_name: str) -> dict[int, str]:
    """Level of each slice of a run that the table names, the lowest slice first."""
    levels: dict[int, str] = {}
    for words, level in _rows_of(run_name, _read_table(path))[["slice", "level"]].to_numpy():
        for k in _slices(words, path):
            name = _spelled(level)
            if name and levels.setdefault(k, name) != name:
                raise InputDataError(
                    f"A slice has one level: {path} gives slice {k} of {run_name} both "
                    f"{levels[k]} and {name}. Correct the table."
                )
    return dict(sorted(levels.items()))


def _slices(words: str, path: Path) -> Iterator[int]:
    """Yield the slices of a cell, such as 3 or 0-2."""
    match = re.fullmatch(r"(\d{1,5})(?:\s*-\s*(\d{1,5}))?", words)
    if not match or int(match[2] or match[1]) < int(match[1]):
        raise InputDataError(
            "A slice must be a number from 0 for the lowest, or a range such as 0-2: found "
            f"{words!r} in {path}. Correct the table."
        )
    yield from range(int(match[1]), int(match[2] or match[1]) + 1)


def _spelled(level: str) -> str:
    """Spell a level: C5 for c5 and for 5; other words stay; empty for n/a.

    >>> [_spelled(word) for word in ("c5", "5", "8", "C4/C5", "n/a")]
    ['C5', 'C5', 'T1', 'C4/C5', '']
    """
    if level.isdecimal() and 1 <= int(level) <= HIGHEST:
        return level_name(int(level))
    return "" if level in ("", "n/a") else level.upper()


def _refuse_disorder(path: Path, run_name: str, levels: Mapping[int, str]) -> None:
    """Raise where levels, the lowest slice first, do not follow one another; other words may."""
    vertebrae = [(k, name) for k, name in levels.items() if is_vertebra(name)]
    for (k, lower), (above, upper) in pairwise(vertebrae):
        if level_rank(upper) > level_rank(lower):
            raise InputDataError(
                f"Slices count from 0 for the lowest, and levels follow one another from head to "
                f"foot: {path} gives {lower} to slice {k} of {run_name} and {upper} to slice "
                f"{above}, which lies above it. Correct the table."
            )


def _refuse_absent_slices(
    path: Path, run_name: str, levels: Mapping[int, str], n_slices: int
) -> None:
    """Raise for a slice that the series does not have."""
    absent = [k for k in levels if k >= n_slices]
    if absent:
        raise InputDataError(
            f"Slices count from 0 for the lowest: {path} gives a level to slice {absent[0]} of "
            f"{run_name}, which has {n_slices}. Correct the table."
        )
