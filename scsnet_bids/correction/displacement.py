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

import torch
from torch import Tensor

SMOOTH_LENGTH_MM = 15.0
"""Displacements of the smooth part are alike over this distance along z."""
TAIL_DEGREES = 0.8
"""Degrees of freedom of the slices' own part: the fewer, the more readily a slice may jump."""
SMALLEST_MM, LARGEST_MM = 1e-4, 3.0
"""Bounds of the size of each part."""
NEGLIGIBLE = 1e-12


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

    def whitened(self) -> tuple[Tensor, Tensor]:
        """Return (n, 2k, 2k) roots of the information and (n, 2k, 1) measurements of unit noise."""
        n, k = self.weighted_mm.shape[:2]
        strength, axes = torch.linalg.eigh(self.information)
        root = strength.clamp(min=0).sqrt()
        seen = root > 1e-6
        along_axes = (axes.mT @ self.weighted_mm[..., None])[..., 0]
        measured = torch.where(seen, along_axes / root.clamp(min=1e-6), 0.0)
        whole = torch.zeros(n, k, 2, k, 2, dtype=torch.float64)
        slices = torch.arange(k)
        whole[:, slices, :, slices, :] = (axes * (root * seen)[..., None, :]).transpose(0, 1)
        return whole.reshape(n, 2 * k, 2 * k), measured.reshape(n, 2 * k, 1)


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

    def covariance(self, z_mm: Tensor) -> Tensor:
        """Return the (n, 2k, 2k) covariance of the displacements of each volume, mm2."""
        parts = _unit_covariances(z_mm, self.looseness)
        return torch.einsum("pa,panij->nij", self.variance_mm2, parts)


def believed_displacement(
    measurement: Measurement, prior: DisplacementPrior
) -> tuple[Tensor, Tensor]:
    """Combine what slices measured with a prior.

    Parameters
    ----------
    measurement : of n volumes
    prior : of the same volumes

    Returns
    -------
    mean : (n, k, 2) float64 tensor, mm
    deviation : (n, k, 2) float64 tensor, standard deviation to expect, mm
    """
    covariance = prior.covariance(measurement.z_mm)
    pull, stiffness = _pull_and_stiffness(measurement.whitened(), covariance)
    mean = (covariance @ pull).reshape(measurement.weighted_mm.shape)
    remaining = (covariance - covariance @ stiffness @ covariance).diagonal(dim1=1, dim2=2)
    return mean, remaining.clamp(min=0).sqrt().reshape(mean.shape)


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
    whitened = measurement.whitened()
    for _ in range(rounds):
        parts = _unit_covariances(measurement.z_mm, prior.looseness)
        covariance = torch.einsum("pa,panij->nij", prior.variance_mm2, parts)
        pull, stiffness = _pull_and_stiffness(whitened, covariance)
        found = torch.einsum("ni,panij,nj->pa", pull[..., 0], parts, pull[..., 0])
        expected = torch.einsum("nij,panij->pa", stiffness, parts)
        ratio = ((found + NEGLIGIBLE) / (expected + NEGLIGIBLE)).sqrt()
        variance = (prior.variance_mm2 * ratio).clamp(SMALLEST_MM**2, LARGEST_MM**2)
        stiffness_of_slices = stiffness.diagonal(dim1=1, dim2=2)
        looseness = _looseness(prior.looseness, variance[2], pull[..., 0], stiffness_of_slices)
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


def _looseness(looseness: Tensor, variance_mm2: Tensor, pull: Tensor, stiffness: Tensor) -> Tensor:
    """Update the looseness of each slice from the posterior of its own part."""
    own_variance = looseness[..., None] * variance_mm2  # (n, k, 2)
    mean = own_variance * pull.reshape(own_variance.shape)
    remaining = own_variance - own_variance**2 * stiffness.reshape(own_variance.shape)
    return looseness_of((mean**2 + remaining).clamp(min=0).sqrt(), variance_mm2.sqrt())


def _pull_and_stiffness(
    whitened: tuple[Tensor, Tensor], covariance: Tensor
) -> tuple[Tensor, Tensor]:
    """Inverse covariance of the measurements, times them (n, 2k, 1) and alone (n, 2k, 2k).

    Written so that neither the information nor the prior needs an inverse.
    """
    root, measured = whitened
    marginal = torch.eye(root.shape[-1], dtype=torch.float64) + root.mT @ covariance @ root
    solved = torch.linalg.solve(marginal, torch.cat([measured, root.mT], dim=-1))
    weighted = root @ solved
    return weighted[..., :1], weighted[..., 1:]


def _unit_covariances(z_mm: Tensor, looseness: Tensor) -> Tensor:
    """(3, 2, n, 2k, 2k) covariance of each part along each axis for a variance of 1 mm2."""
    n, k = looseness.shape
    distance_mm = (z_mm[:, None] - z_mm).abs()
    shared = torch.stack([torch.ones_like(distance_mm), (-distance_mm / SMOOTH_LENGTH_MM).exp()])
    along_z = torch.cat([shared[:, None].expand(2, n, k, k), torch.diag_embed(looseness)[None]])
    axes = torch.diag_embed(torch.eye(2, dtype=torch.float64))  # (axis, 2, 2)
    parts = torch.einsum("pnkl,abc->pankblc", along_z, axes)
    return parts.reshape(3, 2, n, 2 * k, 2 * k)
