"""Where a training is, and how it goes on after a stop."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from scsnet_bids.errors import UsageError
from scsnet_bids.files import written_whole
from scsnet_bids.setting_values import read_toml, settings_to_toml
from scsnet_bids.training.settings import TrainingSettings


@dataclass
class TrainingState:
    """Where a training is.

    Attributes
    ----------
    step : steps done
    elapsed_s : seconds of training so far
    loss : running mean of the loss; nan before the first step
    curve : rows of the table of progress
    """

    step: int = 0
    elapsed_s: float = 0.0
    loss: float = math.nan
    curve: list[dict[str, float]] = field(default_factory=list)


class Restorable(Protocol):
    """What has a state of tensors and plain numbers, and goes back to it."""

    def state(self) -> dict[str, Any]:
        """Everything that :meth:`restore` needs."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""


def curve_path(out: Path) -> Path:
    """Name the table of progress that belongs to weights."""
    return out.with_name(f"{out.stem}_curve.tsv")


def state_path(out: Path) -> Path:
    """Name the state that belongs to weights."""
    return out.with_name(f"{out.stem}_state.pt")


def save_state(
    path: Path,
    settings: TrainingSettings,
    trainer: Restorable,
    generator: torch.Generator,
    state: TrainingState,
) -> None:
    """Write all that is needed to go on, whole or not at all.

    Parameters
    ----------
    path : file to write
    settings : of the training
    trainer : network, average and optimiser
    generator : of the slices
    state : where the training is
    """
    content = {
        "settings": settings_to_toml(settings),
        "device": generator.device.type,
        "trainer": trainer.state(),
        "generator": generator.get_state(),
        "state": {f.name: getattr(state, f.name) for f in fields(state)},
    }
    with written_whole(path) as partial:
        torch.save(content, partial)


def restore_state(
    path: Path, settings: TrainingSettings, trainer: Restorable, generator: torch.Generator
) -> TrainingState:
    """Bring a training back to where its state says it was.

    Parameters
    ----------
    path : file that :func:`save_state` wrote
    settings : those the training began with; threads and number of the GPU may differ
    trainer, generator : are brought to that state

    Returns
    -------
    TrainingState

    Raises
    ------
    UsageError
        If the file is damaged, or belongs to a training with other settings or on another kind
        of device.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        began_with = read_toml(content["settings"], TrainingSettings())
        if replace(began_with, computing=settings.computing) != settings:
            raise UsageError(
                f"A training goes on with the settings it began with: {path} has others. Give "
                f"--config-file {path.name.replace('_state.pt', '.toml')}, or leave out --resume "
                "to begin again."
            )
        if content["device"] != generator.device.type:
            raise UsageError(
                f"A training goes on where it began: {path} was written on {content['device']}, "
                f"this is {generator.device.type}. Give --device {content['device']}, or leave out "
                "--resume to begin again."
            )
        trainer.restore(content["trainer"])
        generator.set_state(content["generator"])
        return TrainingState(**content["state"])
    except (RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise UsageError(
            f"The state of a training must be whole: {path} cannot be used ({error}). Leave out "
            "--resume to begin again."
        ) from error
