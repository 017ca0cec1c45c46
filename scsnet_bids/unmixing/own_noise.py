"""How much of a region's b=0 signal is the noise on which the region was drawn.

The network draws on the mean of the b=0 volumes, whose signals are unmixed afterwards. A voxel at
the edge of the cord that noise has darkened looks like cord, one that it has brightened like fluid:
white matter gets a little too little b=0 signal, and so too low an MD. Regions that are drawn
without a part of the volumes know nothing of its noise. What they show in it, less what they show
in all volumes, is what is missing (cross-fitting, as in Chernozhukov et al. 2018,
10.1111/ectj.12097).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.gradients import Gradients, tensor_volumes
from scsnet_bids.regions import N_CLASSES
from scsnet_bids.settings import GradientSettings, UnmixingSettings
from scsnet_bids.unmixing.signals import UnmixedValues, solve_signals

MOST_PARTS = 3
"""More cost time, and tell the same within a fifth of a percent of MD."""


def split_volumes(is_b0: BoolArray) -> list[BoolArray]:
    """Split the b=0 volumes into parts, whose volumes lie between each other.

    Parameters
    ----------
    is_b0 : (n,) bool array

    Returns
    -------
    list of (n,) bool arrays; empty if there is no second volume

    >>> [part.astype(int).tolist() for part in split_volumes(np.array([1, 0, 1, 1, 1], bool))]
    [[1, 0, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]]
    """
    volumes = np.flatnonzero(is_b0)
    n_parts = min(MOST_PARTS, volumes.size) if volumes.size > 1 else 0
    numbers = np.arange(is_b0.size)
    return [np.isin(numbers, volumes[first::n_parts]) for first in range(n_parts)]


def estimate_own_noise(
    series: FloatArray,
    parts: Sequence[BoolArray],
    shares: Sequence[FloatArray],
    weight: FloatArray,
    settings: UnmixingSettings,
) -> FloatArray:
    """Estimate what the b=0 signals of regions owe to the noise on which these were drawn.

    Parameters
    ----------
    series : (i, j, k, n) float array, corrected series
    parts : (n,) bool arrays, of :func:`split_volumes`
    shares : (i, j, k, 9) float arrays, those of regions drawn without each part
    weight : (n, k) float array in [0, 1], how much each slice of each volume counts
    settings : which voxels are solved

    Returns
    -------
    (k, 8) float array, unit of the signal; 0 where a slice has no second part
    """
    own = np.zeros((series.shape[2], N_CLASSES - 1))
    if not parts:
        return own
    say = np.array([weight[part].sum(axis=0) for part in parts])
    total = say.sum(axis=0)
    means = np.array([_weighted_mean(series[..., part], weight[part]) for part in parts])
    mean = (means * say[:, None, None]).sum(axis=0) / np.where(total > 0, total, 1)
    for share, part_mean, part_say in zip(shares, means, say, strict=True):
        apart = solve_signals((part_mean - mean)[..., None], share, settings)[..., 0]
        own -= apart * np.where(total > 0, part_say / np.where(total > 0, total, 1), 0)[:, None]
    return own


def take_out_own_noise(
    unmixed: UnmixedValues,
    own_noise: FloatArray,
    gradients: Gradients,
    gradient_settings: GradientSettings,
) -> UnmixedValues:
    """Take from the values, to first order, what their b=0 signals owe to their own noise.

    Parameters
    ----------
    unmixed : values
    own_noise : (k, 8) float array, of :func:`estimate_own_noise`
    gradients, gradient_settings : those of the values

    Returns
    -------
    UnmixedValues
    """
    bvals = gradients.bvals[tensor_volumes(gradients.bvals, gradient_settings)]
    of_b0 = unmixed.influence[..., bvals <= gradient_settings.b0_max].sum(axis=-1)
    value = np.clip(unmixed.value - of_b0 * own_noise[..., None], 0, [1, np.inf, np.inf, np.inf])
    return replace(unmixed, value=value)


def _weighted_mean(series: FloatArray, weight: FloatArray) -> FloatArray:
    """(i, j, k) mean of volumes whose slices count (n, k); 0 where none does."""
    total = weight.sum(axis=0)
    counted = np.where(weight.T > 0, series, 0)
    summed = np.einsum("ijkn,nk->ijk", counted, weight)
    return np.asarray(summed / np.where(total > 0, total, 1))
