"""What is left of losses that are too slight to be seen at once.

    python tests/benchmarks/soft_losses.py

Still phantoms, their regions given; a fifth of the weighted slices keep 45 to 95 % of their signal.
Bias of unmixed FA and MD against the same series without losses, and RMS over regions: when
everything counts, when outliers count as the app weighs them, and when no slice with a loss counts,
as the simulation knows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from scsnet_bids.arrays import FloatArray
from scsnet_bids.correction.outliers import find_outliers
from scsnet_bids.evaluation.tables import markdown_table
from scsnet_bids.phantom import Phantom, PhantomSettings, simulate
from scsnet_bids.settings import GradientSettings, UnmixingSettings
from scsnet_bids.slices import centre_of_slices
from scsnet_bids.unmixing.signals import unmix_regions

PEOPLE, SNRS, LOSSY = 4, (7, 15), 0.2
KEPT = (0.45, 0.95)
STILL = PhantomSettings(
    motion_mm=0, lost_slices=0, b0_to_dwi_mm=0, slices=8, matrix=(64, 48), directions=30
)


def lose(phantom: Phantom, sigma: float, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """(i, j, k, n) series with soft losses, and (n, k) whether a slice has one."""
    lost = (rng.random(phantom.lost.shape) < LOSSY) & (phantom.gradients.bvals > 0)[:, None]
    gain = np.where(lost, rng.uniform(*KEPT, lost.shape), 1.0).T
    series = phantom.series.astype(float)
    signal = np.sqrt(np.clip(series**2 - sigma**2, 0, None)) * gain
    added = sigma * np.sqrt(1 - gain**2) * rng.normal(size=(2, *signal.shape))
    return np.where(lost.T, np.hypot(signal + added[0], added[1]), series), lost


def measure(phantom: Phantom, series: FloatArray, sigma: float, weight: FloatArray) -> FloatArray:
    """(8, 2) FA and MD of the regions, mean of the slices."""
    share = np.asarray(phantom.region_share, dtype=float)
    settings = (UnmixingSettings(), GradientSettings())
    found = unmix_regions(series, share, phantom.gradients, sigma, *settings, weight)
    return np.asarray(np.nanmean(found.value[..., :2], axis=0))


def compare(snr: float) -> Iterator[tuple[str, FloatArray]]:
    """Yield what counts and the relative error of (8, 2) values of each person."""
    sigma = 1000 / snr
    for person in range(PEOPLE):
        phantom = simulate(replace(STILL, snr=snr), 50 + person)
        series, lost = lose(phantom, sigma, np.random.default_rng(person))
        everything = np.ones(lost.shape)
        centre_mm = centre_of_slices(1 - phantom.region_share[..., 0], phantom.grid.spacing_mm)
        found = find_outliers(
            series, phantom.gradients, centre_mm, phantom.grid, GradientSettings()
        )
        truth = measure(phantom, phantom.series.astype(float), sigma, everything)
        for name, weight in (
            ("everything", everything),
            ("as the app weighs", found.weight),
            ("no slice with a loss", np.where(lost, 0.0, 1.0)),
        ):
            yield name, 100 * (measure(phantom, series, sigma, weight) / truth - 1)


def main() -> None:
    """Print the table."""
    rows = []
    for snr in SNRS:
        errors: dict[str, list[FloatArray]] = {}
        for name, error in compare(snr):
            errors.setdefault(name, []).append(error)
        for name, values in errors.items():
            fa, md = np.moveaxis(np.array(values), -1, 0)
            cells = [f"{x.mean():+.1f} ({np.sqrt((x**2).mean()):.1f})" for x in (fa, md)]
            rows.append((str(snr), name, *cells))
    columns = ["b=0 SNR", "what counts", "FA bias (RMS) %", "MD bias (RMS) %"]
    print(markdown_table(pd.DataFrame(rows, columns=columns).set_index("b=0 SNR")))


if __name__ == "__main__":
    main()
