"""Averages of volumes: robust, and without slices that lost their signal."""

from __future__ import annotations

import numpy as np
import pytest

from scsnet_bids.arrays import FloatArray
from scsnet_bids.correction.averages import average_volumes


def every(n: int, k: int = 3) -> FloatArray:
    """Weights of volumes that all count."""
    return np.ones((n, k))


def test_the_average_of_clean_volumes_is_their_mean(rng: np.random.Generator) -> None:
    volumes = rng.normal(100, 10, (20, 20, 3, 9)).astype(np.float32)
    chosen = np.arange(9) < 6
    off = average_volumes(volumes, chosen, every(9)) - volumes[..., chosen].mean(axis=-1)
    assert np.sqrt((off**2).mean()) < 0.2 * 10 / np.sqrt(6)


def test_one_bad_volume_does_not_pull_the_average(rng: np.random.Generator) -> None:
    volumes = rng.normal(100, 10, (20, 20, 3, 8)).astype(np.float32)
    volumes[..., 2] = 1000
    assert abs(average_volumes(volumes, np.ones(8, bool), every(8)).mean() - 100) < 5
    assert volumes.mean() > 200


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_volumes_are_averaged_plainly(n: int, rng: np.random.Generator) -> None:
    volumes = rng.random((4, 4, 3, 3)).astype(np.float32)
    average = average_volumes(volumes, np.arange(3) < n, every(3))
    np.testing.assert_allclose(average, volumes[..., :n].mean(axis=-1), rtol=1e-6)


def test_equal_volumes_average_to_themselves() -> None:
    volumes = np.tile(np.arange(12, dtype=np.float32).reshape(2, 2, 3, 1), 5)
    average = average_volumes(volumes, np.ones(5, bool), every(5))
    np.testing.assert_array_equal(average, volumes[..., 0])


@pytest.mark.parametrize("n", [2, 4])
def test_a_slice_that_counts_half_has_half_a_say(n: int) -> None:
    volumes = np.tile(np.arange(n, dtype=np.float32), (2, 2, 3, 1))
    weight = every(n)
    weight[0, 1] = 0.5
    average = average_volumes(volumes, np.ones(n, bool), weight)
    np.testing.assert_allclose(average[:, :, [0, 2]], (n - 1) / 2)
    np.testing.assert_allclose(average[:, :, 1], n * (n - 1) / 2 / (n - 0.5))


def test_half_of_a_slice_may_be_lost_without_a_trace(rng: np.random.Generator) -> None:
    clean = rng.normal(100, 10, (20, 20, 3, 10)).astype(np.float32)
    spoilt, weight = clean.copy(), every(10)
    spoilt[:, :, 1, ::2] *= 0.2
    weight[::2, 1] = 0
    chosen = np.ones(10, bool)
    average = average_volumes(spoilt, chosen, weight)
    assert abs(average[:, :, 1].mean() - 100) < 1
    assert average_volumes(spoilt, chosen, every(10))[:, :, 1].mean() < 75
    untouched = average_volumes(clean, chosen, every(10))
    np.testing.assert_array_equal(average[:, :, [0, 2]], untouched[:, :, [0, 2]])


def test_a_slice_in_which_nothing_counts_is_averaged_as_it_is(rng: np.random.Generator) -> None:
    volumes = rng.normal(100, 10, (4, 4, 3, 5)).astype(np.float32)
    weight = every(5)
    weight[:, 2] = 0
    chosen = np.ones(5, bool)
    average = average_volumes(volumes, chosen, weight)
    np.testing.assert_array_equal(average, average_volumes(volumes, chosen, every(5)))
