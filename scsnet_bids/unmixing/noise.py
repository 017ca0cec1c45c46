"""The noise level of a diffusion series: from air where there is some, else from the tensor fit.

Air holds the magnitude of complex Gaussian noise: a Rayleigh distribution, whose mean and standard
deviation both give sigma (gudbjartsson1995). Only where the two agree is it believed. Weak signal
hardly disturbs that agreement (4 % where signal equals sigma), so air must also be as bright in the
b=0 volumes as in the weighted ones, which no tissue is.
The tensor's residual in the cord is corrected for what interpolation and the magnitude's own
distribution have taken from it. The scatter of repeated b=0 volumes is never used: pulsation
inflates it by a third.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import ndimage, special

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.regions import HALF
from scsnet_bids.unmixing.region_tensor import N_COEFFICIENTS

RAYLEIGH_MEAN = float(np.sqrt(np.pi / 2))
RAYLEIGH_SD = float(np.sqrt(2 - np.pi / 2))
AGREEMENT = 0.1
"""Mean and standard deviation, b=0 and weighted volumes, must give the same within this."""
LEAST_OF_RESIDUAL, MOST_OF_RESIDUAL = 0.25, 2.0
"""What air must have of the noise about the tensor fit, to which motion and pulsation add. What
splines leave beside a row of zeros looks like air with a tenth or a hundredth of it.
"""
LEAST_VOXELS = 100
BRIGHTEST = 5.0
"""Above this ratio of mean to standard deviation it is no air: 1.9 for one channel, 4.9 for six
that are added as squares; fat, which hardly diffuses, lies above."""
WINDOW = 3.0
"""Air varies between voxels within this many standard errors of the mean over volumes."""
N_LEVELS = 120
SIGNED_SHARE = 0.05
"""With more negative samples it is no magnitude. Splines that overshoot leave up to 1 %."""
WELL_INSIDE = 0.9
"""Share of the cord's voxels that are preferred; at its edge motion and pulsation add to the
residual."""
N_SHIFTS = 51
ROUNDS = 20
LARGE_SNR = 20.0
"""Above it magnitudes are Gaussian."""
FINE = 256
"""Steps per unit at which moments are tabulated."""

SOURCES: dict[str, str] = {
    "background": "air in the weighted volumes, where it has a Rayleigh distribution",
    "tensor_residual": "median over the cord of the standard deviation about the tensor fit",
    "none": "could not be estimated",
}
FLAGS: dict[str, str] = {
    "no_background": "the field holds no air, or the scanner has masked it; motion and pulsation "
    "may inflate the estimate from the tensor fit",
    "not_rayleigh": "air does not have a Rayleigh distribution, as where channels are added as "
    "squares or the image was filtered; the noise floor is not that of the model",
    "uneven": "air is far less or far more noisy than the cord, as where the image was filtered, "
    "or interpolated beside masked air",
    "signed": "so many values are negative that it is no magnitude, and has no noise floor",
    "unknown": "neither the background nor the tensor fit tells the noise level",
}


@dataclass(frozen=True)
class NoiseLevel:
    """What is known about a series' noise.

    Attributes
    ----------
    sigma : standard deviation in each of the two channels, unit of the signal; nan if unknown
    source : one of ``SOURCES``
    flag : one of ``FLAGS``; None where there is no reason for doubt
    """

    sigma: float
    source: str
    flag: str | None

    @property
    def rician_sigma(self) -> float:
        """Sigma of the noise floor to take out; 0 where there is none or it is unknown."""
        return 0.0 if self.flag in ("signed", "unknown") else self.sigma


class Moments(NamedTuple):
    """What is expected of the magnitude of a signal, in units of sigma.

    Attributes
    ----------
    mean, variance : of the magnitude
    slope : change of the mean by that of the signal
    """

    mean: FloatArray
    slope: FloatArray
    variance: FloatArray


def magnitude_moments(snr: FloatArray) -> Moments:
    """Tell what is expected of a magnitude with a Rician distribution (koay2006).

    Parameters
    ----------
    snr : float array >= 0, signal by the standard deviation of the noise in either channel

    Returns
    -------
    Moments

    Examples
    --------
    >>> magnitude_moments(np.array([0.0, 1.0, 10.0])).mean.round(3)
    array([ 1.253,  1.549, 10.05 ])
    """
    quarter = snr**2 / 4
    zeroth, first = special.i0e(quarter), special.i1e(quarter)
    mean = RAYLEIGH_MEAN * ((1 + 2 * quarter) * zeroth + 2 * quarter * first)
    slope = RAYLEIGH_MEAN / 2 * snr * (zeroth + first)
    variance = np.where(snr < LARGE_SNR, 2 + snr**2 - mean**2, 1.0)
    return Moments(mean, slope, variance)


@cache
def _moments_by_snr() -> Moments:
    """Moments at ``FINE`` steps per unit, up to ``LARGE_SNR``."""
    return magnitude_moments(np.arange(LARGE_SNR * FINE) / FINE)


def quick_moments(snr: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Tell mean and slope as :func:`magnitude_moments` does, within 0.002 and fifteen times faster.

    Parameters
    ----------
    snr : float array; negative counts as 0

    Returns
    -------
    mean, slope : float arrays
    """
    listed, high = _moments_by_snr(), snr >= LARGE_SNR - 1
    place = np.rint(np.clip(np.where(high, 0, snr), 0, None) * FINE).astype(np.intp)
    mean = np.where(high, snr + 1 / (2 * np.where(high, snr, 1)), listed.mean[place])
    return mean, np.where(high, 1.0, listed.slope[place])


class _AirLevel(NamedTuple):
    """Noise of voxels that can be air; the more it is to be believed, the greater."""

    agrees: bool
    n_voxels: int
    by_sd: float


def estimate_noise(
    series: FloatArray,
    is_b0: BoolArray,
    residual: FloatArray,
    cord_share: FloatArray,
    residual_gain: float = 1.0,
    fitted: BoolArray | None = None,
) -> NoiseLevel:
    """Estimate the noise level of a series.

    Parameters
    ----------
    series : (i, j, k, n) float array of magnitudes as acquired: interpolation smooths air
    is_b0 : (n,) bool array
    residual : (i, j, k) float array, standard deviation about the tensor fit
    cord_share : (i, j, k) float array in [0, 1]
    residual_gain : what interpolation has left of the noise in ``residual``, as
        :func:`interpolation_gain` tells
    fitted : (n,) bool array, volumes that the tensor was fitted to; None for all

    Returns
    -------
    NoiseLevel
    """
    fallback = _from_residual(residual / residual_gain, series, cord_share, fitted)
    negative, positive = np.count_nonzero(series < 0), np.count_nonzero(series > 0)
    if negative > SIGNED_SHARE * (negative + positive):
        return NoiseLevel(fallback, *_source_and_flag(fallback, "signed"))
    level = _air_level(_describe_voxels(series, cord_share < HALF, is_b0), (~is_b0).sum())
    if level is None:
        return NoiseLevel(fallback, *_source_and_flag(fallback, "no_background"))
    if not level.agrees:
        return NoiseLevel(fallback, *_source_and_flag(fallback, "not_rayleigh"))
    like = LEAST_OF_RESIDUAL <= level.by_sd / fallback <= MOST_OF_RESIDUAL
    if fallback > 0 and not like:
        return NoiseLevel(fallback, "tensor_residual", "uneven")
    return NoiseLevel(level.by_sd, "background", None)


def interpolation_gain(shift_voxels: FloatArray) -> float:
    """Tell what a shift by cubic splines leaves of the noise's standard deviation.

    Parameters
    ----------
    shift_voxels : (..., 2) float array, in-plane shifts of slices

    Returns
    -------
    float in (0, 1], root mean square over the slices

    Examples
    --------
    >>> interpolation_gain(np.array([[0.0, 2.0]]))
    1.0
    >>> round(interpolation_gain(np.array([[0.5, 0.0]])), 2)
    0.87
    """
    fractions = np.linspace(-0.5, 0.5, N_SHIFTS)
    impulse = np.eye(1, 25, 12)[0]
    kept = [(ndimage.shift(impulse, step, order=3, mode="mirror") ** 2).sum() for step in fractions]
    along_axes = np.interp(shift_voxels - np.round(shift_voxels), fractions, kept)
    return float(np.sqrt(along_axes.prod(axis=-1).mean()))


def _source_and_flag(fallback: float, flag: str) -> tuple[str, str]:
    """Name where the noise level comes from when the background does not tell it."""
    return ("tensor_residual", flag) if fallback > 0 else ("none", "unknown")


def _from_residual(
    residual: FloatArray, series: FloatArray, cord_share: FloatArray, fitted: BoolArray | None
) -> float:
    """Sigma from the median residual in the cord, well inside if possible; nan if there is none."""
    for limit in (WELL_INSIDE, HALF):
        chosen = (cord_share > limit) & np.isfinite(residual)
        if chosen.sum() >= LEAST_VOXELS and np.median(residual[chosen]) > 0:
            samples = series[chosen] if fitted is None else series[chosen][:, fitted]
            squares = np.asarray(samples, dtype=float) ** 2
            squares = squares[:, np.nanmean(squares, axis=0) > 0]  # without blank volumes
            typical = _median_deviation(squares.shape[1] - N_COEFFICIENTS)
            return _sigma_of_deviation(float(np.median(residual[chosen])) / typical, squares)
    return float("nan")


def _median_deviation(freedom: int) -> float:
    """Median of standard deviations that few samples tell, in units of the true one."""
    if freedom <= 0:
        return 1.0
    return float(np.sqrt(2 * special.gammaincinv(freedom / 2, 0.5) / freedom))


def _sigma_of_deviation(deviation: float, squares: FloatArray) -> float:
    """Sigma of magnitudes of a standard deviation, from their (voxels, n) squares.

    A magnitude near the floor varies less than its channels do (koay2006). How much less is no
    straight function of the power: besides its mean in a volume, its variance between voxels counts
    to second order. By the mean alone sigma is 1.7 % too small in three tissues at SNR 4.
    """
    power, spread = np.nanmean(squares, axis=0), np.nanvar(squares, axis=0, ddof=1)
    sigma = deviation
    for _ in range(ROUNDS):
        snr2 = power / sigma**2 - 2
        apart2 = spread / sigma**4 - 4 * snr2 - 4  # of the signals, without that by noise
        inner = np.maximum(snr2, 1)
        low, middle, high = (_variance(inner + step) for step in (-1, 0, 1))
        variance = _variance(snr2) + apart2 / 2 * (high - 2 * middle + low)
        # A few voxels of a volume that has gone wrong lie too far apart for an expansion.
        variance = np.clip(variance, RAYLEIGH_SD**2, 1)
        sigma = deviation / float(np.sqrt(variance.mean()))
    return sigma


def _variance(snr2: FloatArray) -> FloatArray:
    """Variance of a magnitude, in units of that of its channels, from the square of the SNR."""
    return magnitude_moments(np.sqrt(np.clip(snr2, 0, LARGE_SNR**2))).variance


def _describe_voxels(series: FloatArray, chosen: BoolArray, is_b0: BoolArray) -> FloatArray:
    """(voxels, 3) means of weighted volumes, of their squares and of b=0 volumes.

    Of the chosen voxels that hold something in every volume whose slice does; none where a kind has
    no volumes.
    """
    described = [np.empty((0, 3))]
    if is_b0.all() or not is_b0.any():
        return described[0]
    for k in range(series.shape[2]):
        samples = series[:, :, k][chosen[:, :, k]]
        holds = (samples > 0).any(axis=0)  # not the slices that were lost as a whole
        kinds = [holds & kind for kind in (~is_b0, is_b0)]
        if not all(kind.any() for kind in kinds):
            continue
        samples = samples[(np.isfinite(samples) & (samples > 0))[:, holds].all(axis=1)]
        weighted, unweighted = (samples[:, kind].astype(float) for kind in kinds)
        means = [part.mean(axis=1) for part in (weighted, weighted**2, unweighted)]
        described.append(np.stack(means, axis=1))
    return np.concatenate(described)


def _air_level(voxels: FloatArray, n_weighted: int) -> _AirLevel | None:
    """Find the largest set of voxels alike that can be air; None if there is none.

    Voxels are alike when their means over volumes lie as close together as the samples' scatter
    allows, around a level that is their own mean. A set without a Rayleigh distribution counts
    after all that have one.
    """
    if len(voxels) < LEAST_VOXELS:
        return None
    voxels = voxels[np.argsort(voxels[:, 0])]
    mean = voxels[:, 0]
    sums = np.cumsum(np.insert(voxels, 0, 0, axis=0), axis=0)
    half_width = WINDOW * RAYLEIGH_SD / RAYLEIGH_MEAN / np.sqrt(n_weighted)
    level = np.geomspace(mean[0], mean[-1], N_LEVELS)
    for _ in range(ROUNDS):
        first = np.searchsorted(mean, level * (1 - half_width))
        end = np.searchsorted(mean, level * (1 + half_width))
        count = end - first
        level, square, bright = ((sums[end] - sums[first]) / np.maximum(count, 1)[:, None]).T
    by_mean = level / RAYLEIGH_MEAN
    by_sd = np.sqrt(np.clip(square - level**2, 0, None)) / RAYLEIGH_SD
    agrees = np.abs(by_mean - by_sd) <= AGREEMENT * by_sd
    flat = np.abs(bright - level) < AGREEMENT * level
    dim = level < BRIGHTEST * by_sd * RAYLEIGH_SD
    found = np.flatnonzero((count >= LEAST_VOXELS) & flat & (agrees | dim))
    levels = [_AirLevel(bool(agrees[x]), int(count[x]), float(by_sd[x])) for x in found]
    return max(levels, default=None)
