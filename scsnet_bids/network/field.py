"""Real slices as the network wants them: 0.5 mm, standardised inside what the scanner saw."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.images import Grid
from scsnet_bids.network.model import CLIP, CROP_PIXELS, PIXEL_MM, STRIDE
from scsnet_bids.slices import PlaneGrid, interpolate_linearly, volume_to_slices


@dataclass(frozen=True)
class Field:
    """Slices on a network grid.

    Attributes
    ----------
    slices : (k, rows, columns) float32 signal, 0 outside
    inside : (k, rows, columns) bool, what the scanner saw
    plane : where the pixels lie
    """

    slices: npt.NDArray[np.float32]
    inside: BoolArray
    plane: PlaneGrid


def resample_image(
    image: FloatArray, grid: Grid, plane: PlaneGrid, shift_mm: FloatArray | None = None
) -> Field:
    """Interpolate an image to a network grid, and tell what of it was seen.

    The field of view of a slice is the smallest rectangle that holds everything but constant
    borders: an image padded with zeros gives the same slices as the image itself. Voxels that are
    not finite count as 0.

    Parameters
    ----------
    image : (i, j, k) float array, inner order
    grid : of the image
    plane : of the network
    shift_mm : (k, 2) how far (left, posterior) each slice of the image lies displaced from the
        plane; None if nowhere

    Returns
    -------
    Field
    """
    stack = volume_to_slices(np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0))
    back_mm = np.zeros((len(stack), 2)) if shift_mm is None else -shift_mm
    slices = np.zeros((len(stack), *plane.shape[::-1]), dtype=np.float32)
    inside = np.zeros(slices.shape, dtype=bool)
    for k, (one, (left, posterior)) in enumerate(zip(stack, back_mm, strict=True)):
        source = replace(PlaneGrid.of_image(grid), start_mm=(float(left), float(posterior)))
        bounds = _field_of_view(one)
        slices[k] = interpolate_linearly(_extend_edges(one, *bounds), source, plane)
        inside[k] = _covered(source, plane, *bounds)
    return Field(slices * inside, inside, plane)


def network_plane(grid: Grid) -> PlaneGrid:
    """Lay a 0.5 mm grid over the whole of an image, its sides divisible as the network needs."""
    extent_mm = np.array(grid.shape[:2]) * grid.spacing_mm[:2]
    columns, rows = (STRIDE * math.ceil(e / PIXEL_MM / STRIDE) for e in extent_mm)
    centre = (np.array(grid.shape[:2]) - 1) / 2 * grid.spacing_mm[:2]
    return PlaneGrid.centred((float(centre[0]), float(centre[1])), (columns, rows), PIXEL_MM)


def standardise_locally(field: Field) -> npt.NDArray[np.float32]:
    """Standardise each pixel by the 48 mm around it, as if it were the middle of a crop.

    Parameters
    ----------
    field : slices of any size

    Returns
    -------
    (k, rows, columns) float32; 0 outside
    """
    inside = field.inside.astype(float)
    n_inside = inside.sum(axis=(1, 2), keepdims=True)
    signal = field.slices - field.slices.sum(axis=(1, 2), keepdims=True) / np.maximum(n_inside, 1)
    share = np.maximum(_window_mean(inside), 1e-9)
    mean = _window_mean(signal * inside) / share
    variance = _window_mean(signal**2 * inside) / share - mean**2
    usable = field.inside & (variance > 1e-12 * np.max(signal**2, initial=0.0))
    deviation = np.sqrt(np.where(usable, variance, 1.0))
    return np.where(usable, np.clip((signal - mean) / deviation, -CLIP, CLIP), 0).astype(np.float32)


def _window_mean(stack: FloatArray) -> FloatArray:
    """Mean over the square of a crop around each pixel, zeros beyond the border."""
    return np.asarray(
        ndimage.uniform_filter(stack, size=(0, CROP_PIXELS, CROP_PIXELS), mode="constant")
    )


def _field_of_view(image: FloatArray) -> tuple[slice, slice]:
    """Rows and columns between the constant borders of a slice; empty for a constant slice."""
    rows = np.flatnonzero(np.ptp(image, axis=1))
    columns = np.flatnonzero(np.ptp(image, axis=0))
    if rows.size == 0 or columns.size == 0:
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _extend_edges(image: FloatArray, rows: slice, columns: slice) -> FloatArray:
    """Repeat the outermost seen voxels over the constant border."""
    if rows.stop == 0:
        return image
    nearest_row = np.clip(np.arange(image.shape[0]), rows.start, rows.stop - 1)
    nearest_column = np.clip(np.arange(image.shape[1]), columns.start, columns.stop - 1)
    return image[np.ix_(nearest_row, nearest_column)]


def _covered(source: PlaneGrid, plane: PlaneGrid, rows: slice, columns: slice) -> BoolArray:
    """(rows, columns) bool: pixels of a plane that lie on the given voxels."""
    seen = []
    for axis, voxels in ((1, rows), (0, columns)):
        place = (plane.positions_mm(axis) - source.start_mm[axis]) / source.spacing_mm[axis]
        seen.append((place >= voxels.start - 0.5) & (place <= voxels.stop - 0.5))
    return np.asarray(seen[0][:, None] & seen[1][None, :] & (rows.stop > rows.start))
