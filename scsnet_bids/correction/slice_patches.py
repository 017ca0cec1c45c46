"""Squares around the cord, cut from every slice of a series, as the motion estimate sees it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scsnet_bids.arrays import FloatArray, IntArray
from scsnet_bids.images import Grid

SMOOTHING_VOXELS = 0.35
"""Width (SD) of the Gaussian: little, since the best estimate from white noise needs none."""
REFERENCE_SMOOTHING_VOXELS = 0.5
"""Of a reference, beyond the patches' own; without it, noise draws slices to half a voxel."""
TAPER_MM = 2.0
"""The window falls from 1 to 0 over this width."""
PART_BYTES = 4 * 2**20
"""Of the patches that are worked on at once: memory is used again instead of asked for anew."""


@dataclass(frozen=True)
class SlicePatches:
    """Squares around the cord, cut from every slice of a series, lightly smoothed.

    Attributes
    ----------
    intensity : (n, k, p, q) float32 tensor
    left_mm, posterior_mm : (k, p) and (k, q) float32 tensors, pixels' positions from the cord
        centre
    inside : (k, p, q) bool tensor, pixel lies in the image
    usable : (n, k) bool tensor, slice has a cord centre and finite, varying values
    spacing_mm : (3,) float64 tensor, voxel size along left, posterior, superior
    """

    intensity: Tensor
    left_mm: Tensor
    posterior_mm: Tensor
    inside: Tensor
    usable: Tensor
    spacing_mm: Tensor

    def of_volumes(self, volumes: IntArray) -> SlicePatches:
        """Keep some of the volumes."""
        return replace(self, intensity=self.intensity[volumes], usable=self.usable[volumes])

    def of_slices(self, slices: slice) -> SlicePatches:
        """Keep some of the slices."""
        return replace(
            self,
            intensity=self.intensity[:, slices],
            left_mm=self.left_mm[slices],
            posterior_mm=self.posterior_mm[slices],
            inside=self.inside[slices],
            usable=self.usable[:, slices],
        )

    def parts(self) -> list[slice]:
        """Divide the slices into parts to be worked on one after the other."""
        k = self.intensity.shape[1]
        at_once = max(PART_BYTES * k // self.intensity.nbytes, 1)
        return [slice(first, first + at_once) for first in range(0, k, at_once)]

    def in_voxels(self, shift_mm: Tensor) -> Tensor:
        """Express (..., 2) in-plane displacements in voxels."""
        return shift_mm / self.spacing_mm[:2]

    def heights_mm(self) -> Tensor:
        """(k,) float64 positions of the slices along z."""
        return torch.arange(self.intensity.shape[1], dtype=torch.float64) * self.spacing_mm[2]

    def window(self, shift_mm: Tensor, radius_mm: float) -> Tensor:
        """(n, k, p, q) weights of a disc around the displaced cord, whose edge tapers off."""
        left = self.left_mm + shift_mm[..., 0, None]
        posterior = self.posterior_mm + shift_mm[..., 1, None]
        distance_mm = torch.hypot(left[..., :, None], posterior[..., None, :])
        disc = ((radius_mm - distance_mm) / TAPER_MM + 0.5).clamp(0, 1)
        return (disc * self.inside).float()


def cut_patches(
    series: FloatArray, centre_mm: FloatArray, grid: Grid, reach_mm: float
) -> SlicePatches:
    """Cut squares around the cord from a series, in units of their spread.

    Parameters
    ----------
    series : (i, j, k, n) array in LPS order
    centre_mm : (k, 2) cord centre (left, posterior), nan where it is not known
    grid : of the series
    reach_mm : the squares reach at least this far to each side

    Returns
    -------
    SlicePatches
    """
    known = np.asarray(np.isfinite(centre_mm).all(axis=1))
    spacing_mm = np.array(grid.spacing_mm[:2])
    middle_mm = (np.array(grid.shape[:2]) - 1) / 2 * spacing_mm
    centre_mm = np.where(known[:, None], centre_mm, middle_mm)
    along_i, along_j = (
        _around(centre_mm[:, axis] / spacing_mm[axis], reach_mm / spacing_mm[axis])
        for axis in (0, 1)
    )  # (k, p), (k, q)
    inside_i, inside_j = (
        torch.from_numpy((along >= 0) & (along < size))
        for along, size in zip((along_i, along_j), grid.shape, strict=False)
    )
    patches = _taken(series, along_i, along_j)
    finite = np.nan_to_num(patches, posinf=0.0, neginf=0.0)
    usable = np.isfinite(patches).all(axis=(2, 3)) & (np.ptp(finite, axis=(2, 3)) > 0) & known
    in_units_of_spread = finite / (float(finite.std()) or 1.0)
    return SlicePatches(
        smooth(torch.from_numpy(in_units_of_spread), SMOOTHING_VOXELS),
        torch.from_numpy((along_i * spacing_mm[0] - centre_mm[:, :1]).astype(np.float32)),
        torch.from_numpy((along_j * spacing_mm[1] - centre_mm[:, 1:]).astype(np.float32)),
        inside_i[:, :, None] & inside_j[:, None, :],
        torch.from_numpy(usable),
        torch.tensor(grid.spacing_mm, dtype=torch.float64),
    )


def smooth(patches: Tensor, width_voxels: float) -> Tensor:
    """Smooth (..., p, q) patches by a Gaussian; the edge loses nothing to the outside."""
    along_p, along_q = (_gaussian(size, width_voxels) for size in patches.shape[-2:])
    return along_p @ patches @ along_q.mT


def noise_left(width_voxels: float) -> float:
    """Return the variance that :func:`smooth` leaves of white noise of variance 1.

    >>> 0.07 < noise_left(1.0) < 0.09
    True
    """
    reach = 4 * int(np.ceil(width_voxels))
    return float((_gaussian(2 * reach + 1, width_voxels)[reach] ** 2).sum() ** 2)


def _around(centre: FloatArray, reach: float) -> IntArray:
    """(k, p) whole numbers around each centre."""
    steps = np.arange(-int(np.ceil(reach)), int(np.ceil(reach)) + 1)
    return np.asarray(np.rint(centre).astype(np.intp)[:, None] + steps)


def _taken(series: FloatArray, along_i: IntArray, along_j: IntArray) -> npt.NDArray[np.float32]:
    """(n, k, p, q) values of a series around each cord centre; outside, the edge repeats."""
    i = np.clip(along_i, 0, series.shape[0] - 1)[:, :, None]
    j = np.clip(along_j, 0, series.shape[1] - 1)[:, None, :]
    k = np.arange(series.shape[2])[:, None, None]
    return np.moveaxis(series[i, j, k], -1, 0).astype(np.float32)


def _gaussian(size: int, width_voxels: float) -> Tensor:
    """(size, size) matrix that smooths along one axis."""
    index = torch.arange(size, dtype=torch.float32)
    weight = torch.exp(-0.5 * ((index[:, None] - index) / width_voxels) ** 2)
    return weight / weight.sum(dim=1, keepdim=True)
