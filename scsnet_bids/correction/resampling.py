"""What is known to be wrong with the positions of a series, and its correction in one go.

Three things displace what a slice shows: motion, by the same amount all over a slice; eddy
currents of the diffusion gradients, which stretch and shear each volume differently along the
phase-encode axis (their shift is part of the motion); and the static field, along the same axis,
alike in all volumes. The series is interpolated once for all of them. Along the phase-encode axis
signal is conserved: where the correction pulls apart what the scanner had pressed together, it
becomes darker.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.correction.eddy import EddyTerms
from scsnet_bids.correction.interpolation import sample_bent, sample_moved, slope_per_voxel
from scsnet_bids.images import Grid


@dataclass(frozen=True, eq=False)
class Correction:
    """Where the content of a series must be fetched.

    Attributes
    ----------
    shift_mm : (n, k, 2) float array, what must be added to a position (left, posterior) in the
        original slice to get the position in the reference
    eddy : terms of the n volumes, or None
    field_mm : (i, j, k) float array on the grid of the series, or None; what lies at a position is
        seen displaced by this, toward larger indices of the phase-encode axis
    phase_axis : inner axis along which the phase is encoded, 0 (left) or 1 (posterior)
    """

    shift_mm: FloatArray
    eddy: EddyTerms | None = None
    field_mm: FloatArray | None = None
    phase_axis: int = 1


def apply_correction(series: FloatArray, correction: Correction, grid: Grid) -> FloatArray:
    """Bring the content of a series to where it belongs, by one cubic interpolation.

    Outside the image the edge repeats; values below 0, or below the least of the series, are cut.
    Slices with no displacement stay exactly as they are. Values that are not finite count as 0.

    Parameters
    ----------
    series : (i, j, k, n) array in LPS order
    correction : of the n volumes
    grid : of the series

    Returns
    -------
    (i, j, k, n) float32 array
    """
    corrected = np.array(series, dtype=np.float32)
    lowest = float(np.min(corrected, where=np.isfinite(corrected), initial=0.0))
    field_mm = _as_slices(correction.field_mm)
    for volume, shift_mm in enumerate(torch.from_numpy(correction.shift_mm)):
        distortion_mm = _distortion(correction, field_mm, volume, grid)
        displaced = shift_mm.any(dim=-1)
        if distortion_mm is not None:
            displaced = displaced | distortion_mm.flatten(1).any(dim=-1)
            distortion_mm = distortion_mm[displaced]
        slices = np.nan_to_num(corrected[:, :, displaced.numpy(), volume], posinf=0, neginf=0)
        moved = _fetched(
            torch.from_numpy(slices).permute(2, 0, 1),
            shift_mm[displaced],
            distortion_mm,
            correction.phase_axis,
            grid,
        )
        corrected[:, :, displaced.numpy(), volume] = (
            moved.clamp(min=lowest).permute(1, 2, 0).numpy()
        )
    return corrected


def to_dti_space(shift_mm: FloatArray, is_b0: BoolArray, b0_to_dwi_mm: FloatArray) -> FloatArray:
    """Bring the b=0 volumes on to where the weighted volumes lie.

    Parameters
    ----------
    shift_mm : (n, k, 2) float array, displacement of every volume to the mean of its kind
    is_b0 : (n,) bool array
    b0_to_dwi_mm : (k, 2) float array, displacement from the B0 image to the mean DWI

    Returns
    -------
    (n, k, 2) float array
    """
    return np.asarray(shift_mm + is_b0[:, None, None] * b0_to_dwi_mm)


def undistorted_centre(
    centre_mm: FloatArray, field_mm: FloatArray, phase_axis: int, grid: Grid
) -> FloatArray:
    """Tell where the centre of the cord lies once distortion is corrected.

    Parameters
    ----------
    centre_mm : (k, 2) float array, where it is seen (left, posterior) from the first voxel; nan
        where not known
    field_mm, phase_axis : as of :class:`Correction`
    grid : of the field

    Returns
    -------
    (k, 2) float array, nan likewise
    """
    true_mm = np.array(centre_mm, dtype=float)
    place_mm = np.arange(grid.shape[phase_axis]) * grid.spacing_mm[phase_axis]
    lines = np.moveaxis(field_mm, phase_axis, -1)  # (other, k, phase)
    index = np.rint(true_mm[:, 1 - phase_axis] / grid.spacing_mm[1 - phase_axis])
    for k in np.flatnonzero(np.isfinite(true_mm).all(axis=1)):
        line = lines[int(np.clip(index[k], 0, len(lines) - 1)), k]
        seen_mm = np.maximum.accumulate(place_mm + line)
        true_mm[k, phase_axis] = np.interp(true_mm[k, phase_axis], seen_mm, place_mm)
    return true_mm


def _as_slices(volume: FloatArray | None) -> Tensor | None:
    """(k, i, j) tensor of an (i, j, k) array."""
    if volume is None:
        return None
    return torch.from_numpy(np.asarray(volume, dtype=np.float64)).permute(2, 0, 1)


def _distortion(
    correction: Correction, field_mm: Tensor | None, volume: int, grid: Grid
) -> Tensor | None:
    """(k, i, j) displacement along the phase-encode axis, None where there is none."""
    eddy = correction.eddy
    if eddy is None:
        return field_mm
    left, posterior = (
        torch.arange(grid.shape[axis]) * grid.spacing_mm[axis]
        - torch.from_numpy(eddy.centre_mm[:, axis])[:, None]
        for axis in (0, 1)
    )  # (k, i), (k, j)
    arms = left[:, :, None], posterior[:, None, :]
    along, across = arms if correction.phase_axis == 0 else arms[::-1]
    everywhere = float(eddy.scale[volume]) * along + float(eddy.shear[volume]) * across
    return everywhere if field_mm is None else everywhere + field_mm


def _fetched(
    slices: Tensor, shift_mm: Tensor, distortion_mm: Tensor | None, phase_axis: int, grid: Grid
) -> Tensor:
    """(m, i, j) slices read where their content was seen."""
    spacing_mm = torch.tensor(grid.spacing_mm[:2], dtype=torch.float64)
    shift = -shift_mm / spacing_mm
    if distortion_mm is None:
        return sample_moved(slices, shift)
    distortion = distortion_mm / spacing_mm[phase_axis]
    jacobian = 1 + slope_per_voxel(distortion, phase_axis - 2)
    read = sample_bent(slices, shift, distortion, phase_axis)
    return read * jacobian.clamp(min=0).to(read)
