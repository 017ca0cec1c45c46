"""Simulate a diffusion series of the neck with known truth.

The anatomy is drawn once, in DTI space, on planes much finer than a voxel. Each slice of each
volume is then that drawing, moved by exactly its own displacement and averaged over the voxels'
areas: nothing is ever interpolated. Signals of tissues that share a voxel add up, as in a scanner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.gradients import Gradients
from scsnet_bids.images import Grid
from scsnet_bids.phantom.acquisition import (
    add_noise,
    draw_receive_field,
    lose_slices,
    truncate_spectrum,
)
from scsnet_bids.phantom.anatomy import Neck, random_neck
from scsnet_bids.phantom.distortion import Bend, SusceptibilityField, bend, draw_eddy, draw_field
from scsnet_bids.phantom.drawn import DrawnCord
from scsnet_bids.phantom.movement import draw_b0_to_dwi, draw_later_motion, draw_motion
from scsnet_bids.phantom.scene import (
    N_TILTS,
    SliceScene,
    draw_scene,
    region_share,
    render_slice,
    slice_heights_mm,
)
from scsnet_bids.phantom.settings import PhantomSettings
from scsnet_bids.phantom.signals import (
    WHITE_SIGNAL,
    RegionTensor,
    cord_signals,
    draw_tilts,
    draw_tissue,
    mean_tensors,
    surrounding_signals,
)
from scsnet_bids.slices import PlaneGrid, slices_to_volume

REPETITION_TIME_S = 4.0
STORED_AS_LAS = np.array([[0.0, 1.0], [1.0, -1.0], [2.0, 1.0]])
SLICE_TILT_DEG = -9.0


@dataclass(frozen=True, eq=False)
class Phantom:
    """A simulated series and everything that is true about it.

    Arrays are in inner order; slice 0 is the lowest. DTI space is where the weighted volumes lie
    without motion. A volume shows a point of DTI space displaced by its ``motion_mm``, and a b=0
    volume by ``motion_mm - b0_to_dwi_mm``. What then lies at (left, posterior) of slice k is seen
    ``shift + scale * (posterior - middle) + shear * (left - middle) + field_mm`` farther back,
    with the middle of the image, and in the reversed volumes ``field_mm`` farther to the front.

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
    tissue : tensor of each region's fibres
    region_tensors : mean of them over the fibres' tilts, what a tensor of the region can show
    eddy : (n, 3) float array, shift in mm, scale and shear by eddy currents; 0 at b=0, of mean 0
        over the weighted volumes
    field_mm : (i, j, k) float array, distortion: how far back what lies at a voxel is seen
    reversed_b0 : (i, j, k, m) float32 array, b=0 volumes with reversed phase encoding
    reversed_motion_mm : (m, k, 2) float array, their motion as that of the series' b=0 volumes
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
    region_tensors: tuple[RegionTensor, ...]
    eddy: FloatArray
    field_mm: FloatArray
    reversed_b0: npt.NDArray[np.float32]
    reversed_motion_mm: FloatArray


@dataclass(frozen=True, eq=False)
class _Scan:
    """Where a number of volumes show the still anatomy."""

    scene: tuple[SliceScene, ...]
    grid: Grid
    shift_mm: FloatArray  # (n, k, 2)
    eddy: FloatArray  # (n, 3)
    field: SusceptibilityField
    ringing: bool

    def see(
        self, cord: FloatArray, surrounding: FloatArray, rng: np.random.Generator
    ) -> FloatArray:
        """(i, j, k, n) signal without noise, of (k, n, compartments) and (n, 3) signals."""
        voxels = PlaneGrid.of_image(self.grid)
        plane = voxels.divided(2) if self.ringing else voxels
        n_volumes = len(self.shift_mm)
        slices = [
            render_slice(
                part, cord[k, n], surrounding[n], self.shift_mm[n, k], plane, rng, self._bend(n, k)
            )
            for k, part in enumerate(self.scene)
            for n in range(n_volumes)
        ]
        stack = np.reshape(slices, (len(self.scene), n_volumes, *plane.shape[::-1]))
        return slices_to_volume(truncate_spectrum(stack) if self.ringing else stack)

    def _bend(self, volume: int, k: int) -> Bend | None:
        """Tell how one slice is bent; None if it is only moved."""
        if self.field.is_zero and not self.eddy.any():
            return None
        return bend(self.eddy[volume], self.field, k, _middle_mm(self.grid))


def simulate(
    settings: PhantomSettings, seed: int | tuple[int, ...], drawn: DrawnCord | None = None
) -> Phantom:
    """Simulate one participant.

    Body, tissue, motion, flow and noise have random streams of their own: the same seed with
    another SNR is the same person moving in the same way.

    Parameters
    ----------
    settings : what is scanned, and how well
    seed : one number, or several, that determine the participant
    drawn : cross-sections of the participant's cord; without, the curves of ``anatomy``

    Returns
    -------
    Phantom
    """
    body, values, moving, losing, flow, noise, bending, later = np.random.default_rng(seed).spawn(8)
    grid = _lay_slices(settings, body)
    neck = random_neck(body, _middle_mm(grid), settings.compression, drawn)
    scene = draw_scene(neck, grid, body)
    share = region_share(scene, grid)
    sensitivity = draw_receive_field(share, body)
    gradients = make_gradients(settings)
    is_b0 = gradients.bvals == 0
    tissue = draw_tissue(settings.variation, settings.fa_drop, values)
    tilts = draw_tilts(N_TILTS, settings.tilt_deg, values)
    course = neck.direction_at(slice_heights_mm(grid))
    cord = cord_signals(tissue, course, tilts, gradients, grid)
    around = surrounding_signals(gradients)
    b0_to_dwi_mm = draw_b0_to_dwi(settings.slices, settings.b0_to_dwi_mm, moving)
    motion_mm = draw_motion(is_b0, settings.slices, settings.motion_mm, moving)
    field = _draw_field(settings, neck, share, grid, bending)
    size_mm = (grid.shape[0] * grid.spacing_mm[0], grid.shape[1] * grid.spacing_mm[1])
    eddy = draw_eddy(gradients, size_mm, settings.eddy_mm, bending)
    ringing, sigma = settings.ringing == 1, WHITE_SIGNAL / settings.snr
    shift_mm = motion_mm - b0_to_dwi_mm * is_b0[:, None, None]
    scan = _Scan(scene, grid, shift_mm, eddy, field, ringing)
    lost, gain = lose_slices(settings.lost_slices, is_b0, grid.shape[2], losing)
    clean = scan.see(cord, around, flow) * (sensitivity[..., None] * gain.T)
    m = settings.reversed_b0
    later_mm = draw_later_motion(m, settings.slices, settings.motion_mm, later)
    back = _Scan(scene, grid, later_mm - b0_to_dwi_mm, np.zeros((m, 3)), field.scaled(-1), ringing)
    first_b0 = np.zeros(m, dtype=int)
    reverse = back.see(cord[:, first_b0], around[first_b0], later) * sensitivity[..., None]
    return Phantom(
        series=add_noise(clean, sigma, noise),
        grid=grid,
        gradients=gradients,
        region_share=share,
        motion_mm=motion_mm,
        b0_to_dwi_mm=b0_to_dwi_mm,
        lost=lost,
        level=neck.level_at(slice_heights_mm(grid)),
        tissue=tissue,
        region_tensors=mean_tensors(tissue, tilts),
        eddy=eddy,
        field_mm=field.on_grid(grid),
        reversed_b0=add_noise(reverse, sigma, later),
        reversed_motion_mm=later_mm,
    )


def make_gradients(settings: PhantomSettings) -> Gradients:
    """Make a scheme: one b=0 volume first, the others spread between even directions.

    Parameters
    ----------
    settings : numbers of volumes and b-value

    Returns
    -------
    Gradients, on :func:`half_sphere` in scanner RAS+, in shuffled order, as often as they are
    scanned
    """
    n = settings.directions
    shuffled = half_sphere(n)[np.random.default_rng(0).permutation(n)]
    shuffled = np.tile(shuffled, (settings.averages, 1))
    before = np.arange(settings.b0_volumes) * len(shuffled) // settings.b0_volumes
    bvals = np.insert(np.full(len(shuffled), float(settings.b_value)), before, 0.0)
    return Gradients(bvals, np.insert(shuffled, before, 0.0, axis=0))


def half_sphere(count: int) -> FloatArray:
    """(count, 3) evenly spread unit vectors, on a Fibonacci half-sphere."""
    number = np.arange(count)
    height = 1 - (number + 0.5) / count
    longitude = number * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(longitude), radius * np.sin(longitude), height], axis=1)


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


def _draw_field(
    settings: PhantomSettings,
    neck: Neck,
    share: FloatArray,
    grid: Grid,
    rng: np.random.Generator,
) -> SusceptibilityField:
    """Draw a field that displaces the cord by as much as the settings say."""
    heights_mm = slice_heights_mm(grid)
    centre_mm = np.array([neck.pose_at(float(height)).centre_mm for height in heights_mm])
    field = draw_field(centre_mm, neck.level_at(heights_mm), rng)
    largest_mm = np.abs(field.on_grid(grid)[share[..., 0] < 0.5]).max()
    return field.scaled(settings.distortion_mm / float(largest_mm))
