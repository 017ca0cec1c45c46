"""The command ``scsnet-bids-slurm``: one array job per dataset, and the group job after it.

Everything of a submission lies in a folder of its own, ``OUTPUT_DIR/logs/slurm/<time>``: the
scripts, the list of tasks and the logs. What outlasts it lies above: exit codes by task, and
``failed.tsv``, which ``--only-failed`` reads.
"""

from __future__ import annotations

import argparse
import math
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from uuid import uuid4

from scsnet_bids.bids import Filters, check_dataset, find_runs, read_filters
from scsnet_bids.console import prepare_console
from scsnet_bids.dataset import check_output_folder, refuse_other_files
from scsnet_bids.errors import MissingToolError, ScsnetError, UsageError
from scsnet_bids.files import write_text
from scsnet_bids.options import Options, parse_options, refuse_absent_weights
from scsnet_bids.resources import parse_memory
from scsnet_bids.slurm_parser import make_slurm_parser
from scsnet_bids.slurm_scripts import (
    Place,
    Resources,
    write_group_script,
    write_participant_script,
    write_submission,
)
from scsnet_bids.tasks import (
    Task,
    choose_tasks,
    find_tasks,
    is_complete,
    keep_series,
    read_task_table,
    write_task_table,
)

GROUP_MB = 2048
GROUP_MB_PER_PARTICIPANT = 1
"""The group job needs 0.65 MB for each; see docs/cluster.md."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : words after the program's name; those of the process by default

    Returns
    -------
    int, exit code of ``errors.py``
    """
    prepare_console()
    words = list(sys.argv[1:] if arguments is None else arguments)
    own, app_words = _split(words)
    given = make_slurm_parser().parse_args(own)
    try:
        return _prepare(given, app_words, own)
    except ScsnetError as error:
        print(f"scsnet-bids-slurm: {error}", file=sys.stderr)
        return error.exit_code


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell own words from those of the app, which follow the first ``--``."""
    place = words.index("--") if "--" in words else len(words)
    return list(words[:place]), list(words[place + 1 :])


def _prepare(given: argparse.Namespace, app_words: list[str], own_words: Sequence[str]) -> int:
    """Write the scripts of a submission, say what they do, and submit them if asked to."""
    bids_dir, out_dir = (path.expanduser().resolve() for path in (given.bids_dir, given.output_dir))
    app = _check_app_words(bids_dir, out_dir, app_words)
    _check_values(app, given.image is not None)
    filters = _read_filters(app, given.image is not None)
    resources = _resources(given)
    place = _place(given, bids_dir, out_dir)
    check_dataset(bids_dir)
    check_output_folder(out_dir, bids_dir)
    refuse_other_files(out_dir, bids_dir)
    tasks, note = _choose_tasks(given, app, filters)
    if not tasks:
        print(f"Nothing to do: {note}. To process them with other options, give --again.")
        return 0
    chosen = [] if given.by == "session" else _session_words(given.session_label)
    n_tasks, at_a_time, again = len(tasks), given.at_a_time, _again(own_words, app_words)
    _write_all(
        place,
        {
            "tasks.tsv": write_task_table(tasks),
            "participant.sbatch": write_participant_script(
                place, resources, n_tasks, at_a_time, [*chosen, *app_words]
            ),
            "group.sbatch": write_group_script(
                place, _for_group(resources, bids_dir), again, _group_words(app)
            ),
            "submit.sh": write_submission(place.folder, n_tasks, at_a_time),
        },
    )
    print(f"{n_tasks} task{'s' if n_tasks > 1 else ''} to do, {note}.", flush=True)
    return _submit(place.folder / "submit.sh", given.submit)


def _check_app_words(bids_dir: Path, out_dir: Path, words: Sequence[str]) -> Options:
    """Let the app read its options now: each task would refuse wrong ones."""
    app = parse_options([str(bids_dir), str(out_dir), "participant", *words])
    neutral = parse_options([str(bids_dir), str(out_dir), "participant"])
    for name in ("participant_label", "session_label", "work_dir", "nprocs", "mem_gb", "levels"):
        if getattr(app, name) != getattr(neutral, name):
            raise UsageError(
                "Tasks and their limits are chosen before --, with the options of "
                f"scsnet-bids-slurm: {shlex.join(words)!r} changes {name} after it."
            )
    return app


def _read_filters(app: Options, in_image: bool) -> Filters | None:
    """Read the filter file; None if there is none, or one that only the image can read."""
    path = app.bids_filter_file
    return None if path is None or (in_image and not path.exists()) else read_filters(path)


def _check_values(app: Options, in_image: bool) -> None:
    """Refuse what the app would find out by itself, but in every task."""
    for name in ("dry_run", "reports_only", "boilerplate_only"):
        if getattr(app, name):
            raise UsageError(
                "Tasks must process their series: with "
                f"--{name.replace('_', '-')} after -- they do not. Leave it out."
            )
    own = app.settings.segmentation
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", own.device):
        raise UsageError(
            f"The device must be auto, cpu, cuda or cuda:N: found {own.device!r} after --."
        )
    if not in_image:  # which may hold other files than this machine
        refuse_absent_weights(own)


def _group_words(app: Options) -> list[str]:
    """Choose the words that speak to the group level."""
    marks = app.settings.regional.exclude_slices
    words = ["--controls", app.controls] if app.controls else []
    return [*words, *(["--exclude-slices", *marks] if marks else [])]


def _resources(given: argparse.Namespace) -> Resources:
    """Take what a task may use from the command line."""
    if not re.fullmatch(r"[\d:-]+", given.time):
        raise UsageError(f"--time must look like 00:30:00 or 1-12:00:00: found {given.time!r}.")
    named = {"--partition": given.partition, "--account": given.account}
    directives = [f"{name}={value}" for name, value in named.items() if value] + given.sbatch
    if any("\n" in word or not word.startswith("-") for word in directives):
        raise UsageError(
            "--sbatch must hold one option of sbatch, such as --sbatch=--qos=low: found "
            f"{given.sbatch}."
        )
    memory_mb = math.ceil(parse_memory(given.mem) * 1024)
    return Resources(memory_mb, given.cpus, given.time, tuple(directives))


def _for_group(resources: Resources, bids_dir: Path) -> Resources:
    """Choose what the group job may use; it gathers all participants, whatever the tasks are."""
    n_participants = sum(1 for _ in bids_dir.glob("sub-*"))
    memory_mb = GROUP_MB + n_participants * GROUP_MB_PER_PARTICIPANT
    return replace(resources, memory_mb=max(resources.memory_mb, memory_mb), cpus=1)


def _place(given: argparse.Namespace, bids_dir: Path, out_dir: Path) -> Place:
    """Say where the jobs find things, and refuse what an image could not be shown."""
    now = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}_{uuid4().hex[:4]}"
    image, work_dir = (path and path.resolve() for path in (given.image, given.work_dir))
    place = Place(
        bids_dir=bids_dir,
        output_dir=out_dir,
        folder=out_dir / "logs" / "slurm" / now,
        started_in=Path.cwd(),
        work_dir=work_dir,
        command=tuple(given.command or [_own_app()]),
        image=image,
        setup=tuple(given.setup),
    )
    if image and not image.exists():
        raise UsageError(f"--image must name an Apptainer image: there is no {image}.")
    for path in (bids_dir, out_dir, work_dir):
        if image and path and set(":,") & set(str(path)):
            raise UsageError(
                f"Apptainer cannot bind a folder with a colon or a comma in its name: {path}. "
                "Use a link without."
            )
    return place


def _own_app() -> str:
    """Find the app of this installation; the jobs may have another search path."""
    beside = Path(sys.executable).with_name("scsnet-bids")
    return str(beside) if beside.exists() else shutil.which("scsnet-bids") or "scsnet-bids"


def _choose_tasks(
    given: argparse.Namespace, app: Options, filters: Filters | None
) -> tuple[list[Task], str]:
    """List what is to be done, and say in words what is not."""
    labels = (given.participant_label, given.session_label)
    excluded = {f"sub-{label.removeprefix('sub-')}" for label in app.exclude_participant_label}
    if given.only_failed:
        failed = read_task_table(app.output_dir / "logs" / "slurm" / "failed.tsv")
        chosen = choose_tasks(failed, *labels)
        return [t for t in chosen if t.participant not in excluded], "those that failed before"
    found = find_tasks(app.bids_dir, given.by == "session", *labels)
    if filters is not None:
        found = keep_series(
            found, {run.prefix for run in find_runs(app.bids_dir, *labels, filters)}
        )
    wanted = {task: runs for task, runs in found.items() if task.participant not in excluded}
    if given.again:
        return list(wanted), "whether they are complete or not"
    unread = app.bids_filter_file is not None and filters is None
    tasks = [
        task for task, runs in wanted.items() if not is_complete(app.output_dir, task, runs, unread)
    ]
    return tasks, f"{len(wanted) - len(tasks)} of {len(wanted)} complete"


def _session_words(labels: Sequence[str]) -> list[str]:
    """Choose sessions for the app, where a task is a participant."""
    return ["--session-label", *labels] if labels else []


def _again(own_words: Sequence[str], app_words: Sequence[str]) -> str:
    """Write the command that submits once more what has failed."""
    dropped = {"--again", "--only-failed", "--submit"}
    words = [word for word in own_words if word not in dropped]
    rest = ["--", *app_words] if app_words else []
    return shlex.join(["scsnet-bids-slurm", *words, "--only-failed", "--submit", *rest])


def _write_all(place: Place, contents: dict[str, str]) -> None:
    """Write the files of a submission."""
    for name, text in contents.items():
        write_text(place.folder / name, text)
    (place.folder.parent / "codes").mkdir(exist_ok=True)


def _submit(script: Path, wanted: bool) -> int:
    """Submit a submission, or say how."""
    if not wanted:
        print(f"To submit them: bash {shlex.quote(str(script))}")
        return 0
    if shutil.which("sbatch") is None:
        raise MissingToolError(
            "--submit needs SLURM: there is no sbatch on the path. Run "
            f"'bash {shlex.quote(str(script))}' on a login node of the cluster."
        )
    return subprocess.run(["bash", str(script)], check=False).returncode
