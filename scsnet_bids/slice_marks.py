"""Marks of readers: which slices they failed, by the tables that a participant's page saves.

A table has the columns ``run`` (as the page names it), ``slice`` (from 0 for the lowest) and
``mark``: ``fail`` leaves the slice out, ``pass`` does not. Without the column ``mark`` every row
leaves its slice out. A slice that one reader fails and another passes is left out. The word ``all``
in place of a number fails the whole run. A column ``comment`` tells why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from scsnet_bids.errors import UsageError
from scsnet_bids.images import read_grid
from scsnet_bids.runs import DwiRun
from scsnet_bids.word_tables import read_word_table

EXCLUDED = "excluded_by_reader"
"""Flag of a slice that was left out, in every table."""
EXCLUDED_MEANS = "a reader failed the slice (--exclude-slices): no level and no cord value holds it"
FAIL, PASS = "fail", "pass"
NAME = re.compile(r"sub-[a-zA-Z0-9+]+(_[a-z]+-[a-zA-Z0-9+]+)*")

ALL, WHOLE_RUN = "all", -1
"""The word that fails a whole run, and its place among the slices."""


class Mark(NamedTuple):
    """A failed slice: the table that says so, and why, empty if it does not say."""

    table: Path
    comment: str = ""


Marks = Mapping[str, Mapping[int, Mark]]
"""By run: its failed slices; a failed run has the slice ``WHOLE_RUN``."""


def read_marks(sources: Sequence[str]) -> dict[str, dict[int, Mark]]:
    """Read which slices of which runs are failed.

    Parameters
    ----------
    sources : tables of marks, and folders of such (every .tsv directly in them)

    Returns
    -------
    dict by run, of the failed slices in rising order; of several marks the first with a comment

    Raises
    ------
    UsageError
        If a source does not exist, holds no table, or a table cannot be used.
    """
    failed = [
        (run, number, not comment, path, comment)
        for path in (path for source in sources for path in _list_tables(Path(source)))
        for run, number, comment in _failed_slices(path)
    ]
    marks: dict[str, dict[int, Mark]] = {}
    for run, number, _, path, comment in sorted(failed):
        marks.setdefault(run, {}).setdefault(number, Mark(path, comment))
    return marks


def failed_slices(marks: Marks, run: str, n_slices: int) -> dict[int, Mark]:
    """List the failed slices of a run: all of them where the run itself is failed.

    Parameters
    ----------
    marks : as :func:`read_marks` gives them
    run : its name
    n_slices : that it has

    Returns
    -------
    dict by slice
    """
    own = dict(marks.get(run, {}))
    whole = own.pop(WHOLE_RUN, None)
    return own if whole is None else {k: own.get(k, whole) for k in range(n_slices)}


def check_marks(marks: Marks, runs: Iterable[DwiRun], bids_dir: Path) -> None:
    """Make sure that marks speak of series of a dataset, and of slices that these have.

    Parameters
    ----------
    marks : as :func:`read_marks` gives them; those of series that were not chosen may stay
    runs : those that were chosen
    bids_dir : dataset

    Raises
    ------
    UsageError
        If a run does not exist in the dataset, or a slice in a chosen series.
    """
    chosen = {run.prefix: run for run in runs}
    for name, failed in marks.items():
        if name in chosen:
            refuse_absent_slices(name, failed, read_grid(chosen[name].image)[0].shape[2])
        elif not _has_series(bids_dir, name):
            refuse_unknown_run(name, failed, f"{bids_dir} has no such series")


def refuse_absent_slices(run: str, failed: Mapping[int, Mark], n_slices: int) -> None:
    """Raise for a slice that a run does not have."""
    absent = [number for number in failed if number >= n_slices]
    if absent:
        raise UsageError(
            f"Slices count from 0 for the lowest: {failed[absent[0]].table} fails slice "
            f"{absent[0]} of {run}, which has {n_slices}. Correct the table of --exclude-slices."
        )


def refuse_unknown_run(run: str, failed: Mapping[int, Mark], why: str) -> None:
    """Raise for a run that does not exist."""
    raise UsageError(
        "--exclude-slices must name runs as their pages do, such as sub-01_run-1: "
        f"{next(iter(failed.values())).table} names {run!r}, and {why}. Correct the table."
    )


def _has_series(bids_dir: Path, run: str) -> bool:
    """Tell whether a dataset has a series of this name."""
    if not NAME.fullmatch(run):
        return False
    levels = [part for part in run.split("_") if part.startswith(("sub-", "ses-"))]
    return any(bids_dir.joinpath(*levels, "dwi").glob(f"{run}_dwi.nii*"))


def _list_tables(source: Path) -> list[Path]:
    """List the tables that a source names."""
    if not source.is_dir():
        return [source]
    tables = sorted(source.glob("*.tsv"))
    if not tables:
        raise UsageError(
            f"--exclude-slices must name tables of marks, or a folder of them: {source} holds no "
            ".tsv file. Correct the path."
        )
    return tables


def _failed_slices(path: Path) -> list[tuple[str, int, str]]:
    """List run, slice and comment of the failed rows of a table."""
    wanted = "--exclude-slices must name tables of marks, or a folder of them"
    table = read_word_table(path, ("run", "slice"), "marks", wanted)
    words = table["mark"].str.lower() if "mark" in table else pd.Series(FAIL, table.index)
    for place, word in zip(table.index + 2, words, strict=True):
        if word not in (FAIL, PASS):
            raise UsageError(
                f"A mark must be {FAIL} or {PASS}: found {word!r} in row {place} of {path}. "
                "Correct the table of --exclude-slices."
            )
    failed = table[words == FAIL]
    for place, word in zip(failed.index + 2, failed["slice"], strict=True):
        if not re.fullmatch(rf"[0-9]{{1,5}}|{ALL}", word):
            raise UsageError(
                f"A slice must be a number from 0 for the lowest, or {ALL}: found {word!r} in row "
                f"{place} of {path}. Correct the table of --exclude-slices."
            )
    numbers = failed["slice"].replace(ALL, str(WHOLE_RUN)).astype(int)
    comments = failed["comment"].replace("n/a", "") if "comment" in failed else [""] * len(failed)
    return list(zip(failed["run"], numbers, comments, strict=True))
