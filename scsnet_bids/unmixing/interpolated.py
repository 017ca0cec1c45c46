"""What a series that was interpolated shows of a map.

A voxel of a scan holds the average over its own area. A corrected volume holds a spline through
such averages, read between them: edges are a little softer there, with a dark or bright line
beside them. Explained by areas alone, fluid beside the cord is sought where it is not seen, and
what lies next to it gets the rest: MD of lateral columns was 2 % too small. So a map that is to
explain a corrected series is averaged over the voxels of every volume where they lay, and
interpolated as the series was; here for all volumes and places in one step. Displacements that vary
within a slice, by eddy currents and distortion, are not followed: motion alone spreads volumes over
all parts of a voxel.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import ndimage

from scsnet_bids.arrays import FloatArray
from scsnet_bids.slices import PlaneGrid

REACH = 6
"""Voxels; farther away a sample has less than a thousandth of its weight."""
PLACES = 16
"""Parts of a voxel by which volumes may have moved; those between count for both neighbours."""
FINE = 32
"""Places per voxel at which the kernel is tabulated; between them it is linear."""


def average_as_interpolated(
    slices: FloatArray,
    source: PlaneGrid,
    target: PlaneGrid,
    shift_mm: FloatArray,
    moved_mm: FloatArray,
) -> FloatArray:
    """Average a pixel map over voxels as the mean of interpolated volumes shows it.

    Areas are kept, but near an edge values lie below 0 or above 1. Motion toward the left and the
    back is taken to be independent.

    Parameters
    ----------
    slices : (k, c, rows, columns) float array on ``source``, 0 outside
    source, target : planes
    shift_mm : (k, 2) displacement (left, posterior) of the content
    moved_mm : (n, k, 2) displacement by which the slices of n volumes were interpolated

    Returns
    -------
    (k, c, rows, columns) float array on ``target``
    """
    columns, rows = (
        _weights(source, target, axis, shift_mm[:, axis], moved_mm[..., axis]) for axis in (0, 1)
    )
    seen = np.zeros((*slices.shape[:2], *target.shape[::-1]))
    # Most voxels lie far from the map.
    down, across = (_reached(weights) for weights in (rows, columns))
    for k, (by_row, by_column) in enumerate(zip(rows, columns, strict=True)):
        seen[k, :, down, across] = by_row[down] @ slices[k] @ by_column[across].T
    return seen


def _reached(weights: FloatArray) -> slice:
    """From the first to the last voxel that any pixel has a weight in; (k, n_target, n_source)."""
    places = np.flatnonzero(np.any(weights != 0, axis=(0, 2)))
    return slice(places[0], places[-1] + 1) if places.size else slice(0)


def _weights(
    source: PlaneGrid, target: PlaneGrid, axis: int, shift_mm: FloatArray, moved_mm: FloatArray
) -> FloatArray:
    """(k, n_target, n_source) weights of the pixels in the voxels along an axis."""
    pixel_mm, voxel_mm = source.spacing_mm[axis], target.spacing_mm[axis]
    reach_mm = (REACH + 1) * voxel_mm + pixel_mm
    apart_mm = np.linspace(-reach_mm, reach_mm, 2 * FINE * (REACH + 2) + 1)
    place_mm = np.arange(-REACH * PLACES, REACH * PLACES) / PLACES * voxel_mm
    between_mm = np.abs(apart_mm - place_mm[:, None])
    covered = np.clip((voxel_mm + pixel_mm) / 2 - between_mm, 0, min(voxel_mm, pixel_mm))
    kernel = _weights_of_places(moved_mm / voxel_mm) @ (covered / voxel_mm)  # (k, apart)
    still_mm = source.positions_mm(axis) - target.positions_mm(axis)[:, None]
    placed = zip(shift_mm, kernel, strict=True)
    return np.stack([np.interp(still_mm + shift, apart_mm, one) for shift, one in placed])


def _weights_of_places(moved: FloatArray) -> FloatArray:
    """(k, places) weight of an average by how far from the voxel it was taken.

    A volume that has moved by some voxels and a part of one was averaged at all places that lie
    that part, and some voxels, from here; (n, k) moved.
    """
    part = moved % 1 * PLACES
    below = np.floor(part).astype(int)
    often = np.zeros((moved.shape[1], PLACES + 1))
    slices = np.broadcast_to(np.arange(moved.shape[1]), moved.shape)
    np.add.at(often, (slices, below), 1 - (part - below))
    np.add.at(often, (slices, np.minimum(below + 1, PLACES)), part - below)
    often[:, 0] += often[:, -1]
    weights = np.tile(often[:, :-1], 2 * REACH) * _spline()
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@cache
def _spline() -> FloatArray:
    """(places,) weight of a sample by its distance, from ``-REACH`` on."""
    sample = np.eye(1, 4 * REACH + 1, 2 * REACH)[0]
    parts = np.arange(PLACES) / PLACES
    read = np.stack([ndimage.shift(sample, -part, order=3, mode="mirror") for part in parts])
    return np.asarray(read[:, REACH : 3 * REACH].T.ravel())
