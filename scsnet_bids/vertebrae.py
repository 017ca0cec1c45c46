"""Vertebral levels: from labels on any scan of the same session to the slices of a series.

Labels are brought to the cord's own centre line, a parabola through the centres of the cord, in
scanner coordinates: a label's place is that of the nearest point of the line, counted in slices. So
neither the direction nor the size of the voxels of the other scan matters, nor whether it shows the
spine or the cord. Vertebrae count 1 to 7 for C1 to C7, 8 to 19 for T1 to T12 and 20 to 24 for L1 to
L5. A disc has the number of the vertebra below it, as in the Spinal Cord Toolbox: 3 is C2-C3.

>>> [level_name(number) for number in (2, 8, 20)]
['C2', 'T1', 'L1']
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.polynomial import Polynomial
from scipy.spatial import cKDTree

from scsnet_bids.arrays import FloatArray
from scsnet_bids.slices import centre_of_slices

LevelArray = npt.NDArray[np.integer]

HIGHEST = 24
"""L5; larger numbers name other structures."""
SHORT_LEVEL_MM = 10.0
"""No cervical level is shorter: as far as this from a single disc the level is known."""
ASIDE_MM = 40.0
"""Vertebral bodies lie up to this far from the cord; labels farther away say nothing about it."""
STEP = 0.1
BEYOND_MM = 30.0


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of vertebrae or discs in scanner space.

    Attributes
    ----------
    number : (n,) int array, which vertebra (or disc) each labelled voxel belongs to
    place_mm : (n, 3) where it lies, scanner RAS+
    are_discs : discs, not vertebrae
    """

    number: LevelArray
    place_mm: FloatArray
    are_discs: bool


def level_name(number: int) -> str:
    """Name a vertebra by its number from 1 (C1) to 24 (L5)."""
    for letter, first in (("L", 20), ("T", 8), ("C", 1)):
        if number >= first:
            return f"{letter}{number - first + 1}"
    raise ValueError(f"vertebrae count from 1: found {number}")


def levels_of_slices(
    labels: Labels, cord_share: FloatArray, affine: FloatArray
) -> npt.NDArray[np.str_]:
    """Tell the vertebral level of every slice.

    Parameters
    ----------
    labels : of vertebrae or discs
    cord_share : (i, j, k) float array in [0, 1], part of each voxel that is cord
    affine : (4, 4) voxel indices to scanner RAS+ mm

    Returns
    -------
    (k,) str array, empty where the labels do not tell, or where there is no cord at all
    """
    n_slices = cord_share.shape[2]
    if not cord_share.any():
        return np.full(n_slices, "", dtype="<U3")
    along = _place_along(labels, cord_share, affine)
    spacing_mm = float(np.linalg.norm(affine[:3, 2]))
    known = np.isfinite(along)
    named = _by_discs if labels.are_discs else _by_vertebrae
    numbers = named(labels.number[known], along[known], n_slices, SHORT_LEVEL_MM / spacing_mm)
    return np.array([level_name(n) if n > 0 else "" for n in numbers], dtype="<U3")


def fit_centre_line(cord_share: FloatArray) -> tuple[Polynomial, Polynomial]:
    """Fit parabolas to the centres of the cord: place to the left and to the back, by slice.

    Parameters
    ----------
    cord_share : (i, j, k) float array in [0, 1]; some slice must hold a cord

    Returns
    -------
    two polynomials of the slice number, voxels
    """
    centre = centre_of_slices(cord_share)
    found = np.flatnonzero(np.isfinite(centre[:, 0]))
    left, back = centre[found].T
    degree = min(2, len(found) - 1)
    return Polynomial.fit(found, left, degree), Polynomial.fit(found, back, degree)


def _place_along(labels: Labels, cord_share: FloatArray, affine: FloatArray) -> FloatArray:
    """(n,) slice number, with decimals, of the line's point nearest to each label; nan if far."""
    beyond = BEYOND_MM / float(np.linalg.norm(affine[:3, 2]))
    along = np.arange(-beyond, cord_share.shape[2] - 1 + beyond, STEP)
    distance_mm, nearest = cKDTree(_centre_line(cord_share, affine, along)).query(labels.place_mm)
    # What lies beyond the ends of the line would gather there.
    at_end = (nearest == 0) | (nearest == len(along) - 1)
    return np.where((distance_mm > ASIDE_MM) | at_end, np.nan, along[nearest])


def _centre_line(cord_share: FloatArray, affine: FloatArray, along: FloatArray) -> FloatArray:
    """(n, 3) points in scanner RAS+ of a parabola through the cord's centres; straight beyond."""
    found = np.flatnonzero(cord_share.any(axis=(0, 1)))
    inside = np.clip(along, found[0], found[-1])
    centre = [
        fit(inside) + fit.deriv()(inside) * (along - inside) for fit in fit_centre_line(cord_share)
    ]
    voxels = np.stack([*centre, along], axis=-1)
    return np.asarray(voxels @ affine[:3, :3].T + affine[:3, 3])


def _by_discs(number: LevelArray, along: FloatArray, n_slices: int, reach: float) -> LevelArray:
    """(k,) number of the vertebra between two discs, or next to a single one; 0 if unknown."""
    disc = {int(n): float(np.median(along[number == n])) for n in np.unique(number)}
    level, nearest = np.zeros(n_slices, dtype=int), np.full(n_slices, np.inf)
    slices = np.arange(n_slices)
    for n, place in disc.items():
        below, above = place - slices, slices - place  # a disc lies above its vertebra
        to_next = place - disc[n + 1] if n + 1 in disc else reach
        to_last = disc[n - 1] - place if n - 1 in disc else reach
        for vertebra, distance, limit in ((n, below, to_next), (n - 1, above, to_last)):
            nearer = (distance >= 0) & (distance <= limit) & (distance < nearest)
            level, nearest = (
                np.where(nearer, vertebra, level),
                np.where(nearer, distance, nearest),
            )
    return level


def _by_vertebrae(number: LevelArray, along: FloatArray, n_slices: int, reach: float) -> LevelArray:
    """(k,) number of the vertebra that most of a slice's labels name, or the nearest; else 0."""
    level = np.zeros(n_slices, dtype=int)
    middle = {int(n): float(np.median(along[number == n])) for n in np.unique(number)}
    for k in range(n_slices) if len(number) else ():
        distance = np.abs(along - k)
        within = distance <= 0.5
        if within.any():
            level[k] = np.bincount(number[within]).argmax()
            continue
        nearest = int(number[distance.argmin()])
        # A label that is a point stands for half a level to either side, and up to its neighbour.
        here = middle[nearest]
        span = (here, middle.get(nearest + 1 if k < here else nearest - 1, here))
        if min(span) <= k <= max(span) or abs(k - here) <= reach / 2:
            level[k] = nearest
    return level


def is_vertebra(name: str) -> bool:
    """Tell whether a level is a whole vertebra, and no other word or part.

    >>> is_vertebra("C4"), is_vertebra("C4/C5"), is_vertebra("ROSTRAL")
    (True, False, False)
    """
    return re.fullmatch(r"[CTL]\d+", name) is not None


def level_rank(name: str) -> tuple[int, float, str]:
    """Order levels from head to foot; names that are no vertebrae come last.

    >>> sorted(["T1", "C7", "C2", "rostral", "C2-C3"], key=level_rank)
    ['C2', 'C2-C3', 'C7', 'T1', 'rostral']
    """
    match = re.match(r"([CTL])(\d+)", name)
    return ("CTL".index(match[1]), float(match[2]), name) if match else (3, 0.0, name)
