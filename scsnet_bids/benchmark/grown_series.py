"""Series of any size that differ in nothing but their size.

What grows must be the same work, only more of it. So the noise of every volume is its own, since
noise that repeats looks like eddy currents in a long series; and there is tissue up to the edge,
since a large matrix with a few bright voxels is not stored as integers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scsnet_bids.benchmark.motion_cases import Series
from scsnet_bids.phantom import PhantomSettings, simulate
from scsnet_bids.phantom.acquisition import add_noise
from scsnet_bids.phantom.signals import WHITE_SIGNAL

SMALL = PhantomSettings(
    slices=6, matrix=(64, 48), directions=30, snr=np.inf, motion_mm=0.6, b0_to_dwi_mm=0.0
)
SNR = 12.0
"""Of white matter at b=0."""


class Size(NamedTuple):
    """Size of a series: voxels along both axes of a slice, slices, volumes."""

    matrix: int
    slices: int
    volumes: int

    @property
    def amount(self) -> int:
        """Slices of all volumes."""
        return self.slices * self.volumes

    def __str__(self) -> str:
        return f"{self.matrix} x {self.matrix} x {self.slices} x {self.volumes}"


def grow_series(size: Size, seed: int) -> Series:
    """Make a series of any size: a small phantom mirrored along z, repeated, its edges drawn out.

    Parameters
    ----------
    size : wanted, at least the matrix of the phantom
    seed : of the phantom and the noise

    Returns
    -------
    Series
    """
    phantom, rng = simulate(SMALL, seed), np.random.default_rng(seed)
    chosen = np.arange(size.volumes) % phantom.series.shape[3]
    around = [(n // 2, n - n // 2) for n in size.matrix - np.array(phantom.series.shape[:2])]
    mirrored = np.pad(np.arange(SMALL.slices), (0, size.slices), mode="reflect")[: size.slices]
    data = np.empty((size.matrix, size.matrix, size.slices, size.volumes), np.float32)
    for k, source in enumerate(mirrored):
        clean = np.pad(phantom.series[:, :, source, chosen], [*around, (0, 0)], mode="edge")
        data[:, :, k] = add_noise(clean, WHITE_SIGNAL / SNR, rng)
    grid = phantom.grid.resized((size.matrix, size.matrix, size.slices), phantom.grid.affine)
    unknown = np.full((size.slices, 2), np.nan)  # ours looks for the cord by itself
    return Series(data, phantom.gradients.select(chosen), grid, unknown)
