"""Region values without partial volume and noise floor, by unmixing the signals.

The magnitude of a voxel is taken as the sum over regions of share times region signal, fluid being
a ninth region that fills what is not cord; over the volumes, the signal of a region follows one
tensor per slice. Both are solved together by Rician quasi-likelihood (wedderburn1974): what a
magnitude has more or less than is expected of the signal of the tensors is added to that signal, as
far as it tells about it; the linear system is solved by least squares, the tensors are fitted
again, and so on. Only the mean of a magnitude is taken to be Rician, which interpolation leaves as
it is, and not its scatter, which it narrows. Whole regions take the mean of their slices by volume.

Signals of one volume alone are too noisy for that expectation: below SNR 5 they would raise FA and
MD by several percent. They are solved as well, since their scatter about the tensor tells the
noise of the values.

A region that the shares do not separate from its neighbours in a slice has no value there. Nor
has any region of a slice whose cord is bright in one part and dark in another although the regions
are the same: where the scanner has lost signal within the cord, or the outline is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.errors import ImageError
from scsnet_bids.gradients import Gradients, tensor_volumes
from scsnet_bids.regions import N_CLASSES
from scsnet_bids.settings import GradientSettings, UnmixingSettings
from scsnet_bids.unmixing.noise import magnitude_moments
from scsnet_bids.unmixing.region_tensor import (
    RegionTensors,
    determined,
    fit_region_tensors,
    noise_bias,
)
from scsnet_bids.unmixing.systems import SliceSystems, gather_systems

ROUNDS = 15
"""Within 0.04 % of the end at SNR 6.5, most values within 0.0001 %."""
LARGEST_MEAN = 1.03
"""Of the cord's shares of the voxels that it fills; interpolation overshoots at the rim alone."""


@dataclass(frozen=True, eq=False)
class UnmixedValues:
    """Values of the eight regions in every slice.

    Attributes
    ----------
    value : (k, 8, 4) FA (1), MD, AD, RD (mm2/s) by region label; nan where there is none
    covariance : (k, 4, 8, 8) of the regions' values in a slice by noise alone, nan likewise, and
        where nothing tells the noise
    volume : (k, 8) sum of the region's shares, voxels
    determined : (k,) bool, whether the volumes left determine a tensor
    unexplained : (k,) how far the cord's voxels lie from what the regions' signals explain, in the
        mean of the weighted volumes: root mean square by mean, without the part of noise; nan where
        nothing was fitted
    rejected : (k,) bool, whether that is too far, so that the slice has no value
    influence : (k, 8, 4, n) change of a value per unit of the region's signal in each volume that
        enters the tensor; nan where there is no value
    """

    value: FloatArray
    covariance: FloatArray
    volume: FloatArray
    determined: BoolArray
    unexplained: FloatArray
    rejected: BoolArray
    influence: FloatArray

    @property
    def uncertainty(self) -> FloatArray:
        """(k, 8, 4) standard error of the values by noise alone."""
        return np.asarray(np.sqrt(np.einsum("kmrr->krm", self.covariance)))


def unmix_regions(
    series: FloatArray,
    share: FloatArray,
    gradients: Gradients,
    sigma: float,
    settings: UnmixingSettings,
    gradient_settings: GradientSettings,
    weight: FloatArray | None = None,
) -> UnmixedValues:
    """Measure the diffusion tensor of every region and slice from unmixed signals.

    Parameters
    ----------
    series : (i, j, k, n) float array, magnitudes. A slice of a volume that is mostly 0 or not
        finite is left out, and so is a voxel that is not finite in any other volume, or always 0.
        Unless ``sigma`` is 0, negative samples (overshoot of interpolation) count as 0
    share : (i, j, k, 9) float array, part of each voxel that background and each region fill, as
        the series shows it: beside edges that were interpolated a little below 0 or above 1
    gradients : of the n volumes
    sigma : standard deviation of the noise in each channel of a magnitude image, unit of the
        signal; 0 solves by least squares
    settings : which voxels and regions are solved
    gradient_settings : which volumes enter the tensor
    weight : (n, k) float array in [0, 1] of the slices of volumes, 0 leaves one out; None counts
        all fully

    Returns
    -------
    UnmixedValues

    Raises
    ------
    ImageError
        If the arrays do not fit each other, shares add up to more than one, or sigma is negative or
        not a number.
    """
    _check(series, share, gradients, sigma, settings.cord_share)
    used = np.flatnonzero(tensor_volumes(gradients.bvals, gradient_settings))
    series, gradients = series[..., used], gradients.select(used)
    systems = gather_systems(series, share, settings.cord_share, signed=sigma == 0)
    given = np.ones((used.size, series.shape[2])) if weight is None else weight[used]
    volume = np.nansum(share[..., 1:], axis=(0, 1), dtype=float)
    weight = np.where(systems.present, given.T, 0.0)
    weighted = gradients.bvals > gradient_settings.b0_max
    return _fit(systems, sigma, weight, volume, gradients, weighted, settings)


def solve_signals(series: FloatArray, share: FloatArray, settings: UnmixingSettings) -> FloatArray:
    """Unmix the signals of the regions by least squares, every volume by itself.

    Parameters
    ----------
    series : (i, j, k, n) float array; may be negative
    share : (i, j, k, 9) float array, as for :func:`unmix_regions`
    settings : which voxels are solved

    Returns
    -------
    (k, 8, n) float array; 0 where the shares tell nothing
    """
    systems = gather_systems(series, share, settings.cord_share, signed=True)
    return np.asarray(_solve_volumes(systems, 0.0)[:, 1:])


def change_of_values(
    series: FloatArray,
    shares: Sequence[FloatArray],
    gradients: Gradients,
    unmixed: UnmixedValues,
    settings: UnmixingSettings,
    gradient_settings: GradientSettings,
) -> FloatArray:
    """Tell what other shares would change the values by, to first order.

    The signals of both are found by least squares, which tell a change well enough.

    Parameters
    ----------
    series, gradients, settings, gradient_settings : as for :func:`unmix_regions`
    shares : those of ``unmixed``, then others that might as well be the true ones
    unmixed : values

    Returns
    -------
    (p, k, 8, 4) float array, one for each of the other shares; nan where there is no value
    """
    used = np.flatnonzero(tensor_volumes(gradients.bvals, gradient_settings))
    series = series[..., used]
    first, *others = (solve_signals(series, share, settings) for share in shares)
    change = np.array([other - first for other in others]).reshape(-1, *first.shape)
    return np.asarray(np.einsum("krmn,pkrn->pkrm", unmixed.influence, change))


def _check(
    series: FloatArray, share: FloatArray, gradients: Gradients, sigma: float, cord_share: float
) -> None:
    """Make sure that the arrays belong together, and that shares are shares."""
    wanted = (*series.shape[:3], N_CLASSES)
    if share.shape != wanted:
        raise ImageError(
            f"Unmixing a series of {series.shape[:3]} voxels needs shares {wanted}: found "
            f"{share.shape}."
        )
    total = share[..., 1:].sum(axis=-1)
    filled = total[total > cord_share]
    if filled.size and not filled.mean() <= LARGEST_MEAN:
        raise ImageError(
            "The shares of the regions must add up to one in the voxels that the cord fills: found "
            f"{filled.mean():.2f} on average. Divide them by their sum where it is larger."
        )
    if series.shape[3:] != (gradients.bvals.size,):
        raise ImageError(
            f"Unmixing needs one b-value per volume: found {gradients.bvals.size} b-values for a "
            f"series of {series.shape}."
        )
    if not (np.isfinite(sigma) and sigma >= 0):
        raise ImageError(f"The noise level must be 0 or more: found {sigma}.")


def _solve_volumes(systems: SliceSystems, sigma: float) -> FloatArray:
    """(k, 9, n) signals that explain the magnitudes best, every volume by itself."""
    signal: FloatArray = systems.operator @ systems.magnitude
    for _ in range(ROUNDS if sigma > 0 else 0):
        signal = _improve(systems, signal, sigma)
    return signal


def _improve(systems: SliceSystems, signal: FloatArray, sigma: float) -> FloatArray:
    """(k, 9, n) signals that explain the magnitudes better than the ones before.

    The linear part of the likelihood's slope: how far a magnitude lies from the mean that is
    expected counts by what it tells about the signal. The slope itself would take the narrower
    scatter of interpolated magnitudes for weaker signal.
    """
    snr = np.clip(systems.design @ signal, 0, None) / sigma
    expected = magnitude_moments(snr)
    apart = systems.magnitude / sigma - expected.mean
    return np.asarray(systems.operator @ (snr + expected.slope / expected.variance * apart)) * sigma


def _fit(
    systems: SliceSystems,
    sigma: float,
    weight: FloatArray,
    volume: FloatArray,
    gradients: Gradients,
    weighted: BoolArray,
    settings: UnmixingSettings,
) -> UnmixedValues:
    """Fit the tensors of the regions that are separated, and propagate the noise."""
    enough = determined(weight, gradients)
    fitted = (systems.n_effective >= settings.least_voxels) & enough[:, None]
    tensors, scatter, signal = _fit_tensors(systems, sigma, weight, fitted, gradients)
    unit = np.einsum("krr->kr", systems.covariance)
    noise2 = _noise_of_slices(fitted, scatter / unit[fitted], sigma)
    unexplained = _unexplained(systems, signal, sigma, weight * weighted)
    unexplained[~fitted.any(axis=1)] = np.nan
    rejected = unexplained > settings.largest_unexplained
    has_value = fitted & ~rejected[:, None]
    # Where nothing tells the noise, values stay as they are.
    bias = np.nan_to_num(noise_bias(tensors, (noise2[:, None] * unit)[fitted]))
    value = np.full((*fitted.shape, 4), np.nan)
    value[fitted] = np.clip(tensors.value - bias, 0, [1, np.inf, np.inf, np.inf])
    value[~has_value] = np.nan
    influence = np.full((*value.shape, weight.shape[1]), np.nan)
    influence[fitted] = tensors.influence
    influence[~has_value] = np.nan
    by_noise = np.einsum("krmn,ksmn,krs->kmrs", influence, influence, systems.covariance)
    covariance = by_noise * noise2[:, None, None, None]
    return UnmixedValues(value, covariance, volume, enough, unexplained, rejected, influence)


def _fit_tensors(
    systems: SliceSystems, sigma: float, weight: FloatArray, fitted: BoolArray, gradients: Gradients
) -> tuple[RegionTensors, FloatArray, FloatArray]:
    """Tensors of the regions that are fitted, how single volumes scatter about them, and signals.

    Returns
    -------
    tensors; (r,) variance about each; (k, 9, n) signals of fluid and regions, those that are fitted
    as the tensors have them
    """
    k, r = np.nonzero(fitted)
    signal = _solve_volumes(systems, sigma)
    tensors = fit_region_tensors(signal[k, 1 + r], weight[k], gradients)
    scatter = tensors.variance
    for _ in range(ROUNDS if sigma > 0 else 0):
        signal[k, 1 + r] = tensors.predicted
        signal = _improve(systems, signal, sigma)
        tensors = fit_region_tensors(signal[k, 1 + r], weight[k], gradients)
    signal[k, 1 + r] = tensors.predicted
    return tensors, scatter, signal


def _unexplained(
    systems: SliceSystems, signal: FloatArray, sigma: float, weight: FloatArray
) -> FloatArray:
    """(k,) deviation of the cord's voxels from what (k, 9, n) signals explain, by their mean.

    That is judged in the mean of the weighted volumes, where fluid is dark and a border that lies a
    little elsewhere hardly shows. Where the noise floor hides a part of a deviation, as much of the
    signal is left out. How much of it is noise is told by the scatter of the volumes in
    the voxels themselves, which interpolation makes smaller than that of a region's signal.
    """
    explained: FloatArray = systems.design @ signal
    expected = explained
    if sigma > 0:
        moments = magnitude_moments(np.clip(explained, 0, None) / sigma)
        expected, explained = moments.mean * sigma, moments.slope * explained
    total = weight.sum(axis=1)
    share = weight / np.where(total > 0, total, 1)[:, None]
    apart = systems.magnitude - expected
    level, mean_apart = (np.einsum("kmn,kn->km", x, share) for x in (explained, apart))
    inside = systems.design.any(axis=-1)
    scatter = np.einsum("kmn,kn,km->k", (apart - mean_apart[..., None]) ** 2, share**2, inside)
    left = 1 - (share**2).sum(axis=1)
    count = np.maximum(inside.sum(axis=1), 1)
    unknowns = np.einsum("krm,kmr->k", systems.operator, systems.design)
    noise = scatter / np.where(left > 0, left, 1) / count * (1 - unknowns / count)
    level, square = ((x * inside).sum(axis=1) / count for x in (level, mean_apart**2))
    deviation = np.sqrt(np.clip(square - noise, 0, None))
    return np.asarray(np.where(level > 0, deviation / np.where(level > 0, level, 1), np.nan))


def _noise_of_slices(fitted: BoolArray, variance: FloatArray, sigma: float) -> FloatArray:
    """(k,) variance of a voxel's noise, the mean of what a slice's fitted regions tell.

    A slice with no more volumes than a tensor has unknowns tells nothing; it takes what is usual in
    the other slices, or else what sigma tells. nan if that is unknown too.
    """
    whole = np.full(fitted.shape, np.nan)
    whole[fitted] = variance
    known = np.isfinite(whole)
    count = np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    mean = np.where(known, whole, 0).sum(axis=1) / count
    usual = np.nanmedian(mean) if known.any() else sigma**2 or np.nan
    return np.where(np.isfinite(mean), mean, usual)
