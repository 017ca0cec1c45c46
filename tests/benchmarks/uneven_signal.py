"""What the values of slices are worth whose cord has lost signal on one side.

    python tests/benchmarks/uneven_signal.py

Moving phantoms; in every second slice all volumes lose up to a given part of their signal, behind
or in front of a line near the middle of the cord, as in echo-planar images beside discs or metal.
The chain of the app draws and measures; slices that the regions do not explain are measured too, to
see what they would be worth. Errors of unmixed FA against the tissue's: of all eight regions in
single slices (mean size), and of white matter in the whole cord, when every slice counts and when
those do that the app believes.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.correction.alignment import estimate_b0_to_dwi
from scsnet_bids.correction.averages import average_volumes
from scsnet_bids.correction.motion import estimate_motion
from scsnet_bids.correction.outliers import find_outliers
from scsnet_bids.correction.resampling import Correction, apply_correction, to_dti_space
from scsnet_bids.evaluation.tables import markdown_table
from scsnet_bids.gradients import b0_volumes
from scsnet_bids.network.inference import locate_cord, segment_regions
from scsnet_bids.network.model import ScsNet
from scsnet_bids.network.weights import load_network
from scsnet_bids.phantom import Phantom, PhantomSettings, simulate
from scsnet_bids.settings import B0, Settings
from scsnet_bids.slices import centre_of_slices
from scsnet_bids.unmixing.sharpening import PlacedRegions, fit_borders
from scsnet_bids.unmixing.signals import unmix_regions

SETTINGS = Settings()
MEASURE_ALL = replace(SETTINGS.unmixing, largest_unexplained=np.inf)
SEED = 950
EDGE_MM = 0.8
"""The loss grows over twice this."""
FARTHEST_MM = 2.5
WHITE = slice(0, 6)


@dataclass(frozen=True, eq=False)
class Slices:
    """What was found in slices.

    Attributes
    ----------
    lossy : (k,) bool
    unexplained : (k,)
    error : (k, 8) of unmixed FA, percent; nan where there is none
    volume : (k, 8)
    """

    lossy: BoolArray
    unexplained: FloatArray
    error: FloatArray
    volume: FloatArray

    @property
    def believed(self) -> BoolArray:
        """(k,) whether the app gives values."""
        return ~(self.unexplained > SETTINGS.unmixing.largest_unexplained)


def lose(
    person: Phantom, sigma: float, depth: float, rng: np.random.Generator
) -> tuple[FloatArray, BoolArray]:
    """(i, j, k, n) noisy series of a person without noise that has lost signal, and (k,) where."""
    grid = person.grid
    centre_mm = centre_of_slices(1 - person.region_share[..., 0], grid.spacing_mm)
    back_mm = np.arange(grid.shape[1])[:, None] * grid.spacing_mm[1] - centre_mm[:, 1]  # (j, k)
    toward = rng.choice([-1.0, 1.0], grid.shape[2])
    line_mm = rng.uniform(-FARTHEST_MM, FARTHEST_MM, grid.shape[2])
    lossy = np.arange(grid.shape[2]) % 2 == 1
    lost = depth * lossy / (1 + np.exp(-(toward * back_mm - line_mm) / (EDGE_MM / 2)))
    gain = np.broadcast_to((1 - lost)[:, :, None], person.series.shape)
    noise = rng.normal(0, sigma, (2, *person.series.shape))
    return np.hypot(person.series * gain + noise[0], noise[1]), lossy


def measure(
    person: Phantom, sigma: float, series: FloatArray, lossy: BoolArray, network: ScsNet
) -> Slices:
    """Run the chain of the app."""
    is_b0 = b0_volumes(person.gradients.bvals, SETTINGS.gradients.b0_max)
    gradients, grid = person.gradients, person.grid
    centre_mm = locate_cord(series[..., is_b0].mean(axis=-1), grid, network)
    found = estimate_motion(series, is_b0, centre_mm, grid, SETTINGS.motion, gradients)
    still = apply_correction(series, Correction(found.shift_mm), grid)
    weight = find_outliers(still, gradients, centre_mm, grid, SETTINGS.gradients).weight
    b0, mean_dwi = (average_volumes(still, kind, weight) for kind in (is_b0, ~is_b0))
    drawn = segment_regions(b0, grid, centre_mm, network)
    to_dwi = estimate_b0_to_dwi(drawn.cord, drawn.plane, mean_dwi, grid, SETTINGS.alignment)
    moved_mm = to_dti_space(found.shift_mm, is_b0, to_dwi.shift_mm)
    sharpness = SETTINGS.unmixing.sharpness(B0)
    regions = PlacedRegions(
        drawn.probability, drawn.plane, grid, to_dwi.shift_mm, sharpness, moved_mm
    )
    corrected = apply_correction(series, Correction(moved_mm), grid)
    share = regions.refined().sharpened(fit_borders(corrected, regions, None, sigma)).seen_shares()
    unmixed = unmix_regions(
        corrected, share, gradients, sigma, MEASURE_ALL, SETTINGS.gradients, weight
    )
    true_fa = np.array([tensor.fa for tensor in person.region_tensors])
    error = 100 * (unmixed.value[..., 0] / true_fa - 1)
    return Slices(lossy, unmixed.unexplained, error, unmixed.volume)


def whole_cord(found: Slices, counted: BoolArray) -> float:
    """Error of white matter in the whole cord, percent."""
    error = found.error[counted, WHITE]
    volume = np.where(np.isfinite(error), found.volume[counted, WHITE], 0)
    return float((np.nan_to_num(error) * volume).sum() / volume.sum())


def summarise(people: list[Slices]) -> dict[str, str]:
    """Say in words what was found in people with the same loss."""
    error, unexplained, believed = (
        np.concatenate([getattr(p, name)[p.lossy] for p in people])
        for name in ("error", "unexplained", "believed")
    )
    with_cord = np.isfinite(error).any(axis=1)

    def size(chosen: BoolArray) -> str:
        return f"{np.nanmean(np.abs(error[chosen])):.1f}" if chosen.any() else "n/a"

    wholes = [
        np.mean([abs(whole_cord(p, counted)) for p, counted in pairs])
        for pairs in (
            [(p, np.ones_like(p.lossy)) for p in people],
            [(p, p.believed) for p in people],
        )
    ]
    return {
        "slices with values": f"{with_cord.mean():.0%}",
        "unexplained, median": f"{np.nanmedian(unexplained):.3f}",
        "highest": f"{np.nanmax(unexplained):.3f}",
        "not believed": f"{(with_cord & ~believed).sum() / max(with_cord.sum(), 1):.0%}",
        "FA error of these, %": size(with_cord & ~believed),
        "of the believed, %": size(with_cord & believed),
        "white matter, all slices, %": f"{wholes[0]:.1f}",
        "believed slices, %": f"{wholes[1]:.1f}",
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--snr", type=float, nargs="+", default=[7.0, 15.0])
    parser.add_argument("--depth", type=float, nargs="+", default=[0.0, 0.2, 0.4, 0.6, 0.8])
    arguments = parser.parse_args()
    network, rows = load_network("cpu"), []
    noiseless = PhantomSettings(snr=np.inf, motion_mm=0.5)
    persons = [simulate(noiseless, (SEED, seed)) for seed in range(arguments.people)]
    for snr in arguments.snr:
        sigma = 1000 / snr
        for depth in arguments.depth:
            rng = np.random.default_rng(SEED)
            found = [measure(p, sigma, *lose(p, sigma, depth, rng), network) for p in persons]
            rows.append({"b=0 SNR": f"{snr:g}", "lost": f"{depth:.0%}", **summarise(found)})
    print(markdown_table(pd.DataFrame(rows).set_index("b=0 SNR")))


if __name__ == "__main__":
    main()
