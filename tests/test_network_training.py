"""Training: the loss, the loop, what is kept."""

from __future__ import annotations

import math
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from scsnet_bids.network import training, validation
from scsnet_bids.network.dataset import Atlas
from scsnet_bids.network.losses import soft_target_loss
from scsnet_bids.network.model import ScsNet, standardise
from scsnet_bids.network.training import Budget, main, train
from scsnet_bids.network.weights import load_network, read_record

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def toy_atlas() -> Atlas:
    """Elliptic cord cut into four nested tissues."""
    place = (np.arange(48) - 23.5) / 2
    y, x = np.meshgrid(place, place, indexing="ij")
    radius = np.hypot(x / 6, y / 4)
    maps = np.stack([(radius < (n + 1) / 4) & (radius >= n / 4) for n in range(4)])
    tensor = torch.from_numpy(maps.astype(np.float32))
    return Atlas(tensor.repeat(96, 1, 1, 1), torch.tensor([[6.0, 4.0]]).repeat(96, 1))


@pytest.fixture
def small_rounds(monkeypatch: pytest.MonkeyPatch):
    """Shorter statistics and validation, so that a whole training takes seconds."""
    monkeypatch.setattr(training, "STATISTICS_BATCHES", 2)
    monkeypatch.setattr(training, "BATCH_SLICES", 4)
    monkeypatch.setattr(validation, "N_BATCHES", 2)


def test_the_loss_is_least_where_probability_equals_area_fraction():
    target = torch.full((1, 9, 4, 4), 0.4 / 8)
    target[:, 0] = 0.6
    exact = target.log().requires_grad_()
    loss = soft_target_loss(exact, target)
    (slope,) = torch.autograd.grad(loss, exact)
    assert slope.abs().max() < 1e-5
    assert soft_target_loss(exact + torch.randn(1, 9, 4, 4), target) > loss


@pytest.mark.usefixtures("small_rounds")
def test_twenty_steps_reduce_the_loss(toy_atlas: Atlas):
    torch.manual_seed(0)
    network = ScsNet().train()
    optimiser = torch.optim.AdamW(network.parameters())
    batches = islice(training._batches(toy_atlas, 0, CPU), 20)
    losses = [training._step(network, optimiser, *batch, rate=2e-3) for batch in batches]
    assert np.mean(losses[-4:]) < 0.6 * np.mean(losses[:2])


@pytest.mark.usefixtures("small_rounds")
def test_training_twice_with_one_seed_gives_the_same_network(toy_atlas: Atlas, tmp_path: Path):
    for name in ("first", "second"):
        train(toy_atlas, tmp_path / f"{name}.pt", Budget(2, 0), 3, CPU, "test")
    first, second = (read_record(tmp_path / f"{n}.pt") for n in ("first", "second"))
    assert first["validation"] == second["validation"]
    assert first["steps"] == 2
    states = [load_network("cpu", tmp_path / f"{n}.pt").state_dict() for n in ("first", "second")]
    for one, other in zip(states[0].values(), states[1].values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.usefixtures("small_rounds")
def test_a_training_goes_on_from_the_weights_it_is_given(toy_atlas: Atlas, tmp_path: Path):
    torch.manual_seed(7)
    start = ScsNet()
    before = {name: value.clone() for name, value in start.named_parameters()}
    after = train(toy_atlas, tmp_path / "w.pt", Budget(1, 0), 3, CPU, "test", start)
    for name, value in after.named_parameters():
        assert torch.allclose(value, before[name], atol=2e-3)


@pytest.mark.parametrize("highest", [training.LEARNING_RATE, training.FINE_TUNING_RATE])
def test_the_rate_rises_falls_and_ends_at_its_smallest(highest):
    rates = [training._learning_rate(progress, highest) for progress in (0, 0.04, 0.5, 1, 1.2)]
    assert rates[1] == pytest.approx(highest, rel=0.01)
    assert rates[0] < rates[2] < rates[1]
    assert rates[3] == rates[4] == pytest.approx(training.FINAL_LEARNING_RATE)


def test_a_budget_in_minutes_follows_the_clock():
    budget = Budget(None, minutes=2, started=time.monotonic() - 60)
    assert math.isclose(budget.progress(done=10_000), 0.5, rel_tol=0.01)


@pytest.mark.parametrize("length", [("--minutes", "0"), ("--iterations", "-3")])
def test_a_training_of_no_length_ends_with_the_usage_code(length, tmp_path: Path, capsys):
    assert main(["--atlas", str(tmp_path), "--out", str(tmp_path / "w.pt"), *length]) == 2
    assert "above 0" in capsys.readouterr().err


def test_a_missing_atlas_ends_with_the_usage_code(tmp_path: Path, capsys):
    assert main(["--atlas", str(tmp_path), "--out", str(tmp_path / "w.pt")]) == 2
    assert "PAM50" in capsys.readouterr().err


def test_standardising_ignores_gain_offset_and_padding():
    torch.manual_seed(0)
    image = torch.rand(1, 32, 32)
    inside = torch.ones(1, 32, 32, dtype=torch.bool)
    plain = standardise(image, inside)
    torch.testing.assert_close(standardise(100 * image - 40, inside), plain, atol=1e-4, rtol=0)
    padded = standardise(
        torch.nn.functional.pad(image, (8, 8, 8, 8), value=7.0),
        torch.nn.functional.pad(inside, (8, 8, 8, 8), value=False),
    )
    torch.testing.assert_close(padded[:, 8:-8, 8:-8], plain)
    assert padded[:, :8].abs().max() == 0


@pytest.mark.parametrize("value", [0.0, 1e-3, 5.0, -1e6])
def test_a_constant_slice_becomes_zero(value: float):
    image = torch.full((1, 16, 16), value)
    assert standardise(image, torch.ones(1, 16, 16, dtype=torch.bool)).abs().max() == 0
