"""Combine noisy displacements of single slices into one estimate, by what slices share.

A slice measures its own displacement with an information matrix (the inverse of the covariance of
its error); a slice without signal measures nothing. What all slices say together is the posterior
of a Gaussian prior, which splits a displacement into parts that the slices of a volume share and a
part of the slice alone. Still series are then not made noisier, and a slice that shows nothing
takes the displacement that the others tell of it.

What slices share is a sum of waves along them. The slowest one is common to the volume, slow ones
vary smoothly along z; and as slices are acquired one after the other, a cord that swings with the
heart swings along the slices as well, whatever their order.

How large each part is, along each axis, is learned from the series itself by maximum likelihood,
with the updates of zhou2019 (they need no step size and never leave the positive numbers). A
single slice may jump: how likely it did is told by how far it lies from where the others expect it,
and the more likely, the less the others hold it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

LONGEST_STRETCH = 24
"""Slices that share their waves at most; more are cut into stretches of about equal length."""
JUMP_MM, JUMP_SHARE = 1.5, 0.01
"""Size of the jump of a single slice along each axis, and how many slices jump."""
SMALLEST_MM, LARGEST_MM = 1e-4, 3.0
"""Bounds of the size of each part."""
MODERATE_MM = 0.2
"""Size of the part common to a volume, of all waves, and of the slices' own part, before any is
learned."""
NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class Measurement:
    """What the slices of n volumes say about their displacements.

    Attributes
    ----------
    information : (n, k, 2, 2) float64 tensor, mm^-2; zero where a slice says nothing
    weighted_mm : (n, k, 2) float64 tensor, mm^-1: information times the displacement measured
    """

    information: Tensor
    weighted_mm: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Measurement], dim: int) -> Measurement:
        """Put measurements of some volumes (0) or some slices (1) together."""
        information = torch.cat([part.information for part in parts], dim)
        return cls(information, torch.cat([part.weighted_mm for part in parts], dim))


@dataclass(frozen=True)
class DisplacementPrior:
    """How large displacements are, and how slices share them.

    Attributes
    ----------
    kernels : (m, l, l) float64 tensor, correlation of the slices in each part that they share;
        slices beyond the first l share nothing with these, and are alike among themselves
    variance_mm2 : (m + 1, 2) float64 tensor: of the shared parts, and of the part of a slice
        alone; along left and posterior
    scale : (kinds, 2) float64 tensor, by which all variances of a kind of volumes differ from
        those of the last kind
    kind : (n,) int64 tensor, of each volume
    alone_mm2 : (n, k, 2) float64 tensor, variance of a slice's own part, a jump included if it
        is likely
    """

    kernels: Tensor
    variance_mm2: Tensor
    scale: Tensor
    kind: Tensor
    alone_mm2: Tensor


def wave_kernels(slices: int) -> Tensor:
    """Correlate slices that share a wave of unknown phase, from none to the fastest.

    Parameters
    ----------
    slices : of the series

    Returns
    -------
    (m, l, l) float64 tensor, for stretches of l slices

    >>> wave_kernels(3)[:, 0]
    tensor([[ 1.0000,  1.0000,  1.0000],
            [ 1.0000,  0.5000, -0.5000],
            [ 1.0000, -0.5000, -0.5000],
            [ 1.0000, -1.0000,  1.0000]], dtype=torch.float64)
    """
    length = math.ceil(slices / math.ceil(slices / LONGEST_STRETCH))
    place = torch.arange(length, dtype=torch.float64)
    half_turns = torch.arange(length + 1, dtype=torch.float64) / length
    return (math.pi * half_turns[:, None, None] * (place[:, None] - place)).cos()


def moderate_prior(kind: Tensor, slices: int) -> DisplacementPrior:
    """Expect moderate motion of every kind: where learning starts.

    Parameters
    ----------
    kind : (n,) int64 tensor, kind of each volume
    slices : of the series

    Returns
    -------
    DisplacementPrior
    """
    kernels = wave_kernels(slices)
    variance_mm2 = torch.full((len(kernels) + 1, 2), MODERATE_MM**2, dtype=torch.float64)
    variance_mm2[1:-1] /= len(kernels) - 1
    scale = torch.ones(int(kind.max()) + 1, 2, dtype=torch.float64)
    alone_mm2 = variance_mm2[-1].expand(len(kind), slices, 2)
    return DisplacementPrior(kernels, variance_mm2, scale, kind, alone_mm2)


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
    n, k = prior.alone_mm2.shape[:2]
    cut, cut_prior = _in_stretches(measurement, prior)
    believed: Tensor = _weigh(cut, cut_prior).mean_mm.reshape(n, -1, 2)[:, :k]
    return believed


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
    n, k = prior.alone_mm2.shape[:2]
    cut, learned = _in_stretches(measurement, prior)
    jumped = torch.zeros_like(learned.alone_mm2[..., 0])
    for _ in range(rounds):
        learned, jumped = _updated(_weigh(cut, learned), learned, jumped)
    alone_mm2 = learned.alone_mm2.reshape(n, -1, 2)[:, :k]
    return replace(learned, kind=prior.kind, alone_mm2=alone_mm2)


@dataclass(frozen=True)
class _Posterior:
    """What measurements say for given sizes of the parts, and how well these agree with them.

    Attributes
    ----------
    mean_mm : (n, k, 2) of the displacements
    pull : (n, k, 2) inverse covariance of all measurements, prior included, times what they say
    stiffness : (n, k, 2) diagonal of that inverse
    found, expected : (n, m, 2) power of the pull on each shared part along each axis, and its
        expectation
    """

    mean_mm: Tensor
    pull: Tensor
    stiffness: Tensor
    found: Tensor
    expected: Tensor


def _in_stretches(
    measurement: Measurement, prior: DisplacementPrior
) -> tuple[Measurement, DisplacementPrior]:
    """Cut volumes into stretches as long as the kernels; what is missing at the end is silent."""
    n, k = prior.alone_mm2.shape[:2]
    length = prior.kernels.shape[-1]
    missing = -k % length
    information = functional.pad(measurement.information, (0, 0, 0, 0, 0, missing))
    weighted_mm = functional.pad(measurement.weighted_mm, (0, 0, 0, missing))
    alone_mm2 = functional.pad(prior.alone_mm2, (0, 0, 0, missing))
    cut = Measurement(information.reshape(-1, length, 2, 2), weighted_mm.reshape(-1, length, 2))
    alone_mm2 = alone_mm2.reshape(-1, length, 2)
    kind = prior.kind.repeat_interleave(len(alone_mm2) // n)
    return cut, replace(prior, kind=kind, alone_mm2=alone_mm2)


def _updated(
    posterior: _Posterior, prior: DisplacementPrior, jumped: Tensor
) -> tuple[DisplacementPrior, Tensor]:
    """Update the sizes of all parts, and (n, k) how likely slices jumped."""
    stayed = 1 - jumped[..., None]
    found, expected = (
        torch.cat([of_waves, (stayed * of_slices).sum(dim=1, keepdim=True)], dim=1)
        for of_waves, of_slices in (
            (posterior.found, posterior.pull**2),
            (posterior.expected, posterior.stiffness),
        )
    )  # (n, m + 1, 2)
    by_volume = prior.scale[prior.kind]
    parts = (torch.einsum("nma,na->ma", power, by_volume) for power in (found, expected))
    variance = (prior.variance_mm2 * _growth(*parts)).clamp(SMALLEST_MM**2, LARGEST_MM**2)
    volumes = (
        torch.zeros_like(prior.scale).index_add(
            0, prior.kind, torch.einsum("nma,ma->na", power, prior.variance_mm2)
        )
        for power in (found, expected)
    )
    scale = prior.scale * _growth(*volumes)
    scale[-1] = 1.0
    learned = replace(prior, variance_mm2=variance, scale=scale)
    own_mm2 = variance[-1] * learned.scale[prior.kind][:, None]
    jumped, alone_mm2 = _jumps(posterior, prior.alone_mm2, own_mm2)
    return replace(learned, alone_mm2=alone_mm2), jumped


def _growth(found: Tensor, expected: Tensor) -> Tensor:
    """Factor by which variances grow whose pull was found, and is expected, this strong."""
    return ((found + NEGLIGIBLE) / (expected + NEGLIGIBLE)).sqrt()


def _jumps(posterior: _Posterior, alone_mm2: Tensor, own_mm2: Tensor) -> tuple[Tensor, Tensor]:
    """(n, k) probability that a slice jumped, and (n, k, 2) variance that holds it as loosely.

    Where the others expect a slice, and how surely, is told by the pull on it.
    """
    variance = 1 / posterior.stiffness.clamp(min=NEGLIGIBLE)
    square = (posterior.pull * variance) ** 2
    others = (variance - alone_mm2).clamp(min=NEGLIGIBLE)
    stays, jumps = others + own_mm2, others + JUMP_MM**2
    evidence = ((stays / jumps).log() + square / stays - square / jumps).sum(dim=-1) / 2
    jumped = (evidence + math.log(JUMP_SHARE / (1 - JUMP_SHARE))).sigmoid()
    followed = torch.lerp(own_mm2 / stays, JUMP_MM**2 / jumps, jumped[..., None])
    return jumped, others * followed / (1 - followed)


def _weigh(measurement: Measurement, prior: DisplacementPrior) -> _Posterior:
    """Weigh measurements against a prior; nothing needs the inverse of an information."""
    n, k = prior.alone_mm2.shape[:2]
    alike = torch.einsum("ma,mjk->ajk", prior.variance_mm2[:-1], prior.kernels)
    alike = prior.scale[prior.kind][..., None, None] * alike
    covariance = alike + torch.diag_embed(prior.alone_mm2.mT)  # (n, 2, k, k)
    information = measurement.information
    held = torch.einsum("njab,nbjk->najbk", information, covariance).reshape(n, 2 * k, 2 * k)
    free = torch.linalg.inv(held + torch.eye(2 * k, dtype=held.dtype)).reshape(n, 2, k, 2, k)
    pull = torch.einsum("najbk,nkb->naj", free, measurement.weighted_mm)
    inverse = torch.einsum("najck,nkca->najk", free, information)
    stiffness = inverse.diagonal(dim1=-2, dim2=-1)
    return _Posterior(
        torch.einsum("najk,nak->nja", covariance, pull),
        pull.mT,
        stiffness.mT,
        torch.einsum("naj,mjk,nak->nma", pull, prior.kernels, pull),
        torch.einsum("mjk,najk->nma", prior.kernels, inverse),
    )
