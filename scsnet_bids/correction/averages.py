"""Robust means over the volumes of a corrected series: the B0 image and the mean weighted image."""

from __future__ import annotations

import numpy as np

from scsnet_bids.arrays import BoolArray, FloatArray

OUTLIER_DEVIATIONS = 2.5
"""Values this many standard deviations off the mean begin to count less."""
ROUNDS = 3


def average_volumes(series: FloatArray, chosen: BoolArray, weight: FloatArray) -> FloatArray:
    """Average volumes robustly.

    Parameters
    ----------
    series : (i, j, k, n) array
    chosen : (n,) bool array, which volumes to average
    weight : (n, k) float array in [0, 1], how much each slice of each volume counts. Where none of
        the chosen volumes counts, all of them do

    Returns
    -------
    (i, j, k) float32 array
    """
    counted = weight[chosen]
    counted = np.where(counted.any(axis=0), counted, 1.0)
    slices = [
        _robust_mean(series[:, :, k, chosen][..., say > 0], say[say > 0])
        for k, say in enumerate(counted.T)
    ]
    return np.stack(slices, axis=-1)


def _robust_mean(values: FloatArray, say: FloatArray) -> FloatArray:
    """Average the last axis of a slice; values far from clean data's spread count less."""
    if len(say) <= 2:
        return np.average(values, axis=-1, weights=say).astype(np.float32)
    mean = np.median(values, axis=-1, keepdims=True)
    spread = 1.4826 * np.median(np.abs(values - mean), axis=-1, keepdims=True)
    # A few volumes tell little about the spread in a voxel: it is at least that of its slice.
    spread = np.maximum(spread, np.median(spread))
    limit = np.maximum(OUTLIER_DEVIATIONS * spread, np.finfo(np.float32).tiny)
    for _ in range(ROUNDS):
        weights = say * limit / np.maximum(np.abs(values - mean), limit)
        mean = np.average(values, axis=-1, weights=weights, keepdims=True)
    return np.asarray(mean[..., 0], dtype=np.float32)
