"""Nipype's SLURM plugin with a job for every step, of which none outlives the command."""

from __future__ import annotations

import math
import shlex
import subprocess
from pathlib import Path
from typing import Any

from nipype.pipeline import engine as pe
from nipype.pipeline.plugins.slurm import SLURMPlugin

from scsnet_bids.interruption import ENDING_SIGNALS, signals_held


class GuardedSlurmPlugin(SLURMPlugin):  # type: ignore[misc]
    """SLURM with a job for every step, of which none is left in the queue at the end."""

    def run(self, graph: pe.Workflow, config: Any, updatehash: bool = False) -> Any:
        """Run a graph; whatever ends it, jobs that are still in the queue are taken out."""
        try:
            return super().run(graph, config, updatehash)
        finally:
            with signals_held(*ENDING_SIGNALS):
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
        with signals_held(*ENDING_SIGNALS):
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
