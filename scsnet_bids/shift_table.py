"""Slice-wise displacements as tables, and back.

A displacement table says, for every slice, what must be added to the position of a point in the
first image to get its position in the second. Slices count from the lowest.

>>> table = tabulate_shifts(np.array([[0.5, -0.25], [0.0, 0.0]]))
>>> table.columns.tolist()
['slice', 'left_mm', 'posterior_mm']
>>> shifts_from_table(table)
array([[ 0.5 , -0.25],
       [ 0.  ,  0.  ]])
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from scsnet_bids.arrays import BoolArray, FloatArray

SHIFT_AXES = ["left_mm", "posterior_mm"]

SHIFT_COLUMNS: dict[str, dict[str, Any]] = {
    "volume": {"Description": "Volume of the series, from 0."},
    "slice": {"Description": "Slice, from 0 for the lowest (most caudal)."},
    "left_mm": {
        "Description": "Displacement along the image axis nearest to the patient's left: what "
        "must be added to the place of a point in the image after from- in the name, to get its "
        "place in the image after to-.",
        "Units": "mm",
    },
    "posterior_mm": {
        "Description": "The same along the image axis nearest to the patient's back.",
        "Units": "mm",
    },
    "trusted": {
        "Description": (
            "1 if the slice itself determined the displacement, 0 if it was borrowed from its "
            "neighbours because the slice shows too little of the cord; n/a where none was "
            "estimated."
        ),
        "Levels": {"0": "borrowed", "1": "measured"},
    },
}


def tabulate_shifts(shift_mm: FloatArray, trusted: BoolArray | None = None) -> pd.DataFrame:
    """Write displacements as a table with one row per (volume and) slice.

    Parameters
    ----------
    shift_mm : (k, 2) or (n, k, 2) float array, (left, posterior) displacement in mm; or position,
        as that of the cord's centre
    trusted : (k,) or (n, k) bool array, whether the slice itself determined its displacement

    Returns
    -------
    DataFrame with the columns (volume), slice, left_mm, posterior_mm, (trusted)
    """
    index = np.indices(shift_mm.shape[:-1]).reshape(shift_mm.ndim - 1, -1)
    names = ["volume", "slice"][-len(index) :]
    table = pd.DataFrame(dict(zip(names, index, strict=True)))
    table[SHIFT_AXES] = shift_mm.reshape(-1, 2)
    if trusted is not None:
        table["trusted"] = trusted.reshape(-1).astype(int)
    return table


def shifts_from_table(table: pd.DataFrame) -> FloatArray:
    """Read displacements back from a table with one row per slice, or per volume and slice.

    Parameters
    ----------
    table : as :func:`tabulate_shifts` writes it, in any order of rows

    Returns
    -------
    (k, 2) or (n, k, 2) float array in mm
    """
    names = [name for name in ("volume", "slice") if name in table]
    ordered = table.sort_values(names)
    shape = [ordered[name].nunique() for name in names]
    return ordered[SHIFT_AXES].to_numpy(float).reshape(*shape, 2)
