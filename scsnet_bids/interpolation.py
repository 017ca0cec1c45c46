"""Moving slices by fractions of a voxel with cubic B-splines.

A shift is the same for a whole slice, so the interpolation of a slice is two small matrices, one
for its rows and one for its columns, and a stack of slices with a shift each is one batched
product. The spline passes through the voxel values (prefilter included) and mirrors at the edge;
beyond the outermost voxel centre the value there is repeated.

>>> row = torch.tensor([[0.0, 1.0, 4.0, 9.0]])
>>> sample_moved(row, torch.tensor([0.0, 1.0])).round(decimals=3)
tensor([[1., 4., 9., 9.]])
"""

from __future__ import annotations

import torch
from torch import Tensor


def sample_moved(slices: Tensor, shift_voxels: Tensor) -> Tensor:
    """Read each slice at the positions of its own voxels plus a shift.

    Content that lies at ``x + shift`` comes to lie at ``x``.

    Parameters
    ----------
    slices : (..., p, q) float tensor
    shift_voxels : (..., 2) float tensor, along p and q; the leading axes broadcast

    Returns
    -------
    (..., p, q) float tensor, of the type of ``slices``
    """
    along_p, along_q = (
        _spline_matrix(slices.shape[axis - 2], shift_voxels[..., axis]).to(slices)
        for axis in (0, 1)
    )
    return along_p @ slices @ along_q.mT


def sample_moved_with_slopes(slices: Tensor, shift_voxels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Read moved slices together with their slopes along both axes.

    Parameters
    ----------
    slices : (..., p, q) float tensor
    shift_voxels : (..., 2) float tensor, along p and q; the leading axes broadcast

    Returns
    -------
    value, slope along p, slope along q : (..., p, q) float tensors; slopes are per voxel
    """
    p, q = slices.shape[-2:]
    along_p = _spline_matrix(p, shift_voxels[..., 0]).to(slices)
    along_q = _spline_matrix(q, shift_voxels[..., 1]).to(slices)
    slope_p = _spline_matrix(p, shift_voxels[..., 0], slope=True).to(slices)
    slope_q = _spline_matrix(q, shift_voxels[..., 1], slope=True).to(slices)
    columns_moved = slices @ along_q.mT
    return along_p @ columns_moved, slope_p @ columns_moved, along_p @ (slices @ slope_q.mT)


def _spline_matrix(n: int, shift_voxels: Tensor, *, slope: bool = False) -> Tensor:
    """(..., n, n) weights from n samples to the spline's value, or slope, at moved places."""
    index = torch.arange(n, dtype=torch.float64)
    place = (index + shift_voxels[..., None].double()).clamp(0, n - 1)
    kernel = _cubic_slope if slope else _cubic
    basis = kernel(place[..., None] - index)
    basis[..., min(1, n - 1)] += kernel(place + 1)
    basis[..., max(n - 2, 0)] += kernel(place - n)
    return basis @ _prefilter(n)


def _prefilter(n: int) -> Tensor:
    """(n, n) matrix from samples to the coefficients of their mirrored cubic B-spline."""
    coefficients_to_samples = torch.eye(n, dtype=torch.float64) * (4 / 6)
    for row in range(n):
        for neighbour in (row - 1, row + 1):
            mirrored = (n - 1) - abs((n - 1) - abs(neighbour))
            coefficients_to_samples[row, max(mirrored, 0)] += 1 / 6
    inverse: Tensor = torch.linalg.inv(coefficients_to_samples)
    return inverse


def _cubic(distance: Tensor) -> Tensor:
    """Cubic B-spline."""
    far = distance.abs()
    near = 2 / 3 - far**2 + far**3 / 2
    return torch.where(far < 1, near, (2 - far).clamp(min=0) ** 3 / 6)


def _cubic_slope(distance: Tensor) -> Tensor:
    """Slope of the cubic B-spline."""
    far = distance.abs()
    near = 1.5 * far**2 - 2 * far
    return torch.where(far < 1, near, -((2 - far).clamp(min=0) ** 2) / 2) * distance.sign()
