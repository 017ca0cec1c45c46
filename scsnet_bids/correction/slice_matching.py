"""How far each slice of each volume lies from a reference, and how surely that is known.

Each slice is left as it is, and the reference is moved to it: the noise of a slice then stays
white, and no position gains by the smoothing that interpolation brings. Gain and offset are free
in every slice, so a weighted image may lose or gain signal as a whole. The residual of the best
match says how noisy the slice is, and with the slopes of the reference and the gain this gives the
information of the slice about its displacement. Slopes that are but noise of the reference do not
count. A slice that lost its signal has no gain, and so
no information. Where the residual has structure, as when fluid around the cord flashes in one
volume of b=0, its power at the scale of edges counts as the noise.

A displacement is what must be added to a position in the original slice to get the position in
the reference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from scsnet_bids.correction.displacement import Measurement
from scsnet_bids.correction.interpolation import sample_moved_with_slopes
from scsnet_bids.correction.slice_patches import (
    REFERENCE_SMOOTHING_VOXELS,
    SMOOTHING_VOXELS,
    SlicePatches,
    noise_left,
    smooth,
)

EDGE_VOXELS = 1.0
"""Scale of an edge: a residual that is alike over this width passes for a displacement."""
STRUCTURED = 2.0
"""Residuals with this much more power at the scale of edges than white noise have structure."""
FREE_PARAMETERS = 4
"""Gain, offset and displacement."""
SMALLEST_NOISE = 0.01
"""No slice is taken for less noisy than this part of its contrast."""
SEARCH_DEVIATION_MM = 2.0
"""Farther displacements are a little less likely in the search."""
NEIGHBOUR_MM = 4.0
"""Neighbours in z have a say in the search over this distance."""
LEAST_TRUE = 0.1
"""At least this part of the squares of slopes is taken for edges."""
TINY = 1e-9


class Reference(NamedTuple):
    """What slices are matched with.

    Attributes
    ----------
    intensity : (n, k, p, q) float32 tensor
    steepness : (n, k) float32 tensor, mean square of the slope per voxel that is noise; 0 where
        it is not known
    """

    intensity: Tensor
    steepness: Tensor


@dataclass(frozen=True)
class Match:
    """How slices match a reference near given displacements.

    Attributes
    ----------
    gain, offset : (n, k) float32 tensors, slice = gain * reference + offset
    noise_variance : (n, k) float32 tensor, of one voxel before smoothing, at the cord's edges
    steepness : (n, k) float32 tensor, mean square of the slope per voxel of what does not match,
        smoothed as a reference is
    measurement : what the slices say about their displacements
    """

    gain: Tensor
    offset: Tensor
    noise_variance: Tensor
    steepness: Tensor
    measurement: Measurement


def match_slices(
    patches: SlicePatches, reference: Reference, shift_mm: Tensor, radius_mm: float
) -> Match:
    """Match slices with their references near given displacements.

    Parameters
    ----------
    patches : of n volumes
    reference : of each slice
    shift_mm : (n, k, 2) float64 tensor
    radius_mm : radius of the window around the cord

    Returns
    -------
    Match
    """
    window = patches.window(shift_mm, radius_mm)
    model, *slopes = sample_moved_with_slopes(reference.intensity, patches.in_voxels(shift_mm))
    (model, intensity), (model_mean, intensity_mean) = _centred([model, patches.intensity], window)
    slopes = [slope / mm for slope, mm in zip(slopes, patches.spacing_mm.tolist(), strict=False)]
    images = [torch.ones_like(model), model, *slopes, intensity]
    products = inner_products(images, window)
    model_power, power = (products[..., m, m].float().clamp(min=TINY) for m in (1, 4))
    gain = products[..., 1, 4].float() / model_power
    apart = without_first(products, 2).float()
    curvature, slope = apart[..., :2, :2], apart[..., :2, 2]
    residual = intensity - gain[..., None, None] * model
    left = residual - _moved_by_best_step(curvature, slope, slopes)
    steep = window * (slopes[0] ** 2 + slopes[1] ** 2)
    noise = _noise_variance(window, steep, residual, left, power)
    curvature, slope = _without_noise(curvature, slope, _steep_noise(reference, window, patches))
    # The square of a gain is too large by its noise: a slice without signal must have none.
    square_gain = (gain**2 - noise / model_power).clamp(min=0) * (gain > 0) * patches.usable
    information = (curvature * (square_gain / noise)[..., None, None]).double()
    weighted_step = (slope * (square_gain / (noise * gain.clamp(min=TINY)))[..., None]).double()
    weighted_mm = (information @ shift_mm[..., None])[..., 0] + weighted_step
    return Match(
        gain.clamp(min=0) * patches.usable,
        intensity_mean - gain * model_mean,
        noise,
        _steepness(window, residual),
        Measurement(information, weighted_mm),
    )


def inner_products(images: list[Tensor], window: Tensor) -> Tensor:
    """Multiply images with each other over a window.

    Parameters
    ----------
    images : m float32 tensors of the shape (n, k, p, q)
    window : (n or 1, k, p, q) float32 tensor

    Returns
    -------
    (n, k, m, m) float64 tensor
    """
    products = []
    for k in range(window.shape[1]):  # one slice at a time, which saves memory
        pixels = torch.stack([image[:, k] for image in images], dim=1)
        weighted = pixels * window[:, k, None]
        products.append(weighted.flatten(2) @ pixels.flatten(2).mT)
    return torch.stack(products, dim=1).double()


def without_first(products: Tensor, count: int) -> Tensor:
    """Regress the first images out of the others.

    Parameters
    ----------
    products : (..., m, m) float64 tensor of inner products
    count : of the images to regress out

    Returns
    -------
    (..., m - count, m - count) inner products of what is left of the others
    """
    among, cross = products[..., :count, :count], products[..., :count, count:]
    ridge = torch.diag_embed(among.diagonal(dim1=-2, dim2=-1) * 1e-9 + TINY)
    left: Tensor = products[..., count:, count:] - cross.mT @ torch.linalg.solve(
        among + ridge, cross
    )
    return left


def search_displacements(
    patches: SlicePatches, reference: Tensor, radius_mm: float, max_shift_mm: float
) -> Tensor:
    """Find the best whole-voxel displacement of each slice, neighbours in z having a say.

    Parameters
    ----------
    patches : of n volumes
    reference : (n, k, p, q) float32 tensor
    radius_mm : radius of the window around the cord
    max_shift_mm : longest displacement tried

    Returns
    -------
    (n, k, 2) float64 tensor
    """
    z_mm = patches.heights_mm()
    window = patches.window(torch.zeros(1, len(z_mm), 2), radius_mm)
    voxels = _voxels_within(max_shift_mm, patches.spacing_mm[:2])
    evidence = _evidence(patches, reference, window, voxels)  # (n, k, candidates)
    nearness = (-(z_mm[:, None] - z_mm).abs() / NEIGHBOUR_MM).exp()
    pooled = torch.einsum("kl,nlc->nkc", nearness, evidence.double())
    candidates_mm = voxels * patches.spacing_mm[:2]
    unlikely = (candidates_mm**2).sum(dim=-1) / (2 * SEARCH_DEVIATION_MM**2)
    return candidates_mm[(pooled - unlikely).argmax(dim=-1)]


def _evidence(patches: SlicePatches, reference: Tensor, window: Tensor, voxels: Tensor) -> Tensor:
    """(n, k, candidates) logarithm of the likelihood of whole-voxel displacements."""
    (reference, moving), _ = _centred([reference, patches.intensity], window)
    pixels = window.sum(dim=(-1, -2))
    mean = _at_voxels(moving, window, voxels) / pixels.clamp(min=TINY)[..., None]
    power = _at_voxels(moving**2, window, voxels) - pixels[..., None] * mean**2
    power = power * _product(window, reference, reference)[..., None]
    along = _at_voxels(moving, window * reference, voxels)
    correlation = (along / power.clamp(min=TINY).sqrt()).clamp(0, 0.99)
    independent = pixels * noise_left(SMOOTHING_VOXELS) * patches.usable
    return -torch.log1p(-(correlation**2)) * (independent / 2)[..., None]


def _at_voxels(images: Tensor, weights: Tensor, voxels: Tensor) -> Tensor:
    """(n, k, candidates) sums of images with weights, after whole-voxel displacements.

    What leaves a patch comes in at the other side, where no window reaches.
    """
    n, k, p, q = images.shape
    reach_p, reach_q = voxels.abs().amax(dim=0).tolist()
    around = functional.pad(images, (reach_q, reach_q, reach_p, reach_p), mode="circular")
    sums = functional.conv2d(
        around.reshape(1, n * k, p + 2 * reach_p, q + 2 * reach_q),
        weights.expand(n, k, p, q).reshape(n * k, 1, p, q),
        groups=n * k,
    ).reshape(n, k, 2 * reach_p + 1, 2 * reach_q + 1)
    return sums[..., reach_p - voxels[:, 0], reach_q - voxels[:, 1]]


def _voxels_within(length_mm: float, spacing_mm: Tensor) -> Tensor:
    """(candidates, 2) whole-voxel displacements up to a length."""
    reach = (length_mm / spacing_mm).floor().long().tolist()
    voxels: Tensor = torch.cartesian_prod(*(torch.arange(-size, size + 1) for size in reach))
    return voxels[(voxels * spacing_mm).norm(dim=-1) <= length_mm]


def _moved_by_best_step(curvature: Tensor, slope: Tensor, slopes: list[Tensor]) -> Tensor:
    """(n, k, p, q) what the best displacement explains of a residual."""
    strength = curvature.diagonal(dim1=-2, dim2=-1).sum(dim=-1)[..., None, None]
    regular = curvature + torch.eye(2) * (1e-6 * strength + TINY)
    step: Tensor = torch.linalg.solve(regular, slope[..., None])[..., None]
    return step[..., 0, :, :] * slopes[0] + step[..., 1, :, :] * slopes[1]


def _steep_noise(reference: Reference, window: Tensor, patches: SlicePatches) -> Tensor:
    """(n, k) sum over a window of what noise adds to the square of a reference's slope, mm^-2."""
    per_mm2 = (1 / patches.spacing_mm[:2] ** 2).mean().float()
    return reference.steepness * per_mm2 * window.sum(dim=(-1, -2))


def _without_noise(curvature: Tensor, slope: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Take the slopes that are noise out of squares of slopes and their products with a residual.

    Noise is steep, and would pass for edges: a step would be too short, and taken for too sure.
    The part of the squares that is true lengthens the step once, and counts twice in what a slice
    knows (errors in variables).
    """
    power, axes = torch.linalg.eigh(curvature)
    true = (1 - noise[..., None] / power.clamp(min=TINY)).clamp(min=LEAST_TRUE, max=1.0)
    halfway = axes * true[..., None, :] @ axes.mT
    return halfway @ curvature @ halfway, (halfway @ slope[..., None])[..., 0]


def _noise_variance(
    window: Tensor, steep: Tensor, residual: Tensor, left: Tensor, power: Tensor
) -> Tensor:
    """(n, k) variance of a voxel before smoothing, as it stands against the edges.

    From a residual and what the best displacement leaves of it. Magnitudes are noisier in the
    bright cord than in the dark around it, by as much in all volumes of a slice.
    """
    pixels = window.sum(dim=(-1, -2)).clamp(min=1)
    whole, apart = (_product(window, part, part) for part in (residual, left))
    independent = pixels * noise_left(SMOOTHING_VOXELS) - FREE_PARAMETERS
    white = torch.maximum(apart, whole / 5) / independent.clamp(min=1)
    broad = smooth(window * residual, EDGE_VOXELS)
    expected = pixels * noise_left(math.hypot(EDGE_VOXELS, SMOOTHING_VOXELS))
    structured = _product(window, broad, broad) / expected
    at_edges = _product(steep, left, left) / steep.sum(dim=(-1, -2)).clamp(min=TINY)
    noisier = (at_edges * pixels / apart.clamp(min=TINY)).median(dim=0).values
    noise = white * noisier
    noise = torch.where(structured > STRUCTURED * white, torch.maximum(structured, noise), noise)
    return torch.maximum(noise, SMALLEST_NOISE**2 * power / pixels).clamp(min=TINY)


def _steepness(window: Tensor, residual: Tensor) -> Tensor:
    """(n, k) mean square of the slope per voxel of a residual, smoothed as a reference is."""
    noise = smooth(residual, REFERENCE_SMOOTHING_VOXELS)
    _, *slopes = sample_moved_with_slopes(noise, torch.zeros(2, dtype=torch.float64))
    squares = (slopes[0] ** 2 + slopes[1] ** 2) / 2
    return (window * squares).sum(dim=(-1, -2)) / window.sum(dim=(-1, -2)).clamp(min=TINY)


def _centred(images: Iterable[Tensor], window: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Take the mean over a window off each image; also the means."""
    images = list(images)
    total = window.sum(dim=(-1, -2)).clamp(min=TINY)
    means = [(window * image).sum(dim=(-1, -2)) / total for image in images]
    return [image - mean[..., None, None] for image, mean in zip(images, means, strict=True)], means


def _product(window: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """(n, k) weighted inner product of two stacks of patches."""
    return (window * a * b).sum(dim=(-1, -2))
