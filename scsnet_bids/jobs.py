"""What a job processed its runs with, kept in ``logs`` so that later reports tell the truth.

Runs of one output folder may come from many jobs: of other participants, on another day, with other
settings or another version. Every run's line in ``logs/sub-XX_runs.tsv`` names its job.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from scsnet_bids import __version__
from scsnet_bids.errors import UsageError
from scsnet_bids.files import read_json, read_text, write_text
from scsnet_bids.setting_values import settings_from_toml, settings_to_toml
from scsnet_bids.settings import Settings

NO_MATTER = frozenset(
    {
        ("derivatives", "folders"),
        ("motion", "flirt_matrices"),
        ("segmentation", "device"),
        ("segmentation", "weights"),
        ("segmentation", "dwi_weights"),
        ("regional", "levels"),
        ("regional", "exclude_slices"),
    }
)
"""Settings that may differ between runs that are compared: places of files, and what changes no
value. Weights are told apart by what is in them."""


@dataclass(frozen=True)
class Job:
    """What runs were processed with.

    Attributes
    ----------
    settings : of all of them
    weights : record of the network's weights, with ``version`` and ``sha256``; as ``dwi`` that of
        the network that sees the mean DWI as well, where there is one
    version : of this program
    """

    settings: Settings
    weights: Mapping[str, Any]
    version: str = __version__


def write_job(log_dir: Path, job: Job, command: str) -> str:
    """Write what a job is under a name that no other job uses.

    Parameters
    ----------
    log_dir : folder
    job : to write
    command : as it was given

    Returns
    -------
    str, the name

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    started = datetime.now(timezone.utc)
    name = f"scsnet-bids_{started:%Y%m%dT%H%M%S}_{uuid4().hex[:8]}"
    lines = [
        f"# scsnet-bids {job.version}, {started:%Y-%m-%d %H:%M:%S} UTC",
        f"# {command}",
        "# Settings of this run. To use them again: --config-file with this file.",
        "",
        settings_to_toml(job.settings),
    ]
    write_text(log_dir / f"{name}.toml", "\n".join(lines))
    record = {"Version": job.version, "Command": command, "Weights": job.weights}
    write_text(log_dir / f"{name}.json", json.dumps(record, indent=2) + "\n")
    return name


@lru_cache(maxsize=256)
def read_job(log_dir: Path, name: str) -> Job | None:
    """Read what a job was.

    Parameters
    ----------
    log_dir : folder
    name : as :func:`write_job` gave it; may be empty

    Returns
    -------
    Job; None if there is no such record, or none that this version can read
    """
    if not name:
        return None
    try:
        settings = settings_from_toml(read_text(log_dir / f"{name}.toml"))
        record = read_json(log_dir / f"{name}.json")
        return Job(settings, record["Weights"], str(record["Version"]))
    except (OSError, ValueError, KeyError, UsageError):
        return None


def group_runs(jobs: Mapping[str, Job]) -> list[tuple[Job, list[str]]]:
    """Put together the runs that were processed alike, in the order in which they come."""
    groups: list[tuple[Job, list[str]]] = []
    for run, job in jobs.items():
        alike = next((runs for other, runs in groups if other == job), None)
        if alike is None:
            groups.append((job, [run]))
        else:
            alike.append(run)
    return groups


def describe_differences(jobs: Mapping[str, Job | None]) -> list[str]:
    """Say in which respects runs were not processed alike.

    Parameters
    ----------
    jobs : of each run, by its name; None if nothing is known of it

    Returns
    -------
    list of str, empty if all were processed alike

    >>> one = Job(Settings(), {}, "1.0")
    >>> describe_differences({"sub-1": one, "sub-2": one})
    []
    >>> describe_differences({"sub-1": one, "sub-2": Job(Settings(), {}, "1.1"), "sub-3": one})
    ['version: 1.0 (2 runs), 1.1 (sub-2)']
    """
    known = {run: _facts(job) for run, job in jobs.items() if job is not None}
    lines = []
    for fact in next(iter(known.values()), {}):
        values: dict[str, list[str]] = {}
        for run, facts in known.items():
            values.setdefault(facts.get(fact, "none"), []).append(run)
        if len(values) > 1:
            each = ", ".join(f"{value} ({_count(runs)})" for value, runs in values.items())
            lines.append(f"{fact}: {each}")
    unknown = [run for run, job in jobs.items() if job is None]
    if known and unknown:
        lines.append(f"how they were processed is not known of {_count(unknown)}")
    return lines


def _facts(job: Job) -> dict[str, str]:
    """All that may make a difference, by name."""
    settings = {
        f"{stage}.{name}": str(value)
        for stage, values in asdict(job.settings).items()
        for name, value in values.items()
        if (stage, name) not in NO_MATTER
    }
    own = job.weights.get("dwi", job.weights)
    return {"version": job.version, **settings, "weights": str(own.get("sha256", ""))[:12]}


def _count(runs: Iterable[str]) -> str:
    """Name one run, or say how many there are."""
    names = list(runs)
    return names[0] if len(names) == 1 else f"{len(names)} runs"
