"""Borders in doubt are moved by their typical error, one at a time and both ways."""

from __future__ import annotations

import numpy as np
import pytest

from scsnet_bids.images import Grid
from scsnet_bids.regional import variance_by_borders
from scsnet_bids.regions import N_CLASSES
from scsnet_bids.settings import B0, Sharpness
from scsnet_bids.slices import PlaneGrid
from scsnet_bids.unmixing.borders import TYPICAL_ERRORS, alternative_regions
from scsnet_bids.unmixing.sharpening import Borders, PlacedRegions

GRID = Grid((24, 20, 2), np.diag([1.0, 1.0, 5.0, 1.0]), np.array([[0, 1], [1, 1], [2, 1]]))
PLANE = PlaneGrid(start_mm=(1.0, 1.0), shape=(44, 36), spacing_mm=(0.5, 0.5))
CERTAIN = Borders.unmoved(2)
ERRORS = TYPICAL_ERRORS[B0]


def draw_regions(middle_mm: tuple[float, float], shift_mm: np.ndarray) -> PlacedRegions:
    """Draw an elliptic cord: gray matter in the middle, dorsal behind, ventral in front."""
    left, back = np.meshgrid(*(PLANE.positions_mm(axis) - middle_mm[axis] for axis in (0, 1)))
    cord = 1 / (1 + np.exp(12 * (np.hypot(left / 6, back / 4) - 1)))
    inner = np.stack(
        [
            1 / (1 + np.exp(3 * (2 - np.abs(left)))),  # lateral
            1 / (1 + np.exp(3 * (1 - back))),  # dorsal
            1 / (1 + np.exp(3 * (1 + back))),  # ventral
            1 / (1 + np.exp(2 * (np.hypot(left, back) - 2))),  # gray
        ]
    )
    side = 1 / (1 + np.exp(-8 * left))
    both = np.stack([inner * side, inner * (1 - side)], axis=1).reshape(8, *left.shape)
    shares = both / both.sum(axis=0) * cord
    probability = np.concatenate([1 - shares.sum(axis=0, keepdims=True), shares])
    stack = np.stack([probability, probability])
    return PlacedRegions(stack, PLANE, GRID, shift_mm, Sharpness(1.0, 1.0))


@pytest.fixture(scope="module")
def regions() -> PlacedRegions:
    return draw_regions((11.7, 9.8), np.array([[0.3, 0.0], [0.0, -0.3]]))


@pytest.fixture(scope="module")
def alternatives(regions):
    return [other.shares() for other in alternative_regions(regions.refined(), CERTAIN, ERRORS)]


@pytest.fixture(scope="module")
def first(regions):
    return regions.refined().sharpened(CERTAIN).shares()


def centre_mm(share: np.ndarray, labels: slice) -> np.ndarray:
    weight = share[:, :, 0, labels].sum(axis=-1)
    left, back = np.indices(weight.shape)
    return np.array([np.average(left, weights=weight), np.average(back, weights=weight)])


def test_shares_of_every_alternative_sum_to_one(alternatives):
    assert len(alternatives) == 12
    for share in alternatives:
        assert share.shape == (24, 20, 2, N_CLASSES)
        np.testing.assert_allclose(share.sum(axis=-1), 1, atol=1e-6)
        assert share.min() > -1e-9


def test_the_cord_moves_to_the_left_and_to_the_back(first, alternatives):
    cord = slice(1, None)
    moved = [centre_mm(share, cord) - centre_mm(first, cord) for share in alternatives[:2]]
    np.testing.assert_allclose(moved[0], [ERRORS.place_mm[0], 0], atol=0.06)
    np.testing.assert_allclose(moved[1], [0, ERRORS.place_mm[1]], atol=0.06)


def test_a_narrower_outline_takes_from_the_cord(first, alternatives):
    assert alternatives[2][..., 1:].sum() < 0.97 * first[..., 1:].sum()


@pytest.mark.parametrize(
    ("number", "expected"),
    [(3, (ERRORS.inner_mm[0], 0.0)), (4, (0.0, ERRORS.inner_mm[1]))],
)
def test_inner_borders_move_and_the_cord_stays(first, alternatives, number, expected):
    share, gray = alternatives[number], slice(7, None)
    np.testing.assert_allclose(share[..., 0], first[..., 0], atol=1e-3)
    moved = centre_mm(share, gray) - centre_mm(first, gray)
    np.testing.assert_allclose(moved, expected, atol=0.06)


def test_gray_matter_grows_and_shrinks_in_the_same_cord(first, alternatives):
    grown, shrunk = alternatives[5], alternatives[11]
    for share in (grown, shrunk):
        np.testing.assert_allclose(share[..., 0], first[..., 0], atol=1e-3)
    volumes = [share[..., 7:].sum() for share in (shrunk, first, grown)]
    assert volumes == sorted(volumes)
    assert volumes[2] > 1.1 * volumes[0]


def test_every_border_moves_the_other_way_too(regions, alternatives):
    first = regions.refined().sharpened(CERTAIN).shares()
    for one, other in zip(alternatives[:6], alternatives[6:], strict=True):
        there, back = one - first, other - first
        assert (there * back).sum() < -0.8 * np.sqrt((there**2).sum() * (back**2).sum())


def test_neither_side_is_thought_better_known_than_the_other():
    """Moved to the left, a left region meets fluid and a right one meets cord."""
    symmetric = draw_regions((11.5, 9.8), np.zeros((2, 2)))
    first = symmetric.refined().sharpened(CERTAIN).shares()
    signal = 1 - first[..., :1]  # falls toward the fluid
    others = alternative_regions(symmetric.refined(), CERTAIN, ERRORS)
    shares = np.array([first, *(other.shares() for other in others)])
    mean = (shares * signal).sum(axis=(1, 2, 3)) / shares.sum(axis=(1, 2, 3))
    by_region = variance_by_borders(mean[1:] - mean[0])[1:]
    np.testing.assert_allclose(by_region[::2], by_region[1::2], rtol=1e-6)
