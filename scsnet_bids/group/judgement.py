"""The verdict on every run of a group, by the same rules as on its page."""

from __future__ import annotations

from typing import Any

import pandas as pd

from scsnet_bids.group.collect import RUN_COLUMNS, GroupTables
from scsnet_bids.report.verdict import Verdict, judge_run, overall_verdict

VERDICT_COLUMNS: dict[str, dict[str, Any]] = {
    "verdict": {
        "Description": "What the automatic checks say of the run; no verdict replaces looking.",
        "Levels": {
            "pass": "nothing was found that speaks against its values",
            "look": "look at its page before its values are used",
            "fail": "its values must not be used; no comparison holds them",
        },
    },
    "reasons": {"Description": "Why it is not pass; n/a if it is."},
}


def judge_runs(tables: GroupTables) -> pd.DataFrame:
    """Say the verdict on every run that has a region table; the others are among the gaps.

    Parameters
    ----------
    tables : of all runs

    Returns
    -------
    DataFrame with the columns of ``RUN_COLUMNS`` and ``VERDICT_COLUMNS``; a run without a quality
    table has a row, too
    """
    shapes = dict(iter(tables.shape.groupby("run"))) if len(tables.shape) else {}
    regions = dict(iter(tables.scalarstats.groupby("run")))
    named = tables.scalarstats[list(RUN_COLUMNS)].drop_duplicates("run", ignore_index=True)
    quality = tables.quality.drop(columns=["participant_id", "session"]).set_index("run")
    judged = [
        (str(Verdict.FAIL), "readers left out all of its slices")
        if run in tables.left_out_whole
        else _judge(quality[quality.index == run], shapes.get(run), regions[run])
        for run in named["run"]
    ]
    return named.join(pd.DataFrame(judged, columns=list(VERDICT_COLUMNS), index=named.index))


def _judge(
    quality: pd.DataFrame, shape: pd.DataFrame | None, regions: pd.DataFrame
) -> tuple[str, str | None]:
    """Say verdict and reasons; a run without all of its tables is to look at."""
    if quality.empty:
        return str(Verdict.LOOK), "it has no quality table, so that no comparison holds it"
    if shape is None or "flag" not in shape:
        return str(Verdict.LOOK), "its tables are incomplete"
    reasons = judge_run(quality.reset_index(drop=True), shape, regions)
    serious = [reason.found for reason in reasons if reason.verdict is not Verdict.PASS]
    return str(overall_verdict(reasons)), "; ".join(serious) or None
