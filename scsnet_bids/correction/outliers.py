"""Find slices of volumes that lost their signal, or have too much of it.

Swallowing and pulsation take the signal of single slices while the gradients are on. The cord of a
slice is looked at as one number per volume, a mean around the cord that follows its brightness.
Weighted volumes are held against a tensor, b=0 volumes against their own level, in a fit that
survives the loss of half of a slice's volumes (``robust_regression``). The direction
of a gradient is part of what is expected, so its contrast is not read as loss.

An outlier is farther from what is expected than noise and the usual unrest of the series allow. It
then hardly counts: the less, the more is missing. A slice whose weighted volumes are mostly lost
shows by its attenuation, against that of the other slices; none of them counts then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.correction.robust_regression import Levels, expect_signals
from scsnet_bids.gradients import Gradients, b0_volumes, weighted_volumes
from scsnet_bids.images import Grid
from scsnet_bids.settings import GradientSettings
from scsnet_bids.slices import PlaneGrid
from scsnet_bids.unmixing.region_tensor import tensor_design

RADIUS_MM, TAPER_MM = 7.0, 2.0
"""Window around the cord, which measures 8 by 13 mm, and the width over which it ends."""
BRIGHT, DARK = 0.75, 0.25
"""Quantiles: over volumes, what a voxel shows although many are lost; over the window, what is not
cord, which fills less than half of it."""
SIGNIFICANT = 3.29
"""Standard deviations that chance exceeds once in a thousand times."""
LARGEST_CHANGE = 0.2
"""With this part of its signal lost, or as much too much, an outlier does not count at all: a
volume that has lost a quarter tells half as much diffusivity again, and half a say still shows in
MD where a fifth of the slices have such losses (``tests/benchmarks/soft_losses.py``)."""
MOSTLY_LOST = 0.5
"""With this part lost in its typical weighted volume, none of a slice's counts."""
ELEMENT_SPREAD = 0.3
"""Standard deviation of a tensor's elements between slices, 1e-3 mm2/s: what a turn of the cord by
15 degrees does to them."""
FEWEST = 3
"""Volumes of one kind, or slices, to tell which of them is wrong."""
FLOOR_BY_BRIGHT = 0.753
"""Mean by quantile BRIGHT of noise alone, which has a Rayleigh distribution (gudbjartsson1995)."""


@dataclass(frozen=True, eq=False)
class SliceOutliers:
    """What was found in every slice of every volume.

    Attributes
    ----------
    signal : (n, k) mean around the cord, unit of the series
    expected : (n, k) in the same unit; nan where there is nothing to compare with
    deviation : (n, k) logarithm of their ratio in standard deviations; nan likewise, and where
        there is no signal at all
    weight : (n, k) in [0, 1], how much it counts
    kind : (n, k) str array, one of ``outlier_table.KINDS``
    """

    signal: FloatArray
    expected: FloatArray
    deviation: FloatArray
    weight: FloatArray
    kind: npt.NDArray[np.str_]


def find_outliers(
    series: FloatArray,
    gradients: Gradients,
    centre_mm: FloatArray,
    grid: Grid,
    settings: GradientSettings,
) -> SliceOutliers:
    """Judge the signal of every slice of every volume around the cord.

    Parameters
    ----------
    series : (i, j, k, n) float array in LPS order, corrected. What is not finite counts as 0
    gradients : of the n volumes
    centre_mm : (k, 2) cord centre (left, posterior) from the first voxel; nan where not known
    grid : of the series
    settings : which volumes are b=0, and which enter the tensor

    Returns
    -------
    SliceOutliers
    """
    is_b0 = b0_volumes(gradients.bvals, settings.b0_max)
    weighted = weighted_volumes(gradients.bvals, settings)
    signal, spread2, floor, absent = _cord_signals(series, weighted, centre_mm, grid)
    expected, deviation = np.full((2, *signal.shape), np.nan)
    tensor = tensor_design(gradients) * np.r_[1.0, np.full(6, ELEMENT_SPREAD)]
    for volumes, design in ((is_b0, tensor[:, :1]), (weighted, tensor)):
        if volumes.sum() >= FEWEST:
            levels = Levels(signal[volumes], spread2, design[volumes])
            expected[volumes], deviation[volumes] = expect_signals(levels)
    weight, kind = _weigh(signal, expected, deviation, floor, absent)
    hopeless = weighted[:, None] & _mostly_lost(signal[is_b0], expected[weighted])
    weight, kind = np.where(hopeless, 0.0, weight), np.where(hopeless, "lost", kind)
    return SliceOutliers(signal, expected, deviation, weight, kind)


def _cord_signals(
    series: FloatArray, weighted: BoolArray, centre_mm: FloatArray, grid: Grid
) -> tuple[FloatArray, FloatArray, FloatArray, BoolArray]:
    """(n, k) mean around the cord, (k,) its variance by that of voxel noise, and (k,) noise floor.

    Also (n, k) whether a volume holds nothing there while others do.

    Voxels weigh by what they show in the weighted volumes, in which the cord is bright and alone;
    alike where these show nothing and others do.
    """
    disc = _disc(centre_mm, grid)
    signal, (spread2, floor) = np.zeros(series.shape[:1:-1]), np.zeros((2, series.shape[2]))
    absent = np.zeros(signal.shape, dtype=bool)
    for k in np.flatnonzero(disc.any(axis=(0, 1)) & weighted.any()):
        inside = disc[..., k] > 0
        samples = np.nan_to_num(series[inside, k], posinf=0, neginf=0).astype(float)  # (m, n)
        holds = samples.any(axis=0)
        absent[:, k] = ~holds & holds.any()
        bright = np.quantile(samples[:, weighted], BRIGHT, axis=1)
        dark = np.quantile(bright, DARK)
        floor[k] = max(FLOOR_BY_BRIGHT * dark, 0.0)
        window = disc[inside, k]
        if bright.any() or not samples.any():
            window = window * np.clip(bright - dark, 0, None)
        if window.any():
            window /= window.sum()
            signal[:, k], spread2[k] = window @ samples, window @ window
    return signal, spread2, floor, absent


def _disc(centre_mm: FloatArray, grid: Grid) -> FloatArray:
    """(i, j, k) disc around the centre of the cord whose edge tapers off; 0 where not known."""
    distance_mm = PlaneGrid.of_image(grid).distance_mm(centre_mm)
    disc = np.clip((RADIUS_MM - distance_mm) / TAPER_MM + 0.5, 0, 1)
    return np.asarray(np.nan_to_num(disc))


def _weigh(
    signal: FloatArray,
    expected: FloatArray,
    deviation: FloatArray,
    floor: FloatArray,
    absent: BoolArray,
) -> tuple[FloatArray, npt.NDArray[np.str_]]:
    """(n, k) weights and kinds; without an expectation, or with one below the floor, all counts.

    But not what is absent. The floor is not taken for signal that is left.
    """
    judged = expected > floor
    left = _above_floor(signal, floor) / np.where(judged, _above_floor(expected, floor), 1)
    doubtful = judged & (np.abs(deviation) > SIGNIFICANT)
    by_change = np.clip(1 - np.abs(left - 1) / LARGEST_CHANGE, 0, 1)
    absent = absent | (judged & (signal <= 0))
    weight = np.where(absent, 0.0, np.where(doubtful, by_change, 1.0))
    lost = absent | (doubtful & (left < 1) & (weight == 0))
    kind = np.select(
        [lost, ~judged, doubtful & (left < 1), doubtful],
        ["lost", "unjudged", "weak", "bright"],
        "kept",
    )
    return weight, kind


def _mostly_lost(b0: FloatArray, expected: FloatArray) -> BoolArray:
    """(k,) slices that show too little in (n, k) weighted volumes for what they show without.

    There the lost volumes outnumber the good ones, and took their place in the fit.
    """
    if not (len(b0) and len(expected)):
        return np.zeros(b0.shape[1], dtype=bool)
    unweighted = np.median(b0, axis=0)
    attenuation = np.median(expected, axis=0) / np.where(unweighted > 0, unweighted, np.nan)
    known = attenuation[np.isfinite(attenuation)]
    typical = np.median(known) if known.size >= FEWEST else 0.0
    return np.asarray(attenuation < (1 - MOSTLY_LOST) * typical)


def _above_floor(magnitude: FloatArray, floor: FloatArray) -> FloatArray:
    """Signal without the noise floor."""
    return np.asarray(np.sqrt(np.clip(magnitude**2 - floor**2, 0, None)))
