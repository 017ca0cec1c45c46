"""The cord of the mean DWI is found where it was put."""

from __future__ import annotations

import numpy as np
import pytest

from scsnet_bids.alignment import B0ToDwi, estimate_b0_to_dwi
from scsnet_bids.images import Grid
from scsnet_bids.settings import AlignmentSettings
from scsnet_bids.slices import PlaneGrid, average_over_voxels, slices_to_volume

N_SLICES = 8
SPACING_MM = (0.9, 0.9, 5.0)
GRID = Grid((40, 32, N_SLICES), np.diag([-0.9, -0.9, 5.0, 1.0]), np.array([[0, 1], [1, 1], [2, 1]]))
PLANE = PlaneGrid.centred((17.3, 14.1), (96, 96), 0.5)
SETTINGS = AlignmentSettings()


def cord_share() -> np.ndarray:
    """Draw an elliptic cord, 12 by 8 mm, on the network's plane."""
    x, y = PLANE.positions_mm(0) - 17.3, PLANE.positions_mm(1) - 14.1
    radius = np.hypot(x[None, :] / 6, y[:, None] / 4)
    return np.repeat(np.clip(0.5 - 8 * (radius - 1), 0, 1)[None], N_SLICES, axis=0)


def mean_dwi(shift_mm: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Image the moved cord: bright, on a tilted background, with noise."""
    voxels = PlaneGrid.of_image(GRID)
    moved = [
        average_over_voxels(share, PLANE, voxels, tuple(shift))
        for share, shift in zip(cord_share(), shift_mm, strict=True)
    ]
    ramp = np.linspace(0.1, 0.3, GRID.shape[0])
    image = np.stack(moved) + ramp + noise * rng.standard_normal((N_SLICES, 32, 40))
    return slices_to_volume(image)


def estimate(image: np.ndarray, settings: AlignmentSettings = SETTINGS) -> B0ToDwi:
    return estimate_b0_to_dwi(cord_share(), PLANE, image, GRID, settings)


def slow_shift() -> np.ndarray:
    """Give displacements that change slowly along z, up to a millimetre, mostly front to back."""
    z = np.linspace(0, 1, N_SLICES)
    return np.stack([0.2 - 0.3 * z, 1.0 - 0.8 * z], axis=1)


def test_a_slow_displacement_is_recovered_in_noise(rng):
    found = estimate(mean_dwi(slow_shift(), 0.14, rng))
    error_mm = found.shift_mm - slow_shift()
    assert np.sqrt((error_mm**2).sum(axis=1).mean()) < 0.08
    assert found.trusted.all()


def test_leaning_on_neighbours_beats_each_slice_alone(rng):
    found = estimate(mean_dwi(slow_shift(), 0.4, rng))
    alone, together = found.raw_mm - slow_shift(), found.shift_mm - slow_shift()
    assert found.trusted.all()
    assert (together**2).sum() < (alone**2).sum()


def test_a_slice_without_signal_is_not_trusted_and_takes_its_neighbours(rng):
    image = mean_dwi(slow_shift(), 0.05, rng)
    image[:, :, 3] = 0.05 * rng.standard_normal(image.shape[:2])
    found = estimate(image)
    assert found.trusted.tolist() == [k != 3 for k in range(N_SLICES)]
    assert found.shift_mm[3] == pytest.approx(slow_shift()[3], abs=0.15)


def test_a_slice_without_a_cord_is_not_trusted(rng):
    share = cord_share()
    share[5] = 0
    image = mean_dwi(slow_shift(), 0.05, rng)
    found = estimate_b0_to_dwi(share, PLANE, image, GRID, SETTINGS)
    assert not found.trusted[5]
    assert found.trusted.sum() == N_SLICES - 1


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_an_image_without_contrast_moves_nothing(value):
    found = estimate(np.full(GRID.shape, value))
    assert not found.trusted.any()
    assert (found.shift_mm == 0).all()


def test_a_dark_cord_is_not_taken_for_a_bright_one(rng):
    found = estimate(-mean_dwi(slow_shift(), 0.05, rng))
    assert not found.trusted.any()


def test_no_displacement_exceeds_the_limit(rng):
    far = np.full((N_SLICES, 2), 1.4)
    found = estimate(mean_dwi(far, 0.02, rng), AlignmentSettings(max_shift_mm=1.5))
    assert np.linalg.norm(found.shift_mm, axis=1).max() <= 1.5 + 1e-9


def test_a_stage_that_is_switched_off_moves_nothing(rng):
    found = estimate(mean_dwi(slow_shift(), 0.02, rng), AlignmentSettings(enabled=False))
    assert (found.shift_mm == 0).all()


def test_a_single_slice_is_aligned_by_itself(rng):
    grid = Grid((40, 32, 1), GRID.affine, GRID.storage)
    image = mean_dwi(slow_shift(), 0.05, rng)[:, :, 2:3]
    found = estimate_b0_to_dwi(cord_share()[2:3], PLANE, image, grid, SETTINGS)
    assert found.shift_mm[0] == pytest.approx(slow_shift()[2], abs=0.1)
