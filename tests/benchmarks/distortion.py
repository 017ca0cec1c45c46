"""What is left of distortion when a series has a pair with reversed phase encoding.

    python tests/benchmarks/distortion.py [--people 3] [--snr 7 15 25] [--field 0 2 4]

Phantoms of 8 slices with 5 b=0 volumes and one that is phase-encoded the other way, without
motion. Applied and left are RMS displacements in the cord along the phase-encode axis, mm. Area is
what the field that was found makes of the true cord's area in a slice, relative to the truth, the
largest error of all slices. Brightness is the mean of the cord in b=0, corrected against never
distorted.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd

from scsnet_bids.arrays import FloatArray
from scsnet_bids.correction.distortion import estimate_distortion
from scsnet_bids.correction.resampling import Correction, apply_correction
from scsnet_bids.evaluation.tables import markdown_table
from scsnet_bids.phantom import Phantom, PhantomSettings, simulate
from scsnet_bids.slices import centre_of_slices

SETTINGS = PhantomSettings(
    directions=6, slices=8, matrix=(64, 48), motion_mm=0.0, b0_to_dwi_mm=0.0, reversed_b0=1
)
INSIDE = 0.5


def main() -> None:
    """Print one row per field and noise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--snr", type=float, nargs="+", default=[7.0, 15.0, 25.0])
    parser.add_argument("--field", type=float, nargs="+", default=[0.0, 2.0, 4.0], metavar="MM")
    options = parser.parse_args()
    rows = []
    for field_mm, snr in product(options.field, options.snr):
        settings = replace(SETTINGS, distortion_mm=field_mm, snr=snr)
        people = pd.DataFrame([measure(settings, seed) for seed in range(options.people)])
        squares = np.sqrt((people[["applied mm", "left mm"]] ** 2).mean())
        largest = people.drop(columns=squares.index).max()
        rows.append({"field": f"up to {field_mm:g} mm, SNR {snr:g}", **squares, **largest})
    table = pd.DataFrame(rows).set_index("field").map("{:.2f}".format)
    print(markdown_table(table))


def measure(settings: PhantomSettings, seed: int) -> dict[str, float]:
    """Measure what is left of one person's distortion."""
    bent, straight = (
        simulate(replace(settings, distortion_mm=mm), seed) for mm in (settings.distortion_mm, 0.0)
    )
    cord = bent.region_share[..., 0] < INSIDE
    b0 = mean_b0(bent)
    start = time.process_time()
    field_mm = estimate_distortion(
        b0, bent.reversed_b0[..., 0], seen_centre_mm(bent), bent.grid.spacing_mm
    )
    seconds = time.process_time() - start
    still = np.zeros((1, b0.shape[2], 2))
    corrected = apply_correction(b0[..., None], Correction(still, field_mm=field_mm), bent.grid)
    brightness = corrected[cord].mean() / mean_b0(straight)[cord].mean()
    area = cord_area(cord, field_mm, bent) / cord_area(cord, bent.field_mm, bent)
    return {
        "applied mm": rms(bent.field_mm[cord]),
        "left mm": rms((field_mm - bent.field_mm)[cord]),
        "area error %": 100 * float(np.abs(area - 1).max()),
        "brightness error %": 100 * abs(float(brightness) - 1),
        "CPU s": seconds,
    }


def mean_b0(phantom: Phantom) -> FloatArray:
    """Mean of the b=0 volumes, which did not move."""
    return np.asarray(phantom.series[..., phantom.gradients.bvals == 0].mean(axis=-1), float)


def seen_centre_mm(phantom: Phantom) -> FloatArray:
    """(k, 2) middle of the cord where it is seen."""
    cord = phantom.region_share[..., 0] < INSIDE
    centre_mm = centre_of_slices(cord, phantom.grid.spacing_mm)
    inside = [phantom.field_mm[..., k][cord[..., k]].mean() for k in range(cord.shape[2])]
    centre_mm[:, 1] += inside
    return centre_mm


def cord_area(cord: npt.NDArray[np.bool_], field_mm: FloatArray, phantom: Phantom) -> FloatArray:
    """(k,) voxels that the cord of each slice fills where a field displaces it."""
    stretch = 1 + np.gradient(field_mm, phantom.grid.spacing_mm[1], axis=1)
    return np.asarray((cord / stretch).sum(axis=(0, 1)))


def rms(values: FloatArray) -> float:
    """Root mean square."""
    return float(np.sqrt((values**2).mean()))


if __name__ == "__main__":
    main()
