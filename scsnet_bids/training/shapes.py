"""Further anatomies for the training: cords and gray matter that people drew by hand.

PAM50 is one mean anatomy. Manual masks of the cord and of its gray matter add real ones. The
columns follow from the horns by the rules that ``phantom.anatomy`` fits to PAM50: the dorsal column
lies behind the line from the commissure along the dorsal horn, the ventral column in front of the
line of the ventral roots. Each drawn slice gives two symmetric anatomies, one per side.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.errors import UsageError
from scsnet_bids.images import read_image
from scsnet_bids.network.model import PIXEL_MM
from scsnet_bids.slices import volume_to_slices
from scsnet_bids.training.atlas import MAP_PIXELS, Atlas

CORD_SUFFIX, GRAY_SUFFIX = "_seg-manual.nii.gz", "_gmseg-manual.nii.gz"

SCALE_TO_PAM50 = 0.84
"""Drawn cords (mean 83 mm2) are those of living people; PAM50 (59 mm2), to which the random sizes
of ``synthesis`` are relative, is smaller."""

FINE_MM = 0.1
STAIRCASE_MM = 0.3
"""Width of the Gaussian that takes the voxel steps out of a drawn outline."""

ANGLES_RAD = np.radians(np.arange(-16, 17, 2))
OFFSETS_MM = np.arange(-1.2, 1.21, 0.2)

ROOT_SHARE, ROOT_SLOPE = 0.25, -0.2
"""The line of the ventral roots: its height at the midline, from the commissure (0) to the front of
the horns (1), and its slope; means over C2 to C7 of the fit to PAM50 in ``phantom.anatomy``."""

HORN_SLOPES = (0.6, 2.5)


def read_shapes(folder: Path, held_out: Collection[str] = ()) -> tuple[Atlas | None, Atlas | None]:
    """Read the anatomies of a folder of manual masks.

    Parameters
    ----------
    folder : holds ``sub-*/**/*_seg-manual.nii.gz`` (cord) and ``*_gmseg-manual.nii.gz`` (gray
        matter) on the same grid, as the derivatives of the Gray Matter Challenge do
    held_out : starts of participant labels to keep apart, without ``sub-``

    Returns
    -------
    Atlas of the others and Atlas of the held-out participants; None where there is none

    Raises
    ------
    UsageError
        If the folder holds no pair of masks, a pair shows nothing or lies on two grids, or a
        held-out label names nobody.
    """
    cords = sorted(folder.glob(f"sub-*/**/*{CORD_SUFFIX}"))
    pairs = [(cord, cord.with_name(cord.name.replace(CORD_SUFFIX, GRAY_SUFFIX))) for cord in cords]
    pairs = [pair for pair in pairs if pair[1].exists()]
    if not pairs:
        raise UsageError(
            f"--shapes must name a folder of manual masks: {folder} holds no sub-*/**/*"
            f"{CORD_SUFFIX} with a *{GRAY_SUFFIX} beside it."
        )
    apart = [pair for pair in pairs if _label(pair[0]).startswith(tuple(held_out))]
    unknown = [x for x in held_out if not any(_label(p[0]).startswith(x) for p in pairs)]
    if unknown:
        raise UsageError(
            f"--held-out must name participants of {folder}: found {', '.join(unknown)}, there are "
            f"{', '.join(_label(pair[0]) for pair in pairs)}."
        )
    rest = [pair for pair in pairs if pair not in apart]
    return _join(rest), _join(apart)


def symmetric_anatomies(
    cord: BoolArray, gray: BoolArray, spacing_mm: FloatArray
) -> FloatArray | None:
    """Make two symmetric anatomies from the masks of one slice.

    Parameters
    ----------
    cord, gray : (rows, columns) masks; rows front to back
    spacing_mm : (2,) row and column spacing

    Returns
    -------
    (2, 4, 48, 48) fractions of lateral, dorsal, ventral column and gray matter, as in ``Atlas``:
    the first from the half at larger columns (patient left), the second from the other; None if a
    half holds too little gray matter to show a horn
    """
    soft = np.stack([_without_steps(mask, spacing_mm) for mask in (cord, gray)])
    centre_mm = np.array(ndimage.center_of_mass(cord)) * spacing_mm
    angle, offset_mm = _midline(soft, centre_mm, spacing_mm)
    along = _fine_positions(MAP_PIXELS * PIXEL_MM / 2)
    upright = _upright(soft, centre_mm, np.array([angle]), along + offset_mm, spacing_mm)[0] > 0.5
    halves = (upright[..., len(along) // 2 :], upright[..., : len(along) // 2][..., ::-1])
    if not all((half[0] & half[1]).any() for half in halves):
        return None
    return np.stack([_tissue_maps(half) for half in halves])


def _label(path: Path) -> str:
    """Participant label in the name of a mask."""
    found = re.match(r"sub-([A-Za-z0-9]+)", path.name)
    return found[1] if found else path.name


def _join(pairs: Collection[tuple[Path, Path]]) -> Atlas | None:
    """Read pairs of masks into one atlas."""
    stacks = chain.from_iterable(_read_stacks(*pair) for pair in pairs)
    joined = [Atlas.of_maps(torch.from_numpy(m), spacing, SCALE_TO_PAM50) for m, spacing in stacks]
    return Atlas.joined(joined) if joined else None


def _read_stacks(cord_path: Path, gray_path: Path) -> list[tuple[FloatArray, float]]:
    """Read the two stacks, one per side, of a pair of masks, and their slice spacing."""
    images = [read_image(path) for path in (cord_path, gray_path)]
    if not images[0].grid.matches(images[1].grid):
        raise UsageError(
            f"Both masks of a participant must lie on one grid: {cord_path} and {gray_path} differ."
        )
    cord, gray = (volume_to_slices(image.data) > 0.5 for image in images)
    spacing_mm = np.array(images[0].grid.spacing_mm)
    found = (
        symmetric_anatomies(c, g & c, spacing_mm[1::-1])
        for c, g in zip(cord, gray, strict=True)
        if (c & g).any()
    )
    both = [anatomies for anatomies in found if anatomies is not None]
    if not both:
        raise UsageError(
            "Both masks of a participant must show some slice, its gray matter on both sides: "
            f"{cord_path} and {gray_path} show none. Take them out of the folder."
        )
    sides = np.swapaxes(np.array(both, dtype=np.float32), 0, 1)  # (2, slices, 4, 48, 48)
    return [(side, float(spacing_mm[2])) for side in sides]


def _without_steps(mask: BoolArray, spacing_mm: FloatArray) -> FloatArray:
    """Smooth the steps of a mask; its outline stays at 0.5."""
    return np.asarray(ndimage.gaussian_filter(mask.astype(float), STAIRCASE_MM / spacing_mm))


def _fine_positions(reach_mm: float) -> FloatArray:
    """Centres of fine pixels from -reach to reach."""
    n = round(2 * reach_mm / FINE_MM)
    return np.asarray((np.arange(n) - (n - 1) / 2) * FINE_MM)


def _upright(
    soft: FloatArray,
    centre_mm: FloatArray,
    angles_rad: FloatArray,
    across_mm: FloatArray,
    spacing_mm: FloatArray,
) -> FloatArray:
    """(angles, maps, rows, columns) maps around a point, turned; square fine pixels."""
    down_mm = across_mm - across_mm.mean()
    y, x = np.meshgrid(down_mm, across_mm, indexing="ij")
    cosine, sine = np.cos(angles_rad)[:, None, None], np.sin(angles_rad)[:, None, None]
    rows = (centre_mm[0] + sine * x + cosine * y) / spacing_mm[0]
    columns = (centre_mm[1] + cosine * x - sine * y) / spacing_mm[1]
    turned = [ndimage.map_coordinates(one, [rows, columns], order=1) for one in soft]
    return np.stack(turned, axis=1)


def _midline(
    soft: FloatArray, centre_mm: FloatArray, spacing_mm: FloatArray
) -> tuple[float, float]:
    """Angle and offset (mm) of the line about which cord and gray matter are most symmetric."""
    coarse_mm = _fine_positions(9.0)[:: round(0.2 / FINE_MM)]
    turned = _upright(soft, centre_mm, ANGLES_RAD, coarse_mm, spacing_mm).sum(axis=1)
    mirrored = turned[..., ::-1]
    steps = np.rint(2 * OFFSETS_MM / 0.2).astype(int)  # the mirror image moves twice as far
    overlap = [np.minimum(turned, np.roll(mirrored, s, axis=-1)).sum((1, 2)) for s in steps]
    best = np.unravel_index(np.argmax(np.array(overlap).T), (len(ANGLES_RAD), len(steps)))
    return float(ANGLES_RAD[best[0]]), float(OFFSETS_MM[best[1]])


def _tissue_maps(half: BoolArray) -> FloatArray:
    """(4, 48, 48) maps from the masks (2, rows, columns) of cord and gray matter of one half."""
    cord, gray = half
    gray = gray & cord
    height = _fine_positions(len(cord) * FINE_MM / 2)
    across = (np.arange(cord.shape[1]) + 0.5) * FINE_MM
    commissure, slope, front = _horn_lines(gray, height, across)
    root = commissure + ROOT_SHARE * (front - commissure) + ROOT_SLOPE * across
    white = cord & ~gray
    dorsal = white & (height[:, None] > commissure + slope * across)
    ventral = white & ~dorsal & (height[:, None] < root)
    lateral = white & ~dorsal & ~ventral
    maps = np.stack([lateral, dorsal, ventral, gray])
    maps = np.concatenate([maps[..., ::-1], maps], axis=-1)
    factor = len(cord) // MAP_PIXELS
    return np.asarray(maps.reshape(4, MAP_PIXELS, factor, MAP_PIXELS, factor).mean((2, 4)))


def _horn_lines(
    gray: BoolArray, height: FloatArray, across: FloatArray
) -> tuple[float, float, float]:
    """Back of the commissure, slope of the line to the dorsal horn's tip, front of the horns."""
    rows, columns = np.nonzero(gray)
    inner = columns == columns.min()
    commissure = float(height[rows[inner].max()])
    tip = rows == rows.max()
    reach = float(across[columns[tip]].mean() - across[columns.min()])
    slope = (float(height[rows.max()]) - commissure) / max(reach, FINE_MM)
    return commissure, float(np.clip(slope, *HORN_SLOPES)), float(height[rows.min()])
