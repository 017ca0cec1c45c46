"""The tensor fit gives back what a signal was made from, and says nothing where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from scsnet_bids import tensor as tensor_module
from scsnet_bids.errors import GradientError
from scsnet_bids.gradients import Gradients, read_gradients
from scsnet_bids.images import read_image
from scsnet_bids.settings import GradientSettings
from scsnet_bids.tensor import fit_tensor, non_positive_tensors

SETTINGS = GradientSettings()
EIGENVALUES = np.array([0.3e-3, 0.5e-3, 1.6e-3])
N_B0, N_DIRECTIONS = 3, 20


def rotation() -> np.ndarray:
    """A rotation about no axis of the image, so that every tensor element differs."""
    matrix, _ = np.linalg.qr(np.array([[1.0, 0.4, 0.2], [-0.3, 1.0, 0.5], [0.1, -0.6, 1.0]]))
    return matrix


def directions(n: int) -> np.ndarray:
    """Points spread over the sphere."""
    height = 1 - 2 * (np.arange(n) + 0.5) / n
    turn = np.pi * (1 + 5**0.5) * np.arange(n)
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)


@pytest.fixture
def gradients() -> Gradients:
    bvals = np.repeat([0.0, 800.0], [N_B0, N_DIRECTIONS])
    return Gradients(bvals, np.concatenate([np.zeros((N_B0, 3)), directions(N_DIRECTIONS)]))


def signal_of(tensor: np.ndarray, gradients: Gradients, s0: float = 1000.0) -> np.ndarray:
    """(n,) noise-free signal of a (3, 3) tensor."""
    weighting = np.einsum("ni,ij,nj->n", gradients.bvecs, tensor, gradients.bvecs)
    return s0 * np.exp(-gradients.bvals * weighting)


@pytest.fixture
def tensor() -> np.ndarray:
    return rotation() @ np.diag(EIGENVALUES) @ rotation().T


@pytest.fixture
def series(tensor: np.ndarray, gradients: Gradients) -> np.ndarray:
    return np.tile(signal_of(tensor, gradients), (3, 2, 2, 1))


def test_a_known_tensor_is_recovered(series, tensor, gradients):
    maps = fit_tensor(series, gradients, None, SETTINGS)
    mean = EIGENVALUES.mean()
    fa = np.sqrt(1.5 * ((EIGENVALUES - mean) ** 2).sum() / (EIGENVALUES**2).sum())
    np.testing.assert_allclose(maps.fa, fa, rtol=1e-6)
    np.testing.assert_allclose(maps.md, mean, rtol=1e-6)
    np.testing.assert_allclose(maps.ad, 1.6e-3, rtol=1e-6)
    np.testing.assert_allclose(maps.rd, 0.4e-3, rtol=1e-6)
    np.testing.assert_allclose(maps.noise, 0, atol=1e-6)
    elements = tensor[[0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]
    np.testing.assert_allclose(maps.tensor[1, 1, 1], elements, atol=1e-9)


def test_a_low_b_value_without_a_direction_weighs_too(gradients):
    md = 0.9e-3
    given = Gradients(np.where(gradients.bvals == 0, 45.0, gradients.bvals), gradients.bvecs)
    series = np.tile(1000 * np.exp(-given.bvals * md), (1, 1, 1, 1))
    np.testing.assert_allclose(fit_tensor(series, given, None, SETTINGS).md, md, rtol=1e-6)


def test_the_direction_is_the_longest_axis_and_points_to_the_head(series, gradients):
    direction = fit_tensor(series, gradients, None, SETTINGS).direction[0, 0, 0]
    axis = rotation()[:, 2]
    np.testing.assert_allclose(direction, axis * np.sign(axis[2]), atol=1e-5)
    assert direction[2] > 0


def test_shells_above_the_limit_have_no_say(series, gradients):
    more = Gradients(
        np.append(gradients.bvals, [3000.0, 3000.0]),
        np.concatenate([gradients.bvecs, np.eye(3)[:2]]),
    )
    extended = np.concatenate([series, np.full((*series.shape[:3], 2), 900.0)], axis=-1)
    maps = fit_tensor(extended, more, None, SETTINGS)
    np.testing.assert_allclose(maps.md, EIGENVALUES.mean(), rtol=1e-6)


def test_outside_the_mask_every_map_is_zero(series, gradients):
    mask = np.zeros(series.shape[:3], dtype=bool)
    mask[1, 0, 1] = True
    maps = fit_tensor(series, gradients, mask, SETTINGS)
    for name in ("fa", "md", "ad", "rd", "tensor", "direction", "noise"):
        assert not getattr(maps, name)[~mask].any(), name
    assert maps.fa[1, 0, 1] > 0.6


def test_samples_without_signal_have_no_say(series, gradients):
    series[0, 0, 0, [0, 7]] = np.nan
    series[1, 0, 0, [2, 9]] = 0.0
    series[2, 0, 0, 12] = -5.0
    maps = fit_tensor(series, gradients, None, SETTINGS)
    np.testing.assert_allclose(maps.md, EIGENVALUES.mean(), rtol=1e-6)


@pytest.mark.parametrize(
    ("volumes", "value"),
    [
        (slice(None), 0.0),
        (slice(None), np.nan),
        (slice(0, N_B0), 0.0),
        (slice(0, N_B0), -1.0),
        (slice(N_B0 + 5, None), np.nan),
    ],
    ids=["empty", "nan", "no b0", "negative b0", "five directions"],
)
def test_a_voxel_that_cannot_be_fitted_is_nan(series, gradients, volumes, value):
    series[1, 1, 1, volumes] = value
    maps = fit_tensor(series, gradients, None, SETTINGS)
    for name in ("fa", "md", "ad", "rd", "tensor", "direction", "noise"):
        missing = np.isnan(getattr(maps, name))
        assert missing[1, 1, 1].all(), name
        assert missing.sum() == missing[1, 1, 1].sum(), name


def test_a_signal_that_only_rises_with_the_b_value_is_nan(series, gradients):
    series[0, 1, 0] = signal_of(-1e-3 * np.eye(3), gradients)
    maps = fit_tensor(series, gradients, None, SETTINGS)
    assert np.isnan(maps.fa[0, 1, 0])
    assert np.isnan(maps.md[0, 1, 0])
    assert np.isfinite(maps.fa).sum() == maps.fa.size - 1


def test_a_negative_eigenvalue_is_raised_in_the_maps_but_kept_in_the_tensor(series, gradients):
    series[0, 0, 1] = signal_of(np.diag([-0.2e-3, 0.4e-3, 1.5e-3]), gradients)
    maps = fit_tensor(series, gradients, None, SETTINGS)
    assert maps.fa[0, 0, 1] <= 1
    np.testing.assert_allclose(maps.md[0, 0, 1], 1.9e-3 / 3, rtol=1e-6)
    np.testing.assert_allclose(maps.tensor[0, 0, 1, 0], -0.2e-3, rtol=1e-5)
    counted = non_positive_tensors(maps.tensor)
    assert counted[0, 0, 1]
    assert counted.sum() == 1


def test_no_tensor_is_not_a_non_positive_tensor():
    tensor = np.zeros((3, 6))
    tensor[1] = np.nan
    tensor[2] = [1e-3, 0, 0, 1e-3, 0, 1e-3]
    assert not non_positive_tensors(tensor).any()


def test_the_noise_map_is_the_noise_that_was_added(tensor, gradients, rng):
    clean = np.tile(signal_of(tensor, gradients), (20, 20, 4, 1))
    maps = fit_tensor(clean + rng.normal(0, 20, clean.shape), gradients, None, SETTINGS)
    assert np.sqrt((maps.noise**2).mean()) == pytest.approx(20, rel=0.03)


def test_too_few_directions_are_refused(series, gradients):
    few = np.arange(N_B0 + 5)
    with pytest.raises(GradientError, match="six different directions"):
        fit_tensor(series[..., few], gradients.select(few), None, SETTINGS)


def test_the_series_is_not_changed(series, gradients):
    series[0, 0, 0, 0] = 0
    before = series.copy()
    fit_tensor(series, gradients, None, SETTINGS)
    np.testing.assert_array_equal(series, before)


@pytest.mark.data
def test_a_real_cord_has_the_fa_of_a_cord(shared_data):
    folder = shared_data / "ds-cord"
    source = folder / "sub-02" / "dwi" / "sub-02_dwi.nii.gz"
    mask = folder / "derivatives" / "meandwi" / "sub-02" / "dwi" / "sub-02_label-SC_mask.nii.gz"
    image, cord = read_image(source), read_image(mask).data > 0.5
    bval, bvec = (source.with_name(f"sub-02_dwi.{name}") for name in ("bval", "bvec"))
    gradients = read_gradients(bval, bvec, image.grid, 52, source)
    maps = fit_tensor(image.data, gradients, cord, SETTINGS)
    assert 0.5 < np.nanmean(maps.fa[cord]) < 0.85
    assert np.nanmean(np.abs(maps.direction[cord][:, 2])) > 0.9  # fibres run along the neck


def spoil(series, lost, gain=0.2):
    """Scale some slices of volumes, (n, k)."""
    return np.where(lost.T, series * gain, series)


def lose(n_lost):
    """(n, k) of two slices, the lower of which lost its first weighted volumes."""
    lost = np.zeros((N_B0 + N_DIRECTIONS, 2), dtype=bool)
    lost[N_B0 : N_B0 + 2 * n_lost : 2, 0] = True
    return lost


def test_slices_without_weight_have_no_say(series, gradients):
    lost = lose(8)
    whole = fit_tensor(series, gradients, None, SETTINGS)
    spoilt = fit_tensor(spoil(series, lost), gradients, None, SETTINGS)
    weighed = fit_tensor(spoil(series, lost), gradients, None, SETTINGS, 1.0 - lost)
    assert np.abs(spoilt.fa[..., 0] - whole.fa[..., 0]).min() > 0.02
    np.testing.assert_allclose(weighed.fa, whole.fa, rtol=1e-6)
    np.testing.assert_allclose(weighed.noise, 0, atol=1e-6)
    np.testing.assert_array_equal(weighed.fa[..., 1], whole.fa[..., 1])


def test_the_less_a_loss_counts_the_less_it_pulls(series, gradients):
    lost = lose(4)
    truth = fit_tensor(series, gradients, None, SETTINGS).md[0, 0, 0]
    off = [
        fit_tensor(spoil(series, lost, 0.7), gradients, None, SETTINGS, 1 - (1 - w) * lost).md
        - truth
        for w in (1.0, 0.5, 0.1)
    ]
    pulled = [o[0, 0, 0] for o in off]
    assert pulled[0] > pulled[1] > pulled[2] > 0


def test_weights_that_are_all_alike_leave_the_tensor_as_it_is(series, gradients, rng):
    noisy = series + rng.normal(0, 50, series.shape)
    whole = fit_tensor(noisy, gradients, None, SETTINGS)
    halved = fit_tensor(noisy, gradients, None, SETTINGS, np.full((noisy.shape[3], 2), 0.5))
    np.testing.assert_allclose(halved.tensor, whole.tensor, rtol=1e-6)


def test_the_noise_map_counts_a_sample_by_its_weight(tensor, gradients, rng):
    clean = np.tile(signal_of(tensor, gradients), (20, 20, 4, 1))
    weight = np.where(np.arange(N_B0 + N_DIRECTIONS) % 2, 0.5, 1.0)[:, None].repeat(4, axis=1)
    noisy = clean + rng.normal(0, 20, clean.shape)
    maps = fit_tensor(noisy, gradients, None, SETTINGS, weight)
    assert np.sqrt((maps.noise**2).mean()) == pytest.approx(20, rel=0.02)


def test_a_slice_with_too_few_volumes_left_has_no_tensor(series, gradients):
    lost = np.zeros((N_B0 + N_DIRECTIONS, 2), dtype=bool)
    lost[N_B0:, 0] = np.abs(gradients.bvecs[N_B0:, 2]) < 0.7  # six around the poles are left
    maps = fit_tensor(series, gradients, None, SETTINGS, 1.0 - lost)
    assert np.isnan(maps.fa[..., 0]).all()
    assert np.isfinite(maps.fa[..., 1]).all()


def test_voxels_fitted_a_few_at_a_time_are_the_same(series, gradients, monkeypatch):
    rng, mask = np.random.default_rng(0), np.ones(series.shape[:3], dtype=bool)
    noisy = series + rng.normal(0, 20, series.shape)
    mask[0, 1, 1] = False
    at_once = fit_tensor(noisy, gradients, mask, SETTINGS)
    monkeypatch.setattr(tensor_module, "SAMPLES_AT_ONCE", 5 * noisy.shape[3])
    few = fit_tensor(noisy, gradients, mask, SETTINGS)
    np.testing.assert_allclose(few.tensor, at_once.tensor, rtol=1e-6)
    np.testing.assert_allclose(few.noise, at_once.noise, rtol=1e-6)
    assert (few.fa > 0).sum() == mask.sum()
