"""The same network on B0, on FA, on the mean DWI, and on combinations of them.

    python tests/benchmarks/inputs.py --atlas PAM50 --out inputs.tsv

The question of the SCS-Net paper, on synthetic slices with simulated diffusion (30 directions,
Rician noise, 1 mm voxels) whose truth is known. One network per input learns for the same number of
steps; each is scored on anatomies not trained on. The error is that of the paper: |FA in the
predicted region - FA in the true region| / FA in the true region, on the same measured FA map. Rows
that the file holds already are not computed again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from scsnet_bids.network.model import WIDTHS, ScsNet
from scsnet_bids.network.weights import choose_device
from scsnet_bids.regions import REGIONS
from scsnet_bids.training.atlas import Atlas, read_atlas
from scsnet_bids.training.diffusion_contrast import DiffusionSlices, draw_diffusion
from scsnet_bids.training.trials import Trials, train_briefly

INPUTS = {
    "B0": ("b0",),
    "FA": ("fa",),
    "mean DWI": ("dwi",),
    "B0 + FA": ("b0", "fa"),
    "B0 + mean DWI": ("b0", "dwi"),
    "B0 + mean DWI + FA": ("b0", "dwi", "fa"),
}
TEST_BATCHES, BATCH_SLICES, TEST_SEED = 24, 16, 54321
LEAST_PIXELS = 8
"""A true region smaller than this (2 mm2) is not scored in a slice."""


def main() -> None:
    """Train what is missing, and print both tables."""
    options = _parse()
    torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    seen, held_out = (part.to(device) for part in read_atlas(options.atlas).split())
    trials = Trials(options.out)
    for seed in range(options.seeds):
        for name, channels in INPUTS.items():
            key = {"input": name, "seed": seed, "iterations": options.iterations}
            if trials.rows(**key).empty:
                network = train_on(channels, seen, options.iterations, seed)
                trials.add(*(key | row for row in score(network, channels, held_out)))
                print(f"{name}, seed {seed}: done", flush=True)
    table = trials.rows(iterations=options.iterations)
    print(describe(table[table["seed"] < options.seeds]))


def train_on(channels: tuple[str, ...], atlas: Atlas, iterations: int, seed: int) -> Any:
    """Train a network whose input is some of the images."""
    torch.manual_seed(seed)
    network = ScsNet()
    network.stem[0] = nn.Conv2d(len(channels), WIDTHS[0], 5, 2, 2, bias=False)

    def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        slices = draw_diffusion(atlas, n, generator)
        return slices.standardised(channels), slices.target

    return train_briefly(network.to(atlas.maps.device), draw, iterations, seed)[0]


@torch.inference_mode()
def score(network: nn.Module, channels: tuple[str, ...], held_out: Atlas) -> list[dict[str, Any]]:
    """Score a network on the same held-out slices every time: one row per region."""
    generator = torch.Generator(held_out.maps.device).manual_seed(TEST_SEED)
    parts = []
    for _ in range(TEST_BATCHES):
        slices = draw_diffusion(held_out, BATCH_SLICES, generator)
        label = _label(network(slices.standardised(channels)).softmax(dim=1))
        parts.append(_count(label, slices))
    counts = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}  # (n, 8)
    return [
        {"region": str(region.tissue), "side": str(region.side)}
        | _score_region({name: values[:, k] for name, values in counts.items()})
        for k, region in enumerate(REGIONS)
    ]


def describe(table: pd.DataFrame) -> str:
    """Write overlap per tissue, and the error of FA per region and side, a row per input."""
    order = list(INPUTS)
    overlap = table.pivot_table(
        index="input", columns="region", values=["precision", "recall", "dice"], sort=False
    )
    error = table.pivot_table(
        index="input", columns=["region", "side"], values="fa_error_percent", sort=False
    )
    missed = table.groupby("input")["missed_percent"].mean()
    error[("mean", "")] = error.mean(axis=1)
    error[("slices missed", "%")] = missed
    return (
        f"Overlap, mean of both sides\n{overlap.reindex(order).round(3).to_string()}\n\n"
        f"Error of region-mean FA, %\n{error.reindex(order).round(2).to_string()}"
    )


def _label(probability: Tensor) -> Tensor:
    """(n, rows, columns) largest region where the cord fills at least half, else 0."""
    largest = 1 + probability[:, 1:].argmax(dim=1)
    return torch.where(probability[:, 0] <= 0.5, largest, 0)


def _count(label: Tensor, slices: DiffusionSlices) -> dict[str, Tensor]:
    """By name, (n, 8) pixels and sums of FA of every region in every slice."""
    truth = _label(slices.target)
    labels = torch.arange(1, 9, device=label.device)[:, None, None]
    predicted, true = (x[:, None] == labels for x in (label, truth))
    fa = slices.images["fa"][:, None]
    return {
        "predicted": predicted.sum(dim=(2, 3)),
        "true": true.sum(dim=(2, 3)),
        "both": (predicted & true).sum(dim=(2, 3)),
        "predicted_fa": (fa * predicted).sum(dim=(2, 3)),
        "true_fa": (fa * true).sum(dim=(2, 3)),
    }


def _score_region(counts: dict[str, Tensor]) -> dict[str, float]:
    """Overlap over all pixels, and error of FA over the slices, of one region."""
    predicted, true, both = (counts[name].sum() for name in ("predicted", "true", "both"))
    there = counts["true"] >= LEAST_PIXELS
    found = there & (counts["predicted"] > 0)
    means = [counts[f"{x}_fa"][found] / counts[x][found] for x in ("predicted", "true")]
    error = (means[0] - means[1]).abs() / means[1]
    figures = {
        "precision": both / predicted,
        "recall": both / true,
        "dice": 2 * both / (predicted + true),
        "fa_error_percent": 100 * error.mean(),
        "missed_percent": 100 * (1 - found.sum() / there.sum()),
    }
    return {name: float(value) for name, value in figures.items()}


def _parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atlas", type=Path, required=True, help="PAM50 folder")
    parser.add_argument("--out", type=Path, default=Path("inputs.tsv"), help="TSV of rows")
    parser.add_argument("--iterations", type=int, default=1200, help="steps of 16 slices")
    parser.add_argument("--seeds", type=int, default=1, help="repetitions")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
