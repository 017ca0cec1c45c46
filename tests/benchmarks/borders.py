"""Measure the constants of ``sharpening.py`` and ``borders.py`` on phantoms.

    scsnet-bids-phantom DATA --participants 3 --seed 501 --motion-mm 0.9 --snr 12
    scsnet-bids DATA OUT participant
    python tests/benchmarks/borders.py b0 DATA OUT [DATA OUT ...]

or ``b0+dwi``, segmented once more from both images.

For every sharpness: how far unmixed FA and MD of slices lie from the tissue's, and FA of gray
matter with its sign. For the sharpness in use: how often the stated 90 % intervals hold the
tissue's value, and those of plain FA the mean in the true regions, by region; and how far these
shares lie from 90 (root mean square over regions, both sides together) with the typical error of
one border at a time halved, as it is, and doubled.
Use phantoms that the published figures do not come from.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.correction.alignment import estimate_b0_to_dwi
from scsnet_bids.correction.resampling import to_dti_space
from scsnet_bids.derivatives import read_table
from scsnet_bids.evaluation.truth import MOTION_ENDING
from scsnet_bids.evaluation.value_scores import DEVIATIONS_OF_90, METRICS
from scsnet_bids.gradients import Gradients, b0_volumes, read_gradients
from scsnet_bids.images import Image, read_image
from scsnet_bids.network.inference import locate_cord, refine_regions, segment_regions
from scsnet_bids.network.weights import load_network, shipped_weights
from scsnet_bids.regions import REGIONS
from scsnet_bids.settings import B0_AND_DWI, Settings, Sharpness
from scsnet_bids.shift_table import shifts_from_table
from scsnet_bids.unmixing.borders import TYPICAL_ERRORS, BorderErrors, alternative_regions
from scsnet_bids.unmixing.own_noise import (
    estimate_own_noise,
    split_volumes,
    take_out_own_noise,
)
from scsnet_bids.unmixing.sharpening import Borders, PlacedRegions, fit_borders
from scsnet_bids.unmixing.signals import UnmixedValues, change_of_values, unmix_regions

SETTINGS = Settings()
SHARPNESS = (1.5, 2.0, 2.5, 3.0, 4.0)
NAMES = ("noise", "left", "back", "outline", "inner left", "inner back", "gray")
GRAY = slice(6, 8)
FACTORS = (0.5, 1.0, 2.0)
QUANTITIES = ("unmixed FA", "unmixed MD", "plain FA")


@dataclass(frozen=True, eq=False)
class Run:
    """A corrected phantom series with its segmentation and truth."""

    series: Image
    gradients: Gradients
    sigma: float
    errors: BorderErrors  # typical ones
    regions: PlacedRegions
    parts: list[BoolArray]  # of the b=0 volumes
    others: list[PlacedRegions]  # drawn without each part
    truth: FloatArray  # (8, 2) FA and MD of the tissue
    fa: FloatArray  # (i, j, k) map
    true_share: FloatArray  # (i, j, k, 9)


@dataclass(frozen=True, eq=False)
class Values:
    """Errors of the values of slices, ``QUANTITIES``, and the parts of their uncertainty."""

    error: FloatArray  # (k, 8, 3)
    parts: FloatArray  # (7, k, 8, 3) by ``NAMES``


def main(sees: str, *folders: Path) -> None:
    """Print the figures for all runs of phantom datasets, each followed by its results."""
    pairs = zip(folders[::2], folders[1::2], strict=True)
    runs = [run for data, out in pairs for run in _read_runs(data, out, sees)]
    in_use = SETTINGS.unmixing.sharpness(sees)
    print("sharpness    mean error of slices, %: FA, MD; mean FA error of gray, %")
    by_outline = [in_use._replace(outline=factor) for factor in SHARPNESS]
    by_region = [in_use._replace(regions=factor) for factor in SHARPNESS]
    for sharpness in dict.fromkeys([*by_outline, *by_region]):
        error = np.concatenate([_relative(run, sharpness) for run in runs])
        sizes = np.nanmean(np.abs(error), axis=(0, 1))
        figures = (*sizes, np.nanmean(error[:, GRAY, 0]))
        factors = " and ".join(f"{factor:.1f}" for factor in sharpness)
        print(f"{factors:11}  " + "  ".join(f"{figure:5.2f}" for figure in figures))
    values = [_measure(run) for run in runs]
    error = np.concatenate([v.error for v in values])
    parts = np.concatenate([v.parts for v in values], axis=1)
    print("\n90 % intervals that hold the truth, %, by region, and without a value")
    for name, held in zip(QUANTITIES, np.moveaxis(_held(error, parts), -1, 0), strict=True):
        shares = " ".join(f"{100 * share:3.0f}" for share in np.nanmean(held, axis=0))
        print(f"{name:11} {shares}   {np.isnan(held).mean():.0%}")
    print(f"\ndistance from 90, in points, with an error times {', '.join(map(str, FACTORS))}")
    for place, name in enumerate(NAMES):
        distances = [_distance(error, parts, place, factor) for factor in FACTORS]
        print(f"{name:11} " + "  ".join(f"{distance:5.2f}" for distance in distances))


def _read_runs(data: Path, out: Path, sees: str) -> Iterator[Run]:
    """Read every run, and segment it with the shipped networks."""
    network = load_network("cpu")
    second = load_network("cpu", shipped_weights(sees), sees) if sees == B0_AND_DWI else None
    for path in sorted(out.glob("sub-*/**/*_desc-preproc_dwi.nii.gz")):
        series, start = read_image(path), str(path).removesuffix("_desc-preproc_dwi.nii.gz")
        bval, bvec = (path.with_name(path.name.replace("nii.gz", x)) for x in ("bval", "bvec"))
        gradients = read_gradients(bval, bvec, series.grid, series.data.shape[3], path)
        b0 = read_image(Path(f"{start}_desc-b0_dwiref.nii.gz")).data
        is_b0 = b0_volumes(gradients.bvals, SETTINGS.gradients.b0_max)
        mean_dwi = series.data[..., ~is_b0].mean(axis=-1)
        centre_mm = locate_cord(b0, series.grid, network)
        found = segment_regions(b0, series.grid, centre_mm, network)
        shift_mm = estimate_b0_to_dwi(
            found.cord, found.plane, mean_dwi, series.grid, SETTINGS.alignment
        ).shift_mm
        moved_mm = to_dti_space(_read_shifts(f"{start}{MOTION_ENDING}"), is_b0, shift_mm)
        parts = split_volumes(is_b0)
        # All volumes of the corrected series lie where the mean DWI does.
        in_place = np.zeros_like(shift_mm)
        images = [(b0, shift_mm)]
        images += [(series.data[..., is_b0 & ~part].mean(axis=-1), in_place) for part in parts]
        placed = []
        for image, apart_mm in images:
            drawn = segment_regions(image, series.grid, centre_mm, network)
            if second:
                drawn = refine_regions(drawn, image, mean_dwi, series.grid, apart_mm, second)
            where = (
                drawn.plane,
                series.grid,
                apart_mm,
                SETTINGS.unmixing.sharpness(sees),
                moved_mm,
            )
            placed.append(PlacedRegions(drawn.probability, *where))
        sigma = float(read_table(Path(f"{start}_desc-image_qc.tsv"))["noise_sigma"].iloc[0])
        truth = data / "derivatives" / "phantom" / path.parent.relative_to(out)
        fa = read_image(Path(f"{start}_model-tensor_param-fa_dwimap.nii.gz")).data
        share = read_image(next(truth.glob("*_seg-SCSNet_probseg.nii.gz"))).data
        table = read_table(next(truth.glob("*_desc-tissue_scalarstats.tsv")))
        rows = table.set_index(["region", "side"])[list(METRICS)]
        order = [(str(region.tissue), str(region.side)) for region in REGIONS]
        tissue = rows.loc[order].to_numpy(float)
        errors, (regions, *others) = TYPICAL_ERRORS[sees], placed
        yield Run(series, gradients, sigma, errors, regions, parts, others, tissue, fa, share)


def _read_shifts(path: str) -> FloatArray:
    """Read a table of displacements."""
    return shifts_from_table(read_table(Path(path)))


def _unmix(run: Run, sharpness: Sharpness) -> tuple[UnmixedValues, PlacedRegions, Borders]:
    """Unmix a run with some sharpness; return the values, the fine regions and their borders."""
    regions = replace(run.regions, sharpness=sharpness)
    borders, fine = fit_borders(run.series.data, regions, None, run.sigma), regions.refined()
    share = fine.sharpened(borders).seen_shares()
    settings = (SETTINGS.unmixing, SETTINGS.gradients)
    unmixed = unmix_regions(run.series.data, share, run.gradients, run.sigma, *settings)
    own_noise = _own_noise(run, sharpness, borders)
    unmixed = take_out_own_noise(unmixed, own_noise, run.gradients, SETTINGS.gradients)
    return unmixed, fine, borders


def _measure(run: Run) -> Values:
    """Unmix a run, and tell how uncertain the values are."""
    unmixed, fine, borders = _unmix(run, run.regions.sharpness)
    placed = [fine.sharpened(borders), *alternative_regions(fine, borders, run.errors)]
    shares = [one.seen_shares() for one in placed]
    settings = (SETTINGS.unmixing, SETTINGS.gradients)
    change = change_of_values(run.series.data, shares, run.gradients, unmixed, *settings)
    plain = np.array([_plain_means(run.fa, one.shares()) for one in placed])
    error = unmixed.value[..., :2] - run.truth
    off = plain[0] - _plain_means(run.fa, run.true_share)
    both = np.concatenate([change[..., :2], (plain[1:] - plain[0])[..., None]], axis=-1)
    by_border = np.sqrt((both.reshape(2, -1, *both.shape[1:]) ** 2).mean(axis=0))
    noise = np.concatenate([unmixed.uncertainty[..., :2], np.zeros_like(off)[..., None]], axis=-1)
    return Values(
        np.concatenate([error, off[..., None]], axis=-1),
        np.concatenate([noise[None], by_border]),
    )


def _own_noise(run: Run, sharpness: Sharpness, borders: Borders) -> FloatArray:
    """(k, 8) part of the b=0 signals that is their own noise."""
    others = [replace(one, sharpness=sharpness).refined() for one in run.others]
    shares = [one.sharpened(borders).seen_shares() for one in others]
    weight = np.ones((run.gradients.bvals.size, run.series.data.shape[2]))
    return estimate_own_noise(run.series.data, run.parts, shares, weight, SETTINGS.unmixing)


def _plain_means(values: FloatArray, share: FloatArray) -> FloatArray:
    """(k, 8) means of a map over the voxels that are at least half of a region."""
    inside = (share[..., 1:] >= SETTINGS.regional.inside_share) & np.isfinite(values)[..., None]
    count = inside.sum(axis=(0, 1))
    total = (inside * np.nan_to_num(values)[..., None]).sum(axis=(0, 1))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _relative(run: Run, sharpness: Sharpness) -> FloatArray:
    """(k, 8, 2) error of slices in % of the tissue's value."""
    value = _unmix(run, sharpness)[0].value[..., :2]
    return np.asarray(100 * (value / run.truth - 1))


def _held(error: FloatArray, parts: FloatArray) -> FloatArray:
    """(k, 8, 3) 1 where the interval holds the truth, 0 where not, nan without a value."""
    deviation = np.sqrt((parts**2).sum(axis=0))
    known = np.isfinite(error) & np.isfinite(deviation)
    return np.where(known, np.abs(error) <= DEVIATIONS_OF_90 * deviation, np.nan)


def _distance(error: FloatArray, parts: FloatArray, place: int, factor: float) -> float:
    """Distance of the shares that hold from 90 %, with one part larger by a factor; points."""
    scale = np.where(np.arange(len(NAMES)) == place, factor, 1.0)[:, None, None, None]
    share = np.nanmean(_held(error, scale * parts), axis=0).reshape(4, 2, -1).mean(axis=1)
    return float(100 * np.sqrt(((share - 0.9) ** 2).mean()))


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
