"""The residual displacement of the cord from the B0 image to the mean diffusion-weighted image.

The two differ by up to a millimetre, mostly front to back, slowly along the cord. Mutual
information repeats to 0.7 mm only; but in the mean DWI the cord is bright and alone, so the outline
that was found in B0 is moved until it explains the mean DWI best: as cord share times a brightness,
on a tilted background. Each slice says how surely it knows, and slices lean on their neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scsnet_bids.images import Grid
from scsnet_bids.settings import AlignmentSettings
from scsnet_bids.slices import PlaneGrid, average_over_voxels

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]

COARSE_STEP_MM, FINE_STEP_MM, N_FINE = 0.5, 0.1, 5
PEAK_RADIUS_MM = 0.35
RIM_MM = 5.0
"""The window reaches this far beyond the cord: background on all sides, little else."""
SMALLEST_CORD_MM2 = 15.0
LEAST_EXPLAINED = 0.3
"""A slice whose cord explains less of its window (R squared) shows too little of it."""
CORRELATED_VOXELS = 4.0
"""The misfit is anatomy as much as noise: about so many neighbouring voxels err alike."""
COMMON_MM, SMOOTH_MM, OWN_MM = 0.3, 0.4, 0.05
"""Standard deviations expected of the displacement: of all slices, slow along z, of one slice."""
SMOOTH_LENGTH_MM = 20.0


@dataclass(frozen=True)
class B0ToDwi:
    """Displacement of the cord per slice.

    Attributes
    ----------
    shift_mm : (k, 2) float array, what must be added to a position (left, posterior) in the B0
        image to get the position in DTI space; smooth along z and bounded
    raw_mm : (k, 2) float array, the best of each slice by itself; nan where it is not trusted
    trusted : (k,) bool array, whether the slice itself had a say
    """

    shift_mm: FloatArray
    raw_mm: FloatArray
    trusted: BoolArray


def estimate_b0_to_dwi(
    cord_share: FloatArray,
    cord_plane: PlaneGrid,
    mean_dwi: FloatArray,
    grid: Grid,
    settings: AlignmentSettings,
) -> B0ToDwi:
    """Estimate the displacement of the cord from the B0 image to the mean DWI, slice by slice.

    Parameters
    ----------
    cord_share : (k, rows, columns) float array in [0, 1], cord of the B0 image on ``cord_plane``
    cord_plane : grid of the cord
    mean_dwi : (i, j, k) float array in LPS order
    grid : of the mean DWI
    settings : of the stage; if it is not enabled, nothing moves and nothing is trusted

    Returns
    -------
    B0ToDwi
    """
    n_slices = grid.shape[2]
    best_mm, information = np.full((n_slices, 2), np.nan), np.zeros((n_slices, 2, 2))
    for k in range(n_slices if settings.enabled else 0):
        dwi = np.nan_to_num(mean_dwi[:, :, k].T.astype(float))
        match = _match_slice(cord_share[k], cord_plane, dwi, grid, settings.max_shift_mm)
        if match is not None:
            best_mm[k], information[k] = match
    trusted = np.isfinite(best_mm[:, 0])
    z_mm = np.arange(n_slices) * grid.spacing_mm[2]
    shift_mm = _lean_on_neighbours(np.nan_to_num(best_mm), information, z_mm)
    length_mm = np.linalg.norm(shift_mm, axis=1, keepdims=True)
    bounded = shift_mm * settings.max_shift_mm / np.maximum(length_mm, settings.max_shift_mm)
    return B0ToDwi(bounded, best_mm, trusted)


def _match_slice(
    share: FloatArray, plane: PlaneGrid, dwi: FloatArray, grid: Grid, reach_mm: float
) -> tuple[FloatArray, FloatArray] | None:
    """Best (2,) displacement of a slice's cord and its (2, 2) information; None if in doubt."""
    area_mm2 = float(share.sum()) * plane.spacing_mm[0] * plane.spacing_mm[1]
    if area_mm2 < SMALLEST_CORD_MM2:
        return None
    radius_mm = float(np.sqrt(area_mm2 / np.pi)) + reach_mm + RIM_MM
    voxels, window = _cut_window(share, plane, dwi, grid, radius_mm)
    n_coarse = int(np.ceil(reach_mm / COARSE_STEP_MM))
    coarse_mm = COARSE_STEP_MM * _square(n_coarse)
    explained = _explained(share, plane, voxels, window, coarse_mm)
    start_mm = coarse_mm[np.argmax(explained)]
    fine_mm = start_mm + FINE_STEP_MM * _square(N_FINE)
    explained = _explained(share, plane, voxels, window, fine_mm)
    peak_mm = fine_mm[np.argmax(explained)]
    if explained.max() < LEAST_EXPLAINED or np.abs(peak_mm).max() > reach_mm:
        return None
    misfit = np.log(1 - explained.clip(0, 1 - 1e-6))
    return _fit_peak(fine_mm, -0.5 * window.size / CORRELATED_VOXELS * misfit)


def _square(n: int) -> FloatArray:
    """((2 n + 1)^2, 2) pairs of whole numbers from -n to n."""
    side = np.arange(-n, n + 1)
    return np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2).astype(float)


def _explained(
    share: FloatArray,
    plane: PlaneGrid,
    voxels: PlaneGrid,
    window: FloatArray,
    shifts_mm: FloatArray,
) -> FloatArray:
    """(m,) part of the window's variance that the cord explains at each of (m, 2) displacements.

    A tilted plane is taken off first; where the cord would have to be dark it explains nothing.
    """
    moved = np.stack(
        [average_over_voxels(share, plane, voxels, (left, back)) for left, back in shifts_mm]
    ).reshape(len(shifts_mm), -1)
    rows, columns = (index.ravel() for index in np.indices(window.shape))
    tilt, _ = np.linalg.qr(np.stack([np.ones(rows.size), rows, columns], axis=1))
    cord = moved - (moved @ tilt) @ tilt.T
    dwi = window.ravel() - tilt @ (tilt.T @ window.ravel())
    fitted = np.clip(cord @ dwi, 0, None)
    total = (cord**2).sum(axis=1) * (dwi @ dwi)
    return np.asarray(fitted**2 / np.where(total > 0, total, np.inf))


def _fit_peak(
    shifts_mm: FloatArray, log_likelihood: FloatArray
) -> tuple[FloatArray, FloatArray] | None:
    """Fit a paraboloid; its top (2,) and curvature (2, 2), None if it has no top nearby."""
    centre_mm = shifts_mm[np.argmax(log_likelihood)]
    x, y = (shifts_mm - centre_mm).T
    near = np.hypot(x, y) <= PEAK_RADIUS_MM
    terms = np.stack([np.ones_like(x), x, y, -0.5 * x * x, -x * y, -0.5 * y * y], axis=1)
    _, bx, by, xx, xy, yy = np.linalg.lstsq(terms[near], log_likelihood[near])[0]
    information = np.array([[xx, xy], [xy, yy]])
    if not (np.linalg.eigvalsh(information) > 0).all():
        return None
    offset_mm = np.linalg.solve(information, [bx, by])
    return (centre_mm + offset_mm, information) if np.hypot(*offset_mm) < COARSE_STEP_MM else None


def _cut_window(
    share: FloatArray, plane: PlaneGrid, dwi: FloatArray, grid: Grid, radius_mm: float
) -> tuple[PlaneGrid, FloatArray]:
    """Voxels of a slice around its cord, as a plane and their values (rows, columns)."""
    limits = []
    for axis in (0, 1):
        centre_mm = np.average(plane.positions_mm(axis), weights=share.sum(axis=axis))
        place = (centre_mm + np.array([-radius_mm, radius_mm])) / grid.spacing_mm[axis]
        first, last = np.clip(place.round().astype(int), 0, grid.shape[axis] - 1)
        limits.append((int(first), int(last) + 1))
    (left, right), (front, back) = limits
    start_mm = (left * grid.spacing_mm[0], front * grid.spacing_mm[1])
    voxels = PlaneGrid(start_mm, (right - left, back - front), grid.spacing_mm[:2])
    return voxels, dwi[front:back, left:right]


def _lean_on_neighbours(
    best_mm: FloatArray, information: FloatArray, z_mm: FloatArray
) -> FloatArray:
    """(k, 2) displacements to believe, given each slice's own and what cords do along z."""
    n = len(z_mm)
    distance = (z_mm[:, None] - z_mm) / SMOOTH_LENGTH_MM
    covariance = COMMON_MM**2 + SMOOTH_MM**2 * np.exp(-0.5 * distance**2) + OWN_MM**2 * np.eye(n)
    precision = np.kron(np.linalg.inv(covariance), np.eye(2))
    for k in range(n):
        precision[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] += information[k]
    weighted = (information @ best_mm[..., None]).reshape(2 * n)
    return np.asarray(np.linalg.solve(precision, weighted)).reshape(n, 2)
