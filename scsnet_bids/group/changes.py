"""Sessions of one person side by side: each later session compared with the first."""

from __future__ import annotations

from typing import Any

import pandas as pd

from scsnet_bids.group.values import CELL, PERSON, first_sessions

HALF_WIDTH = 1.96
"""Standard errors from a change to the ends of its 95 % interval."""

CHANGE_COLUMNS: dict[str, dict[str, Any]] = {
    "first_session": {
        "Description": "The person's first session: pre and baseline first, then by numbers and "
        "names."
    },
    "session": {"Description": "A later session of the same person."},
    "first_value": {"Description": "Unmixed value of the first session."},
    "first_uncertainty": {"Description": "Its standard error."},
    "value": {"Description": "Unmixed value of the later session."},
    "uncertainty": {"Description": "Its standard error."},
    "change": {
        "Description": "Later minus first, in the unit of the metric; n/a if either is missing."
    },
    "change_uncertainty": {
        "Description": "Its standard error: root of the summed squares of those of both sessions. "
        "Placement of slices and of the person in the scanner is not in it."
    },
    "change_low": {"Description": "Lower end of its 95 % interval by that error."},
    "change_high": {"Description": "Upper end of its 95 % interval by that error."},
    "change_by_uncertainty": {
        "Description": "Change in units of its standard error.",
        "Units": "1",
    },
}


def tabulate_changes(values: pd.DataFrame) -> pd.DataFrame:
    """Compare the sessions of everybody who has several.

    Parameters
    ----------
    values : as :func:`scsnet_bids.group.values.tabulate_values` gives them

    Returns
    -------
    DataFrame with ``participant_id``, the columns of ``CELL`` and of ``CHANGE_COLUMNS``; a cell
    that only one of the two sessions has is listed, without a change
    """
    key = ["participant_id", *CELL]
    first = first_sessions(values)
    later = values.drop(first.index)
    names = {"session": "first_session", "value": "first_value", "uncertainty": "first_uncertainty"}
    starts = first[PERSON].drop_duplicates().rename(columns=names)
    sessions = starts.merge(later[PERSON].drop_duplicates(), on="participant_id")
    pairs = sessions.merge(values[key].drop_duplicates(), on="participant_id")
    pairs = pairs.merge(first.rename(columns=names), how="left", on=["first_session", *key])
    pairs = pairs.merge(later, how="left", on=["session", *key])
    pairs = pairs[pairs["value"].notna() | pairs["first_value"].notna()]
    change = pairs["value"] - pairs["first_value"]
    error = (pairs["uncertainty"] ** 2 + pairs["first_uncertainty"] ** 2) ** 0.5
    pairs = pairs.assign(
        change=change,
        change_uncertainty=error,
        change_low=change - HALF_WIDTH * error,
        change_high=change + HALF_WIDTH * error,
        change_by_uncertainty=change / error.where(error > 0),
    )
    return pairs[["participant_id", *CELL, *CHANGE_COLUMNS]].reset_index(drop=True)
