"""The most compressed slice of a cord: which it is, how far it stands out, and what lies there.

The ratio of the cord's depth to its width changes smoothly along a healthy neck. How far a slice
stands out is measured from a straight line through the ratios of all slices (Theil and Sen's, which
up to a quarter of compressed slices do not bend), in robust standard deviations of the slices about
it, and never less than the error of a single slice. Clinicians compare the values there with those
of the same cord at C2-C3, above the levels that spondylosis compresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scsnet_bids.cord_shape import DOUBTFUL_SHAPE
from scsnet_bids.derivatives import select_rows
from scsnet_bids.slice_marks import EXCLUDED

FEWEST_SLICES = 5
"""A straight line and a spread cannot be told from fewer."""
SLICE_ERROR = 0.05
"""Relative error of a single slice's compression ratio; measured on segmented healthy phantoms."""
STANDS_OUT = -4.0
"""Robust deviations from which on a slice stands out; healthy phantoms reach -3.1."""
REFERENCE = ("C2", "C3", "C2-C3", "C2/C3")
METRICS = ("FA", "MD")
DOUBTFUL = f"{DOUBTFUL_SHAPE}|{EXCLUDED}"


def _value_columns() -> dict[str, dict[str, Any]]:
    """Describe the values at the compressed slice and at C2-C3."""
    columns: dict[str, dict[str, Any]] = {}
    for metric, unit in zip(METRICS, ("1", "mm2/s"), strict=True):
        what = f"Unmixed {metric} of white matter, both sides"
        for name, text, of_unit in (
            (f"compressed_{metric.lower()}", f"{what}, in the most compressed slice.", unit),
            (f"c2c3_{metric.lower()}", f"{what}, at C2 and C3; n/a without their levels.", unit),
            (
                f"compressed_{metric.lower()}_ratio",
                f"{what}: most compressed slice by C2-C3; n/a if it lies there itself.",
                "1",
            ),
        ):
            columns[name] = {"Description": text, "Units": of_unit}
            columns[f"{name}_uncertainty"] = {
                "Description": f"Standard error of {name}, its parts taken as independent.",
                "Units": of_unit,
            }
    return columns


_OWN_COLUMNS: dict[str, dict[str, Any]] = {
    "compressed_slice": {
        "Description": "Slice with the smallest compression ratio; slices that are cut off, "
        "implausible or excluded by a reader do not count. A small ratio alone is no finding."
    },
    "compressed_level": {"Description": "Its vertebral level; n/a if unknown."},
    "compressed_compression_ratio": {"Description": "Its compression ratio.", "Units": "1"},
    "compressed_deviation": {
        "Description": "How far its compression ratio lies from a straight line through those of "
        "all slices, in robust standard deviations of their logarithms, at least "
        f"{SLICE_ERROR:.0%} each; n/a with fewer than {FEWEST_SLICES} slices.",
        "Units": "1",
    },
    "compressed_stands_out": {
        "Description": f"1 if compressed_deviation is {STANDS_OUT:g} or less, else 0.",
        "Levels": {"0": "as smooth as a healthy cord", "1": "flatter than its neighbours"},
    },
}
COMPRESSION_COLUMNS: dict[str, dict[str, Any]] = _OWN_COLUMNS | _value_columns()


@dataclass(frozen=True)
class Compression:
    """The most compressed slice.

    Attributes
    ----------
    slice : its number
    level : vertebral level, empty if unknown
    ratio : depth by width of the cord
    deviation : from the other slices, robust standard deviations; nan with too few slices
    """

    slice: int
    level: str
    ratio: float
    deviation: float


def find_most_compressed(shape: pd.DataFrame) -> Compression | None:
    """Find the slice in which the cord is flattest.

    Parameters
    ----------
    shape : shape table

    Returns
    -------
    Compression; None if no slice has a plausible cord
    """
    doubtful = shape["flag"].astype(str).str.contains(DOUBTFUL)
    rows = shape[shape["compression_ratio"].notna() & ~doubtful]
    if rows.empty:
        return None
    place = int(rows["compression_ratio"].to_numpy(float).argmin())
    row = rows.iloc[place]
    return Compression(
        slice=int(row["slice"]),
        level="" if pd.isna(row["level"]) else str(row["level"]),
        ratio=float(row["compression_ratio"]),
        deviation=_deviation(rows, place),
    )


def tabulate_compression(shape: pd.DataFrame, regions: pd.DataFrame) -> pd.DataFrame:
    """Say in a row where the cord is flattest and what the tissue is like there.

    Parameters
    ----------
    shape : shape table
    regions : region table with unmixed values

    Returns
    -------
    DataFrame with one row and the columns of ``COMPRESSION_COLUMNS``
    """
    found = find_most_compressed(shape)
    row: dict[str, Any] = dict.fromkeys(COMPRESSION_COLUMNS, np.nan)
    if found is not None:
        known = np.isfinite(found.deviation)
        row |= {
            "compressed_slice": found.slice,
            "compressed_level": found.level or None,
            "compressed_compression_ratio": found.ratio,
            "compressed_deviation": found.deviation,
            "compressed_stands_out": int(found.deviation <= STANDS_OUT) if known else None,
        }
        for metric in METRICS:
            row |= _values(found, regions, metric)
    return pd.DataFrame([row])[list(COMPRESSION_COLUMNS)]


def _deviation(rows: pd.DataFrame, place: int) -> float:
    """Distance of a slice from the line through all, in robust standard deviations."""
    from scipy.stats import median_abs_deviation, theilslopes

    if len(rows) < FEWEST_SLICES:
        return float("nan")
    along, log_ratio = rows["slice"].to_numpy(float), np.log(rows["compression_ratio"].to_numpy())
    slope, intercept, *_ = theilslopes(log_ratio, along)
    rest = log_ratio - (intercept + slope * along)
    spread = max(float(median_abs_deviation(rest, scale="normal")), SLICE_ERROR)
    return float(rest[place] / spread)


def _values(found: Compression, regions: pd.DataFrame, metric: str) -> dict[str, float]:
    """Values of a metric in the compressed slice and at C2-C3, their ratio, and their errors."""
    rows = select_rows(regions, region="white_matter", side="both", metric=metric)
    is_slice, is_level = rows["scope"] == "slice", rows["scope"] == "level"
    here = _mean(rows[is_slice & (rows["slice"] == found.slice)])
    above = _mean(rows[is_level & rows["level"].isin(REFERENCE)])
    comparable = found.level not in REFERENCE and above[0] > 0
    ratio = here[0] / above[0] if comparable else np.nan
    error = np.hypot(here[1], ratio * above[1]) / above[0] if comparable else np.nan
    name = metric.lower()
    names = (f"compressed_{name}", f"c2c3_{name}", f"compressed_{name}_ratio")
    pairs = zip(names, (here, above, (ratio, error)), strict=True)
    return {
        key: value
        for name, (mean, error) in pairs
        for key, value in ((name, mean), (f"{name}_uncertainty", error))
    }


def _mean(rows: pd.DataFrame) -> tuple[float, float]:
    """Mean of some rows' unmixed values by volume, and its error; nan without any."""
    known = rows[rows["unmixed"].notna()]
    if known.empty:
        return float("nan"), float("nan")
    weight = known["volume_mm3"].to_numpy(float) / known["volume_mm3"].sum()
    error = np.linalg.norm(weight * known["unmixed_uncertainty"].to_numpy(float))
    return float(weight @ known["unmixed"].to_numpy(float)), float(error)
