"""Slice-wise displacements as FLIRT matrices, for users of FSL.

fslpy knows FSL's coordinates: voxels times their size, the first axis reversed where the affine's
determinant is positive. With ``programs`` this is the only user of fslpy.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from scsnet_bids.arrays import FloatArray
from scsnet_bids.errors import OutputError
from scsnet_bids.files import temporary_name
from scsnet_bids.images import Grid


def flirt_matrices(shift_mm: FloatArray, grid: Grid) -> FloatArray:
    """Write displacements as matrices that take FSL's coordinates of the source to the reference.

    Parameters
    ----------
    shift_mm : (n, k, 2) what must be added to a position (left, posterior) in the source
    grid : of source and reference, which are stored alike

    Returns
    -------
    (n, k, 4, 4) float array
    """
    from fsl.transform.flirt import toFlirt

    image = _image_on(grid)
    in_plane = grid.affine[:3, :2] / np.array(grid.spacing_mm[:2])
    moves = np.broadcast_to(np.eye(4), (*shift_mm.shape[:2], 4, 4)).copy()
    moves[..., :3, 3] = shift_mm @ in_plane.T
    matrices = [toFlirt(move, image, image, "world", "world") for move in moves.reshape(-1, 4, 4)]
    return np.array(matrices).reshape(moves.shape)


def write_flirt_matrices(folder: Path, shift_mm: FloatArray, grid: Grid) -> Path:
    """Write the matrices, per slice in a folder as mcflirt writes and applyxfm4D reads it.

    Parameters
    ----------
    folder : to write, ``slice-000/MAT_0000`` and so on; it appears only when complete, and replaces
        an older one
    shift_mm, grid : as for :func:`flirt_matrices`

    Returns
    -------
    Path of the folder

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from fsl.transform.flirt import writeFlirt

    partial = temporary_name(folder)
    try:
        for k, of_slice in enumerate(flirt_matrices(shift_mm, grid).swapaxes(0, 1)):
            (partial / f"slice-{k:03d}").mkdir(parents=True)
            for volume, matrix in enumerate(of_slice):
                writeFlirt(matrix, partial / f"slice-{k:03d}" / f"MAT_{volume:04d}")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    except OSError as error:
        raise OutputError(
            f"Outputs must be writable: {folder} cannot be written ({error}). Check free space and "
            "permissions, or choose another folder."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _image_on(grid: Grid) -> Any:
    """Image of fslpy's that is stored as the source is, without content."""
    from fsl.data.image import Image

    stored_axes = np.argsort(grid.storage[:, 0])
    shape = np.array(grid.shape)[stored_axes]
    return Image(np.zeros(shape, dtype=np.uint8), xform=grid.storage_affine)
