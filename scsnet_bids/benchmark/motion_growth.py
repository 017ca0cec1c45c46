"""Let series grow whose motion is corrected, up to the largest that people scan.

What is measured is all that the app does about motion: find the cord, estimate displacements and
eddy currents, correct, look for lost slices. Without reading and writing of files.
"""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from scsnet_bids.benchmark.children import python_command, run_child
from scsnet_bids.benchmark.figures_of_runs import keep, show, summarise
from scsnet_bids.benchmark.grown_series import Size, grow_series
from scsnet_bids.benchmark.machine import describe_machine, machine_line
from scsnet_bids.benchmark.motion_methods import OURS
from scsnet_bids.figures.benchmark import draw_growth
from scsnet_bids.files import write_text

ASKED = "asked for"
THREADS = {"slices": 1, "volumes": 1, ASKED: 2}
"""What grows is measured on one thread, since threads that wait for each other take time too."""
KEYS = ("grows", "series")
DECIMALS = {"threads": 0, "wall_s": 1, "cpu_s": 1, "peak_mb": 0, "cpu_ms_per_slice": 1}
GROWING = {
    "slices": [Size(96, slices, 35) for slices in (5, 10, 20, 40, 80)],
    "volumes": [Size(96, 5, volumes) for volumes in (20, 50, 100, 200, 300)],
}
USUAL, LARGEST = Size(96, 15, 35), Size(128, 40, 300)


def measure_motion_growth(out: Path, effort: str, repeats: int) -> str:
    """Measure how the cost grows, and write the tables and the figure.

    Parameters
    ----------
    out : folder for ``motion-growth{_runs,}.tsv``, ``motion-growth_machine.json`` and a figure
    effort : ``quick`` takes the three smallest sizes of each kind, ``full`` the largest series too
    repeats : runs of everything

    Returns
    -------
    table as text
    """
    machine, rows = describe_machine(), []
    for run in range(repeats):
        for grows, sizes in list_sizes(effort).items():
            for size in sizes:
                figures = measure_size(size, run, THREADS[grows])
                name = {"grows": grows, "series": str(size), "run": run}
                rows.append({**name, **size._asdict(), **figures})
                print(f"{size}: {figures['wall_s']:.1f} s", flush=True)
    runs = pd.DataFrame(rows)
    summary = summarise(runs.drop(columns="run"), KEYS)
    keep(out, "motion-growth", {"_runs": runs, "": summary}, machine)
    growing = [
        runs[runs["grows"] == grows].assign(size=runs[grows], step="motion") for grows in GROWING
    ]
    write_text(out / "motion-growth.svg", draw_growth(pd.concat(growing)))
    how = f"Medians of {repeats} run{'s' if repeats != 1 else ''}."
    words = f"{tell_exponents(runs)} {how} {machine_line(machine)}."
    return "\n\n".join([show(summary, KEYS, DECIMALS), words])


def list_sizes(effort: str) -> dict[str, list[Size]]:
    """List the sizes to measure, by what grows."""
    growing = {name: sizes[: 3 if effort == "quick" else None] for name, sizes in GROWING.items()}
    usual = [USUAL, LARGEST] if effort == "full" else [USUAL]
    return {**growing, ASKED: usual}


def measure_size(size: Size, seed: int, threads: int) -> dict[str, float]:
    """Correct one series in a process of its own.

    Parameters
    ----------
    size : of the series
    seed : of its noise
    threads : of numerical libraries

    Returns
    -------
    dict: threads, time by the clock and processor time of the correction, largest memory of the
    process, and processor time per slice of a volume
    """
    with tempfile.TemporaryDirectory() as temporary:
        given, corrected = Path(temporary) / "series", Path(temporary) / "corrected"
        with given.open("wb") as file:
            pickle.dump(grow_series(size, seed), file, protocol=pickle.HIGHEST_PROTOCOL)
        command = python_command("method_job", OURS, str(given), str(corrected))
        usage = run_child(command, Path(temporary) / "log", threads)
        with corrected.open("rb") as file:
            _, cpu_s, wall_s = pickle.load(file)
    return {
        "threads": threads,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "peak_mb": usage.peak_mb,
        "cpu_ms_per_slice": 1000 * cpu_s / size.amount,
    }


def tell_exponents(runs: pd.DataFrame) -> str:
    """Say how fast processor time and memory grow between the smallest and the largest series.

    Parameters
    ----------
    runs : one row per run: ``grows``, the size, ``cpu_s``

    Returns
    -------
    one sentence

    >>> sizes = {"slices": [5, 10, 20], "volumes": [35] * 3, "cpu_s": [2.0, 4.0, 8.0]}
    >>> tell_exponents(pd.DataFrame({"grows": "slices", **sizes}))
    'Processor time grows with slices to the power of 1.00.'
    """
    words = []
    for grows in GROWING:
        part = runs[runs["grows"] == grows]
        if len(part):
            power = np.polyfit(np.log(part[grows]), np.log(part["cpu_s"]), 1)[0]
            words.append(f"with {grows} to the power of {power:.2f}")
    return f"Processor time grows {', '.join(words)}."
