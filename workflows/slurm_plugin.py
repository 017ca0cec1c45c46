"""Nipype's SLURM plugin with a job for every step, of which none outlives the command."""

from __future__ import annotations

import math
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from nipype.pipeline import engine as pe
from nipype.pipeline.plugins.slurm import SLURMPlugin

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""What a scheduler sends at a time limit, and a terminal that closes; SIGINT raises by itself."""


class GuardedSlurmPlugin(SLURMPlugin):  # type: ignore[misc]
    """SLURM with a job for every step, of which none is left in the queue at the end."""

    def run(self, graph: pe.Workflow, config: Any, updatehash: bool = False) -> Any:
        """Run a graph; whatever ends it, jobs that are still in the queue are taken out."""
        with _signals_that_raise():
            try:
                return super().run(graph, config, updatehash)
            finally:
                with _signals_held():
                    self._cancel_jobs()

    def _cancel_jobs(self) -> None:
        """Take the jobs that have not ended out of the queue."""
        if self._pending:
            subprocess.run(["scancel", *map(str, self._pending)], check=False)

    def _submit_batchtask(self, scriptfile: str, node: pe.Node) -> int:
        """Submit the script of a node with what the node needs; what the user asks for wins."""
        folder = Path(scriptfile).parent
        words = [
            *("sbatch", "--parsable", f"--job-name={node.fullname}"),
            f"--output={folder}/slurm-%j.out",
            f"--mem={math.ceil(1024 * node.mem_gb)}M",
            f"--cpus-per-task={node.n_procs}",
            *shlex.split(self._sbatch_args or ""),
            scriptfile,
        ]
        # A job must be known before the command may end.
        with _signals_held():
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                problem = f"SLURM took no job ({shlex.join(words)}): {done.stderr.strip()}"
                raise RuntimeError(problem)
            task = int(done.stdout.strip().partition(";")[0])
            self._pending[task] = node.output_dir()
        return task

    def _is_pending(self, taskid: int) -> bool:
        """Tell whether a job waits or runs; a scheduler that does not answer is asked again."""
        words = ["squeue", "--noheader", "--format=%i", f"--jobs={taskid}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return bool(done.stdout.strip())
        return "Invalid job id" not in done.stderr


@contextmanager
def _signals_that_raise() -> Iterator[None]:
    """Let signals that end a process without a word end it as an error would."""
    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    # One that is ignored, as under nohup, stays so.
    ours = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _leave)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _leave(number: int, _: FrameType | None) -> None:
    """End this process with the exit code that a shell reports for the signal."""
    raise SystemExit(128 + number)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Let signals wait until the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *ENDING_SIGNALS})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
