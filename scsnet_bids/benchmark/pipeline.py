"""Measure the whole app: time, memory, disk, each step, start-up, quality; and peers for parts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.benchmark.children import MB, app_command, python_command, run_child
from scsnet_bids.benchmark.cpu_kinds import COUNTED, KINDS, OTHER
from scsnet_bids.benchmark.figures_of_runs import explain, keep, show, summarise, with_ratio
from scsnet_bids.benchmark.machine import describe_machine
from scsnet_bids.benchmark.peers import fit_as_mrtrix, list_peers, read_series
from scsnet_bids.bids import find_runs
from scsnet_bids.derivatives import read_table
from scsnet_bids.evaluation.command import carry_out, compare_outputs
from scsnet_bids.images import read_image
from scsnet_bids.phantom import TINY, PhantomSettings, write_dataset
from scsnet_bids.runs import DwiRun

LIKE_REAL = PhantomSettings(matrix=(96, 96))
WHOLE = "whole app"
KEYS = ("data", "command")
DECIMALS = {
    "wall_s": 1,
    "cpu_s": 2,
    "cpu_ratio": 2,
    "peak_mb": 0,
    "out_mb": 1,
    "work_mb": 1,
}
STEP_DECIMALS = {"cpu_s": 2, "share_pct": 0, "outside_arithmetic_pct": 0, "peak_mb": 0}
KIND_DECIMALS = {"cpu_s": 2, "share_pct": 0}
APP_RUNS = (
    (WHOLE, 1, 1),
    (f"{WHOLE}, again", 1, 1),
    ("2 participants, 1 process", 2, 1),
    ("2 participants, 2 processes", 2, 2),
)
"""Name, participants, processes."""
SCORES = ("dwi error mm", "b0 error mm", "cord Dice", "Dice", "FA error pooled %")
"""Of the evaluation, beside the speed."""
MAPS = {"fa": "_model-tensor_param-fa_dwimap.nii.gz", "md": "_model-tensor_param-md_dwimap.nii.gz"}
PEER_FILES = {"DIPY": "dipy_{}.nii.gz", "MRtrix3": "mrtrix_{}.nii.gz"}


def measure_pipeline(out: Path, effort: str, repeats: int, real: Path | None = None) -> str:
    """Measure the app and its peers, and write the tables.

    Parameters
    ----------
    out : folder for ``pipeline*.tsv`` and ``pipeline_machine.json``
    effort : ``quick`` takes a tiny phantom, ``default`` and ``full`` one of the size of real series
    repeats : runs of everything
    real : dataset to measure as well

    Returns
    -------
    tables as text
    """
    machine = describe_machine()
    commands, steps, quality = [], [], []
    with tempfile.TemporaryDirectory() as temporary:
        phantom = Path(temporary) / "phantom"
        write_dataset(phantom, TINY if effort == "quick" else LIKE_REAL, 2, 0)
        for name, data in (("phantom", phantom), ("real", real)):
            if data is None:
                continue
            for repeat in range(repeats):
                folder = Path(temporary) / f"{name}_{repeat}"
                folder.mkdir()
                runs = find_runs(data, [], [], None)
                commands += [{"data": name, **row} for row in _time(data, runs, folder, effort)]
                steps.append(_record_steps(data, runs[0], folder).assign(data=name, run=repeat))
                quality += [{"data": name, **row} for row in _judge(data, runs[0], folder)]
    tables = _lay_out(pd.DataFrame(commands), pd.concat(steps), pd.DataFrame(quality))
    keep(out, "pipeline", {ending: table for ending, (table, _) in tables.items()}, machine)
    return "\n\n".join([*(text for _, text in tables.values()), explain(machine, repeats)])


def _time(data: Path, runs: list[DwiRun], folder: Path, effort: str) -> Iterator[dict[str, Any]]:
    """Measure the app in several ways, and the peers."""
    for name, words in (("--version", ["--version"]), ("--help", ["--help"])):
        yield {"command": name, **run_child(app_command(*words), folder / "log")._asdict()}
    people = list(dict.fromkeys(run.participant for run in runs))[:2]
    for name, n_people, n_processes in APP_RUNS[: 2 if effort == "quick" else None]:
        place = folder / ("one" if n_people == 1 else name)
        words = [str(data), str(place / "out"), "participant", "-w", str(place / "work")]
        words += ["--participant-label", *people[:n_people], "--nprocs", str(n_processes)]
        usage = run_child(app_command(*words), folder / "log")
        disk = {f"{kind}_mb": _size_mb(place / kind) for kind in ("out", "work")}
        yield {"command": name, **usage._asdict(), **disk}
    corrected = _derivative(folder / "one" / "out", runs[0], "_desc-preproc_dwi.nii.gz")
    for name, command in list_peers(runs[0].image, corrected, folder):
        yield {"command": name, **run_child(command, folder / "log")._asdict()}


def _record_steps(data: Path, run: DwiRun, folder: Path) -> pd.DataFrame:
    """Measure the steps of one participant; the kinds of work come from a second, profiled run."""
    parts = []
    for mode in ("plain", "profile"):
        record, place = folder / f"{mode}.tsv", folder / mode
        words = [str(data), str(place / "out"), "participant", "-w", str(place / "work")]
        words += ["--participant-label", run.participant]
        run_child(python_command("app_job", str(record), mode, *words), folder / "log")
        parts.append(read_table(record).set_index("step"))
    plain, profiled = parts
    return plain.join(profiled[[*KINDS, OTHER, *COUNTED]]).reset_index()


def _judge(data: Path, run: DwiRun, folder: Path) -> Iterator[dict[str, Any]]:
    """Hold the maps against those of the peers and, of a phantom, everything against the truth."""
    out = folder / "one" / "out"
    mask = read_image(_derivative(out, run, "_label-SC_mask.nii.gz")).data > 0
    ours = {
        name: read_image(_derivative(out, run, ending)).data[mask] for name, ending in MAPS.items()
    }
    for peer, pattern in PEER_FILES.items():
        for name, values in ours.items():
            path = folder / pattern.format(name)
            if path.exists():
                theirs = read_image(path).data[mask]
                means = np.nanmean(values) / np.nanmean(theirs)
                yield _figure(f"{name.upper()} in the cord, ours / {peer}, mean", means)
                yield _apart(name, peer, values, theirs)
    yield from _judge_weighed_alike(_derivative(out, run, "_desc-preproc_dwi.nii.gz"), mask, folder)
    if (data / "derivatives" / "phantom").is_dir():
        tasks = [task for task in compare_outputs(data, out) if task[0] == run.prefix]
        scores = carry_out(tasks)[0]
        for name in SCORES:
            yield _figure(name, scores.loc[scores["score"] == name, "value"].mean())


def _judge_weighed_alike(
    corrected: Path, mask: BoolArray, folder: Path
) -> Iterator[dict[str, Any]]:
    """Hold MRtrix3's maps against those of a fit that weighs as often."""
    paths = {name: folder / PEER_FILES["MRtrix3"].format(name) for name in MAPS}
    if not all(path.exists() for path in paths.values()):
        return
    alike = fit_as_mrtrix(*read_series(corrected), mask)
    for name, path in paths.items():
        yield _apart(name, "MRtrix3, weighed as often", alike[name], read_image(path).data[mask])


def _apart(name: str, peer: str, ours: FloatArray, theirs: FloatArray) -> dict[str, Any]:
    """Name the median distance of voxels from those of a peer."""
    off = 100 * np.nanmedian(np.abs(ours / theirs - 1))
    return _figure(f"{name.upper()}, voxels apart from {peer}, median %", off)


def _lay_out(
    commands: pd.DataFrame, steps: pd.DataFrame, quality: pd.DataFrame
) -> dict[str, tuple[pd.DataFrame, str]]:
    """Make tables to keep and to print, by the ending of the file's name."""
    commands = commands.assign(run=commands.groupby(list(KEYS)).cumcount())
    ratios = with_ratio(commands, commands["command"] == WHOLE, ("data", "run"))
    parts = {
        "": (ratios.drop(columns="run"), KEYS, DECIMALS),
        "_steps": (_with_shares(steps).drop(columns="run"), ("data", "step"), STEP_DECIMALS),
        "_kinds": (_by_kind(steps), ("data", "kind"), KIND_DECIMALS),
        "_counts": (_counts(steps), ("data", "what"), {"count": 0}),
        "_quality": (quality, ("data", "figure"), {"value": 3}),
    }
    tables = {ending: summarise(runs, keys) for ending, (runs, keys, _) in parts.items()}
    return {
        ending: (tables[ending], show(tables[ending], keys, decimals))
        for ending, (_, keys, decimals) in parts.items()
    }


def _with_shares(steps: pd.DataFrame) -> pd.DataFrame:
    """Add each step's share of the whole, and the share of it that is no arithmetic."""
    whole_s = steps.groupby(["data", "run"])["cpu_s"].transform("sum")
    outside = 1 - steps["arithmetic"] / steps[[*KINDS, OTHER]].sum(axis=1)
    shares = {"share_pct": 100 * steps["cpu_s"] / whole_s, "outside_arithmetic_pct": 100 * outside}
    return steps.assign(**shares)


def _by_kind(steps: pd.DataFrame) -> pd.DataFrame:
    """Add up each kind of work over the steps of a run."""
    kinds = _long(steps, [*KINDS, OTHER], "kind", "cpu_s")
    whole_s = kinds.groupby(["data", "run"])["cpu_s"].transform("sum")
    return kinds.assign(share_pct=100 * kinds["cpu_s"] / whole_s).drop(columns="run")


def _counts(steps: pd.DataFrame) -> pd.DataFrame:
    """Add up what was counted over the steps of a run."""
    return _long(steps, list(COUNTED), "what", "count").drop(columns="run")


def _long(steps: pd.DataFrame, columns: list[str], name: str, value: str) -> pd.DataFrame:
    """Sum columns over the steps of each run, one row per column."""
    sums = steps.groupby(["data", "run"], sort=False)[columns].sum().reset_index()
    return sums.melt(["data", "run"], columns, name, value)


def _figure(name: str, value: float) -> dict[str, Any]:
    """Name a figure."""
    return {"figure": name, "value": float(value)}


def _derivative(out: Path, run: DwiRun, ending: str) -> Path:
    """Name an output of a run."""
    return out / run.output_folder / f"{run.prefix}{ending}"


def _size_mb(folder: Path) -> float:
    """Size of all files in a folder, 2^20 bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / MB
