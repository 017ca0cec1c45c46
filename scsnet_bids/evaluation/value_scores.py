"""How far region values lie from those of the tissue, and whether their intervals hold it.

Tables in, numbers out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from scsnet_bids.evaluation.scores import Score
from scsnet_bids.regions import REGIONS

METRICS = ("FA", "MD")
KINDS = {"plain": "mean", "core": "core_mean", "unmixed": "unmixed"}
"""Values of a region and their columns in the region table."""
DEVIATIONS_OF_90 = 1.645
"""A normal error lies within this many standard deviations in 90 % of cases."""


def score_values(table: pd.DataFrame, tissue: pd.DataFrame) -> Iterator[Score]:
    """Compare region values with the truth of their tissue.

    Parameters
    ----------
    table : region table of a run
    tissue : columns region, side, FA, MD

    Yields
    ------
    Score, per region and metric: ``bias`` of the value of the whole cord and root mean square
    error of the slices (``RMSE``), both in % of the truth; share of the slices whose unmixed
    interval of 90 % holds the truth (``in 90 %``), of those without a value (``n/a %``), and the
    same of the whole cord: 100 or 0 (``cord in 90 %``)
    """
    names = ["region", "side"]
    truth = tissue.melt(names, METRICS, var_name="metric", value_name="true")
    rows = table.merge(truth, on=[*names, "metric"])
    for (region, side, metric), part in rows.groupby([*names, "metric"], sort=False):
        slices, cord = (part[part["scope"] == scope] for scope in ("slice", "cord"))
        figures = _errors(part) | _intervals(slices)
        figures["cord in 90 %"] = _intervals(cord)["in 90 %"]
        for name, value in figures.items():
            yield Score("value", f"{metric} {name}", value, str(region), str(side))


def score_border_intervals(
    table: pd.DataFrame, true_mean: npt.NDArray[np.floating]
) -> Iterator[Score]:
    """Tell whether the stated uncertainty of plain means holds what wrong borders do to them.

    Parameters
    ----------
    table : region table of a run
    true_mean : (k, 8) mean of the same FA map in the true regions

    Yields
    ------
    Score, per region: share of the slices whose interval of 90 % holds the true mean
    """
    of_slices = table[(table["scope"] == "slice") & (table["metric"] == "FA")]
    for place, region in enumerate(REGIONS):
        chosen = (of_slices["region"] == region.tissue) & (of_slices["side"] == region.side)
        rows = of_slices[chosen]
        error = (rows["mean"] - true_mean[rows["slice"].astype(int), place]).abs()
        held = error <= DEVIATIONS_OF_90 * rows["mean_uncertainty"]
        known = error.notna() & rows["mean_uncertainty"].notna()
        share = float(100 * held[known].mean()) if known.any() else float("nan")
        yield Score("region", "FA mean in 90 %", share, str(region.tissue), str(region.side))


def _errors(rows: pd.DataFrame) -> dict[str, float]:
    """Bias and root mean square error of each kind of value of one region."""
    relative = 100 * rows[list(KINDS.values())].div(rows["true"], axis=0) - 100
    cord, slices = (relative[rows["scope"] == scope] for scope in ("cord", "slice"))
    bias, square = cord.mean(), (slices**2).mean()
    figures = {f"{kind} bias %": float(bias[column]) for kind, column in KINDS.items()}
    return figures | {
        f"{kind} RMSE %": float(np.sqrt(square[column])) for kind, column in KINDS.items()
    }


def _intervals(rows: pd.DataFrame) -> dict[str, float]:
    """Coverage of the intervals of one region, and how often there is none."""
    known = rows.dropna(subset=["unmixed", "unmixed_uncertainty"])
    error = (known["unmixed"] - known["true"]).abs()
    held = error <= DEVIATIONS_OF_90 * known["unmixed_uncertainty"]
    return {
        "in 90 %": float(100 * held.mean()) if len(known) else float("nan"),
        "n/a %": float(100 * (1 - len(known) / len(rows))) if len(rows) else float("nan"),
    }
