"""How well the displacement from b=0 to the weighted volumes is found, and what it does to FA.

    python tests/benchmarks/offset.py [--people 3] [--snr 7 15] [--offsets 0 0.4 0.8]

Phantoms that move by 0.8 mm go through the steps of the app, from the search for the cord to the
unmixed values. First table: RMS over slices of the displacement that is found minus the true one,
with the cord that the network draws on the B0 image, and with the true cord in its place. Second
table: mean size of the error of FA of slices and regions, in percent of the tissue's value, with
the b=0 volumes left on their own mean and moved on to the weighted volumes, in the same regions.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from scsnet_bids.arrays import FloatArray
from scsnet_bids.correction.alignment import estimate_b0_to_dwi
from scsnet_bids.correction.averages import average_volumes
from scsnet_bids.correction.motion import estimate_motion
from scsnet_bids.correction.outliers import find_outliers
from scsnet_bids.correction.resampling import Correction, apply_correction, to_dti_space
from scsnet_bids.gradients import b0_volumes
from scsnet_bids.network.inference import locate_cord, segment_regions
from scsnet_bids.network.model import ScsNet
from scsnet_bids.network.weights import load_network
from scsnet_bids.phantom import Phantom, PhantomSettings, simulate
from scsnet_bids.settings import B0, Settings
from scsnet_bids.slices import PlaneGrid, volume_to_slices
from scsnet_bids.tensor import fit_tensor
from scsnet_bids.unmixing.noise import estimate_noise
from scsnet_bids.unmixing.sharpening import PlacedRegions, fit_borders
from scsnet_bids.unmixing.signals import unmix_regions

SETTINGS = Settings()
MOVING = PhantomSettings(motion_mm=0.8)
SEED = 900


def measure(person: Phantom, network: ScsNet) -> Iterator[tuple[str, float]]:
    """Yield the figures of a person by name."""
    is_b0 = b0_volumes(person.gradients.bvals, SETTINGS.gradients.b0_max)
    series, gradients, grid = person.series, person.gradients, person.grid
    centre_mm = locate_cord(series[..., is_b0].mean(axis=-1), grid, network)
    found = estimate_motion(series, is_b0, centre_mm, grid, SETTINGS.motion, gradients)
    left = apply_correction(series, Correction(found.shift_mm), grid)
    weight = find_outliers(left, gradients, centre_mm, grid, SETTINGS.gradients).weight
    b0, mean_dwi = (average_volumes(left, kind, weight) for kind in (is_b0, ~is_b0))
    drawn = segment_regions(b0, grid, centre_mm, network)
    to_dwi = estimate_b0_to_dwi(drawn.cord, drawn.plane, mean_dwi, grid, SETTINGS.alignment)
    # The means lie off the truth by the mean error of their volumes.
    off_mm = found.shift_mm + person.motion_mm
    b0_off_mm = off_mm[is_b0].mean(axis=0)
    true_mm = person.b0_to_dwi_mm + off_mm[~is_b0].mean(axis=0) - b0_off_mm
    yield "network's cord", rms(to_dwi.shift_mm - true_mm)
    yield "true cord", rms(_with_true_cord(person, mean_dwi, b0_off_mm) - true_mm)
    moved_mm = to_dti_space(found.shift_mm, is_b0, to_dwi.shift_mm)
    sharpness = SETTINGS.unmixing.sharpness(B0)
    regions = PlacedRegions(
        drawn.probability, drawn.plane, grid, to_dwi.shift_mm, sharpness, moved_mm
    )
    moved = apply_correction(series, Correction(moved_mm), grid)
    residual = fit_tensor(moved, gradients, None, SETTINGS.gradients, weight).noise
    sigma = estimate_noise(series, is_b0, residual, 1 - regions.shares()[..., 0]).rician_sigma
    regions = regions.refined().sharpened(fit_borders(moved, regions, None, sigma))
    for name, corrected in (("left", left), ("moved", moved)):
        for way, error in _errors(person, corrected, regions, weight, sigma):
            yield f"{way}, {name}", error


def rms(vectors: FloatArray) -> float:
    """Root mean square of the lengths of (k, 2) vectors."""
    return float(np.sqrt((vectors**2).sum(axis=-1).mean()))


def _with_true_cord(person: Phantom, mean_dwi: FloatArray, off_mm: FloatArray) -> FloatArray:
    """(k, 2) displacement that is found with the true cord, moved by its mean displacement."""
    mean_mm = person.b0_to_dwi_mm.mean(axis=0)
    start_mm = (-float(mean_mm[0]), -float(mean_mm[1]))
    plane = replace(PlaneGrid.of_image(person.grid), start_mm=start_mm)
    cord = volume_to_slices(1 - person.region_share[..., 0])
    found = estimate_b0_to_dwi(cord, plane, mean_dwi, person.grid, SETTINGS.alignment)
    return found.shift_mm - mean_mm + person.b0_to_dwi_mm - off_mm


def _errors(
    person: Phantom, series: FloatArray, regions: PlacedRegions, weight: FloatArray, sigma: float
) -> Iterator[tuple[str, float]]:
    """Yield the mean size of the error of plain and unmixed FA, percent."""
    gradients, share = person.gradients, regions.shares()
    maps = fit_tensor(series, gradients, None, SETTINGS.gradients, weight)
    unmixed = unmix_regions(
        series,
        regions.seen_shares(),
        gradients,
        sigma,
        SETTINGS.unmixing,
        SETTINGS.gradients,
        weight,
    )
    inside = share[..., 1:] >= SETTINGS.regional.inside_share  # (i, j, k, 8)
    fa = np.where(inside, maps.fa[..., None], np.nan)
    true_fa = np.array([seen.fa for seen in person.region_tensors])
    for way, value in (("plain", np.nanmean(fa, axis=(0, 1))), ("unmixed", unmixed.value[..., 0])):
        yield way, float(np.nanmean(np.abs(100 * (value / true_fa - 1))))


def show(rows: list[dict[str, float]]) -> None:
    """Print the means over people as two tables."""
    table = pd.DataFrame(rows).groupby(["SNR", "offset"]).mean()
    for names, unit in ((table.columns[:2], "mm"), (table.columns[2:], "%")):
        print(f"| b=0 SNR | offset, mm | {' | '.join(f'{n}, {unit}' for n in names)} |")
        print("|" + "---|" * (2 + len(names)))
        for (snr, offset), row in table[names].iterrows():
            cells = " | ".join(f"{value:.2f}" for value in row)
            print(f"| {snr:g} | {offset:g} | {cells} |")
        print()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--snr", type=float, nargs="+", default=[7.0, 15.0])
    parser.add_argument("--offsets", type=float, nargs="+", default=[0.0, 0.4, 0.8])
    arguments = parser.parse_args()
    network, rows = load_network("cpu"), []
    for snr in arguments.snr:
        for offset in arguments.offsets:
            for seed in range(arguments.people):
                person = simulate(replace(MOVING, snr=snr, b0_to_dwi_mm=offset), (SEED, seed))
                rows.append({"SNR": snr, "offset": offset, **dict(measure(person, network))})
    show(rows)


if __name__ == "__main__":
    main()
