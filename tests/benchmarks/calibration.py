"""Whether probabilities and confidences mean what they say, on synthetic slices not trained on.

    python tests/benchmarks/calibration.py --atlas PAM50 [--weights FILE]

Prints how often a pixel is cord, by the probability that the network gives it; how well a mask
overlaps with the truth, by the overlap that the network expects; and the cross-entropy at several
temperatures (1 is the network as it is).
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from scsnet_bids.evaluation.tables import markdown_table
from scsnet_bids.network.inference import _choose_component, _expected_dice
from scsnet_bids.network.model import mirror
from scsnet_bids.network.weights import SHIPPED, load_network
from scsnet_bids.training.atlas import read_atlas
from scsnet_bids.training.augment import draw_batch

BATCHES, BATCH_SLICES, SEED = 20, 16, 4242
TEMPERATURES = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4)
PIXEL_BINS = np.linspace(0, 1, 11)
DICE_BINS = np.array([0.0, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0])


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atlas", type=Path, required=True, help="PAM50 folder")
    parser.add_argument("--weights", type=Path, default=SHIPPED)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = load_network("cpu", options.weights)
    atlas = read_atlas(options.atlas).split()[1]
    generator = torch.Generator().manual_seed(SEED)
    logits, targets = [], []
    with torch.inference_mode():
        for _ in range(BATCHES):
            images, target = draw_batch(atlas, BATCH_SLICES, generator)
            logits.append(torch.stack([network(images), mirror(network(mirror(images)), 1)]))
            targets.append(target)
    both, truth = torch.cat(logits, dim=1), torch.cat(targets)  # (2, n, 9, 96, 96), (n, 9, 96, 96)
    probability = both.softmax(dim=2).mean(dim=0)
    print(f"{len(truth)} slices\n\n{_pixels(probability, truth)}\n")
    print(f"{_masks(probability, truth)}\n\n{_temperatures(both, truth)}")


def _pixels(probability: torch.Tensor, truth: torch.Tensor) -> str:
    """Share of cord by stated probability of cord."""
    stated, actual = (1 - p[:, 0].flatten().numpy() for p in (probability, truth))
    part = pd.Series(pd.cut(stated, PIXEL_BINS, labels=_names(PIXEL_BINS), include_lowest=True))
    groups = pd.DataFrame({"stated": stated, "actual": actual}).groupby(part, observed=False)
    mean, size = groups.mean(), groups.size()
    gap, weight = (mean["stated"] - mean["actual"]).abs()[1:-1], size[1:-1]
    cells = mean.map("{:.2f}".format).assign(pixels=size).rename_axis("probability of cord")
    error = float((gap * weight).sum() / weight.sum())
    return f"{markdown_table(cells)}\n\nMean gap between 0.1 and 0.9: {error:.3f}"


def _masks(probability: torch.Tensor, truth: torch.Tensor) -> str:
    """Actual Dice of the masks by the Dice that the network expects."""
    rows = []
    for one, true in zip(probability.numpy(), truth.numpy(), strict=True):
        mask, cord = _choose_component(1 - one[0]), true[0] <= 0.5
        expected = 0.0 if mask is None else _expected_dice(1 - one[0], mask)
        overlap = 0.0 if mask is None else 2 * (mask & cord).sum() / (mask.sum() + cord.sum())
        rows.append((expected, overlap, cord.any()))
    table = pd.DataFrame(rows, columns=["expected", "actual", "has cord"])
    part = pd.cut(table["expected"], DICE_BINS, labels=_names(DICE_BINS), include_lowest=True)
    of_cord = table[table["has cord"]].groupby(part, observed=False)
    cells = of_cord[["expected", "actual"]].mean().map("{:.2f}".format)
    none = table[~table["has cord"]].groupby(part, observed=False).size()
    cells = cells.assign(slices=of_cord.size()).assign(**{"slices without a cord": none})
    return markdown_table(cells.rename_axis("expected Dice"))


def _names(edges: np.ndarray) -> list[str]:
    """Name bins."""
    return [f"{low:.2g} to {high:.2g}" for low, high in pairwise(edges)]


def _temperatures(logits: torch.Tensor, truth: torch.Tensor) -> str:
    """Cross-entropy of all pixels, and of the cord alone, by temperature."""
    rows = {}
    for temperature in TEMPERATURES:
        probability = (logits / temperature).softmax(dim=2).mean(dim=0).clamp(1e-7, 1 - 1e-7)
        cord, true = 1 - probability[:, 0], (1 - truth[:, 0]).clamp(0, 1)
        binary = torch.nn.functional.binary_cross_entropy(cord, true)
        inner = -(truth * probability.log()).sum(dim=1)[true > 0.5].mean()
        rows[temperature] = [f"{binary:.5f}", f"{inner:.4f}"]
    columns = ["cross-entropy of cord", "cross-entropy of the classes inside the cord"]
    cells = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return markdown_table(cells.rename_axis("temperature"))


if __name__ == "__main__":
    main()
