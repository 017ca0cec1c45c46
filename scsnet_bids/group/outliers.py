"""Runs that lie far from all others in some measure, by median and median deviation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import median_abs_deviation

from scsnet_bids.arrays import FloatArray

FEWEST = 8
LIMIT, WIDER = 3.5, 8.5
"""Of a robust z, after Iglewicz and Hoaglin: a large normal sample exceeds 3.5 once in 2000 values.
In a small one the deviation itself is uncertain: of n, exp(8.5 / n) times as much is exceeded as
rarely, as simulation shows for 8 and more."""
NO_MEASURES = frozenset({"compressed_slice", "compressed_stands_out"})

OUTLIER_COLUMNS: dict[str, dict[str, Any]] = {
    "measure": {
        "Description": "Column of the quality table, or metric, side and region of the whole cord "
        "(unmixed value)."
    },
    "value": {"Description": "Value of the run, in the unit of the measure."},
    "median": {"Description": "Median of all runs, in the unit of the measure."},
    "robust_z": {
        "Description": "Distance from the median in median absolute deviations times 1.4826, so "
        f"that it is a z-score in a large normal sample. Measures of fewer than {FEWEST} runs, or "
        "equal in most, have none.",
        "Units": "1",
    },
    "limit": {
        "Description": "Runs are listed from this size of robust_z on, which one in 2000 values of "
        f"a normal sample of as many runs exceeds: {LIMIT:g} in large ones.",
        "Units": "1",
    },
}


def robust_z(values: FloatArray) -> FloatArray:
    """Measure how far values lie from the others.

    Parameters
    ----------
    values : (n,) or (n, m) float array, measures in columns; nan where missing

    Returns
    -------
    float array of the same shape; nan where it cannot be told

    >>> robust_z(np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 100])).round(1).tolist()
    [-1.3, -1.0, -0.7, -0.3, 0.0, 0.3, 0.7, 1.0, 32.0]
    """
    known = np.isfinite(values)
    filled = np.where(known.any(axis=0), values, 0.0)
    middle = np.nanmedian(filled, axis=0)
    spread = median_abs_deviation(filled - middle, axis=0, scale="normal", nan_policy="omit")
    sound = (spread > 0) & (known.sum(axis=0) >= FEWEST)
    return np.asarray((values - middle) / np.where(sound, spread, np.nan))


def limit_of(n: FloatArray) -> FloatArray:
    """Tell which robust z one in 2000 values of a normal sample of n exceeds.

    >>> limit_of(np.array([10, 30, 1000])).round(1).tolist()
    [8.2, 4.6, 3.5]
    """
    return np.asarray(LIMIT * np.exp(WIDER / n))


def find_outliers(quality: pd.DataFrame, scalarstats: pd.DataFrame) -> pd.DataFrame:
    """List the runs that are outliers in a figure of quality or in a value of the whole cord.

    Parameters
    ----------
    quality : quality rows of all runs
    scalarstats : region tables of all runs, long form

    Returns
    -------
    DataFrame with ``participant_id``, ``session``, ``run`` and the columns of
    ``OUTLIER_COLUMNS``, the farthest first
    """
    runs = quality[["participant_id", "session", "run"]].drop_duplicates("run")
    numbers = quality.set_index("run").select_dtypes("number")
    measures = numbers.drop(columns=[c for c in numbers if c in NO_MEASURES])
    cord = scalarstats[scalarstats["scope"] == "cord"]
    name = cord["metric"] + " " + cord["side"] + " " + cord["region"].str.replace("_", " ")
    cells = cord.assign(measure=name).drop_duplicates(["run", "measure"])
    measures = measures.join(cells.pivot(index="run", columns="measure", values="unmixed"))
    values = measures.to_numpy(float)
    distance = robust_z(values) if len(values) else values
    limit = limit_of(np.maximum(np.isfinite(values).sum(axis=0), 1))
    row, column = np.nonzero(np.abs(distance) >= limit)
    found = pd.DataFrame(
        {
            "run": measures.index[row],
            "measure": measures.columns[column],
            "value": values[row, column],
            "median": measures.median().to_numpy(float)[column],
            "robust_z": distance[row, column],
            "limit": limit[column],
        }
    )
    found = runs.merge(found, on="run")
    order = found["robust_z"].abs().sort_values(ascending=False, kind="stable").index
    return found.loc[order].reset_index(drop=True)
