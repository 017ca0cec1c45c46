"""How often a run without a cord gets one, and how often a cord is lost.

    python tests/benchmarks/no_cord.py --atlas PAM50 [--images GM_CHALLENGE] [--outputs OUT]

Runs with a cord: phantoms of SNR 5 to 25, a third of them compressed. Runs without: the halves of
the same phantoms at least 8 mm beside the cord; hard synthetic slices without a cord, stacked; and,
if the images are given, the halves of real T2*-weighted necks at least 8 mm beside the manual mask.
The limits were chosen on other draws of the synthetic kinds, with these necks in view: their rate
is no independent test. OUT is a folder that the app wrote of real series: the halves of their b=0
images had no part in choosing the limits. A cord below the confidence at which the app flags a
slice counts as flagged. The result is in docs/experiments.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from scsnet_bids.evaluation.tables import markdown_table
from scsnet_bids.images import Grid, read_image
from scsnet_bids.network.inference import locate_cord, segment_regions
from scsnet_bids.network.weights import SHIPPED, load_network
from scsnet_bids.phantom import PhantomSettings, simulate
from scsnet_bids.settings import RegionalSettings
from scsnet_bids.training.atlas import Atlas, read_atlas
from scsnet_bids.training.augment import draw_batch

BESIDE_MM = 8.0
PHANTOMS = 24
SNR = (5.0, 8.0, 15.0, 25.0)
COMPRESSION = (0.0, 0.0, 0.4)
STACKS, SLICES = 12, 15
SEED = 9100
FLAGGED_BELOW = RegionalSettings().low_confidence


class Run(NamedTuple):
    """A B0 image, and which of its slices hold a cord."""

    kind: str
    b0: np.ndarray
    grid: Grid
    has_cord: np.ndarray


def phantoms() -> Iterator[Run]:
    """Yield phantoms and their halves without the cord."""
    for n in range(PHANTOMS):
        settings = PhantomSettings(
            directions=6,
            snr=SNR[n % len(SNR)],
            compression=COMPRESSION[n // len(SNR) % len(COMPRESSION)],
            motion_mm=0.0,
            b0_to_dwi_mm=0.0,
        )
        phantom = simulate(settings, (SEED, n))
        b0 = phantom.series[..., phantom.gradients.bvals == 0].mean(axis=-1)
        cord = phantom.region_share[..., 0] <= 0.5
        yield Run("phantoms", b0, phantom.grid, cord.any(axis=(0, 1)))
        yield from halves("half phantoms", b0, phantom.grid, cord)


def halves(kind: str, b0: np.ndarray, grid: Grid, cord: np.ndarray) -> Iterator[Run]:
    """Yield what lies right and left of the cord."""
    columns = np.flatnonzero(cord.any(axis=(1, 2)))
    beside = int(np.ceil(BESIDE_MM / grid.spacing_mm[0]))
    for half in (b0[: columns.min() - beside], b0[columns.max() + beside :]):
        smaller = grid.resized(half.shape, grid.affine)
        yield Run(kind, np.ascontiguousarray(half), smaller, np.zeros(half.shape[2], dtype=bool))


def hard_stacks(atlas: Atlas) -> Iterator[Run]:
    """Yield runs of synthetic slices without a cord."""
    generator, empty = torch.Generator().manual_seed(SEED), []
    while len(empty) < STACKS * SLICES:
        images, target = draw_batch(atlas, 16, generator)
        none = ~(target[:, 0] < 0.5).flatten(1).any(dim=1)
        empty += [image[0].numpy() for image in images[none]]
    orientation = np.array([[0, -1], [1, -1], [2, 1]])
    for n in range(STACKS):
        b0 = np.stack(empty[n * SLICES : (n + 1) * SLICES]).transpose(2, 1, 0)
        grid = Grid(b0.shape, np.diag([-0.5, -0.5, 5.0, 1.0]), orientation)
        yield Run("hard synthetic slices", b0, grid, np.zeros(SLICES, dtype=bool))


def real_halves(data: Path) -> Iterator[Run]:
    """Yield what lies beside the cord in real images with manual masks."""
    for path in sorted(data.glob("derivatives/labels/sub-*/anat/*_seg-manual.nii.gz")):
        image_path = data / path.parts[-3] / "anat" / path.name.replace("_seg-manual", "")
        if image_path.exists():
            image, cord = read_image(image_path), read_image(path).data > 0.5
            yield from halves("half T2* necks", image.data, image.grid, cord)


def output_halves(out: Path) -> Iterator[Run]:
    """Yield what lies beside the cord in the b=0 images of real series."""
    for path in sorted(out.glob("sub-*/**/*_desc-b0_dwiref.nii.gz")):
        mask = path.with_name(path.name.replace("_desc-b0_dwiref", "_label-SC_mask"))
        image, cord = read_image(path), read_image(mask).data > 0
        yield from halves("half b=0 necks", image.data, image.grid, cord)


def main() -> None:
    """Print one row per kind of run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atlas", type=Path, required=True, help="PAM50 folder")
    parser.add_argument("--images", type=Path, help="images with derivatives/labels")
    parser.add_argument("--outputs", type=Path, help="outputs of the app of real series")
    parser.add_argument("--weights", type=Path, default=SHIPPED)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = load_network("cpu", options.weights)
    runs = [*phantoms(), *hard_stacks(read_atlas(options.atlas).split()[1])]
    runs += [*real_halves(options.images)] if options.images else []
    runs += [*output_halves(options.outputs)] if options.outputs else []
    rows = []
    for run in runs:
        result = segment_regions(run.b0, run.grid, locate_cord(run.b0, run.grid, network), network)
        unflagged = result.found & (result.confidence >= FLAGGED_BELOW)
        for slices in zip(run.has_cord, result.found, unflagged, strict=True):
            rows.append((run.kind, *slices))
    table = pd.DataFrame(rows, columns=["kind", "has cord", "found", "found, unflagged"])
    by_kind = table.groupby("kind", sort=False)
    share = (100 * by_kind[["has cord", "found", "found, unflagged"]].mean()).map("{:.1f} %".format)
    print(markdown_table(share.assign(slices=by_kind.size())))


if __name__ == "__main__":
    main()
