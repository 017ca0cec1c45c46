"""Short trainings that compare networks or inputs: one row each, finished rows are not repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from scsnet_bids.derivatives import read_table, write_table
from scsnet_bids.training.settings import OptimiserSettings, ScheduleSettings
from scsnet_bids.training.trainer import Trainer

STATISTICS_BATCHES = 20

Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""Draw (n, c, 96, 96) slices and their (n, 9, 96, 96) area fractions."""


@dataclass(frozen=True)
class Trials:
    """A table of trials that grows in a file.

    Attributes
    ----------
    path : TSV file; need not exist yet
    """

    path: Path

    @property
    def table(self) -> pd.DataFrame:
        """All rows so far."""
        return read_table(self.path) if self.path.exists() else pd.DataFrame()

    def rows(self, **key: object) -> pd.DataFrame:
        """Find the rows of one trial."""
        table = self.table
        if table.empty:
            return table
        found = pd.Series(True, index=table.index)
        for name, value in key.items():
            found &= table[name] == value
        return table[found]

    def add(self, *rows: Mapping[str, object]) -> None:
        """Append rows, and keep the file whole."""
        write_table(self.path, pd.concat([self.table, pd.DataFrame(rows)], ignore_index=True))


def clock(device: torch.device) -> Callable[[], float]:
    """Choose a clock in s: processor time on a CPU, whatever else it does; the wall's on a GPU."""
    return time.process_time if device.type == "cpu" else time.perf_counter


def train_briefly(network: nn.Module, draw: Draw, iterations: int, seed: int) -> tuple[Any, float]:
    """Train a network as the shipped one is trained, for a number of steps.

    Parameters
    ----------
    network : fresh, on the device to train on
    draw : source of slices on that device
    iterations : steps of 16 slices
    seed : of the slices

    Returns
    -------
    the averaged network in evaluation mode, and the seconds (see :func:`clock`) that the network,
    not the drawing, took per step
    """
    schedule = ScheduleSettings(iterations=iterations)
    optimiser = OptimiserSettings(statistics_batches=STATISTICS_BATCHES)
    device = next(network.parameters()).device
    trainer = Trainer(network, optimiser)
    generator = torch.Generator(device).manual_seed(seed)
    now, spent_s = clock(device), 0.0
    for step in range(1, iterations + 1):
        images, target = draw(schedule.batch_slices, generator)
        rate = schedule.rate(schedule.progress(step - 1, 0), fine_tuning=False)
        started = now()
        trainer.improve(images, target, rate, step)
        spent_s += now() - started
    fresh = (draw(schedule.batch_slices, generator)[0] for _ in range(optimiser.statistics_batches))
    return trainer.finish(fresh), spent_s / iterations
