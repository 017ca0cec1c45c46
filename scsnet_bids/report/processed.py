"""Which runs have results, and what these were processed with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from scsnet_bids.errors import ScsnetError
from scsnet_bids.jobs import Job, began, group_runs, read_job
from scsnet_bids.protocol import Protocol
from scsnet_bids.report.outcomes import (
    FAILED,
    UNFINISHED,
    Outcome,
    known_outcomes,
    participant_of,
    read_outcomes,
    record_outcomes,
)
from scsnet_bids.report.record import RunRecord, find_records

Works = list[tuple[Job, dict[str, Protocol]]]
"""Each job, with the protocols of its runs by their names."""


def find_done(out_dir: Path, participant: str) -> list[RunRecord]:
    """Find the runs of a participant that have results, and have not failed since.

    Parameters
    ----------
    out_dir : output folder
    participant : such as ``sub-01``

    Returns
    -------
    list of RunRecord, in the order of their names
    """
    old = {run for run, outcome in read_outcomes(out_dir, participant).items() if outcome.is_old}
    return [record for record in find_records(out_dir, participant) if record.name not in old]


def begin(out_dir: Path, runs: Sequence[str], job: Job) -> None:
    """Write down that runs are being processed: what lies in the folder is not of this job yet.

    Parameters
    ----------
    out_dir : output folder
    runs : their names
    job : what they are processed with

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    reason = "a job on it was interrupted, or has not ended"
    outcomes = {
        run: Outcome(run, UNFINISHED, reason, _name_alike(out_dir, run, job), is_old=True)
        for run in runs
    }
    record_outcomes(out_dir, outcomes)


def conclude(out_dir: Path, errors: Mapping[str, ScsnetError | None], job: Job) -> None:
    """Write down what became of runs at the end of a job.

    Parameters
    ----------
    out_dir : output folder
    errors : what each run ended with, None if it is done; by its name
    job : what they were processed with

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    outcomes = {}
    for run, error in errors.items():
        is_old = error is not None and not _is_new(RunRecord(out_dir, run), job)
        outcome = Outcome.of(run, error, job.name, is_old=is_old)
        if outcome.status != FAILED:
            outcome = replace(outcome, job=_name_alike(out_dir, run, job))
        outcomes[run] = outcome
    record_outcomes(out_dir, outcomes)


def read_jobs(records: Sequence[RunRecord], job: Job | None = None) -> dict[str, Job]:
    """Read what some runs were processed with.

    Parameters
    ----------
    records : of the runs
    job : of those that do not say so; None leaves them out

    Returns
    -------
    dict of Job by the names of the runs
    """
    found = {}
    for record in records:
        outcome = read_outcomes(record.out_dir, participant_of(record.name)).get(record.name)
        own = read_job(record.out_dir / "logs", outcome.job) if outcome else None
        if known := own or job:
            found[record.name] = known
    return found


def read_works(records: Sequence[RunRecord], job: Job | None = None) -> Works:
    """Read how some runs were acquired, by what they were processed with.

    Parameters
    ----------
    records, job : as of :func:`read_jobs`

    Returns
    -------
    list of each Job with the protocols of its runs by their names

    Raises
    ------
    InputDataError
        If an image or table that tells how a run was acquired or processed cannot be read.
    """
    by_name = {record.name: record for record in records}
    return [
        (own, {run: by_name[run].protocol(own.settings.gradients.b0_max) for run in runs})
        for own, runs in group_runs(read_jobs(records, job))
    ]


def _name_alike(out_dir: Path, run: str, job: Job) -> str:
    """Name the job before, if that was alike, so that repeating a job changes nothing."""
    before = known_outcomes(out_dir, participant_of(run)).get(run)
    alike = before is not None and read_job(out_dir / "logs", before.job) == job
    return before.job if before is not None and alike else job.name


def _is_new(record: RunRecord, job: Job) -> bool:
    """Tell whether a run's tables were written since a job began."""
    written = record.table_path("quality")
    return written.is_file() and written.stat().st_mtime >= began(record.out_dir / "logs", job.name)
