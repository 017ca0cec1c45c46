"""How well motion can be found at all at the noise of a series, beside how well ours finds it.

    python tests/benchmarks/motion_floor.py [--people 3] [--snr 4.8] [--b-value 800] [--slices 15]
        [--b0-volumes 5] [--directions 30] [--motion 1.06 0]

Phantoms. With an SNR of 4.8 at b=0 the cord of weighted volumes has 2.5, as real series do. The
columns are RMS lengths of estimated minus true displacement of weighted slices in mm, the median of
each slice removed:

- ours: the estimate of the app
- slice alone: an oracle that knows what each slice looks like without noise and motion, starts at
  the truth and takes the best match of the slice, within the window of the app
- our prior: the same oracle, its slices believed together as the app does
- true prior: the same, with the true covariance of the motion, drawn from the phantom's own source.
  On average nothing that looks at the same window can be better: this is the floor
- bound: what the slices' information promises of slice alone (Cramer and Rao), of a typical slice
- jitter: how far weighted slices lie from the mean of the others, measured anew, as the benchmark
  does in real series: of the series as it is, corrected by the true displacements, and by ours
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scsnet_bids.arrays import FloatArray
from scsnet_bids.benchmark.motion_cases import Case, make_phantom
from scsnet_bids.benchmark.motion_measures import shift_errors_mm
from scsnet_bids.benchmark.shift_search import jitter_mm
from scsnet_bids.correction.displacement import (
    Measurement,
    believed_displacement,
    learn_prior,
    moderate_prior,
)
from scsnet_bids.correction.motion import MARGIN_MM, estimate_motion
from scsnet_bids.correction.resampling import Correction, apply_correction
from scsnet_bids.correction.slice_matching import Reference, match_slices
from scsnet_bids.correction.slice_patches import SlicePatches, cut_patches
from scsnet_bids.evaluation.tables import markdown_table
from scsnet_bids.phantom import PhantomSettings, simulate
from scsnet_bids.phantom.movement import draw_motion
from scsnet_bids.phantom.signals import WHITE_SIGNAL
from scsnet_bids.phantom.simulation import make_gradients
from scsnet_bids.settings import MotionSettings

SETTINGS = MotionSettings()
STEPS = 6
RIDGE = 1e-3
DRAWS = 400
UPDATES = 60


def main() -> None:
    """Print a table with one row per motion."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--snr", type=float, default=4.8)
    parser.add_argument("--b-value", type=float, default=800.0)
    parser.add_argument("--slices", type=int, default=15)
    parser.add_argument("--b0-volumes", type=int, default=5)
    parser.add_argument("--directions", type=int, default=30)
    parser.add_argument("--motion", type=float, nargs="+", default=[1.06, 0.0], metavar="MM")
    options = parser.parse_args()
    rows = []
    for motion_mm in options.motion:
        settings = PhantomSettings(
            b0_to_dwi_mm=0.0,
            snr=options.snr,
            b_value=options.b_value,
            motion_mm=motion_mm,
            slices=options.slices,
            b0_volumes=options.b0_volumes,
            directions=options.directions,
        )
        people = pd.DataFrame([measure(settings, seed) for seed in range(options.people)])
        rows.append({"applied": motion_mm, **np.sqrt((people**2).mean())})
    table = pd.DataFrame(rows).map("{:.2f}".format)
    print(markdown_table(table.set_index("applied")))


def measure(settings: PhantomSettings, seed: int) -> dict[str, float]:
    """Measure all errors of one person."""
    case = make_phantom(settings, seed)
    series, weighted = case.series, ~case.series.is_b0
    ours = estimate_motion(
        series.data, series.is_b0, series.centre_mm, series.grid, SETTINGS, series.gradients
    )
    clean = simulate(replace(settings, motion_mm=0.0, snr=np.inf), (seed, 1)).series
    measurement = ask_oracle(case, clean)
    alone, bound = solve_alone(measurement)
    n, k = measurement.weighted_mm.shape[:2]
    first = moderate_prior(torch.zeros(n, dtype=torch.int64), k)
    learned = learn_prior(measurement, first, UPDATES)
    errors = {
        "ours": ours.shift_mm[weighted],
        "slice alone": alone.numpy(),
        "our prior": believed_displacement(measurement, learned).numpy(),
        "true prior": with_true_prior(measurement, settings),
    }
    whole = np.array(case.truth.shift_mm)
    cord = case.truth.region_share[..., 0] < 0.1
    sigma = WHITE_SIGNAL / settings.snr
    lengths = {"DWI SNR": float(clean[cord][:, weighted].mean() / sigma)}
    for name, shift_mm in errors.items():
        whole[weighted] = shift_mm
        lengths[name], _ = shift_errors_mm(whole, case.truth, series.is_b0)
    jitter = {
        "jitter": measure_jitter(case, np.zeros_like(whole)),
        "jitter true": measure_jitter(case, case.truth.shift_mm),
        "jitter ours": measure_jitter(case, ours.shift_mm),
    }
    return {**lengths, "bound": bound, **jitter}


def measure_jitter(case: Case, shift_mm: FloatArray) -> float:
    """Measure how far the weighted slices of a series lie apart once it is corrected."""
    weighted = ~case.series.is_b0
    corrected = apply_correction(
        case.series.data[..., weighted], Correction(shift_mm[weighted]), case.series.grid
    )
    return jitter_mm(corrected, case.cord_mask, case.series.grid)


def ask_oracle(case: Case, clean: FloatArray) -> Measurement:
    """Match weighted slices with what they look like without noise and motion."""
    seen, known = (cut(case, data) for data in (case.series.data, clean))
    noiseless = Reference(known.intensity, torch.zeros(known.usable.shape))
    shift_mm = torch.from_numpy(case.truth.shift_mm[~case.series.is_b0])
    for _ in range(STEPS):
        match = match_slices(seen, noiseless, shift_mm, SETTINGS.window_radius_mm)
        shift_mm, _ = solve_alone(match.measurement)
    return match.measurement


def solve_alone(measurement: Measurement) -> tuple[Tensor, float]:
    """(n, k, 2) displacement of each slice by itself, and the median error that it promises.

    A slice that shows nothing is left where it is.
    """
    covariance = torch.linalg.inv(measurement.information + RIDGE * torch.eye(2))
    shift_mm = (covariance @ measurement.weighted_mm[..., None])[..., 0]
    return shift_mm, float(covariance.diagonal(dim1=-2, dim2=-1).sum(dim=-1).median().sqrt())


def cut(case: Case, data: FloatArray) -> SlicePatches:
    """Cut the patches that the app looks at from the weighted volumes."""
    reach_mm = SETTINGS.window_radius_mm + SETTINGS.max_shift_mm + MARGIN_MM
    weighted = data[..., ~case.series.is_b0]
    return cut_patches(weighted, case.series.centre_mm, case.series.grid, reach_mm)


def with_true_prior(measurement: Measurement, settings: PhantomSettings) -> FloatArray:
    """(n, k, 2) displacements that slices and the true covariance of the motion agree on."""
    n, k = measurement.weighted_mm.shape[:2]
    covariance = true_covariance(settings)
    information = torch.zeros(n, k, 2, k, 2, dtype=torch.float64)
    slices = torch.arange(k)
    information[:, slices, :, slices, :] = measurement.information.transpose(0, 1)
    information = information.reshape(n, 2 * k, 2 * k)
    free = torch.eye(2 * k, dtype=torch.float64) + covariance @ information
    right = covariance @ measurement.weighted_mm.reshape(n, 2 * k, 1)
    return torch.linalg.solve(free, right).reshape(n, k, 2).numpy()


def true_covariance(settings: PhantomSettings) -> Tensor:
    """(2k, 2k) covariance of the displacements of a volume, from the source that draws them."""
    is_b0 = make_gradients(settings).bvals == 0
    draws = [
        draw_motion(is_b0, settings.slices, settings.motion_mm, np.random.default_rng((seed, 7)))
        for seed in range(DRAWS)
    ]
    flat = np.stack(draws)[:, ~is_b0].reshape(-1, 2 * settings.slices)
    return torch.from_numpy(flat.T @ flat / len(flat))


if __name__ == "__main__":
    main()
