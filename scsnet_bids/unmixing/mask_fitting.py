"""Regions placed in an outline of the cord that somebody else has drawn.

The network says how the regions share the cord; the mask says where the cord is. In every slice the
network's cord is moved and stretched, along both axes of the slice, to the place and size of the
mask, and the mask is divided among the regions as they then lie in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.slices import PlaneGrid, interpolate_linearly, volume_to_slices
from scsnet_bids.unmixing.sharpening import PlacedRegions

MARGIN_MM = 3.0
"""The plane of the regions reaches this far beyond the mask."""
OUTLINE_MM = 0.2
"""Error of an outline that a person or another tool has drawn; one logit, once sharpened."""
FINER = 4
"""Distances from the outline are measured on pixels this many times smaller."""
CLEAR = 0.05
"""Where the network sees less cord than this, the region nearest to it counts."""


@dataclass(frozen=True, eq=False)
class RegionsInMask:
    """Regions that share the cord of a mask.

    Attributes
    ----------
    regions : their probabilities sum to the mask
    found : (k,) bool, slices in which a mask is and regions could be placed
    overlap : (k,) Dice overlap of the mask with the network's own cord, 0 where either is empty
    """

    regions: PlacedRegions
    found: BoolArray
    overlap: FloatArray


def fit_regions_to_mask(regions: PlacedRegions, mask: FloatArray) -> RegionsInMask:
    """Let the regions share the cord of a mask.

    A slice with a mask in which the network has found no cord takes the regions of the nearest
    slice that has some.

    Parameters
    ----------
    regions : as the network gave them
    mask : (i, j, k) float array in [0, 1], where the cord lies in the weighted volumes

    Returns
    -------
    RegionsInMask
    """
    plane = _plane_around(mask, regions)
    cord = _on_plane(mask, regions, plane)  # (k, rows, columns), moved to the b=0 volumes
    own = 1 - regions.probability[:, 0]
    with_cord = np.flatnonzero((own >= 0.5).any(axis=(1, 2)))
    probability = np.zeros((len(cord), regions.probability.shape[1], *cord.shape[1:]))
    found = np.asarray((cord >= 0.5).any(axis=(1, 2)) & (with_cord.size > 0))
    for k in np.flatnonzero(found):
        nearest = with_cord[np.argmin(np.abs(with_cord - k))]
        inner = _shares_of_cord(regions.probability[nearest])
        probability[k, 1:] = cord[k] * _stretched(
            inner, own[nearest], regions.plane, cord[k], plane
        )
    probability[:, 0] = 1 - probability[:, 1:].sum(axis=1)
    overlap = _dice(interpolate_linearly(own, regions.plane, plane) >= 0.5, cord >= 0.5)
    placed = replace(regions, probability=probability, plane=plane)
    return RegionsInMask(placed, found, np.where(found, overlap, 0.0))


def _plane_around(mask: FloatArray, regions: PlacedRegions) -> PlaneGrid:
    """Lay a plane of the network's pixels around a mask, wherever the b=0 volumes have it."""
    spacing = regions.grid.spacing_mm
    reach_mm = MARGIN_MM + np.abs(np.nan_to_num(regions.b0_to_dwi_mm)).max(axis=0, initial=0)
    start, shape = [], []
    for axis, pixel_mm in enumerate(regions.plane.spacing_mm):
        marked = np.flatnonzero(mask.any(axis=(1 - axis, 2)))
        low, high = marked[[0, -1]] * spacing[axis] + np.array([-1, 1]) * reach_mm[axis]
        start.append(float(low))
        shape.append(int(np.ceil((high - low) / pixel_mm)) + 1)
    return PlaneGrid((start[0], start[1]), (shape[0], shape[1]), regions.plane.spacing_mm)


def _on_plane(mask: FloatArray, regions: PlacedRegions, plane: PlaneGrid) -> FloatArray:
    """(k, rows, columns) probability of the cord of a mask, where the b=0 volumes have it."""
    voxels = PlaneGrid.of_image(regions.grid)
    columns, rows = plane.shape
    pixel_mm = (plane.spacing_mm[0] / FINER, plane.spacing_mm[1] / FINER)
    fine = PlaneGrid(plane.start_mm, ((columns - 1) * FINER + 1, (rows - 1) * FINER + 1), pixel_mm)
    steepness = regions.sharpness.outline * OUTLINE_MM
    cord = np.zeros((mask.shape[2], rows, columns))
    for k, (one, shift) in enumerate(
        zip(volume_to_slices(mask), regions.b0_to_dwi_mm, strict=True)
    ):
        moved = replace(voxels, start_mm=(-float(shift[0]), -float(shift[1])))
        inside = interpolate_linearly(one, moved, fine) >= 0.5
        if inside.any():
            depth_mm = _depth_mm(inside, pixel_mm)[::FINER, ::FINER]
            cord[k] = 1 / (1 + np.exp(-depth_mm / steepness))
    return cord


def _depth_mm(inside: BoolArray, pixel_mm: tuple[float, float]) -> FloatArray:
    """(rows, columns) distance from the edge of a mask, positive inside."""
    sampling = pixel_mm[::-1]
    within, beyond = (
        ndimage.distance_transform_edt(part, sampling=sampling) for part in (inside, ~inside)
    )
    half_mm = sum(pixel_mm) / 4
    return np.asarray(np.where(inside, within - half_mm, half_mm - beyond))


def _shares_of_cord(probability: FloatArray) -> FloatArray:
    """(8, rows, columns) share of each region in the cord; beyond it that of the nearest pixel."""
    cord = 1 - probability[0]
    clear = cord >= CLEAR
    nearest = ndimage.distance_transform_edt(~clear, return_distances=False, return_indices=True)
    inner = probability[1:] / np.where(clear, cord, 1)
    return np.asarray(inner[:, nearest[0], nearest[1]])


def _stretched(
    inner: FloatArray, own: FloatArray, source: PlaneGrid, cord: FloatArray, plane: PlaneGrid
) -> FloatArray:
    """(8, rows, columns) shares moved and stretched from one outline to another, of sum 1."""
    places = []
    (from_mm, from_size), (to_mm, to_size) = (
        _place_and_size(own, source),
        _place_and_size(cord, plane),
    )
    for axis in (1, 0):  # rows, then columns
        stretch = from_size[axis] / to_size[axis]
        place_mm = from_mm[axis] + (plane.positions_mm(axis) - to_mm[axis]) * stretch
        places.append((place_mm - source.start_mm[axis]) / source.spacing_mm[axis])
    grid = np.meshgrid(*places, indexing="ij")
    shares = np.stack([ndimage.map_coordinates(s, grid, order=1, mode="nearest") for s in inner])
    return np.asarray(shares / np.clip(shares.sum(axis=0), 1e-9, None))


def _place_and_size(cord: FloatArray, plane: PlaneGrid) -> tuple[FloatArray, FloatArray]:
    """(2,) centre and (2,) standard deviation of a cord (left, posterior), mm."""
    centre_mm, spread_mm = plane.centre_and_spread_mm(cord)
    return centre_mm, np.maximum(spread_mm, np.array(plane.spacing_mm) / 2)


def _dice(one: BoolArray, other: BoolArray) -> FloatArray:
    """(k,) overlap of two stacks of masks; 0 where both are empty."""
    both = (one & other).sum(axis=(1, 2))
    size = one.sum(axis=(1, 2)) + other.sum(axis=(1, 2))
    return np.asarray(2 * both / np.clip(size, 1, None))
