"""Which runs have results, and what these were processed with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scsnet_bids.errors import ScsnetError
from scsnet_bids.jobs import Job, group_runs, read_job
from scsnet_bids.protocol import Protocol
from scsnet_bids.report.outcomes import OLD, Outcome, participant_of, read_outcomes
from scsnet_bids.report.record import RunRecord, find_records


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
    outcomes = read_outcomes(out_dir, participant)
    old = {run for run, outcome in outcomes.items() if outcome.results == OLD}
    return [record for record in find_records(out_dir, participant) if record.name not in old]


def conclude(out_dir: Path, run: str, error: ScsnetError | None, job: Job, name: str) -> Outcome:
    """Say what became of a run at the end of a job.

    Parameters
    ----------
    out_dir : output folder
    run : its name
    error : that it ended with; None if it is done
    job : what it was processed with
    name : of the job

    Returns
    -------
    Outcome; its job is the one before, if that was alike, so that repeating changes nothing
    """
    before = read_outcomes(out_dir, participant_of(run)).get(run)
    alike = before is not None and read_job(out_dir / "logs", before.job) == job
    has_results = _is_new(RunRecord(out_dir, run), name)
    own = before.job if before is not None and alike else name
    return Outcome.of(run, error, own, has_results=has_results)


def read_jobs(records: Sequence[RunRecord], job: Job | None) -> dict[str, Job]:
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


def read_works(
    records: Sequence[RunRecord], job: Job | None
) -> list[tuple[Job, dict[str, Protocol]]]:
    """Read how some runs were acquired, by what they were processed with.

    Parameters
    ----------
    records, job : as of :func:`read_jobs`

    Returns
    -------
    list of each Job with the protocols of its runs by their names; without runs, ``job`` alone
    """
    by_name = {record.name: record for record in records}
    works = [
        (own, {run: by_name[run].protocol(own.settings.gradients.b0_max) for run in runs})
        for own, runs in group_runs(read_jobs(records, job))
    ]
    return works or ([] if job is None else [(job, {})])


def _is_new(record: RunRecord, job: str) -> bool:
    """Tell whether a run's tables were written since a job began."""
    began, written = record.out_dir / "logs" / f"{job}.toml", record.table_path("quality")
    try:
        return written.stat().st_mtime >= began.stat().st_mtime
    except OSError:
        return False
