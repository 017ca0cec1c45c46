"""What was found in every slice of every volume, as a table, and back.

>>> weight_from_table(pd.DataFrame({"volume": [0, 0, 1, 1], "slice": [1, 0, 1, 0],
...                                 "weight": [0.2, 1.0, 0.5, 0.0]}))
array([[1. , 0.2],
       [0. , 0.5]])
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scsnet_bids.arrays import BoolArray, FloatArray

KINDS: dict[str, str] = {
    "kept": "as expected",
    "weak": "significantly less signal than expected; counts less",
    "lost": "a fifth of the expected signal or more is missing, there are no samples at all, or "
    "the slice's weighted volumes are mostly lost; does not count",
    "bright": "significantly more signal than expected; counts less, or not at all",
    "unjudged": "nothing to compare it with: no cord was found in the slice, the volume does not "
    "enter the tensor, or there are too few volumes; counts fully",
}

OUTLIER_COLUMNS: dict[str, dict[str, Any]] = {
    "volume": {"Description": "Volume of the series, from 0."},
    "slice": {"Description": "Slice, from 0 for the lowest (most caudal)."},
    "signal": {
        "Description": "Mean of the corrected series around the cord, brighter voxels weighing "
        "more; unit of the series.",
    },
    "expected": {
        "Description": "What the other volumes of the slice let expect of it, by a tensor for "
        "weighted volumes; n/a if nothing.",
    },
    "deviation": {
        "Description": "Logarithm of signal by expected, divided by the standard deviation that "
        "noise and the usual unrest of the series give it.",
        "Units": "1",
    },
    "weight": {
        "Description": "How much the slice of the volume counts: in the tensor, in the unmixed "
        "values and in the mean weighted image. Of weight 0 it is called an outlier.",
        "Units": "1",
    },
    "kind": {"Description": "What was found.", "Levels": KINDS},
}

FRACTION_COLUMN: dict[str, dict[str, Any]] = {
    "outlier_fraction": {
        "Description": "Share of the volume's slices that do not count, for their signal is lost "
        "or far too bright.",
        "Units": "1",
    },
}


def tabulate_slices(columns: dict[str, npt.NDArray[Any]]) -> pd.DataFrame:
    """Write (n, k) arrays as a table with one row per volume and slice.

    Parameters
    ----------
    columns : arrays by the names of ``OUTLIER_COLUMNS``, without volume and slice

    Returns
    -------
    DataFrame with the columns of ``OUTLIER_COLUMNS``
    """
    volume, place = np.indices(columns["weight"].shape).reshape(2, -1)
    flat = {name: values.reshape(-1) for name, values in columns.items()}
    return pd.DataFrame({"volume": volume, "slice": place, **flat})[list(OUTLIER_COLUMNS)]


def weight_from_table(table: pd.DataFrame) -> FloatArray:
    """Read how much every slice of every volume counts.

    Parameters
    ----------
    table : as :func:`tabulate_slices` writes it, in any order of rows

    Returns
    -------
    (n, k) float array in [0, 1]
    """
    return column_of_slices(table, "weight").astype(float)


def counted_slices(table: pd.DataFrame) -> BoolArray:
    """Tell which slices of which volumes are no outliers, (n, k), from such a table."""
    return np.asarray(weight_from_table(table) > 0)


def outlier_shares(table: pd.DataFrame) -> dict[str, float]:
    """Tell what part of the slices that could be judged are outliers.

    Parameters
    ----------
    table : as :func:`tabulate_slices` writes it

    Returns
    -------
    dict with ``lost_share``, of all volumes and slices, and ``lost_share_max``, of the volumes of
    the worst slice; nan where none could be judged
    """
    judged = table[table["kind"] != "unjudged"]
    is_outlier = judged["weight"] <= 0
    by_slice = is_outlier.groupby(judged["slice"]).mean()
    return {"lost_share": float(is_outlier.mean()), "lost_share_max": float(by_slice.max())}


def column_of_slices(table: pd.DataFrame, name: str) -> npt.NDArray[Any]:
    """Read a column of such a table as an (n, k) array."""
    return table.pivot(index="volume", columns="slice", values=name).to_numpy()


def add_outlier_fraction(confounds: pd.DataFrame, weight: FloatArray) -> pd.DataFrame:
    """Add the share of outliers to the table of volumes.

    Parameters
    ----------
    confounds : one row per volume
    weight : (n, k) float array

    Returns
    -------
    DataFrame with the further column of ``FRACTION_COLUMN``
    """
    return confounds.assign(outlier_fraction=(weight <= 0).mean(axis=1))
