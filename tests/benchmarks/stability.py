"""How far region values of real series move with more noise, or with half of the directions.

    python tests/benchmarks/stability.py DATASET [--draws 6]

DATASET is a BIDS dataset whose series have gradient files of their own. The app runs on the series
as they are. Then, as often as there are draws, noise is added until it is 1.6 times as strong, or
a random half of the weighted volumes is left out, and in the next draw the other half. Everything
is found anew; with noise also with the regions and the displacements of the run before kept, so
that only the values change. Printed is the change of FA and MD of the whole cord in %, mean of the
sides: with its sign on average over the draws, after ± its standard deviation between them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from nipype.interfaces.base import isdefined
from nipype.utils.filemanip import loadpkl

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.cli import main as run_app
from scsnet_bids.derivatives import read_table
from scsnet_bids.evaluation.tables import markdown_table
from scsnet_bids.gradients import b0_volumes, read_gradients, write_gradients
from scsnet_bids.images import Image, read_image, write_image
from scsnet_bids.interfaces import (
    ApplyCorrection,
    FitTensor,
    MeasureRegions,
    TransferRegions,
    UnmixRegions,
)
from scsnet_bids.settings import GradientSettings

Change = Callable[[FloatArray, float, BoolArray], tuple[FloatArray, BoolArray]]
"""From series, noise level and which volumes are b=0 to the series and which volumes are kept."""
STRONGER = 1.6
NOISE = f"noise x{STRONGER}"
KINDS = {"plain mean": "mean", "unmixed": "unmixed"}
ENDING = "_model-tensor_seg-SCSNet_scalarstats.tsv"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--draws", type=int, default=6)
    options = parser.parse_args()
    noisier = [partial(add_noise, draw) for draw in range(options.draws)]
    halves = [partial(keep_half, draw) for draw in range(options.draws)]
    changes: dict[str, list[Change]] = {NOISE: noisier, "half of the directions": halves}
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        before = _process(options.data, root / "before")
        for words, draws in changes.items():
            for n, change in enumerate(draws):
                place = root / f"{words} {n}"
                _copy_changed(options.data, place / "data", before / "out", change)
                outs = {"found anew": _process(place / "data", place) / "out"}
                if words == NOISE:  # what was found is a table by volumes: all of them are needed
                    outs["kept"] = _replay(place, before)
                for way, out in outs.items():
                    rows += _compare({"change": words, "regions": way}, before / "out", out)
                shutil.rmtree(place)
    print(describe(pd.DataFrame(rows)))


def describe(rows: pd.DataFrame) -> str:
    """Write means and deviations of the draws as a table."""
    keys = ["change", "regions", "series", "region"]
    groups = rows.groupby(keys, sort=False)
    mean, deviation = groups.mean(), groups.std()
    cells = mean.map("{:+.1f}".format)
    spread = deviation.map(lambda value: "" if np.isnan(value) else f" ± {value:.1f}")
    return markdown_table((cells + spread).reset_index().set_index(keys[0]))


def add_noise(
    seed: int, series: FloatArray, sigma: float, _: BoolArray
) -> tuple[FloatArray, BoolArray]:
    """Add complex noise to a magnitude series of a noise level; all volumes are kept."""
    extra = sigma * np.sqrt(STRONGER**2 - 1)
    real, imaginary = np.random.default_rng(seed).normal(0, extra, (2, *series.shape))
    return np.hypot(series + real, imaginary).astype(np.float32), np.ones(series.shape[3], bool)


def keep_half(
    draw: int, series: FloatArray, _: float, is_b0: BoolArray
) -> tuple[FloatArray, BoolArray]:
    """Choose the b=0 volumes and a random half of the weighted ones; odd draws the other half."""
    mixed = np.random.default_rng(draw // 2).permutation(np.flatnonzero(~is_b0))
    kept = is_b0.copy()
    kept[mixed[draw % 2 :: 2]] = True
    return series, kept


def _copy_changed(data: Path, copy: Path, out: Path, change: Change) -> None:
    """Copy a dataset with changed series."""
    shutil.copytree(data, copy, ignore=shutil.ignore_patterns("derivatives"))
    for path in copy.glob("sub-*/**/dwi/*_dwi.nii.gz"):
        image = read_image(path)
        n_volumes = image.data.shape[3]
        gradients = read_gradients(*_gradient_files(path), image.grid, n_volumes, path)
        quality = next(out.glob(f"sub-*/**/{_name(path)}_desc-image_qc.tsv"))
        sigma = float(read_table(quality)["noise_sigma"].iloc[0])
        is_b0 = b0_volumes(gradients.bvals, GradientSettings().b0_max)
        series, kept = change(np.asarray(image.data, dtype=np.float32), sigma, is_b0)
        write_image(path, Image(series[..., kept], image.grid))
        write_gradients(*_gradient_files(path), gradients.select(kept), image.grid)


def _name(series: Path) -> str:
    """Name a run by its series."""
    return series.name.removesuffix("_dwi.nii.gz")


def _gradient_files(path: Path) -> tuple[Path, Path]:
    """Name the gradient files of a series."""
    stem = str(path).removesuffix(".nii.gz")
    return Path(f"{stem}.bval"), Path(f"{stem}.bvec")


def _process(data: Path, folder: Path) -> Path:
    """Run the app and return the folder with its outputs and its work."""
    with redirect_stdout(StringIO()):
        code = run_app([str(data), str(folder / "out"), "participant", "-w", str(folder / "work")])
    if code != 0:
        raise SystemExit(f"The app failed on {data}.")
    return folder


def _replay(place: Path, before: Path) -> Path:
    """Measure changed series with all else that a run found; return where the tables are."""
    out = place / "kept"
    for inputs in before.glob("work/*/*_wf/tensor_wf/apply_correction/_inputs.pklz"):
        graph, found = inputs.parents[2], Path(loadpkl(inputs)["dwi"])
        changed = next((place / "data").glob(f"sub-*/**/{found.name}"))
        table = next((before / "out").glob(f"sub-*/**/{_name(changed)}{ENDING}"))
        (out / table.relative_to(before / "out")).parent.mkdir(parents=True)
        measured = _measure(graph, changed, out / _name(changed))
        shutil.copyfile(measured, out / table.relative_to(before / "out"))
    return out


def _measure(graph: Path, dwi: Path, folder: Path) -> Path:
    """Correct a series, fit and measure as a graph of the app did before; return the table."""
    bval, bvec = map(str, _gradient_files(dwi))
    tensor, regional = graph / "tensor_wf", graph / "regional_wf"
    corrected = _run(
        ApplyCorrection, tensor / "apply_correction", folder, dwi=str(dwi), bval=bval, bvec=bvec
    )
    series = {name: corrected[f"corrected_{name}"] for name in ("dwi", "bval", "bvec")}
    maps = _run(FitTensor, tensor / "fit_tensor", folder, **series)
    plain = _run(MeasureRegions, regional / "measure_regions", folder, **maps)
    raw = {"raw_dwi": str(dwi), "noise": maps["noise"]}  # only the noise level is taken from it
    found = _run(TransferRegions, regional / "transfer_regions", folder, **series, **raw)
    own = {"noise_table": found["noise_table"], "plain_table": plain["plain_table"]}
    unmixed = _run(UnmixRegions, regional / "unmix_regions", folder, **series, **own)
    return Path(unmixed["region_table"])


def _run(step: type[Any], node: Path, folder: Path, **changed: str) -> dict[str, str]:
    """Run a step of the app as it was run, but on other files."""
    names = set(step.input_spec().copyable_trait_names())
    inputs = {**loadpkl(node / "_inputs.pklz"), **changed}
    folder.mkdir(exist_ok=True)
    here = Path.cwd()
    os.chdir(folder)
    try:
        given = {name: inputs[name] for name in names & inputs.keys() if isdefined(inputs[name])}
        return dict(step(**given).run().outputs.get())
    finally:
        os.chdir(here)


def _compare(words: dict[str, str], before: Path, after: Path) -> Iterator[dict[str, object]]:
    """Changes of the whole cord's values, in %, mean of the sides."""
    for path in sorted(before.glob(f"sub-*/**/*{ENDING}")):
        old, new = (_of_cord(file) for file in (path, after / path.relative_to(before)))
        change = (100 * (new / old - 1)).unstack("metric").groupby("region").mean()
        for region, values in change.iterrows():
            figures = {
                f"{metric}, {kind}": values[column, metric]
                for metric in ("FA", "MD")
                for kind, column in KINDS.items()
            }
            series = path.name.removesuffix(ENDING)
            yield {**words, "series": series, "region": region, **figures}


def _of_cord(path: Path) -> pd.DataFrame:
    """Values of the whole cord by region, side and metric."""
    table = read_table(path)
    chosen = table[(table["scope"] == "cord") & (table["side"] != "both")]
    chosen = chosen[~chosen["region"].isin(["white_matter", "cord"])]
    chosen = chosen[chosen["metric"].isin(["FA", "MD"])]
    return chosen.set_index(["region", "side", "metric"])[list(KINDS.values())]


if __name__ == "__main__":
    main()
