"""Slices that readers failed leave the tables of the group.

Slices that the participant level left out already are dropped. For others the rows of levels and of
the whole cord are made again from the slices that remain, as far as the tables tell them exactly:
counts, volumes, plain and weighted means, standard deviations and unmixed values, which are means
over slices. Medians, percentiles, core means and errors by borders cannot be told and become n/a.
Nor can the standard error of an unmixed value: in its place stands its upper bound, the mean of the
slices' standard errors, as if all their errors had one cause. The participant level with the same
marks gives everything exactly.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scsnet_bids.arrays import FloatArray
from scsnet_bids.compression import COMPRESSION_COLUMNS, tabulate_compression
from scsnet_bids.cord_shape import DOUBTFUL_SHAPE
from scsnet_bids.derivatives import join_flags, select_rows
from scsnet_bids.group.collect import RUN_COLUMNS, GroupTables
from scsnet_bids.regional import FEW_VOXELS, FULL_COVERAGE, PLAUSIBLE, REGION_TABLE_COLUMNS
from scsnet_bids.regions import REGION_GROUPS, REGIONS
from scsnet_bids.slice_marks import (
    EXCLUDED,
    Mark,
    Marks,
    failed_slices,
    refuse_absent_slices,
    refuse_unknown_run,
)
from scsnet_bids.unmixing.table import UNMIXED_COLUMNS, combine_values, volume_that_counts

NAMES = ["scope", "slice", "level", "region", "side", "metric"]
MEASURED = [c for c in (*REGION_TABLE_COLUMNS, *UNMIXED_COLUMNS) if c not in NAMES]
MEMBERS = {
    (g.region, str(g.side)): [(str(r.tissue), str(r.side)) for r in REGIONS if r.label in g.labels]
    for g in REGION_GROUPS
}

EXCLUDED_COLUMNS: dict[str, dict[str, Any]] = RUN_COLUMNS | {
    "slice": {"Description": "Slice that a reader failed, from 0 for the lowest."},
    "reason": {"Description": "Comment of the reader, by the table of --exclude-slices."},
}
NO_MARK = Mark(Path())
"""Of a slice that the participant level left out."""


def exclude_slices(tables: GroupTables, marks: Marks) -> GroupTables:
    """Leave slices out of the tables of all runs, and of what is made of them.

    Parameters
    ----------
    tables : of all runs
    marks : failed slices by run; those that the tables flag already are added

    Returns
    -------
    GroupTables, ``excluded`` filled

    Raises
    ------
    UsageError
        If a run or slice of the marks does not exist.
    """
    marks = _check(tables, marks)
    before = _flagged(tables.scalarstats)
    changed = {run: set(failed) - before.get(run, set()) for run, failed in marks.items()}
    out = {run: before.get(run, set()) | set(marks.get(run, ())) for run in {*before, *marks}}
    regions, quality = tables.scalarstats, tables.quality
    shape = _without(tables.shape, out)
    touched = regions["run"].isin([run for run, own in changed.items() if own])
    parts = [regions[~touched]]
    for run, own in regions[touched].groupby("run"):
        parts.append(_remeasure(own, out[str(run)]))
        quality = _rejudge(quality, str(run), shape, parts[-1], len(out[str(run)]))
    regions = pd.concat(parts).sort_index()
    is_slice = regions["scope"] == "slice"
    kept = pd.concat([regions[~is_slice], _without(regions[is_slice], out)]).sort_index()
    names = tables.scalarstats[list(RUN_COLUMNS)].drop_duplicates("run").set_index("run")
    listed = [
        (*names.loc[run], run, number, marks.get(run, {}).get(number, NO_MARK).comment or None)
        for run in sorted(out.keys() & set(names.index))
        for number in sorted(out[run])
    ]
    excluded = pd.DataFrame(listed, columns=list(EXCLUDED_COLUMNS))
    return replace(
        tables,
        scalarstats=kept.reset_index(drop=True),
        shape=shape.reset_index(drop=True),
        quality=quality,
        excluded=excluded,
    )


def _check(tables: GroupTables, marks: Marks) -> Marks:
    """Make sure that marks speak of runs and slices that there are, and list these."""
    regions = tables.scalarstats
    heights = regions[regions["scope"] == "slice"].groupby("run")["slice"].max()
    known = {*regions["run"], *tables.gaps["run"].dropna()}
    for run, failed in marks.items():
        if run not in known:
            refuse_unknown_run(run, failed, "the output folder has no such run")
        if run in heights:
            refuse_absent_slices(run, failed, int(heights[run]) + 1)
    return {run: failed_slices(marks, run, int(heights.get(run, -1)) + 1) for run in marks}


def _flagged(regions: pd.DataFrame) -> dict[str, set[int]]:
    """Slices of each run that its table flags as excluded."""
    own = regions[(regions["scope"] == "slice") & regions["flag"].str.contains(EXCLUDED, na=False)]
    return {str(run): set(map(int, rows["slice"].unique())) for run, rows in own.groupby("run")}


def _without(table: pd.DataFrame, out: dict[str, set[int]]) -> pd.DataFrame:
    """Drop rows of slices that are left out."""
    if not len(table):
        return table
    pairs = zip(table["run"], table["slice"], strict=True)
    return table[[number not in out.get(run, ()) for run, number in pairs]]


def _remeasure(rows: pd.DataFrame, out: Collection[int]) -> pd.DataFrame:
    """Make a run's rows of levels and of the whole cord again from the slices that remain."""
    slices = rows[(rows["scope"] == "slice") & ~rows["slice"].isin(list(out))]
    wide = rows[rows["scope"] != "slice"]
    lost = rows[(rows["scope"] == "slice") & rows["slice"].isin(list(out))]
    touched = wide[(wide["scope"] == "cord") | wide["level"].isin(set(lost["level"].dropna()))]
    made = pd.DataFrame(list(_pool_rows(touched, slices)), index=touched.index)
    result = rows.copy()
    columns = [name for name in MEASURED if name in rows]
    result.loc[touched.index, columns] = made.reindex(columns=columns).astype(
        {name: rows[name].dtype for name in columns if rows[name].dtype == object}
    )
    return result


def _pool_rows(touched: pd.DataFrame, slices: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield what can be told of each row from its slices."""
    by_cell = {
        cell: part.set_index("slice")
        for cell, part in slices.groupby(["region", "side", "metric"], sort=False)
    }
    for row in touched.to_dict("records"):
        parts = [
            by_cell.get((*cell, row["metric"])) for cell in MEMBERS[row["region"], row["side"]]
        ]
        own = by_cell.get((row["region"], row["side"], row["metric"]))
        if own is not None and row["scope"] == "level":
            own = own[own["level"] == row["level"]]
            parts = [None if p is None else p[p["level"] == row["level"]] for p in parts]
        if own is None or own.empty:
            yield {"n_voxels": 0, "flag": EXCLUDED, "unmixed_flag": EXCLUDED}
            continue
        known = [part for part in parts if part is not None]
        yield _pool_plain(own, row) | _pool_unmixed(pd.concat(known), row["metric"])


def _pool_plain(own: pd.DataFrame, row: dict[Any, Any]) -> dict[str, Any]:
    """Pool the voxels of slices: what their counts, means and deviations tell exactly."""
    columns = ("n_voxels", "mean", "std", "volume_mm3", "coverage", "weighted_mean", "confidence")
    if not set(columns) <= set(own):
        return {"flag": row["flag"]}
    n, mean, std, volume, coverage, weighted, stated = (
        own[name].to_numpy(float) for name in columns
    )
    n, volume = np.nan_to_num(n), np.nan_to_num(volume)
    pooled = _average(mean, n)
    squares = np.nansum((n - 1).clip(0) * std**2) + np.nansum(n * (mean - pooled) ** 2)
    part = volume * np.nan_to_num(coverage)
    told = np.isfinite(weighted[part > 0]).all() and n.sum() > 0
    found: dict[str, Any] = {
        "n_voxels": n.sum(),
        "volume_mm3": volume.sum() or np.nan,
        "mean": pooled,
        "std": np.sqrt(squares / (n.sum() - 1)) if n.sum() > 1 else np.nan,
        "weighted_mean": _average(weighted, part) if told else np.nan,
        "coverage": _average(coverage, volume),
        "confidence": _average(stated, volume),
    }
    lowest, highest = PLAUSIBLE[row["metric"]]
    raised = {
        "empty": n.sum() == 0,
        "few_voxels": 0 < n.sum() < FEW_VOXELS,
        "partial_coverage": found["coverage"] < FULL_COVERAGE,
        "implausible": pooled < lowest or pooled > highest,
        # The limit is a setting of the participant level.
        "low_confidence": "low_confidence" in str(row["flag"]),
    }
    return found | {"flag": join_flags(raised)}


def _pool_unmixed(parts: pd.DataFrame, metric: str) -> dict[str, Any]:
    """Average the unmixed values of regions in slices by volume; the error is an upper bound."""
    columns = ("unmixed", "unmixed_uncertainty", "volume_mm3")
    if not set(columns) <= set(parts):
        return {}
    value, error, volume = (parts[name].to_numpy(float) for name in columns)
    volume = np.nan_to_num(volume)
    weight = volume_that_counts(value, volume, metric)
    # Without the error of one slice that of the mean is not known.
    is_known = np.isfinite(error[weight > 0]).all()
    deviation = _average(error, weight) if is_known else float("nan")
    found = combine_values(value, volume, deviation, metric, "not_separable")
    return dict(zip(UNMIXED_COLUMNS, found, strict=True))


def _average(values: FloatArray, weight: FloatArray) -> float:
    """Weighted mean of what is known and weighs something; nan without any."""
    used = np.isfinite(values) & (weight > 0)
    return float(np.average(values[used], weights=weight[used])) if used.any() else float("nan")


def _rejudge(
    quality: pd.DataFrame, run: str, shape: pd.DataFrame, rows: pd.DataFrame, n_out: int
) -> pd.DataFrame:
    """Make again what a run's quality row says of its tables."""
    result = quality.copy()
    own, place = shape[shape["run"] == run], result.index[result["run"] == run]
    if "n_slices_excluded" not in result:
        result["n_slices_excluded"] = 0
    result.loc[place, "n_slices_excluded"] = n_out
    result.loc[place, "cord_area_mm2"] = own["area_mm2"].mean()
    plain = select_rows(rows, scope="cord", side="both", metric="FA").set_index("region")["mean"]
    white, gray = plain.get("white_matter", np.nan), plain.get("gray_matter", np.nan)
    result.loc[place, ["fa_white_matter", "fa_gray_matter"]] = [white, gray]
    flags = own["flag"].astype(str) if "flag" in own else pd.Series(dtype=str)
    solved = {
        "implausible_shape": not flags.str.contains(DOUBTFUL_SHAPE).any(),
        "no_contrast": white > gray,
    }
    words = result.loc[place, "flag"].fillna("").str.split(";")
    left = words.map(lambda names: ";".join(n for n in names if not solved.get(n)) or None)
    result.loc[place, "flag"] = left
    if {"compression_ratio", "level"} <= set(own) and len(place):
        kept = rows[(rows["scope"] != "slice") | rows["slice"].isin(own["slice"])]
        found = tabulate_compression(own, kept).iloc[0]
        for name in (name for name in COMPRESSION_COLUMNS if name in result):
            result.loc[place, name] = found[name]
    return result
