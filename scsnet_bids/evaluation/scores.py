"""Figures that compare a result with the truth. Arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.regions import REGIONS, Region, Side

LabelArray = npt.NDArray[np.integer]

FAR_MM = 3.5
"""Cord farther than this from the reference is an island, not an outline drawn otherwise."""


class Score(NamedTuple):
    """One figure: what was scored and, where it is about one region, which."""

    group: str
    score: str
    value: float
    region: str = "cord"
    side: str = str(Side.BOTH)


@dataclass(frozen=True)
class RegionScore:
    """How well one region was found.

    Attributes
    ----------
    region : which one
    dice : of its voxels in the whole run
    precision : share of the predicted voxels that are true
    recall : share of the true voxels that are predicted
    hausdorff95_mm : in-plane distance that 95 % of either outline keep to the other, averaged over
        the slices where both have voxels
    error_of_slices : |mean in the predicted region - mean in the true one| / the latter, averaged
        over the slices where both have voxels
    error_pooled : the same of the means over the whole run
    slices_missed : share of the slices with the true region in which none was predicted
    """

    region: Region
    dice: float
    precision: float
    recall: float
    hausdorff95_mm: float
    error_of_slices: float
    error_pooled: float
    slices_missed: float


def dice(first: BoolArray, second: BoolArray) -> float:
    """Dice overlap of two masks of one shape; nan if both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else float("nan")


def dice_of_slices(first: BoolArray, second: BoolArray) -> FloatArray:
    """(k,) Dice overlap of each slice of two (i, j, k) masks; nan where both are empty."""
    return np.array([dice(first[..., k], second[..., k]) for k in range(first.shape[2])])


def hausdorff95_of_slices(
    first: BoolArray, second: BoolArray, spacing_mm: tuple[float, float, float]
) -> FloatArray:
    """Measure how far two outlines lie apart in each slice, leaving out the farthest 5 %.

    Parameters
    ----------
    first, second : (i, j, k) bool arrays
    spacing_mm : voxel size

    Returns
    -------
    (k,) float array, mm: the 95th percentile of the distances from the outline of either mask to
    that of the other, the larger of the two; nan where a mask is empty
    """
    distance_mm = np.full(first.shape[2], np.nan)
    both = first.any(axis=(0, 1)) & second.any(axis=(0, 1))
    for k in np.flatnonzero(both):
        one, other = (_outline(mask[..., k]) for mask in (first, second))
        distance_mm[k] = max(_far(one, other, spacing_mm[:2]), _far(other, one, spacing_mm[:2]))
    return distance_mm


def island_area_mm2(
    predicted: BoolArray, reference: BoolArray, spacing_mm: tuple[float, float, float]
) -> float:
    """Area of predicted cord that lies far from the reference, in the slices that have one.

    Parameters
    ----------
    predicted, reference : (i, j, k) bool arrays
    spacing_mm : voxel size

    Returns
    -------
    float, mm2 summed over slices
    """
    far = 0
    for k in np.flatnonzero(reference.any(axis=(0, 1))):
        distance_mm = ndimage.distance_transform_edt(~reference[..., k], sampling=spacing_mm[:2])
        far += int((predicted[..., k] & (distance_mm > FAR_MM)).sum())
    return far * spacing_mm[0] * spacing_mm[1]


def score_cord(
    group: str, cord: BoolArray, truth: BoolArray, spacing_mm: tuple[float, float, float]
) -> Iterator[Score]:
    """Compare cords in the slices where the truth has one.

    Parameters
    ----------
    group : of the scores
    cord, truth : (i, j, k) bool arrays
    spacing_mm : voxel size

    Yields
    ------
    Score: Dice of slices, mean and lowest; ratio of areas; slices without a cord; islands
    """
    drawn = truth.any(axis=(0, 1))
    cord, truth = cord[..., drawn], truth[..., drawn]
    overlap = dice_of_slices(cord, truth)
    yield Score(group, "cord Dice", float(overlap.mean()))
    yield Score(group, "lowest slice", float(overlap.min()))
    yield Score(group, "area ratio", float(cord.sum() / truth.sum()))
    yield Score(group, "slices lost %", 100 * float((~cord.any(axis=(0, 1))).mean()))
    yield Score(group, "islands mm2", island_area_mm2(cord, truth, spacing_mm))


def tell_regions(found: tuple[RegionScore, ...]) -> Iterator[Score]:
    """Yield the figures of each region under the names of the tables."""
    for one in found:
        figures = {
            "Dice": one.dice,
            "precision": one.precision,
            "recall": one.recall,
            "Hausdorff 95 mm": one.hausdorff95_mm,
            "FA error of slices %": 100 * one.error_of_slices,
            "FA error pooled %": 100 * one.error_pooled,
            "not found %": 100 * one.slices_missed,
        }
        for name, value in figures.items():
            yield Score("region", name, value, str(one.region.tissue), str(one.region.side))


def score_regions(
    values: FloatArray,
    predicted: LabelArray,
    truth: LabelArray,
    spacing_mm: tuple[float, float, float],
) -> tuple[RegionScore, ...]:
    """Compare predicted regions with the true ones, as overlap and as means on one map.

    The error is that of the SCS-Net paper (yang2025): the same map under both regions.

    Parameters
    ----------
    values : (i, j, k) float array, a map such as FA; what is not finite is left out
    predicted, truth : (i, j, k) int arrays, labels
    spacing_mm : voxel size

    Returns
    -------
    tuple of RegionScore in the order of ``REGIONS``
    """
    return tuple(
        _score_region(region, values, predicted == region.label, truth == region.label, spacing_mm)
        for region in REGIONS
    )


def means_of_regions(values: FloatArray, labels: LabelArray) -> FloatArray:
    """(k, 8) mean of an (i, j, k) map in each region of each slice; nan where there is none."""
    return np.stack([_means_of_slices(values, labels == r.label) for r in REGIONS], axis=1)


def _score_region(
    region: Region,
    values: FloatArray,
    predicted: BoolArray,
    truth: BoolArray,
    spacing_mm: tuple[float, float, float],
) -> RegionScore:
    """Compare one region."""
    mean_predicted, mean_truth = (_means_of_slices(values, mask) for mask in (predicted, truth))
    error = np.abs(mean_predicted / mean_truth - 1)  # (k,), nan where either is empty
    pooled_predicted, pooled_truth = (_mean(values[mask]) for mask in (predicted, truth))
    present = np.isfinite(mean_truth)
    missed = np.isnan(mean_predicted[present])
    return RegionScore(
        region,
        dice(predicted, truth),
        _mean(truth[predicted].astype(float)),
        _mean(predicted[truth].astype(float)),
        _mean(hausdorff95_of_slices(predicted, truth, spacing_mm)),
        _mean(error),
        abs(pooled_predicted / pooled_truth - 1),
        _mean(missed.astype(float)),
    )


def _outline(mask: BoolArray) -> BoolArray:
    """Voxels of an (i, j) mask that touch something else."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def _far(outline: BoolArray, other: BoolArray, spacing_mm: tuple[float, ...]) -> float:
    """Distance from another outline that 95 % of an outline keep, mm."""
    distance_mm = ndimage.distance_transform_edt(~other, sampling=spacing_mm)
    return float(np.percentile(distance_mm[outline], 95))


def _means_of_slices(values: FloatArray, mask: BoolArray) -> FloatArray:
    """(k,) mean inside a mask; nan where it is empty."""
    return np.array([_mean(values[..., k][mask[..., k]]) for k in range(values.shape[2])])


def _mean(values: FloatArray) -> float:
    """Mean of what is finite; nan if nothing is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
