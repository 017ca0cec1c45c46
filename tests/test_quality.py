"""One row says whether a run can be trusted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from scsnet_bids.quality import (
    QUALITY_COLUMNS,
    direction_angle,
    signal_to_noise,
    summarise_quality,
)


def shape_table(area_mm2: list[float], flag: list[str | None]) -> pd.DataFrame:
    return pd.DataFrame({"area_mm2": area_mm2, "flag": flag})


def region_table(white: float, gray: float) -> pd.DataFrame:
    rows = [
        ("slice", "white_matter", "both", "FA", 0.1),
        ("cord", "white_matter", "left", "FA", 0.2),
        ("cord", "white_matter", "both", "MD", 0.3),
        ("cord", "white_matter", "both", "FA", white),
        ("cord", "gray_matter", "both", "FA", gray),
    ]
    return pd.DataFrame(rows, columns=["scope", "region", "side", "metric", "mean"])


MEASURED = {
    "snr_b0": 7.0,
    "non_positive_share": 0.1,
    "direction_angle_rad": 0.3,
    "lost_share": 0.02,
    "lost_share_max": 0.1,
}
GOOD = {
    "measured": MEASURED,
    "shift_mm": np.zeros((4, 3, 2)),
    "trusted": np.ones((4, 3)),
    "b0_to_dwi_mm": np.zeros((3, 2)),
    "b0_to_dwi_trusted": np.ones(3),
    "shape": shape_table([80.0, 70.0, 60.0], [None, "low_confidence", None]),
    "regions": region_table(0.7, 0.5),
}


def test_a_good_run_has_no_flag_and_every_column():
    quality = summarise_quality(**GOOD)
    assert quality.columns.tolist() == list(QUALITY_COLUMNS)
    assert len(quality) == 1
    row = quality.iloc[0]
    assert pd.isna(row["flag"])
    assert row["n_slices"] == row["n_slices_with_cord"] == 3
    assert row["cord_area_mm2"] == pytest.approx(70)
    assert (row["fa_white_matter"], row["fa_gray_matter"]) == (0.7, 0.5)


def test_displacements_are_lengths():
    shift_mm = np.zeros((4, 3, 2))
    shift_mm[1, 2] = 0.6, -0.8
    b0_to_dwi_mm = np.array([[0.0, 0.0], [-0.3, 0.4], [0.1, 0.0]])
    row = summarise_quality(**GOOD | {"shift_mm": shift_mm, "b0_to_dwi_mm": b0_to_dwi_mm}).iloc[0]
    assert row["displacement_max_mm"] == pytest.approx(1)
    assert row["displacement_mean_mm"] == pytest.approx(1 / 12)
    assert row["b0_to_dwi_max_mm"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"measured": MEASURED | {"snr_b0": 2.0}}, "low_snr"),
        ({"measured": MEASURED | {"non_positive_share": 0.5}}, "many_non_positive"),
        ({"measured": MEASURED | {"direction_angle_rad": 1.2}}, "odd_directions"),
        ({"measured": MEASURED | {"lost_share": 0.15}}, "signal_lost"),
        ({"measured": MEASURED | {"lost_share_max": 0.6}}, "slice_lost"),
        ({"shift_mm": np.full((4, 3, 2), 3.0)}, "large_motion"),
        ({"trusted": np.arange(12).reshape(4, 3) % 2 == 0}, "many_untrusted"),
        ({"b0_to_dwi_mm": np.full((3, 2), 1.0)}, "misaligned"),
        ({"b0_to_dwi_trusted": np.array([1.0, 0, 0])}, "unaligned"),
        ({"regions": region_table(0.5, 0.6)}, "no_contrast"),
        ({"shape": shape_table([80.0, np.nan, 60.0], [None, "no_cord", None])}, "cord_gap"),
        (
            {"shape": shape_table([80.0, 200.0, 80.0], [None, "implausible", None])},
            "implausible_shape",
        ),
        (
            {
                "shape": shape_table([np.nan] * 3, ["no_cord"] * 3),
                "regions": region_table(np.nan, np.nan),
                "measured": dict.fromkeys(MEASURED, np.nan),
            },
            "no_cord",
        ),
    ],
)
def test_each_fault_has_its_flag(change, flag):
    assert summarise_quality(**GOOD | change)["flag"].item() == flag
    assert flag in QUALITY_COLUMNS["flag"]["Levels"]


def test_where_no_motion_was_estimated_nothing_is_said_of_it():
    row = summarise_quality(**GOOD | {"trusted": np.full((4, 3), np.nan)}).iloc[0]
    assert pd.isna(row["untrusted_share"])
    assert pd.isna(row["flag"])


def test_where_no_alignment_was_asked_for_nothing_is_said_of_it():
    row = summarise_quality(**GOOD | {"b0_to_dwi_trusted": np.full(3, np.nan)}).iloc[0]
    assert pd.isna(row["b0_to_dwi_untrusted_share"])
    assert pd.isna(row["flag"])


def test_missing_slices_at_the_ends_are_no_gap():
    shape = shape_table([np.nan, 80.0, np.nan], ["no_cord", None, "no_cord"])
    quality = summarise_quality(**GOOD | {"shape": shape}).iloc[0]
    assert pd.isna(quality["flag"])
    assert quality["n_slices_with_cord"] == 1


def test_the_signal_to_noise_ratio_is_that_of_the_cord():
    b0, noise = np.full((4, 4, 2), 100.0), np.full((4, 4, 2), 50.0)
    cord = np.zeros((4, 4, 2), dtype=bool)
    cord[1:3, 1:3] = True
    b0[cord], noise[cord] = 900.0, 150.0
    noise[1, 1, 0] = np.nan
    assert signal_to_noise(b0, noise, cord, np.zeros((2, 2))) == pytest.approx(6)


def test_the_cord_of_the_b0_image_is_looked_for_where_it_lies():
    noise = np.full((8, 8, 2), 150.0)
    cord = np.zeros((8, 8, 2), dtype=bool)
    cord[3:5, 2:5] = True
    b0 = np.where(np.roll(cord, (1, -2), axis=(0, 1)), 900.0, 100.0)
    b0_to_dwi_voxels = np.tile([-1.0, 2.0], (2, 1))
    assert signal_to_noise(b0, noise, cord, b0_to_dwi_voxels) == pytest.approx(6)


def test_without_a_cord_there_is_no_signal_to_noise_ratio():
    assert np.isnan(
        signal_to_noise(
            np.ones((2, 2, 1)), np.ones((2, 2, 1)), np.zeros((2, 2, 1), bool), np.zeros((1, 2))
        )
    )


def tilted_cord(slope: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make a cord of 3 x 3 voxels that moves to the left by a number of voxels per slice."""
    cord = np.zeros((30, 8, 5))
    for k in range(5):
        cord[round(8 + slope * k) : round(11 + slope * k), 2:5, k] = 1
    affine = np.diag([-1.0, -1.0, 4.0, 1.0])  # patient left and back are negative in scanner RAS+
    axis = np.array([-slope, 0, 4.0])
    return cord, affine, axis / np.linalg.norm(axis)


@pytest.mark.parametrize("slope", [0.0, 2.0, -1.0])
def test_directions_along_a_tilted_cord_have_no_angle(slope):
    cord, affine, axis = tilted_cord(slope)
    direction = np.broadcast_to(-axis, (*cord.shape, 3))
    assert direction_angle(direction, cord, cord, affine) == pytest.approx(0, abs=1e-6)


def test_the_axis_of_the_cord_turns_with_an_oblique_image():
    cord, affine, axis = tilted_cord(1.0)
    turn = Rotation.from_euler("xyz", [0.3, -0.2, 0.4]).as_matrix()
    affine[:3, :3] = turn @ affine[:3, :3]
    direction = np.broadcast_to(turn @ axis, (*cord.shape, 3))
    assert direction_angle(direction, cord, cord, affine) == pytest.approx(0, abs=1e-6)


def test_a_flipped_axis_shows_in_the_angle_of_a_tilted_cord():
    cord, affine, axis = tilted_cord(2.0)
    direction = np.broadcast_to(axis * [-1, 1, 1], (*cord.shape, 3))
    expected = 2 * np.arctan(0.5)
    assert direction_angle(direction, cord, cord, affine) == pytest.approx(expected)


def test_a_single_slice_has_an_axis_and_no_white_matter_no_angle():
    cord, affine, _ = tilted_cord(0.0)
    direction = np.broadcast_to([0.0, 0.0, 1.0], (30, 8, 1, 3))
    one = cord[:, :, :1]
    assert direction_angle(direction, one, one, affine) == pytest.approx(0, abs=1e-6)
    assert np.isnan(direction_angle(direction, 0 * one, one, affine))
