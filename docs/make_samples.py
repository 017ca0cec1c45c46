"""Draw what SCS-Net learns from, and where it fails, from anatomies it was not trained on.

    python docs/make_samples.py PAM50 MASKS HELD_OUT ...

PAM50 is the folder of the atlas, MASKS that of the manual cord and gray-matter masks, HELD_OUT the
participants that the training left out. The pictures, in docs/images, show the first random slices
with their true regions, the worst of 384 slices with the regions that the network draws, and slices
whose mean DWI the second network sees as well.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scsnet_bids.figures.sheets import draw_regions
from scsnet_bids.network.model import PIXEL_MM
from scsnet_bids.network.weights import load_network
from scsnet_bids.slices import slices_to_volume
from scsnet_bids.training.settings import DataSettings
from scsnet_bids.training.sources import read_training_data
from scsnet_bids.training.validation import draw_held_out, predict

IMAGES = Path(__file__).parent / "images"
N_SAMPLES, N_FAILURES, N_PAIRS = 24, 12, 10
COLUMNS = 5
"""Of a sheet of 15 to 20 slices."""
SPACING_MM = (PIXEL_MM, PIXEL_MM, 1.0)


def main(atlas: str, shapes: str, held_out: tuple[str, ...]) -> None:
    """Write the pictures."""
    settings = DataSettings(atlas=atlas, shapes=shapes, held_out=held_out)
    _, apart, _ = read_training_data(settings, seed=0)
    assert apart.atlas is not None
    images, truth = draw_held_out(apart.atlas)
    drawn = predict(load_network("cpu"), images)
    first = torch.arange(N_SAMPLES)
    worst = failures(1 - drawn[:, 0], 1 - truth[:, 0])
    sheets = {
        "synthetic_slices": (first, truth, "Synthetic slices and their true regions"),
        "synthetic_failures": (worst, drawn, "Worst of 384 synthetic slices, by SCS-Net"),
    }
    for name, (chosen, regions, title) in sheets.items():
        _save(name, draw(images[chosen, 0], regions[chosen], title))
    pairs, truth = draw_held_out(apart.atlas, n_images=2)
    # A row of B0, then the mean DWI of the same slices; the sheet begins with the last one.
    shown = pairs[:N_PAIRS].unflatten(0, (-1, COLUMNS)).transpose(1, 2).flatten(0, 2).flip(0)
    regions = truth[:N_PAIRS].unflatten(0, (-1, COLUMNS)).repeat_interleave(2, dim=0).flatten(0, 1)
    title = "Synthetic slices: rows of B0, each above the mean DWI of the same slices"
    _save("synthetic_dwi", draw(shown, regions.flip(0), title))


def _save(name: str, picture: str) -> None:
    """Write a picture."""
    (IMAGES / f"{name}.svg").write_text(picture, encoding="utf-8")


def failures(cord: Tensor, truth: Tensor) -> Tensor:
    """Find the slices with the lowest overlap of the cord; no cord where none is counts as 1."""
    overlap, total = (cord * truth).sum(dim=(1, 2)), (cord**2 + truth**2).sum(dim=(1, 2))
    return ((2 * overlap + 1) / (total + 1)).argsort()[:N_FAILURES]


def draw(images: Tensor, regions: Tensor, title: str) -> str:
    """Draw (n, 96, 96) slices with the borders of (n, 9, 96, 96) regions."""
    shares = slices_to_volume(np.asarray(regions))
    return draw_regions(slices_to_volume(np.asarray(images)), shares, SPACING_MM, title)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], tuple(sys.argv[3:]))
