"""What a dataset gives a cluster to do: one task per participant or session, and which are done.

Only names are read, so that ten thousand participants are listed in seconds.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scsnet_bids.errors import EmptySelectionError, InputDataError, listed
from scsnet_bids.report.outcomes import DONE, SKIPPED, Outcome, read_outcomes
from scsnet_bids.report.record import RunRecord
from scsnet_bids.runs import ENTITIES, LABEL

NO_SESSION = "n/a"
"""Stands for the session of a task that takes all of a participant's."""

_VALUE = LABEL.pattern
_SERIES = re.compile(
    rf"(?P<run>sub-{_VALUE}(?:_(?:{'|'.join(ENTITIES)})-{_VALUE})*)_dwi\.nii(?:\.gz)?"
)
_NOT_MAGNITUDE = re.compile(r"_part-(?!mag_|mag$)")


@dataclass(frozen=True, order=True)
class Task:
    """What one job of an array processes.

    Attributes
    ----------
    participant : such as ``sub-01``
    session : such as ``ses-a``, or ``NO_SESSION`` for all there are
    """

    participant: str
    session: str = NO_SESSION

    @property
    def name(self) -> str:
        """What a reader calls the task, also the name of its files."""
        return "_".join(part for part in (self.participant, self.session) if part != NO_SESSION)


def find_tasks(
    bids_dir: Path,
    by_session: bool = False,
    participant_labels: Collection[str] = (),
    session_labels: Collection[str] = (),
) -> dict[Task, list[str]]:
    """List the tasks of a dataset.

    Parameters
    ----------
    bids_dir : BIDS dataset
    by_session : one task per session instead of one per participant
    participant_labels, session_labels : with or without prefix; empty takes all

    Returns
    -------
    dict of the names of the diffusion series by task, in the order of the names

    Raises
    ------
    EmptySelectionError
        If a chosen participant has no series that is chosen, or nobody has any.
    """
    wanted, sessions = _prefixed("sub", participant_labels), _prefixed("ses", session_labels)
    tasks: dict[Task, list[str]] = defaultdict(list)
    for path, run in _find_series(bids_dir, wanted):
        session = path.parts[1] if len(path.parts) == 4 else NO_SESSION
        if session in sessions or not sessions:
            tasks[Task(path.parts[0], session if by_session else NO_SESSION)].append(run)
    absent = wanted - {task.participant for task in tasks}
    if absent or not tasks:
        raise EmptySelectionError(
            "Every chosen participant needs a diffusion series, sub-*/[ses-*/]dwi/*_dwi.nii.gz, in "
            f"the chosen sessions: there is none of {', '.join(sorted(absent)) or 'anybody'} in "
            f"{bids_dir}. Correct the labels."
        )
    return {task: sorted(runs) for task, runs in sorted(tasks.items())}


def keep_series(
    tasks: Mapping[Task, Sequence[str]], chosen: Collection[str]
) -> dict[Task, list[str]]:
    """Keep some series only, and the tasks that have any of them: others would have nothing to do.

    >>> keep_series({Task("sub-1"): ["sub-1_run-1"], Task("sub-2"): ["sub-2"]}, {"sub-2"})
    {Task(participant='sub-2', session='n/a'): ['sub-2']}
    """
    kept = {task: [run for run in runs if run in chosen] for task, runs in tasks.items()}
    return {task: runs for task, runs in kept.items() if runs}


def is_complete(
    out_dir: Path, task: Task, runs: Sequence[str], recorded_only: bool = False
) -> bool:
    """Tell whether nothing is left to do for a task.

    A series is done if all of its tables are there and no later call has failed on it. Where that
    cannot be told, since the list of outcomes is damaged, it is not.

    Parameters
    ----------
    out_dir : output folder
    task : participant or session
    runs : names of its series
    recorded_only : judge by those that an earlier call has met, because a filter leaves some out,
        and which is not known

    Returns
    -------
    bool
    """
    if not (out_dir / task.participant).is_dir():
        return False
    try:
        outcomes = read_outcomes(out_dir, task.participant)
    except InputDataError:  # the task's own job replaces it
        return False
    judged = [run for run in runs if run in outcomes or not recorded_only]
    return bool(judged) and all(_is_done(out_dir, run, outcomes) for run in judged)


def read_task_table(path: Path) -> list[Task]:
    """Read tasks from a table whose first columns are participant and session.

    Parameters
    ----------
    path : written by :func:`write_task_table` or by the group job

    Returns
    -------
    list of Task

    Raises
    ------
    EmptySelectionError
        If there is no such table, or nothing in it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
    except OSError as error:
        raise EmptySelectionError(
            f"--only-failed needs the list that a group job leaves: {path} cannot be read "
            f"({error}). Let an array and its group job end first."
        ) from error
    if not lines:
        raise EmptySelectionError(f"Nothing has failed: {path} lists no task.")
    return [Task(*line.split("\t")[:2]) for line in lines]


def choose_tasks(
    tasks: Sequence[Task],
    participant_labels: Collection[str] = (),
    session_labels: Collection[str] = (),
) -> list[Task]:
    """Take the tasks of some participants and sessions.

    Parameters
    ----------
    tasks : to choose from; one of a whole participant is of every session
    participant_labels, session_labels : with or without prefix; empty takes all

    Returns
    -------
    list of Task

    Raises
    ------
    EmptySelectionError
        If they choose none.
    """
    participants, sessions = _prefixed("sub", participant_labels), _prefixed("ses", session_labels)
    chosen = [
        task
        for task in tasks
        if (task.participant in participants or not participants)
        and (task.session in {NO_SESSION, *sessions} or not sessions)
    ]
    if not chosen:
        raise EmptySelectionError(
            "The labels must choose a task that has failed: these have, "
            f"{listed(task.name for task in tasks)}. Correct the labels."
        )
    return chosen


def write_task_table(tasks: Iterable[Task]) -> str:
    r"""Write tasks as a table, one line per job of the array.

    >>> write_task_table([Task("sub-01"), Task("sub-02", "ses-a")]).splitlines()
    ['participant_id\tsession_id', 'sub-01\tn/a', 'sub-02\tses-a']
    """
    rows = [("participant_id", "session_id"), *((task.participant, task.session) for task in tasks)]
    return "".join("\t".join(row) + "\n" for row in rows)


def _find_series(bids_dir: Path, participants: Collection[str]) -> Iterator[tuple[Path, str]]:
    """Yield path below the dataset and name of every magnitude series."""
    for folder in bids_dir.glob("sub-*"):
        if participants and folder.name not in participants:
            continue
        for path in (*folder.glob("dwi/*_dwi.nii*"), *folder.glob("ses-*/dwi/*_dwi.nii*")):
            named = _SERIES.fullmatch(path.name)
            if named and not _NOT_MAGNITUDE.search(named["run"]):
                yield path.relative_to(bids_dir), named["run"]


def _prefixed(key: str, labels: Collection[str]) -> set[str]:
    """Write labels with their prefix."""
    return {f"{key}-{label.removeprefix(f'{key}-')}" for label in labels}


def _is_done(out_dir: Path, run: str, outcomes: Mapping[str, Outcome]) -> bool:
    """Tell whether a series needs no further work."""
    status = outcomes[run].status if run in outcomes else DONE
    return status == SKIPPED or (status == DONE and RunRecord(out_dir, run).is_complete)
