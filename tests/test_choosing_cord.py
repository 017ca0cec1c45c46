"""What a network calls cord is taken for one by its size, its place and what surrounds it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scsnet_bids.arrays import FloatArray
from scsnet_bids.images import Grid
from scsnet_bids.network.inference import RegionSegmentation, locate_cord, segment_regions
from scsnet_bids.network.model import CROP_PIXELS, PIXEL_MM
from scsnet_bids.regions import N_CLASSES

N, N_SLICES = 160, 3
GRID = Grid(
    (N, N, N_SLICES), np.diag([PIXEL_MM, PIXEL_MM, 5.0, 1.0]), np.array([[0, 1], [1, 1], [2, 1]])
)
MIDDLE = 79.5 * PIXEL_MM
"""Pixels of a crop around it are voxels of the image."""


class Brightness(torch.nn.Module):
    """Call a pixel cord, all of it one region, by its place between the darkest and brightest."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        dark, bright = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
        cord = ((images - dark) / (bright - dark)).clamp(1e-3, 1 - 1e-3) * self.scale
        share = torch.full((len(images), N_CLASSES, *images.shape[2:]), 1e-6)
        share[:, :1], share[:, 7:] = 1 - cord, cord / 2
        return share.log()


def draw(*pieces: tuple[float, float, float, float, float]) -> FloatArray:
    """(i, j, k) image of rectangles: from the middle toward left and back, width, depth, value.

    In mm; the edge of the image is not constant, which would count as not seen.
    """
    image = np.zeros(GRID.shape)
    image[::2, ::2] = 1e-3
    for left, back, width, depth, value in pieces:
        edges = [
            round((MIDDLE + centre + way * size / 2) / PIXEL_MM + 0.5)
            for centre, size in ((left, width), (back, depth))
            for way in (-1, 1)
        ]
        image[edges[0] : edges[1], edges[2] : edges[3]] = value
    return image


def segment(image: FloatArray, left_mm: float = 0.0) -> RegionSegmentation:
    centre_mm = np.tile([MIDDLE + left_mm, MIDDLE], (N_SLICES, 1))
    return segment_regions(image, GRID, centre_mm, Brightness())


def area_mm2(found: RegionSegmentation) -> float:
    return float((found.cord[1] >= 0.5).sum() * PIXEL_MM**2)


CORD = (0, 0, 12, 8, 1)


@pytest.mark.parametrize(
    ("width", "depth", "is_cord"), [(4, 3, False), (4, 4, True), (16, 12, True), (17, 12, False)]
)
def test_a_cord_has_15_to_200_square_millimetres(width, depth, is_cord) -> None:
    found = segment(draw((0, 0, width, depth, 1)))
    assert (found.found == is_cord).all()


def test_the_piece_nearest_the_middle_is_the_cord() -> None:
    found = segment(draw(CORD, (-16, -14, 5, 4, 1)))
    assert area_mm2(found) == 12 * 8


def test_what_lies_beyond_a_millimetre_is_background() -> None:
    found = segment(draw((0, 0, 18, 14, 0.3), CORD))
    kept = found.cord[1] > 0.1
    rows, columns = (np.flatnonzero(kept.any(axis=axis)) for axis in (1, 0))
    assert np.ptp(rows) + 1 == (8 + 2 * 1) / PIXEL_MM
    assert np.ptp(columns) + 1 == (12 + 2 * 1) / PIXEL_MM


def test_another_piece_close_by_is_background() -> None:
    found = segment(draw(CORD, (0, 5, 12, 1, 1)))
    assert area_mm2(found) == 12 * 8
    assert found.cord.max(axis=(0, 2))[60:].max() < 0.5


def test_confidence_is_the_overlap_that_is_expected() -> None:
    found = segment(draw((0, 0, 18, 14, 0.2), CORD))
    inside, around = 12 * 8, 0.2 * (18 * 14 - 12 * 8)
    assert found.confidence == pytest.approx(2 * inside / (2 * inside + around), abs=0.01)


def test_a_cord_that_the_first_look_cuts_off_is_centred() -> None:
    found = segment(draw(CORD), left_mm=22)
    assert area_mm2(found) == 12 * 8
    assert found.plane.shape == (CROP_PIXELS, CROP_PIXELS)
    middle = [found.plane.positions_mm(axis).mean() for axis in (0, 1)]
    np.testing.assert_allclose(middle, MIDDLE, atol=3.0)


def test_the_cord_is_found_where_it_goes_on_although_others_are_larger() -> None:
    image = draw(CORD)
    for k, place in enumerate([(-25, -25), (25, 25), (-25, 25)]):
        image[..., k] = draw(CORD, (*place, 14, 10, 1))[..., k]
    centre_mm = locate_cord(image, GRID, Brightness())
    np.testing.assert_allclose(centre_mm, MIDDLE, atol=0.5)
