"""What the scanner makes of the phantom's signal: lost slices, the coil, the matrix, noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scsnet_bids.arrays import BoolArray, FloatArray


def lose_slices(
    share: float, is_b0: BoolArray, n_slices: int, rng: np.random.Generator
) -> tuple[BoolArray, FloatArray]:
    """Choose which slices of weighted volumes lose their signal.

    Parameters
    ----------
    share : of them, 0 to 1
    is_b0 : (n,) bool array
    n_slices : of the image
    rng : source of randomness

    Returns
    -------
    (n, k) bool array, which do, and (n, k) float array, what share of each signal is left
    """
    lost = (rng.random((is_b0.size, n_slices)) < share) & ~is_b0[:, None]
    return lost, np.where(lost, rng.uniform(0.05, 0.4, lost.shape), 1.0)


def draw_receive_field(region_share: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw the sensitivity of the coil: smooth, still, on average 1 in the cord.

    Parameters
    ----------
    region_share : (i, j, k, 9) float array in [0, 1], background first
    rng : source of randomness

    Returns
    -------
    (i, j, k) float array
    """
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in region_share.shape[:3]), indexing="ij")
    tilt = rng.normal(0, [0.05, 0.05, 0.08])
    field = 1 + np.tensordot(tilt, np.stack(axes), 1) + 0.1 * axes[0] ** 2
    return np.asarray(field / np.average(field, weights=1 - region_share[..., 0]))


def truncate_spectrum(slices: FloatArray) -> FloatArray:
    """See slices through the matrix of a scan, which rings beside every edge (Gibbs).

    Parameters
    ----------
    slices : (..., 2 rows, 2 columns) float array on the plane of a plane divided by 2

    Returns
    -------
    (..., rows, columns) float array; only the frequencies of that matrix are left
    """
    for axis in (-2, -1):
        slices = _truncate_last_axis(slices.swapaxes(axis, -1)).swapaxes(axis, -1)
    return slices


def add_noise(clean: FloatArray, sigma: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Take the magnitude of a signal with complex Gaussian noise (gudbjartsson1995).

    Parameters
    ----------
    clean : float array
    sigma : SD of the noise in either part
    rng : source of randomness

    Returns
    -------
    float32 array
    """
    real, imaginary = sigma * rng.normal(0, 1, (2, *clean.shape))
    return np.asarray(np.hypot(clean + real, imaginary), dtype=np.float32)


def _truncate_last_axis(values: FloatArray) -> FloatArray:
    """Keep the lower half of the frequencies along the last axis, at half as many places."""
    n = values.shape[-1] // 2
    frequency = np.fft.fftfreq(n, 1 / n)
    spectrum = np.fft.fft(values, axis=-1)[..., frequency.astype(int)]
    # The middle of a voxel lies a quarter of it behind the middle of its first half.
    spectrum = spectrum * np.exp(2j * np.pi * frequency / (4 * n))
    return np.asarray(np.fft.ifft(spectrum, axis=-1).real / 2)
