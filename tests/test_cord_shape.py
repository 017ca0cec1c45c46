"""The shape table measures ellipses of known size, wherever they lie between the voxels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scsnet_bids.cord_shape import SHAPE_COLUMNS, measure_shape
from scsnet_bids.slice_marks import EXCLUDED

SHAPE = (28, 24)
FINE = 15
LOW_CONFIDENCE = 0.75
COLUMNS = [
    "slice",
    "level",
    "area_mm2",
    "ap_diameter_mm",
    "rl_diameter_mm",
    "compression_ratio",
    "solidity",
    "orientation_rad",
    "confidence",
    "flag",
]


def fine_places(
    spacing: tuple[float, float], centre: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Positions (left, back) in mm from the centre, of points within the voxels."""
    left, back = ((np.arange(n * FINE) + 0.5) / FINE - 0.5 for n in SHAPE)
    places = (left - centre[0]) * spacing[0], (back - centre[1]) * spacing[1]
    return np.meshgrid(*places, indexing="ij")


def share_of(inside: np.ndarray) -> np.ndarray:
    """(i, j, 1) part of each voxel that is inside."""
    return inside.reshape(SHAPE[0], FINE, SHAPE[1], FINE).mean(axis=(1, 3))[..., None]


def ellipse(rl_mm, ap_mm, angle=0.0, spacing=(0.9, 0.9), centre=(13.3, 11.8)):
    left, back = fine_places(spacing, centre)
    along = left * np.cos(angle) + back * np.sin(angle)
    across = back * np.cos(angle) - left * np.sin(angle)
    return share_of((2 * along / rl_mm) ** 2 + (2 * across / ap_mm) ** 2 <= 1)


@pytest.mark.parametrize("angle", [0.0, 0.3, -0.6])
@pytest.mark.parametrize("centre", [(13.0, 11.0), (13.5, 11.5), (12.8, 12.3)])
@pytest.mark.parametrize(
    ("rl_mm", "ap_mm", "spacing"), [(12.6, 8.1, 0.9), (14, 6, 0.9), (11, 8, 0.7), (12, 9, 1.1)]
)
def test_an_ellipse_has_its_area_diameters_and_angle(rl_mm, ap_mm, spacing, angle, centre):
    share = ellipse(rl_mm, ap_mm, angle, (spacing, spacing), centre)
    shape = measure_shape(share, (spacing, spacing, 5.0), np.array([0.9]), LOW_CONFIDENCE).iloc[0]
    assert shape["area_mm2"] == pytest.approx(np.pi * rl_mm * ap_mm / 4, rel=0.02)
    assert shape["rl_diameter_mm"] == pytest.approx(rl_mm, rel=0.03)
    assert shape["ap_diameter_mm"] == pytest.approx(ap_mm, rel=0.03)
    assert shape["compression_ratio"] == pytest.approx(ap_mm / rl_mm, rel=0.03)
    assert shape["orientation_rad"] == pytest.approx(angle, abs=0.02)
    assert shape["solidity"] > 0.95
    assert pd.isna(shape["flag"])


def test_voxels_need_not_be_square():
    share = ellipse(12, 8, 0.2, spacing=(0.6, 1.0))
    shape = measure_shape(share, (0.6, 1.0, 3.0), None, LOW_CONFIDENCE).iloc[0]
    assert shape["area_mm2"] == pytest.approx(np.pi * 12 * 8 / 4, rel=0.02)
    assert shape["rl_diameter_mm"] == pytest.approx(12, rel=0.03)
    assert shape["ap_diameter_mm"] == pytest.approx(8, rel=0.03)
    assert shape["orientation_rad"] == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("ap_mm", [9.0, 8.5])
def test_a_round_cord_has_no_orientation(ap_mm):
    shape = measure_shape(ellipse(9, ap_mm, 0.4), (0.9, 0.9, 5.0), None, LOW_CONFIDENCE).iloc[0]
    assert shape["orientation_rad"] == 0


def test_a_deep_narrow_cord_keeps_its_axes():
    shape = measure_shape(ellipse(7, 10), (0.9, 0.9, 5.0), None, LOW_CONFIDENCE).iloc[0]
    assert shape["ap_diameter_mm"] == pytest.approx(10, rel=0.03)
    assert shape["rl_diameter_mm"] == pytest.approx(7, rel=0.03)
    assert shape["orientation_rad"] == pytest.approx(0, abs=0.02)


def test_an_indented_cord_is_thin_in_the_middle_and_less_solid():
    left, back = fine_places((0.9, 0.9), (13.3, 11.8))
    inside = ((left / 6.5) ** 2 + (back / 4) ** 2 <= 1) & (np.hypot(left, back + 5) > 4)
    shape = measure_shape(share_of(inside), (0.9, 0.9, 5.0), None, LOW_CONFIDENCE).iloc[0]
    assert shape["ap_diameter_mm"] == pytest.approx(5, rel=0.05)
    assert shape["solidity"] < 0.92


def test_a_slice_without_a_cord_is_missing_and_flagged():
    share = np.concatenate([ellipse(12, 8), np.zeros((*SHAPE, 1)), ellipse(12, 8)], axis=2)
    shape = measure_shape(share, (0.9, 0.9, 5.0), np.array([0.9, 0.1, 0.2]), LOW_CONFIDENCE)
    assert shape["slice"].tolist() == [0, 1, 2]
    assert shape["flag"].tolist()[1:] == ["no_cord", "low_confidence"]
    assert shape.loc[1, COLUMNS[2:8]].isna().all()
    assert shape["confidence"].tolist() == [0.9, 0.1, 0.2]


def test_no_cord_at_all_still_makes_a_table():
    shape = measure_shape(np.zeros((*SHAPE, 2)), (0.9, 0.9, 5.0), None, LOW_CONFIDENCE)
    assert shape.columns.tolist() == COLUMNS
    assert (shape["flag"] == "no_cord").all()


@pytest.mark.parametrize(("rl_mm", "ap_mm"), [(3, 3), (16, 13)])
def test_what_is_too_small_or_too_large_for_a_cord_is_flagged(rl_mm, ap_mm):
    blob = measure_shape(ellipse(rl_mm, ap_mm), (0.9, 0.9, 5.0), None, LOW_CONFIDENCE).iloc[0]
    assert blob["flag"] == "implausible"


@pytest.mark.parametrize("centre", [(13, 2), (13, 22), (3, 11), (25, 11)])
def test_a_cord_that_any_edge_cuts_off_is_flagged(centre):
    share = ellipse(12, 8, centre=centre)
    at_edge = measure_shape(share, (0.9, 0.9, 5.0), None, LOW_CONFIDENCE).iloc[0]
    assert at_edge["flag"] == "cut_off"


def test_a_slice_far_narrower_than_both_beside_it_is_flagged():
    depths = [8, 5, 8, 6, 8, 5, 5, 8]  # 5 of 8 is less than two thirds, 6 is more
    share = np.concatenate([ellipse(12, depth) for depth in depths], axis=2)
    flags = measure_shape(share, (0.9, 0.9, 5.0), None, LOW_CONFIDENCE)["flag"]
    assert flags[1] == "narrow"
    assert flags.drop(1).isna().all()


def test_a_slice_beside_one_without_a_cord_is_not_called_narrow():
    slices = [ellipse(12, 8), ellipse(12, 5), np.zeros((*SHAPE, 1)), ellipse(12, 5)]
    flags = measure_shape(np.concatenate(slices, axis=2), (0.9, 0.9, 5.0), None, LOW_CONFIDENCE)
    assert flags["flag"].fillna("").tolist() == ["", "", "no_cord", ""]


def test_confidence_is_low_below_the_limit_alone():
    share = np.repeat(ellipse(12, 8), 2, axis=2)
    stated = np.array([LOW_CONFIDENCE, LOW_CONFIDENCE - 0.01])
    shape = measure_shape(share, (0.9, 0.9, 5.0), stated, LOW_CONFIDENCE)
    assert pd.isna(shape["flag"][0])
    assert shape["flag"][1] == "low_confidence"


def test_slices_have_their_own_level_and_excluded_ones_are_flagged():
    share = np.concatenate([ellipse(12, 8), np.zeros((*SHAPE, 1)), ellipse(12, 8)], axis=2)
    level = np.array(["C6", "", "C5"])
    shape = measure_shape(share, (0.9, 0.9, 5.0), None, LOW_CONFIDENCE, level, excluded=(1, 2))
    assert shape["level"].fillna("none").tolist() == ["C6", "none", "C5"]
    assert shape["flag"].fillna("none").tolist() == ["none", f"no_cord;{EXCLUDED}", EXCLUDED]


def test_corners_count_for_the_diameter():
    left, back = fine_places((0.9, 0.9), (13.3, 11.8))
    share = share_of(np.abs(left) / 7 + np.abs(back) / 4.5 <= 1)
    shape = measure_shape(share, (0.9, 0.9, 5.0), None, LOW_CONFIDENCE).iloc[0]
    # Over a tenth of its depth the chord of a rhombus is 5 % shorter; voxels blunt its corners.
    assert shape["rl_diameter_mm"] == pytest.approx(0.95 * 14, rel=0.05)
    assert shape["ap_diameter_mm"] == pytest.approx(0.95 * 9, rel=0.05)


def test_a_speck_has_no_shape_and_stops_nothing(rng):
    found = []
    for _ in range(100):
        centre, width = rng.uniform(9, 11, 2), rng.uniform(0.8, 2.5)
        away = np.hypot(*(np.indices((20, 20)) - centre[:, None, None])) / width
        speck = np.exp(-(away**2) / 2)
        speck *= rng.uniform(0.5, 0.55) / speck.max()
        found.append(measure_shape(speck[..., None], (0.9, 0.9, 5.0), None, LOW_CONFIDENCE))
    shapes = pd.concat(found)
    assert shapes["area_mm2"].notna().all()
    assert shapes["solidity"].isna().any()
    assert (shapes["solidity"].isna() == shapes["ap_diameter_mm"].isna()).all()
    assert shapes["flag"].str.contains("implausible").all()


def test_a_single_voxel_is_no_cord_but_no_error():
    speck = np.zeros((20, 20, 1))
    speck[10, 10] = 1
    shape = measure_shape(speck, (0.9, 0.9, 5.0), None, LOW_CONFIDENCE).iloc[0]
    assert shape["flag"] == "implausible"
    assert shape["orientation_rad"] == 0


def test_every_column_is_described():
    assert list(SHAPE_COLUMNS) == COLUMNS
    assert all(entry["Description"] for entry in SHAPE_COLUMNS.values())
