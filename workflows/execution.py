"""Run a graph: by a guarded plugin, with a progress display, to the list of what failed."""

from __future__ import annotations

import gc
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe
from nipype.pipeline.plugins.linear import LinearPlugin
from scsnet_bids.workflows.multiproc_plugin import GuardedMultiProcPlugin, quieten_nipype
from scsnet_bids.workflows.slurm_plugin import GuardedSlurmPlugin

from scsnet_bids.errors import ScsnetError
from scsnet_bids.interruption import heed_interruption
from scsnet_bids.plugin_files import LINEAR, SLURM, PluginChoice

STOPPED = "not finished, because another run failed first (--stop-on-first-crash)"
PARENT_GB = 0.5
"""What this process itself needs beside its workers; measured 0.4."""


@dataclass(frozen=True)
class Limits:
    """How much of the machine a graph may use, and how it ends and speaks.

    Attributes
    ----------
    n_processors : in all; with as many ``threads`` or fewer, the steps run in this process
    threads : of one step
    memory_gb : in all, for steps that run at the same time
    stop_on_first_crash : start no other step once one has failed
    verbosity : 0 for the progress display alone, 1 and 2 for what Nipype says
    plugin : how the steps are run
    """

    n_processors: int = 1
    threads: int = 1
    memory_gb: float = math.inf
    stop_on_first_crash: bool = False
    verbosity: int = 0
    plugin: PluginChoice = field(default_factory=PluginChoice)


@dataclass
class Progress:
    """Print one line per finished step and remember which runs failed, and where.

    Attributes
    ----------
    names : what a reader calls the run, by the name of its graph
    n_steps : number of steps by run
    failed_nodes : full name of the node that failed first, by run
    n_done : steps that have ended, by run
    """

    names: Mapping[str, str]
    n_steps: Counter[str]
    failed_nodes: dict[str, str] = field(default_factory=dict)
    n_done: Counter[str] = field(default_factory=Counter)
    _started: dict[str, float] = field(default_factory=dict)
    _reused: set[str] = field(default_factory=set)

    def __call__(self, node: pe.Node, status: str) -> None:
        """Take a status report of Nipype: ``start``, ``end`` or ``exception``."""
        heed_interruption()
        place = node.fullname
        run = _run_of(place, self.names)
        if status == "start":
            self._started[place] = time.monotonic()
            if _is_reusable(node):
                self._reused.add(place)
            return
        # A plugin also reports the end of the steps it skipped because an earlier one failed, and
        # of one that is interrupted.
        if place not in self._started or isinstance(sys.exc_info()[1], KeyboardInterrupt):
            return
        self.n_done[run] += 1
        if status == "exception":
            self.failed_nodes.setdefault(run, place)
        outcome = "FAILED" if status == "exception" else self._duration(place)
        step, total = node.name.replace("_", " "), self.n_steps.total()
        count = f"{self.n_done.total():{len(str(total))}d}/{total}"
        print(f"[{count}] {run}  {step:<20} {outcome}", flush=True)

    def unfinished(self) -> list[str]:
        """List runs that have neither failed nor done all of their steps."""
        return [
            run
            for run, n_steps in self.n_steps.items()
            if run not in self.failed_nodes and self.n_done[run] < n_steps
        ]

    def _duration(self, place: str) -> str:
        """Write how long a step took."""
        if place in self._reused:
            return "reused"
        return f"{time.monotonic() - self._started[place]:6.1f} s"


def process_runs(
    graph: pe.Workflow,
    names: Mapping[str, str],
    needs_gb: Mapping[str, float],
    work_dir: Path,
    log_dir: Path,
    limits: Limits,
) -> dict[str, ScsnetError]:
    """Run a checked graph to its end; a failing run does not stop the others.

    Parameters
    ----------
    graph : one subgraph per run
    names : what a reader calls the run, by the name of its subgraph
    needs_gb : memory that a step of the run may need, by the name of the run
    work_dir : intermediate results, which a repeated call reuses
    log_dir : crash files
    limits : how much of the machine to use, and when to stop

    Returns
    -------
    dict, the error of every run that failed
    """
    _configure(graph, work_dir, log_dir, limits)
    steps = list(_steps(graph, names))
    for run, node in steps:
        node.n_procs = limits.threads
        # Nipype has no public way to set this once a node is made.
        node._mem_gb = needs_gb[run]
    progress = Progress(names, Counter(run for run, _ in steps))
    started = time.time()
    # Nipype collects garbage whenever it looks for work: let it pass over what is here already.
    gc.freeze()
    try:
        graph.run(plugin=_make_plugin(limits, progress))
    except Exception:
        # Nipype ends by raising the first failure again; each has been reported to `progress`.
        if not progress.failed_nodes:
            raise
    finally:
        gc.unfreeze()
    crashes = _crash_files(log_dir, started)
    failed = {run: _describe_crash(node, crashes) for run, node in progress.failed_nodes.items()}
    return failed | {run: ScsnetError(STOPPED) for run in progress.unfinished()}


def _crash_files(log_dir: Path, started: float) -> list[Path]:
    """List the crash files since a time; those that a full disk has left empty are removed."""
    recent = [path for path in log_dir.glob("crash-*.txt") if path.stat().st_mtime >= started - 1]
    for path in recent:
        if path.stat().st_size == 0:
            path.unlink()
    return [path for path in recent if path.exists()]


def _run_of(place: str, names: Mapping[str, str]) -> str:
    """Find the run that a node belongs to, by the node's full name."""
    return next(names[part] for part in place.split(".") if part in names)


def _steps(graph: pe.Workflow, names: Mapping[str, str]) -> Iterator[tuple[str, pe.Node]]:
    """List the nodes that do something, each with its run."""
    for place in graph.list_node_names():
        node = graph.get_node(place)
        if not isinstance(node.interface, IdentityInterface):
            yield _run_of(place, names), node


def _is_reusable(node: pe.Node) -> bool:
    """Tell whether the work folder holds what a node would compute."""
    if node.interface.always_run:
        return False
    present, current = node.is_cached()
    return bool(present and current)


def _make_plugin(
    limits: Limits, progress: Progress
) -> LinearPlugin | GuardedMultiProcPlugin | GuardedSlurmPlugin:
    """Choose how to run: in this process, in guarded workers, or in jobs of their own."""
    arguments: dict[str, Any] = {
        "status_callback": progress,
        "n_procs": limits.n_processors,
        "verbosity": limits.verbosity,
        # A step that needs more than there is runs alone.
        "memory_gb": max(limits.memory_gb - PARENT_GB, 0.1),
        "raise_insufficient": False,
    }
    if limits.plugin.name == SLURM:
        told = {"status_callback": progress, **limits.plugin.arguments}
        return GuardedSlurmPlugin(plugin_args=told)
    if limits.plugin.name == LINEAR or limits.n_processors <= limits.threads:
        return LinearPlugin(arguments)
    return GuardedMultiProcPlugin(arguments)


def _configure(graph: pe.Workflow, work_dir: Path, log_dir: Path, limits: Limits) -> None:
    """Tell a graph where to work, to trust content rather than time stamps, and how to end."""
    graph.base_dir = str(work_dir)
    graph.config["execution"] = {
        "hash_method": "content",
        "crashdump_dir": str(log_dir),
        "crashfile_format": "txt",
        "poll_sleep_duration": "0.1",
        "stop_on_first_crash": str(limits.stop_on_first_crash).lower(),
        "create_report": "false",
        "check_version": "false",
        # So that the work folder may be moved, as from one scratch disk to another.
        "use_relative_paths": "true",
        # How long the result of a job on another node may take to be seen on this one.
        "job_finished_timeout": "30",
    }
    quieten_nipype(limits.verbosity)


def _describe_crash(node: str, crashes: Sequence[Path]) -> ScsnetError:
    """Say why a run failed, from the crash file of its node."""
    for path in crashes:
        text = path.read_text(encoding="utf-8", errors="replace")
        # Nipype may add a note about itself after the traceback.
        lines = text.partition("\n\nWhen creating this crashfile")[0].rstrip().splitlines()
        if lines and lines[0] == f"Node: {node}":
            return ScsnetError(f"{_without_class(lines[-1])} (crash file: {path})")
    return ScsnetError(f"step {node} failed")


def _without_class(line: str) -> str:
    """Last line of a traceback without the module and class of the error."""
    name, colon, message = line.strip().partition(": ")
    is_ours = colon and name.startswith("scsnet_bids.") and " " not in name
    return message if is_ours else line.strip()
