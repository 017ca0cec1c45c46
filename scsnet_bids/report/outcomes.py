"""What became of every series of a participant, kept beside the results.

A run's failure leaves no table behind, so it is written down in ``logs/sub-XX_runs.tsv``. A later
call that processes only some of the series replaces their lines and keeps the others.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from scsnet_bids.derivatives import read_words, write_table
from scsnet_bids.errors import InputDataError, ScsnetError, SkippedSeries, listed
from scsnet_bids.locks import alone

DONE, FAILED, LEFT_OUT, SKIPPED = "done", "failed", "left out", "skipped"
UNFINISHED = "unfinished"
COLUMNS = ("run", "status", "reason", "job", "results")
OLD = "old"
"""What the last column says of results that are not those of the job."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a series.

    Attributes
    ----------
    run : its name, such as ``sub-01_run-1``
    status : done, failed, left out (its files cannot be used), skipped (which is no fault) or
        unfinished
    reason : one sentence; empty if it is done
    job : name of the job that it was part of, or of one before that was alike
    is_old : whether results that lie in the folder are of a job before
    """

    run: str
    status: str
    reason: str = ""
    job: str = ""
    is_old: bool = False

    @classmethod
    def of(
        cls, run: str, error: ScsnetError | None, job: str = "", *, is_old: bool = False
    ) -> Outcome:
        """Make an outcome of the error that a series ended with, if any."""
        if error is None:
            return cls(run, DONE, job=job, is_old=is_old)
        kinds = {SkippedSeries: SKIPPED, InputDataError: LEFT_OUT}
        status = next((s for kind, s in kinds.items() if isinstance(error, kind)), FAILED)
        return cls(run, status, " ".join(str(error).split()), job, is_old)


def record_outcomes(out_dir: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Write down what became of some series, participant by participant.

    A file of an earlier call that cannot be used is replaced, with a warning.

    Parameters
    ----------
    out_dir : output folder
    outcomes : by name of the series

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    for participant in dict.fromkeys(participant_of(run) for run in outcomes):
        own = {run: o for run, o in outcomes.items() if participant_of(run) == participant}
        # Jobs of other sessions may end at the same moment.
        with alone(out_dir, participant):
            merged = known_outcomes(out_dir, participant, warn=True) | own
            rows = [
                (o.run, o.status, o.reason, o.job, OLD if o.is_old else "") for o in merged.values()
            ]
            write_table(_place(out_dir, participant), pd.DataFrame(rows, columns=list(COLUMNS)))


def read_outcomes(out_dir: Path, participant: str) -> dict[str, Outcome]:
    """Read what became of a participant's series; empty if nothing is written down.

    Parameters
    ----------
    out_dir : output folder
    participant : such as ``sub-01``

    Returns
    -------
    dict by name of the series

    Raises
    ------
    InputDataError
        If the file is there and cannot be used.
    """
    path = _place(out_dir, participant)
    if not path.exists() and not path.is_symlink():
        return {}
    table = read_words(path)
    if not {"run", "status"} <= set(table):
        raise InputDataError(
            "What became of every series must have the columns run and status: "
            f"{path} has {listed(table) or 'none'}. Remove it, and run the participant level again."
        )
    known = table.reindex(columns=list(COLUMNS), fill_value="").replace("n/a", "")
    rows = (map(str, row) for row in known.itertuples(index=False))
    return {
        run: Outcome(run, status, reason, job, results == OLD)
        for run, status, reason, job, results in rows
    }


def known_outcomes(out_dir: Path, participant: str, *, warn: bool = False) -> dict[str, Outcome]:
    """Read as :func:`read_outcomes`; empty also if the file cannot be used.

    Parameters
    ----------
    out_dir, participant : as of :func:`read_outcomes`
    warn : whether to say that it is replaced

    Returns
    -------
    dict by name of the series
    """
    try:
        return read_outcomes(out_dir, participant)
    except InputDataError as error:
        if warn:
            _log.warning("%s It is replaced now.", error)
        return {}


def participant_of(run: str) -> str:
    """Name the participant of a series.

    >>> participant_of("sub-01_ses-a_run-1")
    'sub-01'
    """
    return run.partition("_")[0]


def list_participants(out_dir: Path) -> list[str]:
    """Name the participants that have results, or of whom it is known why they have none.

    Parameters
    ----------
    out_dir : output folder

    Returns
    -------
    list of str, such as ``sub-01``
    """
    with_results = {path.name for path in out_dir.glob("sub-*") if path.is_dir()}
    pattern = _place(out_dir, "sub-*")
    recorded = {participant_of(path.name) for path in pattern.parent.glob(pattern.name)}
    return sorted(with_results | recorded)


def crash_text(out_dir: Path, outcome: Outcome) -> str:
    """Read the crash file that a reason names; empty if it names none that can be read.

    Parameters
    ----------
    out_dir : output folder; the file is looked for in its ``logs``
    outcome : of a series

    Returns
    -------
    str
    """
    named = re.search(r"(crash-[^/()]+\.txt)", outcome.reason)
    path = out_dir / "logs" / named[1] if named else None
    if path is None or not path.is_file():
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def _place(out_dir: Path, participant: str) -> Path:
    """Name the file of a participant."""
    return out_dir / "logs" / f"{participant}_runs.tsv"
