"""The displacement of the cord from the B0 image to the mean of the weighted volumes.

Eddy currents, and motion between the b=0 and the weighted volumes, leave the cord of the B0 image
up to about a millimetre off the cord of the weighted volumes, mostly front to back and slowly
varying along z. In the mean weighted image the cord is bright and alone: the cord found on the B0
image is moved, averaged over the voxels and matched with it, slice by slice, beside a background
that may slope. The slices are then believed together (:mod:`scsnet_bids.correction.displacement`).

A jump between the b=0 and the weighted volumes is larger, and common to all slices. Where the cord
of most slices is not where the B0 image has it, it is looked for farther away, in all of them at
once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.correction.displacement import (
    DisplacementPrior,
    Measurement,
    believed_displacement,
)
from scsnet_bids.images import Grid
from scsnet_bids.settings import AlignmentSettings
from scsnet_bids.slices import PlaneGrid, average_over_voxels, volume_to_slices

SMALLEST_CORD_MM2 = 15.0
RIM_MM = 4.0
"""The match looks this far beyond the cord."""
SEARCH_STEP_MM = 0.25
BEYOND_MM = 0.5
"""Slices may measure this much more than is applied."""
REFINEMENTS = 4
SLOPE_STEP_MM = 0.1
LEAST_CORRELATION = 0.6
"""With less, the cord is not seen."""
MOST = 0.5
"""Share of the slices with a cord that must see it."""
COMMON_STEP_MM = 0.5
COMMON_MM, SMOOTH_MM = 0.7, 0.4
"""Expected size of the displacement: common to the slices, and varying along z."""
SMOOTH_LENGTH_MM = 15.0
"""What varies along z is alike over this distance."""
MODEL_DEVIATION_MM = 0.2
"""Error of a slice beyond noise: the cord of the B0 image is not drawn perfectly."""


@dataclass(frozen=True, eq=False)
class B0ToDwi:
    """Displacement of the cord from the B0 image to DTI space, per slice.

    Attributes
    ----------
    shift_mm : (k, 2) float array, what must be added to a position (left, posterior) in the B0
        image to get it in DTI space; smooth along z, bounded
    trusted : (k,) bool array, whether the slice had a say; if not, its displacement is borrowed
        from its neighbours, or 0 if there are none
    """

    shift_mm: FloatArray
    trusted: BoolArray


def estimate_b0_to_dwi(
    cord_share: FloatArray,
    cord_plane: PlaneGrid,
    mean_dwi: FloatArray,
    grid: Grid,
    settings: AlignmentSettings,
) -> B0ToDwi:
    """Estimate the in-plane displacement of the cord from the B0 image to the mean DWI.

    Parameters
    ----------
    cord_share : (k, rows, columns) float array in [0, 1], cord on the B0 image
    cord_plane : grid of ``cord_share``
    mean_dwi : (i, j, k) float array in LPS order, mean of the corrected weighted volumes
    grid : of ``mean_dwi``
    settings : of the stage; if it is not enabled, nothing moves and nothing is trusted

    Returns
    -------
    B0ToDwi
    """
    nothing = B0ToDwi(np.zeros((len(cord_share), 2)), np.zeros(len(cord_share), dtype=bool))
    if not settings.enabled:
        return nothing
    near = _estimate_around(np.zeros(2), cord_share, cord_plane, mean_dwi, grid, settings)
    has_cord = _areas_mm2(cord_share, cord_plane) >= SMALLEST_CORD_MM2
    if not has_cord.any() or _settled(near, np.zeros(2), has_cord, settings.max_shift_mm) > MOST:
        return near
    common_mm = _search_common(cord_share, cord_plane, mean_dwi, grid, settings.max_common_mm)
    far = _estimate_around(common_mm, cord_share, cord_plane, mean_dwi, grid, settings)
    return far if _settled(far, common_mm, has_cord, settings.max_shift_mm) > MOST else near


def _areas_mm2(cord_share: FloatArray, plane: PlaneGrid) -> FloatArray:
    """(k,) area of the cord."""
    return np.asarray(cord_share.sum(axis=(1, 2)) * np.prod(plane.spacing_mm))


def _settled(
    found: B0ToDwi, common_mm: FloatArray, has_cord: BoolArray, max_shift_mm: float
) -> float:
    """Share of the slices that have measured a displacement within the bound of a common one."""
    at_bound = np.linalg.norm(found.shift_mm - common_mm, axis=1) >= max_shift_mm * (1 - 1e-6)
    return float((found.trusted & ~at_bound)[has_cord].mean())


def _estimate_around(
    common_mm: FloatArray,
    cord_share: FloatArray,
    plane: PlaneGrid,
    mean_dwi: FloatArray,
    grid: Grid,
    settings: AlignmentSettings,
) -> B0ToDwi:
    """Estimate the displacement of every slice, not far from a common one."""
    measured_mm = np.zeros((len(cord_share), 2))
    information = np.zeros((len(cord_share), 2, 2))
    moved = plane.moved((float(common_mm[0]), float(common_mm[1])))
    for k, model in _slice_models(cord_share, moved, mean_dwi, grid, settings.max_shift_mm):
        measured_mm[k], information[k] = _match(model, settings.max_shift_mm + BEYOND_MM)
    trusted = np.asarray(information.any(axis=(1, 2)))
    shift_mm = _believed_together(measured_mm, information, grid.spacing_mm[2])
    length_mm = np.linalg.norm(shift_mm, axis=1, keepdims=True)
    bound = settings.max_shift_mm / np.maximum(length_mm, max(settings.max_shift_mm, 1e-9))
    return B0ToDwi(common_mm + shift_mm * bound, trusted)


def _search_common(
    cord_share: FloatArray, plane: PlaneGrid, mean_dwi: FloatArray, grid: Grid, reach_mm: float
) -> FloatArray:
    """(2,) displacement, on a coarse grid, by which the cords of all slices are seen best."""
    models = [model for _, model in _slice_models(cord_share, plane, mean_dwi, grid, reach_mm)]
    steps = np.arange(-reach_mm, reach_mm + COMMON_STEP_MM / 2, COMMON_STEP_MM)
    candidates = np.array([c for c in product(steps, steps) if np.hypot(*c) <= reach_mm])
    seen = [sum(_correlation(model, shift_mm) for model in models) for shift_mm in candidates]
    return np.asarray(candidates[np.argmax(seen)])


@dataclass(frozen=True, eq=False)
class _SliceModel:
    """The cord of one slice as the mean DWI should show it, in a window around the cord.

    Attributes
    ----------
    seen : (voxels,) mean DWI, weighted, background taken off
    share, plane : cord on the B0 image, with its grid
    voxels : grid of the window
    root_weight : (voxels,) root of the weight of each voxel
    background : (voxels, 3) orthonormal weighted constant and slopes
    """

    seen: FloatArray
    share: FloatArray
    plane: PlaneGrid
    voxels: PlaneGrid
    root_weight: FloatArray
    background: FloatArray

    def cord(self, shift_mm: FloatArray) -> FloatArray:
        """Show the displaced cord, weighted, background taken off; (voxels,)."""
        shift = (float(shift_mm[0]), float(shift_mm[1]))
        moved = average_over_voxels(self.share, self.plane, self.voxels, shift)
        return _without_background(moved, self.root_weight, self.background)

    def slopes(self, shift_mm: FloatArray) -> FloatArray:
        """Change of the displaced cord per mm toward left and posterior; (voxels, 2)."""
        steps = SLOPE_STEP_MM * np.eye(2)
        changes = [self.cord(shift_mm + step) - self.cord(shift_mm - step) for step in steps]
        return np.stack(changes, axis=1) / (2 * SLOPE_STEP_MM)


def _slice_models(
    cord_share: FloatArray,
    plane: PlaneGrid,
    mean_dwi: FloatArray,
    grid: Grid,
    max_shift_mm: float,
) -> Iterator[tuple[int, _SliceModel]]:
    """Yield the slices that have a cord and a finite, varying mean DWI around it."""
    image_plane = PlaneGrid.of_image(grid)
    for k, image in enumerate(volume_to_slices(mean_dwi)):
        share = cord_share[k]
        if not _areas_mm2(share[None], plane)[0] >= SMALLEST_CORD_MM2:
            continue
        centre_mm, spread_mm = plane.centre_and_spread_mm(share)
        width_mm = 2 * spread_mm  # half of it, as of an ellipse
        reach_mm = width_mm + RIM_MM + max_shift_mm
        left, posterior = (
            _within(image_plane.positions_mm(axis), centre_mm[axis], reach_mm[axis])
            for axis in (0, 1)
        )
        voxels = image_plane.part(left, posterior)
        if min(voxels.shape) < 3:
            continue
        weight, background = _weight_and_background(voxels, centre_mm, width_mm + RIM_MM)
        seen = _without_background(image[posterior, left], weight, background)
        if np.isfinite(seen).all() and seen.any():
            yield k, _SliceModel(seen, share, plane, voxels, weight, background)


def _within(position_mm: FloatArray, centre_mm: float, reach_mm: float) -> slice:
    """Voxels whose centres lie within reach."""
    near = np.flatnonzero(np.abs(position_mm - centre_mm) <= reach_mm)
    return slice(int(near[0]), int(near[-1]) + 1) if near.size else slice(0, 0)


def _weight_and_background(
    voxels: PlaneGrid, centre_mm: FloatArray, half_width_mm: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Root weights of an ellipse with a soft edge, and the weighted orthonormal background."""
    left, posterior = np.meshgrid(voxels.positions_mm(0), voxels.positions_mm(1))
    across = (left - centre_mm[0]) / half_width_mm[0]
    along = (posterior - centre_mm[1]) / half_width_mm[1]
    root_weight = np.sqrt(np.clip(4 * (1 - np.hypot(across, along)), 0, 1)).ravel()
    ramps = np.stack([np.ones(left.size), across.ravel(), along.ravel()], axis=1)
    background, _ = np.linalg.qr(ramps * root_weight[:, None])
    return root_weight, background


def _without_background(
    values: FloatArray, root_weight: FloatArray, background: FloatArray
) -> FloatArray:
    """Weight (rows, columns) values and take the best constant and slopes off."""
    weighted = values.ravel() * root_weight
    return np.asarray(weighted - background @ (background.T @ weighted))


def _match(model: _SliceModel, reach_mm: float) -> tuple[FloatArray, FloatArray]:
    """Displacement of the cord of one slice and its information; 0 if it cannot be told."""
    shift_mm = _search(model, reach_mm)
    for _ in range(REFINEMENTS):
        slopes, residual = _linearised(model, shift_mm)
        step_mm = np.linalg.lstsq(slopes, residual, rcond=None)[0]
        shift_mm = shift_mm + np.clip(step_mm, -SEARCH_STEP_MM, SEARCH_STEP_MM)
    slopes, residual = _linearised(model, shift_mm)
    if _correlation(model, shift_mm) < LEAST_CORRELATION or np.linalg.norm(shift_mm) > reach_mm:
        return shift_mm, np.zeros((2, 2))
    noise_variance = residual @ residual / max((model.root_weight**2).sum() - 6, 1)
    covariance = noise_variance * np.linalg.pinv(slopes.T @ slopes)
    return shift_mm, np.linalg.inv(covariance + MODEL_DEVIATION_MM**2 * np.eye(2))


def _search(model: _SliceModel, reach_mm: float) -> FloatArray:
    """Best displacement on a coarse grid, the cord being brighter than its background."""
    steps = np.arange(-reach_mm, reach_mm + SEARCH_STEP_MM / 2, SEARCH_STEP_MM)
    candidates = np.array(list(product(steps, steps)))
    best = np.argmax([_correlation(model, shift_mm) for shift_mm in candidates])
    return np.asarray(candidates[best])


def _correlation(model: _SliceModel, shift_mm: FloatArray) -> float:
    """Correlation of the displaced cord with what is seen."""
    cord = model.cord(shift_mm)
    scale = np.sqrt((cord @ cord) * (model.seen @ model.seen))
    return float(cord @ model.seen / scale) if scale > 0 else 0.0


def _linearised(model: _SliceModel, shift_mm: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(voxels, 2) slopes of the seen cord and (voxels,) residual at a displacement.

    What a change of the cord's brightness explains is taken off both.
    """
    cord = model.cord(shift_mm)
    power = max(float(cord @ cord), np.finfo(float).tiny)
    gain = cord @ model.seen / power
    slopes = model.slopes(shift_mm)
    slopes = gain * (slopes - np.outer(cord, cord @ slopes / power))
    return slopes, model.seen - gain * cord


def _believed_together(
    measured_mm: FloatArray, information: FloatArray, slice_spacing_mm: float
) -> FloatArray:
    """(k, 2) displacement of each slice that all slices agree on, smooth along z."""
    k = len(measured_mm)
    weighted_mm = np.einsum("kab,kb->ka", information, measured_mm)
    measurement = Measurement(
        torch.from_numpy(information)[None], torch.from_numpy(weighted_mm)[None]
    )
    z_mm = torch.arange(k, dtype=torch.float64) * slice_spacing_mm
    smooth = (-(z_mm[:, None] - z_mm).abs() / SMOOTH_LENGTH_MM).exp()
    size_mm = torch.tensor([COMMON_MM, SMOOTH_MM, 0.0], dtype=torch.float64)
    prior = DisplacementPrior(
        torch.stack([torch.ones_like(smooth), smooth]),
        (size_mm**2)[:, None].expand(3, 2),
        torch.ones(1, 2, dtype=torch.float64),
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, k, 2, dtype=torch.float64),
    )
    return np.asarray(believed_displacement(measurement, prior)[0])
