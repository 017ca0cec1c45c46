"""Simulate a diffusion series of the neck with known truth.

The anatomy is drawn once, in DTI space, on planes much finer than a voxel. Each slice of each
volume is then that drawing, moved by exactly its own displacement and averaged over the voxels'
areas: nothing is ever interpolated. Signals of tissues that share a voxel add up, as in a scanner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from scsnet_bids.errors import UsageError
from scsnet_bids.gradients import Gradients
from scsnet_bids.images import Grid
from scsnet_bids.phantom.anatomy import random_neck
from scsnet_bids.phantom.scene import (
    N_TILTS,
    SliceScene,
    draw_scene,
    region_share,
    render_slice,
    slice_heights_mm,
)
from scsnet_bids.phantom.signals import (
    WHITE_SIGNAL,
    RegionTensor,
    cord_signals,
    draw_tilts,
    draw_tissue,
    surrounding_signals,
)
from scsnet_bids.settings import setting
from scsnet_bids.slices import PlaneGrid, slices_to_volume

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]

LIMITS: dict[str, tuple[float, float]] = {
    "directions": (6, 1000),
    "b0_volumes": (1, 100),
    "slices": (1, 20),
    "snr": (1, np.inf),
    "motion_mm": (0, 1.5),
    "b0_to_dwi_mm": (0, 1.5),
    "compression": (0, 0.6),
    "fa_drop": (0, 0.5),
    "lost_slices": (0, 0.5),
    "tilt_deg": (0, 30),
    "variation": (0, 0.1),
}
SMALLEST_FIELD_MM = 30.0
REPETITION_TIME_S = 4.0
STORED_AS_LAS = np.array([[0.0, 1.0], [1.0, -1.0], [2.0, 1.0]])
SLICE_TILT_DEG = -9.0
SLICE_TO_VOLUME_MOTION = 0.6
LEFT_TO_POSTERIOR_MOTION = 0.6
LEFT_TO_POSTERIOR_DISTORTION = 0.25


@dataclass(frozen=True)
class PhantomSettings:
    """What is scanned, and how well.

    Raises
    ------
    UsageError
        If a value lies outside ``LIMITS``, or the cord might leave the field of view.
    """

    directions: int = setting(30, "1", "Diffusion directions.")
    b0_volumes: int = setting(5, "1", "b=0 volumes; the first leads, the others are interleaved.")
    slices: int = setting(15, "1", "Slices of 5 mm; 15 reach from C2 to C7.")
    snr: float = setting(15.0, "1", "White-matter b=0 signal over noise SD; inf for no noise.")
    motion_mm: float = setting(0.6, "mm", "RMS of the slice-wise in-plane motion.")
    b0_to_dwi_mm: float = setting(0.4, "mm", "RMS over slices of the displacement B0 to DWI.")
    compression: float = setting(0.0, "1", "Loss of the cord's depth at C5-C6.")
    fa_drop: float = setting(0.0, "1", "Loss of FA in all white columns.")
    lost_slices: float = setting(0.0, "1", "Share of weighted slices that lose their signal.")
    tilt_deg: float = setting(10.0, "deg", "RMS tilt of the fibres from the course of the cord.")
    variation: float = setting(0.03, "1", "Spread of FA and MD between participants.")
    b_value: float = setting(800.0, "s/mm2", "b-value of the weighted volumes.")
    matrix: tuple[int, int] = setting((96, 48), "1", "Voxels left to right and front to back.")
    spacing_mm: tuple[float, float, float] = setting((0.9, 0.9, 5.0), "mm", "Voxel size.")

    def __post_init__(self) -> None:
        for name, (lowest, highest) in LIMITS.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise UsageError(
                    f"{name} must lie between {lowest:g} and {highest:g}: found {value:g}."
                )
        field_mm = min(n * mm for n, mm in zip(self.matrix, self.spacing_mm, strict=False))
        if field_mm < SMALLEST_FIELD_MM:
            raise UsageError(
                f"matrix must span at least {SMALLEST_FIELD_MM:g} mm around the cord: found "
                f"{field_mm:g} mm."
            )


@dataclass(frozen=True, eq=False)
class Phantom:
    """A simulated series and everything that is true about it.

    Arrays are in inner order; slice 0 is the lowest. DTI space is where the weighted volumes lie
    without motion. A volume shows a point of DTI space displaced by its ``motion_mm``, and a b=0
    volume by ``motion_mm - b0_to_dwi_mm``.

    Attributes
    ----------
    series : (i, j, k, n) float32 array, magnitude signal, white matter at b=0 about 1000
    grid : where its voxels lie
    gradients : of its n volumes
    region_share : (i, j, k, 9) float32 array in [0, 1], share of each voxel in DTI space that
        each region fills, background first
    motion_mm : (n, k, 2) float array, (left, posterior); of mean 0 over the b=0 volumes and over
        the weighted volumes of each slice
    b0_to_dwi_mm : (k, 2) float array, (left, posterior)
    lost : (n, k) bool array, slices that lost their signal
    level : (k,) float array, vertebral level, 5.0 in the middle of C5
    tissue : true tensor of each region
    """

    series: npt.NDArray[np.float32]
    grid: Grid
    gradients: Gradients
    region_share: npt.NDArray[np.float32]
    motion_mm: FloatArray
    b0_to_dwi_mm: FloatArray
    lost: BoolArray
    level: FloatArray
    tissue: tuple[RegionTensor, ...]


def simulate(settings: PhantomSettings, seed: int | tuple[int, ...]) -> Phantom:
    """Simulate one participant.

    Body, tissue, motion, flow and noise have random streams of their own: the same seed with
    another SNR is the same person moving in the same way.

    Parameters
    ----------
    settings : what is scanned, and how well
    seed : one number, or several, that determine the participant

    Returns
    -------
    Phantom
    """
    body, values, moving, losing, flow, noise = np.random.default_rng(seed).spawn(6)
    grid = _lay_slices(settings, body)
    neck = random_neck(body, _middle_mm(grid), settings.compression)
    scene = draw_scene(neck, grid, body)
    share = region_share(scene, grid)
    gradients = make_gradients(settings)
    tissue = draw_tissue(settings.variation, settings.fa_drop, values)
    tilts = draw_tilts(N_TILTS, settings.tilt_deg, values)
    heights_mm = slice_heights_mm(grid)
    cord = cord_signals(tissue, neck.direction_at(heights_mm), tilts, gradients, grid)
    is_b0 = gradients.bvals == 0
    b0_to_dwi_mm = _draw_b0_to_dwi(settings, moving)
    motion_mm = _draw_motion(settings, is_b0, moving)
    shift_mm = motion_mm - b0_to_dwi_mm * is_b0[:, None, None]
    seen = _scan(scene, cord, surrounding_signals(gradients), shift_mm, grid, flow)
    lost, gain = _lose_slices(settings.lost_slices, is_b0, grid.shape[2], losing)
    clean = seen * (_receive_field(share, body)[..., None] * gain.T)
    series = _add_noise(clean, WHITE_SIGNAL / settings.snr, noise)
    level = neck.level_at(heights_mm)
    return Phantom(series, grid, gradients, share, motion_mm, b0_to_dwi_mm, lost, level, tissue)


def make_gradients(settings: PhantomSettings) -> Gradients:
    """Make a scheme: one b=0 volume first, the others spread between even directions.

    Parameters
    ----------
    settings : numbers of volumes and b-value

    Returns
    -------
    Gradients, on a Fibonacci half-sphere in scanner RAS+, in shuffled order
    """
    n = settings.directions
    height = 1 - (np.arange(n) + 0.5) / n
    longitude = np.arange(n) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - height**2)
    sphere = np.stack([radius * np.cos(longitude), radius * np.sin(longitude), height], axis=1)
    shuffled = sphere[np.random.default_rng(0).permutation(n)]
    before = np.arange(settings.b0_volumes) * n // settings.b0_volumes
    bvals = np.insert(np.full(n, float(settings.b_value)), before, 0.0)
    return Gradients(bvals, np.insert(shuffled, before, 0.0, axis=0))


def _lay_slices(settings: PhantomSettings, rng: np.random.Generator) -> Grid:
    """Lay the slices across the neck, a little oblique as operators do."""
    shape = (*settings.matrix, settings.slices)
    angles_deg = rng.normal([SLICE_TILT_DEG, 0, 0], 1.5)
    turn = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    affine: FloatArray = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1, -1, 1]) * settings.spacing_mm
    middle = rng.normal([0, -40, -60], 3)
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine, STORED_AS_LAS, REPETITION_TIME_S)


def _middle_mm(grid: Grid) -> tuple[float, float]:
    """Middle of the image plane, (left, posterior)."""
    plane = PlaneGrid.of_image(grid)
    return float(plane.positions_mm(0).mean()), float(plane.positions_mm(1).mean())


def _draw_motion(
    settings: PhantomSettings, is_b0: BoolArray, rng: np.random.Generator
) -> FloatArray:
    """(n, k, 2) motion: drift and jitter of volumes, and jitter of slices, alike in neighbours."""
    n, k = is_b0.size, settings.slices
    drift = np.linspace(-1, 1, n)[:, None, None] * rng.normal(0, 1, 2)
    jitter = gaussian_filter1d(rng.normal(0, 1, (n, k, 2)), 1.5, axis=1)
    motion = drift + rng.normal(0, 1, (n, 1, 2)) + SLICE_TO_VOLUME_MOTION * jitter / jitter.std()
    motion *= [LEFT_TO_POSTERIOR_MOTION, 1.0]
    for kind in (is_b0, ~is_b0):
        motion[kind] -= motion[kind].mean(axis=0)
    return np.asarray(motion * (settings.motion_mm / _rms_length(motion)))


def _draw_b0_to_dwi(settings: PhantomSettings, rng: np.random.Generator) -> FloatArray:
    """(k, 2) displacement from B0 to DWI: mostly front to back, changing slowly with height."""
    height = np.linspace(-1, 1, settings.slices)[:, None]
    constant, linear, square = rng.normal(0, 0.5, (3, 2))
    course = rng.choice([-1, 1]) + constant + linear * height + square * height**2
    displacement = course * [LEFT_TO_POSTERIOR_DISTORTION, 1.0]
    return np.asarray(displacement * (settings.b0_to_dwi_mm / _rms_length(displacement)))


def _rms_length(displacement: FloatArray) -> float:
    """Root mean square of the lengths of (..., 2) displacements."""
    return float(np.sqrt((displacement**2).sum(axis=-1).mean()))


def _scan(
    scene: tuple[SliceScene, ...],
    cord: FloatArray,
    surrounding: FloatArray,
    shift_mm: FloatArray,
    grid: Grid,
    rng: np.random.Generator,
) -> FloatArray:
    """(i, j, k, n) signal without noise."""
    voxels = PlaneGrid.of_image(grid)
    stack = [
        [
            render_slice(part, *signals, voxels, rng)
            for signals in zip(cord[k], surrounding, shift_mm[:, k], strict=True)
        ]
        for k, part in enumerate(scene)
    ]
    return slices_to_volume(np.array(stack))


def _lose_slices(
    share: float, is_b0: BoolArray, n_slices: int, rng: np.random.Generator
) -> tuple[BoolArray, FloatArray]:
    """(n, k) which weighted slices lose their signal, and (n, k) what is left of it."""
    lost = (rng.random((is_b0.size, n_slices)) < share) & ~is_b0[:, None]
    return lost, np.where(lost, rng.uniform(0.05, 0.4, lost.shape), 1.0)


def _receive_field(share: FloatArray, rng: np.random.Generator) -> FloatArray:
    """(i, j, k) sensitivity of the coil: smooth, still, on average 1 in the cord."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in share.shape[:3]), indexing="ij")
    tilt = rng.normal(0, [0.05, 0.05, 0.08])
    field = 1 + np.tensordot(tilt, np.stack(axes), 1) + 0.1 * axes[0] ** 2
    return np.asarray(field / np.average(field, weights=1 - share[..., 0]))


def _add_noise(
    clean: FloatArray, sigma: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Magnitude of the signal with complex Gaussian noise (gudbjartsson1995)."""
    real, imaginary = sigma * rng.normal(0, 1, (2, *clean.shape))
    return np.asarray(np.hypot(clean + real, imaginary), dtype=np.float32)
