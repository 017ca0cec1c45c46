"""How far slices lie from a reference, measured without any of the correction's own code."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.evaluation.motion_scores import rms_length
from scsnet_bids.images import Grid

REACH_MM, STEP_MM = 4.0, 0.5
"""Displacements that are tried."""
WINDOW_MM = 5.0
"""How far beyond the cord a slice is looked at."""
MEASURABLE_MM = 0.3
"""A slice that tells its displacement worse than this on either axis is left out."""


def find_shifts(
    slices: FloatArray, reference: FloatArray, weight: FloatArray, spacing_mm: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    """Find the displacement of slices against references, by weighted correlation.

    The references are moved, the slices stay as they are, so that no displacement gains by the
    smoothing of interpolation.

    Parameters
    ----------
    slices, reference : (m, p, q) float arrays
    weight : (m, p, q) float array >= 0
    spacing_mm : voxel size along p and q

    Returns
    -------
    (m, 2) float array, mm, how far the content of a slice lies from that of its reference; and
    (m, 2) standard deviations to expect (Cramer-Rao)
    """
    steps_mm = np.arange(-REACH_MM, REACH_MM + STEP_MM / 2, STEP_MM)
    rows, columns = (
        [_shift_matrix(n, step / mm) for step in steps_mm]
        for n, mm in zip(slices.shape[1:], spacing_mm, strict=True)
    )
    score = np.empty((len(slices), len(steps_mm), len(steps_mm)))
    for a, row in enumerate(rows):
        across = row @ reference
        for b, column in enumerate(columns):
            score[:, a, b] = _correlation(slices, across @ column.T, weight)
    place, best = _peak(score)
    slopes = [np.gradient(reference, mm, axis=n) for n, mm in enumerate(spacing_mm, start=1)]
    deviation_mm = _expected_deviation(reference, slopes, weight, best)
    return steps_mm[0] + place * STEP_MM, deviation_mm


def measure_slices(volumes: FloatArray, cord: BoolArray, grid: Grid) -> FloatArray:
    """Find how far each slice of volumes of one kind lies from the mean of the others.

    Parameters
    ----------
    volumes : (i, j, k, n) float array, at least 3 volumes
    cord : (i, j, k) bool array
    grid : of the volumes

    Returns
    -------
    (n, k, 2) float array, mm, from the median of the volumes; nan where it cannot be measured
    """
    n, spacing_mm = volumes.shape[-1], grid.spacing_mm[:2]
    measured_mm = np.full((n, volumes.shape[2], 2), np.nan)
    for k in np.flatnonzero(cord.any(axis=(0, 1))):
        window, weight = _around(cord[..., k], spacing_mm)
        slices = np.moveaxis(volumes[..., k, :], -1, 0)[(slice(None), *window)]
        others = (slices.sum(axis=0) - slices) / (n - 1)
        weights = np.broadcast_to(weight, slices.shape)
        shift_mm, deviation_mm = find_shifts(slices, others, weights, spacing_mm)
        seen = (deviation_mm <= MEASURABLE_MM).all(axis=1)
        seen &= (np.abs(shift_mm) < REACH_MM - STEP_MM / 2).all(axis=1)
        if seen.any():
            measured_mm[seen, k] = shift_mm[seen] - np.median(shift_mm[seen], axis=0)
    return measured_mm


def jitter_mm(volumes: FloatArray, cord: BoolArray, grid: Grid) -> float:
    """Tell how far the slices of volumes of one kind lie apart.

    Parameters
    ----------
    volumes, cord, grid : as for :func:`measure_slices`, any number of volumes

    Returns
    -------
    float, RMS length in mm over the slices that can be measured; nan if none can
    """
    if volumes.shape[-1] < 3:
        return float("nan")
    lengths = measure_slices(volumes, cord, grid)
    seen = np.isfinite(lengths).all(axis=-1)
    return rms_length(lengths[seen]) if seen.any() else float("nan")


def follow(cord: BoolArray, mean: FloatArray, grid: Grid) -> BoolArray:
    """Move a mask, slice by slice, to where a mean image shows the cord.

    A series that was moved as a whole must not be punished for it.

    Parameters
    ----------
    cord : (i, j, k) bool array
    mean : (i, j, k) float array
    grid : of both

    Returns
    -------
    (i, j, k) bool array
    """
    moved = cord.copy()
    for k in np.flatnonzero(cord.any(axis=(0, 1))):
        window, weight = _around(cord[..., k], grid.spacing_mm[:2])
        drawn = ndimage.gaussian_filter(cord[..., k].astype(float), 0.6)
        seen, expected = (part[window][None] for part in (mean[..., k], drawn))
        shift_mm, _ = find_shifts(seen, expected, weight[None], grid.spacing_mm[:2])
        voxels = shift_mm[0] / grid.spacing_mm[:2]
        there = ndimage.shift(cord[..., k].astype(float), voxels, order=1) > 0.5
        moved[..., k] = there if there.any() else cord[..., k]
    return moved


def _shift_matrix(n: int, voxels: float) -> FloatArray:
    """(n, n) cubic interpolation that moves n samples."""
    moved = ndimage.shift(np.eye(n), (voxels, 0), order=3, mode="nearest")
    return np.asarray(moved)


def _correlation(first: FloatArray, second: FloatArray, weight: FloatArray) -> FloatArray:
    """(m,) weighted correlation of (m, p, q) slices."""
    total = weight.sum(axis=(1, 2), keepdims=True)
    first, second = (
        part - (weight * part).sum(axis=(1, 2), keepdims=True) / total for part in (first, second)
    )
    shared, *powers = (
        np.einsum("mpq,mpq,mpq->m", weight, a, b)
        for a, b in ((first, second), (first, first), (second, second))
    )
    return np.asarray(shared / np.sqrt(np.maximum(powers[0] * powers[1], 1e-12)))


def _peak(score: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(m, 2) place of the highest score, refined by parabolas along both axes, and (m,) score."""
    m, size, _ = score.shape
    best = score.reshape(m, -1).argmax(axis=1)
    place = np.stack(np.divmod(best, size), axis=1)
    middle = np.clip(place, 1, size - 2)
    every = np.arange(m)
    here = score[every, middle[:, 0], middle[:, 1]]
    refined = middle.astype(float)
    for axis, step in enumerate(np.eye(2, dtype=int)):
        after, before = (score[(every, *(middle + sign * step).T)] for sign in (1, -1))
        bend = np.minimum(before + after - 2 * here, -1e-9)
        refined[:, axis] += np.clip((before - after) / (2 * bend), -1, 1)
    return refined, score.reshape(m, -1).max(axis=1)


def _expected_deviation(
    reference: FloatArray, slopes: list[FloatArray], weight: FloatArray, correlation: FloatArray
) -> FloatArray:
    """(m, 2) standard deviation of a displacement, from the noise that a correlation leaves."""
    total = weight.sum(axis=(1, 2), keepdims=True)
    spread = reference - (weight * reference).sum(axis=(1, 2), keepdims=True) / total
    power = (weight * spread**2).sum(axis=(1, 2)) / total[:, 0, 0]
    noise = power * (1 / np.clip(correlation, 1e-3, 1) ** 2 - 1)
    stacked = np.stack(slopes, axis=-1)
    information = np.einsum("mpq,mpqa,mpqb->mab", weight, stacked, stacked)
    covariance = np.linalg.pinv(information, hermitian=True)
    variance = noise[:, None] * np.diagonal(covariance, axis1=1, axis2=2)
    return np.asarray(np.sqrt(variance.clip(min=0)))


def _around(
    cord: BoolArray, spacing_mm: tuple[float, float]
) -> tuple[tuple[slice, slice], FloatArray]:
    """Cut out what lies around the cord of a slice, and weigh it, with room to move."""
    distance_mm = ndimage.distance_transform_edt(~cord, sampling=spacing_mm)
    weight = np.clip(WINDOW_MM + 1 - distance_mm, 0, 1)
    bounds = []
    for axis, mm in enumerate(spacing_mm):
        inside = np.flatnonzero(weight.any(axis=1 - axis))
        room = int(np.ceil(REACH_MM / mm)) + 2
        bounds.append(slice(max(inside[0] - room, 0), inside[-1] + room + 1))
    window = (bounds[0], bounds[1])
    return window, weight[window]
