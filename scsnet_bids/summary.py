"""What a run of the app tells a person: the plan before, and the result after."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from scsnet_bids.errors import ScsnetError, SkippedSeries
from scsnet_bids.fieldmaps import DistortionPlan, plan_distortion, read_series_metadata
from scsnet_bids.gradient_checks import count_directions
from scsnet_bids.gradients import (
    Shell,
    list_shells,
    read_gradients,
    weighted_volumes,
)
from scsnet_bids.images import read_grid
from scsnet_bids.level_files import describe_levels
from scsnet_bids.prior_results import describe_prior, find_taken, level_source, settings_of_run
from scsnet_bids.runs import DwiRun
from scsnet_bids.settings import Settings

WIDTH = 96
"""Columns of a terminal that a message fills at most."""
PHASE_ENCODINGS = ("i", "i-", "j", "j-", "k", "k-")
MOST_SHELLS = 4


def describe_plan(
    good: Sequence[DwiRun], left_out: Mapping[DwiRun, ScsnetError], settings: Settings
) -> str:
    """Say what will be processed and how it was acquired, and what will not and why.

    Parameters
    ----------
    good : runs to process
    left_out : the others, with the reason
    settings : which volumes count as what, and where levels come from

    Returns
    -------
    str, a table and the reasons
    """
    skipped = {run: why for run, why in left_out.items() if isinstance(why, SkippedSeries)}
    faulty = {run: why for run, why in left_out.items() if run not in skipped}
    lines = [f"{len(good)} of {len(good) + len(faulty)} diffusion series can be processed."]
    plans = {run: plan_distortion(run, settings_of_run(run, settings)) for run in good}
    rows = [_describe_run(run, plan, settings) for run, plan in plans.items()]
    lines += _table(rows) if rows else []
    unused = {
        run: plan.reason
        for run, plan in plans.items()
        if plan.found and not plan.pair and "series" not in find_taken(run, settings)
    }
    lines += ["Fieldmaps that are not used:"] * bool(unused) + _reasons(unused)
    lines += describe_prior(good, settings)
    lines += ["Left out, because they cannot be used:"] * bool(faulty) + _reasons(faulty)
    lines += ["Skipped, which is no fault:"] * bool(skipped) + _reasons(skipped)
    return "\n".join(lines)


def describe_result(
    runs: Sequence[DwiRun], failures: Mapping[str, ScsnetError], out_dir: Path
) -> str:
    """Say what was done, what failed and why, and where the results lie.

    Parameters
    ----------
    runs : all runs that were to be processed
    failures : error of every run that was left out or failed, by its name
    out_dir : output folder

    Returns
    -------
    str; its last line is the summary
    """
    n_done = len(runs) - len(failures)
    tables = out_dir / "sub-*/**/*_seg-SCSNet_scalarstats.tsv"
    where = f" Pages: {out_dir / 'sub-*.html'}. Region tables: {tables}" if n_done else ""
    return _conclude("runs", f"{n_done} of {len(runs)} runs done.{where}", failures)


def describe_pages(n_pages: int, failures: Mapping[str, ScsnetError], out_dir: Path) -> str:
    """Say which pages were written again, and where they lie.

    Parameters
    ----------
    n_pages : how many were to be written
    failures : error of every page that could not be, by its participant
    out_dir : output folder

    Returns
    -------
    str; its last line is the summary
    """
    written = f"{n_pages - len(failures)} of {n_pages} pages written: {out_dir / 'sub-*.html'}"
    return _conclude("pages", written, failures)


def _conclude(what: str, done: str, failures: Mapping[str, ScsnetError]) -> str:
    """Say what was done after what was not."""
    if not failures:
        return f"Done: {done}"
    why = [f"  {name}: {error}" for name, error in failures.items()]
    return "\n".join([f"Failed {what}:", *why, f"Failed: {', '.join(failures)}. {done}"])


def exit_code(failures: Collection[ScsnetError]) -> int:
    """Choose the exit code: 0, that of bad input if nothing else failed, or 1.

    >>> from scsnet_bids.errors import InputDataError
    >>> exit_code([]), exit_code([InputDataError("")]), exit_code([ScsnetError("")])
    (0, 65, 1)
    """
    codes = {error.exit_code for error in failures}
    return (codes.pop() if len(codes) == 1 else 1) if codes else 0


def _describe_run(run: DwiRun, plan: DistortionPlan, settings: Settings) -> dict[str, str]:
    """Say how a good run was acquired, by column."""
    grid, n_volumes = read_grid(run.image)
    gradients = read_gradients(run.bval, run.bvec, grid, n_volumes, run.image)
    b0_max = settings.gradients.b0_max
    weighted = weighted_volumes(gradients.bvals, settings.gradients)
    other = [f"{key}-{value}" for key, value in run.entities if key not in ("sub", "ses")]
    return {
        "sub": run.participant,
        "ses": run.session or "-",
        "series": "_".join(other) or "-",
        "volumes": _describe_shells(list_shells(gradients.bvals, b0_max)),
        "dirs": str(count_directions(gradients.bvecs[weighted])),
        "voxels (mm)": "x".join(f"{size:.3g}" for size in grid.spacing_mm),
        "slices": str(grid.shape[2]),
        "phase": _phase_encoding(run, settings),
        "levels": describe_levels(run, level_source(run, settings)),
        "fieldmap": "used" if plan.pair else "not used" if plan.found else "-",
    }


def _phase_encoding(run: DwiRun, settings: Settings) -> str:
    """Say along which axis of the file a run is phase-encoded, by the user or its sidecar."""
    found = read_series_metadata(run, settings.distortion).get("PhaseEncodingDirection")
    return str(found) if found in PHASE_ENCODINGS else "n/a"


def _describe_shells(shells: Sequence[Shell]) -> str:
    """List volumes per b-value, the first few of them.

    >>> _describe_shells([Shell(0, 5), Shell(800, 30)])
    '5 b0, 30 b800'
    """
    words = [f"{shell.n_volumes} b{shell.b_value}" for shell in shells]
    return ", ".join(words[:MOST_SHELLS] + ["..."] * (len(words) > MOST_SHELLS))


def _table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Set rows in columns; a column in which no row says anything is left out."""
    names = [name for name in rows[0] if name == "fieldmap" or {row[name] for row in rows} != {"-"}]
    grid = [names, *([row[name] for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    return [
        "  " + "  ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True)).rstrip()
        for cells in grid
    ]


def _reasons(left_out: Mapping[DwiRun, ScsnetError] | Mapping[DwiRun, str]) -> list[str]:
    """Write why each run is left out, broken into lines between words."""
    return [
        textwrap.fill(
            f"  {run.prefix}: {error}",
            WIDTH,
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for run, error in left_out.items()
    ]
