"""Train SCS-Net: the loop, one step, the averaged network that is kept, and going on after a stop.

Read from top to bottom. With a length in steps the seed fixes the result on a given machine; with a
length in minutes the learning rate follows the clock, and reaches its end when the time is over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

import scsnet_bids
from scsnet_bids.derivatives import write_table
from scsnet_bids.errors import UsageError
from scsnet_bids.files import write_text
from scsnet_bids.network.model import ScsNet, count_images, mirror
from scsnet_bids.network.weights import (
    choose_device,
    input_of,
    load_network,
    read_record,
    save_network,
    shipped_weights,
)
from scsnet_bids.setting_values import settings_to_toml
from scsnet_bids.training.losses import soft_target_loss
from scsnet_bids.training.manual import share_open_mass
from scsnet_bids.training.settings import OptimiserSettings, TrainingSettings
from scsnet_bids.training.sources import TrainingData, read_training_data
from scsnet_bids.training.state import (
    TrainingState,
    curve_path,
    restore_state,
    save_state,
    state_path,
)
from scsnet_bids.training.validation import validate, validate_manual

REPORT_EVERY = 50
"""Steps between two lines of progress."""

PACKAGE_LICENCE = (
    "The weights are Apache-2.0, as the package is. No file of the atlas ships with them; the "
    "copy of PAM50 that was used names a publication but no licence."
)
OWN_LICENCE = "For whoever trained these weights to decide."


class Trainer:
    """A network in training, its optimiser, and the running average that is kept."""

    def __init__(self, network: nn.Module, settings: OptimiserSettings) -> None:
        network = network.requires_grad_().train()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = deepcopy(self.network)
        self.start = deepcopy(self.network)
        self.settings = settings
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), weight_decay=settings.weight_decay
        )

    def improve(self, images: Tensor, target: Tensor, rate: float, step: int) -> float:
        """Improve the network on one batch, in every other step on its mirror image.

        Parameters
        ----------
        images : (n, c, rows, columns) standardised slices
        target : (n, 9, rows, columns) area fractions, see ``manual.ManualSlices``
        rate : learning rate
        step : number of this step, from 1

        Returns
        -------
        float, loss
        """
        if step % 2 == 0:
            images, target = mirror(images), mirror(target, axis_of_classes=1)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        logits = self.network(images.contiguous(memory_format=torch.channels_last))
        loss = soft_target_loss(logits, share_open_mass(logits, target))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.largest_gradient)
        self.optimiser.step()
        self._move_average(step)
        return loss.item()

    @torch.no_grad()
    def _move_average(self, step: int) -> None:
        """Let the averaged weights follow the network, quickly in the first steps."""
        keep = min(self.settings.averaging, step / (step + 10))
        pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
        for kept, current in pairs:
            kept.lerp_(current, 1 - keep)

    @torch.no_grad()
    def finish(self, batches: Iterable[Tensor]) -> Any:
        """Copy the averaged network, its BatchNorm statistics from fresh batches of slices.

        Weights half way between the start and the end of a fine-tuning keep more of what the start
        could do than they lose of what was learned since (doi:10.1109/CVPR52688.2022.00780).
        """
        kept = deepcopy(self.average).train()
        for weight, before in zip(kept.parameters(), self.start.parameters(), strict=True):
            weight.lerp_(before, self.settings.start_share)
        for layer in kept.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.momentum = None  # a plain mean over all batches
        for images in batches:
            kept(images)
        return kept.eval()

    def state(self) -> dict[str, Any]:
        """Everything that :meth:`restore` needs."""
        return {name: getattr(self, name).state_dict() for name in _PARTS}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        for name in _PARTS:
            getattr(self, name).load_state_dict(state[name])


_PARTS = ("network", "average", "optimiser")
FIRST_WEIGHTS = "stem.0.weight"
"""Those of the layer that sees the images."""


def train(
    settings: TrainingSettings, out: Path, command: str, *, resume: bool = False
) -> Iterator[TrainingState]:
    """Train a network, and write weights, state and progress at every snapshot and at the end.

    Parameters
    ----------
    settings : all of them; also written beside the weights as TOML
    out : weights to write, ``.pt``; the other files have the same name with ``.json``, ``.toml``,
        ``_curve.tsv`` and ``_state.pt``
    command : command line to record
    resume : go on from the state beside ``out``, if there is one

    Yields
    ------
    TrainingState, every 50 steps and at every snapshot, and before the first step of a training
    that goes on from weights; whoever stops asking, stops the training

    Raises
    ------
    UsageError
        If the data or the state do not fit the settings.
    WeightsError
        If the weights to start from cannot be used.
    """
    torch.set_num_threads(settings.computing.threads)
    device = choose_device(settings.computing.device)
    seen, held_out, described = read_training_data(settings.data, settings.schedule.seed)
    seen, held_out = seen.to(device), held_out.to(device)
    trainer = Trainer(first_network(settings).to(device), settings.optimiser)
    generator = torch.Generator(device).manual_seed(settings.schedule.seed)
    state = TrainingState()
    if resume and state_path(out).exists():
        state = restore_state(state_path(out), settings, trainer, generator)
    if settings.data.start and not state.curve:
        before = _validate(deepcopy(trainer.network).eval(), held_out)
        state.curve.append({**_row(state), **before})
        yield state
    write_text(out.with_suffix(".toml"), settings_to_toml(settings))
    record = _begin_record(settings, command, described)
    for snapshot in _steps(settings, seen, trainer, generator, state):
        if snapshot:
            kept = trainer.finish(_statistics_batches(settings, seen, device))
            scores = _validate(kept, held_out)
            state.curve.append({**_row(state), **scores})
            facts = {"steps": state.step, "minutes": round(state.elapsed_s / 60, 1)}
            save_network(kept, out, record | facts | {"validation": scores})
            write_table(curve_path(out), pd.DataFrame(state.curve))
            save_state(state_path(out), settings, trainer, generator, state)
        yield state


def first_network(settings: TrainingSettings) -> ScsNet:
    """Make a new network, or copy the one to start from; an image new to it has no say yet.

    Parameters
    ----------
    settings : of the training

    Returns
    -------
    ScsNet on the CPU

    Raises
    ------
    UsageError
        If the network to start from sees more than this one is to see.
    WeightsError
        If its weights cannot be used.
    """
    torch.manual_seed(settings.schedule.seed)
    network = ScsNet(count_images(settings.data.input))
    if not settings.data.start:
        return network
    path = _start_path(settings)
    weights = load_network("cpu", path, input_of(path)).state_dict()
    seen = weights[FIRST_WEIGHTS]
    n_new = network.n_images - seen.shape[1]
    if n_new < 0:
        raise UsageError(
            f"A training can go on from a network that sees no more than it: that of {path} sees "
            f"{input_of(path)}. Give --input {input_of(path)}."
        )
    unseen = torch.zeros(len(seen), n_new, *seen.shape[2:])
    weights[FIRST_WEIGHTS] = torch.cat([seen, unseen], dim=1)
    network.load_state_dict(weights)
    return network


def _start_path(settings: TrainingSettings) -> Path:
    """Find the weights to start from by their setting."""
    start = settings.data.start
    return shipped_weights(settings.data.input) if start == "shipped" else Path(start).expanduser()


def _steps(
    settings: TrainingSettings,
    data: TrainingData,
    trainer: Trainer,
    generator: torch.Generator,
    state: TrainingState,
) -> Iterator[bool]:
    """Take the steps that remain; yield at every report, and whether it is a snapshot too."""
    schedule, started = settings.schedule, time.monotonic() - state.elapsed_s
    while (progress := schedule.progress(state.step, state.elapsed_s)) < 1:
        images, target = data.draw(schedule.batch_slices, generator)
        state.step += 1
        rate = schedule.rate(progress, fine_tuning=bool(settings.data.start))
        loss = trainer.improve(images, target, rate, state.step)
        state.loss = loss if math.isnan(state.loss) else 0.98 * state.loss + 0.02 * loss
        state.elapsed_s = time.monotonic() - started
        finished = schedule.progress(state.step, state.elapsed_s) >= 1
        snapshot = finished or state.step % schedule.snapshot_iterations == 0
        if state.step % REPORT_EVERY == 0 and not snapshot:
            state.curve.append(_row(state))
        if snapshot or state.step % REPORT_EVERY == 0:
            yield snapshot


def _row(state: TrainingState) -> dict[str, float]:
    """One row of the table of progress."""
    return {"step": state.step, "seconds": round(state.elapsed_s, 1), "loss": state.loss}


def _statistics_batches(
    settings: TrainingSettings, data: TrainingData, device: torch.device
) -> Iterator[Tensor]:
    """Draw the slices for the BatchNorm statistics, the same at every snapshot."""
    generator = torch.Generator(device).manual_seed(settings.schedule.seed + 1)
    for _ in range(settings.optimiser.statistics_batches):
        yield data.draw(settings.schedule.batch_slices, generator)[0]


def _validate(network: nn.Module, held_out: TrainingData) -> dict[str, float]:
    """Score a network on everything that is held out."""
    scores: dict[str, float] = {}
    if held_out.atlas is not None:
        scores |= validate(network, held_out.atlas, held_out.n_images)
    if held_out.manual is not None:
        scores |= validate_manual(network, held_out.manual)
    return scores


def _begin_record(
    settings: TrainingSettings, command: str, described: dict[str, Any]
) -> dict[str, Any]:
    """Write down what is known before the training; what the weights were before goes on."""
    start = settings.data.start
    before = read_record(_start_path(settings)) if start else {"licence": PACKAGE_LICENCE}
    own = settings.data.labels or before.get("licence") != PACKAGE_LICENCE
    return {
        "name": "SCS-Net",
        "version": scsnet_bids.__version__,
        "licence": OWN_LICENCE if own else PACKAGE_LICENCE,
        "input": settings.data.input,
        **described,
        "command": " && ".join(filter(None, [before.get("command"), command])),
        "data": " Then: ".join(filter(None, [before.get("data"), described["data"]])),
    }
