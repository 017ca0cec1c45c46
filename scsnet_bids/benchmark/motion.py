"""Compare ways to correct motion, each series by each method in a process of its own."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from scsnet_bids.benchmark.children import map_at_once, python_command, run_child
from scsnet_bids.benchmark.figures_of_runs import explain, keep, show, summarise, with_ratio
from scsnet_bids.benchmark.machine import describe_machine
from scsnet_bids.benchmark.motion_cases import (
    Case,
    find_real,
    list_phantoms,
    make_phantom,
    read_real,
)
from scsnet_bids.benchmark.motion_measures import judge
from scsnet_bids.benchmark.motion_methods import METHODS, OURS, missing_methods
from scsnet_bids.figures.benchmark import draw_motion
from scsnet_bids.files import write_text
from scsnet_bids.phantom import PhantomSettings

NamedCase = tuple[str, int, Callable[[], Case]]
"""Name of a series, number of the run, and what makes the series."""
KEYS = ("series", "method")
DECIMALS = {
    "error_dwi_mm": 2,
    "error_b0_mm": 2,
    "fa_error_pct": 1,
    "unmixed_fa_error_pct": 1,
    "outliers_found_pct": 1,
    "false_alarms_pct": 2,
    "jitter_dwi_mm": 2,
    "jitter_b0_mm": 2,
    "residual_lag1": 2,
    "edge_mm": 2,
    "cpu_s": 1,
    "cpu_ratio": 1,
    "peak_mb": 0,
}


def compare_motion(
    out: Path, effort: str, repeats: int, real: tuple[Path, Path] | None = None
) -> str:
    """Run the comparison, and write its tables and its figure.

    Parameters
    ----------
    out : folder for ``motion_runs.tsv``, ``motion.tsv``, ``motion_machine.json``, ``motion.svg``
    effort : ``quick`` takes two small phantoms
    repeats : runs per series: other persons of a phantom, the same real series
    real : dataset and masks of real series, to be taken as well

    Returns
    -------
    table as text
    """
    machine, missing = describe_machine(), missing_methods()
    methods = [name for name in METHODS if name not in missing]
    runs = measure_methods(list_cases(list_phantoms(effort), repeats, real), methods)
    summary = summarise(runs.drop(columns="run"), KEYS)
    keep(out, "motion", {"_runs": runs, "": summary}, machine)
    write_text(out / "motion.svg", draw_motion(summary))
    lines = [show(summary, KEYS, DECIMALS), f"{_count(summary)} {explain(machine, repeats)}"]
    return "\n\n".join([*lines, *(f"Left out: {name}: {why}." for name, why in missing.items())])


def list_cases(
    phantoms: Mapping[str, PhantomSettings],
    repeats: int,
    real: tuple[Path, Path] | None = None,
) -> Iterator[NamedCase]:
    """List what is to be corrected.

    Parameters
    ----------
    phantoms : settings by name
    repeats, real : as for :func:`compare_motion`

    Yields
    ------
    name of the series, number of the run, and what makes the series
    """
    for name, settings in phantoms.items():
        for run in range(repeats):
            yield name, run, partial(make_phantom, settings, run)
    if real is not None:
        for name, paths in find_real(*real).items():
            for run in range(repeats):
                yield name, run, partial(read_real, *paths)


def measure_methods(
    cases: Iterable[NamedCase], methods: Sequence[str], at_once: int = 1
) -> pd.DataFrame:
    """Correct every series by every method.

    Parameters
    ----------
    cases : of :func:`list_cases`
    methods : keys of ``METHODS``
    at_once : series that are corrected at one time; more than one where time is not judged

    Returns
    -------
    DataFrame, one row per series, run and method
    """
    rows = map_at_once(partial(_by_every_method, methods), cases, at_once)
    runs = pd.DataFrame(chain.from_iterable(rows))
    return with_ratio(runs, runs["method"] == OURS, ("series", "run"))


def _by_every_method(methods: Sequence[str], named: NamedCase) -> list[dict[str, Any]]:
    """Correct one series by every method, one after the other."""
    name, run, make = named
    case, rows = make(), []
    with tempfile.TemporaryDirectory() as folder:
        for method in methods:
            figures = _correct(case, method, Path(folder))
            rows.append({"series": name, "method": method, "run": run, **figures})
            print(f"{name}, {method}: {figures['cpu_s']:.1f} s", flush=True)
    return rows


def _count(summary: pd.DataFrame) -> str:
    """Say how many series there are, and methods."""
    series, methods = (summary[key].nunique() for key in KEYS)
    return f"{series} series, {methods} methods."


def _correct(case: Case, method: str, folder: Path) -> Mapping[str, Any]:
    """Correct one series by one method; what came out, and what it took."""
    series, corrected = folder / "series", folder / "corrected"
    series.write_bytes(pickle.dumps(case.series))
    command = python_command("method_job", method, str(series), str(corrected))
    usage = run_child(command, folder / "log")
    result, cpu_s, _ = pickle.loads(corrected.read_bytes())
    return {**asdict(judge(case, result)), "cpu_s": cpu_s, "peak_mb": usage.peak_mb}
