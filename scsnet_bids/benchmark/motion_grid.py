"""Our motion correction against the best of the other tools, over a grid of phantoms."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from scsnet_bids.benchmark.figures_of_runs import keep, write_number
from scsnet_bids.benchmark.machine import describe_machine, machine_line
from scsnet_bids.benchmark.motion import list_cases, measure_methods
from scsnet_bids.benchmark.motion_cases import list_grid, list_phantoms
from scsnet_bids.benchmark.motion_methods import METHODS, NONE, OURS, missing_methods
from scsnet_bids.evaluation.tables import markdown_table
from scsnet_bids.resources import available_cpus

JUDGED = {"error_dwi_mm": 2, "error_b0_mm": 2, "fa_error_pct": 1}
"""Columns in which methods are held against each other, with their decimals; smaller is better."""
ALONE = {"outliers_found_pct": 0, "false_alarms_pct": 2}
"""Columns that only ours has."""


def compare_on_grid(out: Path, effort: str, repeats: int) -> str:
    """Run the comparison on many phantoms, and write its tables.

    Parameters
    ----------
    out : folder for ``motion-grid{_runs,}.tsv`` and ``motion-grid_machine.json``
    effort : ``quick`` takes the few phantoms of the quick comparison, anything else the grid
    repeats : persons per phantom

    Returns
    -------
    table as text
    """
    machine, missing = describe_machine(), missing_methods()
    methods = [name for name in METHODS if name not in missing]
    phantoms = list_phantoms(effort) if effort == "quick" else list_grid()
    runs = measure_methods(list_cases(phantoms, repeats), methods, available_cpus())
    table = hold_against_best(runs)
    keep(out, "motion-grid", {"_runs": runs, "": table}, machine)
    return f"{show_grid(table)}\n\n{count_wins(table)} {machine_line(machine)}."


def hold_against_best(runs: pd.DataFrame) -> pd.DataFrame:
    """Put our figures beside those of the series as it was and of the best other tool.

    Parameters
    ----------
    runs : of :func:`motion.measure_methods`

    Returns
    -------
    DataFrame, one row per series, means over its runs; for each judged figure a column of ours,
    ``_none`` without any correction, ``_best`` the lowest of the other tools and ``_tool`` its name
    """
    mean = runs.drop(columns="run").groupby(["series", "method"], sort=False).mean()
    ours, none = (mean.xs(name, level="method") for name in (OURS, NONE))
    others = mean.drop(index=[OURS, NONE], level="method")
    columns = {}
    for name in JUDGED:
        by_tool = others[name].unstack().reindex(ours.index)
        columns[name] = ours[name]
        columns[f"{name}_none"] = none[name]
        columns[f"{name}_best"] = by_tool.min(axis=1)
        columns[f"{name}_tool"] = by_tool.idxmin(axis=1)
    return pd.DataFrame({**columns, **{name: ours[name] for name in ALONE}}).reset_index()


def show_grid(table: pd.DataFrame) -> str:
    """Write the table of :func:`hold_against_best` as Markdown."""
    cells = {"series": table["series"]}
    for name, digits in JUDGED.items():
        words = name.replace("_", " ")
        cells[f"{words}: none"] = _written(table[f"{name}_none"], digits)
        best = _written(table[f"{name}_best"], digits)
        cells[f"{words}: best other"] = best + " (" + table[f"{name}_tool"] + ")"
        cells[f"{words}: ours"] = _written(table[name], digits)
    for name, digits in ALONE.items():
        cells[name.replace("_", " ")] = _written(table[name], digits)
    return markdown_table(pd.DataFrame(cells).set_index("series"))


def count_wins(table: pd.DataFrame) -> str:
    """Say in how many series ours is at least as good as the best other tool."""
    shares = []
    for name in JUDGED:
        wins = int((table[name] <= table[f"{name}_best"]).sum())
        shares.append(f"{name.rsplit('_', 1)[0].replace('_', ' ')} in {wins}")
    return f"Of {len(table)} series, ours has the lowest {', '.join(shares)}."


def _written(column: pd.Series[float], digits: int) -> pd.Series[str]:
    """Write numbers; what is missing as n/a."""
    return column.map(lambda value: write_number(value, 0.0, digits))
