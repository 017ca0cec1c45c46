"""The light blocks of SCS-Net against a plain U-Net of the same depth, with few and many anatomies.

    python tests/benchmarks/light_or_plain.py --atlas PAM50 --out light_or_plain.tsv

Both are trained afresh on synthetic slices of 5, 20 and 100 % of the anatomies: for the same number
of steps, and the plain one also for the steps that fit into the time of the light one. Accuracy is
that on held-out anatomies; times are processor time, of the network alone. Rows that the file holds
already are not computed again.
"""

from __future__ import annotations

import argparse
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from scsnet_bids.network.model import CROP_PIXELS, WIDTHS, ScsNet
from scsnet_bids.network.weights import choose_device
from scsnet_bids.regions import N_CLASSES
from scsnet_bids.training.atlas import BLOCK_SLICES, Atlas
from scsnet_bids.training.augment import draw_batch
from scsnet_bids.training.settings import DataSettings
from scsnet_bids.training.sources import read_training_data
from scsnet_bids.training.trials import Trials, clock, train_briefly
from scsnet_bids.training.validation import validate

SHARES = (0.05, 0.2, 1.0)


class PlainUNet(nn.Module):
    """U-Net as usual, at the widths, scales, input and output of ``ScsNet``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, WIDTHS[0], 5, stride=2, padding=2, bias=False)
        self.encode = nn.ModuleList(
            _two_convolutions(a, b) for a, b in pairwise((WIDTHS[0], *WIDTHS))
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(WIDTHS))
        self.decode = nn.ModuleList(_two_convolutions(2 * a, a) for a in WIDTHS[:-1])
        self.head = nn.Conv2d(WIDTHS[0], 4 * N_CLASSES, kernel_size=1)

    def forward(self, slices: Tensor) -> Tensor:
        """Compute (n, 9, rows, columns) logits of (n, 1, rows, columns) slices."""
        x, kept = self.stem(slices), []
        for level, block in enumerate(self.encode):
            x = block(functional.max_pool2d(x, 2) if level else x)
            kept.append(x)
        for up, block, skip in zip(self.up[::-1], self.decode[::-1], kept[-2::-1], strict=True):
            x = block(torch.cat([skip, up(x)], dim=1))
        return functional.pixel_shuffle(self.head(x), 2)


NETWORKS = {"light": ScsNet, "plain": PlainUNet}


def main() -> None:
    """Train what is missing, and print the table."""
    options = _parse()
    torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    data = DataSettings(
        atlas=options.atlas, shapes=options.shapes, held_out=tuple(options.held_out)
    )
    seen, held_out = (part.atlas.to(device) for part in read_training_data(data, seed=0)[:2])
    trials = Trials(options.out)
    for seed in range(options.seeds):
        for share in SHARES:
            part = choose_anatomies(seen, share, seed)
            steps = options.iterations
            light = _trial(trials, "light", "steps", share, seed, steps, part, held_out)
            plain = _trial(trials, "plain", "steps", share, seed, steps, part, held_out)
            fitting = max(1, round(steps * light["step_ms"] / plain["step_ms"]))
            _trial(trials, "plain", "time", share, seed, steps, part, held_out, fitting=fitting)
    table = trials.rows(iterations=options.iterations)
    print(describe(table[table["seed"] < options.seeds]))


def choose_anatomies(atlas: Atlas, share: float, seed: int) -> Atlas:
    """Choose whole blocks of neighbouring slices at random, as many as make up the share."""
    first = torch.cat([torch.ones(1, dtype=torch.bool), atlas.stack.cpu().diff() != 0])
    within = torch.arange(len(first)) - torch.arange(len(first))[first][first.cumsum(0) - 1]
    block = (first | (within % BLOCK_SLICES == 0)).cumsum(0) - 1
    n_blocks = int(block[-1]) + 1
    count = max(1, round(share * n_blocks))
    chosen = np.random.default_rng(seed).permutation(n_blocks)[:count]
    kept = torch.isin(block, torch.from_numpy(chosen)).to(atlas.stack.device)
    parts = (atlas.maps, atlas.half_size_mm, atlas.spacing_mm, atlas.scale)
    return Atlas(*(x[kept] for x in parts), block.to(kept.device)[kept])


def describe(table: pd.DataFrame) -> str:
    """Write one line per network, share of anatomies and budget: means over the seeds."""
    index = ["share", "network", "budget"]
    wide = table.groupby(index, sort=False).mean(numeric_only=True).drop(columns="seed")
    spread = table.groupby(index, sort=False)[["cord_dice", "region_dice"]].std().add_suffix("_sd")
    return wide.join(spread).drop(columns="iterations").round(3).to_string()


def _trial(
    trials: Trials,
    name: str,
    budget: str,
    share: float,
    seed: int,
    iterations: int,
    part: Atlas,
    held_out: Atlas,
    *,
    fitting: int | None = None,
) -> pd.Series:
    """Train one network unless its row is there; return the row."""
    key = {"network": name, "budget": budget, "share": share, "seed": seed}
    key["iterations"] = iterations
    if (found := trials.rows(**key)).empty:
        device, steps = part.maps.device, fitting or iterations
        torch.manual_seed(seed)
        network = NETWORKS[name]().to(device)
        kept, step_s = train_briefly(network, partial(draw_batch, part), steps, seed)
        scores = validate(kept, held_out)
        regions = [value for score, value in scores.items() if score.startswith("dice_")]
        trials.add(
            key
            | {"steps": steps, "anatomies": len(part.maps)}
            | {"parameters": sum(p.numel() for p in kept.parameters())}
            | {"step_ms": 1000 * step_s, "slice_ms": _inference_ms(kept, device)}
            | {"cord_dice": scores["cord_dice"], "region_dice": float(np.mean(regions))}
            | {"cord_found": scores["cord_found"], "false_cord": scores["false_cord"]}
        )
        found = trials.rows(**key)
        print(found.to_string(index=False, header=False), flush=True)
    return found.iloc[0]


@torch.inference_mode()
def _inference_ms(network: nn.Module, device: torch.device) -> float:
    """Shortest time per slice of a stack of 16."""
    images = torch.zeros(16, 1, CROP_PIXELS, CROP_PIXELS, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    times, now = [], clock(device)
    for _ in range(6):
        started = now()
        network(images).sum().item()
        times.append(now() - started)
    return 1000 * min(times) / len(images)


def _two_convolutions(wide: int, narrow: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with BatchNorm and ReLU."""
    layers = []
    for n_inputs in (wide, narrow):
        convolution = nn.Conv2d(n_inputs, narrow, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(narrow), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atlas", required=True, help="PAM50 folder")
    parser.add_argument("--shapes", default="", help="folder of manual masks: more anatomies")
    parser.add_argument("--held-out", nargs="+", default=[], help="participants of --shapes")
    parser.add_argument("--out", type=Path, default=Path("light_or_plain.tsv"), help="TSV of rows")
    parser.add_argument("--iterations", type=int, default=1200, help="steps of 16 slices")
    parser.add_argument("--seeds", type=int, default=1, help="repetitions")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
