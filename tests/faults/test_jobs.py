"""Jobs that are killed, meet each other, or run where little is allowed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from hashlib import sha256
from pathlib import Path

import pytest
from faults.jobs import command, descendants, results, run, start, words_of, workers_of

from scsnet_bids.locks import claimed
from scsnet_bids.report.outcomes import UNFINISHED, read_outcomes

ONLY_FIRST = ("--participant-label", "01", "--nprocs", "1")


def results_of(root: Path, participant: str) -> dict[str, bytes]:
    """Content of everything that is written for one participant."""
    found = results(root)
    return {name: found[name] for name in found if name.startswith(f"{participant}/")}


def half_written(root: Path) -> list[Path]:
    """List files under a temporary name, which a killed job may leave."""
    return list((root / "out").rglob(".*_sub-*"))


@pytest.fixture(scope="module")
def undisturbed(two_participants: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the app once without trouble."""
    root = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(two_participants, root / "data")
    code, said = run(command(root, "--nprocs", "1"))
    assert code == 0, said
    return root


@pytest.fixture
def fresh(two_participants: Path, tmp_path: Path) -> Path:
    """Return a folder with the same data and no results."""
    shutil.copytree(two_participants, tmp_path / "data")
    return tmp_path


@pytest.fixture
def resumable(fresh: Path, undisturbed: Path) -> Path:
    """Return a folder with the same data, intermediate results and no results."""
    shutil.copytree(undisturbed / "work", fresh / "work")
    return fresh


def wait_for(job: subprocess.Popen[str], step: int) -> None:
    """Read what a job says until it has finished a number of steps."""
    for line in job.stdout or ():
        if line.startswith("[") and int(line[1:].partition("/")[0]) >= step:
            return


def test_after_kills_the_same_command_ends_with_the_same_results(
    undisturbed: Path, fresh: Path
) -> None:
    words = command(fresh, *ONLY_FIRST)
    for step in (1, 5):
        with start(words) as job:
            wait_for(job, step)
            time.sleep(0.1 * step)
            job.send_signal(signal.SIGKILL)
    code, said = run(words)
    assert code == 0, said
    assert said.count("reused") >= 4
    assert results(fresh) == results_of(undisturbed, "sub-01")
    assert not half_written(fresh)


@pytest.mark.parametrize(
    ("number", "n_procs"),
    [(signal.SIGINT, "1"), (signal.SIGINT, "2"), (signal.SIGTERM, "1"), (signal.SIGHUP, "2")],
)
def test_an_interrupted_job_ends_soon_and_the_same_command_goes_on(
    undisturbed: Path, fresh: Path, number: signal.Signals, n_procs: str
) -> None:
    words = command(fresh, "--nprocs", n_procs)
    (fresh / "temporary").mkdir()
    with start(words, TMPDIR=str(fresh / "temporary")) as job:
        wait_for(job, 3)
        # To all its processes, as Ctrl-C in a terminal.
        os.killpg(job.pid, number)
        said, _ = job.communicate(timeout=20)
    assert job.returncode == 128 + number, said
    assert "FAILED" not in said
    assert "Traceback" not in said
    assert said.splitlines()[-1] == (
        "scsnet-bids: interrupted. The same command goes on from here."
    )
    assert list((fresh / "temporary").iterdir()) == []
    assert not list((fresh / "out" / "logs").glob("crash-*"))
    assert read_outcomes(fresh / "out", "sub-01")["sub-01"].status == UNFINISHED
    code, said = run(words)
    assert code == 0, said
    assert "reused" in said
    assert results(fresh) == results(undisturbed)


def test_a_job_that_is_interrupted_as_it_starts_its_workers_leaves_none(resumable: Path) -> None:
    with start(command(resumable, "--nprocs", "2")) as job:
        for line in job.stdout or ():
            if line.startswith("Using"):
                break
        started: list[int] = []
        while not started:
            started = [pid for pid in descendants(job.pid) if "forkserver" in words_of(pid)]
        os.killpg(job.pid, signal.SIGINT)
        said, _ = job.communicate(timeout=20)
    assert said.splitlines()[-1].startswith("scsnet-bids: interrupted.")
    assert job.returncode == 128 + signal.SIGINT


def test_a_killed_worker_ends_the_job_and_the_same_command_repairs_it(
    undisturbed: Path, fresh: Path
) -> None:
    words = command(fresh, "--participant-label", "01", "--nprocs", "2")
    with start(words) as job:
        wait_for(job, 1)
        for worker in workers_of(job.pid):
            os.kill(worker, signal.SIGKILL)
        said, _ = job.communicate(timeout=240)
    assert job.returncode == 1
    assert "out of memory" in said
    assert "Failed: " in said.splitlines()[-1]
    assert list((fresh / "out" / "logs").glob("crash-*.txt"))
    code, said = run(words)
    assert code == 0, said
    assert results(fresh) == results_of(undisturbed, "sub-01")


@pytest.mark.parametrize("n_procs", ["1", "2"])
def test_a_notebook_that_shows_figures_its_own_way_is_a_place_to_start(
    undisturbed: Path, fresh: Path, n_procs: str
) -> None:
    backend = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    code, said = run(command(fresh, *ONLY_FIRST[:2], "--nprocs", n_procs), **backend)
    assert code == 0, said
    assert results(fresh) == results_of(undisturbed, "sub-01")


@pytest.mark.parametrize("words", ["2>&1 | head -n 1", ">/dev/full 2>&1"])
def test_a_job_that_nobody_listens_to_goes_on(
    undisturbed: Path, resumable: Path, words: str
) -> None:
    job = ["bash", "-c", f'set -o pipefail; "$@" {words}', "-", *command(resumable)]
    code, said = run(job)
    assert code == 0, said
    assert len(said.splitlines()) <= 1
    assert results(resumable) == results(undisturbed)


def test_a_reader_who_leaves_ends_a_plan_quietly(fresh: Path) -> None:
    words = command(fresh, "--dry-run")
    code, said = run(["bash", "-c", 'set -o pipefail; "$@" 2>&1 | head -n 1', "-", *words])
    assert (code, said) == (0, "2 of 2 diffusion series can be processed.\n")


def test_letters_that_a_terminal_lacks_are_shown_by_their_codes(fresh: Path) -> None:
    words = command(fresh, "--boilerplate-only")
    words[2] = str(fresh / "ä")
    code, said = run(words, PYTHONIOENCODING="ascii")
    assert code == 0, said
    assert f"{fresh}/\\xe4/logs/CITATION.md" in said


def test_a_run_in_use_by_another_job_is_refused_and_others_go_on(resumable: Path) -> None:
    (resumable / "out").mkdir()
    with claimed(resumable / "out", ["sub-01"]):
        code, said = run(command(resumable, "--nprocs", "1"))
    assert code == 73
    assert "another one is processing sub-01" in said
    assert said.splitlines()[-1].startswith("Failed: sub-01. 1 of 2 runs done.")
    assert [path.name for path in (resumable / "out").glob("sub-*/")] == ["sub-02"]


def test_two_jobs_share_their_folders_and_need_neither_a_home_nor_an_environment(
    undisturbed: Path, fresh: Path
) -> None:
    bare = {"HOME": "/does/not/exist", "OMP_NUM_THREADS": "2"}
    with (
        start(command(fresh, "--participant-label", "01"), **bare) as one,
        start(command(fresh, "--participant-label", "02"), **bare) as two,
    ):
        said = [job.communicate(timeout=240)[0] for job in (one, two)]
    assert [one.returncode, two.returncode] == [0, 0], said
    assert "arning" not in "".join(said)
    assert results(fresh) == results(undisturbed)
    assert not half_written(fresh)


def test_results_of_another_user_in_the_work_folder_are_refused(resumable: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a file away, so nothing is proved")
    pickle = next((resumable / "work").rglob("sub_01_wf/**/result_*.pklz"))
    os.chown(pickle, 12345, -1)
    code, said = run(command(resumable))
    assert code == 73
    assert str(pickle) in said
    assert "--work-dir" in said
    assert not list((resumable / "out").glob("sub-*"))


@pytest.mark.parametrize("name", ["cuda:99", "cuda:-1", "gpu", "meta"])
def test_an_absent_device_is_refused_before_anything_is_written(fresh: Path, name: str) -> None:
    for words in ((), ("--dry-run",)):
        code, said = run(command(fresh, "--device", name, *words))
        assert code == 2, said
        assert f"{name} cannot be used" in said.splitlines()[0]
        assert [path.name for path in fresh.iterdir()] == ["data"]


@pytest.mark.parametrize("damage", ["no record", "other record", "no weights"])
def test_weights_that_are_none_are_refused_before_anything_is_written(
    fresh: Path, damage: str
) -> None:
    weights = fresh / "data" / "code" / "ours.pt"
    weights.parent.mkdir()
    weights.write_text("these are no weights")
    sums = {"other record": 64 * "0", "no weights": sha256(weights.read_bytes()).hexdigest()}
    if damage in sums:
        weights.with_suffix(".json").write_text(json.dumps({"sha256": sums[damage]}))
    for words in ((), ("--dry-run",)):
        code, said = run(command(fresh, "--weights", str(weights), *words))
        assert code == 1, said
        assert str(weights.with_suffix("")) in said.splitlines()[0]
        assert "eights " in said.splitlines()[0]
        assert [path.name for path in fresh.iterdir()] == ["data"]
