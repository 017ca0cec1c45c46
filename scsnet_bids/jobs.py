"""What a job processed its runs with, kept in ``logs`` so that later reports tell the truth.

Runs of one output folder may come from many jobs: of other participants, on another day, with other
settings or another version. Every run's line in ``logs/sub-XX_runs.tsv`` names its job.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from scsnet_bids import __version__
from scsnet_bids.errors import UsageError
from scsnet_bids.files import read_json, read_text, write_text
from scsnet_bids.setting_values import settings_from_toml, settings_to_toml
from scsnet_bids.settings import B0, Settings, list_settings

LIBRARIES = ("nipype", "dipy")
"""Those whose versions a methods text names."""
NO_MATTER = frozenset(
    {
        ("motion", "flirt_matrices"),
        ("segmentation", "device"),
        ("segmentation", "weights"),
        ("segmentation", "dwi_weights"),
    }
)
"""Settings that change no value. Weights are told apart by what is in them."""


def _installed() -> dict[str, str]:
    """Versions of the libraries as they are here."""
    return {name: version(name) for name in LIBRARIES}


def _new_name() -> str:
    """Name a job that begins now."""
    return f"scsnet-bids_{datetime.now(timezone.utc):%Y%m%dT%H%M%S}_{uuid4().hex[:8]}"


@dataclass(frozen=True)
class Job:
    """What runs were processed with. Two that differ in nothing but the name are equal.

    Attributes
    ----------
    settings : of all of them
    weights : ``version`` and ``sha256`` of the network's weights; as ``dwi`` those of the network
        that sees the mean DWI as well, where there is one
    version : of this program
    libraries : versions of ``LIBRARIES``
    name : of its files; no other job has it
    """

    settings: Settings
    weights: Mapping[str, Any]
    version: str = __version__
    libraries: Mapping[str, str] = field(default_factory=_installed)
    name: str = field(default_factory=_new_name, compare=False)


def write_job(log_dir: Path, job: Job, command: str) -> None:
    """Write what a job is.

    Parameters
    ----------
    log_dir : folder
    job : to write
    command : as it was given

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    lines = [
        f"# scsnet-bids {job.version}, {datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC",
        f"# {command}",
        "# Settings of this run. To use them again: --config-file with this file.",
        "",
        settings_to_toml(job.settings),
    ]
    write_text(log_dir / f"{job.name}.toml", "\n".join(lines))
    record = {
        "Version": job.version,
        "Command": command,
        "Weights": job.weights,
        "Libraries": job.libraries,
    }
    write_text(_record_path(log_dir, job.name), json.dumps(record, indent=2) + "\n")


@lru_cache(maxsize=256)
def read_job(log_dir: Path, name: str) -> Job | None:
    """Read what a job was.

    Parameters
    ----------
    log_dir : folder
    name : of the job; may be empty

    Returns
    -------
    Job; None if there is no such record, or none that this version can read
    """
    if not name:
        return None
    try:
        settings = settings_from_toml(read_text(log_dir / f"{name}.toml"))
        record = read_json(_record_path(log_dir, name))
        weights, libraries = record["Weights"], record["Libraries"]
        # A record of another version may be made otherwise.
        second = "dwi" in weights or settings.segmentation.input != B0
        named = [weights["sha256"], *([weights["dwi"]["sha256"]] if second else [])]
        named += [record["Version"], *(libraries[library] for library in LIBRARIES)]
    except (OSError, ValueError, LookupError, TypeError, UsageError):
        return None
    if not all(isinstance(word, str) for word in named):
        return None
    return Job(settings, weights, record["Version"], libraries, name)


def began(log_dir: Path, name: str) -> float:
    """Tell when a job began, by the clock of the disk; infinity if there is no record of it."""
    try:
        return _record_path(log_dir, name).stat().st_mtime
    except OSError:
        return float("inf")


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
            values.setdefault(facts[fact], []).append(run)
        if len(values) > 1:
            each = ", ".join(f"{value} ({_count(runs)})" for value, runs in values.items())
            lines.append(f"{fact}: {each}")
    unknown = [run for run, job in jobs.items() if job is None]
    if known and unknown:
        lines.append(f"how they were processed is not known of {_count(unknown)}")
    return lines


def _facts(job: Job) -> dict[str, str]:
    """All that may make a difference, by name."""
    facts = {"version": job.version, **job.libraries}
    for known in list_settings():
        place = known.stage, known.name
        value = getattr(getattr(job.settings, known.stage), known.name)
        # Runs differ if one was given files and another was not, wherever these lie.
        told = ("given" if value else "not given") if known.is_path else str(value)
        if place not in NO_MATTER:
            facts[".".join(place)] = told
    for sees, record in (("weights", job.weights), ("second weights", job.weights.get("dwi", {}))):
        facts[sees] = str(record.get("sha256", "none"))[:12]
    return facts


def _count(runs: Iterable[str]) -> str:
    """Name one run, or say how many there are."""
    names = list(runs)
    return names[0] if len(names) == 1 else f"{len(names)} runs"


def _record_path(log_dir: Path, name: str) -> Path:
    """Name the file that holds what of a job is no setting."""
    return log_dir / f"{name}.json"
