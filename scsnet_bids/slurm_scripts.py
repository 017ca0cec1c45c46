"""The scripts of a SLURM submission, as text: the array, the group job, and what submits both.

Each is a head of directives and values, every value quoted for the shell, and a body that never
changes (``boilerplate/slurm_*.sh``).

>>> _assign({"folder": "/a b", "words": ["--mem", "2G"]})
["folder='/a b'", 'words=(--mem 2G)']
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from scsnet_bids import __version__

MOST_TASKS = 1000
"""Jobs of one array; SLURM's own default limit is 1001, counted from 0."""

Values = Mapping[str, str | Sequence[str]]
"""Words, or lists of words, by name of the shell variable."""

_PLAIN_APP = """\
app() {
    exec "${command[@]}" "$bids_dir" "$output_dir" "$@" --work-dir "$work"
}"""
_IMAGE_APP = """\
app() {
    local runner
    if ! runner=$(command -v apptainer || command -v singularity); then
        echo "Neither apptainer nor singularity is on the path: add --setup 'module load ...'." >&2
        exit 127
    fi
    exec "$runner" run --cleanenv --bind "$bids_dir:/data:ro" --bind "$output_dir:/out" \\
        --bind "$work:/work" "$image" /data /out "$@" --work-dir /work
}"""


@dataclass(frozen=True)
class Resources:
    """What one job asks the scheduler for.

    Attributes
    ----------
    memory_mb, cpus, time : limits of one job, time as SLURM writes it
    directives : further options of ``sbatch``
    """

    memory_mb: int
    cpus: int
    time: str
    directives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a job finds things, and how it calls the app.

    Attributes
    ----------
    bids_dir, output_dir : absolute
    folder : of the submission, absolute
    started_in : where relative paths begin
    work_dir : shared folder for intermediate results; None takes the node's own disk
    command : words that start the app, where there is no image
    image : Apptainer image, or None
    setup : lines to run first, such as ``module load apptainer``
    """

    bids_dir: Path
    output_dir: Path
    folder: Path
    started_in: Path
    work_dir: Path | None
    command: tuple[str, ...]
    image: Path | None
    setup: tuple[str, ...]


def write_participant_script(
    place: Place,
    resources: Resources,
    n_tasks: int,
    at_a_time: int | None = None,
    app_words: Sequence[str] = (),
) -> str:
    """Write the script of the array.

    Parameters
    ----------
    place : where things are
    resources : of one task
    n_tasks : lines of the list of tasks
    at_a_time : tasks that may run at the same time; None sets no limit
    app_words : further options of the app

    Returns
    -------
    str, a bash script for ``sbatch``
    """
    array = f"--array=1-{min(n_tasks, MOST_TASKS)}{_at_a_time(at_a_time)}"
    limits = ["--nprocs", str(resources.cpus), "--mem", f"{resources.memory_mb}M"]
    values: Values = {"limits": limits, "app_words": app_words}
    return _write_job(place, resources, [array, "--output=%A_%a.txt"], values, "participant")


def write_group_script(
    place: Place, resources: Resources, again: str, app_words: Sequence[str] = ()
) -> str:
    """Write the script that gathers exit codes and runs the group level.

    Parameters
    ----------
    place : where things are
    resources : of the job
    again : command that submits once more what has failed
    app_words : further options of the app's group level

    Returns
    -------
    str, a bash script for ``sbatch``
    """
    values: Values = {"again": again, "app_words": app_words}
    return _write_job(place, resources, ["--output=group_%j.txt"], values, "group")


def write_submission(folder: Path, n_tasks: int, at_a_time: int | None = None) -> str:
    """Write the script that submits both jobs.

    Parameters
    ----------
    folder : of the submission
    n_tasks : lines of the list of tasks
    at_a_time : tasks that may run at the same time; None sets no limit

    Returns
    -------
    str, a bash script
    """
    values: Values = {
        "folder": str(folder),
        "n_tasks": str(n_tasks),
        "most_tasks": str(MOST_TASKS),
        "at_a_time": _at_a_time(at_a_time),
    }
    return "\n".join(["#!/bin/bash", *_assign(values), "", _read_body("submit")])


def _write_job(
    place: Place, resources: Resources, directives: Sequence[str], values: Values, kind: str
) -> str:
    """Put a script together."""
    asked = [
        "--job-name=scsnet-bids",
        f"--cpus-per-task={resources.cpus}",
        f"--mem={resources.memory_mb}M",
        f"--time={resources.time}",
        # The script itself is told a minute before its time ends.
        "--signal=B:TERM@60",
        *directives,
        *resources.directives,
    ]
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {word}" for word in asked),
        f"# Written by scsnet-bids-slurm {__version__}.",
        *_assign({**_describe_place(place), **values}),
        _IMAGE_APP if place.image else _PLAIN_APP,
        *place.setup,
        "",
        _read_body("job"),
        _read_body(kind),
    ]
    return "\n".join(lines)


def _describe_place(place: Place) -> dict[str, str | Sequence[str]]:
    """List the values that every job needs."""
    how: dict[str, str | Sequence[str]] = (
        {"image": str(place.image)} if place.image else {"command": place.command}
    )
    return how | {
        "bids_dir": str(place.bids_dir),
        "output_dir": str(place.output_dir),
        "folder": str(place.folder),
        "started_in": str(place.started_in),
        "work_dir": str(place.work_dir or ""),
    }


def _assign(values: Values) -> list[str]:
    """Write shell variables, one per line."""
    return [
        f"{name}={shlex.quote(value)}"
        if isinstance(value, str)
        else f"{name}=({shlex.join(value)})"
        for name, value in values.items()
    ]


def _at_a_time(number: int | None) -> str:
    """Write how many tasks of an array may run at the same time."""
    return f"%{number}" if number else ""


def _read_body(kind: str) -> str:
    """Read the part of a script that never changes."""
    return files("scsnet_bids.boilerplate").joinpath(f"slurm_{kind}.sh").read_text(encoding="utf-8")
