"""What each slice should look like if it had not moved, told by the other volumes.

The plain prediction is the mean of all others. Diffusion makes the columns of the cord brighter in
some directions than in others, and where one side brightens the mean would read motion. So
weighted slices are predicted by a ridge regression on the terms of the tensor, linear in b times
the direction's products, voxel by voxel. How strong the ridge must be is decided in every slice by
how well volumes that are left out are predicted: with much noise little is left of the terms, and
the prediction is the mean.

Leaving a volume out of a ridge regression needs no second fit [allen1974].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from scsnet_bids.correction.interpolation import sample_moved
from scsnet_bids.correction.slice_matching import TINY, Match, Reference, match_slices
from scsnet_bids.correction.slice_patches import REFERENCE_SMOOTHING_VOXELS, SlicePatches, smooth
from scsnet_bids.gradients import Gradients

STRENGTHS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Variances tried for the tensor's terms, relative to that of the noise."""
MEAN_STRENGTH = 100.0
FEWEST_VOLUMES = 10
"""Fewer volumes tell nothing about the six terms beside their mean."""
LEAST_GAIN = 0.01


class _Fit(NamedTuple):
    """Ridge regression: (k, n, terms) by sums of values, and (k, n) share of a value's own."""

    on_sums: Tensor
    own: Tensor


class _Products(NamedTuple):
    """Inner products over the window, of sums and of values, with a first axis of k slices."""

    among: Tensor
    with_values: Tensor
    of_values: Tensor


def tensor_terms(gradients: Gradients) -> Tensor:
    """Write the terms with which diffusion contrast changes between volumes.

    Parameters
    ----------
    gradients : of n volumes

    Returns
    -------
    (n, 6) float64 tensor, without unit: five anisotropic terms, whose products are the second
    Legendre polynomial of the angle between directions, and the b-value
    """
    b = torch.tensor(gradients.bvals)
    b = b / b.mean().clamp(min=TINY)
    x, y, z = torch.tensor(gradients.bvecs).T
    mixed = [math.sqrt(3) * product for product in (x * y, x * z, y * z)]
    square = [math.sqrt(3) / 2 * (x**2 - y**2), z**2 - (x**2 + y**2) / 2]
    return torch.stack([*(b * term for term in mixed + square), b - 1], dim=-1)


def predict_slices(
    patches: SlicePatches,
    shift_mm: Tensor,
    match: Match | None,
    terms: Tensor | None,
    radius_mm: float,
) -> Reference:
    """Predict every slice at rest from the other volumes, each weighted by its signal.

    A slice that lost its signal has no gain and pulls nothing; nor does a noisy one.

    Parameters
    ----------
    patches : of n volumes
    shift_mm : (n, k, 2) displacements
    match : gains, offsets and noise found before, if any
    terms : (n, 6) of the tensor, or None where the volumes have one contrast
    radius_mm : radius of the window around the cord

    Returns
    -------
    Reference
    """
    gain, offset, precision = _weights(patches, match)
    without_offset = patches.intensity - offset[..., None, None]
    moved = sample_moved(without_offset, -patches.in_voxels(shift_mm))
    weighted = (gain * precision)[..., None, None] * moved
    weight = gain**2 * precision
    total, total_weight = weighted.sum(dim=0), weight.sum(dim=0)
    others = (total_weight - weight).clamp(min=TINY)
    predicted = (total - weighted) / others[..., None, None]
    noise = 1 / others
    if match is not None and terms is not None and len(terms) >= FEWEST_VOLUMES:
        mean = total / total_weight.clamp(min=TINY)[..., None, None]
        window = patches.window(torch.zeros(1, shift_mm.shape[1], 2), radius_mm)[0]
        scaled = moved / gain.clamp(min=LEAST_GAIN)[..., None, None] - mean
        seen = (gain > LEAST_GAIN)[..., None, None]
        contrast, noise = _contrast(scaled * seen, weight, terms, window)
        predicted = predicted + contrast
    steepness = noise * _usual_steepness(patches, match)
    return Reference(smooth(predicted, REFERENCE_SMOOTHING_VOXELS), steepness)


def match_with_others(
    patches: SlicePatches,
    shift_mm: Tensor,
    matches: Sequence[Match | None],
    terms: Tensor | None,
    radius_mm: float,
) -> list[Match]:
    """Match every slice with what the other volumes predict, part by part of the patches.

    Parameters
    ----------
    patches, shift_mm, terms, radius_mm : as of :func:`predict_slices`
    matches : of each of ``patches.parts()``, found before, if any

    Returns
    -------
    matches of each part
    """
    found = []
    for part, match in zip(patches.parts(), matches, strict=True):
        some, moved_mm = patches.of_slices(part), shift_mm[:, part]
        reference = predict_slices(some, moved_mm, match, terms, radius_mm)
        found.append(match_slices(some, reference, moved_mm, radius_mm))
    return found


def _contrast(
    images: Tensor, weight: Tensor, terms: Tensor, window: Tensor
) -> tuple[Tensor, Tensor]:
    """Find what the tensor's terms add to the prediction from the others' mean.

    Also the variance of the sum's noise where a volume of weight 1 has 1: (n, k, p, q) and (n, k).
    """
    n, k, *size = images.shape
    pixels = images.transpose(0, 1).reshape(k, n, -1)
    usual = weight.median(dim=0).values.clamp(min=TINY)
    precision = (weight / usual).T.clamp(TINY, 1.0).double()
    design = torch.cat([terms, torch.ones(n, 1, dtype=torch.float64)], dim=1)  # (n, terms)
    weighted = (precision[..., None] * design).mT  # (k, terms, n)
    sums = weighted.float() @ pixels  # (k, terms, pixels), all that a fit of any strength needs
    inside = sums * window.reshape(k, 1, -1)
    products = _Products(
        (inside @ sums.mT).double(),
        (inside @ pixels.mT).double(),
        ((pixels * window.reshape(k, 1, -1)) * pixels).sum(dim=-1).double(),
    )
    fits = [_Fit(*_ridge(weighted @ design, design, precision, one)) for one in STRENGTHS]
    errors = torch.stack([_error_left_out(fit, products, precision) for fit in fits])
    chosen = errors.argmin(dim=0), torch.arange(k)
    on_sums, own = (torch.stack(parts)[chosen] for parts in zip(*fits, strict=True))
    plain = fits[0]
    on_sums, plain_on_sums = (f / (1 - o)[..., None] for f, o in ((on_sums, own), plain))
    of_own = (plain.own / (1 - plain.own) - own / (1 - own)).float()
    added = (on_sums - plain_on_sums).float() @ sums + of_own[..., None] * pixels
    noise = (own / ((1 - own) * precision)).T.float() / usual
    return added.transpose(0, 1).reshape(n, k, *size), noise


def _ridge(
    normal: Tensor, design: Tensor, precision: Tensor, strength: float
) -> tuple[Tensor, Tensor]:
    """(k, n, terms) fitted values by the sums of weighted values, (k, n) share of a value's own."""
    scales = torch.full((design.shape[1],), strength, dtype=torch.float64)
    scales[-1] = MEAN_STRENGTH
    root = scales.sqrt()
    regular = torch.eye(len(scales), dtype=torch.float64) + root[:, None] * normal * root
    on_sums = (design * root) @ torch.linalg.inv(regular) * root
    own = precision * (on_sums * design).sum(dim=-1)
    return on_sums, own.clamp(max=1 - 1e-6)


def _error_left_out(fit: _Fit, products: _Products, precision: Tensor) -> Tensor:
    """(k,) squared error of volumes that are left out, over the window, in noise."""
    crossed = (fit.on_sums * products.with_values.mT).sum(dim=-1)
    square = ((fit.on_sums @ products.among) * fit.on_sums).sum(dim=-1)
    residual = products.of_values - 2 * crossed + square
    return (precision * residual / (1 - fit.own) ** 2).sum(dim=-1)


def _usual_steepness(patches: SlicePatches, match: Match | None) -> Tensor:
    """(k,) steepness of the noise of a volume of weight 1; 0 where it is not known yet."""
    if match is None:
        return torch.zeros(patches.usable.shape[1])
    usual = 1 / (1 / match.noise_variance).median()
    return usual * (match.steepness / match.noise_variance).median(dim=0).values


def _weights(patches: SlicePatches, match: Match | None) -> tuple[Tensor, Tensor, Tensor]:
    """Gain of each slice, relative to the mean of its volumes, its offset and its precision."""
    if match is None:
        usable = patches.usable.float()
        return usable, torch.zeros_like(usable), usable
    precision = 1 / match.noise_variance
    gain = match.gain / match.gain.mean(dim=0).clamp(min=TINY)
    return gain, match.offset, precision / precision.median()
