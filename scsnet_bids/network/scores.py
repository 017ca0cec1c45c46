"""Figures that compare a result with the truth. Arrays in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scsnet_bids.regions import REGIONS, Region
from scsnet_bids.slices import PlaneGrid, average_over_voxels, slices_to_volume

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]
LabelArray = npt.NDArray[np.integer]

CORD_SHARE = 0.5 - 1e-6
"""At least half, and shares are stored in single precision."""
FAR_MM = 3.5
"""Cord farther than this from the reference is an island, not an outline drawn otherwise."""


@dataclass(frozen=True)
class RegionScore:
    """How well one region was found.

    Attributes
    ----------
    region : which one
    dice : of its voxels in the whole run
    error_of_slices : |mean in the predicted region - mean in the true one| / the latter, averaged
        over the slices where both have voxels
    error_pooled : the same of the means over the whole run
    slices_missed : share of the slices with the true region in which none was predicted
    """

    region: Region
    dice: float
    error_of_slices: float
    error_pooled: float
    slices_missed: float


@dataclass(frozen=True, eq=False)
class MotionScore:
    """How well the motion of one kind of volume was found.

    A displacement that is the same in all volumes of a slice is no error: the reference may lie
    anywhere. It is told apart, since whatever is compared with the truth has to follow it.

    Attributes
    ----------
    error_mm : RMS length of estimated minus true displacement, its mean per slice removed
    true_mm : RMS length of the true displacement, its mean per slice removed
    offset_mm : (k, 2) mean per slice of estimated minus true displacement
    """

    error_mm: float
    true_mm: float
    offset_mm: FloatArray


def label_truth(share: FloatArray) -> LabelArray:
    """Label the voxels that are at least half cord with their largest region.

    Parameters
    ----------
    share : (i, j, k, 9) float array, true shares, background first

    Returns
    -------
    (i, j, k) int array, 0 outside the cord
    """
    return np.where(1 - share[..., 0] >= CORD_SHARE, 1 + share[..., 1:].argmax(axis=-1), 0)


def shift_slices(
    share: FloatArray, shift_mm: FloatArray, spacing_mm: tuple[float, float, float]
) -> FloatArray:
    """Move each slice of a share image; background moves in.

    Parameters
    ----------
    share : (i, j, k, 9) float array, background first
    shift_mm : (k, 2) displacement (left, posterior)
    spacing_mm : voxel size

    Returns
    -------
    (i, j, k, 9) float array
    """
    plane = PlaneGrid((0.0, 0.0), (share.shape[0], share.shape[1]), spacing_mm[:2])
    regions = share[..., 1:].transpose(2, 3, 1, 0)
    moved = slices_to_volume(
        np.stack(
            [
                average_over_voxels(stack, plane, plane, (float(left), float(back)))
                for stack, (left, back) in zip(regions, shift_mm, strict=True)
            ]
        )
    )
    return np.concatenate([1 - moved.sum(axis=-1, keepdims=True), moved], axis=-1)


def dice(first: BoolArray, second: BoolArray) -> float:
    """Dice overlap of two masks of one shape; nan if both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else float("nan")


def dice_of_slices(first: BoolArray, second: BoolArray) -> FloatArray:
    """(k,) Dice overlap of each slice of two (i, j, k) masks; nan where both are empty."""
    return np.array([dice(first[..., k], second[..., k]) for k in range(first.shape[2])])


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


def score_regions(
    values: FloatArray, predicted: LabelArray, truth: LabelArray
) -> tuple[RegionScore, ...]:
    """Compare predicted regions with the true ones, as overlap and as means on one map.

    The error is that of the SCS-Net paper (yang2025): the same map under both regions.

    Parameters
    ----------
    values : (i, j, k) float array, a map such as FA; what is not finite is left out
    predicted, truth : (i, j, k) int arrays, labels

    Returns
    -------
    tuple of RegionScore in the order of ``REGIONS``
    """
    return tuple(
        _score_region(region, values, predicted == region.label, truth == region.label)
        for region in REGIONS
    )


def score_motion(estimated_mm: FloatArray, true_mm: FloatArray) -> MotionScore:
    """Compare estimated with true displacements.

    Parameters
    ----------
    estimated_mm, true_mm : (n, k, 2) float arrays, of volumes of one kind

    Returns
    -------
    MotionScore
    """
    difference = estimated_mm - true_mm
    offset_mm = difference.mean(axis=0)
    return MotionScore(
        rms_length(difference - offset_mm), rms_length(true_mm - true_mm.mean(axis=0)), offset_mm
    )


def rms_length(vectors: FloatArray) -> float:
    """Root mean square length of (..., 2) vectors."""
    return float(np.sqrt((vectors**2).sum(axis=-1).mean()))


def _score_region(
    region: Region, values: FloatArray, predicted: BoolArray, truth: BoolArray
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
        _mean(error),
        abs(pooled_predicted / pooled_truth - 1),
        _mean(missed.astype(float)),
    )


def _means_of_slices(values: FloatArray, mask: BoolArray) -> FloatArray:
    """(k,) mean inside a mask; nan where it is empty."""
    return np.array([_mean(values[..., k][mask[..., k]]) for k in range(values.shape[2])])


def _mean(values: FloatArray) -> float:
    """Mean of what is finite; nan if nothing is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
