"""Regions drawn on the noise of the b=0 volumes take some of it for signal: how much is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.own_noise import STILL, compare

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.network.weights import load_network
from scsnet_bids.settings import UnmixingSettings
from scsnet_bids.unmixing.own_noise import estimate_own_noise, split_volumes
from scsnet_bids.unmixing.signals import solve_signals

SETTINGS = UnmixingSettings()
SHAPE, N_B0, SIGMA, SIGNAL = (20, 20, 60), 5, 40.0, 1000.0
WEIGHTED = 2


def draw(image: FloatArray) -> FloatArray:
    """Draw two regions, which take voxels the more the darker or brighter they are."""
    share = np.zeros((*image.shape, 9))
    bright = np.clip(0.5 + (image - SIGNAL) / (10 * SIGMA), 0, 1)
    halves = np.arange(image.shape[0])[:, None, None] % 2 * 0.4 - 0.2
    share[..., 2] = np.clip(bright + halves, 0, 1)
    share[..., 1] = 1 - share[..., 2]
    return share


@pytest.fixture(scope="module")
def series() -> FloatArray:
    """Volumes of one signal everywhere, the last of which are no b=0 volumes."""
    noise = np.random.default_rng(3).normal(0, SIGMA, (*SHAPE, N_B0 + WEIGHTED))
    return SIGNAL + noise


@pytest.fixture(scope="module")
def is_b0() -> BoolArray:
    return np.arange(N_B0 + WEIGHTED) < N_B0


def drawn_without(series: FloatArray, is_b0: BoolArray, parts: list[BoolArray]) -> list[FloatArray]:
    return [draw(series[..., is_b0 & ~part].mean(axis=-1)) for part in parts]


def test_what_a_region_owes_to_its_own_noise_is_told(series, is_b0):
    mean = series[..., is_b0].mean(axis=-1)
    signal = solve_signals(mean[..., None], draw(mean), SETTINGS)[:, :2, 0]
    true = (signal - SIGNAL).mean(axis=0)
    assert true[0] < -5 < 5 < true[1]
    parts = split_volumes(is_b0)
    ones = np.ones((series.shape[3], series.shape[2]))
    shares = drawn_without(series, is_b0, parts)
    own = estimate_own_noise(series, parts, shares, ones, SETTINGS)[:, :2].mean(axis=0)
    np.testing.assert_allclose(own, true, rtol=0.15)


def test_regions_that_know_nothing_of_the_noise_owe_it_nothing(series, is_b0):
    parts = split_volumes(is_b0)
    weight = np.random.default_rng(4).uniform(0, 1, (series.shape[3], series.shape[2]))
    fixed = draw(SIGNAL + SIGMA * np.random.default_rng(5).normal(size=SHAPE))
    own = estimate_own_noise(series, parts, [fixed] * len(parts), weight, SETTINGS)
    np.testing.assert_allclose(own, 0, atol=1e-9)


def test_a_slice_that_does_not_count_has_no_say_whatever_it_holds(series, is_b0):
    parts = split_volumes(is_b0)
    shares = drawn_without(series, is_b0, parts)
    weight = np.ones((series.shape[3], series.shape[2]))
    weight[1, 0] = 0  # one of two volumes of its part
    weight[:N_B0, 1] = [1, 0, 0, 0, 0]  # no second part
    expected = estimate_own_noise(series, parts, shares, weight, SETTINGS)
    spoilt = np.array(series)
    spoilt[..., 0, 1] = np.nan
    own = estimate_own_noise(spoilt, parts, shares, weight, SETTINGS)
    np.testing.assert_array_equal(own, expected)
    assert own[0, 0] != 0
    np.testing.assert_allclose(own[1], 0, atol=1e-9)


def test_a_single_b0_volume_tells_nothing_of_its_own_noise(series):
    parts = split_volumes(np.arange(series.shape[3]) == 1)
    assert parts == []
    ones = np.ones((series.shape[3], series.shape[2]))
    np.testing.assert_array_equal(estimate_own_noise(series, parts, [], ones, SETTINGS), 0)


@pytest.mark.parametrize("n_b0", [2, 3, 4, 11])
def test_every_b0_volume_is_in_one_part(n_b0):
    is_b0 = np.arange(20) % 2 < 1
    is_b0[2 * n_b0 :] = False
    np.testing.assert_array_equal(np.sum(split_volumes(is_b0), axis=0), is_b0)


def test_what_the_network_makes_of_noise_is_told():
    """White matter of still phantoms lacks signal, and gray matter has some of it."""
    network, noisy = load_network("cpu"), replace(STILL, snr=4)
    true, told = np.mean([compare(noisy, seed, network) for seed in range(4)], axis=0)
    white, gray = true[:6].mean(), true[6:].mean()
    assert white < -0.5 < 1 < gray
    np.testing.assert_allclose([told[:6].mean(), told[6:].mean()], [white, gray], rtol=0.35)
