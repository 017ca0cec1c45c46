"""A run ends, whatever happens to its workers."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.jobs import descendants, words_of
from nipype.interfaces.base import (
    BaseInterface,
    BaseInterfaceInputSpec,
    Bunch,
    isdefined,
    traits,
)
from nipype.interfaces.utility import Function
from nipype.pipeline import engine as pe
from nipype.utils.filemanip import loadpkl
from scsnet_bids.workflows.execution import Limits, process_runs

from scsnet_bids.errors import ScsnetError
from scsnet_bids.interruption import signals_that_interrupt


def kill_this_process() -> int:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def die_in_the_middle_of_an_answer() -> int:
    import gc
    import os
    import signal
    from multiprocessing.queues import SimpleQueue

    (answers,) = (thing for thing in gc.get_objects() if isinstance(thing, SimpleQueue))
    os.write(answers._writer.fileno(), (1000).to_bytes(4, "big") + b"the first few bytes")
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def fail() -> int:
    raise ValueError("this step fails on purpose")


def succeed() -> int:
    return 1


def succeed_later() -> int:
    import time

    time.sleep(0.5)
    return 1


def meet_another() -> int:
    """Wait for another step to run at the same time; 1 if it comes, 0 if it does not."""
    import os
    import time
    from pathlib import Path

    here = Path.cwd().parents[1] / f"{os.getpid()}.running"
    here.touch()
    for _ in range(int(os.environ["PATIENCE_S"]) * 20):
        if len(list(here.parent.glob("*.running"))) > 1:
            time.sleep(0.2)
            here.unlink()
            return 1
        time.sleep(0.05)
    here.unlink()
    return 0


def wait_for_the_end() -> int:
    """Run until the process is stopped from outside."""
    import time
    from pathlib import Path

    Path("the.running").touch()
    time.sleep(600)
    return 0


def need_loaded_libraries() -> int:
    """Fail unless the worker was born with the libraries of the steps."""
    import sys

    assert {"torch", "scipy.ndimage", "matplotlib"} <= set(sys.modules)
    return 1


def process(
    functions: dict[str, Callable[[], int]],
    folder: Path,
    limits: Limits,
    needs_gb: float = 0.1,
) -> dict[str, ScsnetError]:
    """Run a graph of one-step runs."""
    nodes = {
        name: pe.Node(Function(output_names=["out"], function=function), name="only_step")
        for name, function in functions.items()
    }
    return process_nodes(nodes, folder, limits, needs_gb)


def process_nodes(
    nodes: dict[str, pe.Node], folder: Path, limits: Limits, needs_gb: float = 0.1
) -> dict[str, ScsnetError]:
    """Run a graph of runs of one step each."""
    graph = pe.Workflow(name="test_wf")
    for name, node in nodes.items():
        run = pe.Workflow(name=f"{name}_wf")
        run.add_nodes([node])
        graph.add_nodes([run])
    (folder / "logs").mkdir(exist_ok=True)
    names = {f"{name}_wf": name for name in nodes}
    needs = dict.fromkeys(nodes, needs_gb)
    return process_runs(graph, names, needs, folder / "work", folder / "logs", limits)


ONE, TWO = Limits(), Limits(n_processors=2)


def test_workers_are_born_with_the_libraries_of_the_steps(tmp_path):
    assert not process({"first": need_loaded_libraries}, tmp_path, TWO)


def test_garbage_is_not_looked_for_in_what_was_there_before_the_run(tmp_path):
    passed_over = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            passed_over.append(gc.get_freeze_count())

    gc.callbacks.append(note)
    try:
        process({"good": succeed, "bad": fail}, tmp_path, TWO)
    finally:
        gc.callbacks.remove(note)
    assert max(passed_over) > 10_000
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("death", [kill_this_process, die_in_the_middle_of_an_answer])
def test_a_killed_worker_ends_the_run_and_is_explained(tmp_path, death):
    failures = process({"killed": death}, tmp_path, TWO)
    assert list(failures) == ["killed"]
    assert "out of memory" in str(failures["killed"])
    (crash_file,) = (tmp_path / "logs").glob("crash-*.txt")
    assert str(crash_file) in str(failures["killed"])


def test_a_killed_worker_leaves_no_run_that_looks_done(tmp_path):
    good = {f"good{number}": succeed_later for number in range(4)}
    failures = process({"killed": kill_this_process, **good}, tmp_path, TWO)
    done = set(good) - set(failures)
    assert "killed" in failures
    assert all("out of memory" in str(error) for error in failures.values())
    again = process({"killed": succeed, **good}, tmp_path, TWO)
    assert again == {}
    assert len(done) < len(good)


def test_a_system_that_grants_no_second_process_is_told_of(tmp_path):
    script = f"""
import os, resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_execution import TWO, process, succeed
folder = os.open({str(tmp_path)!r}, os.O_RDONLY)
resource.setrlimit(resource.RLIMIT_NOFILE, (folder + 2, folder + 2))
print(process(dict(good=succeed), Path({str(tmp_path)!r}), TWO))
"""
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert "ScsnetError: Several processes need shared memory" in last
    assert last.endswith("Use one process: --nprocs 1.")


def test_a_server_of_workers_killed_before_its_first_worker_ends_the_run(tmp_path):
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_execution import TWO, process, succeed
print(process(dict(good=succeed), Path({str(tmp_path)!r}), TWO))
"""
    words = [sys.executable, "-c", script]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as job:
        os.kill(wait_for_server(job.pid), signal.SIGKILL)
        said, _ = job.communicate(timeout=120)
    assert "out of memory" in said.splitlines()[-1]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "{}"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_workers_end_with_the_process_that_they_work_for(tmp_path, how):
    script = f"""
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it is ignored under nohup
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_execution import TWO, process, wait_for_the_end
print(process(dict(one=wait_for_the_end), Path({str(tmp_path)!r}), TWO))
"""
    with subprocess.Popen([sys.executable, "-c", script]) as job:
        wait_until(lambda: list((tmp_path / "work").rglob("*.running")))
        started = descendants(job.pid)
        os.kill(job.pid, how)
    assert len(started) > 2
    wait_until(lambda: not any(words_of(pid) for pid in started))


def test_an_interruption_that_python_ignores_comes_again():
    script = """
import os, signal, time
from scsnet_bids.interruption import signals_that_interrupt

class Removed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

try:
    with signals_that_interrupt() as came:
        Removed()
        time.sleep(600)
except KeyboardInterrupt:
    print(came[0] == signal.SIGTERM)
"""
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert "Exception ignored" in done.stderr
    assert done.stdout == "True\n"


class InterruptsItsCopy(traits.TraitType):
    """A value during whose copy a signal comes; traits drops every exception then."""

    def validate(self, owner: object, name: str, value: bool) -> bool:
        """Let the signal come while the value of a copy, which is there already, is set."""
        if isdefined(getattr(owner, name)):
            signal.raise_signal(signal.SIGTERM)
        return value


class CopiedInput(BaseInterfaceInputSpec):
    copied = InterruptsItsCopy(False)


class Copied(BaseInterface):
    input_spec = CopiedInput

    def _run_interface(self, runtime: Bunch) -> Bunch:
        return runtime


@pytest.mark.parametrize("limits", [ONE, TWO], ids=["in this process", "in workers"])
def test_an_interruption_that_a_library_drops_ends_the_run_before_its_next_step(tmp_path, limits):
    node = pe.Node(Copied(copied=True), name="only_step")
    with pytest.raises(KeyboardInterrupt), signals_that_interrupt() as came:
        process_nodes({"copied": node}, tmp_path, limits)
    assert set(came) == {signal.SIGTERM}
    assert not list(tmp_path.rglob("crash-*"))


def make_another_error_of_a_signal() -> None:
    try:
        signal.raise_signal(signal.SIGHUP)
    except KeyboardInterrupt:
        raise ValueError("a value must be valid") from None


def test_an_error_that_a_library_makes_of_an_interruption_is_one():
    with pytest.raises(KeyboardInterrupt), signals_that_interrupt():
        make_another_error_of_a_signal()
    with pytest.raises(ValueError, match="valid"), signals_that_interrupt():
        raise ValueError("a value must be valid")


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for a condition to hold."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to be so")


def wait_for_server(pid: int) -> int:
    """Wait for the server from which a process forks its workers; at first it only imports."""
    for _ in range(6000):
        servers = [child for child in descendants(pid) if "forkserver" in words_of(child)]
        if servers:
            return servers[0]
        time.sleep(0.01)
    raise AssertionError("the process has started no server")


@pytest.mark.parametrize("limits", [ONE, TWO])
def test_one_failing_run_leaves_the_others_alone(tmp_path, limits, capsys):
    failures = process({"bad": fail, "good": succeed}, tmp_path, limits)
    assert list(failures) == ["bad"], failures
    assert "this step fails on purpose" in str(failures["bad"])
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[-1] == "FAILED" for line in lines) == [False, True]
    assert {line.split("]")[0] for line in lines} == {"[1/2", "[2/2"}


@pytest.mark.parametrize("n_processors", [1, 2])
def test_the_first_crash_stops_everything_if_asked(tmp_path, n_processors):
    limits = Limits(n_processors=n_processors, stop_on_first_crash=True)
    runs = {"a_bad": fail, **{f"good{number}": succeed_later for number in range(6)}}
    failures = process(runs, tmp_path, limits)
    assert "this step fails on purpose" in str(failures["a_bad"])
    stopped = [name for name, error in failures.items() if "--stop-on-first-crash" in str(error)]
    assert stopped
    assert set(failures) == {"a_bad", *stopped}


@pytest.mark.parametrize(
    ("needs_gb", "patience_s", "met"), [(0.4, 60, 1), (1.2, 1, 0), (50.0, 1, 0)]
)
def test_steps_run_together_only_if_memory_suffices(
    tmp_path, monkeypatch, needs_gb, patience_s, met
):
    # The server from which workers are forked may have started with another environment.
    monkeypatch.setenv("PATIENCE_S", str(patience_s))
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_execution import Limits, meet_another, process
two = Limits(n_processors=2, memory_gb=2.5)
print(process(dict(one=meet_another, two=meet_another), Path({str(tmp_path)!r}), two, {needs_gb}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "{}", done.stderr
    results = [load_outputs(path) for path in (tmp_path / "work").rglob("result_only_step.pklz")]
    assert results == [met, met]


def load_outputs(path: Path) -> int:
    """Read what a step has returned."""
    return int(loadpkl(path).outputs.out)


@pytest.mark.parametrize("limits", [ONE, TWO])
def test_reused_steps_are_named_and_counted(tmp_path, limits, capsys):
    process({"good": succeed}, tmp_path, limits)
    capsys.readouterr()
    assert process({"good": succeed}, tmp_path, limits) == {}
    assert capsys.readouterr().out == "[1/1] good  only step            reused\n"
