"""A run ends, whatever happens to its workers."""

from __future__ import annotations

from pathlib import Path

import pytest
from nipype.interfaces.utility import Function
from nipype.pipeline import engine as pe
from scsnet_bids.workflows.execution import process_runs

from scsnet_bids.errors import ScsnetError


def kill_this_process() -> int:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def fail() -> int:
    raise ValueError("this step fails on purpose")


def succeed() -> int:
    return 1


def process(functions: dict, folder: Path, n_procs: int) -> dict[str, ScsnetError]:
    """Run a graph of one-step runs."""
    graph = pe.Workflow(name="test_wf")
    for name, function in functions.items():
        run = pe.Workflow(name=f"{name}_wf")
        interface = Function(input_names=[], output_names=["out"], function=function)
        run.add_nodes([pe.Node(interface, name="only_step")])
        graph.add_nodes([run])
    (folder / "logs").mkdir()
    names = {f"{name}_wf": name for name in functions}
    return process_runs(graph, names, folder / "work", folder / "logs", n_procs)


def test_a_killed_worker_ends_the_run_and_is_explained(tmp_path):
    failures = process({"killed": kill_this_process}, tmp_path, n_procs=2)
    assert list(failures) == ["killed"]
    assert "out of memory" in str(failures["killed"])
    (crash_file,) = (tmp_path / "logs").glob("crash-*.txt")
    assert str(crash_file) in str(failures["killed"])


@pytest.mark.parametrize("n_procs", [1, 2])
def test_one_failing_run_leaves_the_others_alone(tmp_path, n_procs, capsys):
    failures = process({"bad": fail, "good": succeed}, tmp_path, n_procs)
    assert list(failures) == ["bad"]
    assert "this step fails on purpose" in str(failures["bad"])
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[-1] == "FAILED" for line in lines) == [False, True]
    assert {line.split("]")[0] for line in lines} == {"[1/2", "[2/2"}
