"""Whole runs where a machine grants little: space, rights, a home, a name, a network."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.datasets import fingerprint, unfinished_files
from faults.jobs import command, results, run

pytestmark = pytest.mark.slow

UNKNOWN_USER = ("unshare", "--user", "--map-user=54321", "--map-group=54321")
"""A number without a name, still the owner of its files, and with no power over others."""


@pytest.fixture(scope="module")
def undisturbed(good_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Run the app once where everything is granted."""
    root = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(good_dataset, root / "data")
    code, said = run(command(root))
    assert code == 0, said
    return results(root)


@pytest.fixture
def fresh(good_dataset: Path, tmp_path: Path) -> Path:
    """Return a folder with the same data and no results."""
    shutil.copytree(good_dataset, tmp_path / "data")
    return tmp_path


def need(*words: str) -> None:
    """Skip unless this machine allows a command."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"THIS MACHINE LACKS {words[0]}, so nothing is proved: {error}")
    if done.returncode != 0:
        pytest.skip(f"THIS MACHINE FORBIDS {' '.join(words)}, so nothing is proved: {done.stderr}")


@pytest.fixture
def small_disk(fresh: Path) -> Iterator[Path]:
    """Mount a disk of a few hundred kilobytes as the output folder."""
    out = fresh / "out"
    out.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(out)]
    need(*words)
    yield out
    subprocess.run(["umount", str(out)], check=True)


def test_a_full_disk_ends_the_run_with_a_sentence_and_no_half_file(
    fresh: Path, small_disk: Path, undisturbed: dict[str, bytes]
) -> None:
    code, said = run(command(fresh))
    assert code == 73, said
    assert "Outputs must be writable" in said
    assert "No space left on device" in said
    assert unfinished_files(small_disk) == []
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    code, said = run(command(fresh))
    assert code == 0, said
    assert results(fresh) == undisturbed


def test_a_full_work_folder_ends_the_run_with_a_sentence(fresh: Path) -> None:
    (fresh / "work").mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(fresh / "work")]
    need(*words)
    try:
        code, said = run(command(fresh))
    finally:
        subprocess.run(["umount", str(fresh / "work")], check=True)
    assert code != 0
    assert "No space left on device" in said
    assert "Failed: sub-01" in said
    assert unfinished_files(fresh / "out") == []


def test_a_limit_on_the_size_of_files_ends_the_run_with_a_sentence(fresh: Path) -> None:
    code, said = run(["bash", "-c", 'ulimit -f 20; exec "$@"', "-", *command(fresh)])
    assert code in (1, 73), said
    assert "File too large" in said
    assert unfinished_files(fresh / "out") == []


def test_a_read_only_output_folder_is_refused_at_once(fresh: Path) -> None:
    (fresh / "out").mkdir()
    need("unshare", "-m", "true")
    bind = f"mount --bind {fresh}/out {fresh}/out && mount -o remount,bind,ro {fresh}/out"
    code, said = run(["unshare", "-m", "bash", "-c", f'{bind} && exec "$@"', "-", *command(fresh)])
    assert code == 73
    assert "must be writable" in said
    assert "Read-only file system" in said
    assert list((fresh / "out").iterdir()) == []


def test_a_read_only_input_is_all_that_is_needed(
    fresh: Path, undisturbed: dict[str, bytes]
) -> None:
    need("unshare", "-m", "true")
    bind = f"mount --bind {fresh}/data {fresh}/data && mount -o remount,bind,ro {fresh}/data"
    code, said = run(["unshare", "-m", "bash", "-c", f'{bind} && exec "$@"', "-", *command(fresh)])
    assert code == 0, said
    assert results(fresh) == undisturbed


def test_no_name_no_home_no_network_and_a_strict_mask_change_nothing(
    fresh: Path, undisturbed: dict[str, bytes]
) -> None:
    need(*UNKNOWN_USER, "-n", "true")
    words = ["bash", "-c", 'umask 077; unset HOME USER LOGNAME; cd /; exec "$@"', "-"]
    before = fingerprint(fresh / "data")
    code, said = run([*UNKNOWN_USER, "-n", *words, *command(fresh, "--nprocs", "2")])
    assert code == 0, said
    assert results(fresh) == undisturbed
    assert fingerprint(fresh / "data") == before
    open_to_others = [path for path in (fresh / "out").rglob("*") if path.lstat().st_mode & 0o077]
    assert open_to_others == []


def test_an_input_without_the_right_to_read_is_named(fresh: Path) -> None:
    need(*UNKNOWN_USER, "true")
    closed = fresh / "data/sub-01/dwi/sub-01_dwi.bvec"
    closed.chmod(0)
    code, said = run([*UNKNOWN_USER, *command(fresh)], HOME="/nonexistent")
    assert code == 65, said
    assert f"{closed} is missing or unreadable ([Errno 13] Permission denied" in said


@pytest.mark.parametrize("closed", ["sub-01", "sub-01/dwi", "sub-01/ses-b"])
def test_a_participant_whose_folder_may_not_be_read_stops_no_other(
    two_participants: Path, tmp_path: Path, closed: str
) -> None:
    need(*UNKNOWN_USER, "true")
    shutil.copytree(two_participants, tmp_path / "data")
    place = tmp_path / "data" / closed
    place.mkdir(exist_ok=True)
    place.chmod(0)
    code, said = run([*UNKNOWN_USER, *command(tmp_path, "--dry-run")], HOME="/nonexistent")
    assert code == 0, said
    assert f"may not be read: {place}" in said
    n_left = 2 if "ses" in closed else 1
    assert f"{n_left} of {n_left} diffusion series can be processed" in said


def test_a_closed_output_folder_is_refused_at_once(fresh: Path) -> None:
    need(*UNKNOWN_USER, "true")
    (fresh / "out").mkdir(mode=0o500)
    code, said = run([*UNKNOWN_USER, *command(fresh)])
    assert code == 73
    assert "must be writable" in said
    assert "Permission denied" in said


@pytest.mark.parametrize(
    ("words", "place", "exit_code"),
    [
        ((), "out", 73),
        (("--dry-run",), "out", 73),
        (("--reports-only",), "out", 73),
        (("-w", "{closed}/work"), "work", 73),
        (("--dry-run", "--weights", "{closed}/ours.pt"), "ours.pt", 2),
        (("--dry-run", "--levels", "{closed}/levels.tsv"), "levels.tsv", 2),
    ],
)
def test_a_place_below_a_closed_folder_is_named(
    fresh: Path, words: tuple[str, ...], place: str, exit_code: int
) -> None:
    need(*UNKNOWN_USER, "true")
    closed = fresh / "closed"
    closed.mkdir()
    job = command(fresh, *(word.format(closed=closed) for word in words))
    if place == "out":
        job[2] = str(closed / place)
    closed.chmod(0)
    code, said = run([*UNKNOWN_USER, *job], HOME="/nonexistent")
    closed.chmod(0o700)
    assert code == exit_code, said
    assert f"the system refuses {closed / place}" in said
    assert said.splitlines()[-1].endswith("Correct its name or permissions, or choose another.")
    assert "Traceback" not in said


def test_without_a_folder_for_temporary_files_workers_use_the_work_folder(
    fresh: Path, undisturbed: dict[str, bytes]
) -> None:
    need("unshare", "-m", "true")
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        root = shutil.copytree(fresh, Path(short) / "r")
        closed = " && ".join(
            f"mount --rbind {place} {place} && mount -o remount,bind,ro {place}"
            for place in ("/tmp", "/var/tmp")
        )
        job = f'mount --bind {root} {root} && {closed} && cd /tmp && exec "$@"'
        words = command(root, "--nprocs", "2")
        code, said = run(["unshare", "-m", "bash", "-c", job, "-", *words], TMPDIR="")
        assert code == 0, said
        assert results(root) == undisturbed
