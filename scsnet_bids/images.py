"""NIfTI in and out, with one inner voxel order behind the border.

Files keep the voxel order and the affine they came with. Inside the package every array is in
**LPS order**: the first axis runs toward the patient's left, the second toward the back, the
third toward the head, whatever the storage order of the file. So slice ``data[:, :, k].T`` has its
rows from front to back and its columns from the patient's right to the left, slice 0 is the
lowest, and no other module ever asks how a file was stored. An oblique scan takes the order of
its nearest axes.

With ``nifti``, which opens the files, this is the only module that uses nibabel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from scsnet_bids.arrays import FloatArray
from scsnet_bids.files import written_whole
from scsnet_bids.nifti import (
    UNREADABLE,
    not_whole,
    open_nifti,
    open_whole,
    read_repetition_time_s,
    refuse_unusable_affine,
    series_shape,
)

INNER_AXES = ("L", "P", "S")
AFFINE_TOLERANCE_MM = 1e-3
SIGNIFICANT_BITS = 16
"""Of every real number that is written: one part in 65,000, far below the noise of any image."""
FINE_STEPS = 2048
"""The strongest hundredth of a series must span as many steps for 16-bit integers to hold it."""


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an image lie, in the inner order, and how the file stores them.

    Attributes
    ----------
    shape : (3,) voxels along left, posterior, superior
    affine : (4, 4) inner voxel indices to scanner RAS+ mm
    storage : (3, 2) nibabel orientation that takes inner axes back to the file's axes
    repetition_time_s : fourth zoom of the file, 0 if it has none
    """

    shape: tuple[int, int, int]
    affine: FloatArray
    storage: FloatArray
    repetition_time_s: float = 0.0

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size in mm along left, posterior, superior."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def storage_affine(self) -> FloatArray:
        """(4, 4) affine of the file: its voxel indices to scanner RAS+ mm."""
        return np.asarray(self.affine @ inv_ornt_aff(self.storage, self.shape))

    def describe(self) -> str:
        """Write shape and voxel size for a sentence."""
        spacing = " x ".join(f"{size:.3g}" for size in self.spacing_mm)
        return f"{' x '.join(map(str, self.shape))} voxels of {spacing} mm"

    def matches(self, other: Grid) -> bool:
        """Tell whether two images share shape and position to a thousandth of a mm."""
        return self.shape == other.shape and bool(
            np.allclose(self.affine, other.affine, atol=AFFINE_TOLERANCE_MM)
        )

    def resized(self, shape: tuple[int, int, int], affine: FloatArray) -> Grid:
        """Describe another grid in the same inner and storage order."""
        return Grid(shape, affine, self.storage, self.repetition_time_s)


@dataclass(frozen=True)
class Image:
    """An array in inner order with its grid.

    Attributes
    ----------
    data : (i, j, k) or (i, j, k, n) array
    grid : where its voxels lie
    """

    data: npt.NDArray[Any]
    grid: Grid


def read_grid(path: Path) -> tuple[Grid, int]:
    """Read the geometry of an image, and its number of volumes, without its voxels.

    Parameters
    ----------
    path : NIfTI file

    Returns
    -------
    Grid and the number of volumes (1 for a 3D image)

    Raises
    ------
    ImageError
        If the file cannot be read, is not 3D or 4D, or its affine is singular.
    """
    try:
        found = path.stat()
    except OSError:
        return _read_grid(path, ())
    return _read_grid(path, (found.st_ino, found.st_size, found.st_mtime_ns))


@lru_cache(maxsize=10_000)
def _read_grid(path: Path, _: tuple[int, ...]) -> tuple[Grid, int]:
    """Read the geometry of an image once, as long as the file stays what it is."""
    image = open_nifti(path)
    shape = series_shape(image, path)
    return _grid_of(image, path), shape[3] if len(shape) == 4 else 1


def read_image(path: Path, dtype: npt.DTypeLike = np.float32) -> Image:
    """Read an image into inner order.

    Parameters
    ----------
    path : NIfTI file, 3D or 4D
    dtype : type of the array

    Returns
    -------
    Image

    Raises
    ------
    ImageError
        If the file is missing, damaged, truncated, not 3D or 4D, larger than the machine's memory,
        or its affine is singular.
    """
    image = open_whole(path)
    grid = _grid_of(image, path)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            stored = np.asanyarray(image.dataobj).reshape(series_shape(image, path))
            inner = apply_orientation(stored, _storage_to_inner(image.affine))
            return Image(_copied(inner, dtype, "C"), grid)
    except UNREADABLE as error:
        raise not_whole(path, str(error)) from error


def write_image(path: Path, image: Image) -> Path:
    """Write an image in the storage order of its grid, whole or not at all.

    Real numbers keep 16 significant bits: what follows is noise, which does not compress.

    Parameters
    ----------
    path : file to write, ``.nii.gz``; it appears under its name only when complete
    image : array in inner order

    Returns
    -------
    Path of the file
    """
    values = image.data
    return _write(path, _rounded(values) if values.dtype.kind == "f" else values, image.grid)


def write_series(path: Path, image: Image) -> Path:
    """Write a diffusion series as 16-bit integers, as scanners do, half as large as real numbers.

    The step between two integers is the least power of two that takes in the whole series, so
    that the integers of most scanners are kept as they are. Where a few voxels are so bright that
    this is too coarse, or some are not finite, the series is written as real numbers.

    Parameters
    ----------
    path : file to write, as for :func:`write_image`
    image : (i, j, k, n) float array in inner order

    Returns
    -------
    Path of the file
    """
    step = _step_of(image.data)
    if step is None:
        return write_image(path, image)
    return _write(path, np.rint(image.data / step).astype(np.int16), image.grid, step)


def _write(path: Path, values: npt.NDArray[Any], grid: Grid, step: float | None = None) -> Path:
    """Write values as they are; a step is what one of them stands for."""
    stored = _copied(apply_orientation(values, grid.storage), values.dtype, "F")
    nifti = nib.Nifti1Image(stored, grid.storage_affine, dtype=stored.dtype)
    nifti.set_qform(grid.storage_affine, code=1)
    nifti.set_sform(grid.storage_affine, code=1)
    nifti.header.set_xyzt_units("mm", "sec")
    nifti.header.set_slope_inter(step, None if step is None else 0.0)
    if stored.ndim == 4 and grid.repetition_time_s > 0:
        nifti.header["pixdim"][4] = grid.repetition_time_s
    with written_whole(path) as partial:
        nib.save(nifti, partial)
    return path


def _copied(
    values: npt.NDArray[Any], dtype: npt.DTypeLike, order: Literal["C", "F"]
) -> npt.NDArray[Any]:
    """Copy values to where the last axis (C) or the first (F) lies together in memory.

    Line by line: in one go, each voxel of a long series would be fetched from far away.
    """
    copy = np.empty(values.shape, dtype, order)
    for j, k in np.ndindex(values.shape[1:3]):
        copy[:, j, k] = values[:, j, k]
    return copy


def _rounded(values: FloatArray) -> FloatArray:
    """Keep the significant bits of real numbers."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(mantissa * 2.0**SIGNIFICANT_BITS) / 2.0**SIGNIFICANT_BITS, exponent)


def _step_of(series: FloatArray) -> float | None:
    """Choose the step of 16-bit integers, None where they are too coarse."""
    largest = float(max(series.max(), -series.min()))
    if not (math.isfinite(largest) and largest > 0):
        return None
    step = 2.0 ** math.ceil(math.log2(largest / np.iinfo(np.int16).max))
    n_fine = np.count_nonzero(series >= FINE_STEPS * step)
    return step if 100 * n_fine >= series.size else None


def _storage_to_inner(affine: FloatArray) -> FloatArray:
    """Orientation that takes the file's axes to the inner axes."""
    return np.asarray(ornt_transform(io_orientation(affine), axcodes2ornt(INNER_AXES)))


def _grid_of(image: nib.Nifti1Image, path: Path) -> Grid:
    """Describe an image's grid in inner order, or say what is wrong with it."""
    shape = series_shape(image, path)
    refuse_unusable_affine(image, path)
    affine = np.asarray(image.affine, dtype=float)
    orientation = _storage_to_inner(affine)
    inner_affine = affine @ inv_ornt_aff(orientation, shape[:3])
    inner_to_storage = ornt_transform(axcodes2ornt(INNER_AXES), io_orientation(affine))
    return Grid(
        _permuted(shape[:3], orientation),
        inner_affine,
        inner_to_storage,
        read_repetition_time_s(image) if len(shape) == 4 else 0.0,
    )


def _permuted(shape: tuple[int, ...], orientation: FloatArray) -> tuple[int, int, int]:
    """Shape after an orientation has been applied."""
    i, j, k = (int(shape[axis]) for axis in np.argsort(orientation[:, 0]))
    return i, j, k
