"""Jobs of the SLURM plugin leave the queue when the command ends.

Where SLURM is absent small programs under its names stand for a queue in which nothing ever ends;
``tests/containers/slurm.sh`` does the same on a real one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
PROGRAMS = {
    "sbatch": 'echo "$@" >>"$ROOT/submitted"; wc -l <"$ROOT/submitted"',
    "squeue": 'touch "$ROOT/asked"; echo waits',
    "scancel": 'echo "$@" >>"$ROOT/cancelled"',
}
RUN = """\
import sys
from pathlib import Path
from nipype.interfaces.utility import Function
from nipype.pipeline import engine as pe
from scsnet_bids.plugin_files import PluginChoice
from scsnet_bids.workflows.execution import Limits, process_runs
from scsnet_bids.interruption import signals_that_interrupt

def succeed() -> int:
    return 1

folder = Path(sys.argv[1])
outer = pe.Workflow("all")
for run in ("a", "b"):
    inner = pe.Workflow(run)
    inner.add_nodes([pe.Node(Function([], ["out"], succeed), "step")])
    outer.add_nodes([inner])
limits = Limits(plugin=PluginChoice("SLURM"))
names = {"a": "sub-a", "b": "sub-b"}
needs_gb = dict.fromkeys(names.values(), 0.1)
with signals_that_interrupt():
    process_runs(outer, names, needs_gb, folder / "work", folder, limits)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment with the small programs on the path."""
    (tmp_path / "bin").mkdir()
    for name, body in PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "ROOT": str(tmp_path)}


def start(place: Path, environment: dict[str, str], *before: str) -> subprocess.Popen[bytes]:
    """Start a graph of two steps, and return when both are in the queue."""
    script = place / "run.py"  # Nipype reads a function's source
    script.write_text(RUN)
    words = [*before, sys.executable, str(script), str(place)]
    # A child ignores what its parent does: under nohup, or in the background of a shell.
    heeded = {number: signal.signal(number, signal.SIG_DFL) for number in ENDING}
    child = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
    for number, handler in heeded.items():
        signal.signal(number, handler)
    while not (place / "asked").exists():
        assert child.poll() is None
    return child


@pytest.mark.parametrize("number", ENDING)
def test_jobs_leave_the_queue_with_a_command_that_is_stopped(
    tmp_path: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    child = start(tmp_path, environment)
    child.send_signal(number)
    assert child.wait() != 0
    assert (tmp_path / "cancelled").read_text().split() == ["1", "2"]


def test_a_command_under_nohup_outlives_its_terminal(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    child = start(tmp_path, environment, "nohup")
    child.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(1)
    child.terminate()
    assert child.wait() != 0
