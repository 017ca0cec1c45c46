"""How often a tensor fit should be weighted anew, and what that means beside MRtrix3.

    python tests/benchmarks/tensor_weights.py [CORRECTED_SERIES CORD_MASK]

The app fits like DIPY's weighted least squares: once without weights, once with those that the
first fit predicts. MRtrix3's ``dwi2tensor`` weighs once more. The first table says what each fit
makes of single voxels of known tensors. The second, for a corrected series with its ``.bval`` and
``.bvec`` beside it and a mask, says how far each fit lies from what ``dwi2tensor`` makes of the
same series, as it comes and with other options; where the options ask for the same fit, the two
must agree.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from dipy.reconst.dti import design_matrix

from scsnet_bids.arrays import FloatArray
from scsnet_bids.benchmark.peers import gradient_table, read_series
from scsnet_bids.evaluation.tables import markdown_table
from scsnet_bids.images import read_image
from scsnet_bids.phantom import PhantomSettings
from scsnet_bids.phantom.simulation import make_gradients

TISSUES = {"white matter": (1.7e-3, 0.35e-3, 0.35e-3), "gray matter": (1.1e-3, 0.6e-3, 0.6e-3)}
"""Eigenvalues in mm2/s."""
SNRS = (6.5, 12, 25)
VOXELS = 20_000
FITS = 4
"""Unweighted, and weighted once, twice and three times."""
LARGEST_LOG_SIGNAL = 20.0
MRTRIX_OPTIONS = ("", "-ols -iter 0", "-ols -iter 1", "-ols -iter 2", "-ols -iter 3")
"""Of ``dwi2tensor``, which begins with the signals as weights unless it is told ``-ols``."""


def main(words: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("series", type=Path, nargs="?")
    parser.add_argument("mask", type=Path, nargs="?")
    options = parser.parse_args(words)
    print(_show(pd.DataFrame(_simulated())))
    if options.series and options.mask:
        beside = _beside_mrtrix(options.series, options.mask)
        print("\n" + markdown_table(beside))


def fit(signal: FloatArray, design: FloatArray) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Fit (voxels, n) signals, weighing them anew each time; yield FA and MD of the voxels."""
    log_signal, weight = np.log(signal), np.ones_like(signal)
    for _ in range(FITS):
        normal = np.einsum("ni,vn,nj->vij", design, weight, design)
        right = np.einsum("ni,vn,vn->vi", design, weight, log_signal)
        found = np.linalg.solve(normal, right[..., None])[..., 0]
        weight = np.exp(2 * np.clip(found @ design.T, -LARGEST_LOG_SIGNAL, LARGEST_LOG_SIGNAL))
        yield _scalars(found)


def _simulated() -> Iterator[dict[str, object]]:
    """Compare the fits with the truth, in single voxels with Rician noise."""
    gradients = make_gradients(PhantomSettings(directions=30, b0_volumes=5))
    design = np.asarray(design_matrix(gradient_table(gradients)))
    rng = np.random.default_rng(0)
    for tissue, eigenvalues in TISSUES.items():
        tensor = np.array([eigenvalues[0], 0, eigenvalues[1], 0, 0, eigenvalues[2], 0])
        true_fa, true_md = (float(x[0]) for x in _scalars(tensor[None]))
        clean = np.exp(design @ tensor)
        for snr in SNRS:
            noise = rng.normal(0, 1 / snr, (2, VOXELS, len(clean)))
            for times, (fa, md) in enumerate(fit(np.hypot(clean + noise[0], noise[1]), design)):
                yield {
                    "tissue": tissue,
                    "SNR": f"{snr:g}",
                    "weighted": f"{times} times",
                    "FA bias %": 100 * (fa.mean() / true_fa - 1),
                    "FA error %": 100 * np.sqrt(np.mean((fa - true_fa) ** 2)) / true_fa,
                    "MD bias %": 100 * (md.mean() / true_md - 1),
                }


def _beside_mrtrix(series: Path, mask: Path) -> pd.DataFrame:
    """Say how far voxels in a mask lie from MRtrix3's: median, FA / MD in %."""
    image, gradients = read_series(series)
    bval, bvec = (series.with_name(series.name.split(".")[0] + end) for end in (".bval", ".bvec"))
    inside = (read_image(mask).data > 0) & (image.data > 0).all(axis=-1)
    design = np.asarray(design_matrix(gradient_table(gradients)))
    fits = list(fit(image.data[inside].astype(float), design))
    rows = {}
    for option in MRTRIX_OPTIONS:
        theirs = [values[inside] for values in _run_mrtrix(series, bvec, bval, option)]
        rows[option or "as it comes"] = {
            f"ours, {times} times": " / ".join(
                f"{100 * np.median(np.abs(mine / other - 1)):.2f}"
                for mine, other in zip(ours, theirs, strict=True)
            )
            for times, ours in enumerate(fits)
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("dwi2tensor")


def _run_mrtrix(series: Path, bvec: Path, bval: Path, option: str) -> list[FloatArray]:
    """FA and MD of ``dwi2tensor`` with options."""
    with tempfile.TemporaryDirectory() as folder:
        tensor, fa, md = (Path(folder) / f"{name}.nii.gz" for name in ("tensor", "fa", "md"))
        quiet = ["-quiet", "-nthreads", "0"]
        fitted = ["dwi2tensor", series, tensor, "-fslgrad", bvec, bval, *option.split(), *quiet]
        for command in (fitted, ["tensor2metric", tensor, "-fa", fa, "-adc", md, *quiet]):
            subprocess.run([str(word) for word in command], check=True)
        return [read_image(path).data for path in (fa, md)]


def _scalars(coefficients: FloatArray) -> tuple[FloatArray, FloatArray]:
    """FA and MD of (voxels, 7) coefficients Dxx Dxy Dyy Dxz Dyz Dzz and log signal."""
    matrix = coefficients[:, [0, 1, 3, 1, 2, 4, 3, 4, 5]].reshape(-1, 3, 3)
    values = np.clip(np.linalg.eigvalsh(matrix), 0, None)
    md = values.mean(axis=1)
    spread = ((values - md[:, None]) ** 2).sum(axis=1)
    return np.sqrt(1.5 * spread / (values**2).sum(axis=1)), md


def _show(table: pd.DataFrame) -> str:
    """Write a table of numbers in Markdown."""
    numbers = {c: table[c].map("{:+.1f}".format) for c in table.select_dtypes("number")}
    return markdown_table(table.assign(**numbers).set_index("tissue"))


if __name__ == "__main__":
    main()
