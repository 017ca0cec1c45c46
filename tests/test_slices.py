"""Between planes nothing is lost inside the voxels, and nothing is made up outside."""

from __future__ import annotations

import numpy as np

from scsnet_bids.slices import PlaneGrid, interpolate_linearly

COARSE = PlaneGrid(start_mm=(2.0, -1.0), shape=(4, 3), spacing_mm=(1.0, 2.0))


def test_a_voxel_keeps_its_value_up_to_its_edge_and_has_none_beyond() -> None:
    finer = PlaneGrid(start_mm=(1.2, -2.4), shape=(27, 34), spacing_mm=(0.2, 0.2))
    left, back = (finer.positions_mm(axis) for axis in (0, 1))
    inside = ((back >= -2) & (back <= 4))[:, None] & ((left >= 1.5) & (left <= 5.5))
    assert 0 < inside.sum() < inside.size
    shown = interpolate_linearly(np.full((1, 3, 4), 7.0), COARSE, finer)[0]
    np.testing.assert_allclose(shown, np.where(inside, 7.0, 0.0))


def test_between_the_centres_values_follow_a_line() -> None:
    left, back = (COARSE.positions_mm(axis) for axis in (0, 1))
    slices = (3 * left + 5 * back[:, None])[None]
    between = PlaneGrid(start_mm=(2.3, -0.5), shape=(5, 6), spacing_mm=(0.5, 0.7))
    expected = 3 * between.positions_mm(0) + 5 * between.positions_mm(1)[:, None]
    np.testing.assert_allclose(interpolate_linearly(slices, COARSE, between)[0], expected)
