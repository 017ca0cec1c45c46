"""Moving slices by fractions of a voxel with cubic B-splines.

A shift is the same for a whole slice, so the interpolation of a slice is two small matrices, one
for its rows and one for its columns, and a stack of slices with a shift each is one batched
product. Where the shift changes along the slice, as distortion does, each line is read at places of
its own. The spline passes through the voxel values (prefilter included) and mirrors at the edge;
beyond the outermost voxel centre the value there is repeated.

>>> row = torch.tensor([[0.0, 1.0, 4.0, 9.0]])
>>> sample_moved(row, torch.tensor([0.0, 1.0])).round(decimals=3)
tensor([[1., 4., 9., 9.]])
"""

from __future__ import annotations

import math
from functools import cache

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
    along_p, along_q = (_spline_basis(slices, axis, shift_voxels) for axis in (-2, -1))
    return along_p @ _coefficients(slices) @ along_q.mT


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
    (along_p, slope_p), (along_q, slope_q) = (
        [_spline_basis(slices, axis, shift_voxels, slope=slope) for slope in (False, True)]
        for axis in (-2, -1)
    )
    coefficients = _coefficients(slices)
    columns_moved = coefficients @ along_q.mT
    return along_p @ columns_moved, slope_p @ columns_moved, along_p @ (coefficients @ slope_q.mT)


def sample_lines(slices: Tensor, places: Tensor) -> Tensor:
    """Read the lines of each slice, which run along q, at any places.

    Parameters
    ----------
    slices : (..., p, q) float tensor
    places : (..., p, r) float tensor, in voxels from the first of a line; the leading axes are
        those of ``slices``

    Returns
    -------
    (..., p, r) float tensor, of the type of ``slices``

    Examples
    --------
    >>> sample_lines(torch.tensor([[0.0, 1.0, 4.0, 9.0]]), torch.tensor([[3.0, 1.0, 7.0]])).round()
    tensor([[9., 1., 9.]])
    """
    n = slices.shape[-1]
    coefficients = slices @ _prefilter(n).to(slices).mT
    mirrored = (n - 1 - (n - 1 - torch.arange(-1, n + 1).abs()).abs()).clamp(min=0)
    around = coefficients[..., mirrored]
    inside = places.to(slices).clamp(0, n - 1)
    first = inside.floor().clamp(max=max(n - 2, 0))
    beyond, index = inside - first, first.long()
    read = torch.zeros_like(inside)
    for step, weight in enumerate(_cubic_weights(beyond)):
        read += weight * around.gather(-1, index + step)
    return read


def sample_bent(slices: Tensor, shift_voxels: Tensor, bend_voxels: Tensor, axis: int) -> Tensor:
    """Read slices that are moved as a whole, and bent along one axis.

    Content that lies at ``x + shift + bend`` comes to lie at ``x``.

    Parameters
    ----------
    slices : (..., p, q) float tensor
    shift_voxels : (..., 2) float tensor, along p and q
    bend_voxels : (..., p, q) float tensor, along ``axis``
    axis : 0 (p) or 1 (q)

    Returns
    -------
    (..., p, q) float tensor, of the type of ``slices``
    """
    # Along the other axis a slice moves as a whole.
    moved = sample_moved(slices, shift_voxels.index_fill(-1, torch.tensor(axis), 0.0))
    lines, bend = (moved, bend_voxels) if axis == 1 else (moved.mT, bend_voxels.mT)
    places = torch.arange(lines.shape[-1]) + shift_voxels[..., axis, None, None] + bend
    read = sample_lines(lines, places)
    return read if axis == 1 else read.mT


def slope_per_voxel(values: Tensor, axis: int) -> Tensor:
    """Slope along an axis by differences of neighbours; 0 along an axis of one voxel."""
    if values.shape[axis] < 2:
        return torch.zeros_like(values)
    slope: Tensor = torch.gradient(values, dim=axis)[0]
    return slope


def _coefficients(slices: Tensor) -> Tensor:
    """Coefficients of the spline through (..., p, q) slices."""
    along_p, along_q = (_prefilter(size).to(slices) for size in slices.shape[-2:])
    return along_p @ slices @ along_q.mT


def _spline_basis(
    slices: Tensor, axis: int, shift_voxels: Tensor, *, slope: bool = False
) -> Tensor:
    """(..., n, n) weights from the coefficients along an axis to values, or slopes, where moved."""
    n = slices.shape[axis]
    index = torch.arange(n, dtype=slices.dtype)
    shift = shift_voxels[..., axis, None].to(slices)
    kernel = _cubic_slope if slope else _cubic
    # All rows show the same kernel, each one voxel further, but for those that would lie outside.
    basis = kernel(shift - torch.arange(1 - n, n, dtype=slices.dtype)).unfold(-1, n, 1).flip(-2)
    farthest = max(shift.abs().nan_to_num().flatten().tolist(), default=0.0)
    outside = min(math.ceil(farthest), n)
    place = (index + shift).clamp(0, n - 1)
    for rows in (slice(outside), slice(n - outside, n)):
        basis[..., rows, :] = kernel(place[..., rows, None] - index)
    basis[..., min(1, n - 1)] += kernel(place + 1)
    basis[..., max(n - 2, 0)] += kernel(place - n)
    return basis


@cache
def _prefilter(n: int) -> Tensor:
    """(n, n) matrix from samples to the coefficients of their mirrored cubic B-spline."""
    coefficients_to_samples = torch.eye(n, dtype=torch.float64) * (4 / 6)
    for row in range(n):
        for neighbour in (row - 1, row + 1):
            mirrored = (n - 1) - abs((n - 1) - abs(neighbour))
            coefficients_to_samples[row, max(mirrored, 0)] += 1 / 6
    inverse: Tensor = torch.linalg.inv(coefficients_to_samples)
    return inverse


def _cubic_weights(beyond: Tensor) -> list[Tensor]:
    """Cubic B-spline at the four voxels around places that lie a part of a voxel beyond one."""
    short = 1 - beyond
    outer = [short**3 / 6, beyond**3 / 6]
    inner = [2 / 3 - part * part * (1 - part / 2) for part in (beyond, short)]
    return [outer[0], *inner, outer[1]]


def _cubic(distance: Tensor) -> Tensor:
    """Cubic B-spline."""
    beyond_2 = (2 - distance.abs()).clamp(min=0)
    beyond_1 = (beyond_2 - 1).clamp(min=0)
    return (beyond_2 * beyond_2 * beyond_2 - 4 * beyond_1 * beyond_1 * beyond_1) / 6


def _cubic_slope(distance: Tensor) -> Tensor:
    """Slope of the cubic B-spline."""
    beyond_2 = (2 - distance.abs()).clamp(min=0)
    beyond_1 = (beyond_2 - 1).clamp(min=0)
    return (2 * beyond_1 * beyond_1 - beyond_2 * beyond_2 / 2) * distance.sign()
