from __future__ import annotations

import numpy as np
import pytest
import torch

from scsnet_bids.correction import slice_patches
from scsnet_bids.correction.slice_matching import match_slices
from scsnet_bids.correction.slice_patches import (
    REFERENCE_SMOOTHING_VOXELS,
    SlicePatches,
    cut_patches,
    smooth,
)
from scsnet_bids.correction.slice_prediction import (
    match_with_others,
    predict_slices,
    tensor_terms,
)
from scsnet_bids.gradients import Gradients
from scsnet_bids.images import Grid

N, SHAPE = 30, (31, 29, 2)
GRID = Grid(SHAPE, np.diag([1.0, 1.0, 5.0, 1.0]), np.array([[0, 1], [1, 1], [2, 1]]))
LEFT, POSTERIOR = np.indices(SHAPE[:2]) - np.array([15.0, 14.0])[:, None, None]
STILL = torch.zeros(N, SHAPE[2], 2, dtype=torch.float64)
RADIUS_MM = 11.0


def directions(rng: np.random.Generator, n: int = N) -> Gradients:
    vectors = rng.normal(size=(n, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Gradients(np.full(n, 800.0), vectors)


def patches(
    rng: np.random.Generator, gradients: Gradients, contrast: float, noise: float
) -> tuple[SlicePatches, torch.Tensor]:
    """Cord whose left and right halves brighten in different directions; with and without noise."""
    cord = 1 / (1 + np.exp((np.hypot(LEFT, POSTERIOR) - 6) / 0.5))
    x, _, z = gradients.bvecs.T
    clean = cord[:, :, None] * (1 + contrast * (x * z) * np.tanh(LEFT / 2)[:, :, None])
    clean = np.repeat(clean[:, :, None], SHAPE[2], axis=2)
    centre_mm = np.tile([15.0, 14.0], (SHAPE[2], 1))
    noisy = clean + rng.normal(0, noise, clean.shape)
    both = cut_patches(np.concatenate([noisy, clean], axis=-1), centre_mm, GRID, 13.0)
    true = both.of_volumes(np.arange(N, 2 * N)).intensity
    return both.of_volumes(np.arange(N)), smooth(true, REFERENCE_SMOOTHING_VOXELS)


def error(seen: SlicePatches, true: torch.Tensor, terms: torch.Tensor | None) -> float:
    predicted = predict_slices(seen, STILL, None, None, RADIUS_MM)
    for _ in range(3):
        match = match_slices(seen, predicted, STILL, RADIUS_MM)
        predicted = predict_slices(seen, STILL, match, terms, RADIUS_MM)
    window = seen.window(STILL[:1].float(), RADIUS_MM)
    return float((window * (predicted.intensity - true) ** 2).sum().sqrt())


def test_products_of_the_terms_are_the_second_legendre_polynomial(
    rng: np.random.Generator,
) -> None:
    gradients = directions(rng)
    terms = tensor_terms(gradients)
    cosine = gradients.bvecs @ gradients.bvecs.T
    np.testing.assert_allclose((terms @ terms.T).numpy(), (3 * cosine**2 - 1) / 2, atol=1e-9)


def test_contrast_of_the_direction_is_predicted(rng: np.random.Generator) -> None:
    gradients = directions(rng)
    seen, true = patches(rng, gradients, contrast=0.6, noise=0.03)
    assert error(seen, true, tensor_terms(gradients)) < 0.7 * error(seen, true, None)


@pytest.mark.parametrize("contrast", [0.0, 0.1])
def test_noise_is_not_predicted(rng: np.random.Generator, contrast: float) -> None:
    gradients = directions(rng)
    seen, true = patches(rng, gradients, contrast, noise=0.4)
    assert error(seen, true, tensor_terms(gradients)) < 1.05 * error(seen, true, None)


def test_one_direction_repeated_leaves_the_mean(rng: np.random.Generator) -> None:
    gradients = Gradients(np.full(N, 800.0), np.tile([0.0, 0.0, 1.0], (N, 1)))
    seen, true = patches(rng, gradients, 0.0, noise=0.2)
    assert error(seen, true, tensor_terms(gradients)) == pytest.approx(
        error(seen, true, None), rel=0.02
    )


def test_a_volume_has_no_say_in_its_own_prediction(rng: np.random.Generator) -> None:
    gradients = directions(rng)
    seen, _ = patches(rng, gradients, 0.3, noise=0.1)
    reference = predict_slices(seen, STILL, None, None, RADIUS_MM)
    match = match_slices(seen, reference, STILL, RADIUS_MM)
    before = predict_slices(seen, STILL, match, tensor_terms(gradients), RADIUS_MM)
    seen.intensity[4] += 0.01 * torch.from_numpy(rng.normal(size=seen.intensity.shape[2:]))
    after = predict_slices(seen, STILL, match, tensor_terms(gradients), RADIUS_MM)
    change = (after.intensity - before.intensity).abs().amax(dim=(1, 2, 3))
    assert change[4] < 1e-4
    assert change[[0, 10, 20]].min() > 1e-4


def test_slices_say_the_same_in_parts_as_together(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = directions(rng)
    seen, _ = patches(rng, gradients, 0.3, noise=0.1)
    said = []
    for size in (slice_patches.PART_BYTES, 1):
        monkeypatch.setattr(slice_patches, "PART_BYTES", size)
        matches = [None] * len(seen.parts())
        for _ in range(2):  # the second time with what was found before
            matches = match_with_others(seen, STILL, matches, tensor_terms(gradients), RADIUS_MM)
        said.append([match.measurement.weighted_mm for match in matches])
    together, apart = said
    assert (len(together), len(apart)) == (1, SHAPE[2])
    torch.testing.assert_close(together[0], torch.cat(apart, dim=1), rtol=1e-3, atol=1e-3)
