"""What denoising and removal of Gibbs ringing do to the values of the regions.

    python tests/benchmarks/denoising.py [--people 2] [--snr 7 15] [--fields neck small ringing]

Still phantoms with their true shares: what is measured is the denoiser alone. Bias is 100 x (value
/ truth of the tissue - 1) of FA, mean over sides, slices (by volume) and people. Contrast is the
FA of the white columns less that of gray matter, in percent of the true one: 100 where nothing
pulls the regions together. Noise is the level that unmixing is told, in percent of the true one.

``neck`` is a full neck in 96 x 96 voxels that average their area, ``ringing`` the same scanned as a
scanner does, so that edges ring, and ``small`` 40 x 40 voxels around the cord.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from scsnet_bids.correction.denoising import add_removed, denoise, removed_deviation
from scsnet_bids.phantom import Phantom, PhantomSettings, simulate
from scsnet_bids.phantom.signals import WHITE_SIGNAL
from scsnet_bids.settings import DenoisingSettings, Settings
from scsnet_bids.tensor import fit_tensor
from scsnet_bids.unmixing.noise import estimate_noise
from scsnet_bids.unmixing.signals import unmix_regions

STILL = PhantomSettings(motion_mm=0, b0_to_dwi_mm=0, matrix=(96, 96))
FIELDS = {
    "neck": STILL,
    "small": replace(STILL, matrix=(40, 40)),
    "ringing": replace(STILL, ringing=1),
}
METHODS = {
    "none": DenoisingSettings(),
    "degibbs": DenoisingSettings(degibbs=True),
    "mppca": DenoisingSettings(method="mppca"),
    "mppca, degibbs": DenoisingSettings(method="mppca", degibbs=True),
    "patch2self": DenoisingSettings(method="patch2self"),
}
TISSUES = ("lateral", "dorsal", "ventral", "gray")
INSIDE = 0.5


def measure(person: Phantom, settings: DenoisingSettings, sigma: float) -> dict[str, float]:
    """Measure the values of a person after a method."""
    all_settings = Settings()
    is_b0 = person.gradients.bvals == 0
    start = time.process_time()
    series = denoise(person.series, is_b0, settings)
    seconds = time.process_time() - start
    maps = fit_tensor(series, person.gradients, None, all_settings.gradients)
    share = person.region_share
    residual = add_removed(maps.noise, removed_deviation(person.series, series))
    level = estimate_noise(person.series, is_b0, residual, 1 - share[..., 0])
    unmixed = unmix_regions(
        series,
        share,
        person.gradients,
        level.rician_sigma,
        all_settings.unmixing,
        all_settings.gradients,
    )
    kept = np.isfinite(unmixed.value[..., 0])
    fa = np.where(kept, unmixed.value[..., 0], 0)
    md = np.where(kept, unmixed.value[..., 1], 0)
    volume = unmixed.volume * kept
    regions = [share[..., 1 + r] >= INSIDE for r in range(8)]
    truth = np.array([t.fa for t in person.tissue])
    plain = [np.nanmean(maps.fa[region]) for region in regions]
    return {
        "s": seconds,
        "noise": 100 * level.sigma / sigma,
        **_describe("unmixed", (fa * volume).sum(0) / volume.sum(0), truth),
        **_describe("mean", np.array(plain), truth),
        "MD unmixed": _bias((md * volume).sum(0) / volume.sum(0), person),
    }


def _bias(md: np.ndarray, person: Phantom) -> float:
    """Mean bias of the regions' MD, percent."""
    return float(100 * (md / [t.md for t in person.tissue] - 1).mean())


def _describe(name: str, fa: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Bias by tissue and contrast of white to gray, percent."""
    bias = 100 * (fa / truth - 1).reshape(4, 2).mean(axis=1)
    contrast = 100 * (fa[:6].mean() - fa[6:].mean()) / (truth[:6].mean() - truth[6:].mean())
    columns = {f"{name} {t}": b for t, b in zip(TISSUES, bias, strict=True)}
    return {**columns, f"{name} contrast": contrast}


def show(rows: list[Mapping[str, float | str]]) -> None:
    """Print the means over people."""
    table = pd.DataFrame(rows).groupby(["field", "SNR", "method"], sort=False).mean()
    print("| field | SNR | method | unmixed FA, bias L / D / V / G | contrast | MD | mean FA, bias "
          "L / D / V / G | contrast | noise | CPU s |")  # fmt: skip
    print("|" + "---|" * 10)
    for (field, snr, method), row in table.iterrows():
        cells = []
        for name in ("unmixed", "mean"):
            cells.append(" / ".join(f"{row[f'{name} {t}']:+.0f}" for t in TISSUES) + " %")
            cells.append(f"{row[f'{name} contrast']:.0f} %")
        cells.insert(2, f"{row['MD unmixed']:+.0f} %")
        cells += [f"{row['noise']:.0f} %", f"{row['s']:.0f}"]
        print(f"| {field} | {snr:g} | {method} | {' | '.join(cells)} |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--snr", type=float, nargs="+", default=[7.0, 15.0])
    parser.add_argument("--fields", nargs="+", default=list(FIELDS), choices=FIELDS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    arguments = parser.parse_args()
    rows: list[Mapping[str, float | str]] = []
    for field in arguments.fields:
        for snr in arguments.snr:
            for seed in range(arguments.people):
                person = simulate(replace(FIELDS[field], snr=snr), seed)
                for name in arguments.methods:
                    values = measure(person, METHODS[name], WHITE_SIGNAL / snr)
                    rows.append({"field": field, "SNR": snr, "method": name, **values})
    show(rows)


if __name__ == "__main__":
    main()
