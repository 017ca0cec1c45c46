"""Linear equations of slices of which each knows its neighbours in z alone.

A displacement that varies along z as smooth as an exponential covariance allows depends, given the
two neighbours of a slice, on nothing else: the inverse of that covariance has entries between
neighbours only. So what all slices say together is found by going through them up and down once,
and the cost grows with their number. A slice has two unknowns, along left and posterior.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ChainPrecision(NamedTuple):
    """Inverse covariance of a chain; zero where it has no entry.

    Attributes
    ----------
    diagonal : (k, 2) float64 tensor
    beside : (k - 1, 2) float64 tensor, between a slice and the next one
    """

    diagonal: Tensor
    beside: Tensor


class ChainSolution(NamedTuple):
    """Solution of the equations of n chains.

    Attributes
    ----------
    solved : (n, k, 2, m) float64 tensor
    inverse : (n, k, 2, 2) blocks on the diagonal of the inverse matrix
    inverse_beside : (n, k - 1, 2, 2) its blocks between a slice and the next one
    """

    solved: Tensor
    inverse: Tensor
    inverse_beside: Tensor


def chain_precision(z_mm: Tensor, length_mm: float, variance_mm2: Tensor) -> ChainPrecision:
    """Invert the covariance ``variance * exp(-distance / length)``.

    Parameters
    ----------
    z_mm : (k,) float64 tensor, rising
    length_mm : over which slices are alike
    variance_mm2 : (2,) float64 tensor, above 0

    Returns
    -------
    ChainPrecision

    >>> z_mm = torch.tensor([0.0, 5.0, 12.0], dtype=torch.float64)
    >>> diagonal, beside = chain_precision(z_mm, 15.0, torch.ones(2, dtype=torch.float64))
    >>> covariance = (-(z_mm[:, None] - z_mm).abs() / 15).exp()
    >>> (covariance.inverse().diagonal() - diagonal[:, 0]).abs().max() < 1e-9
    tensor(True)
    """
    alike = (-(z_mm.diff()) / length_mm).exp()
    news = 1 - alike**2
    diagonal = torch.ones_like(z_mm)
    diagonal[:-1] += alike**2 / news
    diagonal[1:] += alike**2 / news
    return ChainPrecision(diagonal[:, None] / variance_mm2, -(alike / news)[:, None] / variance_mm2)


def solve_chain(diagonal: Tensor, beside: Tensor, right: Tensor) -> ChainSolution:
    """Solve symmetric equations whose blocks couple neighbours only.

    Parameters
    ----------
    diagonal : (n, k, 2, 2) float64 tensor, blocks of single slices
    beside : (k - 1, 2) float64 tensor, diagonals of the blocks between neighbours
    right : (n, k, 2, m) float64 tensor

    Returns
    -------
    ChainSolution
    """
    inverse: list[Tensor] = []
    reduced: list[Tensor] = []
    for j in range(diagonal.shape[1]):
        block, side = diagonal[:, j], right[:, j]
        if j:
            down = beside[j - 1, :, None]
            block, side = block - down * inverse[-1] * down.mT, side - down * reduced[-1]
        inverse.append(invert_pairs(block))
        reduced.append(inverse[-1] @ side)
    solved, blocks, between = [reduced[-1]], [inverse[-1]], []
    for j in reversed(range(len(beside))):
        up = inverse[j] * beside[j]
        between.append(-up @ blocks[-1])
        solved.append(reduced[j] - up @ solved[-1])
        blocks.append(inverse[j] - between[-1] @ up.mT)
    none = torch.zeros_like(diagonal[:, :0])
    return ChainSolution(
        torch.stack(solved[::-1], dim=1),
        torch.stack(blocks[::-1], dim=1),
        torch.stack(between[::-1], dim=1) if between else none,
    )


def invert_pairs(matrix: Tensor) -> Tensor:
    """Invert (..., 2, 2) matrices.

    >>> invert_pairs(torch.tensor([[2.0, 0.0], [1.0, 4.0]]))
    tensor([[ 0.5000, -0.0000],
            [-0.1250,  0.2500]])
    """
    adjugate = matrix.flip(-1, -2).mT * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).to(matrix)
    determinant = (matrix[..., 0, :] * adjugate[..., :, 0]).sum(dim=-1)
    return adjugate / determinant[..., None, None]
