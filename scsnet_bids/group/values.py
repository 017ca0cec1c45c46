"""One value per person, session and cell: what all comparisons of people start from.

A cell is a region and metric of the whole cord, or of one vertebral level. Single slices are left
out, since slice 3 of one person lies elsewhere in another. The values are the unmixed ones, each
with its standard error. Runs that must not be used have no part in them.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from scsnet_bids.report.verdict import RULES, Verdict

CELL = ["scope", "level", "region", "side", "metric"]
PERSON = ["participant_id", "session"]
UNUSABLE = "implausible"


def list_unusable_runs(quality: pd.DataFrame) -> set[str]:
    """Name the runs whose quality row says that their numbers must not be used.

    Parameters
    ----------
    quality : quality rows, with the column ``run``

    Returns
    -------
    set of names
    """
    fatal = [name for name, (verdict, _) in RULES.items() if verdict is Verdict.FAIL]
    if "flag" not in quality:
        return set()
    flags = quality["flag"].fillna("").astype(str).str.split(";")
    return set(quality.loc[flags.map(lambda own: not set(own).isdisjoint(fatal)), "run"])


def tabulate_values(scalarstats: pd.DataFrame, unusable: Collection[str] = ()) -> pd.DataFrame:
    """Make one row per person, session and cell; several runs of a session are averaged.

    Parameters
    ----------
    scalarstats : region tables of all runs, long form
    unusable : names of runs to leave out

    Returns
    -------
    DataFrame with ``participant_id``, ``session``, the columns of ``CELL``, ``value`` and
    ``uncertainty``; session and level are empty if there is none. Implausible values are left out.
    """
    columns = [*PERSON, *CELL, "value", "uncertainty"]
    if "unmixed" not in scalarstats:
        return pd.DataFrame(columns=columns)
    rows = scalarstats[scalarstats["scope"].isin(["cord", "level"])]
    rows = rows[rows["unmixed"].notna() & ~rows["run"].isin(list(unusable))]
    doubtful = rows["unmixed_flag"].fillna("").astype(str).str.contains(UNUSABLE)
    rows = rows[~doubtful].rename(columns={"unmixed": "value"})
    rows = rows.assign(
        variance=rows["unmixed_uncertainty"] ** 2,
        **{name: rows[name].fillna("").astype(str) for name in ("session", "level")},
    )
    grouped = rows.groupby([*PERSON, *CELL], sort=False)
    found = grouped.agg(value=("value", "mean"), total=("variance", "sum"), n=("run", "size"))
    found["uncertainty"] = np.sqrt(found["total"]) / found["n"]
    return found.reset_index()[columns]


def first_sessions(values: pd.DataFrame) -> pd.DataFrame:
    """Keep the first session of everybody, in the order of the names."""
    first = values.groupby("participant_id")["session"].transform("min")
    return values[values["session"] == first]


def spread_cells(values: pd.DataFrame, column: str) -> pd.DataFrame:
    """Lay out a column with one row per person and session, and one column per cell."""
    return values.pivot(index=PERSON, columns=CELL, values=column)
