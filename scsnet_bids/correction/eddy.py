"""Eddy currents: how each weighted volume is stretched and sheared along the phase-encode axis.

The displacement of the cord itself is found slice by slice, whatever its cause. What remains of
eddy currents are a scale and a shear about the cord, small ones: 2 % move the edge of the cord by
0.1 mm. So they are measured in a wide window, in all slices of a volume together, and believed
only as far as they follow the gradient: the field of an eddy current is proportional to the
gradient that drives it, whose strength is as the root of the b-value where the timing is the same.
So scale and shear are linear in that root times the direction, with three coefficients each for the
whole series. What does not follow the gradient (the neck that moves
against the cord, contrast, noise) has a part of its own beside it, which is not corrected. The
sizes of both are learned by maximum likelihood [zhou2019]; unless the series is far likelier with
a part that follows the gradient than without one, nothing is corrected.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.correction.displacement import Measurement
from scsnet_bids.correction.interpolation import sample_bent, sample_moved_with_slopes
from scsnet_bids.correction.slice_matching import (
    TINY,
    Match,
    inner_products,
    match_slices,
    without_first,
)
from scsnet_bids.correction.slice_patches import SlicePatches, cut_patches
from scsnet_bids.correction.slice_prediction import predict_slices, tensor_terms
from scsnet_bids.gradients import Gradients
from scsnet_bids.images import Grid

WINDOW_MM = 20.0
"""Neck around the cord tells twice as surely what scale and shear are as the cord alone."""
MARGIN_MM = 4.0
ROUNDS = 3
SETTLED = 5e-4
UPDATES = 40
FIRST_SIZE = 0.01
SMALLEST_SIZE, LARGEST_SIZE = 1e-5, 0.1
EVIDENCE = 8.0
"""Logarithm of how much likelier the series must be with eddy currents than without. Series without
any reached 4, also along the axis that has none; 0.5 mm at the edge of the image reach 26."""
FEWEST_VOLUMES = 10
"""Fewer volumes cannot tell what follows the gradient."""


@dataclass(frozen=True, eq=False)
class EddyTerms:
    """How eddy currents displace each volume along the phase-encode axis.

    What lies at a position of a slice is seen displaced toward larger indices of that axis by
    ``scale * a + shear * b``, where a and b are its distances from the centre of the slice along
    the phase-encode axis and along the other one.

    Attributes
    ----------
    scale, shear : (n,) float arrays, mm per mm
    centre_mm : (k, 2) positions (left, posterior) that stay where they are; a slice whose own is
        nan has the mean of the others
    """

    scale: FloatArray
    shear: FloatArray
    centre_mm: FloatArray

    def __post_init__(self) -> None:
        known = np.asarray(np.isfinite(self.centre_mm).all(axis=1))
        if not known.any():
            raise ValueError("At least one slice must have a centre.")
        filled = np.where(known[:, None], self.centre_mm, self.centre_mm[known].mean(axis=0))
        object.__setattr__(self, "centre_mm", filled)


def estimate_eddy(
    series: FloatArray,
    shift_mm: FloatArray,
    centre_mm: FloatArray,
    grid: Grid,
    gradients: Gradients,
    b0_mask: BoolArray,
    phase_axis: int,
) -> EddyTerms | None:
    """Estimate scale and shear of the weighted volumes.

    Parameters
    ----------
    series : (i, j, k, n) array in LPS order
    shift_mm : (n, k, 2) displacement of the cord, as the motion estimate has it
    centre_mm : (k, 2) cord centre (left, posterior) from the first voxel; nan where not known
    grid : of the series
    gradients : of the n volumes
    b0_mask : (n,) bool array, which volumes are b=0; they have no eddy currents
    phase_axis : inner axis along which the phase is encoded, 0 (left) or 1 (posterior)

    Returns
    -------
    EddyTerms, or None where the series does not show any
    """
    weighted = np.flatnonzero(~b0_mask)
    if len(weighted) < FEWEST_VOLUMES or not np.isfinite(centre_mm).all(axis=1).any():
        return None
    patches = cut_patches(series, centre_mm, grid, WINDOW_MM + MARGIN_MM).of_volumes(weighted)
    directions = gradients.select(weighted)
    shift = torch.from_numpy(shift_mm[weighted])
    terms = torch.zeros(len(weighted), 2, dtype=torch.float64)
    contrast, drive = tensor_terms(directions), _drive(directions)
    matches: list[Match | None] = [None] * len(patches.parts())
    for _ in range(ROUNDS):
        told = []
        for part, match in zip(patches.parts(), matches, strict=True):
            straight = _straightened(patches.of_slices(part), shift[:, part], terms, phase_axis)
            told.append(_measured(straight, terms, match, contrast, phase_axis))
        matches = [match for match, _ in told]
        of_slices = Measurement.joined([measured for _, measured in told], dim=1)
        found = _believed(of_slices, drive)
        if found is None:
            return None
        step, terms = found - terms, found
        if step.abs().max() < SETTLED:
            break
    every = np.zeros((2, len(b0_mask)))
    every[:, weighted] = terms.T.numpy()
    return EddyTerms(every[0], every[1], centre_mm)


def _straightened(
    patches: SlicePatches, shift_mm: Tensor, terms: Tensor, phase_axis: int
) -> SlicePatches:
    """Take motion and eddy terms out of patches."""
    shift = patches.in_voxels(-shift_mm).float()
    arms = _arms(patches, phase_axis).float()
    eddy_mm = torch.einsum("nt,tkpq->nkpq", terms.float(), arms)
    bend = eddy_mm / float(patches.spacing_mm[phase_axis])
    return replace(patches, intensity=sample_bent(patches.intensity, shift, bend, phase_axis))


def _arms(patches: SlicePatches, phase_axis: int) -> Tensor:
    """(2, k, p, q) distance from the centre along the phase-encode axis and across it, mm."""
    left = patches.left_mm[:, :, None].expand(patches.inside.shape)
    posterior = patches.posterior_mm[:, None, :].expand(patches.inside.shape)
    arms = (posterior, left) if phase_axis == 1 else (left, posterior)
    return torch.stack(arms).double()


def _measured(
    straight: SlicePatches, terms: Tensor, match: Match | None, contrast: Tensor, phase_axis: int
) -> tuple[Match, Measurement]:
    """Measure the terms of every volume in each slice, against what the other volumes predict."""
    still = torch.zeros(*straight.usable.shape, 2, dtype=torch.float64)
    reference = predict_slices(straight, still, match, contrast, WINDOW_MM)
    match = match_slices(straight, reference, still, WINDOW_MM)
    window = straight.window(still[:1], WINDOW_MM)
    value, *slopes = sample_moved_with_slopes(reference.intensity, still[:1])
    slopes = [slope / mm for slope, mm in zip(slopes, straight.spacing_mm.tolist(), strict=False)]
    modes = [slopes[phase_axis] * arm for arm in _arms(straight, phase_axis).float()]
    residual = straight.intensity - match.gain[..., None, None] * value
    images = [torch.ones_like(value), value, *slopes, *modes, residual]
    apart = without_first(inner_products(images, window), len(images) - 3)
    gain, noise = match.gain.double(), match.noise_variance.double()
    counts = straight.usable & (match.measurement.information.diagonal(dim1=2, dim2=3) > 0).all(-1)
    information = apart[..., :2, :2] * (counts * gain**2 / noise)[..., None, None]
    pull = -apart[..., :2, 2] * (counts * gain / noise)[..., None]
    return match, Measurement(information, (information @ terms[:, None, :, None])[..., 0] + pull)


def _drive(gradients: Gradients) -> Tensor:
    """(n, 3) gradient of each volume, in units of the strongest; on average none."""
    drive = torch.tensor(np.sqrt(gradients.bvals)[:, None] * gradients.bvecs)
    drive = drive / drive.norm(dim=-1).amax().clamp(min=TINY)
    apart: Tensor = drive - drive.mean(dim=0)
    return apart


def _believed(of_slices: Measurement, drive: Tensor) -> Tensor | None:
    """(n, 2) scale and shear that follow the gradient, None where there is no evidence of any."""
    measurement = Measurement(of_slices.information.sum(dim=1), of_slices.weighted_mm.sum(dim=1))
    driven = _learned(measurement, drive, FIRST_SIZE)
    not_driven = _learned(measurement, drive, 0.0)
    if driven.log_likelihood - not_driven.log_likelihood < EVIDENCE:
        return None
    terms: Tensor = drive @ driven.coefficients.T
    return terms


@dataclass(frozen=True)
class _Posterior:
    """What measurements say for given sizes of both parts.

    The part of a volume alone is taken up into its noise; the six coefficients of the part that
    follows the gradient remain, so that the cost grows with the number of volumes only.

    Attributes
    ----------
    coefficients : (2, 3) float64 tensor, of scale and shear on the gradient
    log_likelihood : up to a constant
    found, expected : (2, 2) float64 tensors, power of the pull on each part, and its expectation
    """

    coefficients: Tensor
    log_likelihood: float
    found: Tensor
    expected: Tensor


def _learned(measurement: Measurement, drive: Tensor, first_size: float) -> _Posterior:
    """Learn the sizes of both parts; without a first size nothing follows the gradient."""
    sizes = torch.tensor([[first_size] * 2, [FIRST_SIZE] * 2], dtype=torch.float64)
    variance = sizes**2
    for _ in range(UPDATES):
        posterior = _weighed(measurement, drive, variance)
        ratio = ((posterior.found + TINY) / (posterior.expected + TINY)).sqrt()
        learned = (variance * ratio).clamp(SMALLEST_SIZE**2, LARGEST_SIZE**2)
        variance = torch.where(variance > 0, learned, 0.0)
    return _weighed(measurement, drive, variance)


def _weighed(measurement: Measurement, drive: Tensor, variance: Tensor) -> _Posterior:
    """Weigh the measurements against (part, term) variances: following the gradient, and alone."""
    information, weighted = measurement.information, measurement.weighted_mm
    with_rest = torch.eye(2, dtype=torch.float64) + information * variance[1]
    freed = torch.linalg.inv(with_rest)
    strength = freed @ information  # (n, 2, 2) information when volumes are free
    seen = (freed @ weighted[..., None])[..., 0]
    normal = torch.einsum("nab,ni,nj->aibj", strength, drive, drive).reshape(6, 6)
    right = torch.einsum("na,ni->ai", seen, drive).reshape(6)
    prior = variance[0].repeat_interleave(3)
    shrunk = torch.linalg.inv(torch.eye(6, dtype=torch.float64) + normal * prior)
    pull_on_drive = shrunk @ right
    coefficients = prior * pull_on_drive
    along = torch.einsum("nab,ni->nabi", strength, drive).flatten(2)  # (n, 2, 6)
    pull = seen - along @ coefficients
    spread = torch.einsum("nau,uv,nav->a", along, prior[:, None] * shrunk, along)
    on_axes = (shrunk @ normal).diagonal().reshape(2, 3).sum(dim=1)
    rest = (weighted * variance[1] * seen).sum()
    volume = torch.logdet(with_rest).sum() + torch.linalg.slogdet(shrunk).logabsdet.neg()
    return _Posterior(
        coefficients.reshape(2, 3),
        float(rest + right @ coefficients - volume) / 2,
        torch.stack([(pull_on_drive**2).reshape(2, 3).sum(dim=1), (pull**2).sum(dim=0)]),
        torch.stack([on_axes, strength.diagonal(dim1=1, dim2=2).sum(dim=0) - spread]),
    )
