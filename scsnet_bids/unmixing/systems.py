"""The linear systems of a series: in every slice, magnitudes are shares times region signals.

A slice's system has the voxels of its cord as rows and fluid and the eight regions as unknowns; it
is the same for all volumes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.regions import N_CLASSES

PRESENT = 0.5
"""A volume counts in a slice if more than this part of the voxels holds a sample."""
SMALLEST_EIGENVALUE = 1e-6
"""Directions that the shares determine worse than this, relative to the best, are not solved."""
RESOLVED = 1e-6


class SliceSystems(NamedTuple):
    """The linear systems of the slices, for all volumes; m is the number of voxels.

    Attributes
    ----------
    design : (k, m, 9) shares of the cord's voxels, 0 where a slice has fewer
    magnitude : (k, m, n) samples, 0 where there is none
    operator : (k, 9, m) solves for the signals by least squares
    covariance : (k, 8, 8) of the regions' signals for noise of variance 1
    n_effective : (k, 8) voxels filled by this region alone that would determine its signal as
        well; 0 where the shares do not separate it from the others
    present : (k, n) whether the volume counts in the slice
    """

    design: FloatArray
    magnitude: FloatArray
    operator: FloatArray
    covariance: FloatArray
    n_effective: FloatArray
    present: BoolArray


def gather_systems(
    series: FloatArray, share: FloatArray, cord_share: float, *, signed: bool
) -> SliceSystems:
    """Set up the systems of the voxels of the cord.

    Parameters
    ----------
    series : (i, j, k, n) float array
    share : (i, j, k, 9) float array, part of each voxel that background and each region fill
    cord_share : voxels that the cord fills to more than this are taken
    signed : whether samples may be negative; if not, they count as 0

    Returns
    -------
    SliceSystems
    """
    design, magnitude, present = _gather_voxels(series, share, cord_share)
    if not signed:
        magnitude = np.clip(magnitude, 0, None)
    design[..., 0] = np.where(design.any(axis=-1), 1 - design[..., 1:].sum(axis=-1), 0)
    inverse, separated = _invert(design.swapaxes(1, 2) @ design)
    variance = np.einsum("krr->kr", inverse)[:, 1:]
    n_effective = np.where(separated[:, 1:], 1 / np.where(variance > 0, variance, np.inf), 0)
    operator = inverse @ design.swapaxes(1, 2)
    return SliceSystems(design, magnitude, operator, inverse[:, 1:, 1:], n_effective, present)


def _gather_voxels(
    series: FloatArray, share: FloatArray, cord_share: float
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """(k, m, 9) shares and (k, m, n) samples of the cord's voxels, 0 where a slice has fewer.

    A volume without samples in a slice is 0 there and absent from (k, n); a voxel that lacks
    samples in any other volume is left out.
    """
    total = share[..., 1:].sum(axis=-1)
    chosen = np.isfinite(total) & (total > cord_share)
    lists = [(share[chosen[..., k], k], series[chosen[..., k], k]) for k in range(share.shape[2])]
    n_voxels = max((len(shares) for shares, _ in lists), default=0)
    design = np.zeros((len(lists), n_voxels, N_CLASSES))
    magnitude = np.zeros((len(lists), n_voxels, series.shape[3]))
    present = np.zeros((len(lists), series.shape[3]), dtype=bool)
    for k, (shares, samples) in enumerate(lists):
        finite, something = np.isfinite(samples), samples != 0
        present[k] = (finite & something).sum(axis=0) > PRESENT * len(samples)
        whole = finite[:, present[k]].all(axis=1) & something[:, present[k]].any(axis=1)
        rows = np.flatnonzero(whole)
        design[k, : rows.size] = shares[rows]
        magnitude[k, : rows.size] = np.where(present[k], samples[rows], 0)
    return design, magnitude, present


def _invert(normal: FloatArray) -> tuple[FloatArray, BoolArray]:
    """(k, 9, 9) inverses on what is determined, and (k, 9) which regions are."""
    eigenvalues, vectors = np.linalg.eigh(normal)
    solved = eigenvalues > SMALLEST_EIGENVALUE * eigenvalues[:, -1:]
    reciprocal = np.where(solved, 1 / np.where(solved, eigenvalues, 1), 0)
    inverse = np.einsum("kre,ke,kse->krs", vectors, reciprocal, vectors)
    resolution = np.einsum("kre,ke->kr", vectors**2, solved.astype(float))
    return inverse, resolution > 1 - RESOLVED
