"""Short trainings for comparisons."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from scsnet_bids.training.trials import Trials, train_briefly


class TinyNetwork(nn.Module):
    """One convolution with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 9, 3, padding=1), nn.BatchNorm2d(9))

    def forward(self, slices: Tensor) -> Tensor:
        return self.layers(slices)


def draw_bright_cords(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw noise in which bright pixels are region 3."""
    images = torch.randn(n, 1, 12, 12, generator=generator)
    target = torch.zeros(n, 9, 12, 12)
    target[:, 3] = (images[:, 0] > 0).float()
    target[:, 0] = 1 - target[:, 3]
    return images, target + 1e-9


def test_a_table_of_trials_grows_and_finds_its_rows(tmp_path: Path):
    trials = Trials(tmp_path / "t.tsv")
    assert trials.rows(network="light").empty
    trials.add({"network": "light", "share": 0.05, "dice": 0.9})
    trials.add({"network": "plain", "share": 0.05, "dice": 0.8})
    assert Trials(trials.path).rows(network="plain", share=0.05)["dice"].tolist() == [0.8]
    assert trials.rows(network="plain", share=0.2).empty
    assert len(trials.table) == 2


def test_a_brief_training_learns_and_repeats_itself():
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        network, step_s = train_briefly(TinyNetwork(), draw_bright_cords, 300, seed=1)
        assert step_s > 0
        assert not network.training
        results.append(network(draw_bright_cords(4, torch.Generator().manual_seed(9))[0]))
    assert torch.equal(results[0], results[1])
    _, target = draw_bright_cords(4, torch.Generator().manual_seed(9))
    right = results[0].argmax(dim=1) == target.argmax(dim=1)
    assert right.float().mean() > 0.9


@pytest.mark.parametrize("seed", [1, 2])
def test_left_and_right_change_places_in_every_other_batch(seed: int):
    torch.manual_seed(0)
    seen: list[Tensor] = []

    class Watching(TinyNetwork):
        def forward(self, slices: Tensor) -> Tensor:
            seen.append(slices.detach().clone())
            return super().forward(slices)

    train_briefly(Watching(), draw_bright_cords, 2, seed)
    generator = torch.Generator().manual_seed(seed)
    first, second = (draw_bright_cords(16, generator)[0] for _ in range(2))
    assert torch.equal(seen[0], first)
    assert torch.equal(seen[1], second.flip(-1))
