"""How the phantom moves, and how far its b=0 volumes lie from the weighted ones."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from scsnet_bids.arrays import BoolArray, FloatArray

SLICE_TO_VOLUME_MOTION = 0.6
LEFT_TO_POSTERIOR_MOTION = 0.6
LEFT_TO_POSTERIOR_DISTORTION = 0.25


def draw_motion(
    is_b0: BoolArray, n_slices: int, motion_mm: float, rng: np.random.Generator
) -> FloatArray:
    """Draw drift and jitter of volumes, and jitter of slices, alike in neighbours.

    Parameters
    ----------
    is_b0 : (n,) bool array
    n_slices : of the image
    motion_mm : RMS of the result
    rng : source of randomness

    Returns
    -------
    (n, k, 2) float array, (left, posterior) mm; of mean 0 over the volumes of each kind
    """
    n = is_b0.size
    drift = np.linspace(-1, 1, n)[:, None, None] * rng.normal(0, 1, 2)
    jitter = gaussian_filter1d(rng.normal(0, 1, (n, n_slices, 2)), 1.5, axis=1)
    motion = drift + rng.normal(0, 1, (n, 1, 2)) + SLICE_TO_VOLUME_MOTION * jitter / jitter.std()
    motion *= [LEFT_TO_POSTERIOR_MOTION, 1.0]
    for kind in (is_b0, ~is_b0):
        motion[kind] -= motion[kind].mean(axis=0)
    return np.asarray(motion * (motion_mm / _rms_length(motion)))


def draw_later_motion(
    n_volumes: int, n_slices: int, motion_mm: float, rng: np.random.Generator
) -> FloatArray:
    """Draw where a person lies in a scan of its own, before or after the series.

    Parameters
    ----------
    n_volumes : of that scan
    n_slices : of the image
    motion_mm : RMS of the motion of the series; of this scan it is the expected RMS
    rng : source of randomness

    Returns
    -------
    (m, k, 2) float array, (left, posterior) mm from the mean place of the series' b=0 volumes
    """
    jitter = gaussian_filter1d(rng.normal(0, 1, (n_volumes, n_slices, 2)), 1.5, axis=1)
    jitter *= SLICE_TO_VOLUME_MOTION / np.sqrt((jitter**2).mean()) if n_volumes else 1.0
    axes: FloatArray = np.array([LEFT_TO_POSTERIOR_MOTION, 1.0])
    motion = (rng.normal(0, 1, 2) + jitter) * axes
    expected = np.sqrt((axes**2).sum() * (1 + SLICE_TO_VOLUME_MOTION**2))
    return np.asarray(motion * (motion_mm / expected))


def draw_b0_to_dwi(n_slices: int, b0_to_dwi_mm: float, rng: np.random.Generator) -> FloatArray:
    """Draw the displacement from B0 to DWI: mostly front to back, changing slowly with height.

    Parameters
    ----------
    n_slices : of the image
    b0_to_dwi_mm : RMS of the result
    rng : source of randomness

    Returns
    -------
    (k, 2) float array, (left, posterior) mm
    """
    height = np.linspace(-1, 1, n_slices)[:, None]
    constant, linear, square = rng.normal(0, 0.5, (3, 2))
    course = rng.choice([-1, 1]) + constant + linear * height + square * height**2
    displacement = course * [LEFT_TO_POSTERIOR_DISTORTION, 1.0]
    return np.asarray(displacement * (b0_to_dwi_mm / _rms_length(displacement)))


def _rms_length(displacement: FloatArray) -> float:
    """Root mean square of the lengths of (..., 2) displacements."""
    return float(np.sqrt((displacement**2).sum(axis=-1).mean()))
