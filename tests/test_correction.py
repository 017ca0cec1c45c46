from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from scsnet_bids.arrays import FloatArray
from scsnet_bids.correction.eddy import EddyTerms
from scsnet_bids.correction.resampling import (
    Correction,
    apply_correction,
    to_dti_space,
    undistorted_centre,
)
from scsnet_bids.images import Grid

SHAPE = (34, 32, 6)
GRID = Grid(SHAPE, np.diag([0.9, 0.8, 5.0, 1.0]), np.array([[0, 1], [1, 1], [2, 1]]))
LEFT, POSTERIOR = np.meshgrid(np.arange(34) * 0.9, np.arange(32) * 0.8, indexing="ij")
NONE = np.zeros((1, 6, 2))


def smooth_image(left_mm: FloatArray, posterior_mm: FloatArray) -> FloatArray:
    """A blob whose value is known everywhere."""
    return np.exp(-((left_mm - 15) ** 2 + (posterior_mm - 12) ** 2) / 50)


def stacked(image: FloatArray) -> FloatArray:
    """(i, j, k, 1) series of equal slices."""
    return np.repeat(image[:, :, None], SHAPE[2], axis=2)[..., None]


def test_slices_that_do_not_move_stay_exactly_as_they_are(rng: np.random.Generator) -> None:
    series = rng.random((*SHAPE, 2)).astype(np.float32)
    shift_mm = np.zeros((2, SHAPE[2], 2))
    shift_mm[1, 3] = 0.4, 0.1
    corrected = apply_correction(series, Correction(shift_mm), GRID)
    np.testing.assert_array_equal(corrected[..., 0], series[..., 0])
    np.testing.assert_array_equal(
        np.delete(corrected[..., 1], 3, 2), np.delete(series[..., 1], 3, 2)
    )
    assert not np.array_equal(corrected[:, :, 3, 1], series[:, :, 3, 1])


def test_content_moves_by_the_shift_toward_left_and_back(rng: np.random.Generator) -> None:
    series = rng.random((*SHAPE, 1)).astype(np.float32)
    shift_mm = np.tile([0.9, -1.6], (1, SHAPE[2], 1))
    corrected = apply_correction(series, Correction(shift_mm), GRID)
    np.testing.assert_allclose(corrected[1:, :-2], series[:-1, 2:], atol=1e-5)


def test_no_ringing_below_zero() -> None:
    series = stacked((smooth_image(LEFT, POSTERIOR) > 0.5).astype(np.float32))
    still = Correction(np.full((1, SHAPE[2], 2), 0.4))
    assert apply_correction(series, still, GRID).min() == 0.0
    assert apply_correction(series - 0.5, still, GRID).min() == -0.5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_do_not_spread(value: float) -> None:
    series = np.ones((*SHAPE, 1), np.float32)
    series[3, 3, 2] = value
    corrected = apply_correction(series, Correction(np.full((1, SHAPE[2], 2), 0.3)), GRID)
    assert np.isfinite(corrected).all()
    assert corrected[15:, 15:].mean() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("phase_axis", [0, 1])
def test_a_constant_field_is_a_displacement_the_other_way(
    rng: np.random.Generator, phase_axis: int
) -> None:
    series = rng.random((*SHAPE, 1)).astype(np.float32)
    shift_mm = np.tile([0.3, -0.5], (1, SHAPE[2], 1))
    seen_mm = 0.7
    together_mm = shift_mm - seen_mm * np.eye(2)[phase_axis]
    field_mm = np.full(SHAPE, seen_mm)
    np.testing.assert_allclose(
        apply_correction(series, Correction(shift_mm, None, field_mm, phase_axis), GRID),
        apply_correction(series, Correction(together_mm), GRID),
        atol=1e-5,
    )


@pytest.mark.parametrize("phase_axis", [0, 1])
def test_eddy_terms_field_and_motion_are_undone_in_one_interpolation(phase_axis: int) -> None:
    along, across = (POSTERIOR, LEFT) if phase_axis else (LEFT, POSTERIOR)
    centre_mm, moved_mm = (14.0, 13.0), np.array([0.4, -0.7])
    eddy_mm = 0.02 * (along - centre_mm[phase_axis])
    eddy_mm = eddy_mm - 0.03 * (across - centre_mm[1 - phase_axis])
    field_mm = 0.5 * np.sin(along / 6)
    direction = np.eye(2)[phase_axis]
    # What the scanner saw: found by asking for every place in the scan what lies there.
    to_scan = [
        image - moved_mm[axis] + direction[axis] * (eddy_mm + field_mm)
        for axis, image in enumerate((LEFT, POSTERIOR))
    ]
    jacobian = 1 + 0.02 + 0.5 / 6 * np.cos(along / 6)
    scan = np.random.default_rng(0).normal(size=SHAPE[:2])
    scan = ndimage.gaussian_filter(scan, 3.0) + 1
    places = [place / mm for place, mm in zip(to_scan, GRID.spacing_mm, strict=False)]
    expected = ndimage.map_coordinates(scan, places, order=3, mode="nearest") * jacobian
    eddy = EddyTerms(np.array([0.02]), np.array([-0.03]), np.tile(centre_mm, (6, 1)))
    field = np.repeat(field_mm[..., None], SHAPE[2], axis=2)
    shift_mm = np.tile(moved_mm, (1, SHAPE[2], 1))
    correction = Correction(shift_mm, eddy, field, phase_axis)
    corrected = apply_correction(stacked(scan), correction, GRID)[..., 2, 0]
    np.testing.assert_allclose(corrected[4:-4, 4:-4], expected[4:-4, 4:-4], atol=2e-3)


def test_signal_that_was_pressed_together_is_kept() -> None:
    field_mm = np.repeat((2.0 * np.exp(-((POSTERIOR - 12) ** 2) / 40))[..., None], 6, axis=2)
    series = stacked(smooth_image(LEFT, POSTERIOR) + 0.0)
    corrected = apply_correction(series, Correction(NONE, field_mm=field_mm), GRID)
    lines = slice(8, 24)
    np.testing.assert_allclose(corrected[lines].sum(axis=1), series[lines].sum(axis=1), rtol=5e-3)
    assert not np.allclose(corrected, series, atol=0.05)


def test_only_volumes_with_eddy_currents_change(rng: np.random.Generator) -> None:
    series = rng.random((*SHAPE, 4)).astype(np.float32)
    scale, shear = np.array([0, 0.01, 0, 0]), np.array([0, 0, 0, 0.01])
    eddy = EddyTerms(scale, shear, np.tile([15.0, 12.0], (6, 1)))
    corrected = apply_correction(series, Correction(np.zeros((4, 6, 2)), eddy), GRID)
    np.testing.assert_array_equal(corrected[..., [0, 2]], series[..., [0, 2]])
    for volume in (1, 3):
        assert not np.array_equal(corrected[..., volume], series[..., volume])


def test_only_b0_volumes_are_moved_on_to_the_weighted_ones(rng: np.random.Generator) -> None:
    shift_mm, b0_to_dwi_mm = rng.normal(size=(3, 6, 2)), rng.normal(size=(6, 2))
    total_mm = to_dti_space(shift_mm, np.array([True, False, True]), b0_to_dwi_mm)
    np.testing.assert_array_equal(total_mm[1], shift_mm[1])
    np.testing.assert_allclose(total_mm[[0, 2]] - shift_mm[[0, 2]], [b0_to_dwi_mm] * 2)


@pytest.mark.parametrize("phase_axis", [0, 1])
def test_the_centre_of_a_distorted_cord_is_found_where_it_truly_lies(phase_axis: int) -> None:
    along = POSTERIOR if phase_axis else LEFT
    field_mm = np.repeat((3 + 1.5 * np.sin(along / 5))[..., None], 6, axis=2)
    true_mm = np.tile([13.0, 11.0], (6, 1))
    seen_mm = true_mm.copy()
    seen_mm[:, phase_axis] += 3 + 1.5 * np.sin(true_mm[:, phase_axis] / 5)
    seen_mm[2] = np.nan
    found_mm = undistorted_centre(seen_mm, field_mm, phase_axis, GRID)
    np.testing.assert_allclose(np.delete(found_mm, 2, 0), np.delete(true_mm, 2, 0), atol=0.03)
    assert np.isnan(found_mm[2]).all()


@pytest.mark.parametrize("phase_axis", [0, 1])
def test_the_distortion_of_a_cord_is_that_of_the_line_through_it(phase_axis: int) -> None:
    field_mm = 0.2 * np.indices(SHAPE)[1 - phase_axis]
    true_mm = np.tile([13.3, 13.3], (6, 1))
    nearest = round(13.3 / GRID.spacing_mm[1 - phase_axis])
    seen_mm = true_mm + 0.2 * nearest * np.eye(2)[phase_axis]
    found_mm = undistorted_centre(seen_mm, field_mm, phase_axis, GRID)
    np.testing.assert_allclose(found_mm, true_mm)


@pytest.mark.parametrize("phase_axis", [0, 1])
def test_a_cord_beyond_the_edge_is_undistorted_by_the_last_line(phase_axis: int) -> None:
    seen_mm = np.tile([13.0, 13.0], (6, 1))
    seen_mm[:3, 1 - phase_axis], seen_mm[3:, 1 - phase_axis] = -9.0, 99.0
    found_mm = undistorted_centre(seen_mm, np.full(SHAPE, 0.7), phase_axis, GRID)
    np.testing.assert_allclose(found_mm, seen_mm - 0.7 * np.eye(2)[phase_axis])
