"""Training: the loss, the loop, what is kept, going on after a stop, the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scsnet_bids.derivatives import read_table
from scsnet_bids.errors import UsageError
from scsnet_bids.files import write_text
from scsnet_bids.images import Image, write_image
from scsnet_bids.network.model import ScsNet, standardise
from scsnet_bids.network.weights import load_network, read_record, save_network
from scsnet_bids.phantom import PhantomSettings, simulate
from scsnet_bids.regions import label_shares
from scsnet_bids.setting_values import read_toml, settings_to_toml
from scsnet_bids.training import sources, validation
from scsnet_bids.training.atlas import Atlas
from scsnet_bids.training.losses import soft_target_loss
from scsnet_bids.training.settings import (
    DataSettings,
    OptimiserSettings,
    ScheduleSettings,
    TrainingSettings,
)
from scsnet_bids.training.sources import TrainingData
from scsnet_bids.training.state import curve_path
from scsnet_bids.training.trainer import Trainer, first_network, train
from scsnet_bids.training_cli import main

CPU = torch.device("cpu")
PHANTOM = PhantomSettings(
    directions=6, b0_volumes=1, slices=2, matrix=(48, 40), motion_mm=0, b0_to_dwi_mm=0
)
TINY = TrainingSettings(
    DataSettings(labels="labels"),
    ScheduleSettings(iterations=4, batch_slices=2, snapshot_iterations=2, seed=3),
    OptimiserSettings(statistics_batches=1),
)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three phantoms with their true regions drawn on the b=0 image."""
    folder = tmp_path_factory.mktemp("labelled")
    for number in range(1, 4):
        phantom = simulate(PHANTOM, number)
        stem = folder / f"sub-{number:02d}" / "dwi" / f"sub-{number:02d}"
        stem.parent.mkdir(parents=True)
        b0 = phantom.series[..., phantom.gradients.bvals == 0].mean(axis=-1)
        write_image(stem.with_name(f"{stem.name}_desc-b0_dwiref.nii.gz"), Image(b0, phantom.grid))
        labels = Image(label_shares(phantom.region_share), phantom.grid)
        write_image(stem.with_name(f"{stem.name}_seg-manual_dseg.nii.gz"), labels)
    return folder


def settings_for(labelled: Path, **data: object) -> TrainingSettings:
    return replace(TINY, data=DataSettings(labels=str(labelled), **data))  # type: ignore[arg-type]


def finished(settings: TrainingSettings, out: Path, *, resume: bool = False) -> Path:
    """Train to the end."""
    for _ in train(settings, out, "test", resume=resume):
        pass
    return out


def assert_equal_weights(first: Path, second: Path) -> None:
    states = [load_network("cpu", path).state_dict() for path in (first, second)]
    for one, other in zip(states[0].values(), states[1].values(), strict=True):
        assert torch.equal(one, other)


def test_the_loss_is_least_where_probability_equals_area_fraction():
    target = torch.full((1, 9, 4, 4), 0.4 / 8)
    target[:, 0] = 0.6
    exact = target.log().requires_grad_()
    loss = soft_target_loss(exact, target)
    (slope,) = torch.autograd.grad(loss, exact)
    assert slope.abs().max() < 1e-5
    assert soft_target_loss(exact + torch.randn(1, 9, 4, 4), target) > loss


def test_twenty_steps_reduce_the_loss(toy_atlas: Atlas):
    torch.manual_seed(0)
    trainer = Trainer(ScsNet(), OptimiserSettings())
    data, generator = TrainingData(toy_atlas), torch.Generator().manual_seed(0)
    losses = [
        trainer.improve(*data.draw(4, generator), rate=2e-3, step=step) for step in range(1, 21)
    ]
    assert np.mean(losses[-4:]) < 0.6 * np.mean(losses[:2])


def test_a_batch_holds_the_stated_share_of_labelled_slices(
    toy_atlas: Atlas, labelled: Path, monkeypatch: pytest.MonkeyPatch
):
    _, manual = sources._read_manual(settings_for(labelled).data, ["01"], 0)
    drawn = []
    for name in ("draw_batch", "draw_manual"):
        plain = getattr(sources, name)
        monkeypatch.setattr(
            sources, name, lambda x, n, g, name=name, plain=plain: drawn.append(n) or plain(x, n, g)
        )
    images, target = TrainingData(toy_atlas, manual, 0.25).draw(8, torch.Generator())
    assert drawn == [6, 2]
    assert images.shape == (8, 1, 96, 96)
    assert target.shape == (8, 9, 96, 96)


def test_training_twice_with_one_seed_gives_the_same_network(labelled: Path, tmp_path: Path):
    settings = settings_for(labelled)
    first, second = (finished(settings, tmp_path / f"{name}.pt") for name in ("first", "second"))
    assert_equal_weights(first, second)
    assert read_record(first)["sha256"] == read_record(second)["sha256"]
    assert read_record(first)["steps"] == 4
    other = replace(settings, schedule=replace(settings.schedule, seed=4))
    assert read_record(finished(other, tmp_path / "o.pt"))["sha256"] != read_record(first)["sha256"]


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(labelled: Path, tmp_path: Path):
    settings, out = settings_for(labelled), tmp_path / "stopped.pt"
    states = train(settings, out, "test")
    assert next(states).step == 2
    states.close()
    whole = finished(settings, tmp_path / "whole.pt")
    finished(settings, out, resume=True)
    assert_equal_weights(out, whole)
    columns = ["step", "loss", "manual_cord_dice"]
    rows, expected = (read_table(curve_path(path))[columns] for path in (out, whole))
    assert rows.equals(expected)
    assert rows["step"].tolist() == [2, 4]


def test_a_training_that_is_over_is_not_trained_again(labelled: Path, tmp_path: Path):
    out = finished(settings_for(labelled), tmp_path / "w.pt")
    assert list(train(settings_for(labelled), out, "test", resume=True)) == []


def test_a_training_goes_on_only_with_the_settings_it_began_with(labelled: Path, tmp_path: Path):
    settings, out = settings_for(labelled), tmp_path / "w.pt"
    next(train(settings, out, "test"))
    other = replace(settings, schedule=replace(settings.schedule, iterations=9))
    with pytest.raises(UsageError, match=r"settings it began with.*w\.toml"):
        next(train(other, out, "test", resume=True))


def test_a_training_goes_on_only_on_the_kind_of_device_it_began_on(labelled: Path, tmp_path: Path):
    next(train(settings_for(labelled), tmp_path / "w.pt", "test"))
    state = torch.load(tmp_path / "w_state.pt", weights_only=True)
    torch.save(state | {"device": "cuda"}, tmp_path / "w_state.pt")
    with pytest.raises(UsageError, match="written on cuda, this is cpu"):
        next(train(settings_for(labelled), tmp_path / "w.pt", "test", resume=True))


def test_a_damaged_state_is_refused(labelled: Path, tmp_path: Path):
    (tmp_path / "w_state.pt").write_bytes(b"no state")
    with pytest.raises(UsageError, match="state of a training must be whole"):
        next(train(settings_for(labelled), tmp_path / "w.pt", "test", resume=True))


def test_the_written_settings_repeat_the_training(labelled: Path, tmp_path: Path):
    first = finished(settings_for(labelled, held_out=("02",)), tmp_path / "first.pt")
    words = ["--config-file", str(first.with_suffix(".toml")), "--out", str(tmp_path / "second.pt")]
    assert main(words) == 0
    assert_equal_weights(first, tmp_path / "second.pt")


def test_a_training_goes_on_from_the_weights_it_is_given(labelled: Path, tmp_path: Path):
    torch.manual_seed(7)
    start = ScsNet()
    save_network(start, tmp_path / "start.pt", {"command": "scsnet-bids-train --seed 1"})
    settings = settings_for(labelled, start=str(tmp_path / "start.pt"))
    settings = replace(settings, schedule=replace(settings.schedule, iterations=1))
    after = finished(settings, tmp_path / "w.pt")
    before = dict(start.named_parameters())
    for name, value in load_network("cpu", after).named_parameters():
        assert torch.allclose(value, before[name], atol=2e-3)
    assert read_record(after)["command"] == "scsnet-bids-train --seed 1 && test"
    scores = read_table(curve_path(after))
    assert scores["step"].tolist() == [0, 1]
    assert scores["manual_cord_dice"].notna().all()


def test_an_image_that_is_new_to_a_network_has_no_say_at_the_start(
    toy_atlas: Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sources, "read_atlas", lambda _: toy_atlas)
    monkeypatch.setattr(validation, "N_BATCHES", 1)
    save_network(ScsNet(), tmp_path / "b0.pt", {"input": "b0"})
    data = DataSettings(atlas="toy", start=str(tmp_path / "b0.pt"), input="b0+dwi")
    settings = replace(TINY, data=data)
    first = first_network(settings)
    before, slices = load_network("cpu", tmp_path / "b0.pt"), torch.randn(2, 2, 96, 96)
    torch.testing.assert_close(first.eval()(slices), before(slices[:, :1]))
    after = finished(settings, tmp_path / "both.pt")
    assert read_record(after)["input"] == "b0+dwi"
    assert load_network("cpu", after, "b0+dwi").n_images == 2
    with pytest.raises(UsageError, match=r"sees b0\+dwi. Give --input b0\+dwi"):
        finished(replace(TINY, data=DataSettings(atlas="toy", start=str(after))), tmp_path / "w.pt")


def test_labelled_slices_cannot_teach_two_images():
    with pytest.raises(UsageError, match="hold one image"):
        DataSettings(labels="labels", input="b0+dwi")


def test_a_share_of_the_starting_weights_can_be_kept(labelled: Path, tmp_path: Path):
    torch.manual_seed(7)
    start = ScsNet()
    save_network(start, tmp_path / "start.pt", {})
    ends = []
    for share in (0.0, 0.25):
        settings = settings_for(labelled, start=str(tmp_path / "start.pt"))
        optimiser = replace(settings.optimiser, start_share=share)
        out = finished(replace(settings, optimiser=optimiser), tmp_path / f"{share}.pt")
        ends.append(dict(load_network("cpu", out).named_parameters()))
    for name, before in start.named_parameters():
        torch.testing.assert_close(ends[1][name], 0.75 * ends[0][name] + 0.25 * before)
    assert any(not torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_the_record_says_what_was_learned_from_and_who_was_held_out(labelled: Path, tmp_path: Path):
    settings = settings_for(labelled, held_out=("02",))
    record = read_record(finished(settings, tmp_path / "w.pt"))
    assert record["data"] == "4 slices of 2 participants with manual labels."
    assert record["held_out_participants"] == ["02"]
    assert "Apache" not in record["licence"]
    assert set(record["validation"]) >= {"manual_cord_dice", "manual_dice_left_gray_matter"}


def test_weights_that_go_on_from_somebodys_own_say_so(
    toy_atlas: Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sources, "read_atlas", lambda _: toy_atlas)
    monkeypatch.setattr(validation, "N_BATCHES", 1)
    own = {"command": "before", "data": "4 slices of 2 participants.", "licence": "Ask."}
    save_network(ScsNet(), tmp_path / "own.pt", own)
    settings = replace(TINY, data=DataSettings(atlas="toy", start=str(tmp_path / "own.pt")))
    settings = replace(settings, schedule=replace(settings.schedule, iterations=1))
    record = read_record(finished(settings, tmp_path / "w.pt"))
    assert record["data"].startswith("4 slices of 2 participants. Then: Synthetic slices")
    assert "Apache" not in record["licence"]
    ours = read_record(
        finished(replace(settings, data=DataSettings(atlas="toy")), tmp_path / "o.pt")
    )
    assert ours["data"].startswith("Synthetic slices")
    assert "Apache" in ours["licence"]


@pytest.mark.parametrize("highest", ["learning_rate", "fine_tuning_rate"])
def test_the_rate_rises_falls_and_ends_at_its_smallest(highest: str):
    schedule = ScheduleSettings()
    top, fine_tuning = getattr(schedule, highest), highest == "fine_tuning_rate"
    rates = [schedule.rate(x, fine_tuning=fine_tuning) for x in (0, 0.04, 0.5, 1, 1.2)]
    assert rates[1] == pytest.approx(top, rel=0.01)
    assert rates[0] < rates[2] < rates[1]
    assert rates[3] == rates[4] == pytest.approx(schedule.final_rate)


def test_a_length_in_minutes_follows_the_clock_and_one_in_steps_the_steps():
    assert ScheduleSettings(minutes=2).progress(10_000, elapsed_s=60) == pytest.approx(0.5)
    assert ScheduleSettings(iterations=40).progress(10, elapsed_s=1e6) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--minutes", "0"], "above 0"),
        (["--iterations", "-3"], "above 0"),
        (["--minutes", "3", "--iterations", "3"], "one length"),
        (["--iterations", "3"], "needs data: give --atlas"),
        (["--atlas", "nowhere"], "PAM50"),
        (["--labels", "nowhere"], "none in nowhere"),
        (["--labels", "nowhere", "--manual-share", "1.5"], "between 0 and 1"),
        (["--labels", "nowhere", "--threads", "0"], "threads must be 1 or more"),
        (["--atlas", "nowhere", "--device", "quantum"], "quantum cannot be used"),
        (["--atlas", "nowhere", "--held-out", "09"], "no sub-09"),
        (["--labels", "nowhere", "--start-share", "0.5"], "give --start"),
        (["--labels", "nowhere", "--start", "w.pt", "--start-share", "1"], "less than 1"),
    ],
)
def test_what_cannot_be_trained_ends_with_the_usage_code(words, message, tmp_path: Path, capsys):
    assert main(["--out", str(tmp_path / "w.pt"), *words]) == 2
    assert message in capsys.readouterr().err


def test_an_option_wins_over_the_settings_file(tmp_path: Path, capsys):
    write_text(tmp_path / "s.toml", settings_to_toml(TINY))
    words = ["--config-file", str(tmp_path / "s.toml"), "--iterations", "-1"]
    assert main([*words, "--out", str(tmp_path / "w.pt")]) == 2
    assert "and -1" in capsys.readouterr().err


def test_the_command_draws_the_curves(labelled: Path, tmp_path: Path, capsys):
    settings = settings_for(labelled)
    write_text(tmp_path / "s.toml", settings_to_toml(settings))
    assert main(["--config-file", str(tmp_path / "s.toml"), "--out", str(tmp_path / "w.pt")]) == 0
    assert read_toml((tmp_path / "w.toml").read_text(), TrainingSettings()) == settings
    drawn = (tmp_path / "w_curve.svg").read_text()
    assert "Dice of the cord, labelled" in drawn
    assert "synthetic" not in drawn
    assert "step      4" in capsys.readouterr().out


def test_synthetic_and_labelled_slices_are_scored_apart(
    toy_atlas: Atlas, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sources, "read_atlas", lambda _: toy_atlas)
    monkeypatch.setattr(validation, "N_BATCHES", 1)
    settings = settings_for(labelled, atlas="toy")
    settings = replace(settings, schedule=replace(settings.schedule, iterations=1))
    record = read_record(finished(settings, tmp_path / "w.pt"))
    assert {"cord_dice", "false_cord", "manual_cord_dice"} <= record["validation"].keys()
    assert record["data"].startswith("Synthetic slices from the PAM50 atlas")


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
