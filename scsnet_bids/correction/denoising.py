"""Noise and Gibbs ringing, removed from the series as it was acquired: DIPY's methods, made safe.

A sample that is 0 before is 0 after: what was not measured is not invented. The noise floor stays
in what these methods return, as it is the mean of the noise and not its scatter: the noise level
that unmixing needs is that of the series before, see :func:`add_removed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.errors import InputDataError, ScsnetError
from scsnet_bids.images import read_grid
from scsnet_bids.prior_results import settings_of_run
from scsnet_bids.runs import DwiRun, leave_out
from scsnet_bids.settings import DenoisingSettings, Settings

LEAST_VOLUMES = 10
"""With fewer, neither method can tell noise from signal."""
WINDOW_RADIUS = 2
"""Voxels around one that are denoised with it, where the volumes ask for no more."""


def denoise(series: FloatArray, is_b0: BoolArray, settings: DenoisingSettings) -> FloatArray:
    """Remove noise, then Gibbs ringing, as far as either is asked for.

    Parameters
    ----------
    series : (i, j, k, n) float array, magnitudes as acquired; slices lie along axis 2
    is_b0 : (n,) bool array
    settings : of the stage

    Returns
    -------
    (i, j, k, n) float array, of the type of ``series``

    Raises
    ------
    InputDataError
        If there are too few volumes for the method.
    """
    check_volumes(series.shape[3], settings)
    methods = {"mppca": _denoise_mppca, "patch2self": _denoise_patch2self}
    cleaned = series
    if settings.method != "none":
        cleaned = methods[settings.method](series, is_b0)
    if settings.degibbs:
        cleaned = _remove_ringing(cleaned)
    lowest = min(0.0, float(np.nanmin(series)))
    kept = np.where(series == 0, 0, np.clip(cleaned, lowest, None))
    return np.asarray(kept, dtype=series.dtype)


def removed_deviation(before: FloatArray, after: FloatArray) -> FloatArray:
    """Tell how much scatter was removed from every voxel.

    Parameters
    ----------
    before, after : (i, j, k, n) float arrays

    Returns
    -------
    (i, j, k) float array, standard deviation over the volumes, unit of the signal
    """
    return np.asarray((np.asarray(before, dtype=float) - after).std(axis=3))


def add_removed(residual: FloatArray, removed: FloatArray) -> FloatArray:
    """Tell the noise before denoising from what is left of it and what was removed.

    As if both parts were independent, which they are not quite: on phantoms the result is 5 to 17 %
    too low after MP-PCA or removal of ringing, and up to a sixth too high after Patch2Self, whose
    part holds the error of its prediction (``tests/benchmarks/denoising.py``).

    Parameters
    ----------
    residual : float array, standard deviation of what is left
    removed : float array, that of what was removed

    Returns
    -------
    float array

    >>> float(add_removed(np.array(3.0), np.array(4.0)))
    5.0
    """
    return np.asarray(np.hypot(residual, removed))


def check_volumes(n_volumes: int, settings: DenoisingSettings, name: str = "the series") -> None:
    """Make sure that there are volumes enough for the method.

    Parameters
    ----------
    n_volumes : how many there are
    settings : of the stage
    name : of the series, for the message

    Raises
    ------
    InputDataError
        If they are too few.
    """
    if settings.method != "none" and n_volumes < LEAST_VOLUMES:
        raise InputDataError(
            f"--denoise {settings.method} needs {LEAST_VOLUMES} volumes to tell noise from signal: "
            f"{name} has {n_volumes}. Use --denoise none for it."
        )


def check_runs(
    good: Sequence[DwiRun], left_out: Mapping[DwiRun, ScsnetError], settings: Settings
) -> tuple[list[DwiRun], dict[DwiRun, ScsnetError]]:
    """Leave out the runs that have too few volumes for the method.

    Parameters
    ----------
    good : runs to process
    left_out : the others, with the reason
    settings : of all runs

    Returns
    -------
    list of DwiRun and dict of ScsnetError by DwiRun, as they were given
    """

    def check(run: DwiRun) -> None:
        own = settings_of_run(run, settings).denoising
        check_volumes(read_grid(run.image)[1], own, str(run.image))

    return leave_out(good, left_out, check)


def _denoise_mppca(series: FloatArray, _: BoolArray) -> FloatArray:
    """Keep the principal components that are more than noise (veraart2016)."""
    from dipy.denoise.localpca import mppca

    radius = window_radius(series.shape)
    return np.asarray(mppca(series, patch_radius=np.array(radius), suppress_warning=True))


def window_radius(shape: Sequence[int]) -> tuple[int, int, int]:
    """Choose the window of MP-PCA, which must hold more voxels than there are volumes.

    Parameters
    ----------
    shape : (i, j, k, n) of the series

    Returns
    -------
    (3,) int, voxels; smaller along an axis that is too short, wider in the plane for many volumes

    Examples
    --------
    >>> window_radius((96, 96, 15, 35)), window_radius((48, 40, 4, 35))
    ((2, 2, 2), (2, 2, 1))
    >>> window_radius((128, 128, 40, 300))
    (4, 4, 2)
    """
    largest = [(n - 1) // 2 for n in shape[:3]]
    along = min(WINDOW_RADIUS, largest[2])
    needed = np.sqrt((shape[3] + 1) / (2 * along + 1))
    within = max(WINDOW_RADIUS, int(np.ceil((needed - 1) / 2)))
    return min(within, largest[0]), min(within, largest[1]), along


def _denoise_patch2self(series: FloatArray, is_b0: BoolArray) -> FloatArray:
    """Replace each volume by what the others of its kind predict of it (fadnavis2020).

    DIPY 1.12.1 returns volumes of a wrong level by version 1, as it predicts from centred data,
    and by version 3 wrong last volumes, unless their number is a multiple of five, and other
    figures in every run. A regression keeps the mean of each volume, so version 1 is put right.
    """
    from dipy.denoise.patch2self import patch2self

    bvals = np.where(is_b0, 0.0, 1000.0)
    predicted = patch2self(series.astype(float), bvals, version=1, shift_intensity=False)
    level = series.mean(axis=(0, 1, 2), dtype=float) - predicted.mean(axis=(0, 1, 2))
    return np.asarray(predicted + level)


def _remove_ringing(series: FloatArray) -> FloatArray:
    """Shift each slice by parts of a voxel to where it rings least (kellner2016)."""
    from dipy.denoise.gibbs import gibbs_removal

    return np.asarray(gibbs_removal(series.astype(float), slice_axis=2, inplace=False))
