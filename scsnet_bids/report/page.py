"""The page of a participant: one HTML file that needs nothing else.

It is made from the output folder alone, after all runs of the participant, and it also lists the
runs that were left out or failed.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from scsnet_bids import __version__
from scsnet_bids.errors import (
    BusyError,
    EmptySelectionError,
    ImageError,
    InputDataError,
    OutputError,
    ScsnetError,
)
from scsnet_bids.figures import SHOWN_AS
from scsnet_bids.files import write_text
from scsnet_bids.jobs import Job, group_runs
from scsnet_bids.locks import alone
from scsnet_bids.methods import describe_methods
from scsnet_bids.methods_text import MethodsText, write_citation
from scsnet_bids.regions import REGIONS, Tissue
from scsnet_bids.report.content import describe_run
from scsnet_bids.report.outcomes import (
    DONE,
    FAILED,
    LEFT_OUT,
    SKIPPED,
    UNFINISHED,
    Outcome,
    crash_text,
    list_participants,
    participant_of,
    read_outcomes,
)
from scsnet_bids.report.processed import conclude, find_done, read_jobs, read_works
from scsnet_bids.report.record import RunRecord
from scsnet_bids.report.verdict import MEANINGS, Verdict
from scsnet_bids.setting_values import settings_to_toml

_log = logging.getLogger(__name__)


def report_participants(
    out_dir: Path,
    errors: Mapping[str, ScsnetError | None],
    job: Job,
) -> dict[str, ScsnetError]:
    """Write the pages of all participants that were processed, and the text to cite.

    A page that cannot be made does not stop the others; its crash text lies in ``logs``. A series
    that another job is processing is left to that job.

    Parameters
    ----------
    out_dir : output folder
    errors : what each series ended with, None if it is done; by its name
    job : what all series were processed with

    Returns
    -------
    dict, the error of every page that could not be made, by each series of its participant that
    has no other

    Raises
    ------
    OutputError
        If the output folder cannot be written.
    """
    own = {run: error for run, error in errors.items() if not isinstance(error, BusyError)}
    conclude(out_dir, own, job)
    participants = list(dict.fromkeys(map(participant_of, own)))
    failures = _write_pages(out_dir, participants, job)
    return {
        run: failures[participant_of(run)]
        for run, error in own.items()
        if error is None and participant_of(run) in failures
    }


def rewrite_pages(out_dir: Path, labels: Sequence[str], job: Job) -> dict[str, ScsnetError | None]:
    """Write the pages and the text to cite again, from what lies in the output folder.

    A page that cannot be made does not stop the others, as of :func:`report_participants`.

    Parameters
    ----------
    out_dir : output folder
    labels : participants, with or without ``sub-``; empty takes all that have results
    job : what runs were processed with that do not say so themselves

    Returns
    -------
    dict, what the page of each participant ended with, None if it is written

    Raises
    ------
    EmptySelectionError
        If there are no results, or none of a participant.
    OutputError
        If the output folder cannot be written.
    """
    present = list_participants(out_dir)
    chosen = [f"sub-{label.removeprefix('sub-')}" for label in labels] or present
    missing = sorted(set(chosen) - set(present))
    if missing or not chosen:
        raise EmptySelectionError(
            f"Reports need results: {out_dir} has none{' of ' if missing else ''}"
            f"{', '.join(missing)}. Run the participant level first."
        )
    failures = _write_pages(out_dir, chosen, job)
    return {participant: failures.get(participant) for participant in chosen}


def _write_pages(out_dir: Path, participants: Sequence[str], job: Job) -> dict[str, ScsnetError]:
    """Write the text to cite and the pages; the error of each that cannot be made is returned."""
    records: list[RunRecord] = []
    failures: dict[str, ScsnetError] = {}
    for participant in participants:
        try:
            write_page(out_dir, participant, job)
            records += find_done(out_dir, participant)
        except OutputError:
            raise
        except Exception as error:  # whatever it is, the other pages must be written
            place = out_dir / "logs" / f"crash-report-{participant}.txt"
            write_text(place, f"Report of {participant}\n\n{traceback.format_exc()}")
            why = str(error) if isinstance(error, ScsnetError) else repr(error)
            failures[participant] = ScsnetError(
                "The page cannot be made from the tables and pictures in the output folder: "
                f"{why} (crash file: {place})"
            )
    # What stops a page, such as an image that cannot be read, would stop the text.
    if len(failures) < len(participants):
        write_citation(out_dir / "logs", _methods_of(records, job))
    return failures


def write_methods_of_all(out_dir: Path) -> bool:
    """Write the text to cite of all runs, if it is known how each was acquired and processed.

    Parameters
    ----------
    out_dir : output folder

    Returns
    -------
    bool, whether it was written; else that of a call before stays

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    participants = list_participants(out_dir)
    try:
        records = [record for name in participants for record in find_done(out_dir, name)]
        works = read_works(records)
    except ImageError:  # Tables are enough for the group; the images may be elsewhere.
        return False
    except (InputDataError, KeyError, TypeError, ValueError) as error:  # of a damaged table
        _log.warning("A table cannot be used for the methods text: %s", error)
        return False
    if not works or sum(len(runs) for _, runs in works) < len(records):
        return False
    write_citation(out_dir / "logs", describe_methods(works))
    return True


def write_page(out_dir: Path, participant: str, job: Job) -> Path:
    """Write the page of a participant from what lies in the output folder.

    Parameters
    ----------
    out_dir : output folder
    participant : such as ``sub-01``
    job : what runs were processed with that do not say so themselves

    Returns
    -------
    Path of the page

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    # The last of several jobs on one participant must see what the others have left.
    with alone(out_dir, participant):
        text = _describe_participant(out_dir, participant, job)
        return write_text(out_dir / f"{participant}.html", text)


def _describe_participant(out_dir: Path, participant: str, job: Job) -> str:
    """Make the page of a participant."""
    records = find_done(out_dir, participant)
    outcomes = read_outcomes(out_dir, participant)
    jobs = read_jobs(records, job)
    runs = [describe_run(r, jobs[r.name].settings.gradients.b0_max) for r in records]
    groups = group_runs(jobs) or [(job, [])]
    problems = [
        {
            "outcome": outcome,
            "crash": crash_text(out_dir, outcome),
            "old": RunRecord(out_dir, outcome.run).is_complete and outcome.is_old,
            "verdict": Verdict.PASS if outcome.status == SKIPPED else Verdict.FAIL,
        }
        for outcome in outcomes.values()
        if outcome.status != DONE
    ]
    judged = [run["verdict"] for run in runs] + [problem["verdict"] for problem in problems]
    return render_template(
        "report.html.j2",
        meanings=MEANINGS,
        metric_labels=[label for _, label in SHOWN_AS.values()],
        tissues=[str(tissue).replace("_", " ") for tissue in Tissue],
        participant=participant,
        runs=runs,
        problems=problems,
        verdict=max(judged, default=Verdict.FAIL),
        counts=_counts(records, outcomes),
        methods=_methods_of(records, job),
        settings=[
            (
                f"Settings of {', '.join(names)}" if len(groups) > 1 else "Settings",
                settings_to_toml(own.settings),
            )
            for own, names in groups
        ],
    )


def _methods_of(records: Sequence[RunRecord], job: Job) -> MethodsText:
    """Write the methods of some runs; of a job that has processed none if there are none."""
    return describe_methods(read_works(records, job) or [(job, {})])


def render_template(name: str, **content: Any) -> str:
    """Fill a template with content, and with the style and script that all pages share.

    Whatever markup the words of the content hold stays words.

    Parameters
    ----------
    name : of the template
    content : what it asks for besides

    Returns
    -------
    str, HTML document
    """
    return (
        _environment()
        .get_template(name)
        .render(
            content,
            css=Markup(_read("report.css")),
            js=Markup(_read("report.js")),
            regions=REGIONS,
            version=__version__,
        )
    )


def _counts(records: Sequence[RunRecord], outcomes: Mapping[str, Outcome]) -> str:
    """Say how many series were found and what became of them."""
    status = {record.name: DONE for record in records}
    status |= {run: outcome.status for run, outcome in outcomes.items()}
    each = Counter(status.values())
    kinds = (DONE, FAILED, LEFT_OUT, SKIPPED, UNFINISHED)
    words = [f"{each[kind]} {kind}" for kind in kinds if each[kind]]
    return f"{len(status)} diffusion series found: {', '.join(words) or 'none processed'}."


@cache
def _environment() -> Environment:
    """Set up the templates: every word is escaped, a missing one is an error."""
    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cited"] = _cited
    return environment


def _cited(text: str) -> Markup:
    """Lead the numbers of cited works to the list of references."""

    def linked(match: re.Match[str]) -> str:
        numbers = re.sub(r"(\d+)", r'<a href="#ref-\1">\1</a>', match[1])
        return f"[{numbers}]"

    return Markup(re.sub(r"\[([\d, ]+)\]", linked, str(escape(text))))


def _read(name: str) -> str:
    """Read a file of the package's texts."""
    return files("scsnet_bids.boilerplate").joinpath(name).read_text(encoding="utf-8")
