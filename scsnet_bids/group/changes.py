"""Sessions of one person side by side: each later session compared with the first."""

from __future__ import annotations

from typing import Any

import pandas as pd

from scsnet_bids.group.values import CELL, first_sessions

CHANGE_COLUMNS: dict[str, dict[str, Any]] = {
    "first_session": {"Description": "The person's first session, in the order of the names."},
    "session": {"Description": "A later session of the same person."},
    "first_value": {"Description": "Unmixed value of the first session."},
    "value": {"Description": "Unmixed value of the later session."},
    "change": {"Description": "Later minus first, in the unit of the metric."},
    "change_uncertainty": {
        "Description": "Its standard error: root of the summed squares of those of both sessions. "
        "Placement of slices and of the person in the scanner is not in it."
    },
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
    DataFrame with ``participant_id``, the columns of ``CELL`` and of ``CHANGE_COLUMNS``
    """
    first = first_sessions(values)
    later = values.drop(first.index)
    names = {"session": "first_session", "value": "first_value", "uncertainty": "first_error"}
    pairs = later.merge(first.rename(columns=names), on=["participant_id", *CELL])
    change = pairs["value"] - pairs["first_value"]
    error = (pairs["uncertainty"] ** 2 + pairs["first_error"] ** 2) ** 0.5
    pairs = pairs.assign(
        change=change,
        change_uncertainty=error,
        change_by_uncertainty=change / error.where(error > 0),
    )
    return pairs[["participant_id", *CELL, *CHANGE_COLUMNS]]
