"""The tables of the group level: what is compared, and how it is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from scsnet_bids.compression import COMPRESSION_COLUMNS
from scsnet_bids.cord_shape import SHAPE_COLUMNS
from scsnet_bids.derivatives import sidecar_path, write_sidecar, write_table
from scsnet_bids.group.changes import CHANGE_COLUMNS, tabulate_changes
from scsnet_bids.group.collect import RUN_COLUMNS, GroupTables
from scsnet_bids.group.differences import DIFFERENCE_COLUMNS, compare_groups
from scsnet_bids.group.exclusion import EXCLUDED_COLUMNS
from scsnet_bids.group.judgement import VERDICT_COLUMNS, judge_runs
from scsnet_bids.group.norms import NORM_COLUMNS, score_people
from scsnet_bids.group.outliers import OUTLIER_COLUMNS, find_outliers
from scsnet_bids.group.people import (
    PUBLISHED,
    Controls,
    Covariates,
    add_people,
    choose_controls,
    choose_covariates,
    describe_people,
)
from scsnet_bids.group.values import CELL, list_unusable_runs, tabulate_values
from scsnet_bids.group.wide import describe_wide, widen
from scsnet_bids.quality import QUALITY_COLUMNS
from scsnet_bids.regional import REGION_TABLE_COLUMNS
from scsnet_bids.unmixing.table import NOISE_COLUMNS, UNMIXED_COLUMNS

GAP_COLUMNS: dict[str, dict[str, Any]] = {
    "participant_id": RUN_COLUMNS["participant_id"],
    "run": {"Description": "The source entities that name the run; n/a if none is known."},
    "reason": {"Description": "What is missing, and why as far as it is known."},
}
PERSON_COLUMNS = {name: RUN_COLUMNS[name] for name in ("participant_id", "session")}
CELL_COLUMNS = {name: REGION_TABLE_COLUMNS[name] for name in CELL}
Described = tuple[str, pd.DataFrame, Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class GroupAnalysis:
    """What the group level found.

    Attributes
    ----------
    tables : of all runs
    unusable : runs that no comparison of people uses
    wide : one row per run
    values : one row per person, session and cell
    outliers : runs far from all others
    changes : later sessions against the first
    verdicts : one row per run: pass, look or fail, and why
    controls : None if nobody named any; then there are no scores and differences
    covariates, scores, differences : of the comparison with the controls
    """

    tables: GroupTables
    unusable: frozenset[str]
    wide: pd.DataFrame
    values: pd.DataFrame
    outliers: pd.DataFrame
    changes: pd.DataFrame
    verdicts: pd.DataFrame
    controls: Controls | None = None
    covariates: Covariates | None = None
    scores: pd.DataFrame | None = None
    differences: pd.DataFrame | None = None

    @property
    def measured(self) -> set[str]:
        """Participants who have a value."""
        return set(self.values.dropna(subset="value")["participant_id"])


def analyse_group(tables: GroupTables, controls: str | None = None) -> GroupAnalysis:
    """Compare the runs, the sessions and, if there are controls, the people of a group.

    Parameters
    ----------
    tables : of all runs
    controls : who the controls are, ``column==value`` of ``participants.tsv``; None for nobody

    Returns
    -------
    GroupAnalysis

    Raises
    ------
    UsageError
        If the controls cannot be found.
    """
    chosen = None if controls is None else choose_controls(controls, tables.people)
    unusable = frozenset(list_unusable_runs(tables.quality, tables.scalarstats["run"]))
    unusable |= tables.left_out_whole
    values = tabulate_values(tables.scalarstats, unusable)
    analysis = GroupAnalysis(
        tables=tables,
        unusable=unusable,
        wide=widen(tables.scalarstats),
        values=values,
        outliers=find_outliers(tables.quality, tables.scalarstats),
        changes=tabulate_changes(values),
        verdicts=judge_runs(tables),
    )
    if chosen is None:
        return analysis
    measured = chosen.members & analysis.measured
    covariates = choose_covariates(tables.people, measured)
    return replace(
        analysis,
        controls=chosen,
        covariates=covariates,
        scores=score_people(values, chosen, covariates),
        differences=compare_groups(values, chosen, covariates),
    )


def write_group(out_dir: Path, analysis: GroupAnalysis) -> list[Path]:
    """Write the group tables and what their columns mean; those of an earlier call are replaced.

    Parameters
    ----------
    out_dir : output folder
    analysis : to write

    Returns
    -------
    list of the tables' paths

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    paths = []
    for name, table, columns in _describe(out_dir, analysis):
        published = table.rename(columns=PUBLISHED)
        paths.append(write_table(out_dir / f"group_{name}.tsv", published))
        described = {PUBLISHED.get(column, column): text for column, text in columns.items()}
        write_sidecar(sidecar_path(paths[-1]), described)
    if analysis.controls is None:
        # Those of an earlier call with controls would speak of other data.
        for name in ("zscores", "differences"):
            for path in out_dir.glob(f"group_{name}.*"):
                path.unlink()
    return paths


def _describe(out_dir: Path, analysis: GroupAnalysis) -> Iterator[Described]:
    """Yield name, content and columns of every table."""
    tables, people = analysis.tables, analysis.tables.people
    person = describe_people(out_dir, people)
    regions = RUN_COLUMNS | REGION_TABLE_COLUMNS | UNMIXED_COLUMNS
    quality = RUN_COLUMNS | QUALITY_COLUMNS | NOISE_COLUMNS | COMPRESSION_COLUMNS
    n_run = len(RUN_COLUMNS)
    yield "scalarstats", tables.scalarstats, regions
    merged = add_people(analysis.wide, people, n_run)
    yield "wide_scalarstats", merged, _merged(describe_wide(analysis.wide), person)
    yield "shape_scalarstats", tables.shape, RUN_COLUMNS | SHAPE_COLUMNS
    rows = tables.quality.drop(columns=[name for name in RUN_COLUMNS if name != "run"])
    judged = analysis.verdicts.merge(rows, on="run", how="left")
    judged = add_people(judged, people, len(analysis.verdicts.columns))
    yield "qc", judged, _merged(RUN_COLUMNS | VERDICT_COLUMNS | quality, person)
    yield "missing", tables.gaps, GAP_COLUMNS
    yield "excluded", tables.excluded, EXCLUDED_COLUMNS
    yield "outliers", analysis.outliers, RUN_COLUMNS | OUTLIER_COLUMNS
    who = {"participant_id": RUN_COLUMNS["participant_id"]}
    yield "changes", analysis.changes, who | CELL_COLUMNS | CHANGE_COLUMNS
    if analysis.scores is not None and analysis.differences is not None:
        yield "zscores", analysis.scores, PERSON_COLUMNS | CELL_COLUMNS | NORM_COLUMNS
        yield "differences", analysis.differences, CELL_COLUMNS | DIFFERENCE_COLUMNS


def _merged(columns: Mapping[str, Any], person: Mapping[str, Any]) -> dict[str, Any]:
    """Join the descriptions of a table's columns and of the participants'."""
    return dict(columns) | {
        f"participant_{name}" if name in (*columns, *PUBLISHED.values()) else name: text
        for name, text in person.items()
    }
