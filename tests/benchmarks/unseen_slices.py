"""How well motion found in some slices of a real series tells where its other slices lie.

    python tests/benchmarks/unseen_slices.py DATASET CORD_MASKS

Nobody knows how a real cord moved, and a measure taken on corrected slices is the better the more
of their own noise was taken for motion. So every fourth slice is hidden from the app, and where the
app then expects it in each volume is held against where it lies, measured by itself against the
mean of the other volumes; each slice is hidden once. *no motion* and *ours* are RMS in mm, both
with the noise of that measurement; *explained* is by how much of its variance, in mm2, ours is
better; *slope* is how much of what was expected is there, 1 if neither too much nor too little is
believed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.benchmark.motion_cases import Case, Series, find_real, read_real
from scsnet_bids.benchmark.shift_search import measure_slices
from scsnet_bids.correction.motion import estimate_motion
from scsnet_bids.evaluation.tables import markdown_table
from scsnet_bids.settings import MotionSettings

FOLDS = 4
AXES = "left-right", "front-back"


def main() -> None:
    """Print a table with one row per series, kind of volumes and axis."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("masks", type=Path)
    options = parser.parse_args()
    rows = [
        {"series": name, **row}
        for name, paths in find_real(options.dataset, options.masks).items()
        for row in compare(read_real(*paths))
    ]
    table = pd.DataFrame(rows).set_index("series")
    print(markdown_table(table))


def compare(case: Case) -> list[dict[str, str]]:
    """Hold where hidden slices are expected against where they lie."""
    series = case.series
    expected = expect_hidden(series)
    rows = []
    for kind, volumes in (("weighted", ~series.is_b0), ("b=0", series.is_b0)):
        # What must be added to a position is the opposite of how far it lies away.
        lies = -measure_slices(series.data[..., volumes], case.cord_mask, series.grid)
        for axis, name in enumerate(AXES):
            found, true = (_from_median(mm[..., axis]) for mm in (expected[volumes], lies))
            known = np.isfinite(true) & np.isfinite(found)
            scores = _scores(found[known], true[known])
            rows.append({"volumes": kind, "axis": name, **scores})
    return rows


def expect_hidden(series: Series) -> FloatArray:
    """(n, k, 2) displacement of every slice, told by others; nan where the cord is not known."""
    k = series.data.shape[2]
    expected = np.full((series.data.shape[3], k, 2), np.nan)
    for fold in range(FOLDS):
        hidden: BoolArray = np.arange(k) % FOLDS == fold
        centre_mm = np.where(hidden[:, None], np.nan, series.centre_mm)
        found = estimate_motion(
            series.data, series.is_b0, centre_mm, series.grid, MotionSettings(), series.gradients
        )
        expected[:, hidden] = found.shift_mm[:, hidden]
    return expected


def _from_median(shift_mm: FloatArray) -> FloatArray:
    """(n, k) displacements along one axis from their median over the volumes."""
    return np.asarray(shift_mm - np.nanmedian(shift_mm, axis=0))


def _scores(found: FloatArray, true: FloatArray) -> dict[str, str]:
    """Compare displacements along one axis."""
    nothing, ours = (true**2).mean(), ((true - found) ** 2).mean()
    slope = (found * true).sum() / (found**2).sum()
    return {
        "no motion": f"{np.sqrt(nothing):.3f}",
        "ours": f"{np.sqrt(ours):.3f}",
        "explained": f"{nothing - ours:.4f}",
        "slope": f"{slope:.2f}",
    }


if __name__ == "__main__":
    main()
