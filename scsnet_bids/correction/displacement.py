"""Displacements of many slices, each measured badly, believed together.

A slice measures its own displacement with an information matrix (the inverse of the covariance of
its error); a slice without signal measures nothing. What all slices say together is the posterior
of a Gaussian prior, which splits a displacement into a part that the slices of a volume share, a
part that varies smoothly along z, and a part of the slice alone. Still series are then not made
noisier, and a slice that shows nothing takes the displacement of its neighbours.

How large each part is, along each axis, is learned from the series itself by maximum likelihood,
with the updates of zhou2019 (they need no step size and never leave the positive numbers). The
part of the slice alone has the long tails of Student's t, so that a single slice may jump without
loosening all the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from scsnet_bids.correction.slice_chain import (
    ChainPrecision,
    ChainSolution,
    chain_precision,
    invert_pairs,
    solve_chain,
)

SMOOTH_LENGTH_MM = 15.0
"""Displacements of the smooth part are alike over this distance along z."""
TAIL_DEGREES = 0.8
"""Degrees of freedom of the slices' own part: the fewer, the more readily a slice may jump."""
SMALLEST_MM, LARGEST_MM = 1e-4, 3.0
"""Bounds of the size of each part."""
NEGLIGIBLE = 1e-12
ONE = torch.eye(2, dtype=torch.float64)


@dataclass(frozen=True)
class Measurement:
    """What the slices of n volumes say about their displacements.

    Attributes
    ----------
    information : (n, k, 2, 2) float64 tensor, mm^-2; zero where a slice says nothing
    weighted_mm : (n, k, 2) float64 tensor, mm^-1: information times the displacement measured
    z_mm : (k,) float64 tensor, positions of the slices
    """

    information: Tensor
    weighted_mm: Tensor
    z_mm: Tensor


@dataclass(frozen=True)
class DisplacementPrior:
    """How large displacements are.

    Attributes
    ----------
    variance_mm2 : (3, 2) float64 tensor: of the part common to a volume, of the part smooth along
        z, and of the part of a slice alone; along left and posterior
    looseness : (n, k) float64 tensor, variance of a slice's own part relative to ``variance_mm2``
    """

    variance_mm2: Tensor
    looseness: Tensor


def believed_displacement(measurement: Measurement, prior: DisplacementPrior) -> Tensor:
    """Combine what slices measured with a prior.

    Parameters
    ----------
    measurement : of n volumes
    prior : of the same volumes

    Returns
    -------
    (n, k, 2) float64 tensor, mm
    """
    return _weigh(measurement, prior).mean_mm


def learn_prior(
    measurement: Measurement, prior: DisplacementPrior, rounds: int
) -> DisplacementPrior:
    """Fit the sizes of the parts of a prior to what was measured.

    Parameters
    ----------
    measurement : of n volumes
    prior : where to start
    rounds : updates

    Returns
    -------
    DisplacementPrior
    """
    for _ in range(rounds):
        posterior = _weigh(measurement, prior)
        ratio = ((posterior.found + NEGLIGIBLE) / (posterior.expected + NEGLIGIBLE)).sqrt()
        variance = (prior.variance_mm2 * ratio).clamp(SMALLEST_MM**2, LARGEST_MM**2)
        looseness = _looseness(prior.looseness, variance[2], posterior)
        prior = DisplacementPrior(variance, looseness)
    return prior


def looseness_of(own_part_mm: Tensor, deviation_mm: Tensor) -> Tensor:
    """Loosen the prior of slices that moved far on their own (Student's t).

    Parameters
    ----------
    own_part_mm : (n, k, 2) root of the expected square of the slice's own displacement
    deviation_mm : (2,) size of the slices' own part along left and posterior

    Returns
    -------
    (n, k) float64 tensor
    """
    distance = ((own_part_mm / deviation_mm) ** 2).sum(dim=-1)
    return (TAIL_DEGREES + distance) / (TAIL_DEGREES + 2)


@dataclass(frozen=True)
class _Posterior:
    """What measurements say for given sizes of the parts, and how well these agree with them.

    Attributes
    ----------
    mean_mm : (n, k, 2) of the displacements
    pull : (n, k, 2) inverse covariance of all measurements, prior included, times what they say
    stiffness : (n, k, 2) diagonal of that inverse
    found, expected : (3, 2) power of the pull on each part along each axis, and its expectation
    """

    mean_mm: Tensor
    pull: Tensor
    stiffness: Tensor
    found: Tensor
    expected: Tensor


class _Common(NamedTuple):
    """Posterior of the part common to a volume: (n, 2), (n, 2, 2), and its inverse covariance."""

    mean_mm: Tensor
    covariance: Tensor
    stiffness: Tensor


def _looseness(looseness: Tensor, variance_mm2: Tensor, posterior: _Posterior) -> Tensor:
    """Update the looseness of each slice from the posterior of its own part."""
    own_variance = looseness[..., None] * variance_mm2  # (n, k, 2)
    mean = own_variance * posterior.pull
    remaining = own_variance - own_variance**2 * posterior.stiffness
    return looseness_of((mean**2 + remaining).clamp(min=0).sqrt(), variance_mm2.sqrt())


def _weigh(measurement: Measurement, prior: DisplacementPrior) -> _Posterior:
    """Weigh measurements against a prior, one part after the other.

    A slice's own part is taken up into its noise. The smooth part is then a chain along z for
    every common part, which is found last. Nothing needs the inverse of an information.
    """
    own_variance = prior.looseness[..., None] * prior.variance_mm2[2]  # (n, k, 2)
    held = invert_pairs(ONE + own_variance[..., None] * measurement.information)
    information = measurement.information @ held  # (n, k, 2, 2), the own part being noise
    weighted = _times(held.mT, measurement.weighted_mm)
    precision = chain_precision(measurement.z_mm, SMOOTH_LENGTH_MM, prior.variance_mm2[1])
    chain = solve_chain(
        information + torch.diag_embed(precision.diagonal),
        precision.beside,
        torch.cat([weighted[..., None], information], dim=-1),
    )
    smooth_mm, leaning = chain.solved[..., 0], chain.solved[..., 1:]
    left = weighted - _times(information, smooth_mm)
    common = _find_common(information @ (ONE - leaning), left, prior.variance_mm2[0])
    shared_mm = smooth_mm + _times(ONE - leaning, common.mean_mm[:, None])
    spread = _spread(chain.inverse, ONE - leaning, ONE - leaning, common)
    pull = weighted - _times(information, shared_mm)
    stiffness = _diagonal(information - information @ spread @ information)
    return _Posterior(
        _times(held, shared_mm + own_variance * measurement.weighted_mm),
        pull,
        stiffness,
        _found(pull, prior.looseness, measurement.z_mm),
        torch.stack(
            [
                _diagonal(common.stiffness).sum(dim=0),
                _expected_of_chain(chain, leaning, common, precision) / prior.variance_mm2[1],
                (prior.looseness[..., None] * stiffness).sum(dim=(0, 1)),
            ]
        ),
    )


def _find_common(told: Tensor, left: Tensor, variance_mm2: Tensor) -> _Common:
    """Find the part common to a volume from what slices (n, k, 2, 2) tell of it."""
    information = told.sum(dim=1)
    stiffness = information @ invert_pairs(ONE + variance_mm2[:, None] * information)
    covariance = torch.diag(variance_mm2) - variance_mm2[:, None] * stiffness * variance_mm2
    return _Common(_times(covariance, left.sum(dim=1)), covariance, stiffness)


def _spread(inverse: Tensor, first: Tensor, second: Tensor, common: _Common) -> Tensor:
    """Covariance of a chain that follows the common part, (n, k, 2, 2) or between neighbours."""
    return inverse + first @ common.covariance[:, None] @ second.mT


def _found(pull: Tensor, looseness: Tensor, z_mm: Tensor) -> Tensor:
    """(3, 2) power of the pull on each part."""
    alike = (-(z_mm[:, None] - z_mm).abs() / SMOOTH_LENGTH_MM).exp()
    common = pull.sum(dim=1).square().sum(dim=0)
    smooth = torch.einsum("nia,ij,nja->a", pull, alike, pull)
    return torch.stack([common, smooth, (looseness[..., None] * pull**2).sum(dim=(0, 1))])


def _expected_of_chain(
    chain: ChainSolution, leaning: Tensor, common: _Common, precision: ChainPrecision
) -> Tensor:
    """(2,) by how much measurements tell the smooth part, of all that it may be."""
    spread = _diagonal(_spread(chain.inverse, leaning, leaning, common))
    beside = _spread(chain.inverse_beside, leaning[:, :-1], leaning[:, 1:], common)
    left = (spread * precision.diagonal).sum(dim=(0, 1))
    left = left + 2 * (_diagonal(beside) * precision.beside).sum(dim=(0, 1))
    return (spread[..., 0].numel() - left).clamp(min=0)


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Product of (..., 2, 2) matrices with (..., 2) vectors."""
    return (matrix @ vector[..., None])[..., 0]


def _diagonal(matrix: Tensor) -> Tensor:
    """(..., 2) diagonals of (..., 2, 2) matrices."""
    return matrix.diagonal(dim1=-2, dim2=-1)
