from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scsnet_bids.arrays import FloatArray
from scsnet_bids.correction.jumps import find_jumps, undo_jumps
from scsnet_bids.correction.motion import MotionEstimate, estimate_motion
from scsnet_bids.correction.outliers import find_outliers
from scsnet_bids.correction.resampling import Correction, apply_correction
from scsnet_bids.images import Grid, read_image
from scsnet_bids.phantom import Phantom, PhantomSettings, simulate
from scsnet_bids.settings import GradientSettings, MotionSettings

SHAPE, N_B0, N_DWI = (34, 32, 6), 4, 18
N = N_B0 + N_DWI
B0 = np.arange(N) < N_B0
GRID = Grid(SHAPE, np.diag([0.9, 0.9, 5.0, 1.0]), np.array([[0, 1], [1, 1], [2, 1]]))
MIDDLE_MM = (np.array(SHAPE[:2]) - 1) / 2 * 0.9
CENTRE_MM = MIDDLE_MM + np.stack([np.linspace(-1, 1, SHAPE[2]), np.linspace(2, 0, SHAPE[2])], 1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keep small matrices on one thread, which is fast also on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def disc(shift_mm: FloatArray, half_width_mm: tuple[float, float]) -> FloatArray:
    """(i, j, k, n) soft ellipse around the cord centre, its content displaced."""
    left, posterior = np.indices(SHAPE[:2])[:, :, :, None, None] * 0.9
    centre = CENTRE_MM + shift_mm  # (n, k, 2)
    across = (left - centre[..., 0].T) / half_width_mm[0]
    along = (posterior - centre[..., 1].T) / half_width_mm[1]
    edge_mm = 0.35
    return 1 / (1 + np.exp((np.hypot(across, along) - 1) * min(half_width_mm) / edge_mm))


def scan(
    rng: np.random.Generator, motion_mm: FloatArray, snr: float, gain: FloatArray | float = 1.0
) -> npt.NDArray[np.float32]:
    """Simulate cord and fluid moving in a still neck: b=0 with bright fluid, weighted without.

    ``snr`` is that of the cord in the weighted volumes; at b=0 it is 2.5 times that.
    """
    cord, canal = disc(motion_mm, (6.0, 4.5)), disc(motion_mm, (9.0, 7.5))
    neck = 0.2 * rng.random(SHAPE)[..., None]
    b0 = neck + 2.5 * cord + 4.5 * canal * (1 - cord)
    brightness = rng.uniform(0.7, 1.3, N)
    dwi = neck / 2 + brightness * cord * np.asarray(gain)
    clean = np.where(B0, b0, dwi)
    noise = rng.normal(0, 1 / snr, (2, *clean.shape))
    return np.hypot(clean + noise[0], noise[1]).astype(np.float32)


def moving(rng: np.random.Generator, volume_mm: float, slice_mm: float) -> FloatArray:
    """Displacements of volumes and of slices, RMS lengths given."""
    volumes = rng.normal(0, volume_mm / np.sqrt(2), (N, 1, 2))
    return volumes + rng.normal(0, slice_mm / np.sqrt(2), (N, SHAPE[2], 2))


def estimate(series: FloatArray, centre_mm: FloatArray = CENTRE_MM) -> MotionEstimate:
    return estimate_motion(series, B0, centre_mm, GRID, MotionSettings())


def errors(found: MotionEstimate, motion_mm: FloatArray, volumes: FloatArray) -> FloatArray:
    """(volumes, k) length of the error, a common displacement of each slice aside."""
    difference = (found.shift_mm + motion_mm)[volumes]
    return np.linalg.norm(difference - np.median(difference, axis=0), axis=-1)


def rms(values: FloatArray) -> float:
    return float(np.sqrt((values**2).mean()))


def test_a_noisy_still_series_is_left_nearly_still(rng: np.random.Generator) -> None:
    found = estimate(scan(rng, np.zeros((N, SHAPE[2], 2)), 4.0))
    assert found.trusted.all()
    assert rms(np.linalg.norm(found.shift_mm[~B0], axis=-1)) < 0.12
    assert rms(np.linalg.norm(found.shift_mm[B0], axis=-1)) < 0.06


@pytest.mark.parametrize(("snr", "limit_mm"), [(4.0, 0.2), (8.0, 0.1)])
def test_motion_of_volumes_and_slices_is_found(
    rng: np.random.Generator, snr: float, limit_mm: float
) -> None:
    motion_mm = moving(rng, 1.0, 0.6)
    found = estimate(scan(rng, motion_mm, snr))
    assert rms(errors(found, motion_mm, ~B0)) < limit_mm
    assert rms(errors(found, motion_mm, B0)) < 0.1


def test_one_volume_far_off_is_found(rng: np.random.Generator) -> None:
    motion_mm = np.zeros((N, SHAPE[2], 2))
    motion_mm[10] = 2.2, -2.2
    found = estimate(scan(rng, motion_mm, 4.0))
    assert errors(found, motion_mm, ~B0).max() < 0.4


def test_the_correction_brings_content_back(rng: np.random.Generator) -> None:
    motion_mm = np.zeros((N, SHAPE[2], 2))
    motion_mm[7, 3] = 1.5, 0.0
    series = scan(rng, motion_mm, 50.0)
    found = estimate(series)
    corrected = apply_correction(series, Correction(found.shift_mm), GRID)
    at_rest = np.median(series[..., ~B0], axis=-1)[:, :, 3]
    ratio = at_rest.sum() / corrected[:, :, 3, 7].sum()
    assert found.shift_mm[7, 3, 0] == pytest.approx(-1.5, abs=0.1)
    assert rms(corrected[:, :, 3, 7] * ratio - at_rest) < rms(series[:, :, 3, 7] - at_rest) / 2


def test_slices_without_signal_borrow_from_their_volume(rng: np.random.Generator) -> None:
    motion_mm = np.tile(moving(rng, 1.0, 0.0)[:, :1], (1, SHAPE[2], 1))
    lost = np.zeros((N, SHAPE[2]), bool)
    lost[N_B0:, 2] = rng.permutation(np.arange(N_DWI) < N_DWI // 2)
    lost[N_B0:, 4] = rng.permutation(np.arange(N_DWI) < N_DWI // 3)
    found = estimate(scan(rng, motion_mm, 4.0, np.where(lost, 0.03, 1.0).T))
    assert not found.trusted[lost].any()
    assert found.trusted[~lost].all()
    every_error = errors(found, motion_mm, ~B0)
    assert rms(every_error[lost[~B0]]) < 0.25
    assert every_error.max() < 0.6


def test_fluid_that_flashes_at_b0_is_not_taken_for_motion(rng: np.random.Generator) -> None:
    still = np.zeros((N, SHAPE[2], 2))
    series = scan(rng, still, 6.0)
    front = disc(still, (9.0, 7.5))[..., 1] * (1 - disc(still, (6.0, 4.5))[..., 1])
    front *= np.arange(SHAPE[1])[:, None] * 0.9 < CENTRE_MM[:, 1]
    series[:, :, 3, 1] -= (4.0 * front[:, :, 3]).astype(np.float32)
    found = estimate(series)
    assert np.linalg.norm(found.shift_mm[1], axis=-1).max() < 0.3


def test_the_reference_of_each_kind_is_its_median_position(rng: np.random.Generator) -> None:
    motion_mm = moving(rng, 0.6, 0.2) + np.where(B0, 0.7, -0.3)[:, None, None]
    found = estimate(scan(rng, motion_mm, 6.0))
    for kind in (B0, ~B0):
        assert np.abs(np.median(found.shift_mm[kind], axis=0)).max() < 0.15


def test_a_slice_without_a_centre_takes_the_displacement_of_its_volume(
    rng: np.random.Generator,
) -> None:
    motion_mm = np.tile(moving(rng, 1.0, 0.0)[:, :1], (1, SHAPE[2], 1))
    centre_mm = CENTRE_MM.copy()
    centre_mm[4] = np.nan
    found = estimate(scan(rng, motion_mm, 5.0), centre_mm)
    assert not found.trusted[:, 4].any()
    assert rms(errors(found, motion_mm, ~B0)[:, 4]) < 0.2


def test_no_centre_at_all_moves_nothing(rng: np.random.Generator) -> None:
    series = scan(rng, moving(rng, 1.0, 0.6), 5.0)
    found = estimate(series, np.full_like(CENTRE_MM, np.nan))
    assert not found.trusted.any()
    np.testing.assert_allclose(found.shift_mm, 0, atol=1e-9)


@pytest.mark.parametrize("value", [0.0, 3.0, np.nan, np.inf])
def test_slices_without_an_image_disturb_nothing(rng: np.random.Generator, value: float) -> None:
    motion_mm = np.tile(moving(rng, 0.8, 0.0)[:, :1], (1, SHAPE[2], 1))
    series = scan(rng, motion_mm, 5.0)
    series[:, :, 1, 6] = value
    series[:, :, 4, :] = value
    found = estimate(series)
    assert not found.trusted[6, 1]
    assert not found.trusted[:, 4].any()
    assert np.isfinite(found.shift_mm).all()
    assert np.delete(errors(found, motion_mm, ~B0), 4, axis=1).max() < 0.6


def test_a_single_volume_is_its_own_reference(rng: np.random.Generator) -> None:
    series = scan(rng, moving(rng, 1.0, 0.6), 5.0)[..., [0, *range(N_B0, N)]]
    found = estimate_motion(series, np.arange(N_DWI + 1) < 1, CENTRE_MM, GRID, MotionSettings())
    assert not found.shift_mm[0].any()
    assert found.trusted[0].all()
    assert found.shift_mm[1:].any()


def test_two_volumes_meet_halfway(rng: np.random.Generator) -> None:
    motion_mm = np.zeros((N, SHAPE[2], 2))
    motion_mm[1, :, 1] = 1.0
    pair = scan(rng, motion_mm, 8.0)[..., :2]
    found = estimate_motion(pair, np.array([True, True]), CENTRE_MM, GRID, MotionSettings())
    np.testing.assert_allclose(found.shift_mm[0, :, 1], 0.5, atol=0.1)
    np.testing.assert_allclose(found.shift_mm[1, :, 1], -0.5, atol=0.1)


def test_a_tiny_field_is_no_obstacle(rng: np.random.Generator) -> None:
    series = rng.random((4, 3, 1, 5)).astype(np.float32)
    grid = Grid((4, 3, 1), GRID.affine, GRID.storage)
    centre = np.array([[1.0, 1.0]])
    found = estimate_motion(series, np.arange(5) < 2, centre, grid, MotionSettings())
    assert np.isfinite(found.shift_mm).all()
    assert np.linalg.norm(found.shift_mm, axis=-1).max() <= MotionSettings().max_shift_mm
    corrected = apply_correction(series, Correction(found.shift_mm), grid)
    assert corrected.shape == series.shape


def test_a_series_of_one_value_does_not_move() -> None:
    series = np.full((*SHAPE, N), 100, dtype=np.float32)
    found = estimate_motion(series, B0, CENTRE_MM, GRID, MotionSettings())
    assert not found.shift_mm.any()
    assert not found.trusted.any()


def test_correction_that_is_switched_off_moves_and_trusts_nothing(
    rng: np.random.Generator,
) -> None:
    series = scan(rng, moving(rng, 1.0, 0.6), 5.0)
    found = estimate_motion(series, B0, CENTRE_MM, GRID, MotionSettings(method="none"))
    assert not found.shift_mm.any()
    assert not found.trusted.any()


JUMP_VOXELS = 11


@pytest.fixture(scope="module")
def neck() -> Phantom:
    return simulate(
        PhantomSettings(directions=12, b0_volumes=3, slices=5, snr=7.0, motion_mm=0.5), 4
    )


def jumping(neck: Phantom, volumes: slice, axis: int) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """Let some volumes of a neck jump by 10 mm; also their jumps."""
    jumps = np.zeros((neck.series.shape[3], 2), dtype=np.intp)
    jumps[volumes, axis] = JUMP_VOXELS
    return undo_jumps(neck.series, jumps), jumps


def cord_centre(neck: Phantom) -> FloatArray:
    cord = neck.region_share[..., 1:].sum(axis=-1)
    inside = [np.argwhere(cord[:, :, k] > 0.5).mean(axis=0) for k in range(cord.shape[2])]
    return np.array(inside) * neck.grid.spacing_mm[:2]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("volumes", [slice(8, None), slice(10, None), slice(0, 5), slice(6, 7)])
def test_a_jump_of_whole_volumes_is_found_from_where_most_volumes_lie(
    neck: Phantom, volumes: slice, axis: int
) -> None:
    series, jumps = jumping(neck, volumes, axis)
    is_b0 = neck.gradients.bvals == 0
    most = np.median(jumps, axis=0).astype(int)
    found = find_jumps(series, is_b0, neck.grid)
    assert np.abs(found - (most - jumps)).max() <= 1
    assert not found[(jumps == most).all(axis=1)].any()


def test_of_two_equal_halves_the_one_with_the_first_b0_is_the_reference(neck: Phantom) -> None:
    half = slice(1, None)  # 7 and 7 of 14 volumes
    series, jumps = jumping(neck, slice(8, None), 1)
    found = find_jumps(series[..., half], neck.gradients.bvals[half] == 0, neck.grid)
    first = int(np.argmax(neck.gradients.bvals[half] == 0))
    assert not found[first].any()
    assert np.abs(found + jumps[half] - jumps[half][first]).max() <= 1


def test_groups_of_b0_and_of_weighted_volumes_are_told_apart_whatever_their_order(
    neck: Phantom, rng: np.random.Generator
) -> None:
    series, jumps = jumping(neck, slice(10, None), 1)
    order = rng.permutation(series.shape[3])
    found = find_jumps(series[..., order], neck.gradients.bvals[order] == 0, neck.grid)
    assert np.abs(found + jumps[order]).max() <= 1


def test_an_ordinary_series_has_no_jumps_though_volumes_lost_their_signal(
    neck: Phantom, rng: np.random.Generator
) -> None:
    series = np.array(neck.series)
    series[..., 5] = np.abs(rng.normal(0, series[..., 5].std(), series.shape[:3]))
    series[..., 7] = np.nan
    assert not find_jumps(series, neck.gradients.bvals == 0, neck.grid).any()
    assert undo_jumps(series, np.zeros((series.shape[3], 2), np.intp)) is series


@pytest.mark.parametrize("axis", [0, 1])
def test_a_jump_in_the_middle_changes_nothing_but_the_shifts(neck: Phantom, axis: int) -> None:
    is_b0, centre_mm, settings = neck.gradients.bvals == 0, cord_centre(neck), MotionSettings()
    series, jumps = jumping(neck, slice(8, None), axis)
    before, after = (
        estimate_motion(volumes, is_b0, centre_mm, neck.grid, settings, neck.gradients)
        for volumes in (neck.series, series)
    )
    jumps_mm = jumps[:, None] * np.array(neck.grid.spacing_mm[:2])
    assert after.trusted.mean() > 0.95
    assert rms(after.shift_mm + jumps_mm - before.shift_mm) < 0.1
    corrected = apply_correction(series, Correction(after.shift_mm), neck.grid)
    found = find_outliers(corrected, neck.gradients, centre_mm, neck.grid, GradientSettings())
    assert found.weight.mean() > 0.95


@pytest.mark.data
def test_a_real_series_moves_little_but_its_first_b0_is_off(shared_data: Path) -> None:
    folder = shared_data / "ds-cord"
    series = read_image(folder / "sub-01" / "dwi" / "sub-01_dwi.nii.gz")
    mask = read_image(
        folder / "derivatives" / "meandwi" / "sub-01" / "dwi" / "sub-01_label-SC_mask.nii.gz"
    )
    b0 = np.loadtxt(folder / "sub-01" / "dwi" / "sub-01_dwi.bval") < 50
    centre = np.array([np.argwhere(mask.data[..., k]).mean(axis=0) for k in range(15)])
    centre_mm = centre * series.grid.spacing_mm[:2]
    found = estimate_motion(series.data, b0, centre_mm, series.grid, MotionSettings())
    length_mm = np.linalg.norm(found.shift_mm, axis=-1)
    assert found.trusted.mean() > 0.98
    assert 0.05 < rms(length_mm[~b0]) < 0.25
    assert length_mm.max() < 1.0
    assert -0.7 < found.shift_mm[0, 3:5, 1].mean() < -0.3
