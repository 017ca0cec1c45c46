"""How well motion found in some slices of a real series tells where its other slices lie.

    python tests/benchmarks/unseen_slices.py DATASET CORD_MASKS

Nobody knows how a real cord moved, and a measure taken on corrected slices is the better the more
of their own noise was taken for motion. So the app sees every second slice only. The mean motion
that it finds there in each weighted volume is held against that of the slices it has not seen, that
are measured one by one, each against the mean of the other volumes. RMS difference in mm, both
halves in turn, beside that of no motion at all; *slope* is how much of what was found is there, 1
if neither too much nor too little is believed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from scsnet_bids.arrays import FloatArray
from scsnet_bids.benchmark.motion_cases import Case, Series, find_real, read_real
from scsnet_bids.benchmark.shift_search import measure_slices
from scsnet_bids.correction.motion import estimate_motion
from scsnet_bids.evaluation.tables import markdown_table
from scsnet_bids.settings import MotionSettings


def main() -> None:
    """Print a table with one row per series."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("masks", type=Path)
    options = parser.parse_args()
    series = find_real(options.dataset, options.masks)
    rows = {name: compare(read_real(*paths)) for name, paths in series.items()}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("series")
    print(markdown_table(table.map("{:.3f}".format)))


def compare(case: Case) -> dict[str, float]:
    """Hold motion of the slices of one half against that of the other, both ways."""
    series = case.series
    weighted = series.data[..., ~series.is_b0]
    # What must be added to a position is the opposite of how far it lies away.
    measured = -measure_slices(weighted, case.cord_mask, series.grid)
    even = np.arange(measured.shape[1]) % 2 == 0
    pairs = list(_halves(series, measured, even))
    found, true = (np.concatenate(part) for part in zip(*pairs, strict=True))
    known = np.isfinite(true)
    found, true = found[known], true[known]
    return {
        "ours": float(np.sqrt(2 * np.mean((true - found) ** 2))),
        "no motion": float(np.sqrt(2 * np.mean(true**2))),
        "slope": float((found * true).sum() / (found**2).sum()),
    }


def _halves(
    series: Series, measured: FloatArray, even: FloatArray
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield the mean motion (n, 2) found in one half of the slices, and measured in the other."""
    weighted = ~series.is_b0
    for seen in (even, ~even):
        centre_mm = np.where(seen[:, None], series.centre_mm, np.nan)
        found = estimate_motion(
            series.data, series.is_b0, centre_mm, series.grid, MotionSettings(), series.gradients
        ).shift_mm[weighted]
        usable = seen & np.isfinite(series.centre_mm).all(axis=1)
        hidden = np.ma.masked_invalid(measured[:, ~seen]).mean(axis=1).filled(np.nan)
        means = found[:, usable].mean(axis=1), hidden
        yield tuple(mean - np.nanmedian(mean, axis=0) for mean in means)


if __name__ == "__main__":
    main()
