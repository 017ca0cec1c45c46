"""Open NIfTI files, and judge their headers before any voxel is read.

Where the voxels lie is what the sform says, or the qform of a file without sform. A file that
sets neither, or whose two do not agree which way the axes run, is refused: left and right would be
a guess. So is a file whose header promises more than the file, or the machine, can hold.

``images`` hands out the voxels; of this module others need ``find_affine_conflict`` alone. Only
these two use nibabel.
"""

from __future__ import annotations

import gzip
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import io_orientation
from nibabel.spatialimages import HeaderDataError

from scsnet_bids.arrays import FloatArray
from scsnet_bids.errors import ImageError
from scsnet_bids.files import check_content
from scsnet_bids.resources import GB, available_memory_gb

UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    ImageFileError,
    HeaderDataError,
)
"""What nibabel raises for a damaged file, or for a header that promises more than there is."""
SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
DEFLATE_LIMIT = 1032
"""No packed byte holds more bytes than this."""
PADDING_BYTES = 2**20
"""Some programs write a little more than the voxels."""
SAME_AXIS_DEG = 1.0
SAME_PLACE_MM = 1.0


def open_nifti(path: Path) -> nib.Nifti1Image:
    """Open a NIfTI file lazily, or say why it is none.

    Parameters
    ----------
    path : file to open; links are followed

    Returns
    -------
    nibabel image whose voxels are not read yet

    Raises
    ------
    ImageError
        If it is missing, damaged, no NIfTI image, or holds no real numbers.
    """
    try:
        check_content(path)
        with _quietly():
            image = nib.load(path)
            kind = image.get_data_dtype().kind if isinstance(image, nib.Nifti1Image) else ""
    except FileNotFoundError as error:
        raise ImageError(
            f"An image must exist: {path} is missing ({error}). Fetch or convert it."
        ) from error
    except PermissionError as error:
        raise ImageError(
            f"An image must be readable: {path} is not ({error}). Correct its permissions."
        ) from error
    except (EOFError, zlib.error) as error:
        raise not_whole(path, str(error)) from error
    except UNREADABLE as error:
        raise ImageError(
            f"An image must be NIfTI: {path} cannot be read ({error}). Convert it again."
        ) from error
    if not isinstance(image, nib.Nifti1Image):
        raise ImageError(
            f"An image must be NIfTI: {path} is {type(image).__name__}. Convert it to .nii.gz."
        )
    if kind not in "iuf":
        raise ImageError(
            f"An image must hold real numbers: {path} holds {image.get_data_dtype()}. Convert the "
            "magnitude image."
        )
    return image


def series_shape(image: nib.Nifti1Image, path: Path) -> tuple[int, ...]:
    """Shape of a 3D image or a series, without the further axes of length 1 of some converters.

    Parameters
    ----------
    image : opened by :func:`open_nifti`
    path : its file, for messages

    Returns
    -------
    (i, j, k) or (i, j, k, n) in the order of the file

    Raises
    ------
    ImageError
        If it has fewer or more axes, or no voxels.
    """
    shape = tuple(int(n) for n in image.shape)
    shape = shape[:3] + tuple(n for n in shape[3:] if n != 1)
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise ImageError(
            f"An image must be 3D or 4D: {path} has shape {image.shape}. Convert it again."
        )
    return shape


def read_repetition_time_s(image: nib.Nifti1Image) -> float:
    """Read the fourth zoom, whatever its unit; 0 if there is none."""
    zooms = image.header.get_zooms()
    try:
        unit = SECONDS.get(image.header.get_xyzt_units()[1], 1.0)
    except KeyError:
        unit = 1.0
    value = float(zooms[3]) * unit if len(zooms) > 3 else 0.0
    return value if math.isfinite(value) and value > 0 else 0.0


def open_whole(path: Path) -> nib.Nifti1Image:
    """Open an image, and make sure that it holds the voxels its header promises, undamaged.

    A packed file is unpacked once, to its checksum, and no further than it should go; its voxels
    are then taken from memory.

    Parameters
    ----------
    path : NIfTI file

    Returns
    -------
    nibabel image

    Raises
    ------
    ImageError
        If it ends early, goes on much too long, or its checksum is wrong.
    """
    image = open_nifti(path)
    _refuse_impossible_size(image, path)
    if path.suffix != ".gz":
        return image
    promised = _last_byte(image)
    try:
        with gzip.open(path) as packed:
            unpacked = packed.read(promised + PADDING_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise not_whole(path, str(error)) from error
    if len(unpacked) < promised:
        raise not_whole(path, f"{len(unpacked)} of {promised} bytes")
    if len(unpacked) > promised + PADDING_BYTES:
        raise not_whole(path, f"more than the {promised} bytes that its header describes")
    with _quietly():
        return type(image).from_stream(BytesIO(unpacked))


def find_affine_conflict(path: Path) -> str:
    """Say how far apart the qform and the sform of an image put its voxels.

    Parameters
    ----------
    path : NIfTI file that ``read_grid`` accepts

    Returns
    -------
    str, empty if they agree to a degree and a millimetre, or if only one of them is set
    """
    image = open_nifti(path)
    both = _both_affines(image)
    if both is None:
        return ""
    angle_deg = _largest_angle_deg(*both)
    corners = np.array([[0, 0, 0, 1], [*(n - 1 for n in image.shape[:3]), 1]], float)
    apart_mm = np.linalg.norm(corners @ (both[0] - both[1]).T, axis=1).max()
    if angle_deg <= SAME_AXIS_DEG and apart_mm <= SAME_PLACE_MM:
        return ""
    return f"qform and sform differ by {angle_deg:.0f} degrees and up to {apart_mm:.0f} mm"


def refuse_unusable_affine(image: nib.Nifti1Image, path: Path) -> None:
    """Raise ImageError if an image does not say where its voxels lie and which side is left."""
    if not _spans_space(np.asarray(image.affine, dtype=float)):
        raise ImageError(
            f"An image must say where its voxels lie: the affine of {path} is singular or not "
            "finite. Convert it again, or repair qform and sform."
        )
    if int(image.header["sform_code"]) <= 0 and int(image.header["qform_code"]) <= 0:
        raise ImageError(
            f"An image must say which way its axes run: {path} sets neither qform nor sform, so "
            "left and right are unknown. Convert it again from the scanner's files."
        )
    both = _both_affines(image)
    if both and not np.array_equal(*map(io_orientation, both)):
        raise ImageError(
            f"qform and sform of an image must agree which way its axes run: those of {path} do "
            "not, so left and right are unknown. Convert it again, or remove the wrong one."
        )


def not_whole(path: Path, found: str) -> ImageError:
    """Make the error of an image that is shorter or longer than its header says."""
    return ImageError(
        f"An image must hold the voxels its header promises: {path} ends early or is damaged "
        f"({found}). Copy or convert it again."
    )


def _refuse_impossible_size(image: nib.Nifti1Image, path: Path) -> None:
    """Raise ImageError for more voxels than file or memory can hold, before any is taken."""
    promised, size = _last_byte(image), path.stat().st_size
    if promised > size * (DEFLATE_LIMIT if path.suffix == ".gz" else 1):
        raise not_whole(path, f"{size} bytes on disk cannot hold the {promised} of its header")
    # As it is stored, and once more as the numbers that are computed with.
    needed_gb = (promised + 4 * math.prod(int(n) for n in image.shape)) / GB
    memory_gb = _memory_gb()
    if needed_gb > memory_gb:
        raise ImageError(
            f"An image must fit into memory: {path} needs {needed_gb:.1f} GB, this job has "
            f"{memory_gb:.1f} GB. Check its header, or give the job more."
        )


@cache
def _memory_gb() -> float:
    """Memory of this job, asked for once."""
    return available_memory_gb()


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep back what nibabel and numpy remark about a header: what matters is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _last_byte(image: nib.Nifti1Image) -> int:
    """Length of the unpacked file that the header describes."""
    n_voxels = math.prod(int(n) for n in image.shape)
    voxels: Any = image.dataobj  # an ArrayProxy, though nibabel's types do not say so
    return int(voxels.offset) + n_voxels * int(image.get_data_dtype().itemsize)


def _both_affines(image: nib.Nifti1Image) -> tuple[FloatArray, FloatArray] | None:
    """Affines of sform and qform; None unless both are set and span space."""
    try:
        with _quietly():
            qform, sform = image.get_qform(coded=True)[0], image.get_sform(coded=True)[0]
    except UNREADABLE:
        return None
    if qform is None or sform is None or not (_spans_space(qform) and _spans_space(sform)):
        return None
    return sform, qform


def _spans_space(affine: FloatArray) -> bool:
    """Tell whether the three voxel axes point in three directions."""
    length = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not (np.isfinite(length) & (length > 1e-6)).all():
        return False
    return bool(abs(np.linalg.det(affine[:3, :3] / length)) > 1e-3)


def _largest_angle_deg(first: FloatArray, second: FloatArray) -> float:
    """Largest angle between the same voxel axis of two affines."""
    a, b = (matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0) for matrix in (first, second))
    return float(np.rad2deg(np.arccos(np.clip((a * b).sum(axis=0), -1, 1))).max())
