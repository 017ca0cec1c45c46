"""The shape of the cord per slice: area, diameters, compression.

Everything is measured on the share of cord in every voxel, not on a mask, so that it is finer
than a voxel. The area is the sum of the shares. The diameters are chords through the centre of
the area: the share is resampled to a fine grid that is turned into the cord's principal axes, and
summed along the axis nearest to the patient's front-back direction (anteroposterior diameter) and
across it (right-left diameter), each averaged over a band around the centre a tenth as wide as
the cord. A chord, unlike an ellipse fitted to the area, sees the thin waist of a compressed cord.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage
from scipy.spatial import ConvexHull

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.derivatives import join_flags
from scsnet_bids.regions import HALF
from scsnet_bids.slice_marks import EXCLUDED, EXCLUDED_MEANS

PLAUSIBLE_AREA_MM2 = (15.0, 150.0)
NARROW = 2 / 3
"""Of the area in both neighbours. Phantoms that lose 40 % of their depth at one level keep 0.76."""
STEP_MM = 0.1
BAND = 0.1
"""Width of the band over which a chord is averaged, as a part of the other diameter."""
ROUND = 0.9
"""From this ratio of principal axes on, a cord is too round to have an orientation."""

FLAGS: dict[str, str] = {
    "no_cord": "no cord was found in the slice",
    "cut_off": "the cord reaches the edge of the image",
    "implausible": "the area is not that of a spinal cord "
    f"({PLAUSIBLE_AREA_MM2[0]:g} to {PLAUSIBLE_AREA_MM2[1]:g} mm2)",
    "narrow": "the area is less than two thirds of that in both neighbouring slices",
    "low_confidence": "the confidence is below the limit (setting low_confidence)",
    EXCLUDED: EXCLUDED_MEANS,
}
DOUBTFUL_SHAPE = "cut_off|implausible"
"""Flags of a slice whose shape is not that of a cord, as a pattern."""

SHAPE_COLUMNS: dict[str, dict[str, Any]] = {
    "slice": {"Description": "Slice, from 0 for the lowest (most caudal)."},
    "level": {"Description": "Vertebral level; n/a if unknown."},
    "area_mm2": {
        "Description": "Area of the cord in the slice: sum of the cord's shares times the voxel "
        "area. Not corrected for a cord that is tilted against the slice.",
        "Units": "mm2",
    },
    "ap_diameter_mm": {
        "Description": "Anteroposterior diameter: chord through the centre of the area along "
        "the principal axis nearest to front-back, averaged over a tenth of the width.",
        "Units": "mm",
    },
    "rl_diameter_mm": {
        "Description": "Right-left diameter: chord through the centre of the area along the "
        "other principal axis, averaged over a tenth of the depth.",
        "Units": "mm",
    },
    "compression_ratio": {
        "Description": "ap_diameter_mm divided by rl_diameter_mm; small for a flattened cord.",
        "Units": "1",
    },
    "solidity": {
        "Description": "Area within the half-share outline divided by the area of its convex "
        "hull; near 1 for a convex cord, smaller for an indented one.",
        "Units": "1",
    },
    "orientation_rad": {
        "Description": "Angle from the image's left axis to the cord's right-left axis, positive "
        "where the cord's left side is turned to the back; 0 for a cord too round to tell.",
        "Units": "rad",
    },
    "confidence": {
        "Description": "Confidence that the network states, from 0 to 1: the Dice overlap with "
        "the true cord that it expects. On synthetic slices it holds, or is a little too low; on "
        "real ones it has not been tested. Of a mask that was given: its overlap with the cord "
        "that the network found.",
        "Units": "1",
    },
    "flag": {
        "Description": "Reasons for doubt, joined by semicolons; n/a if there is none.",
        "Levels": FLAGS,
    },
}


def measure_shape(
    cord_share: FloatArray,
    spacing_mm: tuple[float, float, float],
    confidence: FloatArray | None,
    low_confidence: float,
    level: npt.NDArray[np.str_] | None = None,
    excluded: Collection[int] = (),
) -> pd.DataFrame:
    """Measure the cord's area, diameters and orientation in every slice.

    Parameters
    ----------
    cord_share : (i, j, k) float array in [0, 1], part of each voxel that is cord
    spacing_mm : voxel size
    confidence : (k,) float array in [0, 1], stated by the network; None if unknown
    low_confidence : slices stated below are flagged
    level : (k,) str array, vertebral level of each slice, empty if unknown; None if all are
    excluded : slices that a reader failed, which are flagged

    Returns
    -------
    DataFrame with one row per slice and the columns of ``SHAPE_COLUMNS``; nan where no cord is
    """
    n_slices = cord_share.shape[2]
    names = [""] * n_slices if level is None else [str(name) for name in level]
    stated = np.full(n_slices, np.nan) if confidence is None else np.asarray(confidence, float)
    planes = [np.asarray(cord_share[..., k], dtype=float) for k in range(n_slices)]
    found = [bool((plane >= HALF).any()) for plane in planes]
    size = np.array(spacing_mm[:2])
    shapes = [
        _measure_slice(x, size) if is_cord else {} for x, is_cord in zip(planes, found, strict=True)
    ]
    narrow = _narrow(np.array([shape.get("area_mm2", np.nan) for shape in shapes]))
    rows = []
    for k, shape in enumerate(shapes):
        sure = not stated[k] < low_confidence
        flag = _flag(planes[k], shape["area_mm2"], narrow[k], sure) if found[k] else "no_cord"
        flag = ";".join(filter(None, [flag, EXCLUDED if k in excluded else None]))
        known = {"slice": k, "level": names[k] or None, "confidence": stated[k]}
        rows.append({**known, "flag": flag or None, **shape})
    return pd.DataFrame(rows).reindex(columns=list(SHAPE_COLUMNS))


def _narrow(area_mm2: FloatArray) -> BoolArray:
    """(k,) whether a slice holds far less cord than both slices beside it."""
    padded = np.pad(area_mm2, 1, constant_values=np.nan)
    return np.asarray(area_mm2 < NARROW * np.minimum(padded[:-2], padded[2:]))


def _measure_slice(plane: FloatArray, spacing_mm: FloatArray) -> dict[str, float]:
    """Measure one (i, j) slice that holds a cord; a speck has an area alone."""
    centre_mm, covariance_mm2 = _moments(plane, spacing_mm)
    angle = _orientation(covariance_mm2)
    # Four standard deviations are the axis of an ellipse; the window leaves room for other shapes.
    half_width_mm = 4 * float(np.sqrt(np.linalg.eigvalsh(covariance_mm2)[-1]))
    fine = _turned(plane, spacing_mm, centre_mm, angle, half_width_mm)
    area = {"area_mm2": float(plane.sum() * np.prod(spacing_mm))}
    inside = fine >= HALF
    if not inside.any():  # The one voxel of cord is lost between the points of the fine grid.
        return area
    rl_mm, ap_mm = _diameters(fine)
    return area | {
        "ap_diameter_mm": ap_mm,
        "rl_diameter_mm": rl_mm,
        "compression_ratio": ap_mm / rl_mm,
        "solidity": _solidity(inside),
        "orientation_rad": angle,
    }


def _moments(plane: FloatArray, spacing_mm: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(2,) centre in mm and (2, 2) covariance in mm2 of the area, (left, posterior)."""
    place_mm = np.indices(plane.shape).reshape(2, -1) * spacing_mm[:, None]
    weight = plane.ravel() / plane.sum()
    centre_mm = place_mm @ weight
    offset_mm = place_mm - centre_mm[:, None]
    spread_mm2 = (offset_mm * weight) @ offset_mm.T
    return centre_mm, spread_mm2


def _orientation(covariance_mm2: FloatArray) -> float:
    """Angle in (-pi/4, pi/4] from the left axis to the nearest principal axis; 0 if round."""
    variances, axes = np.linalg.eigh(covariance_mm2)
    if variances[0] >= ROUND**2 * variances[1]:
        return 0.0
    left, back = axes[:, np.argmax(np.abs(axes[0]))]
    return float(np.arctan(back / left))


def _turned(
    plane: FloatArray,
    spacing_mm: FloatArray,
    centre_mm: FloatArray,
    angle: float,
    half_width_mm: float,
) -> FloatArray:
    """Resample a slice to a fine square grid on the cord's axes, the centre in its middle."""
    n = int(np.ceil(half_width_mm / STEP_MM))
    along = np.arange(-n, n + 1) * STEP_MM
    right_left, front_back = np.meshgrid(along, along, indexing="ij")
    left = centre_mm[0] + right_left * np.cos(angle) - front_back * np.sin(angle)
    back = centre_mm[1] + right_left * np.sin(angle) + front_back * np.cos(angle)
    place = np.stack([left / spacing_mm[0], back / spacing_mm[1]])
    return np.asarray(ndimage.map_coordinates(plane, place, order=1, mode="grid-constant"))


def _diameters(fine: FloatArray) -> tuple[float, float]:
    """Right-left and anteroposterior chord in mm, averaged over a band around the centre."""
    middle = fine.shape[0] // 2
    extents = [np.count_nonzero(fine.max(axis=1 - axis) >= HALF) for axis in (0, 1)]
    half = [round(BAND / 2 * extent) for extent in extents]
    rl_band = fine[:, middle - half[1] : middle + half[1] + 1]
    ap_band = fine[middle - half[0] : middle + half[0] + 1]
    return (
        float(rl_band.mean(axis=1).sum() * STEP_MM),
        float(ap_band.mean(axis=0).sum() * STEP_MM),
    )


def _solidity(mask: BoolArray) -> float:
    """Area of a fine mask divided by that of its convex hull."""
    outline = mask & ~ndimage.binary_erosion(mask)
    corners = np.argwhere(outline)[:, None] + np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    return float(mask.sum() / ConvexHull(corners.reshape(-1, 2)).volume)


def _flag(plane: FloatArray, area_mm2: float, narrow: bool, sure: bool) -> str | None:
    """Name the reasons for doubt of a slice with a cord, None if there is none."""
    cord = plane >= HALF
    lowest, highest = PLAUSIBLE_AREA_MM2
    raised = {
        "cut_off": cord[[0, -1]].any() or cord[:, [0, -1]].any(),
        "implausible": not lowest <= area_mm2 <= highest,
        "narrow": narrow,
        "low_confidence": not sure,
    }
    return join_flags(raised)
