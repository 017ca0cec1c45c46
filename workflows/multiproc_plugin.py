"""Nipype's plugin of worker processes, made to end: with a lost worker, its parent, or Ctrl-C.

Nipype's ``MultiProc`` waits for ever when a worker is killed, as the out-of-memory killer does.
:class:`GuardedMultiProcPlugin` turns a lost worker into a failed node, so that the run ends with
a crash file and an exit code.
"""

from __future__ import annotations

import logging
import os
import signal
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import forkserver, get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread
from typing import Any

from nipype.pipeline import engine as pe
from nipype.pipeline.plugins.multiproc import MultiProcPlugin, process_initializer, run_node

from scsnet_bids.errors import ScsnetError
from scsnet_bids.interruption import disregard, heed_interruption, signals_held

LOST_WORKER = (
    "A worker process was killed, most often because the machine ran out of memory. "
    "Give the job more memory or fewer processes (--nprocs), then run the same command again."
)
FORK_SERVER_GONE = 255
"""Exit code that multiprocessing gives to workers whose fork server has died; they may live."""
STEP_MODULES = (
    "scsnet_bids.interfaces",
    "scsnet_bids.network.inference",
    "scsnet_bids.correction.motion",
    "scsnet_bids.unmixing.table",
    "scsnet_bids.figures.plots",
)
"""What takes long to import (torch, SciPy, matplotlib), loaded once for all workers."""


class GuardedMultiProcPlugin(MultiProcPlugin):  # type: ignore[misc]
    """MultiProc that ends, instead of hanging, when a worker is killed."""

    _lost_worker: BaseException | None = None

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        # A forked copy of a process in which torch has computed may deadlock in its thread pool.
        # The fork server only imports.
        get_context("forkserver").set_forkserver_preload([__name__, *STEP_MODULES])
        # The process that tidies up at the end starts here, and must not end with its terminal.
        try:
            with signals_held(signal.SIGHUP):
                super().__init__(plugin_args | {"mp_context": "forkserver"})
        except OSError as error:
            raise ScsnetError(
                "Several processes need shared memory (/dev/shm) and open files: the system "
                f"refuses them ({error}). Use one process: --nprocs 1."
            ) from error
        # Nipype has no public way to say how its workers begin, and starts none before a step.
        self.pool._initializer, self.pool._initargs = _begin_worker, (self._cwd,)

    def run(self, graph: pe.Workflow, config: Any, updatehash: bool = False) -> Any:
        """Run a graph; an interruption waits for no step to end."""
        try:
            return super().run(graph, config, updatehash)
        except KeyboardInterrupt:
            # The server first: it may be about to make a worker. multiprocessing keeps it private.
            server: Any = forkserver._forkserver
            if server._forkserver_pid is not None:
                with suppress(OSError):
                    os.kill(server._forkserver_pid, signal.SIGKILL)
                    server._stop()
            self._kill_workers()
            raise

    def _submit_job(self, node: pe.Node, updatehash: bool = False) -> int:
        """Hand a node to a worker that is as quiet as this process."""
        heed_interruption()
        self._taskid += 1
        verbosity = self.plugin_args["verbosity"]
        try:
            # Ctrl-C reaches all processes of a terminal: it is for this one alone.
            with signals_held(signal.SIGINT):
                forkserver.ensure_running()
            future = self.pool.submit(_run_quietly, node, updatehash, self._taskid, verbosity)
        except (BrokenProcessPool, OSError, EOFError) as failure:
            self._lost_worker, self._task_obj[self._taskid] = failure, None
        else:
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
        heed_interruption()
        result: dict[str, Any] | None = super()._get_result(taskid)
        if result is None and (self._lost_worker is not None or self._dead_workers()):
            return {"taskid": taskid, "result": None, "traceback": [LOST_WORKER]}
        return result

    def _dead_workers(self) -> list[Any]:
        """List workers that have ended; they live as long as the pool."""
        return [worker for worker in self._workers() if not worker.is_alive()]

    def _workers(self) -> list[Any]:
        """List the worker processes."""
        return list((self.pool._processes or {}).values())

    def _postrun_check(self) -> None:
        """Close the pool, which may wait for ever for the rest of a lost worker's answer."""
        if self._lost_worker is not None or self._dead_workers():
            self._kill_workers()
        super()._postrun_check()

    def _kill_workers(self) -> None:
        """End all workers at once, and the thread that waits for their answers."""
        for worker in self._workers():
            # Once the fork server is gone its workers seem dead, and kill() leaves them alone.
            if worker.exitcode in (None, FORK_SERVER_GONE):
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)
        with suppress(AttributeError, OSError):
            self.pool._result_queue._writer.close()

    def _task_finished_cb(self, jobid: int, cached: bool = False) -> None:
        """Report a reused step like any other."""
        if cached:
            self._status_callback(self.procs[jobid], "start")
        super()._task_finished_cb(jobid, cached)


def _begin_worker(folder: str) -> None:
    """Prepare a worker process, which ends with the process that it works for."""
    signal.signal(signal.SIGINT, disregard)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    process_initializer(folder)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the parent to be gone; a worker would else wait for steps for ever."""
    if (parent := parent_process()) is not None:
        wait([parent.sentinel])
        os._exit(1)


def _run_quietly(node: pe.Node, updatehash: bool, taskid: int, verbosity: int) -> dict[str, Any]:
    """Run a node in a worker process."""
    quieten_nipype(verbosity)
    result: dict[str, Any] = run_node(node, updatehash, taskid)
    return result


def quieten_nipype(verbosity: int) -> None:
    """Leave the talking to the progress display unless asked; crash files hold the rest.

    Parameters
    ----------
    verbosity : 0 to be silent, 1 for information, 2 for details
    """
    level = (logging.CRITICAL, logging.INFO, logging.DEBUG)[min(verbosity, 2)]
    for name in ("workflow", "interface", "utils"):
        logging.getLogger(f"nipype.{name}").setLevel(level)
