"""Judge a corrected series. Arrays in, numbers out.

Where the truth is known: how far the displacements are from it, and how far the FA of the regions
is from that of a person who lay still. Where it is not: how far the slices still lie apart
(``shift_search``). Either can be feigned by blur, which ``sharpness`` unmasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.benchmark.motion_cases import Case, Series, Truth
from scsnet_bids.benchmark.motion_methods import Corrected
from scsnet_bids.benchmark.sharpness import edge_mm, residual_lag1
from scsnet_bids.benchmark.shift_search import follow, jitter_mm
from scsnet_bids.evaluation.motion_scores import rms_length
from scsnet_bids.evaluation.scores import means_of_regions
from scsnet_bids.evaluation.truth import shift_slices
from scsnet_bids.gradients import Gradients
from scsnet_bids.regions import REGIONS, label_shares
from scsnet_bids.settings import GradientSettings
from scsnet_bids.tensor import fit_tensor
from scsnet_bids.unmixing.region_tensor import fit_region_tensors

CORD_SHARE, LEAST_VOXELS = 0.8, 2.0
"""Voxels with this share of cord are unmixed; a region needs this many of its own in a slice."""
DOUBTED = 0.5
"""A slice that counts less was taken for a lost one."""


@dataclass(frozen=True)
class MotionFigures:
    """What is measured of a corrected series; nan where it cannot be.

    Attributes
    ----------
    error_dwi_mm, error_b0_mm : RMS length of estimated minus true displacement at the cord's
        centre, the median of each slice over its kind removed; lost slices left out
    fa_error_pct : |mean FA / that of the same person lying still - 1|, averaged over the regions
        of all slices, true regions
    unmixed_fa_error_pct : the same of the FA that the true shares unmix, whole cord, against the
        tissue's
    outliers_found_pct, false_alarms_pct : of lost slices, and of all others, how many count less
        than half; where a method judges them. Both FA are then fitted with its weights
    jitter_dwi_mm, jitter_b0_mm : RMS displacement of slices against the mean of the others of
        their kind, as it is measured again; with real series only
    residual_lag1 : correlation of the residuals of a tensor fit between neighbours, in the cord
    edge_mm : width of the edge of the cord in the mean weighted image
    """

    error_dwi_mm: float
    error_b0_mm: float
    fa_error_pct: float
    unmixed_fa_error_pct: float
    outliers_found_pct: float
    false_alarms_pct: float
    jitter_dwi_mm: float
    jitter_b0_mm: float
    residual_lag1: float
    edge_mm: float


def judge(case: Case, corrected: Corrected) -> MotionFigures:
    """Measure everything that can be measured of a corrected series.

    Parameters
    ----------
    case : what was corrected
    corrected : by some method

    Returns
    -------
    MotionFigures
    """
    series, data = case.series, np.asarray(corrected.data, dtype=float)
    is_b0 = series.is_b0
    mean = data[..., ~is_b0].mean(axis=-1)
    cord = follow(case.cord_mask, mean, series.grid)
    error = fa = outliers = jitter = (np.nan, np.nan)
    if case.truth is not None:
        error = shift_errors_mm(corrected.shift_mm, case.truth, is_b0)
        fa = fa_errors_pct(corrected, case.truth, series)
        outliers = outliers_pct(corrected.weight, case.truth.lost)
    else:
        weighted, b0 = (jitter_mm(data[..., kind], cord, series.grid) for kind in (~is_b0, is_b0))
        jitter = (weighted, b0)
    return MotionFigures(
        *error,
        *fa,
        *outliers,
        *jitter,
        residual_lag1(data, cord, series.gradients),
        edge_mm(mean, cord, series.grid),
    )


def shift_errors_mm(shift_mm: FloatArray, truth: Truth, is_b0: BoolArray) -> tuple[float, float]:
    """Tell how far displacements are from the truth, weighted and b=0 volumes apart.

    Parameters
    ----------
    shift_mm : (n, k, 2) float array
    truth : of the series
    is_b0 : (n,) bool array

    Returns
    -------
    RMS length of the error in mm, for weighted and for b=0 volumes
    """
    difference = np.where(truth.lost[..., None], np.nan, shift_mm - truth.shift_mm)
    errors = []
    for kind in (~is_b0, is_b0):
        apart = difference[kind] - np.nanmedian(difference[kind], axis=0)
        errors.append(rms_length(apart[np.isfinite(apart).all(axis=-1)]))
    return errors[0], errors[1]


def outliers_pct(weight: FloatArray | None, lost: BoolArray) -> tuple[float, float]:
    """Count which slices a method believes to be lost.

    Parameters
    ----------
    weight : (n, k) float array, how much each slice counts, or None
    lost : (n, k) bool array, which are lost

    Returns
    -------
    percent of the lost slices that are found, nan where there are none, and percent of the others
    that are taken for lost

    >>> outliers_pct(np.array([[0.0, 0.2, 1.0, 1.0]]), np.array([[True, False, False, True]]))
    (50.0, 50.0)
    """
    if weight is None:
        return np.nan, np.nan
    doubted = weight < DOUBTED
    found = 100 * float(doubted[lost].mean()) if lost.any() else np.nan
    return found, 100 * float(doubted[~lost].mean())


def fa_errors_pct(corrected: Corrected, truth: Truth, series: Series) -> tuple[float, float]:
    """Tell how far the FA of the true regions is from the truth.

    The regions lie where the corrected weighted volumes have the cord.

    Parameters
    ----------
    corrected : by some method
    truth : of the series
    series : as it was

    Returns
    -------
    error of region means in percent, and of unmixed region values in percent
    """
    weighted = ~series.is_b0
    offset_mm = np.median((corrected.shift_mm - truth.shift_mm)[weighted], axis=0)
    share = np.asarray(truth.region_share, dtype=float)
    moved = shift_slices(share, offset_mm, series.grid.spacing_mm)
    still = _region_fa(truth.still, label_shares(share), series.gradients, None)
    found = _region_fa(corrected.data, label_shares(moved), series.gradients, corrected.weight)
    plain = np.nanmean(np.abs(found / still - 1))
    unmixed = _unmixed_fa(corrected, moved, series.gradients)
    return 100 * float(plain), 100 * float(np.nanmean(np.abs(unmixed / truth.tissue_fa - 1)))


def _region_fa(
    data: FloatArray,
    labels: npt.NDArray[np.integer],
    gradients: Gradients,
    weight: FloatArray | None,
) -> FloatArray:
    """(k, 8) mean FA of labelled regions."""
    series = np.asarray(data, dtype=float)
    maps = fit_tensor(series, gradients, labels > 0, GradientSettings(), weight)
    return means_of_regions(maps.fa, labels)


def _unmixed_fa(corrected: Corrected, share: FloatArray, gradients: Gradients) -> FloatArray:
    """(8,) FA of signals that are unmixed slice by slice, averaged over slices."""
    data, fa = corrected.data, []
    weight = np.ones(data.shape[:1:-1]) if corrected.weight is None else corrected.weight
    for k in range(data.shape[2]):
        inside = 1 - share[..., k, 0] > CORD_SHARE
        mixing = share[..., k, :][inside]
        own = (mixing[:, 1:] ** 2).sum(axis=0) if len(mixing) else np.zeros(len(REGIONS))
        signal = np.linalg.lstsq(mixing, data[..., k, :][inside], rcond=1e-3)[0][1:]
        every = np.broadcast_to(weight[:, k], signal.shape)
        tensors = fit_region_tensors(signal, every, gradients)
        fa.append(np.where(own >= LEAST_VOXELS, tensors.value[:, 0], np.nan))
    return np.asarray(np.nanmean(fa, axis=0))
