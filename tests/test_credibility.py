"""A run is believed where a cord goes on, keeps its size, and is found surely in many slices."""

from __future__ import annotations

import numpy as np
import pytest

from scsnet_bids.network.credibility import judge_run

N = 15
SURE = 0.9


def straight_cord() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Area, centre and confidence of a cord that runs a little obliquely."""
    place = np.stack([20 + 0.5 * np.arange(N), 25 + np.arange(N)], axis=1)
    return np.full(N, 80.0), place, np.full(N, SURE)


def test_a_cord_in_every_slice_is_believed_as_it_is():
    found, confidence = judge_run(*straight_cord(), 5.0)
    assert found.all()
    np.testing.assert_array_equal(confidence, SURE)


def test_a_compressed_slice_is_kept_and_a_speck_is_not():
    area, place, confidence = straight_cord()
    area[4], area[9] = 0.35 * 80, 0.2 * 80
    found, _ = judge_run(area, place, confidence, 5.0)
    assert np.flatnonzero(~found).tolist() == [9]


def test_what_lies_elsewhere_is_dropped_and_a_gap_does_not_matter():
    area, place, confidence = straight_cord()
    area[3], place[3], confidence[3] = 0, np.nan, 0
    place[8] += 12
    found, _ = judge_run(area, place, confidence, 5.0)
    assert np.flatnonzero(~found).tolist() == [3, 8]


@pytest.mark.parametrize("spacing_mm", [2.5, 5.0, 15.0])
def test_an_oblique_cord_goes_on_whatever_the_slice_spacing(spacing_mm):
    area, place, confidence = straight_cord()
    place[:, 1] = 25 + np.tan(np.radians(18)) * spacing_mm * np.arange(N)
    assert judge_run(area, place, confidence, spacing_mm)[0].all()


def test_finds_scattered_over_a_run_are_all_dropped(rng):
    area, _, confidence = straight_cord()
    place = np.stack([30 * (np.arange(N) % 2), 40.0 * (np.arange(N) // 2 % 2)], axis=1)
    found, stated = judge_run(area, place, confidence, 5.0)
    assert not found.any()
    assert not stated.any()


def test_a_few_hesitant_finds_lose_their_confidence():
    area, place, confidence = straight_cord()
    confidence[:] = 0
    confidence[4:8] = 0.8
    found, stated = judge_run(area * (confidence > 0), place, confidence, 5.0)
    assert found.sum() == 4, "they are shown"
    assert stated.max() < 0.3, "and doubted"


def test_a_cord_in_part_of_the_slices_keeps_its_confidence():
    area, place, confidence = straight_cord()
    confidence[6:] = 0
    found, stated = judge_run(area * (confidence > 0), place, confidence, 5.0)
    assert found.sum() == 6
    np.testing.assert_array_equal(stated[:6], SURE)


def test_a_single_slice_has_nothing_to_go_on_in():
    one = (np.array([80.0]), np.array([[10.0, 10.0]]), np.array([SURE]))
    found, stated = judge_run(*one, 5.0)
    assert found.all()
    assert stated == pytest.approx(SURE)


def test_a_run_without_finds_stays_empty():
    found, stated = judge_run(np.zeros(3), np.full((3, 2), np.nan), np.zeros(3), 5.0)
    assert not found.any()
    assert not stated.any()
