"""Region values: what the maps say about every region, per slice, per level and in the whole cord.

One long table, one row for each scope, region group and metric. Plain and core means are what the
literature reports, and partial volume biases them: cerebrospinal fluid lowers the FA of white
matter, white matter raises that of gray matter. A value that cannot be trusted is nan, or carries
a flag that says why; nothing is ever 0 because it is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.regions import N_CLASSES, REGION_GROUPS, SHARE_TIE, Side
from scsnet_bids.settings import RegionalSettings
from scsnet_bids.slice_marks import EXCLUDED, EXCLUDED_MEANS

FEW_VOXELS = 4
FULL_COVERAGE = 0.95

PLAUSIBLE: dict[str, tuple[float, float]] = {
    "FA": (0.05, 0.98),
    "MD": (0.2e-3, 2.2e-3),
    "AD": (0.4e-3, 3.2e-3),
    "RD": (0.01e-3, 2.2e-3),
}
"""Means outside these limits are not cord tissue: free water at body temperature has 3e-3 mm2/s."""

FLAGS: dict[str, str] = {
    "no_cord": "no cord was found in the slice",
    "empty": "no voxel is filled by the region up to the limit",
    "few_voxels": f"fewer than {FEW_VOXELS} voxels enter the mean",
    "partial_coverage": f"less than {FULL_COVERAGE:.0%} of the region has a value in the map",
    "implausible": "the mean lies outside what cord tissue can have",
    "low_confidence": "the confidence is below the limit (setting low_confidence)",
    EXCLUDED: EXCLUDED_MEANS,
}

REGION_TABLE_COLUMNS: dict[str, dict[str, Any]] = {
    "scope": {
        "Description": "What a row speaks of.",
        "Levels": {
            "slice": "one slice",
            "level": "all slices of one vertebral level",
            "cord": "all slices in which a cord was found",
        },
    },
    "slice": {"Description": "Slice, from 0 for the lowest (most caudal); n/a for other scopes."},
    "level": {"Description": "Vertebral level; n/a if unknown, and for the scope cord."},
    "region": {
        "Description": "Part of the cord.",
        "Levels": {
            "lateral_column": "white matter, lateral column",
            "dorsal_column": "white matter, dorsal column",
            "ventral_column": "white matter, ventral column",
            "gray_matter": "gray matter: horns, intermediate zone and commissure",
            "white_matter": "the three columns together",
            "cord": "white and gray matter together",
        },
    },
    "side": {
        "Description": "Side of the patient.",
        "Levels": {str(side): f"{side} side" for side in (Side.LEFT, Side.RIGHT)}
        | {str(Side.BOTH): "both sides together"},
    },
    "metric": {
        "Description": "Map that was measured. FA has no unit, the others are in mm2/s.",
        "Levels": {
            "FA": "fractional anisotropy",
            "MD": "mean diffusivity",
            "AD": "axial diffusivity",
            "RD": "radial diffusivity",
        },
    },
    "n_voxels": {"Description": "Voxels inside the region that have a value: those of the mean."},
    "volume_mm3": {
        "Description": "Sum of the region's shares times the voxel volume; n/a without a cord.",
        "Units": "mm3",
    },
    "mean": {
        "Description": "Mean over the voxels that the region fills at least half "
        "(setting inside_share). Biased by partial volume.",
        "Units": "unit of the metric",
    },
    "std": {
        "Description": "Sample standard deviation over the same voxels.",
        "Units": "unit of the metric",
    },
    "median": {"Description": "Median over the same voxels.", "Units": "unit of the metric"},
    "p25": {"Description": "25th percentile over the same voxels.", "Units": "unit of the metric"},
    "p75": {"Description": "75th percentile over the same voxels.", "Units": "unit of the metric"},
    "weighted_mean": {
        "Description": "Mean over all voxels with a value, each weighted by the region's share. "
        "Holds more partial volume than the mean.",
        "Units": "unit of the metric",
    },
    "core_mean": {
        "Description": "Mean over the voxels that the region fills almost wholly (setting "
        "core_share). Holds less partial volume than the mean; n/a if there is no such voxel.",
        "Units": "unit of the metric",
    },
    "mean_uncertainty": {
        "Description": "Standard error of the mean by borders of the region that lie elsewhere by "
        "their typical error. The noise of the map and partial volume are not in it.",
        "Units": "unit of the metric",
    },
    "confidence": {
        "Description": "Confidence that the network states, from 0 to 1: the Dice overlap with "
        "the true cord that it expects, averaged over the slices by the region's share. On "
        "synthetic slices it holds, or is a little too low; on real ones it has not been tested. "
        "Of a mask that was given: its overlap with the cord that the network found.",
        "Units": "1",
    },
    "coverage": {
        "Description": "Part of the region's volume in which the map has a value.",
        "Units": "1",
    },
    "flag": {
        "Description": "Reasons for doubt, joined by semicolons; n/a if there is none.",
        "Levels": FLAGS,
    },
}

MEMBERSHIP: FloatArray = np.array(
    [[float(label in group.labels) for group in REGION_GROUPS] for label in range(N_CLASSES)]
)
"""(9, 18): which labels each region group sums up."""


class SliceNotes(NamedTuple):
    """What is known of the slices from elsewhere.

    Attributes
    ----------
    level : (k,) str array, vertebral level, empty if unknown; None leaves levels out
    excluded : slices that a reader failed
    """

    level: npt.NDArray[np.str_] | None = None
    excluded: Collection[int] = ()


NO_NOTES = SliceNotes()


@dataclass(frozen=True, eq=False)
class _Voxels:
    """The voxels near a cord, in one list.

    Attributes
    ----------
    share : (m, 18) share of each region group
    values : (m, 4) of each map
    slice_index : (m,)
    alternatives : (2 p, m, 18) shares with each of p borders moved both ways
    """

    share: FloatArray
    values: FloatArray
    slice_index: npt.NDArray[np.intp]
    alternatives: FloatArray

    def chosen(self, rows: BoolArray) -> _Voxels:
        """Keep some of the voxels."""
        moved = self.alternatives[:, rows]
        return _Voxels(self.share[rows], self.values[rows], self.slice_index[rows], moved)


def measure_regions(
    share: FloatArray,
    maps: Mapping[str, FloatArray],
    spacing_mm: tuple[float, float, float],
    confidence: FloatArray | None,
    settings: RegionalSettings,
    alternatives: Sequence[FloatArray] = (),
    notes: SliceNotes = NO_NOTES,
) -> pd.DataFrame:
    """Measure the maps in every region group, per slice, per level and in the whole cord.

    The whole cord and a level pool the voxels of their slices that hold a cord, so that each slice
    counts by its volume. Excluded slices keep their own rows, flagged, and enter no other.

    Parameters
    ----------
    share : (i, j, k, 9) float array in [0, 1], part of each voxel that each region fills,
        background first
    maps : the (i, j, k) float arrays FA (unit 1), MD, AD and RD (mm2/s); where not measured
        a map is nan, or all of them are 0 (outside the tensor's mask)
    spacing_mm : voxel size
    confidence : (k,) float array in [0, 1], stated by the network; None if unknown
    settings : limits
    alternatives : shares, as ``share``, with each border in doubt moved one way and the other
    notes : what is known of the slices

    Returns
    -------
    DataFrame with the columns of ``REGION_TABLE_COLUMNS``; missing values and flags are nan
    """
    n_slices = share.shape[2]
    values = np.stack([maps[metric] for metric in PLAUSIBLE], axis=-1)
    values = np.where(values.any(axis=-1, keepdims=True), values, np.nan)
    cord = np.asarray(share[..., 1:].sum(axis=-1))
    found = cord.max(axis=(0, 1)) >= settings.inside_share - SHARE_TIE
    seen = np.any([cord > 0, *(other[..., 0] < 1 for other in alternatives)], axis=0)
    place = np.nonzero(seen & found)
    groups, *others = (s[place].astype(float) @ MEMBERSHIP for s in (share, *alternatives))
    moved = np.array(others).reshape(len(alternatives), *groups.shape)
    voxels = _Voxels(groups, values[place], place[2], moved)
    stated = np.full(n_slices, np.nan) if confidence is None else np.asarray(confidence, float)
    parts = []
    for scope, number, name, slices in _scopes(n_slices, notes.level):
        kept = slices if scope == "slice" else np.setdiff1d(slices, list(notes.excluded))
        rows = _measure(voxels.chosen(np.isin(voxels.slice_index, kept)), stated, settings)
        if not len(kept):
            rows["flag"] = EXCLUDED
        parts.append(rows.assign(scope=scope, slice=number, level=name))
    table = pd.concat(parts, ignore_index=True)
    table["volume_mm3"] *= float(np.prod(spacing_mm))
    table["slice"] = table["slice"].astype("Int64")
    table["flag"] = flag_excluded(table["flag"], table["slice"].isin(list(notes.excluded)))
    for text in ("level", "flag"):
        table[text] = table[text].where(table[text] != "")
    return table[list(REGION_TABLE_COLUMNS)]


def variance_by_borders(change: FloatArray) -> FloatArray:
    """Add up what borders in doubt change: (2 p, ...), each of p moved both ways, to (...)."""
    return np.asarray((change**2).sum(axis=0) / 2)


def flag_excluded(flags: pd.Series[str], rows: pd.Series[bool]) -> pd.Series[str]:
    """Flag rows of slices that a reader failed; ``flags`` may be empty or missing elsewhere."""
    known = flags.astype(object).fillna("")
    return known.where(~rows, (known + ";" + EXCLUDED).str.removeprefix(";"))


def _scopes(
    n_slices: int, level: npt.NDArray[np.str_] | None
) -> Iterator[tuple[str, float, str, npt.NDArray[np.intp]]]:
    """Yield scope, slice or nan, level or nothing, and the slices that belong to them."""
    names = np.full(n_slices, "") if level is None else np.asarray(level)
    for k in range(n_slices):
        yield "slice", float(k), str(names[k]), np.array([k])
    for name in dict.fromkeys(names[names != ""]):
        yield "level", np.nan, str(name), np.flatnonzero(names == name)
    yield "cord", np.nan, "", np.arange(n_slices)


def _measure(voxels: _Voxels, stated: FloatArray, settings: RegionalSettings) -> pd.DataFrame:
    """Measure one scope: 18 x 4 rows, volumes still in voxels."""
    inside = voxels.share >= settings.inside_share - SHARE_TIE  # (m, 18)
    core = voxels.share >= settings.core_share - SHARE_TIE
    present = np.isfinite(voxels.values)  # (m, 4)
    total = voxels.share.sum(axis=0)[:, None]  # (18, 1)
    shape = (voxels.share.shape[1], voxels.values.shape[1])
    n_voxels = inside.T.astype(int) @ present.astype(int)  # (18, 4)
    filled = n_voxels > 0
    columns = _spreads(voxels.values, inside)
    columns["weighted_mean"] = np.where(filled, _weighted(voxels.values, voxels.share), np.nan)
    columns["core_mean"] = np.where(filled, _weighted(voxels.values, core), np.nan)
    columns["mean_uncertainty"] = _by_borders(voxels, columns["mean"], settings)
    columns["n_voxels"] = n_voxels
    columns["volume_mm3"] = np.broadcast_to(np.where(total > 0, total, np.nan), shape)
    columns["coverage"] = _ratio(voxels.share.T @ present.astype(float), total)
    sure = _ratio(voxels.share.T @ stated[voxels.slice_index], total[:, 0])
    columns["confidence"] = np.broadcast_to(sure[:, None], shape)
    table = _row_names().assign(**{name: value.ravel() for name, value in columns.items()})
    table["flag"] = _flags(table, len(voxels.share) > 0, settings)
    return table


def _row_names() -> pd.DataFrame:
    """Region, side and metric of the 18 x 4 rows of a scope."""
    rows = [(g.region, str(g.side), metric) for g in REGION_GROUPS for metric in PLAUSIBLE]
    return pd.DataFrame(rows, columns=["region", "side", "metric"])


def _spreads(values: FloatArray, inside: BoolArray) -> dict[str, FloatArray]:
    """(18, 4) mean, std, p25, median and p75 over the voxels inside each group."""
    spreads = [[_spread(column[rows]) for column in values.T] for rows in inside.T]
    names = ("mean", "std", "p25", "median", "p75")
    return dict(zip(names, np.moveaxis(np.array(spreads), -1, 0), strict=True))


def _spread(values: FloatArray) -> FloatArray:
    """(5,) mean, std, p25, median and p75 of the finite ones of some values."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.full(5, np.nan)
    std = finite.std(ddof=1) if finite.size > 1 else np.nan
    return np.array([finite.mean(), std, *np.percentile(finite, [25, 50, 75])])


def _weighted(values: FloatArray, weights: npt.NDArray[Any]) -> FloatArray:
    """(18, 4) means of (m, 4) values with (m, 18) weights, leaving out what is not finite."""
    present = np.isfinite(values)
    return _ratio(weights.T @ np.where(present, values, 0), weights.T @ present.astype(float))


def _by_borders(voxels: _Voxels, mean: FloatArray, settings: RegionalSettings) -> FloatArray:
    """(18, 4) how far the means move with the borders; nan where a mean vanishes, or unknown."""
    if not len(voxels.alternatives):
        return np.full_like(mean, np.nan)
    inside = voxels.alternatives >= settings.inside_share - SHARE_TIE  # (2 p, m, 18)
    moved = np.array([_weighted(voxels.values, rows) for rows in inside])
    return np.sqrt(variance_by_borders(moved - mean))


def _ratio(numerator: FloatArray, denominator: npt.NDArray[Any]) -> FloatArray:
    """Divide; nan where the denominator is not positive."""
    positive = np.where(denominator > 0, denominator, np.nan)
    return np.asarray(numerator / positive)


def _flags(table: pd.DataFrame, cord_found: bool, settings: RegionalSettings) -> list[str]:
    """Name the reasons for doubt of every row, joined; nothing where there is none."""
    if not cord_found:
        return ["no_cord"] * len(table)
    lowest, highest = (table["metric"].map({m: p[i] for m, p in PLAUSIBLE.items()}) for i in (0, 1))
    empty = table["n_voxels"] == 0
    raised = pd.DataFrame(
        {
            "empty": empty,
            "few_voxels": ~empty & (table["n_voxels"] < FEW_VOXELS),
            "partial_coverage": table["coverage"] < FULL_COVERAGE,
            "implausible": (table["mean"] < lowest) | (table["mean"] > highest),
            "low_confidence": table["confidence"] < settings.low_confidence,
        }
    )
    names = np.array(raised.columns)
    return [";".join(names[row]) for row in raised.to_numpy()]
