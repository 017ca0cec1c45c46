"""Slice-wise in-plane motion of a diffusion series of the cord.

Weighted slices are too noisy to be registered one by one, and whole volumes follow the neck, not
the cord. So every slice measures its displacement around the cord (``slice_matching``) against what
all other volumes of its kind predict (``slice_prediction``), and all slices are believed together
(``displacement``). b=0 and weighted volumes are matched each with their own kind, and believed
together: it is the same cord that moves. The prediction is then made anew from the corrected
volumes, and so on. The reference of a slice is the median position of its volumes, so nothing as a
whole moves away from where it was. Jumps of whole volumes that are longer than a slice is searched
for are undone before all that (``jumps``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from scsnet_bids.arrays import BoolArray, FloatArray, IntArray
from scsnet_bids.correction.displacement import (
    Measurement,
    believed_displacement,
    learn_prior,
    moderate_prior,
)
from scsnet_bids.correction.jumps import find_jumps, undo_jumps
from scsnet_bids.correction.slice_matching import Match, search_displacements
from scsnet_bids.correction.slice_patches import SlicePatches, cut_patches
from scsnet_bids.correction.slice_prediction import (
    match_with_others,
    predict_slices,
    tensor_terms,
)
from scsnet_bids.gradients import Gradients
from scsnet_bids.images import Grid
from scsnet_bids.settings import MotionSettings

SEARCHES = 2
ROUNDS = 8
PRIOR_UPDATES = 20
LARGEST_STEP_MM = 0.8
SETTLED_MM = 0.01
MARGIN_MM = 2.0
TRUSTED_MM = 1.0
NO_LENGTH_MM = 1e-9
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
    weighted_terms = None if gradients is None else tensor_terms(gradients.select(~b0_mask))
    kinds = []
    for mask, terms in ((b0_mask, None), (~b0_mask, weighted_terms)):
        volumes = np.flatnonzero(mask)
        if len(volumes) > 1:
            kinds.append(_first_guess(volumes, patches.of_volumes(volumes), terms, settings))
        else:  # It is its own reference.
            estimate.trusted[volumes] = patches.usable[volumes].numpy()
    for kind in _settled(kinds, settings):
        estimate.shift_mm[kind.volumes] = _bounded(kind.shift_mm, settings.max_shift_mm).numpy()
        estimate.trusted[kind.volumes] = kind.trusted.numpy()
        estimate.last_step_mm[kind.volumes] = kind.step_mm.norm(dim=-1).amax(dim=-1).numpy()
    if jumps.any():
        estimate.shift_mm[:] += jumps[:, None] * np.array(grid.spacing_mm[:2])
    return estimate


def _unmoved(n: int, k: int) -> MotionEstimate:
    """Describe a series that nothing is known about."""
    return MotionEstimate(np.zeros((n, k, 2)), np.zeros((n, k), bool), np.zeros(n))


@dataclass(frozen=True, eq=False)
class _Kind:
    """Volumes of one contrast, and what is known of their motion so far.

    Attributes
    ----------
    volumes : (n,) int array, which of the series
    patches : of the volumes
    terms : (n, 6) of the tensor, or None where the volumes have one contrast
    shift_mm, step_mm : (n, k, 2) displacements, and their last change
    trusted : (n, k) whether a slice tells where it lies
    matches : of each of the patches' parts with what the others predict, if any
    """

    volumes: IntArray
    patches: SlicePatches
    terms: Tensor | None
    shift_mm: Tensor
    step_mm: Tensor
    trusted: Tensor
    matches: Sequence[Match | None]


def _settled(kinds: list[_Kind], settings: MotionSettings) -> list[_Kind]:
    """Move slices to where they match, all volumes believed together, until nothing changes."""
    if not kinds:
        return kinds
    counts = torch.tensor([len(kind.volumes) for kind in kinds])
    of_volumes = torch.arange(len(kinds)).repeat_interleave(counts)
    prior = moderate_prior(of_volumes, kinds[0].shift_mm.shape[1])
    for _ in range(ROUNDS):
        told = [_measured(kind, settings) for kind in kinds]
        measurement = Measurement.joined([measured for _, measured in told], dim=0)
        prior = learn_prior(measurement, prior, PRIOR_UPDATES)
        believed_mm = believed_displacement(measurement, prior)
        parts = torch.split(believed_mm, counts.tolist())
        kinds = [_moved(kind, part) for (kind, _), part in zip(told, parts, strict=True)]
        if all(kind.step_mm.abs().max() < SETTLED_MM for kind in kinds):
            break
    return kinds


def _first_guess(
    volumes: IntArray, patches: SlicePatches, terms: Tensor | None, settings: MotionSettings
) -> _Kind:
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
    still = torch.zeros_like(shift_mm)
    unmatched = [None] * len(patches.parts())
    return _Kind(volumes, patches, terms, shift_mm, still, patches.usable, unmatched)


def _measured(kind: _Kind, settings: MotionSettings) -> tuple[_Kind, Measurement]:
    """Match every slice with what the others of its kind predict, and silence what lands far."""
    radius_mm = settings.window_radius_mm
    matches = match_with_others(kind.patches, kind.shift_mm, kind.matches, kind.terms, radius_mm)
    measurement = Measurement.joined([match.measurement for match in matches], dim=1)
    measurement, trusted = _measurable(measurement, settings.max_shift_mm)
    return replace(kind, matches=matches, trusted=trusted), measurement


def _moved(kind: _Kind, believed_mm: Tensor) -> _Kind:
    """Move slices a step toward where they are believed to lie."""
    step_mm = _from_median(believed_mm, kind.trusted) - kind.shift_mm
    step_mm = _damped(step_mm, kind.step_mm)
    return replace(kind, shift_mm=kind.shift_mm + step_mm, step_mm=step_mm)


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
    return Measurement(information, weighted_mm), trusted


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
    return shift_mm * (length_mm / length.clamp(min=max(length_mm, NO_LENGTH_MM)))
