"""Synthetic slices with simulated diffusion."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scsnet_bids.phantom.simulation import half_sphere
from scsnet_bids.regions import REGIONS, Tissue
from scsnet_bids.training.atlas import Atlas
from scsnet_bids.training.diffusion_contrast import (
    B_VALUE,
    DiffusionSlices,
    draw_diffusion,
    fit_fa,
)

DIRECTIONS = torch.tensor(half_sphere(30), dtype=torch.float32)


@pytest.fixture(scope="module")
def slices(toy_atlas: Atlas) -> DiffusionSlices:
    return draw_diffusion(toy_atlas, 24, torch.Generator().manual_seed(0))


def mean_in(slices: DiffusionSlices, name: str, tissue: Tissue) -> float:
    """Mean of an image over the pixels that a tissue fills."""
    labels = [region.label for region in REGIONS if region.tissue is tissue]
    return float(slices.images[name][slices.target[:, labels].sum(dim=1) > 0.95].mean())


@pytest.mark.parametrize("axis", [(0, 0, 1), (1, 0, 0), (0.6, -0.48, 0.64)])
def test_the_fit_finds_the_fa_of_a_tensor_whatever_its_direction(axis):
    along, across = 1.8, 0.4
    cosine = DIRECTIONS @ torch.tensor(axis, dtype=torch.float32)
    signal = torch.exp(-B_VALUE * (across + (along - across) * cosine**2))
    fa = fit_fa(torch.ones(1, 5, 1, 1), signal[None, :, None, None], DIRECTIONS)
    expected = (along - across) / np.sqrt(along**2 + 2 * across**2)
    assert fa.item() == pytest.approx(expected, abs=1e-4)


def test_equal_signals_have_no_anisotropy():
    fa = fit_fa(torch.ones(1, 5, 2, 2), torch.full((1, 30, 2, 2), 0.3), DIRECTIONS)
    assert fa.max() < 1e-3


def test_the_directions_are_even_unit_vectors():
    torch.testing.assert_close(DIRECTIONS.norm(dim=1), torch.ones(30))
    nearest = (DIRECTIONS @ DIRECTIONS.T).abs().fill_diagonal_(0).max(dim=1).values.acos().rad2deg()
    assert nearest.min() > 12


def test_white_matter_is_more_anisotropic_than_gray(slices: DiffusionSlices):
    gray = mean_in(slices, "fa", Tissue.GRAY_MATTER)
    assert 0.3 < gray < 0.6
    for tissue in (Tissue.LATERAL_COLUMN, Tissue.DORSAL_COLUMN):
        assert gray + 0.1 < mean_in(slices, "fa", tissue) < 0.9


def test_the_cord_is_bright_and_its_surroundings_are_dark_in_the_mean_dwi(slices: DiffusionSlices):
    background = slices.target[:, 0] > 0.99
    for tissue in Tissue:
        inside = mean_in(slices, "dwi", tissue) / mean_in(slices, "b0", tissue)
        outside = slices.images["dwi"][background].mean() / slices.images["b0"][background].mean()
        assert inside > 1.3 * outside


def test_images_are_whole_voxels_on_the_network_grid(slices: DiffusionSlices):
    for image in slices.images.values():
        assert image.shape == (24, 96, 96)
        assert torch.isfinite(image).all()
        assert torch.equal(image[:, ::2, ::2], image[:, 1::2, 1::2])
    assert 0 <= slices.images["fa"].min() <= slices.images["fa"].max() <= 1
    torch.testing.assert_close(slices.target.sum(dim=1), torch.ones(24, 96, 96))


def test_the_chosen_images_become_channels_in_their_order(slices: DiffusionSlices):
    both = slices.standardised(("fa", "b0"))
    assert both.shape == (24, 2, 96, 96)
    assert torch.equal(both[:, 1], slices.standardised(("b0",))[:, 0])
    torch.testing.assert_close(both.mean(dim=(2, 3)), torch.zeros(24, 2), atol=0.2, rtol=0)
