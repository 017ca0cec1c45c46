"""Let the series grow, and the number of participants, and see how time and memory follow."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scsnet_bids.benchmark.children import app_command, python_command, run_child
from scsnet_bids.benchmark.figures_of_runs import explain, keep, show, summarise
from scsnet_bids.benchmark.grown_series import Size, grow_series
from scsnet_bids.benchmark.machine import describe_machine
from scsnet_bids.derivatives import read_table, write_sidecar
from scsnet_bids.figures.benchmark import draw_growth
from scsnet_bids.files import write_text
from scsnet_bids.gradients import write_gradients
from scsnet_bids.images import Image, write_image
from scsnet_bids.phantom import TINY, write_dataset

SIZES: dict[str, tuple[int, ...]] = {
    "slices": (5, 10, 20, 40, 80),
    "volumes": (20, 50, 100, 200, 300),
    "matrix": (64, 96, 128, 192, 256),
    "participants": (1, 10, 100, 1000),
}
QUICK = slice(0, 3)
SMALLEST = Size(matrix=64, slices=5, volumes=20)
"""Of a series of which only one thing grows."""
UNIT = {"slices": 1, "volumes": 1, "matrix": 2, "participants": 1}
"""Power of a size that the data are proportional to."""
FASTER = 1.15
"""Exponents beyond this are no line any more."""
SLOW_S = 0.5
"""What never takes longer is not judged."""
KEYS = ("grows", "step")
DECIMALS = {"cpu_s_per_unit": 4, "cpu_s_at_0": 2, "exponent": 2, "mb_per_unit": 3, "largest_s": 2}


def measure_growth(out: Path, effort: str, repeats: int) -> str:
    """Measure how the cost of every step grows, and write the tables and the figure.

    Parameters
    ----------
    out : folder for ``growth_runs.tsv``, ``growth.tsv``, ``growth_machine.json``, ``growth.svg``
    effort : ``quick`` takes the three smallest sizes of each kind
    repeats : runs of everything

    Returns
    -------
    table as text
    """
    machine, rows = describe_machine(), []
    with tempfile.TemporaryDirectory() as temporary:
        for repeat in range(repeats):
            for grows, sizes in SIZES.items():
                for size in sizes[QUICK] if effort == "quick" else sizes:
                    folder = Path(temporary) / f"{grows}_{size}_{repeat}"
                    for row in _measure(grows, size, folder):
                        rows.append({"grows": grows, "size": size, "run": repeat, **row})
                    shutil.rmtree(folder)
                    print(f"{grows} {size}: done", flush=True)
    runs = pd.DataFrame(rows)
    lines = pd.DataFrame(
        [
            {"grows": grows, "step": step, "run": run, **fit_line(part, UNIT[str(grows)])}
            for (grows, step, run), part in runs.groupby(["grows", "step", "run"], sort=False)
        ]
    )
    summary = summarise(lines.drop(columns="run"), KEYS)
    keep(out, "growth", {"_runs": runs, "": summary}, machine)
    write_text(out / "growth.svg", draw_growth(runs))
    parts = [show(summary, KEYS, DECIMALS), tell_faster(summary), explain(machine, repeats)]
    return "\n\n".join(parts)


def fit_line(part: pd.DataFrame, power: int = 1) -> dict[str, float]:
    """Fit a line to the processor time and the memory of one step.

    Parameters
    ----------
    part : one row per size: ``size``, ``cpu_s``, ``peak_mb``
    power : of the size that the data are proportional to

    Returns
    -------
    dict: seconds and MB per unit (of size to that power), seconds at size 0, the exponent between
    the middle and the largest size, and the seconds there

    >>> sizes = pd.DataFrame({"size": [1, 2, 4], "cpu_s": [1.0, 4.0, 16.0], "peak_mb": [8, 8, 8]})
    >>> round(fit_line(sizes)["exponent"], 2), round(fit_line(sizes, 2)["exponent"], 2)
    (2.0, 1.0)
    """
    part = part.sort_values("size")
    amount, cpu_s = part["size"].to_numpy(float) ** power, part["cpu_s"].to_numpy(float)
    slope, start = np.polyfit(amount, cpu_s, 1)
    middle = len(part) // 2
    growth = np.log(max(cpu_s[-1], 1e-6) / max(cpu_s[middle], 1e-6))
    return {
        "cpu_s_per_unit": float(slope),
        "cpu_s_at_0": float(start),
        "exponent": float(growth / np.log(amount[-1] / amount[middle])),
        "mb_per_unit": float(np.polyfit(amount, part["peak_mb"].to_numpy(float), 1)[0]),
        "largest_s": float(cpu_s[-1]),
    }


def tell_faster(summary: pd.DataFrame) -> str:
    """Name what grows faster than a line.

    Parameters
    ----------
    summary : of the lines

    Returns
    -------
    one sentence
    """
    faster = summary[(summary["exponent"] > FASTER) & (summary["largest_s"] > SLOW_S)]
    if faster.empty:
        return "No step grows faster than the data."
    names = [f"{row.step} with {row.grows} ({row.exponent:.2f})" for row in faster.itertuples()]
    return f"Faster than the data grow, by exponent: {', '.join(names)}."


def _measure(grows: str, size: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Measure the steps at one size."""
    if grows == "participants":
        return _measure_people(size, folder)
    return _measure_series(SMALLEST._replace(**{grows: size}), folder)


def _measure_series(size: Size, folder: Path) -> Iterator[dict[str, Any]]:
    """Run the whole app on one series, step by step."""
    series = grow_series(size, 1)
    stem = folder / "data" / "sub-01" / "dwi" / "sub-01_dwi"
    stored = Image(series.data.round().astype(np.int16), series.grid)
    write_image(stem.with_suffix(".nii.gz"), stored)
    write_gradients(
        stem.with_suffix(".bval"), stem.with_suffix(".bvec"), series.gradients, series.grid
    )
    description = {"Name": "growing", "BIDSVersion": "1.10.0"}
    write_sidecar(folder / "data" / "dataset_description.json", description)
    record = folder / "record.tsv"
    words = [str(folder / "data"), str(folder / "out"), "participant", "-w", str(folder / "work")]
    run_child(python_command("app_job", str(record), "plain", *words), folder / "log")
    for row in read_table(record).itertuples():
        yield {"step": row.step, "cpu_s": row.cpu_s, "peak_mb": row.peak_mb}


def _measure_people(size: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Plan a dataset of many tiny participants, write its jobs, gather as many tables."""
    one = folder.parent / "one participant"
    if not one.exists():
        write_dataset(one / "data", TINY, 1, 0)
        words = [str(one / "data"), str(one / "out"), "participant", "-w", str(one / "work")]
        run_child(app_command(*words), folder.parent / "log")
    for kind in ("data", "out"):
        repeat_participant(one / kind, folder / kind, size)
    data, work = str(folder / "data"), ["-w", str(folder / "work")]
    plan = app_command(data, str(folder / "plan"), "participant", "--dry-run", *work)
    commands = {
        "plan": plan,
        "plan of one": [*plan, "--participant-label", _label(size)],
        "slurm": app_command(data, str(folder / "plan"), room="slurm"),
        "group": app_command(data, str(folder / "out"), "group", *work),
    }
    for step, command in commands.items():
        usage = run_child(command, folder / "log")
        yield {"step": step, "cpu_s": usage.cpu_s, "peak_mb": usage.peak_mb}


def _label(number: int) -> str:
    """Label of a participant."""
    return f"{number:04d}"


def repeat_participant(one: Path, many: Path, count: int) -> None:
    """Give the files of ``sub-01`` to many participants, by hard links; the rest is copied.

    Parameters
    ----------
    one : dataset with one participant
    many : folder to make
    count : of participants, named by four digits
    """
    labels = [f"sub-{_label(number)}" for number in range(1, count + 1)]
    for path in sorted(one.rglob("*")):
        name = str(path.relative_to(one))
        if not path.is_file() or "derivatives" in name or path.name == "participants.tsv":
            continue
        for label in labels if "sub-01" in name else [""]:
            copy = many / name.replace("sub-01", label)
            copy.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, copy)
