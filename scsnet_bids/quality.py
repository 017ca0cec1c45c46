"""The quality of a run in one row: what an automatic judge, or a person in a hurry, needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.cord_shape import DOUBTFUL_SHAPE
from scsnet_bids.derivatives import join_flags, select_rows
from scsnet_bids.regions import HALF
from scsnet_bids.slice_marks import EXCLUDED
from scsnet_bids.vertebrae import fit_centre_line

LOW_SNR = 4.0
LARGE_DISPLACEMENT_MM = 3.0
MANY_UNTRUSTED = 0.2
MUCH_LOST = 0.1
"""What is left stays good: noise grows by 5 %. But milder losses, which count in part or are not
found, come with those that do not count."""
MUCH_LOST_IN_SLICE = 0.5
"""Noise grows by 1.4, and beyond it no fit can tell which part of the volumes is the good one."""
LARGE_MISALIGNMENT_MM = 1.0
MANY_UNALIGNED = 0.5
MANY_NON_POSITIVE = 0.25
OFF_AXIS_RAD = 0.7
"""Fibres of white matter run along the cord; noise turns the directions of voxels by 0.2 to 0.4."""

FLAGS: dict[str, str] = {
    "no_cord": "no cord was found in any slice",
    "cord_gap": "slices without a cord lie between slices with one",
    "implausible_shape": "the shape table flags a slice as implausible or cut off",
    "low_snr": f"snr_b0 is below {LOW_SNR:g}",
    "large_motion": f"displacement_max_mm is above {LARGE_DISPLACEMENT_MM:g}",
    "many_untrusted": f"untrusted_share is above {MANY_UNTRUSTED:g}",
    "signal_lost": f"lost_share is above {MUCH_LOST:g}",
    "slice_lost": f"lost_share_max is above {MUCH_LOST_IN_SLICE:g}",
    "misaligned": f"b0_to_dwi_max_mm is above {LARGE_MISALIGNMENT_MM:g}",
    "unaligned": f"b0_to_dwi_untrusted_share is above {MANY_UNALIGNED:g}",
    "many_non_positive": f"non_positive_share is above {MANY_NON_POSITIVE:g}",
    "odd_directions": f"direction_angle_rad is above {OFF_AXIS_RAD:g}: the b-vectors may be wrong",
    "no_contrast": "the FA of white matter is not above that of gray matter",
}

QUALITY_COLUMNS: dict[str, dict[str, Any]] = {
    "n_slices": {"Description": "Slices of the series."},
    "n_slices_with_cord": {"Description": "Slices in which a cord was found."},
    "n_slices_excluded": {
        "Description": "Slices that a reader failed; no level and no cord value holds them."
    },
    "snr_b0": {
        "Description": "Mean of the B0 reference in the cord, divided by the noise of one "
        "corrected volume: the median over the cord of the standard deviation of the signal "
        "about the tensor fit. Holds what motion is left.",
        "Units": "1",
    },
    "displacement_mean_mm": {
        "Description": "Length of the estimated in-plane displacement, mean over volumes and "
        "slices.",
        "Units": "mm",
    },
    "displacement_max_mm": {
        "Description": "Largest length of the estimated in-plane displacement.",
        "Units": "mm",
    },
    "untrusted_share": {
        "Description": "Share of slices of volumes that show too little of the cord to tell "
        "their own displacement; n/a where none was estimated.",
        "Units": "1",
    },
    "lost_share": {
        "Description": "Share of the slices of volumes that were found to have lost their signal, "
        "or to be far too bright, of those that could be judged. They do not count.",
        "Units": "1",
    },
    "lost_share_max": {"Description": "The same, in the worst slice.", "Units": "1"},
    "b0_to_dwi_max_mm": {
        "Description": "Largest length over slices of the displacement from the B0 reference to "
        "DTI space.",
        "Units": "mm",
    },
    "b0_to_dwi_untrusted_share": {
        "Description": "Share of the slices with a cord in which the mean DWI does not show it "
        "where the B0 reference has it, nor near there; n/a where that was not looked for.",
        "Units": "1",
    },
    "cord_area_mm2": {
        "Description": "Area of the cord, mean over the slices that have one and that no reader "
        "excluded.",
        "Units": "mm2",
    },
    "fa_white_matter": {"Description": "Plain mean FA of white matter in the whole cord."},
    "fa_gray_matter": {"Description": "Plain mean FA of gray matter in the whole cord."},
    "non_positive_share": {
        "Description": "Share of the cord's voxels whose fitted tensor does not have three "
        "positive eigenvalues.",
        "Units": "1",
    },
    "direction_angle_rad": {
        "Description": "Angle between the principal direction and the axis of the cord: median "
        "over the voxels that white matter fills at least half.",
        "Units": "rad",
    },
    "flag": {
        "Description": "Reasons for doubt, joined by semicolons; n/a if there is none.",
        "Levels": FLAGS,
    },
}


def signal_to_noise(
    b0: FloatArray, noise: FloatArray, cord_mask: BoolArray, b0_to_dwi_voxels: FloatArray
) -> float:
    """Compare the cord's b=0 signal with the noise of a single volume.

    Parameters
    ----------
    b0 : (i, j, k) float array, the B0 reference
    noise : (i, j, k) float array in its unit, standard deviation about the tensor fit
    cord_mask : (i, j, k) bool array, where the noise lies
    b0_to_dwi_voxels : (k, 2) displacement from the B0 reference to there

    Returns
    -------
    float, mean signal by median noise; nan where there is no cord or no noise estimate
    """
    moved = np.array(b0, dtype=float)
    for k, shift in enumerate(b0_to_dwi_voxels):
        moved[..., k] = ndimage.shift(moved[..., k], shift, order=1, mode="nearest")
    in_cord = noise[cord_mask & np.isfinite(noise) & np.isfinite(moved)]
    if not in_cord.size or np.median(in_cord) <= 0:
        return float("nan")
    return float(np.nanmean(moved[cord_mask]) / np.median(in_cord))


def direction_angle(
    direction: FloatArray, white_share: FloatArray, cord_share: FloatArray, affine: FloatArray
) -> float:
    """Compare the principal direction of white matter with the axis of the cord.

    Parameters
    ----------
    direction : (i, j, k, 3) unit vectors in scanner RAS+
    white_share, cord_share : (i, j, k) float arrays in [0, 1]
    affine : (4, 4) voxel indices to scanner RAS+ mm

    Returns
    -------
    float, median angle in rad over the voxels that white matter fills at least half; nan if none
    """
    place = np.nonzero(white_share >= HALF)
    if not place[0].size:
        return float("nan")
    along = np.abs((direction[place] * _cord_axis(cord_share, affine)[place[2]]).sum(axis=-1))
    angle = np.arccos(np.clip(along[np.isfinite(along)], 0, 1))
    return float(np.median(angle)) if angle.size else float("nan")


def _cord_axis(cord_share: FloatArray, affine: FloatArray) -> FloatArray:
    """(k, 3) unit tangent of a parabola through the centres of the cord, scanner RAS+."""
    slices = np.arange(cord_share.shape[2])
    slopes = [fit.deriv()(slices) for fit in fit_centre_line(cord_share)]
    tangent = np.stack([*slopes, np.ones(len(slices))], axis=-1)
    world = tangent @ affine[:3, :3].T
    return np.asarray(world / np.linalg.norm(world, axis=-1, keepdims=True))


def summarise_quality(
    measured: Mapping[str, float],
    shift_mm: FloatArray,
    trusted: FloatArray,
    b0_to_dwi_mm: FloatArray,
    b0_to_dwi_trusted: FloatArray,
    shape: pd.DataFrame,
    regions: pd.DataFrame,
) -> pd.DataFrame:
    """Summarise a run in one row.

    Parameters
    ----------
    measured : snr_b0, non_positive_share, direction_angle_rad, lost_share and lost_share_max
    shift_mm : (n, k, 2) displacement of every slice of every volume, mm
    trusted : (n, k) float array, 1 if the slice itself determined its displacement, 0 if not, nan
        if none was estimated
    b0_to_dwi_mm : (k, 2) displacement from the B0 reference to DTI space, mm
    b0_to_dwi_trusted : (k,) float array, 1 if the slice has measured it, 0 if not, nan if none did
    shape : shape table, one row per slice
    regions : region table

    Returns
    -------
    DataFrame with one row and the columns of ``QUALITY_COLUMNS``
    """
    length_mm = np.linalg.norm(shift_mm, axis=-1)
    found = shape["area_mm2"].notna().to_numpy()
    kept = shape[~shape["flag"].astype(str).str.contains(EXCLUDED)]
    row: dict[str, Any] = {
        "n_slices": len(shape),
        "n_slices_with_cord": int(found.sum()),
        "n_slices_excluded": len(shape) - len(kept),
        "displacement_mean_mm": length_mm.mean(),
        "displacement_max_mm": length_mm.max(),
        "untrusted_share": 1 - float(np.mean(trusted)),
        "b0_to_dwi_max_mm": np.linalg.norm(b0_to_dwi_mm, axis=-1).max(),
        "b0_to_dwi_untrusted_share": 1 - b0_to_dwi_trusted[found].mean() if found.any() else np.nan,
        "cord_area_mm2": kept["area_mm2"].mean(),
        "fa_white_matter": _cord_fa(regions, "white_matter"),
        "fa_gray_matter": _cord_fa(regions, "gray_matter"),
        **measured,
    }
    return pd.DataFrame([row | {"flag": _flag(row, found, kept["flag"])}])[list(QUALITY_COLUMNS)]


def _cord_fa(regions: pd.DataFrame, region: str) -> float:
    """Plain mean FA of a tissue in the whole cord, both sides."""
    row = select_rows(regions, scope="cord", region=region, side="both", metric="FA")
    return float(row["mean"].iloc[0])


def _flag(row: dict[str, Any], found: BoolArray, shape_flag: pd.Series[str]) -> str | None:
    """Name the reasons for doubt, None if there is none."""
    place = np.flatnonzero(found)
    doubtful_shape = shape_flag.astype(str).str.contains(DOUBTFUL_SHAPE)
    raised = {
        "no_cord": not place.size,
        "cord_gap": place.size > 0 and not found[place[0] : place[-1] + 1].all(),
        "implausible_shape": bool(doubtful_shape.any()),
        "low_snr": row["snr_b0"] < LOW_SNR,
        "large_motion": row["displacement_max_mm"] > LARGE_DISPLACEMENT_MM,
        "many_untrusted": row["untrusted_share"] > MANY_UNTRUSTED,
        "signal_lost": row["lost_share"] > MUCH_LOST,
        "slice_lost": row["lost_share_max"] > MUCH_LOST_IN_SLICE,
        "misaligned": row["b0_to_dwi_max_mm"] > LARGE_MISALIGNMENT_MM,
        "unaligned": row["b0_to_dwi_untrusted_share"] > MANY_UNALIGNED,
        "many_non_positive": row["non_positive_share"] > MANY_NON_POSITIVE,
        "odd_directions": row["direction_angle_rad"] > OFF_AXIS_RAD,
        "no_contrast": row["fa_white_matter"] <= row["fa_gray_matter"],
    }
    return join_flags(raised)
