"""The tables of all participants, gathered from an output folder alone.

Neither the images nor the input dataset are needed. A run that lacks a table, or whose table
cannot be read, is left out of it and named with the reason; it never stops the others.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scsnet_bids.errors import EmptySelectionError, InputDataError
from scsnet_bids.files import read_text
from scsnet_bids.group.people import read_people
from scsnet_bids.jobs import describe_differences, read_job
from scsnet_bids.report.outcomes import (
    DONE,
    SKIPPED,
    Outcome,
    list_participants,
    read_outcomes,
)

TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "scalarstats": (
        r"(_model-[a-zA-Z0-9]+)?_seg-SCSNet_scalarstats\.tsv",
        (
            *("scope", "region", "side", "metric", "mean", "flag"),
            *("unmixed", "unmixed_uncertainty", "unmixed_flag"),
        ),
    ),
    "shape": (r"_desc-shape_scalarstats\.tsv", ("slice", "area_mm2")),
    "quality": (r"_desc-image_qc\.tsv", ("flag",)),
}
"""How the name of each table ends, and the columns that it must have."""

COLUMN_TYPES: dict[str, type] = dict.fromkeys(
    (
        "scope",
        "level",
        "region",
        "side",
        "metric",
        "flag",
        "unmixed_flag",
        "noise_flag",
        "compressed_level",
    ),
    str,
) | dict.fromkeys(("slice", "mean", "area_mm2", "unmixed", "unmixed_uncertainty"), float)

RUN_COLUMNS: dict[str, dict[str, Any]] = {
    "participant_id": {"Description": "Participant."},
    "session": {"Description": "Session; n/a for a dataset without sessions."},
    "run": {"Description": "The source entities that name the run."},
}
"""The columns that every group table begins with; the others are those of the run's tables."""


@dataclass(frozen=True, eq=False)
class GroupTables:
    """Tables of all runs, each beginning with the columns of ``RUN_COLUMNS``.

    Attributes
    ----------
    scalarstats : the region tables, long form
    shape : the shape tables, one row per slice
    quality : the quality tables, one row per run
    gaps : participant_id, run (nan if none is known) and reason of everything that is missing
    people : ``participants.tsv``; without rows if there is none
    excluded : ``participant_id``, ``session``, ``run`` and ``slice`` of what readers failed
    differences : in which respects the runs were not processed alike
    """

    scalarstats: pd.DataFrame
    shape: pd.DataFrame
    quality: pd.DataFrame
    gaps: pd.DataFrame
    people: pd.DataFrame
    excluded: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=[*RUN_COLUMNS, "slice"])
    )
    differences: tuple[str, ...] = ()

    @property
    def left_out_whole(self) -> frozenset[str]:
        """Runs of which readers failed every slice."""
        left = self.scalarstats.loc[self.scalarstats["scope"] == "slice", "run"]
        return frozenset(self.excluded["run"]) - frozenset(left)


class _Found(NamedTuple):
    """A table of a run: which kind, whose, and where it lies."""

    kind: str
    participant: str
    run: str
    path: Path


class _Text(NamedTuple):
    """A table as text: its place among all, whose it is, and its rows."""

    place: int
    table: _Found
    body: str


def collect_group(out_dir: Path) -> GroupTables:
    """Gather the tables of all participants.

    Parameters
    ----------
    out_dir : output folder of the participant level

    Returns
    -------
    GroupTables, participants and runs in the order of their names

    Raises
    ------
    EmptySelectionError
        If the folder holds no region table that can be read.
    InputDataError
        If ``participants.tsv`` is there and cannot be used.
    """
    participants = list_participants(out_dir)
    people = read_people(out_dir)
    everybody = [*participants, *people["participant_id"]]
    damaged: list[tuple[str, str, str]] = []
    outcomes = {name: _read_outcomes(out_dir, name, damaged) for name in dict.fromkeys(everybody)}
    tables = [table for name in participants for table in _find_tables(out_dir / name)]
    old = {(name, run) for name, own in outcomes.items() for run, o in own.items() if o.is_old}
    found = [table for table in tables if (table.participant, table.run) not in old]
    with_old = old & {(table.participant, table.run) for table in tables}
    gaps = damaged + _missing(found, outcomes, with_old)
    parts = {kind: _read_kind(kind, found, gaps) for kind in TABLES}
    if not parts["scalarstats"]:
        raise EmptySelectionError(
            "The group level needs region tables, sub-*/[ses-*/]dwi/"
            f"*_seg-SCSNet_scalarstats.tsv: {out_dir} has none that can be read, of "
            f"{len(participants)} participants. Run the participant level with this output "
            "folder first."
        )
    joined = {kind: _join(tables) for kind, tables in parts.items()}
    return GroupTables(
        **joined,
        differences=_differences(out_dir / "logs", joined["scalarstats"], outcomes),
        people=people,
        gaps=pd.DataFrame(sorted(gaps), columns=["participant_id", "run", "reason"]).replace(
            "", None
        ),
    )


def _read_outcomes(
    out_dir: Path, participant: str, gaps: list[tuple[str, str, str]]
) -> dict[str, Outcome]:
    """Read what became of a participant's series, or add the reason why not to the gaps."""
    try:
        return read_outcomes(out_dir, participant)
    except InputDataError as error:
        gaps.append((participant, "", f"whether tables are of the last job is not known: {error}"))
        return {}


def _find_tables(folder: Path) -> Iterator[_Found]:
    """Yield the tables of a participant's folder, in the order of their names."""
    for path in sorted([*folder.glob("dwi/*.tsv"), *folder.glob("ses-*/dwi/*.tsv")]):
        for kind, (ending, _) in TABLES.items():
            match = re.fullmatch(rf"(?P<run>sub-.+?){ending}", path.name)
            if match:
                yield _Found(kind, folder.name, match["run"], path)


def _missing(
    found: list[_Found],
    outcomes: Mapping[str, Mapping[str, Outcome]],
    with_old: Collection[tuple[str, str]],
) -> list[tuple[str, str, str]]:
    """(participant, run, reason) of every participant and run that lacks a table."""
    have = {(table.participant, table.run, table.kind) for table in found}
    runs = {(participant, run) for participant, run, _ in have}
    with_tables = {participant for participant, _ in runs}
    gaps: dict[tuple[str, str], str] = {}
    for participant, known in outcomes.items():
        own = {
            (participant, run): f"{outcome.status}: {outcome.reason}"
            for run, outcome in known.items()
            if outcome.status not in (DONE, SKIPPED) or (participant, run) in with_old
        }
        if not own and participant not in with_tables:
            own[participant, ""] = "no table: the participant's runs failed or are not done"
        gaps |= own
    for participant, run in sorted(runs - gaps.keys()):
        kinds = [kind for kind in TABLES if (participant, run, kind) not in have]
        if kinds:
            absent = " and ".join(kinds)
            gaps[participant, run] = f"no {absent} table: the run failed or is not done"
    return [(*names, reason) for names, reason in gaps.items()]


def _differences(
    log_dir: Path, rows: pd.DataFrame, outcomes: Mapping[str, Mapping[str, Outcome]]
) -> tuple[str, ...]:
    """Say in which respects the runs of some rows were not processed alike."""
    jobs = {}
    for participant, run in rows[["participant_id", "run"]].drop_duplicates().to_numpy():
        outcome = outcomes[participant].get(run)
        jobs[str(run)] = read_job(log_dir, outcome.job) if outcome else None
    return tuple(describe_differences(jobs))


def _read_kind(
    kind: str, found: Sequence[_Found], gaps: list[tuple[str, str, str]]
) -> list[pd.DataFrame]:
    """Read the tables of a kind, adding to the gaps those that cannot be used.

    Tables with the same columns are read at once, which is many times faster; only if that fails
    are they read one by one, to find the one at fault.
    """
    same_header: dict[str, list[_Text]] = defaultdict(list)
    for place, table in enumerate(found):
        if table.kind != kind:
            continue
        try:
            header, _, body = read_text(table.path).rstrip("\n").partition("\n")
            same_header[header].append(_Text(place, table, body))
        except (OSError, ValueError) as error:
            gaps.append(_gap_of(table, error))
    parts = []
    for header, texts in same_header.items():
        try:
            parts.append(_parse(kind, header, texts))
        except (ValueError, TypeError):
            parts += [part for text in texts for part in _parse_one(kind, header, text, gaps)]
    return parts


def _parse_one(
    kind: str, header: str, text: _Text, gaps: list[tuple[str, str, str]]
) -> Iterator[pd.DataFrame]:
    """Yield a table, or add the reason why it cannot be used to the gaps."""
    try:
        yield _parse(kind, header, [text])
    except (ValueError, TypeError) as error:
        gaps.append(_gap_of(text.table, error))


def _gap_of(table: _Found, error: Exception) -> tuple[str, str, str]:
    """Say why a table cannot be used."""
    return table.participant, table.run, f"{table.path} cannot be used: {error}"


def _parse(kind: str, header: str, texts: Sequence[_Text]) -> pd.DataFrame:
    """Read tables with the same columns, the run of each row in the first ones.

    Its index is the place of each row's table; ValueError says what is wrong.
    """
    content = pd.read_csv(
        StringIO("\n".join([header, *(text.body for text in texts)])),
        sep="\t",
        keep_default_na=False,
        na_values=["n/a"],
        dtype=COLUMN_TYPES,
    )
    absent = [name for name in TABLES[kind][1] if name not in content]
    if absent:
        raise ValueError(f"it lacks the columns {', '.join(absent)}")
    n_rows = [text.body.count("\n") + 1 for text in texts]
    if sum(n_rows) != len(content) or not all(text.body for text in texts):
        raise ValueError("it has no rows, or some that are empty")
    if "slice" in content:
        content["slice"] = content["slice"].astype("Int64")
    names = np.repeat([_run_names(text.table) for text in texts], n_rows, axis=0)
    for place, column in enumerate(RUN_COLUMNS):
        content.insert(place, column, names[:, place])
    return content.set_index(np.repeat([text.place for text in texts], n_rows))


def _run_names(table: _Found) -> tuple[str, str, str]:
    """Participant, session (empty if there is none) and run of a table."""
    session = re.search(r"_(ses-[^_]+)", table.run)
    return table.participant, session[1] if session else "", table.run


def _join(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Put tables below each other; without any, only the first columns remain."""
    if not tables:
        return pd.DataFrame(columns=list(RUN_COLUMNS))
    joined = pd.concat(tables).sort_index(kind="stable").reset_index(drop=True)
    joined["session"] = joined["session"].where(joined["session"] != "")
    return joined
