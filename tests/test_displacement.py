from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scsnet_bids.correction.displacement import (
    DisplacementPrior,
    Measurement,
    believed_displacement,
    learn_prior,
    moderate_prior,
)

N, K = 40, 8


def measure(true_mm: np.ndarray, noise_mm: float, rng: np.random.Generator) -> Measurement:
    measured = torch.from_numpy(true_mm + rng.normal(0, noise_mm, true_mm.shape))
    n, k = true_mm.shape[:2]
    information = torch.eye(2, dtype=torch.float64).expand(n, k, 2, 2) / noise_mm**2
    return Measurement(information.clone(), measured / noise_mm**2)


def prior(common: float, own: float, n: int = N) -> DisplacementPrior:
    kernels = torch.ones(1, K, K, dtype=torch.float64)
    size_mm = torch.tensor([common, own], dtype=torch.float64)[:, None].expand(2, 2)
    one = torch.ones(1, 2, dtype=torch.float64)
    kind = torch.zeros(n, dtype=torch.int64)
    return DisplacementPrior(kernels, size_mm**2, one, kind, (size_mm[-1] ** 2).expand(n, K, 2))


def learned(measurement: Measurement, kind: np.ndarray | None = None) -> DisplacementPrior:
    n, k = measurement.weighted_mm.shape[:2]
    kind = np.zeros(n, int) if kind is None else kind
    return learn_prior(measurement, moderate_prior(torch.from_numpy(kind), k), 40)


def whole(measurement: Measurement, sizes: DisplacementPrior, stretch: int) -> torch.Tensor:
    """The same posterior of every volume by one matrix: slower, and nothing to get wrong."""
    n, k = sizes.alone_mm2.shape[:2]
    mean = torch.zeros(n, 2 * k, dtype=torch.float64)
    place = torch.arange(k)
    together = place[:, None] // stretch == place // stretch
    waves = torch.arange(len(sizes.kernels)).double()[:, None, None] * np.pi / stretch
    kernels = torch.cos(waves * (place[:, None] - place)) * together
    for volume in range(n):
        covariance = torch.diag(sizes.alone_mm2[volume].flatten())
        for kernel, variance in zip(kernels, sizes.variance_mm2[:-1], strict=True):
            covariance += torch.kron(kernel, torch.diag(variance * sizes.scale[sizes.kind[volume]]))
        information = torch.block_diag(*measurement.information[volume])
        held = torch.eye(2 * k, dtype=torch.float64) + covariance @ information
        mean[volume] = (
            torch.linalg.inv(held) @ covariance @ measurement.weighted_mm[volume].flatten()
        )
    return mean.reshape(n, k, 2)


@pytest.mark.parametrize(("slices", "stretch"), [(1, 1), (2, 2), (24, 24), (25, 13), (49, 17)])
def test_slices_are_weighed_as_one_matrix_would_and_many_in_stretches(
    rng: np.random.Generator, slices: int, stretch: int
) -> None:
    root = torch.from_numpy(rng.normal(0, 3, (3, slices, 2, 2)))
    information = root @ root.mT
    information[1] = 0
    information[2, -1, 0] = information[2, -1, :, 0] = 0
    measured = torch.from_numpy(rng.normal(0, 0.5, (3, slices, 2, 1)))
    measurement = Measurement(information, (information @ measured)[..., 0])
    first = moderate_prior(torch.tensor([0, 1, 1]), slices)
    guess = replace(
        first,
        variance_mm2=torch.from_numpy(rng.uniform(0, 0.3, first.variance_mm2.shape)),
        scale=torch.from_numpy(rng.uniform(0.5, 2, (2, 2))),
        alone_mm2=torch.from_numpy(rng.uniform(0, 0.3, (3, slices, 2))),
    )
    found = believed_displacement(measurement, guess)
    torch.testing.assert_close(found, whole(measurement, guess, stretch), rtol=1e-7, atol=1e-7)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))


def test_sure_measurements_are_believed(rng: np.random.Generator) -> None:
    true = rng.normal(0, 1, (N, K, 2))
    mean = believed_displacement(measure(true, 0.01, rng), prior(1.0, 1.0))
    assert rms(mean.numpy() - true) < 0.02


@pytest.mark.parametrize("slices", [1, K, 30])
def test_without_measurements_nothing_moves(slices: int) -> None:
    nothing = Measurement(
        torch.zeros(2, slices, 2, 2, dtype=torch.float64),
        torch.zeros(2, slices, 2, dtype=torch.float64),
    )
    assert not believed_displacement(nothing, learned(nothing)).any()


def test_a_silent_slice_takes_the_displacement_of_its_volume(rng: np.random.Generator) -> None:
    true = np.tile(rng.normal(0, 1, (N, 1, 2)), (1, K, 1))
    measurement = silenced(measure(true, 0.1, rng), 3)
    mean = believed_displacement(measurement, prior(1.0, 0.1))
    assert rms(mean.numpy()[:, 3] - true[:, 3]) < 0.15


def test_a_silent_slice_swings_with_the_slices_that_swing_with_it(
    rng: np.random.Generator,
) -> None:
    """As where the heart beats once in five slices, at another time in every volume."""
    phase = rng.uniform(0, 2 * np.pi, (N, 1))
    swing = np.cos(2 * np.pi / 5 * np.arange(15) + phase)
    true = 0.5 * np.stack([np.zeros_like(swing), swing], axis=-1)
    measurement = silenced(measure(true, 0.2, rng), 6)
    mean = believed_displacement(measurement, learned(measurement)).numpy()
    assert rms(mean[:, 6, 1] - true[:, 6, 1]) < 0.6 * rms(true[:, 6, 1])
    assert rms((mean - true)[..., 1]) < 0.12
    assert rms((mean - true)[..., 0]) < 0.06


def silenced(measurement: Measurement, slice_index: int) -> Measurement:
    measurement.information[:, slice_index] = 0
    measurement.weighted_mm[:, slice_index] = 0
    return measurement


def test_still_slices_are_learned_to_be_still(rng: np.random.Generator) -> None:
    measurement = measure(np.zeros((N, K, 2)), 0.3, rng)
    mean = believed_displacement(measurement, learned(measurement))
    assert rms(mean.numpy()) < 0.08


def test_common_and_own_motion_are_told_apart(rng: np.random.Generator) -> None:
    common, own = rng.normal(0, 0.8, (N, 1, 2)), rng.normal(0, 0.4, (N, K, 2))
    sizes_mm2 = learned(measure(common + own, 0.1, rng)).variance_mm2.mean(dim=1)
    assert 0.6 < float(sizes_mm2[0].sqrt()) < 1.0
    # What slices do alone is also the sum of all waves.
    assert 0.2 < float(sizes_mm2[1:].sum().sqrt()) < 0.6


def test_smooth_motion_is_told_from_motion_of_single_slices(rng: np.random.Generator) -> None:
    place = np.arange(K)
    covariance = np.exp(-np.abs(place[:, None] - place) / 3.0)
    smooth = np.linalg.cholesky(covariance) @ rng.normal(0, 0.6, (N, K, 2))
    own_mm = learned(measure(smooth, 0.1, rng)).variance_mm2[-1].mean().sqrt()
    assert own_mm < 0.25


def test_one_slice_may_jump_though_all_others_are_still(rng: np.random.Generator) -> None:
    true = np.zeros((N, K, 2))
    true[5, 2] = 2.0, -1.0
    measurement = measure(true, 0.15, rng)
    mean = believed_displacement(measurement, learned(measurement))
    assert np.abs(mean[5, 2].numpy() - true[5, 2]).max() < 0.5
    others = np.delete(mean.numpy().reshape(-1, 2), 5 * K + 2, axis=0)
    assert rms(others) < 0.06


def test_a_slice_that_jumps_badly_seen_is_held_by_the_others(rng: np.random.Generator) -> None:
    measurement = measure(np.zeros((N, K, 2)), 0.1, rng)
    measurement.information[5, 2] = torch.eye(2) / 1.5**2
    measurement.weighted_mm[5, 2] = 2.0 / 1.5**2
    mean = believed_displacement(measurement, learned(measurement))
    assert float(mean[5, 2].abs().max()) < 0.1


def test_few_volumes_that_move_more_are_told_how_by_the_many(rng: np.random.Generator) -> None:
    """As b=0 volumes beside weighted ones: they share the swing, not its size."""
    kind = np.r_[np.zeros(4, int), np.ones(N, int)]
    errors = []
    for _ in range(5):
        phase = rng.uniform(0, 2 * np.pi, (N + 4, 1))
        swing = np.cos(2 * np.pi / 5 * np.arange(15) + phase)
        swing *= np.where(kind, 0.3, 0.9)[:, None]
        true = np.stack([np.zeros_like(swing), swing], axis=-1)
        together = measure(true, 0.5, rng)
        alone = Measurement(together.information[:4], together.weighted_mm[:4])
        by_many, by_few = learned(together, kind), learned(alone)
        told = believed_displacement(together, by_many)[:4], believed_displacement(alone, by_few)
        errors.append([rms(mean.numpy() - true[:4]) for mean in told])
        assert 3 < float(by_many.scale[0, 1]) < 20  # 9 is right
    many, few = np.mean(errors, axis=0)
    assert many < 0.9 * few


def test_information_along_one_axis_only_moves_that_axis() -> None:
    information = torch.zeros(1, K, 2, 2, dtype=torch.float64)
    information[..., 0, 0] = 100.0
    weighted = torch.zeros(1, K, 2, dtype=torch.float64)
    weighted[..., 0] = 100.0
    mean = believed_displacement(Measurement(information, weighted), prior(1, 1, 1))
    assert 0.9 < float(mean[..., 0].min()) <= 1.0
    assert not mean[..., 1].any()
