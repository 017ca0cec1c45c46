"""A diffusion run: one series with the files that belong to it, and what is wrong with it.

Every run is checked before any is processed, and every fault of it is told at once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scsnet_bids.errors import (
    GradientError,
    ImageError,
    InputDataError,
    ScsnetError,
    SkippedSeries,
)
from scsnet_bids.files import read_json
from scsnet_bids.gradient_checks import check_gradients
from scsnet_bids.gradient_files import read_bvals
from scsnet_bids.gradients import list_numbers, read_gradients
from scsnet_bids.images import Grid, read_grid, read_image
from scsnet_bids.nifti import find_affine_conflict
from scsnet_bids.settings import GradientSettings

ENTITIES = {
    "sub": "subject",
    "ses": "session",
    "acq": "acquisition",
    "rec": "reconstruction",
    "dir": "direction",
    "run": "run",
    "part": "part",
    "chunk": "chunk",
}
"""Entities of a raw diffusion series in the order of the standard, with their long names."""
SMALLEST_FIELD_MM = 20.0
"""The network looks at the cord and what lies around it."""
IN_PLANE_MM = (0.1, 3.0)
SLICE_MM = (0.1, 20.0)
SAGITTAL_RATIO = 1.5
"""Slices are not axial if voxels are this much longer across the cord than along it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DwiRun:
    """One diffusion series and the files that belong to it.

    Attributes
    ----------
    image : NIfTI file
    bval, bvec : gradient files, inherited ones included; where there is none, the missing one
    sidecars : JSON files that apply, from the most general to the most specific; may be empty
    entities : (key, value) pairs of the file name, in the order of the standard
    """

    image: Path
    bval: Path
    bvec: Path
    sidecars: tuple[Path, ...]
    entities: tuple[tuple[str, str], ...]

    @property
    def participant(self) -> str:
        """Label without ``sub-``."""
        return dict(self.entities)["sub"]

    @property
    def session(self) -> str | None:
        """Label without ``ses-``; None where the dataset has no sessions."""
        return dict(self.entities).get("ses")

    @property
    def prefix(self) -> str:
        """How every name derived from the run begins, such as ``sub-01_run-01``."""
        return "_".join(f"{key}-{value}" for key, value in self.entities)

    @property
    def output_folder(self) -> Path:
        """Folder relative to the output, the same as in the source: ``sub-01/ses-pre/dwi``."""
        levels = [f"{key}-{value}" for key, value in self.entities if key in ("sub", "ses")]
        return Path(*levels, "dwi")


def read_entities(path: Path) -> dict[str, str]:
    """Read the entities of a file name as they are written; a word that is none has no value.

    >>> read_entities(Path("sub-01_dir-AP_moco_dwi.nii.gz"))
    {'sub': '01', 'dir': 'AP', 'moco': ''}
    """
    pairs = (part.partition("-") for part in path.name.split("_")[:-1])
    return {key: value for key, _, value in pairs}


def list_inherited(path: Path, *extensions: str) -> list[Path]:
    """List the files that apply to an image by the inheritance principle.

    Parameters
    ----------
    path : image inside a participant's folder
    *extensions : of the files, such as ``.json``

    Returns
    -------
    list of Path, the most general first
    """
    suffix, own = _suffix(path.name), read_entities(path).items()
    applying: list[Path] = []
    for folder in _folders_above(path):
        names = [n for n in os.listdir(folder) if n.endswith(extensions) and _suffix(n) == suffix]
        files = [file for file in map(folder.joinpath, names) if read_entities(file).items() <= own]
        applying += sorted(files, key=lambda file: (len(read_entities(file)), file.name))
    return applying


def _suffix(name: str) -> str:
    """Suffix of a file name: ``dwi`` of ``sub-01_dwi.nii.gz`` and of ``dwi.json``."""
    return name.split(".", maxsplit=1)[0].rpartition("_")[2]


def _folders_above(path: Path) -> Iterator[Path]:
    """Folders from that of the dataset down to that of an image."""
    parents = list(path.parents)
    levels = [n for n, folder in enumerate(parents) if folder.name.startswith("sub-")]
    yield from reversed(parents[: min(levels, default=0) + 2])


def leave_out(
    good: Sequence[DwiRun],
    left_out: Mapping[DwiRun, ScsnetError],
    check: Callable[[DwiRun], object],
) -> tuple[list[DwiRun], dict[DwiRun, ScsnetError]]:
    """Leave out the runs that a check refuses.

    Parameters
    ----------
    good, left_out : runs as :func:`check_runs` sorts them
    check : raises InputDataError for a run that cannot be processed

    Returns
    -------
    The same, with the runs that are refused among those left out
    """
    faulty: dict[DwiRun, ScsnetError] = {}
    for run in good:
        try:
            check(run)
        except InputDataError as error:
            faulty[run] = error
    return [run for run in good if run not in faulty], {**left_out, **faulty}


def read_metadata(run: DwiRun) -> dict[str, Any]:
    """Merge the JSON sidecars of a run; the more specific file wins.

    Parameters
    ----------
    run : with any number of sidecars, also none

    Returns
    -------
    dict without empty values (null, nan); empty if there is no sidecar

    Raises
    ------
    InputDataError
        If a sidecar is not a JSON object.
    """
    return merge_sidecars(run.sidecars)


def merge_sidecars(paths: Iterable[Path]) -> dict[str, Any]:
    """Merge JSON sidecars, the most general first; see :func:`read_metadata`."""
    metadata: dict[str, Any] = {}
    for path in paths:
        try:
            metadata |= read_json(path)
        except (OSError, ValueError) as error:
            raise InputDataError(
                f"A sidecar must be a JSON object: {path} is not ({error}). Correct or remove it."
            ) from error
    return {key: value for key, value in metadata.items() if value is not None}


class PhaseEncoding(NamedTuple):
    """How the phase was encoded.

    Attributes
    ----------
    axis : inner axis of the slice, 0 (left) or 1 (posterior)
    sign : 1 if it was encoded toward larger indices of that axis, -1 toward smaller ones, 0 if
        nobody says
    """

    axis: int
    sign: int


def phase_encoding(metadata: Mapping[str, Any], grid: Grid) -> PhaseEncoding:
    """Tell along which inner axis the phase was encoded, and which way round.

    Parameters
    ----------
    metadata : ``PhaseEncodingDirection`` names an axis of the file, ``-`` reverses it; of
        ``PhaseEncodingAxis``, which some converters write instead, the sign is not known
    grid : of the series

    Returns
    -------
    PhaseEncoding, along the posterior axis where no axis of the slices is given
    """
    direction = str(metadata.get("PhaseEncodingDirection", ""))
    named = direction or str(metadata.get("PhaseEncodingAxis", ""))
    file_axis = "ijk".find(named[:1]) if named else -1
    for inner_axis, (stored_axis, stored_sign) in enumerate(grid.storage[:2]):
        if stored_axis == file_axis:
            reversed_sign = -1 if direction.endswith("-") else 1
            return PhaseEncoding(inner_axis, int(stored_sign) * reversed_sign * bool(direction))
    return PhaseEncoding(1, 0)


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
    checks: list[Callable[[], object]] = [partial(read_metadata, run)]
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
            left_out[run] = SkippedSeries(
                "Every volume has b=0, so there is nothing to fit. Such a series serves to correct "
                "the distortion of one whose phase is encoded the other way round."
            )
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
