"""The phantom's neck drawn on fine planes, and its slices as the scanner's voxels see them.

The cord is drawn at 0.1 mm in a box around it, with several sub-slices through the thickness of a
slice; what surrounds it at 0.3 mm over the whole plane. A pixel of the cord names its compartment,
which is a region and one of a few fibre tilts, so that the signal of a volume is a look-up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from scsnet_bids.arrays import FloatArray
from scsnet_bids.images import Grid
from scsnet_bids.phantom.anatomy import Neck, Pose, label_cord
from scsnet_bids.phantom.distortion import Bend, average_bent
from scsnet_bids.phantom.surroundings import Surroundings, draw_surroundings, pulsation_at
from scsnet_bids.regions import N_CLASSES
from scsnet_bids.slices import PlaneGrid, average_over_voxels, slices_to_volume

Number = TypeVar("Number", bound=np.generic)

N_TILTS = 24
"""Fibre tilts of a region; compartment = label * N_TILTS + tilt."""
SUB_SLICES = 3
PIXEL_MM = 0.3
FINE = 3
"""Pixels of the box around the cord are this many times finer."""
BOX_SHAPE = (64, 54)
"""Size of that box, left to right and front to back, in the larger pixels."""
BUNDLE = 10
"""Fine pixels along which fibres share one tilt: 1 mm."""
FLOW_CELL = 3
"""Larger pixels along which fluid pulsates alike: 0.9 mm."""
MARGIN_MM = 6.0
"""The plane reaches beyond the image, so that nothing empty moves in."""
TEXTURE_MM = (4.0, 1.5, 1.5)
"""Smoothness of the surroundings' texture along z, rows and columns."""


@dataclass(frozen=True, eq=False)
class SliceScene:
    """The still anatomy of one slice, in DTI space.

    Attributes
    ----------
    plane, surroundings : of everything but the cord
    pulsation : relative SD of the fluid's signal between volumes
    corner : first pixel (left, posterior) of ``plane`` that the box around the cord covers
    compartments : (sub-slices, rows, columns) int16 array on the box, see ``N_TILTS``
    """

    plane: PlaneGrid
    surroundings: Surroundings
    pulsation: float
    corner: tuple[int, int]
    compartments: npt.NDArray[np.int16]

    @property
    def box(self) -> PlaneGrid:
        """Fine plane around the cord."""
        return _box(self.plane, self.corner)

    @property
    def cord_share(self) -> FloatArray:
        """(rows, columns) share of the slice thickness that is cord, on the box."""
        return np.asarray((self.compartments > 0).mean(axis=0))


def slice_heights_mm(grid: Grid) -> FloatArray:
    """Tell how far each slice lies above the middle of the image.

    Parameters
    ----------
    grid : of the image

    Returns
    -------
    (k,) float array, mm
    """
    return (np.arange(grid.shape[2]) - (grid.shape[2] - 1) / 2) * grid.spacing_mm[2]


def draw_scene(neck: Neck, grid: Grid, rng: np.random.Generator) -> tuple[SliceScene, ...]:
    """Draw every slice of a neck.

    Parameters
    ----------
    neck : whose
    grid : of the image
    rng : source of textures and fibre tilts

    Returns
    -------
    tuple of SliceScene, lowest first
    """
    heights_mm, thickness_mm = slice_heights_mm(grid), grid.spacing_mm[2]
    plane = _plane_beyond(grid)
    noise = rng.normal(0, 1, (2, heights_mm.size, *plane.shape[::-1]))
    smoothing = np.divide(TEXTURE_MM, (thickness_mm, PIXEL_MM, PIXEL_MM))
    texture = gaussian_filter(noise, (0, *smoothing)).swapaxes(0, 1)
    return tuple(
        _draw_slice(neck, height, thickness_mm, plane, slice_texture, rng)
        for height, slice_texture in zip(heights_mm, texture / texture.std(), strict=True)
    )


def region_share(scene: tuple[SliceScene, ...], grid: Grid) -> npt.NDArray[np.float32]:
    """Tell what share of every voxel each region fills, exactly, in DTI space.

    Parameters
    ----------
    scene : the slices of the image
    grid : of the image

    Returns
    -------
    (i, j, k, 9) float32 array in [0, 1], background first, of sum 1
    """
    voxels, regions = PlaneGrid.of_image(grid), np.arange(1, N_CLASSES)[:, None, None, None]
    shares = []
    for part in scene:
        fine = (part.compartments // N_TILTS == regions).mean(axis=1)  # (8, rows, columns)
        share = average_over_voxels(fine, part.box, voxels)
        shares.append(np.concatenate([1 - share.sum(axis=0, keepdims=True), share]))
    return slices_to_volume(np.stack(shares)).astype(np.float32)


def render_slice(
    part: SliceScene,
    cord_signal: FloatArray,
    surrounding_signal: FloatArray,
    shift_mm: FloatArray,
    voxels: PlaneGrid,
    rng: np.random.Generator,
    bent: Bend | None = None,
) -> FloatArray:
    """See one slice through the voxels, moved and bent.

    Parameters
    ----------
    part : what there is to see
    cord_signal : (compartments,) float array, 0 for what is not cord
    surrounding_signal : (3,) float array, signal of fluid, muscle and nerve of brightness 1
    shift_mm : (2,) displacement (left, posterior) from DTI space
    voxels : plane of the image
    rng : source of the fluid's pulsation
    bent : displacement along posterior from the moved place, if there is any

    Returns
    -------
    (rows, columns) float array
    """
    shift = (float(shift_mm[0]), float(shift_mm[1]))
    around = _surrounding_image(part, surrounding_signal, rng)
    # The cord replaces what was drawn beneath it.
    beneath = _repeat(_crop(around, part.corner), FINE) * part.cord_share
    cord = cord_signal[part.compartments].mean(axis=0) - beneath
    if bent is None:
        return average_over_voxels(around, part.plane, voxels, shift) + average_over_voxels(
            cord, part.box, voxels, shift
        )
    return average_bent(around, part.plane, voxels, shift, bent) + average_bent(
        cord, part.box, voxels, shift, bent
    )


def _draw_slice(
    neck: Neck,
    height_mm: float,
    thickness_mm: float,
    plane: PlaneGrid,
    texture: FloatArray,
    rng: np.random.Generator,
) -> SliceScene:
    """Draw one slice: its middle for the surroundings, its whole thickness for the cord."""
    pose = neck.pose_at(height_mm)
    corner = _corner(pose, plane)
    left_mm, posterior_mm = _positions(_box(plane, corner))
    offsets = ((np.arange(SUB_SLICES) + 0.5) / SUB_SLICES - 0.5) * thickness_mm
    labels = np.stack(
        [label_cord(left_mm, posterior_mm, neck.pose_at(height_mm + dz)) for dz in offsets]
    )
    rows, columns = labels.shape[1:]
    bundles = rng.integers(0, N_TILTS, (-(-rows // BUNDLE), -(-columns // BUNDLE)))
    tilt = _repeat(bundles, BUNDLE)[:rows, :columns]
    return SliceScene(
        plane,
        draw_surroundings(*_positions(plane), pose, texture),
        pulsation_at(pose.level),
        corner,
        np.where(labels > 0, labels.astype(np.int16) * N_TILTS + tilt, 0).astype(np.int16),
    )


def _surrounding_image(
    part: SliceScene, signal: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """(rows, columns) signal of all but the cord, the fluid pulsating at random."""
    tissue = part.surroundings
    rows, columns = tissue.fluid.shape
    cells = rng.normal(1, part.pulsation, (-(-rows // FLOW_CELL), -(-columns // FLOW_CELL)))
    flow = _repeat(np.clip(cells, 0, None), FLOW_CELL)[:rows, :columns]
    fluid, muscle, nerve = signal
    return np.asarray(fluid * tissue.fluid * flow + muscle * tissue.muscle + nerve * tissue.nerve)


def _plane_beyond(grid: Grid) -> PlaneGrid:
    """Lay the plane of the surroundings: the image and a margin."""
    voxels = PlaneGrid.of_image(grid)
    left, posterior = (float(voxels.positions_mm(axis)[[0, -1]].mean()) for axis in (0, 1))
    columns, rows = (
        int(np.ceil((n * mm + 2 * MARGIN_MM) / PIXEL_MM))
        for n, mm in zip(voxels.shape, voxels.spacing_mm, strict=True)
    )
    return PlaneGrid.centred((left, posterior), (columns, rows), PIXEL_MM)


def _corner(pose: Pose, plane: PlaneGrid) -> tuple[int, int]:
    """First pixel of the plane that the box around a cord covers."""
    middle = (np.array(pose.centre_mm) - plane.start_mm) / PIXEL_MM
    left, posterior = np.round(middle - (np.array(BOX_SHAPE) - 1) / 2).astype(int)
    return int(left), int(posterior)


def _box(plane: PlaneGrid, corner: tuple[int, int]) -> PlaneGrid:
    """Fine plane whose pixels divide those of the plane exactly."""
    left, posterior = (slice(n, n + size) for n, size in zip(corner, BOX_SHAPE, strict=True))
    return plane.part(left, posterior).divided(FINE)


def _positions(plane: PlaneGrid) -> tuple[FloatArray, FloatArray]:
    """(rows, columns) left and posterior position of each pixel."""
    left, posterior = np.meshgrid(plane.positions_mm(0), plane.positions_mm(1))
    return left, posterior


def _crop(image: FloatArray, corner: tuple[int, int]) -> FloatArray:
    """Part of an image of the plane that the box covers."""
    (left, posterior), (columns, rows) = corner, BOX_SHAPE
    return image[posterior : posterior + rows, left : left + columns]


def _repeat(image: npt.NDArray[Number], times: int) -> npt.NDArray[Number]:
    """Divide each pixel into smaller ones of the same value."""
    return image.repeat(times, axis=0).repeat(times, axis=1)
