"""What is wrong with diffusion runs.

Every run is checked before any is processed, and every fault of it is told at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np

from scsnet_bids.errors import (
    ONLY_B0,
    GradientError,
    ImageError,
    InputDataError,
    ScsnetError,
    SkippedSeries,
)
from scsnet_bids.gradient_checks import check_gradients
from scsnet_bids.gradient_files import read_bvals
from scsnet_bids.gradients import list_numbers, read_gradients
from scsnet_bids.images import Grid, read_grid, read_image
from scsnet_bids.nifti import find_affine_conflict
from scsnet_bids.runs import DwiRun, list_inherited, read_entities, read_metadata
from scsnet_bids.settings import GradientSettings

SMALLEST_FIELD_MM = 20.0
"""The network looks at the cord and what lies around it."""
IN_PLANE_MM = (0.1, 3.0)
SLICE_MM = (0.1, 20.0)
SAGITTAL_RATIO = 1.5
"""Slices are not axial if voxels are this much longer across the cord than along it."""

_log = logging.getLogger(__name__)


def check_run(run: DwiRun, settings: GradientSettings) -> list[ScsnetError]:
    """Find what would keep a run from being processed; its voxels are read once.

    Parameters
    ----------
    run : to check
    settings : which volumes count as b=0 and which enter the tensor

    Returns
    -------
    list of errors, each with one sentence to the user; empty if the run is good
    """
    checks: list[Callable[[], object]] = [
        partial(read_metadata, run),
        partial(_check_inherited, run),
    ]
    try:
        grid, n_volumes = _read_series_grid(run.image)
    except ImageError as error:
        return [error, *_faults(checks)]
    checks.append(partial(_check_geometry, run.image, grid))
    checks.append(partial(_check_directions, run, grid, n_volumes, settings))
    checks.append(partial(_check_voxels, run, grid, n_volumes, settings))
    return _faults(checks)


def check_runs(
    runs: Iterable[DwiRun], settings: GradientSettings
) -> tuple[list[DwiRun], dict[DwiRun, ScsnetError]]:
    """Check runs, every fault of every run, before any of them is processed.

    Parameters
    ----------
    runs : to check
    settings : which volumes count as b=0 and which enter the tensor

    Returns
    -------
    the good runs, and the error of each other run; several faults are told in one error, and a
    series of b=0 volumes beside a diffusion series is a ``SkippedSeries``
    """
    faults = {run: check_run(run, settings) for run in runs}
    good = [run for run, errors in faults.items() if not errors]
    left_out = {run: _joined(errors) for run, errors in faults.items() if errors}
    for run in left_out:
        if _is_companion(run, good, settings):
            left_out[run] = SkippedSeries(ONLY_B0)
    return good, left_out


def _is_companion(run: DwiRun, good: Sequence[DwiRun], settings: GradientSettings) -> bool:
    """Tell whether a series holds b=0 volumes only, by its gradients or for want of any."""
    own_gradients = run.bval.name.startswith(run.image.name.split(".")[0])
    if not (own_gradients and run.bval.exists()):
        # Converters write none for a single volume; an inherited file has one entry per volume.
        beside = any(other.image.parent == run.image.parent for other in good)
        return beside and not (own_gradients and run.bvec.exists()) and _has_one_volume(run.image)
    try:
        bvals = read_bvals(run.bval, run.image)
    except GradientError:
        return False
    # 0 and 1 would be a series in ms/um2.
    return bvals.size > 0 and bool((bvals <= settings.b0_max).all() and np.ptp(bvals) == 0)


def _has_one_volume(path: Path) -> bool:
    """Tell whether an image is a single volume; one that cannot be read is not."""
    try:
        return read_grid(path)[1] == 1
    except ImageError:
        return False


def _read_series_grid(path: Path) -> tuple[Grid, int]:
    """Read the geometry of an image that must be a series."""
    grid, n_volumes = read_grid(path)
    if n_volumes < 2:
        raise ImageError(
            f"A diffusion series must be 4D with a volume per gradient: {path} has "
            f"{n_volumes} volume. Convert it again, or leave it out with a filter."
        )
    return grid, n_volumes


def _check_inherited(run: DwiRun) -> None:
    """Make sure that it is clear which files of one folder apply to a run before others."""
    rivals = [
        (path, used)
        for used in (run.bval, run.bvec)
        for path in list_inherited(run.image, used.suffix)
    ]
    for one, two in (*rivals, *combinations(run.sidecars, 2)):
        first, second = (read_entities(path).items() for path in (one, two))
        if one.parent == two.parent and not (first <= second or second <= first):
            raise InputDataError(
                "Of two files of one folder that apply to a series, one must have all entities of "
                f"the other in its name: {one} and {two.name} both apply to {run.image.name}. "
                "Merge them, or rename one."
            )


def _check_geometry(path: Path, grid: Grid) -> None:
    """Make sure that a series has axial slices in which a cord can be seen."""
    x, y, z = grid.spacing_mm
    size = f"{path} has voxels of {x:.4g} x {y:.4g} x {z:.4g} mm (left, back, up)"
    if max(x, y) > SAGITTAL_RATIO * max(z, min(x, y)):
        raise ImageError(
            f"Slices must be axial: {size}, so its slices are "
            f"{'sagittal' if x > y else 'coronal'}. Leave it out with a filter."
        )
    in_plane = all(IN_PLANE_MM[0] <= n <= IN_PLANE_MM[1] for n in (x, y))
    if not in_plane or not SLICE_MM[0] <= z <= SLICE_MM[1]:
        raise ImageError(
            f"Voxels must resolve the cord, {IN_PLANE_MM[0]:g} to {IN_PLANE_MM[1]:g} mm in plane "
            f"and slices up to {SLICE_MM[1]:g} mm: {size}. Check the header and its unit."
        )
    field_mm = np.array([x, y]) * grid.shape[:2]
    if field_mm.min() < SMALLEST_FIELD_MM:
        raise ImageError(
            f"A slice must show the cord and what lies around it, {SMALLEST_FIELD_MM:g} mm or "
            f"more: {path} covers {field_mm[0]:.0f} x {field_mm[1]:.0f} mm. Leave it out with a "
            "filter."
        )
    if conflict := find_affine_conflict(path):
        _log.warning("In %s %s: the sform is used.", path, conflict)


def _check_voxels(run: DwiRun, grid: Grid, n_volumes: int, settings: GradientSettings) -> None:
    """Make sure that a series is finite, and that enough of its volumes hold signal."""
    path = run.image
    volumes = read_image(path).data.reshape(-1, n_volumes)
    broken = ~np.isfinite(volumes).all(axis=0)
    if broken.any():
        raise ImageError(
            f"Voxels must be finite numbers: {path} has some that are not in "
            f"{list_numbers(broken)}. Convert it again, or replace them."
        )
    empty = volumes.max(axis=0) <= 0
    if not empty.any():
        return
    try:
        gradients = read_gradients(run.bval, run.bvec, grid, n_volumes, path)
    except ScsnetError:
        return  # told already
    try:
        check_gradients(gradients.select(~empty), path, settings)
    except GradientError as error:
        raise ImageError(
            f"The volumes that hold signal must determine a tensor: {path} has none in "
            f"{list_numbers(empty)}, and those that are left do not. Convert the series again, or "
            "leave it out."
        ) from error
    _log.warning("In %s there is no signal in %s: they do not count.", path, list_numbers(empty))


def _check_directions(run: DwiRun, grid: Grid, n_volumes: int, settings: GradientSettings) -> None:
    """Read the gradients of a run and make sure that a tensor can be fitted."""
    gradients = read_gradients(run.bval, run.bvec, grid, n_volumes, run.image)
    check_gradients(gradients, run.image, settings)


def _faults(checks: Iterable[Callable[[], object]]) -> list[ScsnetError]:
    """Run all checks and collect what they raise."""
    faults = []
    for check in checks:
        try:
            check()
        except ScsnetError as error:
            faults.append(error)
    return faults


def _joined(faults: Sequence[ScsnetError]) -> ScsnetError:
    """Make one error of several."""
    return faults[0] if len(faults) == 1 else InputDataError(" ".join(map(str, faults)))
