"""Train SCS-Net on synthetic slices: ``scsnet-bids-train``.

Read from top to bottom: options, the loop, one step, the averaged network that is kept. With
``--iterations`` a seed fixes the result on a given machine; with ``--minutes`` the learning rate
follows the clock, and reaches its end when the time is over.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

import scsnet_bids
from scsnet_bids.errors import ScsnetError, UsageError
from scsnet_bids.network.augment import draw_batch, mirror
from scsnet_bids.network.dataset import Atlas, read_atlas
from scsnet_bids.network.losses import soft_target_loss
from scsnet_bids.network.model import ScsNet
from scsnet_bids.network.validation import validate
from scsnet_bids.network.weights import load_network, read_record, save_network

BATCH_SLICES = 16
LEARNING_RATE = 3e-3
FINE_TUNING_RATE = 1e-3
"""Peak rate of a training that starts from trained weights."""
FINAL_LEARNING_RATE = 2e-5
WARM_UP_SHARE = 0.04
WEIGHT_DECAY = 1e-3
LARGEST_GRADIENT = 1.0
AVERAGING = 0.998
STATISTICS_BATCHES = 60
SNAPSHOT_SECONDS = 600.0
PRINT_EVERY = 50

DATA = (
    "Synthetic slices from the PAM50 atlas and template of the spinal cord (De Leener et al., "
    "NeuroImage 2018, doi:10.1016/j.neuroimage.2017.10.041); no real image was used in training."
)
LICENCE = (
    "The weights are Apache-2.0, as the package is. No file of the atlas ships with them; the "
    "copy of PAM50 that was used names a publication but no licence."
)


@dataclass(frozen=True)
class Budget:
    """How long to train: a number of iterations, or minutes on the clock.

    Attributes
    ----------
    iterations : steps, or None to go by the clock
    minutes : minutes, used if ``iterations`` is None
    started : time of the start in s
    """

    iterations: int | None
    minutes: float
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        length = self.minutes if self.iterations is None else self.iterations
        if length <= 0:
            raise UsageError(
                "A training must last: --minutes and --iterations must be above 0, found "
                f"{self.minutes:g} and {self.iterations}."
            )

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def progress(self, done: int) -> float:
        """Tell what share of the budget is spent after some steps; 1 or more means stop."""
        if self.iterations is not None:
            return done / self.iterations
        return self.elapsed_s / (60 * self.minutes)


def main(arguments: list[str] | None = None) -> int:
    """Run the console script.

    Parameters
    ----------
    arguments : command line without the name of the program; default: that of the process

    Returns
    -------
    int, exit code
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        budget = Budget(options.iterations, options.minutes)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        atlas = read_atlas(options.atlas)
        start = deepcopy(load_network("cpu", options.start)) if options.start else None
        earlier = [read_record(options.start)["command"]] if options.start else []
    except ScsnetError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    command = " && ".join([*earlier, shlex.join(["scsnet-bids-train", *arguments])])
    device = torch.device(options.device)
    train(atlas, options.out, budget, options.seed, device, command, start)
    return 0


def _parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="scsnet-bids-train",
        description="Train SCS-Net on synthetic slices of the PAM50 atlas.",
    )
    parser.add_argument("--atlas", type=Path, required=True, help="PAM50 folder")
    parser.add_argument("--out", type=Path, required=True, help="weights to write (.pt)")
    parser.add_argument("--start", type=Path, help="go on from these weights (default: afresh)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=70.0, help="train this long (default 70)")
    length.add_argument("--iterations", type=int, help="train this many steps of 16 slices")
    parser.add_argument("--seed", type=int, default=0, help="random numbers (default 0)")
    parser.add_argument("--threads", type=int, default=1, help="processor cores (default 1)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:N")
    return parser


def train(
    atlas: Atlas,
    out: Path,
    budget: Budget,
    seed: int,
    device: torch.device,
    command: str,
    start: ScsNet | None = None,
) -> ScsNet:
    """Train a network; keep it with figures on held-out anatomy every ten minutes and at the end.

    Parameters
    ----------
    atlas : anatomy; every 8th block of 12 slices is held out
    out : weights to write
    budget : how long
    seed : of the random numbers
    device : where to train
    command : command line to record
    start : network to go on from; None starts afresh

    Returns
    -------
    ScsNet, the averaged network in evaluation mode
    """
    seen, held_out = (part.to(device) for part in atlas.split())
    torch.manual_seed(seed)
    network = (start or ScsNet()).requires_grad_().to(device).train()
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    highest_rate = FINE_TUNING_RATE if start else LEARNING_RATE
    average = deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), highest_rate, weight_decay=WEIGHT_DECAY)
    record: dict[str, object] = {"name": "SCS-Net", "version": scsnet_bids.__version__}
    record |= {"data": DATA, "licence": LICENCE, "command": command}
    next_snapshot_s, running = SNAPSHOT_SECONDS, math.nan
    for step, (images, target) in enumerate(_batches(seen, seed, device), start=1):
        rate = _learning_rate(budget.progress(step - 1), highest_rate)
        loss = _step(network, optimiser, images, target, rate)
        _move_average(average, network, step)
        running = loss if math.isnan(running) else 0.98 * running + 0.02 * loss
        finished = budget.progress(step) >= 1
        if step % PRINT_EVERY == 0:
            print(
                f"{budget.elapsed_s:6.0f} s  step {step:6d}  rate {rate:.1e}  loss {running:.4f}",
                flush=True,
            )
        if finished or budget.elapsed_s > next_snapshot_s:
            next_snapshot_s = budget.elapsed_s + SNAPSHOT_SECONDS
            record["steps"], record["minutes"] = step, round(budget.elapsed_s / 60, 1)
            kept = _finish(average, seen, seed, device)
            record["validation"] = validate(kept, held_out, device)
            save_network(kept, out, record)
            print(f"kept in {out}: {record['validation']}", flush=True)
        if finished:
            break
    return kept


def _batches(atlas: Atlas, seed: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw fresh slices for ever, every other batch mirrored."""
    generator = torch.Generator(device).manual_seed(seed)
    while True:
        yield draw_batch(atlas, BATCH_SLICES, generator)
        images, target = draw_batch(atlas, BATCH_SLICES, generator)
        yield mirror(images), mirror(target, axis_of_classes=1)


def _learning_rate(progress: float, highest: float) -> float:
    """Warm up, then follow a cosine down to the final rate."""
    if progress < WARM_UP_SHARE:
        return highest * (0.05 + 0.95 * progress / WARM_UP_SHARE)
    fall = (1 + math.cos(math.pi * min(1, progress))) / 2
    return FINAL_LEARNING_RATE + (highest - FINAL_LEARNING_RATE) * fall


def _step(
    network: ScsNet, optimiser: torch.optim.Optimizer, images: Tensor, target: Tensor, rate: float
) -> float:
    """Improve the network on one batch and return the loss."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    images = images.contiguous(memory_format=torch.channels_last)
    loss = soft_target_loss(network(images), target)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
    optimiser.step()
    return loss.item()


@torch.no_grad()
def _move_average(average: ScsNet, network: ScsNet, step: int) -> None:
    """Let the averaged weights follow the network, quickly in the first steps."""
    keep = min(AVERAGING, step / (step + 10))
    for kept, current in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(current, 1 - keep)


@torch.no_grad()
def _finish(average: ScsNet, atlas: Atlas, seed: int, device: torch.device) -> ScsNet:
    """Copy the averaged network and compute its BatchNorm statistics on fresh slices."""
    kept = deepcopy(average).train()
    for layer in kept.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean over all batches
    generator = torch.Generator(device).manual_seed(seed + 1)
    for _ in range(STATISTICS_BATCHES):
        kept(draw_batch(atlas, BATCH_SLICES, generator)[0])
    return kept.eval()


if __name__ == "__main__":
    sys.exit(main())
