"""Slice-wise in-plane motion of a diffusion series of the cord.

Weighted slices are too noisy to be registered one by one, and whole volumes follow the neck, not
the cord. So every slice measures its displacement around the cord (``slice_matching``) against what
all other volumes of its kind predict (``slice_prediction``), and all slices are believed together
(``displacement``). The prediction is then made anew from the corrected volumes, and so on. b=0 and
weighted volumes are corrected each to their own kind. The reference of a slice is the median
position of its volumes, so nothing as a whole moves away from where it was. Jumps of whole volumes
that are longer than a slice is searched for are undone before all that (``jumps``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.correction.displacement import (
    DisplacementPrior,
    Measurement,
    believed_displacement,
    learn_prior,
    looseness_of,
)
from scsnet_bids.correction.jumps import find_jumps, undo_jumps
from scsnet_bids.correction.slice_matching import Match, match_slices, search_displacements
from scsnet_bids.correction.slice_patches import SlicePatches, cut_patches
from scsnet_bids.correction.slice_prediction import predict_slices, tensor_terms
from scsnet_bids.gradients import Gradients
from scsnet_bids.images import Grid
from scsnet_bids.settings import MotionSettings

SEARCHES = 2
ROUNDS = 8
PRIOR_UPDATES = 20
LARGEST_STEP_MM = 0.8
SETTLED_MM = 0.01
MARGIN_MM = 2.0
FIRST_DEVIATION_MM = 0.2
"""Size of each part of the motion, before it is learned."""
TRUSTED_MM = 1.0
"""A slice that knows its displacement worse than this on either axis is not trusted."""


@dataclass(frozen=True, eq=False)
class MotionEstimate:
    """In-plane motion of every slice of every volume.

    Attributes
    ----------
    shift_mm : (n, k, 2) float array, what must be added to a position (left, posterior) in the
        original slice to get the position in the reference of its kind
    trusted : (n, k) bool array, whether the slice itself tells where it lies; if not, most of its
        displacement is borrowed from the other slices of its volume, or it is 0
    last_step_mm : (n,) float array, largest change of a slice in the last round
    """

    shift_mm: FloatArray
    trusted: BoolArray
    last_step_mm: FloatArray


def estimate_motion(
    series: FloatArray,
    b0_mask: BoolArray,
    centre_mm: FloatArray,
    grid: Grid,
    settings: MotionSettings,
    gradients: Gradients | None = None,
) -> MotionEstimate:
    """Estimate the in-plane motion of the cord, slice by slice.

    Parameters
    ----------
    series : (i, j, k, n) array in LPS order
    b0_mask : (n,) bool array, which volumes are b=0
    centre_mm : (k, 2) cord centre (left, posterior) from the first voxel; nan where not known
    grid : of the series
    settings : of the stage; if its method is none, nothing moves and nothing is trusted
    gradients : of the n volumes; without them, the contrast of the direction is not predicted

    Returns
    -------
    MotionEstimate
    """
    estimate = _unmoved(series.shape[3], series.shape[2])
    if settings.method == "none":
        return estimate
    reach_mm = settings.window_radius_mm + settings.max_shift_mm + MARGIN_MM
    jumps = find_jumps(series, b0_mask, grid)
    patches = cut_patches(undo_jumps(series, jumps), centre_mm, grid, reach_mm)
    for kind, weighting in ((b0_mask, None), (~b0_mask, gradients)):
        volumes = np.flatnonzero(kind)
        if len(volumes):
            terms = None if weighting is None else tensor_terms(weighting.select(volumes))
            part = _estimate_kind(patches.of_volumes(volumes), terms, settings)
            for name, values in vars(part).items():
                getattr(estimate, name)[volumes] = values
    if jumps.any():
        estimate.shift_mm[:] += jumps[:, None] * np.array(grid.spacing_mm[:2])
    return estimate


def _unmoved(n: int, k: int) -> MotionEstimate:
    """Describe a series that nothing is known about."""
    return MotionEstimate(np.zeros((n, k, 2)), np.zeros((n, k), bool), np.zeros(n))


def _estimate_kind(
    patches: SlicePatches, terms: Tensor | None, settings: MotionSettings
) -> MotionEstimate:
    """Estimate the motion of volumes of one kind."""
    n, k = patches.usable.shape
    if n == 1:
        return replace(_unmoved(n, k), trusted=patches.usable.numpy())  # It is its own reference.
    shift_mm = _first_guess(patches, settings)
    prior = _first_prior(shift_mm)
    match = None
    step_mm = torch.zeros_like(shift_mm)
    for _ in range(ROUNDS):
        match = _matched(patches, shift_mm, match, terms, settings)
        measurement, trusted = _measurable(match.measurement, settings.max_shift_mm)
        prior = learn_prior(measurement, prior, PRIOR_UPDATES)
        believed_mm = believed_displacement(measurement, prior)
        step_mm = _damped(_from_median(believed_mm, trusted) - shift_mm, step_mm)
        shift_mm = shift_mm + step_mm
        if step_mm.abs().max() < SETTLED_MM:
            break
    return MotionEstimate(
        _bounded(shift_mm, settings.max_shift_mm).numpy(),
        trusted.numpy(),
        step_mm.norm(dim=-1).amax(dim=-1).numpy(),
    )


def _first_guess(patches: SlicePatches, settings: MotionSettings) -> Tensor:
    """Search displacements by whole voxels, with the means of what was found before."""
    n, k = patches.usable.shape
    shift_mm = torch.zeros(n, k, 2, dtype=torch.float64)
    for _ in range(SEARCHES):
        shift_mm = search_displacements(
            patches,
            predict_slices(patches, shift_mm, None, None, settings.window_radius_mm).intensity,
            settings.window_radius_mm,
            settings.max_shift_mm,
        )
        shift_mm = _from_median(shift_mm, patches.usable)
    return shift_mm


def _matched(
    patches: SlicePatches,
    shift_mm: Tensor,
    before: Match | None,
    terms: Tensor | None,
    settings: MotionSettings,
) -> Match:
    """Match every slice with what the others of its kind predict."""
    radius_mm = settings.window_radius_mm
    reference = predict_slices(patches, shift_mm, before, terms, radius_mm)
    return match_slices(patches, reference, shift_mm, radius_mm)


def _first_prior(shift_mm: Tensor) -> DisplacementPrior:
    """Start from moderate motion, loose where the first guess found a slice far off its volume."""
    deviation = torch.full((3, 2), FIRST_DEVIATION_MM, dtype=torch.float64)
    own_part = shift_mm - shift_mm.median(dim=1, keepdim=True).values
    return DisplacementPrior(deviation**2, looseness_of(own_part, deviation[2]))


def _measurable(measurement: Measurement, max_shift_mm: float) -> tuple[Measurement, Tensor]:
    """Silence slices that landed too far away; also tell which know where they lie."""
    ridge = torch.eye(2, dtype=torch.float64) * 1e-6
    covariance = torch.linalg.inv(measurement.information + ridge)
    deviation_mm = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    measured_mm = (covariance @ measurement.weighted_mm[..., None])[..., 0]
    near = measured_mm.norm(dim=-1) <= max_shift_mm
    information = measurement.information * near[..., None, None]
    weighted_mm = measurement.weighted_mm * near[..., None]
    trusted = near & (deviation_mm <= TRUSTED_MM).all(dim=-1)
    return Measurement(information, weighted_mm, measurement.z_mm), trusted


def _from_median(shift_mm: Tensor, trusted: Tensor) -> Tensor:
    """Count displacements from the median position of the trusted volumes of each slice."""
    known = torch.where(trusted[..., None], shift_mm, torch.nan)
    known = torch.where(trusted.any(dim=0)[..., None], known, shift_mm)
    return shift_mm - known.nanquantile(0.5, dim=0)


def _damped(step_mm: Tensor, before_mm: Tensor) -> Tensor:
    """Shorten a step: to the reach of a linear model, for few volumes, and where it turns back."""
    n = len(step_mm)
    turns_back = (step_mm * before_mm).sum(dim=-1, keepdim=True) < 0
    limited = step_mm.clamp(-LARGEST_STEP_MM, LARGEST_STEP_MM) * (n - 1) / n
    return torch.where(turns_back, limited / 2, limited)


def _bounded(shift_mm: Tensor, length_mm: float) -> Tensor:
    """Shorten displacements that are longer than what is believed."""
    length: Tensor = torch.linalg.vector_norm(shift_mm, dim=-1, keepdim=True)
    return shift_mm * (length_mm / length.clamp(min=length_mm))
