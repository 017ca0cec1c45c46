"""Shares as a series shows them whose volumes were interpolated."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from scsnet_bids.correction.resampling import Correction, apply_correction
from scsnet_bids.images import Grid
from scsnet_bids.slices import PlaneGrid, average_over_voxels, slices_to_volume, volume_to_slices
from scsnet_bids.unmixing.interpolated import average_as_interpolated

GRID = Grid((30, 26, 2), np.diag([0.9, 1.2, 5.0, 1.0]), np.array([[0, 1], [1, 1], [2, 1]]))
VOXELS = PlaneGrid.of_image(GRID)
PIXELS = PlaneGrid(start_mm=(5.0, 6.0), shape=(88, 100), spacing_mm=(0.2, 0.2))
PLACE_MM = np.array([[0.0, 0.0], [0.3, -0.5]])
STILL_MM = np.zeros((1, 2, 2))
STEPS_MM = np.array([-1.3, -0.7, 0.1, 0.25, 0.6, 1.0])
MOVED_MM = np.repeat(np.array(list(product(STEPS_MM, STEPS_MM)))[:, None], 2, axis=1)
"""Every step toward the left with every step toward the back, both slices alike."""


@pytest.fixture(scope="module")
def cord() -> np.ndarray:
    """(k, c, rows, columns) the rim of an oval, and what it surrounds."""
    left, back = np.meshgrid(*(PIXELS.positions_mm(axis) for axis in (0, 1)))
    radius = np.hypot((left - 13.5) / 6, (back - 16) / 4)
    both = np.stack([(radius > 0.7) & (radius < 1), radius <= 0.7]).astype(float)
    return np.stack([both, both])


def seen_by_volumes(cord: np.ndarray, moved_mm: np.ndarray) -> np.ndarray:
    """Average over the voxels of every volume, and correct each as a series is."""
    volumes = []
    for shift_mm in moved_mm:
        # A correction moves what a volume shows by the shift, so there it lies the other way.
        lay_mm = PLACE_MM - shift_mm
        raw = np.stack(
            [
                average_over_voxels(part, PIXELS, VOXELS, (float(x), float(y)))
                for part, (x, y) in zip(cord, lay_mm, strict=True)
            ]
        )
        # Values below 0 would be cut.
        stack = slices_to_volume(raw) + 1.0
        same = Correction(np.repeat(shift_mm[None], stack.shape[-1], axis=0))
        volumes.append(apply_correction(stack, same, GRID) - 1.0)
    mean = np.mean(volumes, axis=0)
    return np.stack([volume_to_slices(mean[..., c]) for c in range(mean.shape[-1])], axis=1)


def test_it_is_what_averaging_and_interpolating_every_volume_gives(cord) -> None:
    seen = average_as_interpolated(cord, PIXELS, VOXELS, PLACE_MM, MOVED_MM)
    np.testing.assert_allclose(seen, seen_by_volumes(cord, MOVED_MM), atol=0.005)


def test_slices_have_their_own_motion(cord) -> None:
    mixed = MOVED_MM.copy()
    mixed[:, 1] = 0.0
    seen = average_as_interpolated(cord, PIXELS, VOXELS, PLACE_MM, mixed)
    np.testing.assert_allclose(seen, seen_by_volumes(cord, mixed), atol=0.005)


@pytest.mark.parametrize("whole_voxels", [0.0, 2.0])
def test_without_interpolation_areas_are_as_they_are(cord, whole_voxels) -> None:
    moved_mm = STILL_MM + whole_voxels * np.array(VOXELS.spacing_mm)
    seen = average_as_interpolated(cord, PIXELS, VOXELS, PLACE_MM, moved_mm)
    areas = [
        average_over_voxels(part, PIXELS, VOXELS, (float(x), float(y)))
        for part, (x, y) in zip(cord, PLACE_MM, strict=True)
    ]
    np.testing.assert_allclose(seen, areas, atol=0.004)


def test_area_is_kept_and_edges_overshoot(cord) -> None:
    seen = average_as_interpolated(cord, PIXELS, VOXELS, PLACE_MM, MOVED_MM)
    area_mm2 = seen.sum(axis=(2, 3)) * np.prod(VOXELS.spacing_mm)
    true_mm2 = cord.sum(axis=(2, 3)) * np.prod(PIXELS.spacing_mm)
    np.testing.assert_allclose(area_mm2, true_mm2, rtol=2e-3)
    assert seen.min() < -0.02
    assert seen.max() > 1.02


@pytest.mark.parametrize(("tissue", "fluid"), [(1000.0, 2500.0), (450.0, 100.0)])
def test_signals_of_a_moved_series_are_unmixed_by_what_it_shows(cord, tissue, fluid) -> None:
    series = fluid + (tissue - fluid) * seen_by_volumes(cord, MOVED_MM).sum(axis=1)
    error = {}
    for name, moved_mm in (("seen", MOVED_MM), ("areas", STILL_MM)):
        share = average_as_interpolated(cord, PIXELS, VOXELS, PLACE_MM, moved_mm)
        rim, core = share.swapaxes(0, 1)[:, share.sum(axis=1) > 0.8]
        design = np.stack([rim, core, 1 - rim - core], axis=1)
        found = np.linalg.lstsq(design, series[share.sum(axis=1) > 0.8])[0]
        error[name] = np.abs(found[:2] / tissue - 1)
    assert error["seen"].max() < 0.001
    assert error["areas"].max() > 0.003
