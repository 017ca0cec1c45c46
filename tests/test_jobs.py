"""Jobs that are killed, meet each other, or run where little is allowed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scsnet_bids import phantom
from scsnet_bids.locks import claimed

COMMAND = str(Path(sys.executable).with_name("scsnet-bids"))
ONLY_FIRST = ("--participant-label", "01", "--nprocs", "1")


def start(root: Path, *words: str, **environment: str) -> subprocess.Popen:
    """Start the app on ``root/data`` as a process of its own."""
    folders = [str(root / "data"), str(root / "out"), "participant", "-w", str(root / "work")]
    return subprocess.Popen(
        [COMMAND, *folders, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def run(root: Path, *words: str, **environment: str) -> tuple[int, str, str]:
    """Run the app and return its exit code and what it says."""
    with start(root, *words, **environment) as job:
        said, complained = job.communicate(timeout=240)
    return job.returncode, said, complained


def tables(root: Path, participant: str = "sub-*") -> dict[str, bytes]:
    """Content of every table of one participant or all."""
    out = root / "out"
    paths = sorted(out.glob(f"{participant}/**/*.tsv"))
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def half_written(root: Path) -> list[Path]:
    """List files under a temporary name, which a killed job may leave."""
    return list((root / "out").rglob(".*_sub-*"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the app once without trouble."""
    root = tmp_path_factory.mktemp("jobs")
    assert phantom.main([str(root / "data"), "--participants", "2", "--tiny"]) == 0
    code, *said = run(root, "--nprocs", "1")
    assert code == 0, said
    return root


@pytest.fixture
def fresh(undisturbed: Path, tmp_path: Path) -> Path:
    """Return a folder with the same data and no results."""
    shutil.copytree(undisturbed / "data", tmp_path / "data")
    return tmp_path


def wait_for(job: subprocess.Popen, step: int) -> None:
    """Read what a job says until it has finished a number of steps."""
    for line in job.stdout:
        if line.startswith("[") and int(line[1:].partition("/")[0]) >= step:
            return


def test_after_kills_the_same_command_ends_with_the_same_tables(undisturbed, fresh):
    for step in (1, 5):
        with start(fresh, *ONLY_FIRST) as job:
            wait_for(job, step)
            time.sleep(0.1 * step)
            job.send_signal(signal.SIGKILL)
    code, said, _ = run(fresh, *ONLY_FIRST)
    assert code == 0
    assert said.count("reused") >= 4
    assert tables(fresh) == tables(undisturbed, "sub-01")
    assert not half_written(fresh)


def test_a_killed_worker_ends_the_job_and_the_same_command_repairs_it(undisturbed, fresh):
    words = ("--participant-label", "01", "--nprocs", "2")
    with start(fresh, *words) as job:
        wait_for(job, 1)
        for worker in workers_of(job.pid):
            os.kill(worker, signal.SIGKILL)
        said, _ = job.communicate(timeout=240)
    assert job.returncode == 1
    assert "out of memory" in said
    assert "Failed: " in said.splitlines()[-1]
    assert list((fresh / "out" / "logs").glob("crash-*.txt"))
    assert run(fresh, *words)[0] == 0
    assert tables(fresh) == tables(undisturbed, "sub-01")


def workers_of(pid: int) -> list[int]:
    """List the grandchildren of a process: the server's workers."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, rest = entry.read_text().split(" ", 1)
        except OSError:
            continue
        parent = int(rest.rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(int(number))
    return [worker for server in children[pid] for worker in children.get(server, [])]


def test_a_run_in_use_by_another_job_is_refused_and_others_go_on(fresh):
    (fresh / "out").mkdir()
    with claimed(fresh / "out", ["sub-01"]):
        code, said, _ = run(fresh, "--nprocs", "1")
    assert code == 73
    assert "another one is processing sub-01" in said
    assert said.splitlines()[-1].startswith("Failed: sub-01. 1 of 2 runs done.")
    assert [path.name for path in (fresh / "out").glob("sub-*/")] == ["sub-02"]


def test_two_jobs_for_different_participants_share_their_folders(undisturbed, fresh):
    with (
        start(fresh, "--participant-label", "01") as one,
        start(fresh, "--participant-label", "02") as two,
    ):
        outcomes = [job.communicate(timeout=240) for job in (one, two)]
    assert [one.returncode, two.returncode] == [0, 0], outcomes
    assert tables(fresh) == tables(undisturbed)
    assert not half_written(fresh)


def test_results_of_another_user_in_the_work_folder_are_refused(fresh, undisturbed):
    if os.getuid() != 0:
        pytest.skip("only root can give a file away, so nothing is proved")
    shutil.copytree(undisturbed / "work", fresh / "work")
    pickle = next((fresh / "work").rglob("sub_01_wf/**/result_*.pklz"))
    os.chown(pickle, 12345, -1)
    code, _, complaint = run(fresh)
    assert code == 73
    assert str(pickle) in complaint
    assert "--work-dir" in complaint
    assert not list((fresh / "out").glob("sub-*"))


def test_an_absent_device_is_refused_before_any_work(fresh):
    code, _, complaint = run(fresh, "--device", "cuda:99")
    assert code == 2
    assert "cuda:99 cannot be used" in complaint
    assert not list((fresh / "work").glob("scsnet*"))


def test_neither_a_home_nor_the_environment_matter(undisturbed, fresh):
    home = {"HOME": "/does/not/exist", "OMP_NUM_THREADS": "2"}
    code, _, complaint = run(fresh, *ONLY_FIRST, **home)
    assert (code, complaint) == (0, "")
    assert tables(fresh) == tables(undisturbed, "sub-01")
