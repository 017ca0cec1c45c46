"""What a run of the app tells a person: the plan before, and the result after."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from scsnet_bids.errors import ScsnetError
from scsnet_bids.gradients import list_shells, read_gradients
from scsnet_bids.images import read_grid
from scsnet_bids.runs import DwiRun
from scsnet_bids.settings import GradientSettings


def describe_plan(
    good: Sequence[DwiRun], faulty: Mapping[DwiRun, ScsnetError], settings: GradientSettings
) -> str:
    """Say what will be processed, and what will not and why.

    Parameters
    ----------
    good : runs to process
    faulty : runs to leave out, with the reason
    settings : for the shells

    Returns
    -------
    str, one line per run
    """
    lines = [f"{len(good)} of {len(good) + len(faulty)} diffusion runs can be processed."]
    lines += [f"  {run.prefix}: {_describe_run(run, settings)}" for run in good]
    lines += [f"  {run.prefix}: LEFT OUT. {error}" for run, error in faulty.items()]
    return "\n".join(lines)


def describe_result(
    runs: Sequence[DwiRun], failures: Mapping[str, ScsnetError], out_dir: Path
) -> str:
    """Say what was done, what failed and why, and where the results lie.

    Parameters
    ----------
    runs : all runs that were chosen
    failures : error of every run that was left out or failed, by its name
    out_dir : output folder

    Returns
    -------
    str; its last line is the summary
    """
    n_done = len(runs) - len(failures)
    tables = out_dir / "sub-*/**/*_seg-SCSNet_scalarstats.tsv"
    done = f"{n_done} of {len(runs)} runs done."
    where = f" Region tables: {tables}" if n_done else ""
    if not failures:
        return f"Done: {done}{where}"
    why = [f"  {name}: {error}" for name, error in failures.items()]
    return "\n".join(["Failed runs:", *why, f"Failed: {', '.join(failures)}. {done}{where}"])


def exit_code(failures: Collection[ScsnetError]) -> int:
    """Choose the exit code: 0, that of bad input if nothing else failed, or 1.

    >>> from scsnet_bids.errors import InputDataError
    >>> exit_code([]), exit_code([InputDataError("")]), exit_code([ScsnetError("")])
    (0, 65, 1)
    """
    codes = {error.exit_code for error in failures}
    return (codes.pop() if len(codes) == 1 else 1) if codes else 0


def _describe_run(run: DwiRun, settings: GradientSettings) -> str:
    """Say in a line what a good run holds."""
    grid, n_volumes = read_grid(run.image)
    gradients = read_gradients(run.bval, run.bvec, grid, n_volumes, run.image)
    shells = ", ".join(str(shell) for shell in list_shells(gradients.bvals, settings.b0_max))
    x, y, z = grid.spacing_mm
    return f"{grid.shape[2]} slices, voxels {x:.2f} x {y:.2f} x {z:.2f} mm, {shells}"
