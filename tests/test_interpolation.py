from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from scsnet_bids.correction.interpolation import sample_moved, sample_moved_with_slopes


@pytest.fixture
def slices(rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.normal(size=(3, 9, 7)))


def test_a_moved_slice_is_the_cubic_spline_of_scipy(slices: torch.Tensor) -> None:
    shift = torch.tensor([0.3, -0.45], dtype=torch.float64)
    i, j = np.meshgrid(
        np.clip(np.arange(9) + 0.3, 0, 8), np.clip(np.arange(7) - 0.45, 0, 6), indexing="ij"
    )
    expected = ndimage.map_coordinates(slices[1].numpy(), [i, j], order=3, mode="mirror")
    np.testing.assert_allclose(sample_moved(slices, shift)[1].numpy(), expected, atol=1e-9)


def test_each_slice_has_its_own_shift(slices: torch.Tensor) -> None:
    shifts = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, -2.0]])
    moved = sample_moved(slices, shifts)
    torch.testing.assert_close(moved[0], slices[0])
    torch.testing.assert_close(moved[1, :-1], slices[1, 1:])
    torch.testing.assert_close(moved[2, :, 2:], slices[2, :, :-2])


def test_beyond_the_edge_the_value_at_the_edge_repeats(slices: torch.Tensor) -> None:
    moved = sample_moved(slices, torch.tensor([0.0, 3.0]))
    for column in (3, 4, 5, 6):
        torch.testing.assert_close(moved[..., column], slices[..., -1])


def test_slopes_are_the_change_of_the_moved_slice(slices: torch.Tensor) -> None:
    shift, step = torch.tensor([0.2, 0.4], dtype=torch.float64), 1e-5
    value, along_p, along_q = sample_moved_with_slopes(slices, shift)
    torch.testing.assert_close(value, sample_moved(slices, shift))
    for slope, axis in ((along_p, 0), (along_q, 1)):
        change = step * torch.eye(2, dtype=torch.float64)[axis]
        difference = sample_moved(slices, shift + change) - sample_moved(slices, shift - change)
        torch.testing.assert_close(
            slope[:, :-1, :-1], difference[:, :-1, :-1] / (2 * step), rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_constant_stays_constant_however_small_the_slice(size: int) -> None:
    constant = torch.full((size, 4), 2.5, dtype=torch.float64)
    torch.testing.assert_close(sample_moved(constant, torch.tensor([0.3, 1.7])), constant)
