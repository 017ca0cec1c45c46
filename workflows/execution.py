"""Run a graph: guarded plugins, a progress display, and the list of what failed.

Nipype's ``MultiProc`` waits for ever when a worker is killed, as the out-of-memory killer does.
:class:`GuardedMultiProcPlugin` turns a lost worker into a failed node, so that the run ends with
a crash file and an exit code.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe
from nipype.pipeline.plugins.linear import LinearPlugin
from nipype.pipeline.plugins.multiproc import MultiProcPlugin, run_node

from scsnet_bids.errors import ScsnetError

LOST_WORKER = (
    "A worker process was killed, most often because the machine ran out of memory. "
    "Give the job more memory or fewer processes (--nprocs)."
)


class GuardedMultiProcPlugin(MultiProcPlugin):  # type: ignore[misc]
    """MultiProc that ends, instead of hanging, when a worker is killed."""

    _lost_worker: BaseException | None = None

    def _submit_job(self, node: pe.Node, updatehash: bool = False) -> int:
        """Hand a node to a worker that keeps quiet, like this process."""
        self._taskid += 1
        future = self.pool.submit(_run_quietly, node, updatehash, self._taskid)
        future.add_done_callback(self._async_callback)
        self._task_obj[self._taskid] = future
        return int(self._taskid)

    def _async_callback(self, args: Future[dict[str, Any]]) -> None:
        """Keep the pool's own failure instead of letting it vanish in the callback thread."""
        failure = args.exception()
        if failure is None:
            super()._async_callback(args)
        else:
            self._lost_worker = failure

    def _get_result(self, taskid: int) -> dict[str, Any] | None:
        """Hand a lost worker back as a failed task."""
        result: dict[str, Any] | None = super()._get_result(taskid)
        if result is None and self._lost_worker is not None:
            return {"taskid": taskid, "result": None, "traceback": [LOST_WORKER]}
        return result


def _run_quietly(node: pe.Node, updatehash: bool, taskid: int) -> dict[str, Any]:
    """Run a node in a worker process."""
    _silence_nipype()
    result: dict[str, Any] = run_node(node, updatehash, taskid)
    return result


def _silence_nipype() -> None:
    """Leave the talking to the progress display; crash files hold the rest."""
    for name in ("workflow", "interface", "utils"):
        logging.getLogger(f"nipype.{name}").setLevel(logging.CRITICAL)


@dataclass
class Progress:
    """Print one line per finished step and remember which runs failed, and where.

    Attributes
    ----------
    names : what a reader calls the run, by the name of its graph
    n_steps : number of steps of all runs
    failed_nodes : full name of the node that failed first, by run
    """

    names: Mapping[str, str]
    n_steps: int
    failed_nodes: dict[str, str] = field(default_factory=dict)
    _n_done: int = 0
    _started: dict[str, float] = field(default_factory=dict)

    def __call__(self, node: pe.Node, status: str) -> None:
        """Take a status report of Nipype: ``start``, ``end`` or ``exception``."""
        place = node.fullname
        run = next(self.names[part] for part in place.split(".") if part in self.names)
        if status == "start":
            self._started[place] = time.monotonic()
            return
        # A plugin also reports the end of the steps it skipped because an earlier one failed.
        if place not in self._started:
            return
        self._n_done += 1
        if status == "exception":
            self.failed_nodes.setdefault(run, place)
        outcome = "FAILED" if status == "exception" else self._duration(place)
        step = node.name.replace("_", " ")
        count = f"{self._n_done:{len(str(self.n_steps))}d}/{self.n_steps}"
        print(f"[{count}] {run}  {step:<20} {outcome}", flush=True)

    def _duration(self, place: str) -> str:
        """Write how long a step took."""
        return f"{time.monotonic() - self._started[place]:6.1f} s"


def process_runs(
    graph: pe.Workflow, names: Mapping[str, str], work_dir: Path, log_dir: Path, n_procs: int
) -> dict[str, ScsnetError]:
    """Run a checked graph to its end; a failing run does not stop the others.

    Parameters
    ----------
    graph : one subgraph per run
    names : what a reader calls the run, by the name of its subgraph
    work_dir : intermediate results, which a repeated call reuses
    log_dir : crash files
    n_procs : worker processes; 1 runs in this process

    Returns
    -------
    dict, the error of every run that failed
    """
    _configure(graph, work_dir, log_dir)
    progress = Progress(names, _count_steps(graph))
    started = time.time()
    try:
        graph.run(plugin=_make_plugin(n_procs, progress))
    except Exception:
        # Nipype ends by raising the first failure again; each has been reported to `progress`.
        if not progress.failed_nodes:
            raise
    crashes = [path for path in log_dir.glob("crash-*.txt") if path.stat().st_mtime >= started - 1]
    return {run: _describe_crash(node, crashes) for run, node in progress.failed_nodes.items()}


def _count_steps(graph: pe.Workflow) -> int:
    """Count the nodes that do something."""
    interfaces = [graph.get_node(name).interface for name in graph.list_node_names()]
    return sum(not isinstance(interface, IdentityInterface) for interface in interfaces)


def _make_plugin(n_procs: int, progress: Progress) -> LinearPlugin | MultiProcPlugin:
    """Choose how to run: in this process, or in guarded workers."""
    arguments: dict[str, Any] = {"status_callback": progress, "n_procs": n_procs}
    if n_procs == 1:
        return LinearPlugin(arguments)
    # A forked copy of a process that has loaded torch may deadlock in its thread pool.
    return GuardedMultiProcPlugin(arguments | {"mp_context": "forkserver"})


def _configure(graph: pe.Workflow, work_dir: Path, log_dir: Path) -> None:
    """Tell a graph where to work, to trust content rather than time stamps, and to stay quiet."""
    graph.base_dir = str(work_dir)
    graph.config["execution"] = {
        "hash_method": "content",
        "crashdump_dir": str(log_dir),
        "crashfile_format": "txt",
        "poll_sleep_duration": "0.1",
        "stop_on_first_crash": "false",
        "check_version": "false",
    }
    _silence_nipype()


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
