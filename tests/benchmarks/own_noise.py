"""How much of the b=0 signal of regions is the noise on which these were drawn, and what is told.

    python tests/benchmarks/own_noise.py

Still phantoms, whose series without noise is known. Their noise is unmixed by regions that the
network draws on it, and by regions that it draws without any: the difference is what the signals
owe to being drawn on their own noise. Beside it, what the app tells from the noisy series alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.evaluation.tables import markdown_table
from scsnet_bids.network.inference import locate_cord, segment_regions
from scsnet_bids.network.model import ScsNet
from scsnet_bids.network.weights import load_network
from scsnet_bids.phantom import Phantom, PhantomSettings, simulate
from scsnet_bids.regions import REGIONS
from scsnet_bids.settings import B0, UnmixingSettings
from scsnet_bids.unmixing.own_noise import estimate_own_noise, split_volumes
from scsnet_bids.unmixing.sharpening import Borders, PlacedRegions
from scsnet_bids.unmixing.signals import solve_signals

SETTINGS = UnmixingSettings()
FIRST_SEED = 100
CASES = ((5.0, 5), (6.5, 2), (6.5, 5), (6.5, 9), (15.0, 5))
"""b=0 SNR, and number of b=0 volumes."""
STILL = PhantomSettings(slices=8, directions=6, motion_mm=0, b0_to_dwi_mm=0)


def main() -> None:
    """Measure every case and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=16, help="phantoms of each case")
    people = parser.parse_args().people
    network, rows = load_network("cpu"), []
    for snr, n_b0 in CASES:
        settings = replace(STILL, snr=snr, b0_volumes=n_b0)
        found = np.array([compare(settings, FIRST_SEED + n, network) for n in range(people)])
        for name, values in zip(("true", "told"), found.swapaxes(0, 1), strict=True):
            case = {"b=0 SNR": f"{snr:g}", "b=0 volumes": n_b0, "own noise, %": name}
            rows.append(case | dict(_by_tissue(values)))
    print(markdown_table(pd.DataFrame(rows).set_index("b=0 SNR")))


def compare(settings: PhantomSettings, seed: int, network: ScsNet) -> FloatArray:
    """(2, 8) own noise of the regions in percent of white matter's signal: true, and told.

    Drawn without noise, regions show what magnitudes of noise are on average.
    """
    noisy, clean = (simulate(one, seed) for one in (settings, replace(settings, snr=np.inf)))
    is_b0 = noisy.gradients.bvals == 0
    noise = (noisy.series - clean.series)[..., is_b0].mean(axis=-1, keepdims=True)
    drawn = (_find(one, is_b0, network) for one in (noisy, clean))
    own, others = (solve_signals(noise, share, SETTINGS)[..., 0] for share in drawn)
    parts, ones = split_volumes(is_b0), np.ones((is_b0.size, settings.slices))
    shares = [_find(noisy, is_b0 & ~part, network) for part in parts]
    told = estimate_own_noise(noisy.series, parts, shares, ones, SETTINGS)
    return np.array([(own - others).mean(axis=0), told.mean(axis=0)]) / 10


def _find(phantom: Phantom, chosen: BoolArray, network: ScsNet) -> FloatArray:
    """Find the shares of the regions on the mean of some volumes."""
    b0, grid = phantom.series[..., chosen].mean(axis=-1), phantom.grid
    drawn = segment_regions(b0, grid, locate_cord(b0, grid, network), network)
    still_mm = np.zeros((grid.shape[2], 2))
    placed = (drawn.probability, drawn.plane, grid, still_mm, SETTINGS.sharpness(B0))
    borders = Borders.unmoved(grid.shape[2])
    return PlacedRegions(*placed).refined().sharpened(borders).shares()


def _by_tissue(values: FloatArray) -> Iterator[tuple[str, str]]:
    """Mean and standard error of (people, 8) values of either side."""
    for tissue in dict.fromkeys(region.tissue for region in REGIONS):
        chosen = [region.label - 1 for region in REGIONS if region.tissue == tissue]
        each = values[:, chosen].mean(axis=1)
        error = each.std(ddof=1) / np.sqrt(len(each))
        yield str(tissue), f"{each.mean():+.2f} ± {error:.2f}"


if __name__ == "__main__":
    main()
