"""Where the displacement from B0 to the mean DWI errs: in the match, or in the cord.

    make evaluate
    python tests/benchmarks/alignment.py demo/evaluation/data demo/evaluation/out

Of phantoms and what the app made of them. The same match is made once more with the true cord of
the B0 image instead of the one that the network found there. In mm: RMS length of the error, its
mean toward the left and the back, and its standard deviation between the slices of a series.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from scsnet_bids.arrays import FloatArray
from scsnet_bids.correction.alignment import estimate_b0_to_dwi
from scsnet_bids.derivatives import read_table
from scsnet_bids.evaluation.tables import markdown_table
from scsnet_bids.evaluation.truth import (
    B0_TO_DWI_ENDING,
    SHARE_ENDING,
    RunFiles,
    find_truth,
    score_displacements,
    shift_slices,
)
from scsnet_bids.gradients import b0_volumes
from scsnet_bids.images import read_image
from scsnet_bids.settings import AlignmentSettings, GradientSettings
from scsnet_bids.shift_table import shifts_from_table
from scsnet_bids.slices import PlaneGrid, volume_to_slices


def main() -> None:
    """Print a table with one row per cord that is matched."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    runs = find_truth(options.data / "derivatives" / "phantom", options.out)
    pairs = [measure_errors(files) for files in runs]
    rows = {}
    for place, cord in enumerate(("found by the network", "true")):
        error_mm = np.array([pair[place] for pair in pairs])  # (runs, k, 2)
        mean, spread = error_mm.mean(axis=(0, 1)), error_mm.std(axis=1).mean(axis=0)
        rows[cord] = {
            "error": np.sqrt((error_mm**2).sum(axis=-1).mean()),
            "mean left": mean[0],
            "mean back": mean[1],
            "slices left": spread[0],
            "slices back": spread[1],
        }
    table = pd.DataFrame.from_dict(rows, orient="index").map("{:.2f}".format)
    print(markdown_table(table.rename_axis("cord of the B0 image")))


def measure_errors(files: RunFiles) -> tuple[FloatArray, FloatArray]:
    """(k, 2) errors of the app, and of its match with the true cord."""
    motion = score_displacements(files)
    estimated, true = (
        shifts_from_table(read_table(name(B0_TO_DWI_ENDING))) for name in (files.ours, files.true)
    )
    between = true + motion["dwi"].offset_mm - motion["b0"].offset_mm
    truth = read_image(files.true(SHARE_ENDING))
    share = shift_slices(
        np.asarray(truth.data, float), motion["dwi"].offset_mm - between, truth.grid.spacing_mm
    )
    series = read_image(files.ours("_desc-preproc_dwi.nii.gz"))
    bvals = np.loadtxt(files.ours("_desc-preproc_dwi.bval"), ndmin=1)
    mean_dwi = series.data[..., ~b0_volumes(bvals, GradientSettings().b0_max)].mean(axis=-1)
    cord, plane = volume_to_slices(1 - share[..., 0]), PlaneGrid.of_image(truth.grid)
    matched = estimate_b0_to_dwi(cord, plane, mean_dwi, series.grid, AlignmentSettings())
    return estimated - between, matched.shift_mm - between


if __name__ == "__main__":
    main()
