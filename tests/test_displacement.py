from __future__ import annotations

import numpy as np
import pytest
import torch

from scsnet_bids.correction.displacement import (
    DisplacementPrior,
    Measurement,
    believed_displacement,
    learn_prior,
)

N, K = 40, 8
Z_MM = torch.arange(K, dtype=torch.float64) * 5.0


def measure(true_mm: np.ndarray, noise_mm: float, rng: np.random.Generator) -> Measurement:
    measured = torch.from_numpy(true_mm + rng.normal(0, noise_mm, true_mm.shape))
    n, k = true_mm.shape[:2]
    information = torch.eye(2, dtype=torch.float64).expand(n, k, 2, 2) / noise_mm**2
    return Measurement(information.clone(), measured / noise_mm**2, Z_MM)


def prior(common: float, smooth: float, own: float, n: int = N) -> DisplacementPrior:
    size_mm = torch.tensor([common, smooth, own], dtype=torch.float64)[:, None].expand(3, 2)
    return DisplacementPrior(size_mm**2, torch.ones(n, K, dtype=torch.float64))


def dense(measurement: Measurement, sizes: DisplacementPrior) -> torch.Tensor:
    """The same posterior with whole matrices: slower, and nothing to get wrong."""
    n, k = measurement.weighted_mm.shape[:2]
    alike = torch.exp(-(measurement.z_mm[:, None] - measurement.z_mm).abs() / 15.0)
    mean = torch.zeros(n, 2 * k, dtype=torch.float64)
    for volume in range(n):
        parts = [torch.ones(k, k, dtype=torch.float64), alike, torch.diag(sizes.looseness[volume])]
        covariance = sum(
            torch.kron(part, torch.diag(variance))
            for part, variance in zip(parts, sizes.variance_mm2, strict=True)
        )
        information = torch.block_diag(*measurement.information[volume])
        posterior = (
            torch.linalg.inv(torch.eye(2 * k, dtype=torch.float64) + covariance @ information)
            @ covariance
        )
        mean[volume] = posterior @ measurement.weighted_mm[volume].flatten()
    return mean.reshape(n, k, 2)


@pytest.mark.parametrize("slices", [1, 2, K])
def test_a_chain_of_slices_is_solved_as_whole_matrices_would_be(
    rng: np.random.Generator, slices: int
) -> None:
    root = torch.from_numpy(rng.normal(0, 3, (5, slices, 2, 2)))
    information = root @ root.mT
    information[1] = 0
    information[2, -1, 0] = information[2, -1, :, 0] = 0
    measured = torch.from_numpy(rng.normal(0, 0.5, (5, slices, 2, 1)))
    measurement = Measurement(information, (information @ measured)[..., 0], Z_MM[:slices])
    sizes = torch.tensor([[0.5, 0.01], [0.2, 0.6], [0.3, 1e-4]], dtype=torch.float64)
    looseness = torch.from_numpy(rng.uniform(0.4, 9, (5, slices)))
    guess = DisplacementPrior(sizes**2, looseness)
    found, expected = believed_displacement(measurement, guess), dense(measurement, guess)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))


def test_sure_measurements_are_believed(rng: np.random.Generator) -> None:
    true = rng.normal(0, 1, (N, K, 2))
    mean = believed_displacement(measure(true, 0.01, rng), prior(1.0, 0.1, 1.0))
    assert rms(mean.numpy() - true) < 0.02


def test_without_measurements_nothing_moves() -> None:
    nothing = Measurement(
        torch.zeros(1, K, 2, 2, dtype=torch.float64),
        torch.zeros(1, K, 2, dtype=torch.float64),
        Z_MM,
    )
    learned = learn_prior(nothing, prior(0.5, 0.5, 0.5, 1), 5)
    assert not believed_displacement(nothing, learned).any()


def test_a_silent_slice_takes_the_displacement_of_its_volume(rng: np.random.Generator) -> None:
    true = np.tile(rng.normal(0, 1, (N, 1, 2)), (1, K, 1))
    measurement = measure(true, 0.1, rng)
    measurement.information[:, 3] = 0
    measurement.weighted_mm[:, 3] = 0
    mean = believed_displacement(measurement, prior(1.0, 0.1, 0.1))
    assert rms(mean.numpy()[:, 3] - true[:, 3]) < 0.15


def test_still_slices_are_learned_to_be_still(rng: np.random.Generator) -> None:
    measurement = measure(np.zeros((N, K, 2)), 0.3, rng)
    learned = learn_prior(measurement, prior(0.2, 0.2, 0.2), 40)
    mean = believed_displacement(measurement, learned)
    assert rms(mean.numpy()) < 0.12


def test_common_and_own_motion_are_told_apart(rng: np.random.Generator) -> None:
    common, own = rng.normal(0, 0.8, (N, 1, 2)), rng.normal(0, 0.4, (N, K, 2))
    learned = learn_prior(measure(common + own, 0.1, rng), prior(0.2, 0.2, 0.2), 40)
    common_mm, smooth_mm, own_mm = learned.variance_mm2.mean(dim=1).sqrt().tolist()
    assert 0.6 < common_mm < 1.0
    assert smooth_mm < 0.2
    assert 0.2 < own_mm < 0.5


def test_smooth_motion_is_told_from_motion_of_single_slices(rng: np.random.Generator) -> None:
    covariance = torch.exp(-(Z_MM[:, None] - Z_MM).abs() / 15.0).numpy()
    smooth = np.linalg.cholesky(covariance) @ rng.normal(0, 0.6, (N, K, 2))
    learned = learn_prior(measure(smooth, 0.1, rng), prior(0.2, 0.2, 0.2), 40)
    smooth_mm, own_mm = learned.variance_mm2[1:].mean(dim=1).sqrt().tolist()
    assert smooth_mm > 0.3
    assert own_mm < 0.25


def test_one_slice_may_jump_though_all_others_are_still(rng: np.random.Generator) -> None:
    true = np.zeros((N, K, 2))
    true[5, 2] = 2.0, -1.0
    measurement = measure(true, 0.15, rng)
    learned = learn_prior(measurement, prior(0.2, 0.2, 0.2), 40)
    mean = believed_displacement(measurement, learned)
    assert np.abs(mean[5, 2].numpy() - true[5, 2]).max() < 0.5
    others = np.delete(mean.numpy().reshape(-1, 2), 5 * K + 2, axis=0)
    assert rms(others) < 0.08


def test_information_along_one_axis_only_moves_that_axis() -> None:
    information = torch.zeros(1, K, 2, 2, dtype=torch.float64)
    information[..., 0, 0] = 100.0
    weighted = torch.zeros(1, K, 2, dtype=torch.float64)
    weighted[..., 0] = 100.0
    mean = believed_displacement(Measurement(information, weighted, Z_MM), prior(1, 1, 1, 1))
    assert 0.9 < float(mean[..., 0].min()) <= 1.0
    assert not mean[..., 1].any()
