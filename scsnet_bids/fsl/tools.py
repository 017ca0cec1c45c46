"""FSL's eddy and topup, where FSL is installed: what they are given, and what they give back.

Their command lines are composed by fslpy (:mod:`scsnet_bids.fsl.programs`); what FSL's files look
like is known by :mod:`scsnet_bids.fsl.files` alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.errors import InputDataError, ScsnetError
from scsnet_bids.files import write_text
from scsnet_bids.fsl.files import (
    STORED_AS_LAS,
    Acquisition,
    acquisition_row,
    read_acquisition,
    read_numbers,
    read_result,
    slice_groups,
    stored_for_fsl,
    topup_config,
    unexpected,
)
from scsnet_bids.fsl.programs import find_program, find_programs, run_program
from scsnet_bids.gradients import Gradients, read_gradients, write_gradients
from scsnet_bids.images import Grid, Image, read_grid, write_image
from scsnet_bids.prior_results import settings_of_run
from scsnet_bids.runs import DwiRun, leave_out, read_metadata
from scsnet_bids.settings import Settings
from scsnet_bids.slices import PlaneGrid

EDDY = ("eddy_cpu", "eddy_openmp", "eddy")
"""What FSL calls it where there is no GPU: since 6.0.6, before, and the one that chooses itself."""
EDDY_WITH_GPU = "eddy_cuda*"
TOPUP = ("topup",)
MOST_B0 = 3
"""Volumes of each direction that topup is given; more cost time and tell little."""
EXCITATIONS_PER_ORDER = 4
"""Excitations of a volume for each order of its movement in time."""
EDDY_CHOICES: dict[str, Any] = {
    "data_is_shelled": True,
    "repol": True,
    "slm": "linear",
    "niter": 8,
    "fwhm": "10,6,4,2,0,0,0,0",
    "dont_peas": True,
    "dont_mask_output": True,
}
"""Outliers are replaced. Shells are not brought together by mutual information, which sees a cord
to 0.7 mm only: that is done later, and better. The neck around the mask is kept."""


class EddyResult(NamedTuple):
    """What eddy has found.

    Attributes
    ----------
    series : corrected, on the grid of the source
    gradients : b-vectors rotated with the volumes
    translation_mm : (n, 2) of each volume (left, posterior), in the direction that eddy counts
    outlier : (n, k) bool array, slices that eddy has replaced
    """

    series: Image
    gradients: Gradients
    translation_mm: FloatArray
    outlier: BoolArray


def check_fsl(settings: Settings) -> None:
    """Make sure that FSL is installed if it is asked for.

    Parameters
    ----------
    settings : of the command

    Raises
    ------
    MissingToolError
        If it is asked for and not there.
    """
    if settings.motion.method == "fsl":
        find_program(EDDY)
    if settings.distortion.method == "fsl":
        find_program(TOPUP)


def check_runs(
    good: Sequence[DwiRun], left_out: Mapping[DwiRun, ScsnetError], settings: Settings
) -> tuple[list[DwiRun], dict[DwiRun, ScsnetError]]:
    """Leave out the runs whose sidecars FSL cannot be given.

    Parameters
    ----------
    good : runs to process
    left_out : the others, with the reason
    settings : of all runs

    Returns
    -------
    list of DwiRun and dict of ScsnetError by DwiRun, as they were given
    """

    def check(run: DwiRun) -> None:
        own = settings_of_run(run, settings)
        if "fsl" in (own.motion.method, own.distortion.method):
            try:
                read_acquisition(read_metadata(run), read_grid(run.image)[0])
            except InputDataError as error:
                raise InputDataError(f"{run.image}: {error}") from error

    return leave_out(good, left_out, check)


def make_mask(centre_mm: FloatArray, grid: Grid, radius_mm: float) -> BoolArray:
    """Draw a disc around the cord in every slice.

    Parameters
    ----------
    centre_mm : (k, 2) centre of the cord (left, posterior) from the centre of the first voxel
    grid : of the series
    radius_mm : of the disc

    Returns
    -------
    (i, j, k) bool array
    """
    return np.asarray(PlaneGrid.of_image(grid).distance_mm(centre_mm) <= radius_mm)


def run_eddy(
    series: Image,
    gradients: Gradients,
    mask: BoolArray,
    acquisition: Acquisition,
    folder: Path,
    topup: Path | None = None,
) -> EddyResult:
    """Correct motion, eddy currents and outliers by FSL eddy.

    Movement within a volume is corrected where the slice times are known and a GPU is there.

    Parameters
    ----------
    series, gradients : as acquired
    mask : (i, j, k) bool array of the voxels that eddy looks at
    acquisition : how the series was read out
    folder : for all files
    topup : prefix of topup's files, or None

    Returns
    -------
    EddyResult

    Raises
    ------
    MissingToolError
        If FSL is not installed.
    ScsnetError
        If eddy fails.
    """
    stored, out = stored_for_fsl(series.grid), folder / "eddy"
    files = {
        "imain": folder / "series.nii.gz",
        "mask": folder / "mask.nii.gz",
        "index": folder / "index.txt",
        "acqp": folder / "acqparams.txt",
        "bvecs": folder / "bvecs",
        "bvals": folder / "bvals",
    }
    write_image(files["imain"], Image(series.data, stored))
    write_image(files["mask"], Image(mask.astype(np.uint8), stored))
    write_text(files["index"], " ".join(["1"] * gradients.bvals.size) + "\n")
    write_text(files["acqp"], acquisition_row(acquisition) + "\n")
    write_gradients(files["bvals"], files["bvecs"], gradients, stored)
    words = EDDY_CHOICES | ({} if topup is None else {"topup": topup})
    program, within = _choose_eddy(acquisition, folder)
    run_program("eddy", program, folder, **files, out=out, **words, **within)
    return _read_eddy(out, series.grid, files["bvals"], gradients.bvals.size)


def run_topup(
    b0: Image, reversed_b0: Image, acquisitions: tuple[Acquisition, Acquisition], folder: Path
) -> FloatArray:
    """Estimate distortion from b=0 images of both phase-encode directions by FSL topup.

    Parameters
    ----------
    b0, reversed_b0 : (i, j, k, n) b=0 volumes, of which the first few are used; the first of ``b0``
        is where the field is found
    acquisitions : of either
    folder : for all files; eddy finds them by the prefix ``topup``

    Returns
    -------
    (i, j, k) displacement in the first image along the phase-encode axis, mm, positive toward
    larger indices of the inner axis by topup's count

    Raises
    ------
    InputDataError
        If the images do not make a pair.
    MissingToolError
        If FSL is not installed.
    ScsnetError
        If topup fails.
    """
    _check_pair(b0.grid, reversed_b0.grid, acquisitions)
    used = [image.data[..., :MOST_B0] for image in (b0, reversed_b0)]
    both = Image(np.concatenate(used, axis=3).astype(np.float32), stored_for_fsl(b0.grid))
    imain = write_image(folder / "b0_both_ways.nii.gz", both)
    datain, field = folder / "acqparams_topup.txt", folder / "field_hz.nii.gz"
    rows = zip(used, acquisitions, strict=True)
    write_text(datain, "".join(f"{acquisition_row(a)}\n" * data.shape[3] for data, a in rows))
    files = {"imain": imain, "datain": datain, "out": folder / "topup", "fout": field}
    run_program("topup", find_program(TOPUP), folder, config=topup_config(b0.grid.shape), **files)
    first = acquisitions[0]
    mm_per_hz = first.readout_s * first.phase.sign * b0.grid.spacing_mm[first.phase.axis]
    return np.asarray(read_result(field, b0.grid.shape).data * mm_per_hz)


def _check_pair(
    grid: Grid, reversed_grid: Grid, acquisitions: tuple[Acquisition, Acquisition]
) -> None:
    """Make sure that two images can tell the distortion."""
    first, second = (acquisition.phase for acquisition in acquisitions)
    if first.axis != second.axis or first.sign * second.sign != -1:
        raise InputDataError(
            "topup needs images with the phase encoded in opposite directions, each stated by "
            f"PhaseEncodingDirection: in FSL's words they are {acquisition_row(acquisitions[0])!r} "
            f"and {acquisition_row(acquisitions[1])!r}. Correct the sidecars, or use --distortion "
            "none."
        )
    if not grid.matches(reversed_grid):
        raise InputDataError(
            "topup needs images of one geometry: the reversed one has "
            f"{' x '.join(map(str, reversed_grid.shape))} voxels, the series "
            f"{' x '.join(map(str, grid.shape))}, or it lies elsewhere. Use --distortion none."
        )


def _choose_eddy(acquisition: Acquisition, folder: Path) -> tuple[str, dict[str, Any]]:
    """Choose the program, and how it corrects movement within volumes, if it can."""
    with_gpu = find_programs(EDDY_WITH_GPU) if shutil.which("nvidia-smi") else []
    if not with_gpu:
        return find_program(EDDY), {}
    times = acquisition.slice_time_s
    groups = [] if times is None else slice_groups(times)
    if len(groups) < EXCITATIONS_PER_ORDER:
        return with_gpu[-1], {}
    slspec = folder / "slspec.txt"
    write_text(slspec, "".join(" ".join(map(str, group)) + "\n" for group in groups))
    return with_gpu[-1], {"slspec": slspec, "mporder": len(groups) // EXCITATIONS_PER_ORDER}


def _read_eddy(out: Path, grid: Grid, bvals: Path, n_volumes: int) -> EddyResult:
    """Read what eddy has written."""
    image, bvecs, parameters, outliers = (
        out.with_name(out.name + ending)
        for ending in (".nii.gz", ".eddy_rotated_bvecs", ".eddy_parameters", ".eddy_outlier_map")
    )
    series = read_result(image, (*grid.shape, n_volumes))
    gradients = read_gradients(bvals, bvecs, stored_for_fsl(grid), n_volumes, image)
    translation = read_numbers(parameters, n_volumes, 0)[:, :2]
    outlier = read_numbers(outliers, n_volumes, 1) > 0
    if outlier.shape[1] != grid.shape[2]:
        raise unexpected(outliers)
    translation_mm = translation * STORED_AS_LAS[:2, 1]
    return EddyResult(Image(series.data, grid), gradients, translation_mm, outlier)
