"""The wide table: one row per run, ready for statistics software."""

from __future__ import annotations

from typing import Any

import pandas as pd

from scsnet_bids.group.collect import RUN_COLUMNS

VALUES = {
    "unmixed": "_unmixed",
    "unmixed_uncertainty": "_unmixed_uncertainty",
    "mean": "_mean",
}
"""Columns of the long table that become columns of the wide one, and how these end."""
FLAGS = ("flag", "unmixed_flag")
MEANS = {
    "_unmixed": "Unmixed {metric} of the whole cord ({region}).",
    "_unmixed_uncertainty": "Standard error of the unmixed {metric} of the whole cord ({region}).",
    "_mean": "Plain mean of {metric} over the voxels inside the region in all slices with a cord "
    "({region}). Biased by partial volume.",
}


def widen(scalarstats: pd.DataFrame) -> pd.DataFrame:
    """Make one row per run: unmixed values and plain means of the whole cord, and their flags.

    Parameters
    ----------
    scalarstats : region tables of all runs, long form

    Returns
    -------
    DataFrame with the columns of ``RUN_COLUMNS``, one column per metric, side, region and kind of
    value, ``flag`` and ``unmixed_flag``
    """
    runs = scalarstats[list(RUN_COLUMNS)].drop_duplicates("run").set_index("run", drop=False)
    cord = scalarstats[scalarstats["scope"] == "cord"]
    column = cord["metric"] + "_" + cord["side"] + "_" + cord["region"]
    cells = cord.assign(column=column).drop_duplicates(["run", "column"])
    wide = runs
    for value, ending in VALUES.items():
        part = cells.pivot(index="run", columns="column", values=value)
        wide = wide.join(part[list(dict.fromkeys(column))].add_suffix(ending))
    for flag in FLAGS:
        raised = cells.dropna(subset=flag).groupby("run")[flag].agg(_unite_flags)
        wide = wide.join(raised.astype(object))
    return wide.reset_index(drop=True)


def describe_wide(wide: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Describe the columns of the wide table for its JSON sidecar.

    Parameters
    ----------
    wide : as :func:`widen` makes it

    Returns
    -------
    dict by column, each with a Description and, where there is one, a unit
    """
    described = dict(RUN_COLUMNS)
    for column in map(str, wide.columns.drop(list(RUN_COLUMNS))):
        if column in FLAGS:
            continue
        metric, _, place = column.partition("_")
        ending = max((end for end in MEANS if place.endswith(end)), key=len)
        region = place.removesuffix(ending).replace("_", " ")
        described[column] = {
            "Description": MEANS[ending].format(metric=metric, region=region),
            "Units": "1" if metric == "FA" else "mm2/s",
        }
    for flag, kind in zip(FLAGS, ("plain mean", "unmixed value"), strict=True):
        described[flag] = {
            "Description": f"Reasons for doubt about any {kind} of the row, joined by semicolons; "
            "n/a if there is none. The long table says which value each concerns."
        }
    return described


def _unite_flags(flags: pd.Series[str]) -> str:
    """Join the different words of several flags."""
    return ";".join(dict.fromkeys(word for flag in flags for word in flag.split(";")))
