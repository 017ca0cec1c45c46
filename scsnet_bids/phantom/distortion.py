"""What bends the phantom's image along the phase-encode axis, which runs from front to back.

Eddy currents shift, stretch and shear a weighted volume about the middle of the image, in
proportion to its gradient. The susceptibility of bone, discs and air bends every volume alike, and
the other way round where the phase is encoded the other way round. Either moves signal and loses
none, so that it piles up where the image is compressed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.polynomial import polyval

from scsnet_bids.arrays import FloatArray
from scsnet_bids.gradients import Gradients
from scsnet_bids.images import Grid
from scsnet_bids.phantom.anatomy import LEVEL_HEIGHT_MM
from scsnet_bids.slices import PlaneGrid, average_over_voxels

Bend = Callable[[FloatArray, FloatArray], FloatArray]
"""From (left, posterior) places in mm to the displacement of what lies there along posterior."""

FREE_EDDY = 0.15
"""Eddy terms that no gradient explains, relative to those it does."""
BROAD_MM, DISC_MM, DISC_HEIGHT_MM = 35.0, 10.0, 4.5
DISC_IN_FRONT_MM = 6.0


@dataclass(frozen=True, eq=False)
class SusceptibilityField:
    """A smooth field: a broad part around the cord, and a bump in front of it near each disc.

    Attributes
    ----------
    centre_mm : (k, 2) float array, (left, posterior) middle of the cord in each slice
    broad_mm : (k, 3) float array, constant part and slopes toward left and posterior per BROAD_MM
    disc_mm : (k,) float array, height of the bump
    """

    centre_mm: FloatArray
    broad_mm: FloatArray
    disc_mm: FloatArray

    def displacement_mm(
        self, left_mm: FloatArray, posterior_mm: FloatArray, k: int | slice
    ) -> FloatArray:
        """Tell how far along posterior what lies at some places of slice ``k`` is seen."""
        centre = np.atleast_2d(self.centre_mm[k])
        constant, to_left, to_back = np.atleast_2d(self.broad_mm[k]).T
        left, back = left_mm - centre[:, 0], posterior_mm - centre[:, 1]
        u, v = left / BROAD_MM, back / BROAD_MM
        broad = (constant + to_left * u + to_back * v) * np.exp(-(u**2 + v**2) / 2)
        distance = (left**2 + (back + DISC_IN_FRONT_MM) ** 2) / DISC_MM**2
        return np.asarray(broad + np.atleast_1d(self.disc_mm[k]) * np.exp(-distance / 2))

    @property
    def is_zero(self) -> bool:
        """Whether nothing is displaced."""
        return not (self.broad_mm.any() or self.disc_mm.any())

    def on_grid(self, grid: Grid) -> FloatArray:
        """Tell the displacement at every voxel, (i, j, k) in mm."""
        plane = PlaneGrid.of_image(grid)
        left, posterior = np.meshgrid(plane.positions_mm(0), plane.positions_mm(1), indexing="ij")
        return self.displacement_mm(left[..., None], posterior[..., None], slice(None))

    def scaled(self, factor: float) -> SusceptibilityField:
        """Make the same field stronger or weaker."""
        return SusceptibilityField(self.centre_mm, self.broad_mm * factor, self.disc_mm * factor)


def draw_field(
    centre_mm: FloatArray, level: FloatArray, rng: np.random.Generator
) -> SusceptibilityField:
    """Draw a field of about 1 mm.

    Parameters
    ----------
    centre_mm : (k, 2) float array, (left, posterior) middle of the cord in each slice
    level : (k,) float array, vertebral level, 5.0 in the middle of C5
    rng : source of randomness

    Returns
    -------
    SusceptibilityField
    """
    height = np.linspace(-1, 1, level.size)
    broad = polyval(height, rng.normal(0, [[0.6, 0.4, 0.4], [0.4, 0.3, 0.3], [0.3, 0.1, 0.1]]))
    from_disc_mm = LEVEL_HEIGHT_MM * (level - np.floor(level) - 0.5)
    strength = rng.uniform(0.3, 0.9, 20)[np.floor(level).astype(int).clip(0, 19)]
    disc = strength * np.exp(-((from_disc_mm / DISC_HEIGHT_MM) ** 2) / 2)
    return SusceptibilityField(centre_mm, broad.T, disc)


def draw_eddy(
    gradients: Gradients, size_mm: tuple[float, float], eddy_mm: float, rng: np.random.Generator
) -> FloatArray:
    """Draw shift, scale and shear per volume, in proportion to the gradient but for a small rest.

    Parameters
    ----------
    gradients : of the n volumes
    size_mm : of the image, left to right and front to back
    eddy_mm : RMS over weighted volumes and the edge of the image of their displacement
    rng : source of randomness

    Returns
    -------
    (n, 3) float array, shift in mm, scale and shear in mm per mm; 0 at b=0, and of mean 0 over
    the weighted volumes
    """
    weighted = gradients.bvals > 0
    weight = np.sqrt(gradients.bvals / gradients.bvals.max())
    explained = gradients.bvecs @ rng.normal(0, 1, (3, 3)) * weight[:, None]
    rest = FREE_EDDY * rng.normal(0, 1, explained.shape)
    half_left, half_back = np.array(size_mm) / 2
    eddy = (explained + rest) / [1.0, half_back, half_left]
    eddy = (eddy - eddy[weighted].mean(axis=0)) * weighted[:, None]
    along = np.linspace(-1, 1, 41)
    back = half_back * np.concatenate([along, along, np.full(41, -1), np.full(41, 1)])
    left = half_left * np.concatenate([np.full(41, -1), np.full(41, 1), along, along])
    at_edge = eddy[weighted] @ np.stack([np.ones_like(back), back, left])
    return np.asarray(eddy * (eddy_mm / np.sqrt((at_edge**2).mean())))


def bend(
    eddy: FloatArray, field: SusceptibilityField, k: int, middle_mm: tuple[float, float]
) -> Bend:
    """Put eddy terms and a field together.

    Parameters
    ----------
    eddy : (3,) float array, shift in mm, scale and shear
    field : in the direction of this scan
    k : slice
    middle_mm : (left, posterior) middle of the image

    Returns
    -------
    function from places to displacements
    """
    shift, scale, shear = eddy

    def displacement_mm(left_mm: FloatArray, posterior_mm: FloatArray) -> FloatArray:
        linear = scale * (posterior_mm - middle_mm[1]) + shear * (left_mm - middle_mm[0])
        return np.asarray(shift + linear + field.displacement_mm(left_mm, posterior_mm, k))

    return displacement_mm


def average_bent(
    image: FloatArray,
    source: PlaneGrid,
    target: PlaneGrid,
    shift_mm: tuple[float, float],
    bent: Bend,
) -> FloatArray:
    """Average an image over the area of each voxel after it was moved and then bent.

    For each column of pixels, the running integral of the signal as a function of the place where
    it is seen is read off at the voxels' edges: no signal is lost.

    Parameters
    ----------
    image : (rows, columns) float array on ``source``
    source, target : planes
    shift_mm : displacement (left, posterior)
    bent : further displacement along posterior, from the moved place; order is kept along a column

    Returns
    -------
    (rows, columns) float array on ``target``
    """
    left = source.positions_mm(0)[:, None] + shift_mm[0]
    edges = _edges_mm(source) + shift_mm[1]
    seen = edges + bent(left, edges)  # (columns, rows + 1)
    integral = np.zeros_like(seen)
    np.cumsum(image.T * source.spacing_mm[1], axis=1, out=integral[:, 1:])
    at_edges = _interpolate_rows(_edges_mm(target), seen, integral)
    rows = np.diff(at_edges, axis=1).T / target.spacing_mm[1]
    between = PlaneGrid(
        (source.start_mm[0], target.start_mm[1]),
        (source.shape[0], target.shape[1]),
        (source.spacing_mm[0], target.spacing_mm[1]),
    )
    return average_over_voxels(rows, between, target, (shift_mm[0], 0.0))


def _edges_mm(plane: PlaneGrid) -> FloatArray:
    """(rows + 1,) edges of the pixels along posterior."""
    return plane.start_mm[1] + (np.arange(plane.shape[1] + 1) - 0.5) * plane.spacing_mm[1]


def _interpolate_rows(at: FloatArray, places: FloatArray, values: FloatArray) -> FloatArray:
    """Interpolate each row of (r, n) values, known at increasing places, at (m,) common places."""
    low, high = places.min(), places.max()
    # One row after the other on one long axis, so that a single call does all.
    offset = np.arange(len(places))[:, None] * (high - low + 1.0)
    wanted = np.clip(at, places[:, :1], places[:, -1:]) + offset
    found = np.interp(wanted.ravel(), (places + offset).ravel(), values.ravel())
    return np.asarray(found.reshape(wanted.shape))
