"""Ways to correct the motion of a series: ours, and those that people use.

Every method gets the same series and gives back a corrected one and the displacements that it
found at the cord. Methods that register slice by slice cannot look for the cord: they are told
where it is, correct each volume to the mean of the others of its kind, in two rounds, and leave
slices where they are that they would move farther than ours may. Their corrected series is one
cubic interpolation.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage
from scipy.signal.windows import tukey

from scsnet_bids.arrays import FloatArray
from scsnet_bids.benchmark.motion_cases import Series
from scsnet_bids.benchmark.peers import gradient_table
from scsnet_bids.settings import GradientSettings, MotionSettings

HALF_WIDTH_MM = 16.0
"""Of the square around the cord that slice-wise methods look at."""
ROUNDS = 2
FINE = 20
"""Parts of a voxel that phase correlation tells apart."""
PHASE_AXIS = 1
"""Front to back: of the phantoms, and of series that do not say."""
NONE, OURS = "none", "ours"


class Corrected(NamedTuple):
    """What a method makes of a series.

    Attributes
    ----------
    data : (i, j, k, n) float array, corrected
    shift_mm : (n, k, 2) float array, what must be added to a position (left, posterior) of the
        cord in the original slice to get its position in the corrected one
    weight : (n, k) float array in [0, 1], how much each slice of each volume counts; None where a
        method does not look for slices that lost their signal
    """

    data: FloatArray
    shift_mm: FloatArray
    weight: FloatArray | None = None


Method = Callable[[Series], Corrected]
FindShift = Callable[[FloatArray, FloatArray, tuple[float, float]], FloatArray]
"""From reference, slice (both (p, q)) and voxel size to displacement (2,) in voxels."""


def prepare(name: str) -> Method:
    """Import what a method needs, so that its time is that of the correction.

    Parameters
    ----------
    name : key of ``METHODS``

    Returns
    -------
    function that corrects a series
    """
    return METHODS[name]()


def missing_methods() -> dict[str, str]:
    """Say which methods cannot be had here, and why."""
    if find_spec("ants") is None:
        return {ANTS: 'antspyx is not installed: pip install "scsnet-bids[benchmark]"'}
    return {}


def leave(series: Series) -> Corrected:
    """Correct nothing."""
    return Corrected(series.data, np.zeros((*series.data.shape[:1:-1], 2)))


def _prepare_ours() -> Method:
    """Locate the cord, estimate, correct and look for lost slices, as the app does."""
    from scsnet_bids.correction.eddy import estimate_eddy
    from scsnet_bids.correction.motion import estimate_motion
    from scsnet_bids.correction.outliers import find_outliers
    from scsnet_bids.correction.resampling import Correction, apply_correction
    from scsnet_bids.network.inference import locate_cord
    from scsnet_bids.network.weights import load_network

    network = load_network("cpu")

    def correct(series: Series) -> Corrected:
        data, grid, gradients, is_b0 = series.data, series.grid, series.gradients, series.is_b0
        centre_mm = locate_cord(data[..., is_b0].mean(axis=-1), grid, network)
        found = estimate_motion(data, is_b0, centre_mm, grid, MotionSettings(), gradients)
        eddy = estimate_eddy(data, found.shift_mm, centre_mm, grid, gradients, is_b0, PHASE_AXIS)
        corrected = apply_correction(data, Correction(found.shift_mm, eddy), grid)
        outliers = find_outliers(corrected, gradients, centre_mm, grid, GradientSettings())
        return Corrected(corrected, found.shift_mm, outliers.weight)

    return correct


def _prepare_dipy(last_step: str) -> Method:
    """Register whole volumes with DIPY, up to a rigid or an affine transform."""
    from dipy.align import motion_correction

    steps = ["center_of_mass", "translation", "rigid", "affine"]
    pipeline = steps[: steps.index(last_step) + 1]

    def correct(series: Series) -> Corrected:
        image, transforms = motion_correction(
            series.data.astype(float),
            gradient_table(series.gradients),
            affine=series.grid.affine,
            pipeline=pipeline,
        )
        data = np.asarray(image.dataobj)
        return Corrected(data, _at_cord_mm(np.moveaxis(transforms, -1, 0), series))

    return correct


def _prepare_phase() -> Method:
    """Phase correlation of slices, refined by a matrix Fourier transform."""
    return lambda series: _slice_by_slice(series, phase_shift)


def _prepare_ants() -> Method:
    """Translate slices with ANTs, by their correlation."""
    import ants

    def find_shift(
        reference: FloatArray, moving: FloatArray, spacing_mm: tuple[float, float]
    ) -> FloatArray:
        fixed, image = (
            ants.from_numpy(np.ascontiguousarray(part, dtype=np.float32), spacing=spacing_mm)
            for part in (reference, moving)
        )
        found = ants.registration(fixed, image, type_of_transform="Translation", aff_metric="GC")
        fixed_to_moving_mm = ants.read_transform(found["fwdtransforms"][0]).parameters[-2:]
        # Each run looks through all that lies beside its own files, which would stay.
        for path in {*found["fwdtransforms"], *found["invtransforms"]}:
            Path(path).unlink()
        return -np.asarray(fixed_to_moving_mm) / spacing_mm

    return lambda series: _slice_by_slice(series, find_shift)


ANTS = "ANTs, slices"
METHODS: dict[str, Callable[[], Method]] = {
    NONE: lambda: leave,
    "DIPY rigid": lambda: _prepare_dipy("rigid"),
    "DIPY affine": lambda: _prepare_dipy("affine"),
    "phase correlation, slices": _prepare_phase,
    ANTS: _prepare_ants,
    OURS: _prepare_ours,
}


def phase_shift(
    reference: FloatArray, moving: FloatArray, spacing_mm: tuple[float, float]
) -> FloatArray:
    """Find how a slice must be moved to match a reference, by the phases of their spectra.

    Parameters
    ----------
    reference, moving : (p, q) float arrays
    spacing_mm : not needed

    Returns
    -------
    (2,) float array, voxels

    >>> image = np.random.default_rng(0).normal(size=(24, 24))
    >>> phase_shift(image, np.roll(image, (2, -1), (0, 1)), (1, 1)).tolist()
    [-2.0, 1.0]
    """
    window = np.outer(*(tukey(n, 0.5) for n in reference.shape))
    first, second = (np.fft.fft2((part - part.mean()) * window) for part in (reference, moving))
    product = first * second.conj()
    phases = product / np.maximum(np.abs(product), 1e-12)
    rough = np.array(np.unravel_index(np.fft.ifft2(phases).real.argmax(), phases.shape))
    rough = (rough + np.array(phases.shape) // 2) % phases.shape - np.array(phases.shape) // 2
    near = np.arange(-FINE, FINE + 1) / FINE
    waves = [
        np.exp(2j * np.pi * np.outer(start + near, np.fft.fftfreq(n)))
        for start, n in zip(rough, phases.shape, strict=True)
    ]
    fine = (waves[0] @ phases @ waves[1].T).real
    nearest = np.array(np.unravel_index(fine.argmax(), fine.shape))
    return np.asarray(rough + near[nearest])


def _slice_by_slice(series: Series, find_shift: FindShift) -> Corrected:
    """Correct every slice to the mean of the others of its kind, in rounds."""
    data = np.asarray(series.data, dtype=float)
    spacing_mm = series.grid.spacing_mm[:2]
    shift = np.zeros((*data.shape[:1:-1], 2))  # (n, k, 2) voxels
    corrected = data
    for _ in range(ROUNDS):
        for kind in (series.is_b0, ~series.is_b0):
            total, others = corrected[..., kind].sum(axis=-1), max(int(kind.sum()) - 1, 1)
            for n, k in np.ndindex(*shift.shape[:2]):
                if kind[n] and np.isfinite(series.centre_mm[k]).all():
                    window = _window(series.centre_mm[k], spacing_mm, data.shape)
                    reference = (total[..., k] - corrected[..., k, n]) / others
                    found = find_shift(reference[window], data[..., k, n][window], spacing_mm)
                    shift[n, k] = _bounded(found, spacing_mm)
        corrected = _moved(data, shift)
    return Corrected(corrected, shift * spacing_mm)


def _window(
    centre_mm: FloatArray, spacing_mm: tuple[float, float], shape: tuple[int, ...]
) -> tuple[slice, slice]:
    """Cut the square around the cord out of a slice."""
    bounds = []
    for centre, mm, n in zip(centre_mm, spacing_mm, shape, strict=False):
        first, last = (centre - HALF_WIDTH_MM) / mm, (centre + HALF_WIDTH_MM) / mm
        bounds.append(slice(max(round(first), 0), min(round(last) + 1, n)))
    return bounds[0], bounds[1]


def _bounded(shift: FloatArray, spacing_mm: tuple[float, float]) -> FloatArray:
    """Move nothing farther than our correction may."""
    far = np.linalg.norm(shift * spacing_mm) > MotionSettings().max_shift_mm
    return np.zeros(2) if far else shift


def _moved(data: FloatArray, shift: FloatArray) -> FloatArray:
    """Move the slices of an (i, j, k, n) array by (n, k, 2) voxels."""
    moved = np.empty_like(data)
    for n, k in np.ndindex(*shift.shape[:2]):
        moved[..., k, n] = ndimage.shift(data[..., k, n], shift[n, k], order=3, mode="nearest")
    return moved


def _at_cord_mm(transforms: FloatArray, series: Series) -> FloatArray:
    """(n, k, 2) displacement at the cord's centres of (n, 4, 4) transforms, corrected to original.

    The transforms are of scanner coordinates.
    """
    grid, k = series.grid, series.data.shape[2]
    spacing_mm = np.array(grid.spacing_mm)
    corrected = np.column_stack([series.centre_mm / spacing_mm[:2], np.arange(k), np.ones(k)])
    to_original: Any = np.linalg.inv(grid.affine) @ transforms @ grid.affine
    original = np.einsum("nab,kb->nka", to_original, corrected)
    return np.asarray((corrected - original)[..., :2] * spacing_mm[:2])
