"""Does a region template fitted into the predicted cord beat the network's own regions?

    python tests/benchmarks/template_head.py [--images GM_CHALLENGE --people LABEL ...] \
        [--weights FILE]

The template is the parametric cross-section of ``phantom.anatomy``, averaged over C2 to C7, placed
in the predicted cord by its centre, its main axis and its two sizes, the last three smooth along z.
Its region fractions replace those of the network (template) or are averaged with them (fusion);
the cord stays as it is. Phantoms share their curves with the template, which favours it there. The
result, and why neither ships, is in docs/experiments.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter1d

from scsnet_bids.evaluation.network_scores import GRAY_LABELS, segment_image
from scsnet_bids.evaluation.scores import dice, dice_of_slices
from scsnet_bids.evaluation.tables import markdown_table
from scsnet_bids.images import Image, read_image
from scsnet_bids.network.model import ScsNet
from scsnet_bids.network.weights import SHIPPED, load_network
from scsnet_bids.phantom import PhantomSettings, simulate
from scsnet_bids.phantom.anatomy import LEVELS, CrossSection, cross_section, label_points
from scsnet_bids.regions import REGIONS, label_shares
from scsnet_bids.slices import PlaneGrid
from scsnet_bids.unmixing.transfer import label_regions, transfer_regions

SUB_PIXELS = (np.arange(4) + 0.5) / 4 - 0.5
SMOOTH_MM = 7.5
"""Of the size along z; the axis is twice as smooth."""
SECTIONS = [cross_section(level) for level in LEVELS]
SEED, PHANTOMS = 7000, 6


def fit_template(cord: np.ndarray, plane: PlaneGrid, slice_spacing_mm: float) -> np.ndarray:
    """(k, 8, rows, columns) region fractions inside (k, rows, columns) cords."""
    moments = np.array([_moments(one, plane) for one in cord])  # (k, 5)
    smooth = SMOOTH_MM / slice_spacing_mm
    along = _smoothed(moments[:, 2] - moments[:, 3], 2 * smooth)
    turn = np.arctan2(2 * _smoothed(moments[:, 4], 2 * smooth), along) / 2
    cosine, sine = np.cos(turn), np.sin(turn)
    mixed = 2 * cosine * sine * moments[:, 4]
    wide = cosine**2 * moments[:, 2] + sine**2 * moments[:, 3] + mixed
    deep = sine**2 * moments[:, 2] + cosine**2 * moments[:, 3] - mixed
    middle, width, depth = np.mean([_template_moments(s) for s in SECTIONS], axis=0)
    scales = [_smoothed(np.sqrt(wide) / width, smooth), _smoothed(np.sqrt(deep) / depth, smooth)]
    fractions = np.zeros((len(cord), len(REGIONS), *cord.shape[1:]))
    left, back = (
        (plane.positions_mm(axis)[:, None] + SUB_PIXELS * plane.spacing_mm[axis]).ravel()
        for axis in (0, 1)
    )
    for k in np.flatnonzero(np.isfinite(moments[:, 0])):
        x, y = np.meshgrid(left - moments[k, 0], back - moments[k, 1])
        across = (cosine[k] * x + sine[k] * y) / scales[0][k]
        behind = (cosine[k] * y - sine[k] * x) / scales[1][k] + middle
        fractions[k] = np.mean([_fractions(across, behind, s) for s in SECTIONS], axis=0)
    return fractions


def heads(probability: np.ndarray, plane: PlaneGrid, slice_mm: float) -> dict[str, np.ndarray]:
    """Probabilities of the three heads, of one cord."""
    cord = probability[:, 1:].sum(axis=1)
    template = fit_template(cord, plane, slice_mm)
    own = probability[:, 1:] / np.maximum(cord, 1e-6)[:, None]
    mixed = {"template": template, "fusion": (template + own) / 2}
    background = 1 - cord[:, None]
    placed = {n: np.concatenate([background, f * cord[:, None]], 1) for n, f in mixed.items()}
    return {"network": probability, **placed}


def label_heads(image: Image, network: ScsNet) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name of a head and its (i, j, k) labels."""
    found = segment_image(image, network)
    no_shift = np.zeros((image.grid.shape[2], 2))
    for name, p in heads(found.probability, found.plane, image.grid.spacing_mm[2]).items():
        yield name, label_regions(transfer_regions(p, found.plane, image.grid, no_shift))


def score_phantoms(network: ScsNet) -> Iterator[tuple[str, str, float]]:
    """Yield what was measured, the head, and Dice of regions, per phantom."""
    for n in range(PHANTOMS):
        compression = 0.4 * (n % 2)
        settings = PhantomSettings(
            directions=6, motion_mm=0, b0_to_dwi_mm=0, compression=compression
        )
        phantom = simulate(settings, (SEED, n))
        b0 = phantom.series[..., phantom.gradients.bvals == 0].mean(axis=-1)
        truth = label_shares(phantom.region_share)
        for name, label in label_heads(Image(b0, phantom.grid), network):
            overlap = [dice(label == r.label, truth == r.label) for r in REGIONS]
            kind = "compressed" if compression else "healthy"
            yield f"regions, {kind} phantoms", name, float(np.mean(overlap))


def score_people(
    data: Path, people: list[str], network: ScsNet
) -> Iterator[tuple[str, str, float]]:
    """Yield what was measured, the head, and Dice of gray matter, per person."""
    for person in people:
        stem = f"sub-{person}_run-1_T2starw"
        image = read_image(data / f"sub-{person}" / "anat" / f"{stem}.nii.gz")
        folder = data / "derivatives" / "labels" / f"sub-{person}" / "anat"
        cord, gray = (
            read_image(folder / f"{stem}_{kind}-manual.nii.gz").data > 0.5
            for kind in ("seg", "gmseg")
        )
        both = cord.any(axis=(0, 1)) & gray.any(axis=(0, 1))
        for name, label in label_heads(image, network):
            found = np.isin(label, GRAY_LABELS)[..., both]
            overlap = dice_of_slices(found, gray[..., both])
            yield "gray matter, real T2*", name, float(overlap.mean())


def _moments(cord: np.ndarray, plane: PlaneGrid) -> list[float]:
    """Centre (left, posterior), variances and covariance of a cord, mm; nan if it is empty."""
    mass = cord.sum()
    if mass == 0:
        return [np.nan] * 5
    x, y = plane.positions_mm(0), plane.positions_mm(1)
    left, back = (cord.sum(axis=0) * x).sum() / mass, (cord.sum(axis=1) * y).sum() / mass
    x, y = np.meshgrid(x - left, y - back)
    return [left, back, *((cord * part).sum() / mass for part in (x * x, y * y, x * y))]


def _smoothed(values: np.ndarray, width: float) -> np.ndarray:
    """Smooth along z, leaving out what is missing."""
    known = np.isfinite(values)
    weight = gaussian_filter1d(known.astype(float), width, mode="constant")
    total = gaussian_filter1d(np.where(known, values, 0), width, mode="constant")
    return np.where(known, total / np.maximum(weight, 1e-9), np.nan)


def _template_moments(section: CrossSection) -> tuple[float, float, float]:
    """Middle, and standard deviations of left and back, of a cross-section, mm."""
    fine = np.arange(-9, 9, 0.1) + 0.05
    left, back = np.meshgrid(fine, fine)
    inside = label_points(left, back, section) > 0
    return float(back[inside].mean()), float(left[inside].std()), float(back[inside].std())


def _fractions(left: np.ndarray, back: np.ndarray, section: CrossSection) -> np.ndarray:
    """(8, rows, columns) shares of pixels of 4 x 4 points, the outline left aside."""
    wide = replace(section, half_width=60.0, depth=120.0, front_exponent=2.0, back_exponent=2.0)
    label = label_points(left, back, wide)
    n = len(SUB_PIXELS)
    blocks = label.reshape(label.shape[0] // n, n, label.shape[1] // n, n)
    return np.stack([(blocks == r.label).mean(axis=(1, 3)) for r in REGIONS])


def main() -> None:
    """Print mean Dice and its spread, by head."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path)
    parser.add_argument("--people", nargs="+", default=[])
    parser.add_argument("--weights", type=Path, default=SHIPPED)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = load_network("cpu", options.weights)
    rows = [*score_phantoms(network), *score_people(options.images, options.people, network)]
    table = pd.DataFrame(rows, columns=["Dice of", "head", "value"])
    groups = table.groupby(["Dice of", "head"], sort=False)["value"]
    cells = groups.mean().map("{:.3f}".format) + groups.std().map(" ± {:.3f}".format)
    print(markdown_table(cells.unstack("head").loc[:, ["network", "template", "fusion"]]))


if __name__ == "__main__":
    main()
