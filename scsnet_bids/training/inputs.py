"""The same network on B0, on FA, on the mean DWI, and on combinations of them.

The question of the SCS-Net paper, on synthetic slices with simulated diffusion (30 directions,
Rician noise, 1 mm voxels) whose truth is known. One network per input learns for the same number of
steps; each is scored on anatomies not trained on. The error is that of the paper: |FA in the
predicted region - FA in the true region| / FA in the true region, on the same measured FA map.
``explained_fa`` holds the networks against real series.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from scsnet_bids.network.model import ScsNet
from scsnet_bids.network.weights import load_network, shipped_weights, weights_sha256
from scsnet_bids.regions import REGIONS
from scsnet_bids.settings import B0, B0_AND_DWI
from scsnet_bids.training.atlas import Atlas, read_atlas
from scsnet_bids.training.diffusion_contrast import DiffusionSlices, draw_diffusion
from scsnet_bids.training.explained_fa import explain_series
from scsnet_bids.training.trials import Trials, train_briefly

INPUTS = {
    "B0": ("b0",),
    "FA": ("fa",),
    "mean DWI": ("dwi",),
    "B0 + FA": ("b0", "fa"),
    "B0 + mean DWI": ("b0", "dwi"),
    "B0 + mean DWI + FA": ("b0", "dwi", "fa"),
}
CHANNELS = {B0: INPUTS["B0"], B0_AND_DWI: INPUTS["B0 + mean DWI"]}
SEED = 0
TEST_BATCHES, BATCH_SLICES, TEST_SEED = 24, 16, 54321
LEAST_PIXELS = 8
"""A true region smaller than this (2 mm2) is not scored in a slice."""


def compare_inputs(
    atlas: Path, path: Path, iterations: int, out: Path | None = None
) -> pd.DataFrame:
    """Train a network on every input, and score all of them.

    Parameters
    ----------
    atlas : PAM50 folder
    path : table of the scores; rows that it holds already are not computed again
    iterations : steps of 16 slices
    out : what the app made of real series; None leaves them out

    Returns
    -------
    DataFrame, one row per input, region and side; for real series one per input, run and half
    """
    seen, held_out = read_atlas(atlas).split()
    trials = Trials(path)
    for name, channels in INPUTS.items():
        key = {"input": name, "iterations": iterations}
        if trials.rows(**key).empty:
            network = _train_on(channels, seen, iterations)
            rows = _score(network, channels, held_out)
            # FA would draw the regions that explain it.
            if out is not None and "fa" not in channels:
                rows += explain_series(network, channels, out)
            trials.add(*(key | row for row in rows))
    if out is not None:
        _add_shipped(trials, iterations, out)
    return trials.rows(iterations=iterations)


def _add_shipped(trials: Trials, iterations: int, out: Path) -> None:
    """Add what the shipped networks make of real series."""
    for sees, channels in CHANNELS.items():
        weights = shipped_weights(sees)
        key = {"input": f"{sees}, shipped {weights_sha256(weights)[:12]}", "iterations": iterations}
        if trials.rows(**key).empty:
            rows = explain_series(load_network("cpu", weights, sees), channels, out)
            trials.add(*(key | row for row in rows))


def _train_on(channels: Sequence[str], atlas: Atlas, iterations: int) -> Any:
    """Train a network whose input is some of the images, from the same seed every time."""
    torch.manual_seed(SEED)
    network = ScsNet(len(channels))

    def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        slices = draw_diffusion(atlas, n, generator)
        return slices.standardised(tuple(channels)), slices.target

    return train_briefly(network, draw, iterations, SEED)[0]


@torch.inference_mode()
def _score(network: nn.Module, channels: Sequence[str], held_out: Atlas) -> list[dict[str, Any]]:
    """Score a network on the same held-out slices every time: one row per region."""
    generator = torch.Generator(held_out.maps.device).manual_seed(TEST_SEED)
    parts = []
    for _ in range(TEST_BATCHES):
        slices = draw_diffusion(held_out, BATCH_SLICES, generator)
        label = _label(network(slices.standardised(tuple(channels))).softmax(dim=1))
        parts.append(_count(label, slices))
    counts = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}  # (n, 8)
    return [
        {"region": str(region.tissue), "side": str(region.side)}
        | _score_region({name: values[:, k] for name, values in counts.items()})
        for k, region in enumerate(REGIONS)
    ]


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
