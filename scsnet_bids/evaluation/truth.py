"""Compare a run with what is true about a phantom.

The true regions are moved by what our motion correction has moved the weighted volumes on average,
slice by slice: the maps lie there, and where a reference lies is no error.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.derivatives import read_table
from scsnet_bids.errors import ImageError, InputDataError
from scsnet_bids.evaluation.motion_scores import MotionScore, rms_length, score_motion
from scsnet_bids.evaluation.scores import (
    Score,
    means_of_regions,
    score_cord,
    score_regions,
    tell_regions,
)
from scsnet_bids.evaluation.value_scores import score_border_intervals, score_values
from scsnet_bids.gradients import b0_volumes
from scsnet_bids.images import Grid, read_image
from scsnet_bids.regions import label_shares
from scsnet_bids.settings import GradientSettings
from scsnet_bids.shift_table import shifts_from_table
from scsnet_bids.slices import PlaneGrid, average_over_voxels, slices_to_volume

SHARE_ENDING = "_seg-SCSNet_probseg.nii.gz"
LABEL_ENDING = "_seg-SCSNet_dseg.nii.gz"
FA_ENDING = "_model-tensor_param-fa_dwimap.nii.gz"
MOTION_ENDING = "_from-orig_to-dwiref_mode-image_desc-slicewise_xfm.tsv"
B0_TO_DWI_ENDING = "_from-dwiref_to-dwi_mode-image_desc-slicewise_xfm.tsv"
TISSUE_ENDING = "_desc-tissue_scalarstats.tsv"
REGION_TABLE_ENDING = "_model-tensor_seg-SCSNet_scalarstats.tsv"


class RunFiles(NamedTuple):
    """Where the truth and the result of a run lie, less the ending of the names."""

    prefix: str
    truth: Path
    result: Path

    def true(self, ending: str) -> Path:
        """Name a file of the truth."""
        return self.truth / (self.prefix + ending)

    def ours(self, ending: str) -> Path:
        """Name a file of the result."""
        return self.result / (self.prefix + ending)


def find_truth(truth: Path, out: Path) -> list[RunFiles]:
    """List the runs whose truth lies in a folder.

    Parameters
    ----------
    truth : derivatives folder of a phantom
    out : our output folder

    Returns
    -------
    list of RunFiles
    """
    return [
        RunFiles(
            path.name.removesuffix(SHARE_ENDING), path.parent, out / path.parent.relative_to(truth)
        )
        for path in sorted(truth.glob(f"sub-*/**/*{SHARE_ENDING}"))
    ]


def score_run(files: RunFiles) -> Iterator[Score]:
    """Score motion, cord, regions and region values of a run of a phantom.

    Parameters
    ----------
    files : of the run

    Yields
    ------
    Score
    """
    motion = score_displacements(files)
    truth = read_image(files.true(SHARE_ENDING))
    spacing_mm = truth.grid.spacing_mm
    share = shift_slices(np.asarray(truth.data, float), motion["dwi"].offset_mm, spacing_mm)
    true_label = label_shares(share)
    label = read_on(files.ours(LABEL_ENDING), truth.grid).astype(int)
    yield from score_cord("cord", label > 0, true_label > 0, spacing_mm)
    yield from _tell_motion(files, motion)
    fa = read_on(files.ours(FA_ENDING), truth.grid)
    yield from tell_regions(score_regions(fa, label, true_label, spacing_mm))
    table = read_table(files.ours(REGION_TABLE_ENDING))
    yield from score_border_intervals(table, means_of_regions(fa, true_label))
    yield from score_values(table, read_table(files.true(TISSUE_ENDING)))


def read_on(path: Path, grid: Grid) -> FloatArray:
    """Read an image that must lie on a grid.

    Parameters
    ----------
    path : image
    grid : of what it is compared with

    Returns
    -------
    (i, j, k) float array

    Raises
    ------
    ImageError
        If it lies on another grid.
    """
    image = read_image(path)
    if not image.grid.matches(grid):
        raise ImageError(
            f"What is compared needs one grid: {path} has {image.grid.shape} voxels, the other "
            f"{grid.shape}, or they lie elsewhere. Compare images of the same scan."
        )
    return np.asarray(image.data, dtype=float)


def read_mask(path: Path, grid: Grid) -> BoolArray:
    """Read a mask that somebody drew on a grid.

    Parameters
    ----------
    path : image
    grid : of what it is compared with

    Returns
    -------
    (i, j, k) bool array

    Raises
    ------
    InputDataError
        If it lies on another grid, or is empty.
    """
    mask = read_on(path, grid) > 0.5
    if not mask.any():
        raise InputDataError(f"A manual mask must hold something: {path} is empty. Take it away.")
    return mask


def shift_slices(
    share: FloatArray, shift_mm: FloatArray, spacing_mm: tuple[float, float, float]
) -> FloatArray:
    """Move each slice of a share image; background moves in.

    Parameters
    ----------
    share : (i, j, k, 9) float array, background first
    shift_mm : (k, 2) displacement (left, posterior)
    spacing_mm : voxel size

    Returns
    -------
    (i, j, k, 9) float array
    """
    plane = PlaneGrid((0.0, 0.0), (share.shape[0], share.shape[1]), spacing_mm[:2])
    regions = share[..., 1:].transpose(2, 3, 1, 0)
    moved = slices_to_volume(
        np.stack(
            [
                average_over_voxels(stack, plane, plane, (float(left), float(back)))
                for stack, (left, back) in zip(regions, shift_mm, strict=True)
            ]
        )
    )
    return np.concatenate([1 - moved.sum(axis=-1, keepdims=True), moved], axis=-1)


def score_displacements(files: RunFiles) -> dict[str, MotionScore]:
    """Compare the displacements of both kinds of volume.

    Parameters
    ----------
    files : of the run

    Returns
    -------
    dict of MotionScore, of ``b0`` and ``dwi``

    Raises
    ------
    InputDataError
        If result and truth have other volumes or slices.
    """
    estimated, true = (
        shifts_from_table(read_table(name(MOTION_ENDING))) for name in (files.ours, files.true)
    )
    bvals = np.loadtxt(files.ours("_desc-preproc_dwi.bval"), ndmin=1)
    if not estimated.shape == true.shape == (bvals.size, *true.shape[1:]):
        raise InputDataError(
            "Result and truth need the same volumes and slices: "
            f"{files.ours(MOTION_ENDING)} has {estimated.shape[:2]}, the truth {true.shape[:2]}, "
            f"and there are {bvals.size} b-values. Compare outputs of the same dataset."
        )
    is_b0 = b0_volumes(bvals, GradientSettings().b0_max)
    kinds = {"b0": is_b0, "dwi": ~is_b0}
    return {kind: score_motion(estimated[chosen], true[chosen]) for kind, chosen in kinds.items()}


def _tell_motion(files: RunFiles, motion: dict[str, MotionScore]) -> Iterator[Score]:
    """Yield the errors of the motion and of the displacement from B0 to DWI."""
    for kind, found in motion.items():
        yield Score("motion", f"{kind} error mm", found.error_mm)
        yield Score("motion", f"{kind} true mm", found.true_mm)
    estimated, true = (
        shifts_from_table(read_table(name(B0_TO_DWI_ENDING))) for name in (files.ours, files.true)
    )
    # Our B0 image and our maps have moved by their offsets, and the cord in them.
    between = true + motion["dwi"].offset_mm - motion["b0"].offset_mm
    yield Score("motion", "B0 to DWI error mm", rms_length(estimated - between))
    yield Score("motion", "B0 to DWI true mm", rms_length(between))
