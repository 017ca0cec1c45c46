"""Scores as text: tables that read well in a terminal and are Markdown as well."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from scsnet_bids.evaluation.value_scores import KINDS, METRICS

COLUMNS = ["run", "condition", "group", "score", "region", "side", "value"]
"""Of the long table of all scores, one row per figure."""
MEAN_SIZE = "mean size"


def describe_scores(table: pd.DataFrame) -> str:
    """Write scores as text, one table per kind of score and per condition.

    Parameters
    ----------
    table : columns of ``COLUMNS``

    Returns
    -------
    text of many lines
    """
    parts = []
    for condition, rows in table.groupby("condition", sort=False):
        for groups, title, lay_out in _TABLES:
            chosen = rows[rows["group"].isin(groups)]
            if len(chosen):
                people = f"{condition}, n = {chosen['run'].nunique()}"
                parts.append(f"{title} ({people})\n\n{markdown_table(lay_out(chosen))}\n")
    return "\n".join(parts)


def markdown_table(cells: pd.DataFrame) -> str:
    """Write a table of words as aligned Markdown, its index first.

    Parameters
    ----------
    cells : words

    Returns
    -------
    text of several lines

    >>> print(markdown_table(pd.DataFrame({"Dice": ["0.9"]}, index=pd.Index(["01"], name="run"))))
    | run | Dice |
    |-----|------|
    | 01  | 0.9  |
    """
    whole = cells.reset_index().astype(str)
    lines = [list(map(str, whole.columns)), *whole.to_numpy().tolist()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    written = [
        "| " + " | ".join(w.ljust(n) for w, n in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (n + 2) for n in widths) + "|"
    return "\n".join([written[0], rule, *written[1:]])


def write_number(name: str, value: float) -> str:
    """Write a number with the decimals that its score deserves; n/a if it is missing."""
    if not np.isfinite(value):
        return "n/a"
    return f"{value:.{1 if '%' in name else 2 if 'mm' in name else 3}f}"


def with_spread(name: str, values: pd.Series[float]) -> str:
    """Write the mean of some values and, if there are several, their standard deviation."""
    mean = write_number(name, float(values.mean()))
    return mean if values.count() < 2 else f"{mean} ± {write_number(name, float(values.std()))}"


def _by_region(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per region and side, one column per score: mean and spread over runs."""
    return _grid(rows, with_spread)


def _values(rows: pd.DataFrame) -> pd.DataFrame:
    """Bias with its spread and, in brackets, the error of slices, per kind of value."""
    wide = _grid(rows, with_spread)
    error = _grid(rows, lambda name, values: write_number(name, float(values.mean())))
    columns = {
        f"{metric} {kind} %": wide[f"{metric} {kind} bias %"]
        + " ("
        + error[f"{metric} {kind} RMSE %"]
        + ")"
        for metric in METRICS
        for kind in KINDS
    }
    intervals = [f"{m} {part}in 90 %" for part in ("", "cord ") for m in METRICS]
    rest = {name: wide[name] for name in intervals}
    return pd.DataFrame(columns | rest | {"n/a %": wide["FA n/a %"]})


def _by_score(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per score: mean and spread over runs, lowest and highest run."""
    lines = {}
    for name, values in rows.groupby("score", sort=False)["value"]:
        ends = [write_number(str(name), float(end)) for end in (values.min(), values.max())]
        lines[name] = [with_spread(str(name), values), *ends]
    cells = pd.DataFrame(lines, index=["mean ± SD", "lowest", "highest"]).T
    return cells.rename_axis("score")


def _by_run(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per run, one column per score, and the mean with its spread."""
    wide = rows.pivot_table(index="run", columns="score", values="value", sort=False)
    cells = pd.DataFrame({n: [write_number(str(n), x) for x in wide[n]] for n in wide}, wide.index)
    if len(wide) > 1:
        cells.loc["mean ± SD"] = [with_spread(str(name), wide[name]) for name in wide]
    return cells


def _rescans(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per region, one column per image: change of the area."""
    place = ["region", "side"]
    wide = rows.pivot_table(index=place, columns="run", values="value", sort=False)
    cells = wide.map(lambda value: write_number("%", value))
    sizes = rows.assign(value=rows["value"].abs()).groupby(place, sort=False)["value"].mean()
    cells[MEAN_SIZE] = [write_number("%", value) for value in sizes.reindex(wide.index)]
    return cells


def _grid(rows: pd.DataFrame, write: Callable[[str, pd.Series[float]], str]) -> pd.DataFrame:
    """Words by region and score, from the values of all runs; the last row is the mean size."""
    lines: dict[tuple[str, str], dict[str, str]] = {}
    names = ["region", "side", "score"]
    for key, values in rows.groupby(names, sort=False)["value"]:
        region, side, name = map(str, key)
        lines.setdefault((region, side), {})[name] = write(name, values)
    sizes = rows.assign(value=rows["value"].abs()).groupby(["score", "region", "side"])["value"]
    mean_size = sizes.mean().groupby("score").mean()
    lines[MEAN_SIZE, ""] = {str(n): write_number(str(n), v) for n, v in mean_size.items()}
    cells = pd.DataFrame.from_dict(lines, orient="index")
    return cells.rename_axis(["region", "side"])


_TABLES: list[tuple[tuple[str, ...], str, Callable[[pd.DataFrame], pd.DataFrame]]] = [
    (("network",), "Network alone against manual masks", _by_run),
    (("rescan",), "Area of the regions in the rescan, change in %", _rescans),
    (("reference",), "Cord against manual cord", _by_run),
    (("region",), "Regions: mean ± SD of runs; the last row averages sizes", _by_region),
    (
        ("value",),
        "Values: bias of the whole cord against the truth, mean ± SD of runs (in brackets the "
        "RMS error of single slices), share of slices, and of whole cords, whose interval holds "
        "the truth",
        _values,
    ),
    (("cord", "motion"), "Cord and motion", _by_score),
]
