"""How far region values of real series move with more noise, or with half of the directions.

    python tests/benchmarks/stability.py DATASET

The app runs on the series as they are, with noise added until it is 1.6 times as strong, and with
every other weighted volume left out. Printed is the change of FA and MD of the whole cord, in %,
mean over the sides of the absolute change. DATASET is a BIDS dataset whose series have gradient
files of their own.

Result on the two series of ds-cord with the weights 0.1.0: see docs/experiments.md.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from scsnet_bids.cli import main as run_app
from scsnet_bids.derivatives import read_table
from scsnet_bids.evaluation.tables import markdown_table
from scsnet_bids.gradients import b0_volumes, read_gradients, write_gradients
from scsnet_bids.images import Image, read_image, write_image
from scsnet_bids.settings import GradientSettings

FloatArray = npt.NDArray[np.floating]
STRONGER = 1.6
SEED = 0
KINDS = {"plain mean": "mean", "unmixed": "unmixed"}
ENDING = "_model-tensor_seg-SCSNet_scalarstats.tsv"


def main(data: Path) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        out = _process(data, root, "as it is")
        sigma = {
            path.name.removesuffix("_desc-image_qc.tsv"): float(
                read_table(path)["noise_sigma"].iloc[0]
            )
            for path in out.glob("sub-*/**/*_desc-image_qc.tsv")
        }
        changes = {
            f"noise x{STRONGER}": lambda name, series, _: add_noise(series, sigma[name]),
            "half of the directions": lambda _, __, is_b0: keep_half(is_b0),
        }
        rows = []
        for words, change in changes.items():
            changed = _copy_changed(data, root / words / "data", change)
            rows += _compare(words, out, _process(changed, root, words))
    table = pd.DataFrame(rows).groupby(["change", "series", "region"], sort=False).mean()
    print(markdown_table(table.map("{:.1f}".format).reset_index().set_index("change")))


def add_noise(series: FloatArray, sigma: float) -> tuple[FloatArray, slice]:
    """Add complex noise to a magnitude series of a noise level; all volumes are kept."""
    extra = sigma * np.sqrt(STRONGER**2 - 1)
    real, imaginary = np.random.default_rng(SEED).normal(0, extra, (2, *series.shape))
    return np.hypot(series + real, imaginary).astype(np.float32), slice(None)


def keep_half(is_b0: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Choose the b=0 volumes and every other weighted one."""
    kept = is_b0.copy()
    kept[np.flatnonzero(~is_b0)[::2]] = True
    return kept


def _copy_changed(data: Path, copy: Path, change: Callable[..., object]) -> Path:
    """Copy a dataset with changed series."""
    shutil.copytree(data, copy, ignore=shutil.ignore_patterns("derivatives"))
    for path in copy.glob("sub-*/**/dwi/*_dwi.nii.gz"):
        stem = str(path).removesuffix(".nii.gz")
        files = (Path(f"{stem}.bval"), Path(f"{stem}.bvec"))
        image = read_image(path)
        series = np.asarray(image.data, dtype=np.float32)
        gradients = read_gradients(*files, image.grid, series.shape[3], path)
        is_b0 = b0_volumes(gradients.bvals, GradientSettings().b0_max)
        name = path.name.removesuffix("_dwi.nii.gz")
        changed = change(name, series, is_b0)
        series, kept = changed if isinstance(changed, tuple) else (series, changed)
        write_image(path, Image(series[..., kept], image.grid))
        write_gradients(*files, gradients.select(kept), image.grid)
    return copy


def _process(data: Path, root: Path, words: str) -> Path:
    """Run the app and return its output folder."""
    out, work = (root / words / name for name in ("out", "work"))
    with redirect_stdout(StringIO()):
        code = run_app([str(data), str(out), "participant", "-w", str(work)])
    if code != 0:
        raise SystemExit(f"The app failed on {data}.")
    return out


def _compare(words: str, before: Path, after: Path) -> list[dict[str, object]]:
    """Absolute changes of the whole cord's values, in %."""
    rows: list[dict[str, object]] = []
    for path in sorted(before.glob(f"sub-*/**/*{ENDING}")):
        old, new = (_of_cord(file) for file in (path, after / path.relative_to(before)))
        change = (100 * (new / old - 1)).abs()
        for (region, _), values in change.unstack("metric").iterrows():
            row: dict[str, object] = {"change": words, "series": path.name.removesuffix(ENDING)}
            row["region"] = region
            for kind, column in KINDS.items():
                row |= {f"{metric}, {kind}": values[column, metric] for metric in ("FA", "MD")}
            rows.append(row)
    return rows


def _of_cord(path: Path) -> pd.DataFrame:
    """Values of the whole cord by region, side and metric."""
    table = read_table(path)
    chosen = table[(table["scope"] == "cord") & (table["side"] != "both")]
    chosen = chosen[~chosen["region"].isin(["white_matter", "cord"])]
    chosen = chosen[chosen["metric"].isin(["FA", "MD"])]
    return chosen.set_index(["region", "side", "metric"])[list(KINDS.values())]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
