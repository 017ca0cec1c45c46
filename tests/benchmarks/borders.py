"""Measure the constants of ``sharpening.py`` and ``borders.py`` on phantoms.

    scsnet-bids-phantom DATA --participants 3 --seed 501 --motion-mm 0.9 --snr 12
    scsnet-bids DATA OUT participant
    python tests/benchmarks/borders.py DATA OUT [b0+dwi]

For every sharpness: how far unmixed FA and MD of slices lie from the tissue's. For the sharpness in
use: how often the stated 90 % intervals hold the tissue's value, by region, and the factors by
which the typical errors of the borders would have to grow or shrink (non-negative least squares of
the squared errors). Use phantoms that the published figures do not come from.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from scsnet_bids.arrays import FloatArray
from scsnet_bids.correction.alignment import estimate_b0_to_dwi
from scsnet_bids.derivatives import read_table
from scsnet_bids.evaluation.value_scores import DEVIATIONS_OF_90, METRICS
from scsnet_bids.gradients import Gradients, b0_volumes, read_gradients
from scsnet_bids.images import Image, read_image
from scsnet_bids.network.inference import locate_cord, refine_regions, segment_regions
from scsnet_bids.network.weights import SHIPPED_DWI, load_network
from scsnet_bids.regions import REGIONS
from scsnet_bids.settings import B0, B0_AND_DWI, Settings
from scsnet_bids.unmixing.borders import alternative_shares
from scsnet_bids.unmixing.sharpening import PlacedRegions, fit_borders
from scsnet_bids.unmixing.signals import change_of_values, unmix_regions

SETTINGS = Settings()
SHARPNESS = (1.5, 2.0, 2.5, 3.0, 4.0)
NAMES = ("left", "back", "outline", "inner left", "inner back", "gray")


@dataclass(frozen=True, eq=False)
class Run:
    """A corrected phantom series with its segmentation and truth."""

    series: Image
    gradients: Gradients
    sigma: float
    regions: PlacedRegions
    truth: FloatArray  # (8, 2) FA and MD of the tissue


@dataclass(frozen=True, eq=False)
class Values:
    """Unmixed FA and MD of slices, with their errors and uncertainties."""

    error: FloatArray  # (k, 8, 2)
    noise: FloatArray  # (k, 8, 2)
    change: FloatArray  # (p, k, 8, 2), root mean square of both ways


def main(data: Path, out: Path, sees: str = B0) -> None:
    """Print the figures for all runs of a phantom dataset."""
    runs = list(_read_runs(data, out, sees))
    print("sharpness  mean error of slices, % of the tissue's value: FA, MD")
    for sharpness in SHARPNESS:
        error = np.concatenate([_relative(run, sharpness) for run in runs])
        print(f"{sharpness:9.1f}  " + "  ".join(f"{100 * e:5.2f}" for e in error.mean(axis=0)))
    values = [_measure(run, run.regions.sharpness) for run in runs]
    error, noise = (np.concatenate([getattr(v, n) for v in values]) for n in ("error", "noise"))
    change = np.concatenate([v.change for v in values], axis=1)
    for m, metric in enumerate(METRICS):
        _tell_coverage(metric, error[..., m], noise[..., m], change[..., m])


def _read_runs(data: Path, out: Path, sees: str) -> Iterator[Run]:
    """Read every run, and segment it with the shipped networks."""
    network = load_network("cpu")
    for path in sorted(out.glob("sub-*/**/*_desc-preproc_dwi.nii.gz")):
        series, start = read_image(path), str(path).removesuffix("_desc-preproc_dwi.nii.gz")
        bval, bvec = (path.with_name(path.name.replace("nii.gz", x)) for x in ("bval", "bvec"))
        gradients = read_gradients(bval, bvec, series.grid, series.data.shape[3], path)
        b0 = read_image(Path(f"{start}_desc-b0_dwiref.nii.gz")).data
        weighted = ~b0_volumes(gradients.bvals, SETTINGS.gradients.b0_max)
        mean_dwi = series.data[..., weighted].mean(axis=-1)
        found = segment_regions(b0, series.grid, locate_cord(b0, series.grid, network), network)
        shift = estimate_b0_to_dwi(
            found.cord, found.plane, mean_dwi, series.grid, SETTINGS.alignment
        )
        if sees == B0_AND_DWI:
            second = load_network("cpu", SHIPPED_DWI, sees)
            found = refine_regions(found, b0, mean_dwi, series.grid, shift.shift_mm, second)
        regions = PlacedRegions(
            found.probability,
            found.plane,
            series.grid,
            shift.shift_mm,
            SETTINGS.unmixing.sharpness,
        )
        sigma = float(read_table(Path(f"{start}_desc-image_qc.tsv"))["noise_sigma"].iloc[0])
        truth = data / "derivatives" / "phantom" / path.parent.relative_to(out)
        tissue = read_table(next(truth.glob("*_desc-tissue_scalarstats.tsv")))
        rows = tissue.set_index(["region", "side"])[list(METRICS)]
        order = [(str(region.tissue), str(region.side)) for region in REGIONS]
        yield Run(series, gradients, sigma, regions, rows.loc[order].to_numpy(float))


def _measure(run: Run, sharpness: float) -> Values:
    """Unmix a run with some sharpness."""
    regions = replace(run.regions, sharpness=sharpness)
    borders = fit_borders(run.series.data, regions)
    shares = regions.sharpened(borders).shares()
    settings = (SETTINGS.unmixing, SETTINGS.gradients)
    unmixed = unmix_regions(run.series.data, shares, run.gradients, run.sigma, *settings)
    others = [shares, *alternative_shares(regions, borders)]
    change = change_of_values(run.series.data, others, run.gradients, unmixed, *settings)
    error = unmixed.value[..., :2] - run.truth
    ways = change[..., :2].reshape(2, len(NAMES), *error.shape)
    return Values(error, unmixed.uncertainty[..., :2], np.sqrt((ways**2).mean(axis=0)))


def _relative(run: Run, sharpness: float) -> FloatArray:
    """(1, 2) mean size of the error of slices, relative to the tissue's value."""
    error = np.abs(_measure(run, sharpness).error / run.truth)
    return np.asarray(np.nanmean(error, axis=(0, 1))[None])


def _tell_coverage(metric: str, error: FloatArray, noise: FloatArray, change: FloatArray) -> None:
    """Print how often intervals hold the truth, and the factors that would fit the errors."""
    parts = np.concatenate([noise[None], change]) ** 2
    known = np.isfinite(parts).all(axis=0) & np.isfinite(error)
    size = np.median(np.abs(error[known]))
    squares, target = parts[:, known].T / size**2, error[known] ** 2 / size**2
    weight = np.ones(len(target))
    for _ in range(20):  # each error counts relative to its expected size
        factor, _ = nnls(squares * weight[:, None], target * weight)
        expected = squares @ factor
        weight = 1 / np.maximum(expected, np.percentile(expected, 5))
    print(f"\n{metric}: {1 - known.mean():.0%} without a value. Factors that fit:")
    names = ("noise", *NAMES)
    print("  " + ", ".join(f"{n} {np.sqrt(f):.2f}" for n, f in zip(names, factor, strict=True)))
    for name, variance in (("noise alone", parts[0]), ("as stated", parts.sum(axis=0))):
        inside = np.where(known, np.abs(error) < DEVIATIONS_OF_90 * np.sqrt(variance), np.nan)
        by_region = " ".join(f"{100 * c:.0f}" for c in np.nanmean(inside, axis=0))
        print(f"  90 % intervals, {name}: {100 * np.nanmean(inside):.0f} % hold; {by_region}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
