"""The noise level of a diffusion series: from air where there is some, else from the tensor fit.

Air holds the magnitude of complex Gaussian noise: a Rayleigh distribution, whose mean and standard
deviation both give sigma (gudbjartsson1995). Only where the two agree is it believed. Air is as
bright in the b=0 volumes as in the weighted ones, which no tissue is; this tells the two apart.
The scatter of repeated b=0 volumes is never used: pulsation inflates it by a third.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]

RAYLEIGH_MEAN = float(np.sqrt(np.pi / 2))
RAYLEIGH_SD = float(np.sqrt(2 - np.pi / 2))
AGREEMENT = 0.1
"""Mean and standard deviation, b=0 and weighted volumes, must give the same within this."""
LEAST_VOXELS = 100
BRIGHTEST = 3.0
"""Above this ratio of mean to standard deviation it is no air, whatever the number of coils is
(4 channels added as squares have 4.0, but so has dim tissue)."""
WINDOW = 3.0
"""Air varies between voxels within this many standard errors of the mean over volumes."""
N_LEVELS = 120

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
    "signed": "the series holds negative values: it is no magnitude and has no noise floor",
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


def estimate_noise(
    series: FloatArray, is_b0: BoolArray, residual: FloatArray, cord_mask: BoolArray
) -> NoiseLevel:
    """Estimate the noise level of a series.

    Parameters
    ----------
    series : (i, j, k, n) float array of magnitudes, best as acquired: interpolation smooths noise
    is_b0 : (n,) bool array
    residual : (i, j, k) float array, standard deviation about the tensor fit
    cord_mask : (i, j, k) bool array

    Returns
    -------
    NoiseLevel
    """
    fallback = _from_residual(residual, cord_mask)
    if np.nanmin(series, initial=0) < 0:
        return NoiseLevel(fallback, *_source_and_flag(fallback, "signed"))
    voxels = _unmasked(series, cord_mask)
    level = _air_level(voxels[:, ~is_b0], voxels[:, is_b0])
    if level is None:
        return NoiseLevel(fallback, *_source_and_flag(fallback, "no_background"))
    by_mean, by_sd = level
    if abs(by_sd / by_mean - 1) > AGREEMENT:
        return NoiseLevel(fallback, *_source_and_flag(fallback, "not_rayleigh"))
    return NoiseLevel((by_mean + by_sd) / 2, "background", None)


def _source_and_flag(fallback: float, flag: str) -> tuple[str, str]:
    """Name where the noise level comes from when the background does not tell it."""
    return ("tensor_residual", flag) if fallback > 0 else ("none", "unknown")


def _from_residual(residual: FloatArray, cord_mask: BoolArray) -> float:
    """Median residual in the cord, nan where there is none."""
    inside = residual[cord_mask & np.isfinite(residual)]
    return float(np.median(inside)) if inside.size and np.median(inside) > 0 else float("nan")


def _unmasked(series: FloatArray, cord_mask: BoolArray) -> FloatArray:
    """(voxels, n) samples outside the cord of the voxels that hold something in every volume."""
    voxels = series[~cord_mask]
    return np.asarray(voxels[(np.isfinite(voxels) & (voxels > 0)).all(axis=1)], dtype=float)


def _air_level(weighted: FloatArray, b0: FloatArray) -> tuple[float, float] | None:
    """Sigma by mean and by standard deviation of the most voxels alike that can be air.

    Voxels count as alike when their means over volumes lie as close together as the samples'
    scatter allows. Where no set of them has a Rayleigh distribution, the largest one that is as
    bright at b=0 is taken.
    """
    if weighted.shape[1] < 2 or len(weighted) < LEAST_VOXELS:
        return None
    mean, square = weighted.mean(axis=1), (weighted**2).mean(axis=1)
    bright = b0.mean(axis=1) if b0.shape[1] else mean
    half_width = WINDOW * RAYLEIGH_SD / RAYLEIGH_MEAN / np.sqrt(weighted.shape[1])
    found = []
    for level in np.geomspace(mean.min(), mean.max(), N_LEVELS):
        alike = np.abs(mean / level - 1) < half_width
        count = int(alike.sum())
        if count < LEAST_VOXELS:
            continue
        pooled = float(mean[alike].mean())
        sd = float(np.sqrt(max(square[alike].mean() - pooled**2, 0.0)))
        if abs(bright[alike].mean() / pooled - 1) < AGREEMENT and pooled < BRIGHTEST * sd:
            by_mean, by_sd = pooled / RAYLEIGH_MEAN, sd / RAYLEIGH_SD
            found.append((abs(by_sd / by_mean - 1) <= AGREEMENT, count, by_mean, by_sd))
    return max(found)[2:] if found else None
