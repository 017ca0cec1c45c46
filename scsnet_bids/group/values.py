"""One value per person, session and cell: what all comparisons of people start from.

A cell is a region and metric of the whole cord, or of one vertebral level. Single slices are left
out, since slice 3 of one person lies elsewhere in another. The values are the unmixed ones, each
with its standard error. Runs that must not be used have no part in them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd

from scsnet_bids.report.verdict import RULES, Verdict

CELL = ["scope", "level", "region", "side", "metric"]
PERSON = ["participant_id", "session"]
UNUSABLE = "implausible"
NO_SPREAD = 1e-9
"""Values of people that differ by no more than this part are not measured ones."""
BEGINNINGS = ("pre", "base", "bl", "before", "initial")
"""How the name of a first session begins."""


def list_unusable_runs(quality: pd.DataFrame, runs: Iterable[str]) -> set[str]:
    """Name the runs whose numbers must not be used: their quality says so, or nothing tells it.

    Parameters
    ----------
    quality : quality rows, with the column ``run``
    runs : names of all

    Returns
    -------
    set of names
    """
    fatal = [name for name, (verdict, _) in RULES.items() if verdict is Verdict.FAIL]
    unjudged = set(runs) - set(quality["run"])
    if "flag" not in quality:
        return unjudged
    flags = quality["flag"].fillna("").astype(str).str.split(";")
    failed = flags.map(lambda own: not set(own).isdisjoint(fatal)).astype(bool)
    return unjudged | set(quality.loc[failed, "run"])


def tabulate_values(scalarstats: pd.DataFrame, unusable: Collection[str] = ()) -> pd.DataFrame:
    """Make one row per person, session and cell; several runs of a session are averaged.

    Parameters
    ----------
    scalarstats : region tables of all runs, long form
    unusable : names of runs to leave out

    Returns
    -------
    DataFrame with ``participant_id``, ``session``, the columns of ``CELL``, ``value`` and
    ``uncertainty``, of several runs as if they had one error; session and level are empty if there
    is none. Implausible values are left out. A session of which no run is usable is there without
    values, so that no later one is taken for the first.
    """
    columns = [*PERSON, *CELL, "value", "uncertainty"]
    rows = scalarstats[scalarstats["scope"].isin(["cord", "level"])]
    doubtful = rows["unmixed_flag"].fillna("").astype(str).str.contains(UNUSABLE)
    is_unusable = rows["run"].isin(list(unusable))
    rows = rows[is_unusable | (rows["unmixed"].notna() & ~doubtful)].copy()
    rows.loc[is_unusable, ["unmixed", "unmixed_uncertainty"]] = np.nan
    rows = rows.rename(columns={"unmixed": "value"})
    rows = rows.assign(**{name: rows[name].fillna("").astype(str) for name in ("session", "level")})
    grouped = rows.groupby([*PERSON, *CELL], sort=False)
    found = grouped.agg(
        value=("value", "mean"),
        uncertainty=("unmixed_uncertainty", "mean"),
        known=("unmixed_uncertainty", "count"),
        n=("value", "count"),
    )
    # Borders are misplaced alike in all runs of a person, so errors do not average out. Without
    # that of one run, that of the mean is not known.
    found["uncertainty"] = found["uncertainty"].where(found["known"] == found["n"])
    return found.reset_index()[columns]


def first_sessions(values: pd.DataFrame) -> pd.DataFrame:
    """Keep the first session of everybody, in the order of :func:`session_rank`."""
    order = {name: n for n, name in enumerate(sorted(set(values["session"]), key=session_rank))}
    place = values["session"].map(order)
    return values[place == place.groupby(values["participant_id"]).transform("min")]


def session_rank(name: str) -> tuple[bool, list[tuple[int, str]]]:
    """Order sessions in time as far as their names tell it.

    >>> sorted(["ses-post", "ses-10", "ses-2", "ses-pre", "ses-baseline2"], key=session_rank)
    ['ses-baseline2', 'ses-pre', 'ses-2', 'ses-10', 'ses-post']
    """
    label = name.removeprefix("ses-").lower()
    parts = [(int(n), "") if n.isdigit() else (0, n) for n in re.split(r"(\d+)", label)]
    return not label.startswith(BEGINNINGS), parts


def spread_cells(values: pd.DataFrame, column: str) -> pd.DataFrame:
    """Lay out a column with one row per person and session, and one column per cell."""
    return values.pivot(index=PERSON, columns=CELL, values=column)
