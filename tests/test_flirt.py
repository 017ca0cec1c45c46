"""FLIRT matrices do in FSL's coordinates, through fslpy, what we do in ours."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fsl.data.image import Image as FslImage
from fsl.transform.flirt import fromFlirt, readFlirt
from fsl.utils.image.resample import resample
from nibabel.orientations import axcodes2ornt, ornt_transform
from scipy.ndimage import gaussian_filter

from scsnet_bids.correction.resampling import Correction, apply_correction
from scsnet_bids.errors import OutputError
from scsnet_bids.fsl.flirt import flirt_matrices, write_flirt_matrices
from scsnet_bids.images import Grid, Image, read_image, write_image

TURN = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])


def grid_stored_as(orientation: str, shape: tuple[int, int, int] = (24, 20, 3)) -> Grid:
    """Return an oblique grid that is stored in some order."""
    affine = np.eye(4)
    affine[:3, :3] = TURN @ np.diag([-0.9, -1.1, 5.0])
    affine[:3, 3] = 11, 7, -20
    return Grid(shape, affine, ornt_transform(axcodes2ornt("LPS"), axcodes2ornt(orientation)))


@pytest.mark.parametrize("orientation", ["LAS", "RAS", "LPI", "ARS", "PLS"])
def test_fslpy_moves_a_slice_as_we_do(orientation, tmp_path, rng):
    grid = grid_stored_as(orientation)
    noise = rng.normal(0, 1, (*grid.shape, 2))
    series = (100 + 50 * gaussian_filter(noise, (3, 3, 0, 0))).astype(np.float32)
    shift_mm = rng.uniform(-1.5, 1.5, (2, 3, 2))
    folder = write_flirt_matrices(tmp_path / "matrices", shift_mm, grid)
    write_image(tmp_path / "dwi.nii.gz", Image(series, grid))
    ours = apply_correction(series, Correction(shift_mm), grid)
    stored = nib.load(tmp_path / "dwi.nii.gz")
    for volume in range(2):
        first = FslImage(stored.dataobj[..., volume], header=stored.header)
        for k in range(3):
            matrix = readFlirt(folder / f"slice-{k:03d}" / f"MAT_{volume:04d}")
            to_reference = fromFlirt(matrix, first, first, "voxel", "voxel")
            fetch = np.linalg.inv(to_reference)
            moved, _ = resample(first, first.shape, matrix=fetch, order=3, smooth=False)
            nib.Nifti1Image(moved, stored.affine).to_filename(tmp_path / "moved.nii")
            theirs = read_image(Path(tmp_path / "moved.nii")).data
            inside = (slice(4, -4), slice(4, -4), k)
            np.testing.assert_allclose(theirs[inside], ours[..., volume][inside], atol=0.05)
            assert np.abs(series[..., volume][inside] - ours[..., volume][inside]).max() > 1


def test_nothing_moved_is_the_identity():
    matrices = flirt_matrices(np.zeros((2, 3, 2)), grid_stored_as("RAS"))
    np.testing.assert_allclose(matrices, np.broadcast_to(np.eye(4), (2, 3, 4, 4)), atol=1e-12)


def test_every_slice_has_a_folder_that_applyxfm4d_takes_and_older_ones_go(tmp_path):
    grid, folder = grid_stored_as("LAS"), tmp_path / "sub-01_desc-flirt_xfm.mat"
    write_flirt_matrices(folder, np.zeros((12, 3, 2)), grid)
    write_flirt_matrices(folder, np.ones((2, 3, 2)), grid)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("MAT*"))
    assert files == [f"slice-00{k}/MAT_000{n}" for k in range(3) for n in range(2)]
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_place_that_cannot_be_written_gets_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"Outputs must be writable: .*matrices"):
        write_flirt_matrices(
            tmp_path / "file" / "matrices", np.zeros((1, 3, 2)), grid_stored_as("LAS")
        )
