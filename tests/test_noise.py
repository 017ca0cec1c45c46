"""The noise level is told by air that is air, else by the tensor fit, and doubt is named."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, stats

from scsnet_bids.gradients import Gradients
from scsnet_bids.settings import GradientSettings
from scsnet_bids.tensor import fit_tensor
from scsnet_bids.unmixing.noise import (
    estimate_noise,
    interpolation_gain,
    magnitude_moments,
    quick_moments,
)

SIGMA = 20.0
SHAPE = (30, 30, 3)
N_B0, N_WEIGHTED = 4, 20
IS_B0 = np.arange(N_B0 + N_WEIGHTED) < N_B0
MEDIAN = float(np.sqrt(stats.chi2.median(IS_B0.size - 7) / (IS_B0.size - 7)))
"""Of the standard deviations about a tensor where that of the noise is 1."""


def magnitude(clean: np.ndarray, rng: np.random.Generator, channels: int = 1) -> np.ndarray:
    """Root of the sum of squares of noisy channels that share the signal."""
    noise = rng.normal(0, SIGMA, (2, channels, *clean.shape))
    return np.sqrt(((clean / np.sqrt(channels) + noise[0]) ** 2 + noise[1] ** 2).sum(axis=0))


@pytest.fixture
def cord() -> np.ndarray:
    share = np.zeros(SHAPE)
    share[10:20, 10:20] = 1
    return share


@pytest.fixture
def clean(cord: np.ndarray) -> np.ndarray:
    """Cord, a neck around it in which muscle is bright at b=0, and air on one side."""
    tissue = np.full(SHAPE, 400.0) + 600 * cord
    tissue[:5] = 0
    return tissue[..., None] * np.where(IS_B0, 1.0, 0.35)


@pytest.fixture
def residual(cord: np.ndarray) -> np.ndarray:
    return np.where(cord > 0, 1.1 * MEDIAN * SIGMA, 3 * SIGMA)


def test_air_tells_the_noise(clean, residual, cord, rng) -> None:
    level = estimate_noise(magnitude(clean, rng), IS_B0, residual, cord)
    assert level.source == "background"
    assert level.flag is None
    assert level.sigma == pytest.approx(SIGMA, rel=0.03)
    assert level.rician_sigma == level.sigma


@pytest.mark.parametrize("dim", [10.0, 30.0, 100.0])
def test_dim_tissue_is_not_taken_for_air(clean, residual, cord, rng, dim) -> None:
    clean = np.where(clean > 0, clean, dim * np.where(IS_B0, 1.0, 0.35) * SIGMA / 10)
    level = estimate_noise(magnitude(clean, rng), IS_B0, residual, cord)
    assert level.source == "tensor_residual" or level.sigma == pytest.approx(SIGMA, rel=0.1)


@pytest.mark.parametrize("masked", [0.0, np.nan])
def test_masked_air_leaves_the_residual(clean, residual, cord, rng, masked) -> None:
    series = np.where(clean > 0, magnitude(clean, rng), masked)
    level = estimate_noise(series, IS_B0, residual, cord)
    assert (level.source, level.flag) == ("tensor_residual", "no_background")
    assert level.sigma == pytest.approx(1.1 * SIGMA, rel=2e-3)


@pytest.mark.parametrize("channels", [2, 3])
def test_summed_channels_are_not_rayleigh(clean, residual, cord, rng, channels) -> None:
    level = estimate_noise(magnitude(clean, rng, channels), IS_B0, residual, cord)
    assert (level.source, level.flag) == ("tensor_residual", "not_rayleigh")


def test_signed_series_have_no_floor(clean, residual, cord, rng) -> None:
    series = clean + rng.normal(0, SIGMA, clean.shape)
    level = estimate_noise(series, IS_B0, residual, cord)
    assert (level.source, level.flag) == ("tensor_residual", "signed")
    assert level.rician_sigma == 0


def test_a_magnitude_that_was_interpolated_keeps_its_floor(clean, residual, cord, rng) -> None:
    """Splines overshoot below 0 beside edges and in air."""
    sharp = magnitude(clean, rng)
    series = ndimage.shift(sharp, (0.5, 0.4, 0, 0), order=3, mode="nearest")
    assert (series < 0).any()
    level = estimate_noise(series, IS_B0, residual, cord)
    assert level.flag != "signed"
    assert level.rician_sigma == pytest.approx(1.1 * SIGMA, rel=0.02)


@pytest.mark.parametrize("factor", [0.1, 0.2, 3.0])
def test_air_that_is_unlike_the_cord_is_not_believed(clean, residual, cord, rng, factor) -> None:
    noisy = magnitude(clean, rng)
    series = np.where(clean > 0, noisy, factor * noisy)
    level = estimate_noise(series, IS_B0, residual, cord)
    assert (level.source, level.flag) == ("tensor_residual", "uneven")
    assert level.rician_sigma == pytest.approx(1.1 * SIGMA, rel=0.02)


def test_air_is_believed_where_pulsation_adds_to_the_residual(clean, cord, rng) -> None:
    level = estimate_noise(magnitude(clean, rng), IS_B0, np.where(cord > 0, 3 * SIGMA, 0), cord)
    assert (level.source, level.flag) == ("background", None)
    assert level.sigma == pytest.approx(SIGMA, rel=0.03)


def test_what_interpolation_took_is_given_back(clean, residual, cord, rng) -> None:
    series = np.where(clean > 0, magnitude(clean, rng), 0)
    level = estimate_noise(series, IS_B0, 0.8 * residual, cord, 0.8)
    assert level.sigma == pytest.approx(1.1 * SIGMA, rel=2e-3)


@pytest.mark.parametrize("snr", [0.5, 1.0, 2.0])
def test_a_residual_near_the_floor_is_narrower_than_the_noise(cord, rng, snr) -> None:
    clean = np.where(cord > 0, snr * SIGMA, 0)[..., None] * np.ones(IS_B0.size)
    series = np.where(clean > 0, magnitude(clean, rng), 0)
    scatter = np.where(cord > 0, MEDIAN * series[cord > 0].std(), 0)
    assert scatter.max() < 0.95 * SIGMA
    assert estimate_noise(series, IS_B0, scatter, cord).sigma == pytest.approx(SIGMA, rel=0.04)


@pytest.mark.parametrize(("n_b0", "n_directions"), [(5, 15), (5, 30), (6, 60)])
@pytest.mark.parametrize("snr", [3.0, 4.0, 6.5, 20.0])
def test_the_tensor_fit_tells_the_noise_it_was_given(rng, snr, n_b0, n_directions) -> None:
    """However near the floor the signals lie, and however few they are."""
    bvals = np.repeat([0.0, 800.0], [n_b0, n_directions])
    bvecs = rng.normal(size=(bvals.size, 3))
    bvecs /= np.linalg.norm(bvecs, axis=1, keepdims=True)
    diffusivity = np.array([0.45e-3, 0.45e-3, 1.9e-3])
    clean = snr * SIGMA * np.exp(-bvals * (bvecs**2 @ diffusivity))
    series = magnitude(np.tile(clean, (40, 40, 1, 1)), rng)
    share = np.ones(series.shape[:3])
    residual = fit_tensor(series, Gradients(bvals, bvecs), None, GradientSettings()).noise
    level = estimate_noise(series, bvals == 0, residual, share)
    assert (level.source, level.flag) == ("tensor_residual", "no_background")
    assert level.sigma == pytest.approx(SIGMA, rel=0.015)


def test_cords_of_unlike_voxels_have_the_noise_of_their_channels(rng) -> None:
    """How much narrower magnitudes are is no straight function of their power."""
    bvals = np.repeat([0.0, 800.0], [4, 48])
    bvecs = rng.normal(size=(bvals.size, 3))
    bvecs /= np.linalg.norm(bvecs, axis=1, keepdims=True)
    tissues = np.array([[0.3, 0.3, 1.8], [0.7, 0.7, 0.9], [0.3, 1.8, 0.3]]) * 1e-3
    clean = 4 * SIGMA * np.exp(-bvals * (tissues @ (bvecs**2).T))
    series = magnitude(np.tile(clean[:, None, None], (20, 50, 4, 1)), rng)
    share = np.ones(series.shape[:3])
    residual = fit_tensor(series, Gradients(bvals, bvecs), None, GradientSettings()).noise
    level = estimate_noise(series, bvals == 0, residual, share)
    assert level.sigma == pytest.approx(SIGMA, rel=0.01)


def test_one_bright_voxel_does_not_decide_the_noise(cord, rng) -> None:
    """A second order without bounds made a volume with one less than nothing of a variance."""
    clean = np.where(cord > 0, 2 * SIGMA, 0)[..., None] * np.ones(IS_B0.size)
    series = np.where(clean > 0, magnitude(clean, rng), 0)
    scatter = np.where(cord > 0, MEDIAN * series[cord > 0].std(axis=0).mean(), 0)
    place = tuple(np.argwhere(cord > 0)[0])
    series[(*place, 9)] = SIGMA * np.sqrt(5 * np.count_nonzero(cord))
    assert estimate_noise(series, IS_B0, scatter, cord).sigma == pytest.approx(SIGMA, rel=0.03)


def test_tabulated_moments_are_the_moments() -> None:
    snr = np.concatenate([np.linspace(0, 25, 1001), [100.0]])
    exact, (mean, slope) = magnitude_moments(snr), quick_moments(snr)
    np.testing.assert_allclose(mean, exact.mean, atol=2e-3)
    np.testing.assert_allclose(slope, exact.slope, atol=2e-3)
    assert quick_moments(np.array([-3.0]))[0] == magnitude_moments(np.zeros(1)).mean


def test_volumes_that_the_tensor_leaves_out_say_nothing_of_its_residual(cord, rng) -> None:
    """Those of a high shell are all floor."""
    clean = np.where(cord > 0, 4 * SIGMA, 0)[..., None] * np.ones(IS_B0.size)
    series = np.where(clean > 0, magnitude(clean, rng), 0)
    floor = np.where(clean > 0, magnitude(0 * clean, rng), 0)
    scatter = np.where(cord > 0, MEDIAN * series[cord > 0].std(), 0)
    both = np.concatenate([series, floor], axis=-1)
    is_b0, fitted = np.r_[IS_B0, 0 * IS_B0] > 0, np.arange(2 * IS_B0.size) < IS_B0.size
    alone = estimate_noise(series, IS_B0, scatter, cord)
    known = estimate_noise(both, is_b0, scatter, cord, fitted=fitted)
    assert known.sigma == pytest.approx(alone.sigma)
    assert estimate_noise(both, is_b0, scatter, cord).sigma > 1.1 * alone.sigma


def test_nothing_known_is_said(clean, cord, rng) -> None:
    series = np.where(clean > 0, magnitude(clean, rng), 0)
    level = estimate_noise(series, IS_B0, np.full(SHAPE, np.nan), cord)
    assert (level.source, level.flag) == ("none", "unknown")
    assert np.isnan(level.sigma)
    assert level.rician_sigma == 0


def test_repeated_b0_volumes_have_no_say(clean, residual, cord, rng) -> None:
    series = np.where(clean > 0, magnitude(clean, rng), 0)
    pulsating = series * np.where(IS_B0, rng.uniform(0.5, 1.5, IS_B0.size), 1)
    levels = [estimate_noise(s, IS_B0, residual, cord) for s in (series, pulsating)]
    assert levels[0] == levels[1]


def test_residual_is_taken_well_inside_the_cord(clean, cord, rng) -> None:
    share = np.where(cord > 0, 1.0, 0.0)
    share[8:10, 10:20] = 0.6
    residual = np.where(share == 1, MEDIAN * SIGMA, 5 * SIGMA)
    series = np.where(clean > 0, magnitude(clean, rng), 0)
    assert estimate_noise(series, IS_B0, residual, share).sigma == pytest.approx(SIGMA, rel=2e-3)


def test_interpolation_gain_is_that_of_the_correction(rng) -> None:
    torch = pytest.importorskip("torch")
    from scsnet_bids.correction.interpolation import sample_moved

    noise = torch.from_numpy(rng.normal(0, 1, (40, 48, 48)))
    shift = torch.from_numpy(rng.uniform(-1, 1, (40, 2)))
    moved = sample_moved(noise, shift)[:, 4:-4, 4:-4]
    assert interpolation_gain(shift.numpy()) == pytest.approx(float(moved.std()), rel=0.01)
