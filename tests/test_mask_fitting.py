"""Regions fill an outline that was given, wherever the network saw the cord."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scsnet_bids.images import Grid
from scsnet_bids.regions import REGIONS, Side
from scsnet_bids.settings import Sharpness
from scsnet_bids.slices import PlaneGrid, volume_to_slices
from scsnet_bids.unmixing.mask_fitting import fit_regions_to_mask
from scsnet_bids.unmixing.sharpening import Borders, PlacedRegions
from scsnet_bids.unmixing.transfer import cord_mask

GRID = Grid((40, 44, 3), np.diag([-0.9, -0.9, 5.0, 1.0]), np.array([[0, 1], [1, 1], [2, 1]]))
PLANE = PlaneGrid((5.0, 6.0), (60, 60), (0.5, 0.5))


def network_regions(radius_mm: float = 5.0, empty: tuple[int, ...] = ()) -> PlacedRegions:
    """Return a round cord at (20, 21) mm, a quarter of it for each of four regions."""
    # Between two pixels, so that both halves have as many.
    x, y = np.meshgrid(PLANE.positions_mm(0) - 20.25, PLANE.positions_mm(1) - 21.25)
    cord = 1 / (1 + np.exp(3 * (np.hypot(x, y) - radius_mm)))
    probability = np.zeros((3, 9, 60, 60))
    for region in REGIONS[:4]:
        side = x >= 0 if region.side is Side.LEFT else x < 0
        half = y < 0 if region.label < 3 else y >= 0
        probability[:, region.label] = cord * side * half
    probability[list(empty)] = 0
    probability[:, 0] = 1 - probability[:, 1:].sum(axis=1)
    return PlacedRegions(probability, PLANE, GRID, np.zeros((3, 2)), Sharpness(3.0, 2.0))


def ellipse(left_mm: float, back_mm: float, a_mm: float, b_mm: float) -> np.ndarray:
    """Return a mask of an ellipse in every slice."""
    x, y = np.meshgrid(np.arange(40) * 0.9 - left_mm, np.arange(44) * 0.9 - back_mm, indexing="ij")
    return np.repeat(((x / a_mm) ** 2 + (y / b_mm) ** 2 <= 1)[..., None], 3, axis=2).astype(float)


def shares(mask: np.ndarray, regions: PlacedRegions) -> np.ndarray:
    """Return the shares (i, j, k, 9) of regions that fill a mask."""
    return (
        fit_regions_to_mask(regions, mask).regions.refined().sharpened(Borders.unmoved(3)).shares()
    )


@pytest.mark.parametrize("place", [(20, 21, 5, 4), (17, 23, 6.5, 3.5), (22, 20, 3, 3)])
def test_the_cord_becomes_the_mask(place):
    mask = ellipse(*place)
    share = shares(mask, network_regions())
    found = cord_mask(share)
    assert 2 * (found & (mask > 0)).sum() / (found.sum() + mask.sum()) > 0.98
    assert (1 - share[..., 0]).sum() == pytest.approx(mask.sum(), rel=0.03)
    assert share.sum(axis=-1) == pytest.approx(1)


def test_regions_keep_their_part_and_their_side_of_a_cord_that_lies_elsewhere():
    mask = ellipse(17, 23, 6.5, 3.5)
    share = shares(mask, network_regions())
    parts = share[..., 1:5].sum(axis=(0, 1, 2)) / share[..., 1:].sum()
    assert parts == pytest.approx([0.25] * 4, abs=0.02)
    position = np.arange(40) * 0.9
    for region in REGIONS[:4]:
        own = share[..., region.label].sum(axis=(1, 2))
        middle = (own @ position) / own.sum()
        assert (middle > 17) == (region.side is Side.LEFT)


def centre_of(mask: np.ndarray) -> np.ndarray:
    return PlaneGrid.of_image(GRID).centre_and_spread_mm(volume_to_slices(mask))[0]


def test_a_mask_in_the_weighted_volumes_is_moved_to_the_b0_image():
    regions = replace(network_regions(), b0_to_dwi_mm=np.tile([0.9, -0.9], (3, 1)))
    mask = ellipse(20, 21, 5, 4)
    placed = fit_regions_to_mask(regions, mask).regions.refined().sharpened(Borders.unmoved(3))
    there = replace(placed, b0_to_dwi_mm=np.zeros((3, 2)))
    weighted, b0 = (centre_of(1 - regions.shares()[..., 0]) for regions in (placed, there))
    assert weighted - b0 == pytest.approx(np.tile([0.9, -0.9], (3, 1)), abs=0.05)
    assert weighted == pytest.approx(centre_of(mask), abs=0.1)


def test_a_slice_in_which_the_network_is_blind_takes_the_regions_of_its_neighbour():
    fitted = fit_regions_to_mask(network_regions(empty=(1,)), ellipse(20, 21, 5, 4))
    assert fitted.found.tolist() == [True] * 3
    assert fitted.overlap[1] == 0
    assert fitted.regions.probability[1] == pytest.approx(fitted.regions.probability[0])


def test_slices_without_a_mask_or_without_any_region_stay_empty():
    mask = ellipse(20, 21, 5, 4)
    mask[..., 2] = 0
    fitted = fit_regions_to_mask(network_regions(), mask)
    assert fitted.found.tolist() == [True, True, False]
    assert fitted.regions.probability[2, 1:].max() == 0
    blind = fit_regions_to_mask(network_regions(empty=(0, 1, 2)), mask)
    assert not blind.found.any()
    assert blind.regions.probability[:, 1:].max() == 0


def test_the_overlap_says_how_far_the_network_agrees():
    agreeing = fit_regions_to_mask(network_regions(), ellipse(20, 21, 5, 5)).overlap
    elsewhere = fit_regions_to_mask(network_regions(), ellipse(26, 21, 5, 5)).overlap
    assert agreeing.min() > 0.9
    assert elsewhere.max() < 0.6


def test_an_empty_slice_has_neither_centre_nor_spread():
    mask = ellipse(18, 20, 4, 6)
    mask[..., 0] = 0
    plane = PlaneGrid.of_image(GRID)
    centre, spread = plane.centre_and_spread_mm(volume_to_slices(mask))
    assert np.isnan(centre[0]).all()
    assert np.isnan(spread[0]).all()
    assert centre[1] == pytest.approx([18, 20], abs=0.2)
    assert spread[1] == pytest.approx([2, 3], rel=0.05)  # half of an ellipse's half axes
