"""Region probabilities from the network's grid to the shares of each voxel in DTI space.

A share is the part of a voxel's area that a region fills, so that partial volume survives: the
network's pixels are moved by the displacement from B0 to DWI and averaged over each voxel, both in
one step. Only then are labels and the mask made.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.images import Grid
from scsnet_bids.regions import HALF, REGIONS, SHARE_TIE, Side
from scsnet_bids.slices import PlaneGrid, average_over_voxels, slices_to_volume
from scsnet_bids.unmixing.interpolated import average_as_interpolated

RIM_MM = 2.0
"""The cord's partial-volume rim ends within this distance; shares farther away are no cord."""


def transfer_regions(
    probability: FloatArray,
    plane: PlaneGrid,
    grid: Grid,
    shift_mm: FloatArray,
    moved_mm: FloatArray | None = None,
) -> FloatArray:
    """Bring region probabilities to the voxels of an image, in one resampling.

    Shares that do not hang together with the slice's cord (farther than 2 mm from the largest
    connected piece of ``cord_mask``) become background, and so does a slice without any cord.

    Parameters
    ----------
    probability : (k, 9, rows, columns) float array in [0, 1] on ``plane``, background first
    plane : grid of the probabilities
    grid : grid of the image, with k slices
    shift_mm : (k, 2) displacement (left, posterior) of the cord from ``plane`` to the image
    moved_mm : (n, k, 2) displacement by which the slices of n volumes were interpolated, for the
        shares that the series shows; None for the areas themselves

    Returns
    -------
    (i, j, k, 9) float array, background first, summing to 1; in [0, 1] if nothing was interpolated
    """
    voxels = PlaneGrid.of_image(grid)
    if moved_mm is None:
        moved = np.stack(
            [
                average_over_voxels(regions, plane, voxels, (float(shift[0]), float(shift[1])))
                for regions, shift in zip(probability[:, 1:], shift_mm, strict=True)
            ]
        )
    else:
        moved = average_as_interpolated(probability[:, 1:], plane, voxels, shift_mm, moved_mm)
    regions = slices_to_volume(np.asarray(moved, dtype=float))
    near = _near(_largest_pieces(regions.sum(axis=-1) >= HALF), grid)
    # Beside edges that were interpolated a series shows less than nothing.
    lowest = 0.0 if moved_mm is None else -np.inf
    regions = np.clip(regions * near[..., None], lowest, None)
    background = np.clip(1 - regions.sum(axis=-1), lowest, None)
    return np.concatenate([background[..., None], regions], axis=-1)


def cord_mask(share: FloatArray) -> BoolArray:
    """Tell which voxels are cord: at least half filled, one connected piece per slice.

    Parameters
    ----------
    share : (i, j, k, 9) float array, background first

    Returns
    -------
    (i, j, k) bool array; voxels that touch at a corner are connected
    """
    return _largest_pieces(1 - share[..., 0] >= HALF)


def label_regions(share: FloatArray) -> npt.NDArray[np.uint8]:
    """Label every voxel of the cord with the region that fills most of it.

    A voxel that the two sides of a region share equally goes to the side that prevails among its
    3 x 3 neighbours; where that is a tie too, rows and slices take turns, so that the midline
    favours no side.

    Parameters
    ----------
    share : (i, j, k, 9) float array, background first

    Returns
    -------
    (i, j, k) uint8 array, 0 outside ``cord_mask``
    """
    toward_left = np.array([1.0 if r.side is Side.LEFT else -1.0 for r in REGIONS])
    neighbours = ndimage.uniform_filter(share[..., 1:] @ toward_left, size=(3, 3, 1))
    j, k = np.indices(share.shape[1:3])
    turns = np.broadcast_to(np.where((j + k) % 2, -1.0, 1.0), neighbours.shape)
    side = np.where(np.abs(neighbours) > SHARE_TIE, np.sign(neighbours), turns)
    label = 1 + np.argmax(share[..., 1:] + SHARE_TIE * side[..., None] * toward_left, axis=-1)
    return np.where(cord_mask(share), label, 0).astype(np.uint8)


def _largest_pieces(mask: BoolArray) -> BoolArray:
    """Keep the largest connected piece of each slice of an (i, j, k) mask."""
    kept = np.zeros(mask.shape, dtype=bool)
    for k in np.flatnonzero(mask.any(axis=(0, 1))):
        pieces, _ = ndimage.label(mask[..., k], structure=np.ones((3, 3)))
        kept[..., k] = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    return kept


def _near(mask: BoolArray, grid: Grid) -> BoolArray:
    """Tell which voxels of an (i, j, k) mask's slices lie within the rim; none without a mask."""
    near = np.zeros(mask.shape, dtype=bool)
    for k in np.flatnonzero(mask.any(axis=(0, 1))):
        distance = ndimage.distance_transform_edt(~mask[..., k], sampling=grid.spacing_mm[:2])
        near[..., k] = distance <= RIM_MM
    return near
