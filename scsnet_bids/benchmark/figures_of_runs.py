"""What repeated runs give: medians, spreads, tables to read and to keep."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from scsnet_bids.benchmark.machine import machine_line
from scsnet_bids.derivatives import write_table
from scsnet_bids.evaluation.tables import markdown_table
from scsnet_bids.files import write_text

SPREAD = "_spread"
"""Ending of the column with half the range of the runs."""
MISSING = "n/a"


def summarise(runs: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Take the median of repeated runs, and half of their range.

    Parameters
    ----------
    runs : one row per run; all columns but the keys are numbers
    keys : columns that runs to put together share

    Returns
    -------
    DataFrame in the order of the runs; each column of numbers is followed by its spread

    >>> runs = pd.DataFrame({"tool": ["a", "a", "b"], "cpu_s": [1.0, 2.0, 5.0]})
    >>> summarise(runs, ["tool"]).to_dict("list")
    {'tool': ['a', 'b'], 'cpu_s': [1.5, 5.0], 'cpu_s_spread': [0.5, 0.0]}
    """
    groups = runs.groupby(list(keys), sort=False, dropna=False)
    columns = {}
    for name in [str(name) for name in runs if name not in keys]:
        columns[name] = groups[name].median()
        columns[f"{name}{SPREAD}"] = (groups[name].max() - groups[name].min()) / 2
    return pd.DataFrame(columns).reset_index()


def with_ratio(runs: pd.DataFrame, to: pd.Series[bool], by: Sequence[str]) -> pd.DataFrame:
    """Add the processor time relative to that of a row of the same run.

    Parameters
    ----------
    runs : with ``cpu_s``
    to : rows that count as 1
    by : columns that tell which rows belong to one run

    Returns
    -------
    DataFrame with ``cpu_ratio``
    """
    unit = runs.loc[to, [*by, "cpu_s"]].rename(columns={"cpu_s": "unit_s"})
    whole = runs.merge(unit, on=list(by), how="left")
    return whole.assign(cpu_ratio=whole["cpu_s"] / whole["unit_s"]).drop(columns="unit_s")


def show(summary: pd.DataFrame, keys: Sequence[str], decimals: Mapping[str, int]) -> str:
    """Write a summary as aligned Markdown, such as ``1.50 ± 0.50``.

    Parameters
    ----------
    summary : of :func:`summarise`
    keys : columns of words
    decimals : of the columns of numbers to show

    Returns
    -------
    text of several lines
    """
    cells = {key: summary[key].astype(str).tolist() for key in keys}
    for name, digits in decimals.items():
        if name in summary and summary[name].notna().any():
            values = zip(summary[name], summary[f"{name}{SPREAD}"], strict=True)
            cells[name.replace("_", " ")] = [write_number(*pair, digits) for pair in values]
    table = pd.DataFrame(cells)
    return markdown_table(table.set_index(table.columns[0]))


def keep(out: Path, name: str, tables: Mapping[str, pd.DataFrame], machine: dict[str, str]) -> None:
    """Write the tables of a benchmark and what it ran on.

    Parameters
    ----------
    out : folder
    name : of the benchmark
    tables : by the ending of the file's name
    machine : described by :func:`machine.describe_machine`
    """
    for ending, table in tables.items():
        write_table(out / f"{name}{ending}.tsv", table)
    write_text(out / f"{name}_machine.json", json.dumps(machine, indent=2) + "\n")


def explain(machine: dict[str, str], repeats: int) -> str:
    """Say how to read a table, and on what it was made."""
    return (
        f"Medians of {repeats} run{'s' if repeats != 1 else ''}, each on one thread; after ± half "
        f"of their range. {machine_line(machine)}."
    )


def write_number(value: float, spread: float, digits: int) -> str:
    """Write a number with its spread; no spread where there is none, n/a where it is missing.

    >>> write_number(1.5, 0.25, 2), write_number(2.0, 0.0, 1), write_number(np.nan, 0.0, 1)
    ('1.50 ± 0.25', '2.0', 'n/a')
    """
    if not np.isfinite(value):
        return MISSING
    return f"{value:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread > 0 else "")
