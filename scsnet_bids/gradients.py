"""b-values and b-vectors: read, choose volumes, write.

On disk they follow FSL: a b-vector is given along the voxel axes of the image as stored, its first
component negated if the determinant of the affine is positive. Inside the package a b-vector is a
unit vector in scanner RAS+, or zero where a volume has no direction, and nobody else knows FSL's
rule.

>>> bvals = np.array([0, 5, 795, 800, 805, 2000])
>>> [str(shell) for shell in list_shells(bvals, b0_max=50)]
['b=0 (2 volumes)', 'b=800 (3 volumes)', 'b=2000 (1 volume)']
>>> tensor_volumes(bvals, GradientSettings(tensor_b_max=1200))
array([ True,  True,  True,  True,  True, False])
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.errors import GradientError, listed
from scsnet_bids.files import write_text
from scsnet_bids.gradient_files import read_bvals, read_bvecs
from scsnet_bids.images import Grid
from scsnet_bids.settings import GradientSettings

B_JITTER = 50.0
"""Scanners scatter the b-values of one shell by less than this, s/mm2."""
SHORTEST_VECTOR = 1e-3
"""Converters write 4e-9 where they mean 0."""
LENGTH_TOLERANCE = 0.1
"""b-vectors differ by more only if their length means something; relative to the median."""
LARGEST_B = 1e5
"""No scanner reaches this, s/mm2."""


@dataclass(frozen=True, eq=False)
class Gradients:
    """The diffusion weighting of every volume.

    Attributes
    ----------
    bvals : (n,) finite b-values >= 0, s/mm2
    bvecs : (n, 3) unit vectors in scanner RAS+, or zero where a volume has no direction
    """

    bvals: FloatArray
    bvecs: FloatArray

    def __post_init__(self) -> None:
        bvals, bvecs = np.array(self.bvals, dtype=float), np.array(self.bvecs, dtype=float)
        if bvals.ndim != 1 or bvecs.shape != (bvals.size, 3):
            raise GradientError(
                f"Gradients need (n,) b-values and (n, 3) b-vectors: found {bvals.shape} and "
                f"{bvecs.shape}."
            )
        if not (np.isfinite(bvals).all() and (bvals >= 0).all()):
            raise GradientError(f"b-values must be 0 or more: found {bvals}.")
        length = np.linalg.norm(bvecs, axis=1)
        if not (np.isclose(length, 1, atol=1e-4) | (length == 0)).all():
            raise GradientError(f"b-vectors must have length 1 or 0: found {length}.")
        for name, array in (("bvals", bvals), ("bvecs", bvecs)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def select(self, volumes: npt.NDArray[np.bool_] | npt.NDArray[np.integer]) -> Gradients:
        """Keep the volumes of a mask or a list of indices."""
        return Gradients(self.bvals[volumes], self.bvecs[volumes])


class Shell(NamedTuple):
    """Volumes of about the same b-value.

    Attributes
    ----------
    b_value : mean b-value rounded to 10, s/mm2; 0 for the b=0 volumes
    n_volumes : how many there are
    """

    b_value: int
    n_volumes: int

    def __str__(self) -> str:
        volumes = "volume" if self.n_volumes == 1 else "volumes"
        return f"b={self.b_value} ({self.n_volumes} {volumes})"


def read_gradients(
    bval_path: Path, bvec_path: Path, grid: Grid, n_volumes: int, image_path: Path
) -> Gradients:
    """Read FSL-style gradient files of an image.

    b-vectors may lie in three rows or three columns, be separated by blanks, tabs or commas, and
    share any length. A vector that is zero or not a number becomes zero: whether its volume needs
    a direction is for ``gradient_checks`` to say.

    Parameters
    ----------
    bval_path, bvec_path : text files
    grid, n_volumes : of the image, as ``images.read_grid`` gives them
    image_path : the image, for messages

    Returns
    -------
    Gradients, b-vectors in scanner RAS+

    Raises
    ------
    GradientError
        If a file is missing or not numeric, if the counts differ, if a b-value is negative,
        impossibly large or not a number, or if the b-vectors differ in length.
    """
    bvals, bvecs = read_bvals(bval_path, image_path), read_bvecs(bvec_path, image_path)
    if not bvals.size == len(bvecs) == n_volumes:
        raise GradientError(
            "b-values and b-vectors need one entry per volume: "
            f"{image_path.name} has {n_volumes} volumes, {bval_path.name} {bvals.size} b-values, "
            f"{bvec_path.name} {len(bvecs)} b-vectors. Check that all three come from the same "
            "conversion."
        )
    wrong = ~((bvals >= 0) & (bvals <= LARGEST_B))
    if wrong.any():
        raise GradientError(
            f"b-values must lie between 0 and {LARGEST_B:g} s/mm2: {bval_path} has "
            f"{listed(bvals[wrong])} in {list_numbers(wrong)}. Convert the series again, or "
            "correct the file."
        )
    return Gradients(bvals, fsl_to_ras_bvecs(_unit_vectors(bvecs, bvals, bvec_path), grid))


def write_gradients(bval_path: Path, bvec_path: Path, gradients: Gradients, grid: Grid) -> None:
    """Write FSL-style gradient files, each whole or not at all.

    Parameters
    ----------
    bval_path, bvec_path : files to write
    gradients : b-vectors in scanner RAS+
    grid : of the image they belong to

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    rows = ras_to_fsl_bvecs(gradients.bvecs, grid).T.round(8) + 0.0  # no "-0"
    write_text(bval_path, _as_line(gradients.bvals))
    write_text(bvec_path, "".join(_as_line(row) for row in rows))


def fsl_to_ras_bvecs(bvecs: FloatArray, grid: Grid) -> FloatArray:
    """Turn b-vectors in FSL's convention into scanner RAS+.

    Parameters
    ----------
    bvecs : (n, 3) along the axes of the stored image, first component by FSL's sign rule
    grid : of the image

    Returns
    -------
    (n, 3) in scanner RAS+, of the same length
    """
    return np.asarray(bvecs @ _fsl_to_ras(grid).T)


def ras_to_fsl_bvecs(bvecs: FloatArray, grid: Grid) -> FloatArray:
    """Turn b-vectors in scanner RAS+ into FSL's convention; the inverse of the above.

    Parameters
    ----------
    bvecs : (n, 3) in scanner RAS+
    grid : of the image

    Returns
    -------
    (n, 3) along the axes of the stored image, first component by FSL's sign rule
    """
    return np.asarray(bvecs @ _fsl_to_ras(grid))


def b0_volumes(bvals: FloatArray, b0_max: float) -> BoolArray:
    """Tell which volumes count as b=0.

    Parameters
    ----------
    bvals : (n,) s/mm2
    b0_max : s/mm2, inclusive

    Returns
    -------
    (n,) bool array
    """
    return np.asarray(bvals <= b0_max)


def tensor_volumes(bvals: FloatArray, settings: GradientSettings) -> BoolArray:
    """Tell which volumes enter the tensor: b=0 and the shells up to ``tensor_b_max``.

    Parameters
    ----------
    bvals : (n,) s/mm2
    settings : limits; scanner jitter above ``tensor_b_max`` is let pass

    Returns
    -------
    (n,) bool array
    """
    limit = max(settings.b0_max, settings.tensor_b_max + B_JITTER)
    return np.asarray(bvals <= limit)


def weighted_volumes(bvals: FloatArray, settings: GradientSettings) -> BoolArray:
    """Tell which volumes enter the tensor and are not b=0.

    Parameters
    ----------
    bvals : (n,) s/mm2
    settings : limits

    Returns
    -------
    (n,) bool array
    """
    return tensor_volumes(bvals, settings) & ~b0_volumes(bvals, settings.b0_max)


def list_shells(bvals: FloatArray, b0_max: float) -> list[Shell]:
    """List the shells of a series with their sizes, lowest first.

    Parameters
    ----------
    bvals : (n,) s/mm2
    b0_max : s/mm2; volumes up to here are the shell b=0

    Returns
    -------
    list of Shell
    """
    shell = _shell_of(bvals, b0_max)
    members = [bvals[shell == number] for number in np.unique(shell)]
    return [Shell(0 if m.max() <= b0_max else round(m.mean() / 10) * 10, m.size) for m in members]


def list_numbers(volumes: BoolArray) -> str:
    """Name volumes by number, for a sentence.

    >>> list_numbers(np.array([False, True, True]))
    'volumes 1, 2 (counted from 0)'
    """
    numbers = np.flatnonzero(volumes)
    return f"volume{'s' if numbers.size > 1 else ''} {listed(numbers)} (counted from 0)"


def _fsl_to_ras(grid: Grid) -> FloatArray:
    """(3, 3) orthogonal matrix from FSL's axes to scanner RAS+, the nearest to the affine's."""
    axes = grid.storage_affine[:3, :3]
    left, _, right = np.linalg.svd(axes / np.linalg.norm(axes, axis=0))
    first_sign = -1.0 if np.linalg.det(axes) > 0 else 1.0
    return np.asarray(left @ right * [first_sign, 1.0, 1.0])


def _unit_vectors(bvecs: FloatArray, bvals: FloatArray, path: Path) -> FloatArray:
    """Scale b-vectors to length 1; those without a direction become zero."""
    with np.errstate(over="ignore"):
        length = np.linalg.norm(bvecs, axis=1)
    directed = (length > SHORTEST_VECTOR) & np.isfinite(length)
    weighted = length[directed & (bvals > 0)]
    if weighted.size and np.ptp(weighted) > LENGTH_TOLERANCE * np.median(weighted):
        raise GradientError(
            f"b-vectors must share one length: in {path} it runs from {weighted.min():.3g} to "
            f"{weighted.max():.3g}. If it scales the b-values, write b times the squared length "
            "into the bval file and unit vectors here."
        )
    scale = np.where(directed, length, 1.0)[:, None]
    return np.where(directed[:, None], bvecs / scale, 0.0)


def _shell_of(bvals: FloatArray, b0_max: float) -> npt.NDArray[np.intp]:
    """(n,) shell number of each volume, lowest b-value first; b=0 is a shell of its own."""
    values = np.unique(np.where(bvals <= b0_max, 0.0, bvals))
    starts = (np.diff(values, prepend=0.0) > B_JITTER) | ((values > 0) & (np.roll(values, 1) == 0))
    return np.cumsum(starts, dtype=np.intp)[np.searchsorted(values, bvals * (bvals > b0_max))]


def _as_line(values: FloatArray) -> str:
    """Write numbers with one blank between them."""
    return " ".join(f"{value:.8g}" for value in values) + "\n"
