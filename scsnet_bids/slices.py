"""In-plane geometry: from an image to the network's square grid, and back without losing area.

Positions in a slice are millimetres from the centre of the image's first voxel, along the inner
axes (patient's left, posterior), so that both grids of a run speak of the same point by the same
two numbers. Stacks of slices are (k, row, column): rows run from front to back, columns from the
patient's right to the left.

Going to a grid interpolates linearly. Coming back averages each voxel's area exactly, so that a
voxel half filled by a region gets the share 0.5:

>>> fine = PlaneGrid(start_mm=(-0.25, -0.25), shape=(4, 4), spacing_mm=(0.5, 0.5))
>>> voxels = PlaneGrid(start_mm=(0.0, 0.0), shape=(2, 2), spacing_mm=(1.0, 1.0))
>>> share = np.zeros((1, 4, 4)); share[0, :, 0] = 1.0
>>> average_over_voxels(share, fine, voxels)[0]
array([[0.5, 0. ],
       [0.5, 0. ]])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.images import Grid

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class PlaneGrid:
    """A regular in-plane grid.

    Attributes
    ----------
    start_mm : (left, posterior) position of the centre of the first pixel
    shape : pixels along left and posterior (columns, rows)
    spacing_mm : pixel size along left and posterior
    """

    start_mm: tuple[float, float]
    shape: tuple[int, int]
    spacing_mm: tuple[float, float]

    @classmethod
    def of_image(cls, grid: Grid) -> PlaneGrid:
        """Take the in-plane voxel grid of an image."""
        return cls((0.0, 0.0), grid.shape[:2], grid.spacing_mm[:2])

    @classmethod
    def centred(
        cls, centre_mm: tuple[float, float], shape: tuple[int, int], spacing_mm: float
    ) -> PlaneGrid:
        """Lay a square-pixel grid around a point."""
        start = [c - (n - 1) / 2 * spacing_mm for c, n in zip(centre_mm, shape, strict=True)]
        return cls((start[0], start[1]), shape, (spacing_mm, spacing_mm))

    @classmethod
    def between(cls, image: Grid, other: Grid) -> PlaneGrid:
        """Find the plane of another grid whose slices are those of an image."""
        offset = np.linalg.lstsq(
            image.affine[:3, :2] / image.spacing_mm[:2],
            other.affine[:3, 3] - image.affine[:3, 3],
        )[0]
        start = _snapped(offset)
        return cls((float(start[0]), float(start[1])), other.shape[:2], other.spacing_mm[:2])

    def divided(self, times: int) -> PlaneGrid:
        """Divide every pixel into smaller ones, as many along both axes."""
        finer = [mm / times for mm in self.spacing_mm]
        start = [s - (times - 1) / 2 * mm for s, mm in zip(self.start_mm, finer, strict=True)]
        columns, rows = self.shape
        return PlaneGrid(
            (start[0], start[1]), (columns * times, rows * times), (finer[0], finer[1])
        )

    def moved(self, shift_mm: tuple[float, float]) -> PlaneGrid:
        """Move the grid by a displacement (left, posterior)."""
        left, posterior = (s + by for s, by in zip(self.start_mm, shift_mm, strict=True))
        return PlaneGrid((left, posterior), self.shape, self.spacing_mm)

    def part(self, left: slice, posterior: slice) -> PlaneGrid:
        """Cut out a box of pixels; each slice names the first and the one after the last."""
        first = (left.start, posterior.start)
        start = [s + n * mm for s, n, mm in zip(self.start_mm, first, self.spacing_mm, strict=True)]
        shape = (left.stop - left.start, posterior.stop - posterior.start)
        return PlaneGrid((start[0], start[1]), shape, self.spacing_mm)

    def positions_mm(self, axis: int) -> FloatArray:
        """Pixel centres along an axis (0 left, 1 posterior)."""
        return self.start_mm[axis] + np.arange(self.shape[axis]) * self.spacing_mm[axis]

    def distance_mm(self, centre_mm: FloatArray) -> FloatArray:
        """(i, j, k) distance of pixels from a point (k, 2) of each slice; nan where that is nan."""
        left, posterior = (self.positions_mm(n)[:, None] - centre_mm[:, n] for n in (0, 1))
        return np.asarray(np.hypot(left[:, None], posterior[None]))

    def centre_and_spread_mm(self, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Centre of mass and standard deviations of what lies on the plane.

        Parameters
        ----------
        weight : (..., rows, columns) float array >= 0

        Returns
        -------
        two (..., 2) float arrays (left, posterior), mm; nan where there is nothing
        """
        mass = weight.sum(axis=(-2, -1), dtype=float)
        mass = np.where(mass > 0, mass, np.nan)
        centre, spread = np.empty((2, *mass.shape, 2))
        for axis, position in enumerate(map(self.positions_mm, (0, 1))):
            along = weight.sum(axis=axis - 2, dtype=float)
            centre[..., axis] = along @ position / mass
            off = position - centre[..., axis, None]
            spread[..., axis] = np.sqrt((along * off**2).sum(axis=-1) / mass)
        return centre, spread

    def on_image(self, grid: Grid) -> Grid:
        """Describe this plane, with the slices of an image, as an image grid."""
        scale = np.array(self.spacing_mm) / grid.spacing_mm[:2]
        start_voxel = _snapped(self.start_mm) / grid.spacing_mm[:2]
        affine = grid.affine.copy()
        affine[:3, 3] = grid.affine[:3, :2] @ start_voxel + grid.affine[:3, 3]
        affine[:3, :2] = grid.affine[:3, :2] * scale
        return grid.resized((*self.shape, grid.shape[2]), affine)


def _snapped(start_mm: npt.ArrayLike) -> FloatArray:
    """Round to what headers can keep, 0.1 um, so that what is read back is what was written.

    They store positions in single precision, which rounds differently in every storage order.
    """
    return np.round(np.asarray(start_mm, dtype=float), 4)


def volume_to_slices(volume: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """Turn (i, j, k) into a stack (k, j, i) of slices with rows from front to back."""
    return np.ascontiguousarray(volume.transpose(2, 1, 0))


def slices_to_volume(slices: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """Turn a stack (k, j, i), or (k, c, j, i), into a volume (i, j, k), or (i, j, k, c)."""
    order = (2, 1, 0) if slices.ndim == 3 else (3, 2, 0, 1)
    return np.ascontiguousarray(slices.transpose(order))


def centre_of_slices(
    volume: FloatArray | BoolArray, spacing_mm: Sequence[float] = (1.0, 1.0)
) -> FloatArray:
    """Find the centre of mass in each slice.

    Parameters
    ----------
    volume : (i, j, k) float array >= 0, or bool
    spacing_mm : voxel size, of which the first two count; 1 gives voxels

    Returns
    -------
    (k, 2) float array, (left, posterior) from the centre of the first voxel; nan where a slice
    holds nothing
    """
    plane = PlaneGrid((0.0, 0.0), volume.shape[:2], (spacing_mm[0], spacing_mm[1]))
    return plane.centre_and_spread_mm(volume_to_slices(np.asarray(volume, dtype=float)))[0]


def interpolate_linearly(slices: FloatArray, source: PlaneGrid, target: PlaneGrid) -> FloatArray:
    """Resample slices to another plane; outside the source the value is 0.

    Parameters
    ----------
    slices : (..., rows, columns) float array on ``source``
    source, target : planes

    Returns
    -------
    (..., rows, columns) float array on ``target``
    """
    columns, rows = (_interpolation_matrix(source, target, axis) for axis in (0, 1))
    return np.asarray(rows @ slices @ columns.T)


def average_over_voxels(
    slices: FloatArray,
    source: PlaneGrid,
    target: PlaneGrid,
    shift_mm: tuple[float, float] = (0.0, 0.0),
) -> FloatArray:
    """Average a pixel map over the area of each target voxel, optionally moved.

    Pixels are taken as constant squares, so areas are kept exactly. Where a voxel reaches beyond
    the source, the missing part counts as 0.

    Parameters
    ----------
    slices : (..., rows, columns) float array on ``source``
    source, target : planes
    shift_mm : displacement (left, posterior) of the content, applied in the same step

    Returns
    -------
    (..., rows, columns) float array on ``target``
    """
    by_row = _average_last_axis(slices.swapaxes(-1, -2), source, target, 1, shift_mm[1])
    return _average_last_axis(by_row.swapaxes(-1, -2), source, target, 0, shift_mm[0])


def _interpolation_matrix(source: PlaneGrid, target: PlaneGrid, axis: int) -> FloatArray:
    """(n_target, n_source) weights of linear interpolation along one axis, 0 outside."""
    place = (target.positions_mm(axis) - source.start_mm[axis]) / source.spacing_mm[axis]
    # Half a voxel beyond the outermost centre still belongs to the voxel: repeat its value.
    inside = (place >= -0.5) & (place <= source.shape[axis] - 0.5)
    clamped = np.clip(place, 0, source.shape[axis] - 1)
    distance = np.abs(clamped[:, None] - np.arange(source.shape[axis]))
    return np.asarray(np.clip(1 - distance, 0, None) * inside[:, None])


def _average_last_axis(
    values: FloatArray, source: PlaneGrid, target: PlaneGrid, axis: int, shift_mm: float
) -> FloatArray:
    """Average pixels, constant over their width, over voxels along the last axis of an array.

    The running integral is read off at the voxels' edges.
    """
    n_pixels, pixel_mm, voxel_mm = (
        source.shape[axis],
        source.spacing_mm[axis],
        target.spacing_mm[axis],
    )
    edges_mm = target.start_mm[axis] + (np.arange(target.shape[axis] + 1) - 0.5) * voxel_mm
    place = np.clip((edges_mm - shift_mm - source.start_mm[axis]) / pixel_mm + 0.5, 0, n_pixels)
    whole = np.minimum(place.astype(int), n_pixels - 1)
    integral = np.zeros((*values.shape[:-1], n_pixels + 1))
    np.cumsum(values, axis=-1, out=integral[..., 1:])
    at_edges = integral[..., whole] + (place - whole) * values[..., whole]
    return np.asarray(np.diff(at_edges, axis=-1) * (pixel_mm / voxel_mm))
