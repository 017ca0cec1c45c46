"""What others do with the same series: DIPY in a process of its own, MRtrix3 if it is installed.

    python -m scsnet_bids.benchmark.peers STEP SERIES OUT

runs one of the steps of DIPY (``DIPY_STEPS``) on a file and its gradients.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.benchmark.children import python_command
from scsnet_bids.gradients import Gradients, read_gradients
from scsnet_bids.images import Image, read_image, write_image
from scsnet_bids.settings import GradientSettings
from scsnet_bids.tensor import LARGEST_LOG_SIGNAL

MRTRIX = ("dwidenoise", "dwi2tensor", "tensor2metric")
MRTRIX_WEIGHS = 2
"""How often ``dwi2tensor`` weighs anew unless it is told otherwise."""
MOTION, TENSOR = "motion_correction", "TensorModel"


def list_peers(series: Path, corrected: Path, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """List commands to measure, in their order.

    Parameters
    ----------
    series : as it was acquired
    corrected : as our app leaves it; tensors are fitted to it, so that they can be compared
    folder : for what the commands write

    Yields
    ------
    name and command
    """
    for step, image in ((MOTION, series), (TENSOR, corrected)):
        yield f"DIPY {step}", python_command("peers", step, str(image), str(folder))
    if not all(map(shutil.which, MRTRIX)):
        return
    shared = ["-quiet", "-force", "-nthreads", "0"]
    gradients = ["-fslgrad", *(str(_beside(corrected, end)) for end in (".bvec", ".bval"))]
    tensor = str(folder / "tensor.nii.gz")
    yield "MRtrix3 dwidenoise", ["dwidenoise", str(series), str(folder / "quiet.nii.gz"), *shared]
    yield "MRtrix3 dwi2tensor", ["dwi2tensor", str(corrected), tensor, *gradients, *shared]
    maps = ["-fa", str(folder / "mrtrix_fa.nii.gz"), "-adc", str(folder / "mrtrix_md.nii.gz")]
    yield "MRtrix3 tensor2metric", ["tensor2metric", tensor, *maps, *shared]


def fit_as_mrtrix(image: Image, gradients: Gradients, inside: BoolArray) -> dict[str, FloatArray]:
    """Fit tensors with signals weighed as often as ``dwi2tensor`` does, and from the same start.

    It starts with the signals themselves as weights and weighs twice more. Our app, as DIPY,
    starts without weights and weighs once.

    Parameters
    ----------
    image : corrected series
    gradients : of its volumes
    inside : (i, j, k) bool array, voxels to fit

    Returns
    -------
    (voxels,) ``fa`` and ``md``
    """
    from dipy.reconst.dti import (
        design_matrix,
        fractional_anisotropy,
        from_lower_triangular,
        wls_fit_tensor,
    )

    design = np.asarray(design_matrix(gradient_table(gradients)))
    signal = np.maximum(image.data[inside].astype(float), 1e-6 * image.data.max())
    weights = signal**2
    for _ in range(1 + MRTRIX_WEIGHS):
        fitted, _ = wls_fit_tensor(design, signal, weights=weights, return_lower_triangular=True)
        weights = np.exp(2 * np.minimum(fitted @ design.T, LARGEST_LOG_SIGNAL))
    tensors = from_lower_triangular(fitted[:, :6])
    eigenvalues = np.clip(np.linalg.eigvalsh(tensors), 0, None)
    return {"fa": fractional_anisotropy(eigenvalues), "md": eigenvalues.mean(axis=1)}


def gradient_table(gradients: Gradients) -> Any:
    """Hand gradients to DIPY, a ``GradientTable`` with b-vectors in scanner RAS+."""
    from dipy.core.gradients import gradient_table as dipy_gradient_table

    b0_max = GradientSettings().b0_max
    return dipy_gradient_table(gradients.bvals, bvecs=gradients.bvecs, b0_threshold=b0_max)


def main(step: str, series: Path, out: Path) -> None:
    """Run a step of DIPY."""
    image, gradients = read_series(series)
    DIPY_STEPS[step](image, gradient_table(gradients), out)


def read_series(series: Path) -> tuple[Image, Gradients]:
    """Read a series and the gradients beside it."""
    image = read_image(series)
    bval, bvec = (_beside(series, end) for end in (".bval", ".bvec"))
    return image, read_gradients(bval, bvec, image.grid, image.data.shape[3], series)


def _correct_motion(image: Image, table: Any, out: Path) -> None:
    """Register whole volumes, as DIPY does by default."""
    from dipy.align import motion_correction

    corrected, _ = motion_correction(image.data.astype(float), table, affine=image.grid.affine)
    data = np.asarray(corrected.dataobj, dtype=np.float32)
    write_image(out / "dipy_motion.nii.gz", Image(data, image.grid))


def _fit_tensor(image: Image, table: Any, out: Path) -> None:
    """Fit tensors to the whole field, as our app does."""
    from dipy.reconst.dti import TensorModel

    fit = TensorModel(table, fit_method="WLS").fit(image.data)
    for name, values in (("fa", fit.fa), ("md", fit.md)):
        write_image(out / f"dipy_{name}.nii.gz", Image(values.astype(np.float32), image.grid))


def _beside(series: Path, extension: str) -> Path:
    """Name a gradient file of a series."""
    return series.with_name(series.name.split(".")[0] + extension)


DIPY_STEPS = {MOTION: _correct_motion, TENSOR: _fit_tensor}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
