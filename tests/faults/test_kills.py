"""Whatever is killed, whenever: the same command again ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from faults.datasets import unfinished_files
from faults.jobs import command, descendants, is_leftover, results, run, start, words_of

pytestmark = pytest.mark.slow

N_MOMENTS = int(os.environ.get("SCSNET_KILLS", "20"))
SOONEST_S = 0.3
PATIENCE = 5
"""How many times longer than a whole run a job may go on after one of its workers is killed."""


@pytest.fixture(scope="module")
def undisturbed(
    two_participants: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], float]:
    """Run the app once without trouble; keep its results and how long it took."""
    root = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(two_participants, root / "data")
    started = time.monotonic()
    code, said = run(command(root, "--nprocs", "1"))
    assert code == 0, said
    return results(root), time.monotonic() - started


@pytest.fixture
def fresh(two_participants: Path, tmp_path: Path) -> Path:
    """Return a folder with the same data and no results."""
    shutil.copytree(two_participants, tmp_path / "data")
    return tmp_path


def moment_s(number: int, last_s: float) -> float:
    """Choose a moment at random within the numbered part of a run."""
    part_s = (last_s - SOONEST_S) / N_MOMENTS
    return SOONEST_S + part_s * (number + random.Random(number).random())


def is_bookkeeper(pid: int) -> bool:
    """Tell whether a process is Python's tracker of resources, which a job can do without."""
    words = words_of(pid)
    return not words or "resource_tracker" in words


def assert_in_order(root: Path) -> None:
    """Check that every file under its final name is whole."""
    unfinished = [name for name in unfinished_files(root / "out") if not is_leftover(Path(name))]
    assert unfinished == []


@pytest.mark.parametrize("n_procs", ["1", "2"])
def test_the_number_of_processes_and_a_repetition_change_nothing(
    n_procs: str, fresh: Path, undisturbed: tuple[dict[str, bytes], float]
) -> None:
    code, said = run(command(fresh, "--nprocs", n_procs))
    assert code == 0, said
    assert results(fresh) == undisturbed[0]


@pytest.mark.parametrize("number", range(N_MOMENTS))
def test_a_killed_job_is_taken_up_again(
    number: int, fresh: Path, undisturbed: tuple[dict[str, bytes], float]
) -> None:
    words = command(fresh, "--nprocs", "1")
    with start(words) as job:
        time.sleep(moment_s(number, undisturbed[1]))
        with suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
    assert_in_order(fresh)
    code, said = run(words)
    assert code == 0, said
    assert_in_order(fresh)
    assert results(fresh) == undisturbed[0]


@pytest.mark.parametrize("number", range(N_MOMENTS))
def test_a_killed_worker_ends_the_job_which_is_taken_up_again(
    number: int, fresh: Path, undisturbed: tuple[dict[str, bytes], float]
) -> None:
    words = command(fresh, "--nprocs", "2")
    with start(words) as job:
        time.sleep(moment_s(number, undisturbed[1]))
        workers = [pid for pid in descendants(job.pid) if not is_bookkeeper(pid)]
        with suppress(ProcessLookupError):
            os.kill(random.Random(number).choice(workers or [job.pid]), signal.SIGKILL)
        try:
            said, _ = job.communicate(timeout=PATIENCE * undisturbed[1])
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            pytest.fail(f"the job hung after one of its processes {workers} was killed")
    if job.returncode == 1:
        assert "out of memory" in said
    else:
        assert job.returncode in (0, -signal.SIGKILL), said
    assert_in_order(fresh)
    code, said = run(words)
    assert code == 0, said
    assert results(fresh) == undisturbed[0]
