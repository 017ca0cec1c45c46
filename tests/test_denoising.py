"""Denoising returns the level of the series, invents nothing, and says when it cannot work."""

from __future__ import annotations

import numpy as np
import pytest

from scsnet_bids.correction.denoising import (
    LEAST_VOLUMES,
    add_removed,
    check_runs,
    denoise,
    removed_deviation,
    window_radius,
)
from scsnet_bids.errors import InputDataError
from scsnet_bids.images import Grid, Image, write_image
from scsnet_bids.runs import DwiRun
from scsnet_bids.settings import DenoisingSettings, Settings

SIGMA = 40.0
IS_B0 = np.array([True] * 3 + [False] * 13)
METHODS = {name: DenoisingSettings(method=name) for name in ("mppca", "patch2self")}
DEGIBBS = DenoisingSettings(degibbs=True)
RAS = Grid((12, 11, 5), np.diag([-0.9, -0.9, 5.0, 1.0]), np.array([[0.0, 1], [1, 1], [2, 1]]))


@pytest.fixture
def clean(rng):
    """A smooth object of three components over the volumes."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (12, 11, 5)), indexing="ij")
    maps = np.stack([1000 + 200 * x, 300 * y + 300, 200 * (z + 1)], axis=3)
    weights = np.abs(rng.normal(0.5, 0.2, (3, IS_B0.size)))
    weights[0] = np.where(IS_B0, 1.0, 0.5)
    return maps @ weights


@pytest.fixture
def noisy(clean, rng):
    """Return it as the scanner shows it."""
    real, imaginary = rng.normal(0, SIGMA, (2, *clean.shape))
    return np.hypot(clean + real, imaginary).astype(np.float32)


@pytest.mark.parametrize("settings", METHODS.values(), ids=METHODS)
def test_noise_is_reduced_and_the_level_of_every_volume_stays(settings, clean, noisy):
    denoised = denoise(noisy, IS_B0, settings)
    assert denoised.dtype == noisy.dtype
    assert np.std(denoised - clean) < 0.7 * np.std(noisy - clean)
    before, after = (series.mean(axis=(0, 1, 2)) for series in (noisy, denoised))
    np.testing.assert_allclose(after, before, rtol=0.02)


@pytest.mark.parametrize("n_volumes", [15, 16, 17])
def test_patch2self_is_the_regression_of_each_volume_on_the_others_of_its_kind(noisy, n_volumes):
    series, is_b0 = noisy[..., :n_volumes], IS_B0[:n_volumes]
    found = denoise(series, is_b0, METHODS["patch2self"])
    for kind in (is_b0, ~is_b0):
        samples = series[..., kind].reshape(-1, kind.sum()).astype(float)
        centred = samples - samples.mean(axis=0)
        precision = np.linalg.inv(centred.T @ centred)
        # The residual of each on all others: Lauritzen, Graphical Models, chapter 5.
        expected = samples - centred @ precision / np.diag(precision)
        np.testing.assert_allclose(
            found[..., kind].reshape(samples.shape), np.clip(expected, 0, None), atol=0.01
        )


@pytest.mark.parametrize(("method", "too_much"), [("mppca", 0.1), ("patch2self", 0.3)])
def test_the_noise_before_is_told_by_what_is_left_and_removed(method, too_much, clean, noisy):
    denoised = denoise(noisy, IS_B0, METHODS[method])
    left = (denoised - clean).std(axis=3)
    before = add_removed(left, removed_deviation(noisy, denoised))
    assert 0.9 < np.median(before) / SIGMA < 1 + too_much
    assert np.median(left) < 0.7 * SIGMA


def test_ringing_is_reduced_in_the_slices_and_not_between_them():
    fine = np.full((64, 64, 3, 1), 100.0)
    fine[20:44, 20:44, 1] = 300.0
    spectrum = np.fft.fftshift(np.fft.fft2(fine, axes=(0, 1)), axes=(0, 1))
    kept = np.fft.ifftshift(spectrum[16:48, 16:48], axes=(0, 1))
    ringing = np.abs(np.fft.ifft2(kept, axes=(0, 1))) / 4
    cleaned = denoise(ringing, np.array([True]), DEGIBBS)
    flat = (slice(2, 8), slice(12, 20), 1)
    assert cleaned[flat].std() < 0.2 * ringing[flat].std()
    np.testing.assert_allclose(cleaned[:, :, [0, 2]], 100.0)


@pytest.mark.parametrize("settings", [*METHODS.values(), DEGIBBS], ids=[*METHODS, "degibbs"])
def test_what_was_not_measured_is_not_invented(settings, noisy):
    noisy[..., 2:, -1] = 0
    kept = noisy.copy()
    denoised = denoise(noisy, IS_B0, settings)
    assert not denoised[..., 2:, -1].any()
    assert (denoised >= 0).all()
    np.testing.assert_array_equal(noisy, kept)


def test_nothing_asked_for_changes_nothing(noisy):
    np.testing.assert_array_equal(denoise(noisy, IS_B0, DenoisingSettings()), noisy)


@pytest.mark.parametrize("shape", [(12, 11, 1, 20), (12, 11, 2, 20), (12, 11, 4, 60)])
def test_the_window_fits_into_small_series_and_holds_more_voxels_than_volumes(shape, rng):
    radius = np.array(window_radius(shape))
    assert ((2 * radius + 1) <= shape[:3]).all()
    assert np.prod(2 * radius + 1) > shape[3]
    is_b0 = np.arange(shape[3]) < 3
    assert np.isfinite(denoise(rng.rayleigh(1, shape), is_b0, METHODS["mppca"])).all()


@pytest.mark.parametrize("settings", METHODS.values(), ids=METHODS)
def test_too_few_volumes_get_a_sentence(settings, noisy):
    with pytest.raises(InputDataError, match=r"needs 10 volumes .* the series has 9"):
        denoise(noisy[..., : LEAST_VOLUMES - 1], IS_B0[: LEAST_VOLUMES - 1], settings)


def test_runs_with_too_few_volumes_are_left_out_before_any_is_processed(tmp_path, rng):
    runs = []
    for label, n_volumes in (("01", 9), ("02", 10)):
        path = tmp_path / f"sub-{label}_dwi.nii.gz"
        write_image(path, Image(rng.rayleigh(1, (12, 11, 5, n_volumes)).astype(np.float32), RAS))
        runs.append(DwiRun(path, path, path, (), (("sub", label),)))
    good, left_out = check_runs(runs, {}, Settings(denoising=METHODS["mppca"]))
    assert good == runs[1:]
    assert "sub-01_dwi.nii.gz has 9" in str(left_out[runs[0]])
    assert check_runs(runs, {}, Settings(denoising=DEGIBBS)) == (runs, {})
