"""A diffusion run: one series with the files that belong to it, and what is wrong with it.

Every run is checked before any is processed, and every fault of it is told at once.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scsnet_bids.errors import ImageError, InputDataError, ScsnetError
from scsnet_bids.gradients import check_gradients, read_gradients
from scsnet_bids.images import Grid, read_grid, read_image
from scsnet_bids.settings import GradientSettings


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


def read_metadata(run: DwiRun) -> dict[str, Any]:
    """Merge the JSON sidecars of a run; the more specific file wins.

    Parameters
    ----------
    run : with any number of sidecars, also none

    Returns
    -------
    dict, empty if there is no sidecar

    Raises
    ------
    InputDataError
        If a sidecar is not a JSON object.
    """
    metadata: dict[str, Any] = {}
    for path in run.sidecars:
        try:
            metadata |= json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, TypeError) as error:
            raise InputDataError(
                f"A sidecar must be a JSON object: {path} is not ({error}). Correct or remove it."
            ) from error
    return metadata


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
        _check_packing(run.image)
        grid, n_volumes = _read_series_grid(run.image)
    except ImageError as error:
        return [error, *_faults(checks)]
    checks.append(partial(read_image, run.image))
    checks.append(partial(_check_directions, run, grid, n_volumes, settings))
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
    the good runs, and the error of each other run; several faults are told in one error
    """
    faults = {run: check_run(run, settings) for run in runs}
    good = [run for run, errors in faults.items() if not errors]
    return good, {run: _joined(errors) for run, errors in faults.items() if errors}


def _check_packing(path: Path) -> None:
    """Read a packed file up to its checksum, a megabyte at a time; nibabel stops before it."""
    if path.suffix != ".gz" or not path.exists():
        return
    try:
        with gzip.open(path) as packed:
            while packed.read(2**20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise ImageError(
            f"An image must be whole: {path} ends early or is damaged ({error}). Copy or convert "
            "it again."
        ) from error


def _read_series_grid(path: Path) -> tuple[Grid, int]:
    """Read the geometry of an image that must be a series."""
    grid, n_volumes = read_grid(path)
    if n_volumes < 2:
        raise ImageError(
            f"A diffusion series must be 4D with a volume per gradient: {path} has "
            f"{n_volumes} volume. Convert it again, or leave it out with a filter."
        )
    return grid, n_volumes


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
