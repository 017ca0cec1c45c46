"""Unmixed region values as columns of the region table.

A slice's eight regions are measured by ``signals``. Every other row, of several
regions, several slices or both, is the mean of those values by volume. What has no value is left
out of such a mean; where that is more than a little, the row says so or has no value either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from scsnet_bids.arrays import FloatArray, IntArray
from scsnet_bids.derivatives import join_flags
from scsnet_bids.regional import PLAUSIBLE, flag_excluded, variance_by_borders
from scsnet_bids.regions import REGION_GROUPS, REGIONS
from scsnet_bids.slice_marks import EXCLUDED, EXCLUDED_MEANS
from scsnet_bids.unmixing.noise import FLAGS, SOURCES, NoiseLevel
from scsnet_bids.unmixing.region_tensor import METRICS
from scsnet_bids.unmixing.signals import UnmixedValues

WHOLE, LEAST = 0.95, 0.5
"""Parts of the volume with a value: below the first a row is flagged, below the second empty."""
UNCERTAIN = 0.25

UNMIXED_FLAGS: dict[str, str] = {
    "no_cord": "no cord was found",
    "not_separable": "the shares do not tell the region's signal from its neighbours', or too "
    "few voxels lie inside the cord",
    "few_volumes": "the volumes left do not determine a tensor",
    "unexplained": "the cord is bright and dark where its regions do not explain it (setting "
    "largest_unexplained)",
    "partial": f"less than {WHOLE:.0%} of the volume has a value",
    "implausible": "the value lies outside what cord tissue can have",
    "uncertain": "the value is uncertain by more than a quarter, or nothing tells by how much",
    EXCLUDED: EXCLUDED_MEANS,
}

UNMIXED_COLUMNS: dict[str, dict[str, Any]] = {
    "unmixed": {
        "Description": "Value of the region without partial volume and noise floor: the signals "
        "of the regions are unmixed by their shares, then one tensor is fitted per region and "
        "slice; other rows are means by volume, of values that are plausible. Not to be compared "
        "with norms made from means of voxels.",
        "Units": "unit of the metric",
    },
    "unmixed_uncertainty": {
        "Description": "Standard error of it by noise, and by borders of the regions that lie "
        "elsewhere by their typical error, which is common to the slices.",
        "Units": "unit of the metric",
    },
    "unmixed_flag": {
        "Description": "Reasons for doubt in the unmixed value, joined by semicolons; n/a if "
        "there is none.",
        "Levels": UNMIXED_FLAGS,
    },
}


NOISE_COLUMNS: dict[str, dict[str, Any]] = {
    "noise_sigma": {
        "Description": "Standard deviation of the noise in each of the two channels of the "
        "complex image, unit of the signal.",
    },
    "noise_source": {"Description": "What the noise level was estimated from.", "Levels": SOURCES},
    "noise_flag": {
        "Description": "Reason to doubt the noise level; n/a if there is none.",
        "Levels": FLAGS,
    },
    "unexplained_max": {
        "Description": "Deviation of the cord's voxels from what the signals of its regions "
        "explain, in the mean of the weighted volumes: root mean square by mean, without the part "
        "of noise. Highest slice.",
        "Units": "1",
    },
    "outline_area_ratio": {
        "Description": "Area of the cord that explains the signals best, by the area that the "
        "network gave it; the regions have the former. Median of the slices.",
        "Units": "1",
    },
    "outline_area_ratio_min": {"Description": "The same, lowest slice.", "Units": "1"},
    "outline_area_ratio_max": {"Description": "The same, highest slice.", "Units": "1"},
    "outline_at_limit": {
        "Description": "Slices whose outline would have moved farther than it may.",
        "Units": "1",
    },
    "gray_area_ratio": {
        "Description": "Area of gray matter that explains the signals best, by the area that the "
        "network gave it. Median of the slices.",
        "Units": "1",
    },
}


def summarise_borders(borders: pd.DataFrame) -> pd.DataFrame:
    """Say in a row how far the borders of the slices were moved.

    Parameters
    ----------
    borders : one row per slice, with ``area_ratio``, ``gray_ratio`` and ``at_limit``

    Returns
    -------
    DataFrame of one row with the columns ``outline_...`` and ``gray_...`` of ``NOISE_COLUMNS``
    """
    ratio = borders["area_ratio"]
    row = {
        "outline_area_ratio": ratio.median(),
        "outline_area_ratio_min": ratio.min(),
        "outline_area_ratio_max": ratio.max(),
        "outline_at_limit": int(borders["at_limit"].sum()),
        "gray_area_ratio": borders["gray_ratio"].median(),
    }
    return pd.DataFrame([row])


def tabulate_noise(level: NoiseLevel) -> pd.DataFrame:
    """Write down the noise level of a series, in one row of columns ``noise_...``."""
    return pd.DataFrame([{f"noise_{name}": value for name, value in vars(level).items()}])


def noise_from_table(table: pd.DataFrame) -> NoiseLevel:
    """Read the noise level that :func:`tabulate_noise` wrote down."""
    row = table.iloc[0]
    flag = row["noise_flag"]
    known = None if pd.isna(flag) else str(flag)
    return NoiseLevel(float(row["noise_sigma"]), str(row["noise_source"]), known)


def tabulate_own_noise(own_noise: FloatArray) -> pd.DataFrame:
    """Write down what (k, 8) b=0 signals owe to their own noise, one row per slice."""
    table = pd.DataFrame(own_noise, columns=[region.abbreviation for region in REGIONS])
    return table.rename_axis("slice").reset_index()


def own_noise_from_table(table: pd.DataFrame) -> FloatArray:
    """Read what :func:`tabulate_own_noise` wrote down."""
    return table[[region.abbreviation for region in REGIONS]].to_numpy(float)


def tabulate_fit(unmixed: UnmixedValues) -> pd.DataFrame:
    """Write down how well the regions explain the cord, in one row of ``unexplained_max``."""
    known = unmixed.unexplained[np.isfinite(unmixed.unexplained)]
    return pd.DataFrame([{"unexplained_max": known.max(initial=0.0) if known.size else np.nan}])


def add_unmixed(table: pd.DataFrame, unmixed: UnmixedValues, change: FloatArray) -> pd.DataFrame:
    """Add the unmixed values to a region table.

    Parameters
    ----------
    table : region table of :func:`scsnet_bids.regional.measure_regions`; slices that it flags as
        excluded by a reader enter no other row
    unmixed : of the same slices
    change : (2 p, k, 8, 4) float array, what each of p borders in doubt would change the values by,
        moved one way and the other

    Returns
    -------
    DataFrame, ``table`` with the columns of ``UNMIXED_COLUMNS``
    """
    members = {(g.region, str(g.side)): np.array(g.labels) - 1 for g in REGION_GROUPS}
    names = table[["scope", "slice", "level", "region", "side", "metric"]]
    is_excluded = table["flag"].astype(object).fillna("").str.contains(EXCLUDED) & (
        names["scope"] == "slice"
    )
    excluded = names.loc[is_excluded, "slice"].unique().astype(int)
    level_of = names[names["scope"] == "slice"].drop_duplicates("slice").set_index("slice")["level"]
    slices = np.arange(len(unmixed.value))
    rows = []
    for scope, number, level, region, side, metric in names.itertuples(index=False):
        if scope == "slice":
            chosen = np.array([int(number)])
        else:
            chosen = slices if scope == "cord" else np.array(level_of.index[level_of == level], int)
            chosen = np.setdiff1d(chosen, excluded)
        rows.append(_combine(unmixed, change, chosen, members[region, side], metric))
    added = pd.DataFrame(rows, columns=list(UNMIXED_COLUMNS), index=table.index)
    flags = flag_excluded(added["unmixed_flag"], is_excluded)
    added["unmixed_flag"] = flags.where(flags != "")
    return pd.concat([table, added], axis=1)


def _combine(
    unmixed: UnmixedValues, change: FloatArray, slices: IntArray, regions: IntArray, metric: str
) -> tuple[float, float, str | None]:
    """Value, uncertainty and flag of some regions in some slices, means by volume."""
    place, number = np.ix_(slices, regions), METRICS.index(metric)
    value, volume = unmixed.value[place][..., number], unmixed.volume[place]
    covariance = unmixed.covariance[:, number][slices][:, regions][:, :, regions]
    kept = volume_that_counts(value, volume, metric)
    weight = kept / (kept.sum() or 1.0)
    counted = weight[:, :, None] * weight[:, None, :] > 0
    by_noise = np.einsum("kr,krs,ks->", weight, np.where(counted, covariance, 0), weight)
    moved = change[:, slices][:, :, regions, number]
    by_borders = variance_by_borders(np.einsum("pkr,kr->p", np.nan_to_num(moved), weight))
    deviation = float(np.sqrt(by_noise + by_borders))
    return combine_values(value, volume, deviation, metric, _reason(unmixed, slices, volume))


def volume_that_counts(value: FloatArray, volume: FloatArray, metric: str) -> FloatArray:
    """Take the volume of what enters a mean: what has a value, and of several no impossible ones.

    Where hardly a sample is left, or the regions lie beside the cord, a single slice can have ten
    times the diffusivity of water and would decide the mean.
    """
    lowest, highest = PLAUSIBLE[metric]
    counts = np.isfinite(value)
    if value.size > 1:
        counts &= (value >= lowest) & (value <= highest)
    return np.where(counts, volume, 0)


def combine_values(
    value: FloatArray, volume: FloatArray, deviation: float, metric: str, reason: str
) -> tuple[float, float, str | None]:
    """Average unmixed values by volume, unless too little of the volume has one.

    Parameters
    ----------
    value : (...) float array, nan where there is none
    volume : (...) float array
    deviation : standard error of the mean
    metric : whose limits hold
    reason : flag of a mean that is not made

    Returns
    -------
    mean, its standard error and its flags (None without any), as ``UNMIXED_COLUMNS`` describes
    """
    kept = volume_that_counts(value, volume, metric)
    coverage = kept.sum() / volume.sum() if volume.any() else 0.0
    if coverage < LEAST:
        impossible = np.isfinite(value) & (volume > kept)
        return float("nan"), float("nan"), "implausible" if impossible.any() else reason
    mean = float((kept / kept.sum() * np.nan_to_num(value)).sum())
    lowest, highest = PLAUSIBLE[metric]
    raised = {
        "partial": coverage < WHOLE,
        "implausible": not lowest <= mean <= highest,
        "uncertain": not deviation <= UNCERTAIN * abs(mean),
    }
    return mean, deviation, join_flags(raised)


def _reason(unmixed: UnmixedValues, slices: IntArray, volume: FloatArray) -> str:
    """Say why regions with a volume in some slices have no value."""
    if not volume.size:
        return EXCLUDED
    if not volume.any():
        return "no_cord"
    if not unmixed.determined[slices].any():
        return "few_volumes"
    return "unexplained" if unmixed.rejected[slices].any() else "not_separable"
