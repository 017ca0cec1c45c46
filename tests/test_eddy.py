from __future__ import annotations

import numpy as np
import pytest

from scsnet_bids.arrays import FloatArray
from scsnet_bids.correction.eddy import EddyTerms, estimate_eddy
from scsnet_bids.gradients import Gradients
from scsnet_bids.images import Grid

SHAPE, N_B0, N_DWI = (48, 44, 5), 2, 20
N = N_B0 + N_DWI
B0 = np.arange(N) < N_B0
GRID = Grid(SHAPE, np.diag([0.9, 0.9, 5.0, 1.0]), np.array([[0, 1], [1, 1], [2, 1]]))
CENTRE_MM = np.tile((np.array(SHAPE[:2]) - 1) / 2 * 0.9 + np.array([0.3, -0.4]), (SHAPE[2], 1))
STILL = np.zeros((N, SHAPE[2], 2))


def gradients(rng: np.random.Generator) -> Gradients:
    vectors = rng.normal(size=(N, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[B0] = 0
    return Gradients(np.where(B0, 0.0, 800.0), vectors)


def scan(
    rng: np.random.Generator, eddy: FloatArray, phase_axis: int, snr: float = 4.0
) -> FloatArray:
    """(i, j, k, n) cord in a neck with texture, each volume stretched and sheared."""
    places = np.stack(np.indices(SHAPE[:2]), axis=-1) * 0.9 - CENTRE_MM[0]
    waves = rng.normal(0, 0.35, (SHAPE[2], 12, 2)), rng.uniform(0, 6, (SHAPE[2], 12))
    series = np.empty((*SHAPE, N))
    for volume, (scale, shear) in enumerate(eddy):
        # What is seen at a place comes from the place that is displaced there.
        true = places.copy()
        along, across = places[..., phase_axis], places[..., 1 - phase_axis]
        true[..., phase_axis] = (along - shear * across) / (1 + scale)
        cord = 1 / (1 + np.exp((np.hypot(true[..., 0] / 6.5, true[..., 1] / 4.5) - 1) * 10))
        for k in range(SHAPE[2]):
            texture = np.cos(true @ waves[0][k].T + waves[1][k]).mean(axis=-1)
            series[:, :, k, volume] = (0.35 + 0.5 * texture) * (1 - cord) + cord
    noise = rng.normal(0, 1 / snr, (2, *series.shape))
    return np.hypot(series + noise[0], noise[1])


def driven(rng: np.random.Generator, scheme: Gradients, size: float) -> FloatArray:
    """(n, 2) scale and shear linear in the gradient."""
    return scheme.bvecs @ rng.normal(0, size, (3, 2))


@pytest.mark.parametrize("phase_axis", [0, 1])
def test_scale_and_shear_that_follow_the_gradient_are_found(
    rng: np.random.Generator, phase_axis: int
) -> None:
    scheme = gradients(rng)
    truth = driven(rng, scheme, 0.03)
    series = scan(rng, truth, phase_axis, 10.0)
    found = estimate_eddy(series, STILL, CENTRE_MM, GRID, scheme, B0, phase_axis)
    assert found is not None
    assert not found.scale[B0].any()
    apart = np.stack([found.scale, found.shear], axis=1)[~B0] - truth[~B0]
    apart -= apart.mean(axis=0)
    assert np.sqrt((apart**2).mean()) < 0.15 * np.sqrt((truth[~B0] ** 2).mean())


def test_series_without_eddy_currents_are_left_alone(rng: np.random.Generator) -> None:
    scheme = gradients(rng)
    series = scan(rng, np.zeros((N, 2)), 1)
    assert estimate_eddy(series, STILL, CENTRE_MM, GRID, scheme, B0, 1) is None


def test_what_does_not_follow_the_gradient_is_not_eddy_current(rng: np.random.Generator) -> None:
    scheme = gradients(rng)
    truth = rng.normal(0, 0.02, (N, 2))
    assert estimate_eddy(scan(rng, truth, 1), STILL, CENTRE_MM, GRID, scheme, B0, 1) is None


def test_too_few_volumes_or_no_cord_show_nothing(rng: np.random.Generator) -> None:
    scheme = gradients(rng)
    series = scan(rng, driven(rng, scheme, 0.03), 1, 10.0)
    few = np.arange(9)
    nowhere = np.full_like(CENTRE_MM, np.nan)
    assert estimate_eddy(series, STILL, nowhere, GRID, scheme, B0, 1) is None
    found = estimate_eddy(
        series[..., few], STILL[few], CENTRE_MM, GRID, scheme.select(few), B0[few], 1
    )
    assert found is None


def test_slices_without_an_image_disturb_nothing(rng: np.random.Generator) -> None:
    scheme = gradients(rng)
    truth = driven(rng, scheme, 0.03)
    series = scan(rng, truth, 1, 10.0)
    series[:, :, 3, 7] = 0
    series[:, :, :, 12] = np.nan
    found = estimate_eddy(series, STILL, CENTRE_MM, GRID, scheme, B0, 1)
    assert found is not None
    assert np.isfinite(found.scale).all()
    good = ~B0 & (np.arange(N) != 12)
    assert np.corrcoef(found.scale[good], truth[good, 0])[0, 1] > 0.95


def test_a_slice_without_a_centre_has_that_of_the_others() -> None:
    centre_mm = np.array([[1.0, 2.0], [np.nan, np.nan], [3.0, 4.0]])
    terms = EddyTerms(np.zeros(2), np.zeros(2), centre_mm)
    np.testing.assert_array_equal(terms.centre_mm[1], [2.0, 3.0])
    with pytest.raises(ValueError, match="centre"):
        EddyTerms(np.zeros(2), np.zeros(2), np.full((2, 2), np.nan))
