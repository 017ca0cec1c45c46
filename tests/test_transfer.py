"""Regions come from the network's grid to the voxels without losing area, side or honesty."""

from __future__ import annotations

import numpy as np
import pytest

from scsnet_bids.images import Grid
from scsnet_bids.regions import MIRROR, N_CLASSES
from scsnet_bids.slices import PlaneGrid
from scsnet_bids.unmixing.transfer import cord_mask, label_regions, transfer_regions

SPACING = 1.0
N = 20
PLANE = PlaneGrid.centred((9.5, 9.5), (64, 64), 0.25)


def image_grid(n_slices: int = 1) -> Grid:
    affine = np.diag([-SPACING, -SPACING, 4.0, 1.0])
    return Grid((N, N, n_slices), affine, np.array([[0, 1], [1, 1], [2, 1]]))


def cord_of_rectangles(n_slices: int = 1) -> np.ndarray:
    """(k, 9, 64, 64) certain regions: eight rectangles that make a cord of 8 x 6 mm."""
    probability = np.zeros((n_slices, N_CLASSES, 64, 64))
    for label in range(1, N_CLASSES):
        column = 16 + 16 * (label % 2)  # left regions have odd labels; columns run to the left
        row = 20 + 6 * ((label - 1) // 2)
        probability[:, label, row : row + 6, column : column + 16] = 1
    probability[:, 0] = 1 - probability[:, 1:].sum(axis=1)
    return probability


NO_SHIFT = np.zeros((1, 2))


def test_shares_sum_to_one_and_areas_are_kept():
    share = transfer_regions(cord_of_rectangles(), PLANE, image_grid(), NO_SHIFT)
    assert share.shape == (N, N, 1, N_CLASSES)
    np.testing.assert_allclose(share.sum(axis=-1), 1, atol=1e-9)
    area_mm2 = share[..., 1:].sum(axis=(0, 1, 2)) * SPACING**2
    np.testing.assert_allclose(area_mm2, 16 * 6 * 0.25**2)


@pytest.mark.parametrize("shift", [(1.3, 0.0), (0.0, -0.7), (0.4, 2.1)])
def test_a_shift_moves_the_cord_to_the_left_and_to_the_back(shift):
    place = np.indices((N, N))
    centre = []
    for shift_mm in ((0.0, 0.0), shift):
        share = transfer_regions(cord_of_rectangles(), PLANE, image_grid(), np.array([shift_mm]))
        cord = 1 - share[:, :, 0, 0]
        centre.append((place * cord).sum(axis=(1, 2)) / cord.sum())
    np.testing.assert_allclose(centre[1] - centre[0], shift, atol=1e-9)


def test_each_slice_has_its_own_shift():
    shift_mm = np.array([[0.0, 0.0], [2.0, 0.0]])
    share = transfer_regions(cord_of_rectangles(2), PLANE, image_grid(2), shift_mm)
    np.testing.assert_allclose(share[2:, :, 1], share[:-2, :, 0], atol=1e-9)


def test_a_probability_far_from_the_cord_becomes_background():
    probability = cord_of_rectangles()
    probability[:, 3, 2:6, 2:6] = 1.0
    probability[:, 0, 2:6, 2:6] = 0.0
    share = transfer_regions(probability, PLANE, image_grid(), NO_SHIFT)
    clean = transfer_regions(cord_of_rectangles(), PLANE, image_grid(), NO_SHIFT)
    np.testing.assert_allclose(share, clean)


def test_a_slice_that_is_nowhere_half_cord_is_background():
    probability = 0.4 * cord_of_rectangles()
    share = transfer_regions(probability, PLANE, image_grid(), NO_SHIFT)
    assert not share[..., 1:].any()
    assert (share[..., 0] == 1).all()
    assert not cord_mask(share).any()
    assert not label_regions(share).any()


def test_labels_and_mask_name_the_same_voxels():
    share = transfer_regions(cord_of_rectangles(), PLANE, image_grid(), np.array([[0.2, 0.3]]))
    label = label_regions(share)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label > 0, cord_mask(share))
    assert set(np.unique(label)) == set(range(N_CLASSES))


def test_the_mask_is_one_piece_in_every_slice():
    share = np.zeros((9, 9, 2, N_CLASSES))
    share[2:6, 2:6, :, 1] = 1
    share[8, 8, 0, 2] = 1
    share[..., 0] = 1 - share[..., 1:].sum(axis=-1)
    mask = cord_mask(share)
    assert not mask[8, 8, 0]
    assert mask.sum() == 32


def midline_share() -> np.ndarray:
    """A symmetric cord whose middle column of voxels is half left, half right."""
    share = np.zeros((7, 8, 2, N_CLASSES))
    share[1:3, 1:7, :, 4] = 1  # the first axis runs to the left: these are right
    share[3, 1:7, :, 3:5] = 0.5
    share[4:6, 1:7, :, 3] = 1
    share[..., 0] = 1 - share[..., 1:].sum(axis=-1)
    return share


def test_ties_at_the_midline_favour_no_side():
    label = label_regions(midline_share())
    middle = label[3, 1:7]
    assert (middle == 3).sum() == (middle == 4).sum() == middle.size / 2
    assert (label[4:6, 1:7] == 3).all()
    assert (label[1:3, 1:7] == 4).all()


def test_a_tie_goes_to_the_side_that_prevails_around_it():
    share = midline_share()
    share[2, 3, 0, [3, 4]] = 0.3, 0.7
    label = label_regions(share)
    assert label[3, 3, 0] == 3
    mirrored = label_regions(share[::-1][..., MIRROR])
    assert mirrored[3, 3, 0] == 4
