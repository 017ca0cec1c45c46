"""The same network on B0, on FA, on the mean DWI, and on combinations of them.

    python tests/benchmarks/inputs.py --atlas PAM50 --out inputs.tsv [--real OUT]

The question of the SCS-Net paper, on synthetic slices with simulated diffusion (30 directions,
Rician noise, 1 mm voxels) whose truth is known. One network per input learns for the same number of
steps; each is scored on anatomies not trained on. The error is that of the paper: |FA in the
predicted region - FA in the true region| / FA in the true region, on the same measured FA map. Rows
that the file holds already are not computed again.

OUT is a folder that the app wrote of real series. Nobody knows their regions, but the better they
are drawn, the more of the differences of FA within the cord they explain, and the further gray
matter lies below white. The images come from one half of the volumes and FA from the other, so that
no noise is common to both, and the same of the halves exchanged. The cord is the app's, the same
for all inputs. FA is no input there, since it would draw the regions that explain it. The
shipped networks are told there too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from scsnet_bids.arrays import FloatArray
from scsnet_bids.gradients import b0_volumes, read_gradients
from scsnet_bids.images import Grid, read_image
from scsnet_bids.network.field import resample_image
from scsnet_bids.network.model import CROP_PIXELS, PIXEL_MM, WIDTHS, ScsNet, standardise
from scsnet_bids.network.weights import (
    choose_device,
    load_network,
    shipped_weights,
    weights_sha256,
)
from scsnet_bids.regions import REGIONS, Tissue
from scsnet_bids.settings import B0, B0_AND_DWI, GradientSettings
from scsnet_bids.slices import PlaneGrid, interpolate_linearly, volume_to_slices
from scsnet_bids.tensor import fit_tensor
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
WELL_INSIDE = 0.75
"""Share of the cord mask from which a pixel of a real slice counts."""


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
                rows = score(network, channels, held_out)
                if options.real and "fa" not in channels:
                    rows += score_real(network.cpu(), channels, options.real)
                trials.add(*(key | row for row in rows))
                print(f"{name}, seed {seed}: done", flush=True)
    if options.real:
        for name, sees in (("B0", B0), ("B0 + mean DWI", B0_AND_DWI)):
            path = shipped_weights(sees)
            key = {"input": f"{name}, shipped {weights_sha256(path)[:12]}", "seed": 0}
            key["iterations"] = options.iterations
            if trials.rows(**key).empty:
                found = score_real(load_network("cpu", path, sees), INPUTS[name], options.real)
                trials.add(*(key | row for row in found))
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


def score_real(network: nn.Module, channels: tuple[str, ...], out: Path) -> list[dict[str, Any]]:
    """Tell how well the regions in real cords explain FA: one row per series and half."""
    rows = []
    for path in sorted(out.glob("sub-*/**/*_desc-preproc_dwi.nii.gz")):
        name = path.name.removesuffix("_desc-preproc_dwi.nii.gz")
        cord = read_image(path.with_name(f"{name}_label-SC_mask.nii.gz")).data > 0
        for half, (images, fa, grid) in enumerate(_halves(path)):
            found = _explain(network, [images[channel] for channel in channels], fa, cord, grid)
            rows.append({"run": name, "half": half} | found)
    return rows


def _halves(path: Path) -> Iterator[tuple[dict[str, FloatArray], FloatArray, Grid]]:
    """Yield b=0 and mean DWI of one half of a corrected series, and FA of the other, both ways."""
    image = read_image(path)
    stem, series = str(path).removesuffix(".nii.gz"), np.asarray(image.data, dtype=float)
    files = Path(f"{stem}.bval"), Path(f"{stem}.bvec")
    gradients = read_gradients(*files, image.grid, series.shape[3], path)
    is_b0 = b0_volumes(gradients.bvals, GradientSettings().b0_max)
    first = np.zeros(len(is_b0), dtype=bool)
    for kind in (is_b0, ~is_b0):
        first[np.flatnonzero(kind)[::2]] = True
    for half in (first, ~first):
        means = {"b0": is_b0, "dwi": ~is_b0}
        images = {name: series[..., kind & half].mean(axis=3) for name, kind in means.items()}
        maps = fit_tensor(series[..., ~half], gradients.select(~half), None, GradientSettings())
        yield images, np.asarray(maps.fa), image.grid


@torch.inference_mode()
def _explain(
    network: nn.Module,
    images: list[FloatArray],
    fa: FloatArray,
    cord: npt.NDArray[np.bool_],
    grid: Grid,
) -> dict[str, float]:
    """Share of the variance of FA in the cord between the tissues, and FA of white minus gray."""
    values, tissues = [], []
    for k in np.flatnonzero(cord.any(axis=(0, 1))):
        here = slice(k, k + 1)
        centre = [float(x.mean()) for x in np.nonzero(cord[..., k]) * np.array(_row(grid))]
        plane = PlaneGrid.centred((centre[0], centre[1]), (CROP_PIXELS, CROP_PIXELS), PIXEL_MM)
        fields = [resample_image(image[..., here], grid, plane) for image in images]
        pairs = [(torch.from_numpy(f.slices), torch.from_numpy(f.inside)) for f in fields]
        channels = torch.stack([standardise(*pair) for pair in pairs], dim=1)
        largest = network(channels)[0, 1:].argmax(dim=0).numpy()  # region, never background
        # Where there is no FA, far from any cord, 0 will do: nan would spread.
        at = [volume_to_slices(np.nan_to_num(x[..., here].astype(float))) for x in (cord, fa)]
        share, fa_here = (interpolate_linearly(x, PlaneGrid.of_image(grid), plane)[0] for x in at)
        inside = share >= WELL_INSIDE
        values.append(fa_here[inside])
        tissues.append(np.array([str(region.tissue) for region in REGIONS])[largest[inside]])
    table = pd.DataFrame({"fa": np.concatenate(values), "tissue": np.concatenate(tissues)})
    mean = table.groupby("tissue")["fa"].transform("mean")
    is_gray = table["tissue"] == str(Tissue.GRAY_MATTER)
    return {
        "explained_percent": float(100 * mean.var() / table["fa"].var()),
        "white_minus_gray": float(table["fa"][~is_gray].mean() - table["fa"][is_gray].mean()),
        "gray_percent": float(100 * is_gray.mean()),
    }


def _row(grid: Grid) -> list[list[float]]:
    """Voxel size within a slice, as a column."""
    return [[size] for size in grid.spacing_mm[:2]]


def describe(table: pd.DataFrame) -> str:
    """Write overlap per tissue, the error of FA per region and side, and real series if any."""
    parts = [_describe_synthetic(table[table["region"].notna()])]
    if "run" in table:
        real = table[table["run"].notna()].groupby(["run", "input"], sort=False)
        figures = real[["explained_percent", "white_minus_gray", "gray_percent"]].mean()
        parts.append(f"FA within real cords\n{figures.round(3).to_string()}")
    return "\n\n".join(parts)


def _describe_synthetic(table: pd.DataFrame) -> str:
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
    parser.add_argument("--real", type=Path, metavar="OUT", help="outputs of the app: real too")
    parser.add_argument("--iterations", type=int, default=1200, help="steps of 16 slices")
    parser.add_argument("--seeds", type=int, default=1, help="repetitions")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
