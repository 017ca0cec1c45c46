"""Every setting of a training, once, with its default, its unit and what it means.

The parts are declared as those of the app are (``scsnet_bids.settings``), and go to TOML and back
by the same functions. The file that is written beside the weights repeats the training.

>>> from scsnet_bids.setting_values import read_toml, settings_to_toml
>>> read_toml(settings_to_toml(TrainingSettings()), TrainingSettings()) == TrainingSettings()
True
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from scsnet_bids.errors import UsageError
from scsnet_bids.settings import B0, INPUTS, setting


@dataclass(frozen=True)
class DataSettings:
    """What is learned from, and what is held out. A path is empty where there is no such data."""

    input: str = setting(
        B0, "1", "What the network sees: B0, or the mean DWI as well.", "--input", INPUTS
    )
    atlas: str = setting(
        "",
        "1",
        "PAM50 folder (atlas/ and template/), for synthetic slices.",
        "--atlas",
        is_path=True,
    )
    shapes: str = setting(
        "",
        "1",
        "Folder of manual cord and gray-matter masks: more anatomies.",
        "--shapes",
        is_path=True,
    )
    labels: str = setting(
        "",
        "1",
        "BIDS derivatives with manual labels (dseg) or cord masks.",
        "--labels",
        is_path=True,
    )
    images: str = setting(
        "",
        "1",
        "BIDS folder with the images that were labelled; empty: that of labels.",
        "--images",
        is_path=True,
    )
    participants: tuple[str, ...] = setting(
        (), "1", "Labelled participants to use; empty takes all.", "--participant-label"
    )
    held_out: tuple[str, ...] = setting(
        (),
        "1",
        "Participants to validate on; a start of labels names all that match.",
        "--held-out",
    )
    held_out_share: float = setting(
        0.2, "1", "Labelled participants to hold out, if held_out names none.", "--held-out-share"
    )
    manual_share: float = setting(
        0.5, "1", "Share of labelled slices in a batch; the others are synthetic.", "--manual-share"
    )
    start: str = setting(
        "",
        "1",
        "Weights to go on from: a file, or shipped; empty starts afresh.",
        "--start",
        is_path=True,
    )

    def __post_init__(self) -> None:
        for name in ("held_out_share", "manual_share"):
            if getattr(self, name) > 1:
                raise UsageError(f"{name} must lie between 0 and 1: found {getattr(self, name):g}.")
        if self.labels and self.input != B0:
            raise UsageError(
                f"Labelled slices hold one image: --labels cannot teach --input {self.input}. "
                "Leave one of the two out."
            )


@dataclass(frozen=True)
class ScheduleSettings:
    """How long, and how fast."""

    minutes: float = setting(70.0, "min", "Length by the clock, if iterations is 0.", "--minutes")
    iterations: int = setting(0, "1", "Length in steps; 0 goes by the clock.", "--iterations")
    batch_slices: int = setting(16, "1", "Slices of a step.")
    learning_rate: float = setting(3e-3, "1", "Highest rate of a training that starts afresh.")
    fine_tuning_rate: float = setting(
        1e-3, "1", "Highest rate of a training that goes on from weights.", "--fine-tuning-rate"
    )
    final_rate: float = setting(2e-5, "1", "Rate at the end.")
    warm_up_share: float = setting(0.04, "1", "Share of the length in which the rate rises.")
    snapshot_iterations: int = setting(
        1000, "1", "Weights, state and validation are written after this many steps."
    )
    seed: int = setting(0, "1", "Of all random numbers.", "--seed")

    def __post_init__(self) -> None:
        if self.iterations < 0 or (self.iterations == 0 and self.minutes <= 0):
            raise UsageError(
                "A training must last: --minutes or --iterations must be above 0, found "
                f"{self.minutes:g} and {self.iterations}."
            )
        if min(self.batch_slices, self.snapshot_iterations) < 1 or self.seed < 0:
            raise UsageError(
                "batch_slices and snapshot_iterations must be 1 or more and the seed 0 or more: "
                f"found {self.batch_slices}, {self.snapshot_iterations} and {self.seed}."
            )

    def progress(self, steps: int, elapsed_s: float) -> float:
        """Tell what share of the length is over after some steps and seconds; 1 means stop."""
        if self.iterations:
            return steps / self.iterations
        return elapsed_s / (60 * self.minutes)

    def rate(self, progress: float, *, fine_tuning: bool) -> float:
        """Warm up, then follow a cosine down to the final rate."""
        highest = self.fine_tuning_rate if fine_tuning else self.learning_rate
        if progress < self.warm_up_share:
            return highest * (0.05 + 0.95 * progress / self.warm_up_share)
        fall = (1 + math.cos(math.pi * min(1, progress))) / 2
        return self.final_rate + (highest - self.final_rate) * fall


@dataclass(frozen=True)
class OptimiserSettings:
    """AdamW, and the running average of the weights that is kept."""

    weight_decay: float = setting(1e-3, "1", "Weight decay of AdamW.")
    largest_gradient: float = setting(1.0, "1", "Longer gradients are shortened to this length.")
    averaging: float = setting(0.998, "1", "How much of the average stays in each step.")
    start_share: float = setting(
        0.0,
        "1",
        "Share of the starting weights in those that are kept.",
        "--start-share",
    )
    statistics_batches: int = setting(
        60, "1", "Batches from which the kept network takes its BatchNorm statistics."
    )

    def __post_init__(self) -> None:
        if self.statistics_batches < 1:
            raise UsageError(
                f"statistics_batches must be 1 or more: found {self.statistics_batches}."
            )
        if not 0 <= self.start_share < 1:
            raise UsageError(
                f"start_share must be at least 0 and less than 1: found {self.start_share:g}."
            )


@dataclass(frozen=True)
class ComputingSettings:
    """Where it runs. Another device or number of threads changes the last digits."""

    device: str = setting("cpu", "1", "cpu, cuda, cuda:N, or auto.", "--device")
    threads: int = setting(1, "1", "Processor cores.", "--threads")

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise UsageError(f"threads must be 1 or more: found {self.threads}.")


@dataclass(frozen=True)
class TrainingSettings:
    """All settings of a training."""

    data: DataSettings = field(default_factory=DataSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    computing: ComputingSettings = field(default_factory=ComputingSettings)

    def __post_init__(self) -> None:
        if self.optimiser.start_share and not self.data.start:
            raise UsageError("A share of the starting weights needs some: give --start as well.")
