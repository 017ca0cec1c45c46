"""A name is claimed by one process at a time, and free again when that process ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scsnet_bids.errors import OutputError
from scsnet_bids.locks import LOCK_NAME, alone, claimed

HOLD = """
import sys
from pathlib import Path
from scsnet_bids.locks import claimed
with claimed(Path(sys.argv[1]), sys.argv[2:]) as taken:
    print(",".join(sorted(taken)) or "none", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path, *names: str) -> subprocess.Popen:
    """Start a process that claims names and keeps them until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_claimed_name_is_taken_for_others_and_free_after_a_kill(tmp_path):
    with hold(tmp_path, "sub-01", "sub-02") as first:
        assert first.stdout.readline() == "none\n"
        with claimed(tmp_path, ["sub-02", "sub-03"]) as taken:
            assert taken == {"sub-02"}
        first.kill()
        first.wait()
        with claimed(tmp_path, ["sub-01", "sub-02"]) as taken:
            assert taken == set()


def test_names_are_free_when_the_block_ends(tmp_path):
    with claimed(tmp_path, ["sub-01"]), hold(tmp_path, "sub-01") as other:
        assert other.communicate("")[0] == "sub-01\n"
    with hold(tmp_path, "sub-01") as other:
        assert other.communicate("")[0] == "none\n"


def test_a_thousand_names_need_one_file(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with claimed(tmp_path, [f"sub-{number:04d}" for number in range(1000)]) as taken:
        assert taken == set()
        assert len(os.listdir("/proc/self/fd")) == before + 1
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with (
        pytest.raises(OutputError, match=r"must be writable: .*absent"),
        claimed(tmp_path / "absent", ["sub-01"]),
    ):
        pass


COUNT = """
import sys, time
from pathlib import Path
from scsnet_bids.locks import alone
counter = Path(sys.argv[1]) / "counter"
for _ in range(20):
    with alone(Path(sys.argv[1]) / "logs", "sub-01"):
        n = int(counter.read_text())
        time.sleep(0.001)
        counter.write_text(str(n + 1))
"""


def test_what_is_done_alone_is_never_done_by_two_at_a_time(tmp_path):
    (tmp_path / "counter").write_text("0")
    jobs = [subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path)]) for _ in range(3)]
    assert [job.wait() for job in jobs] == [0, 0, 0]
    assert (tmp_path / "counter").read_text() == "60"


def test_being_alone_does_not_end_what_is_claimed(tmp_path):
    with claimed(tmp_path, ["sub-01"]):
        with alone(tmp_path, "sub-01"):
            pass
        with hold(tmp_path, "sub-01") as other:
            assert other.communicate("")[0] == "sub-01\n"
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]


def test_what_was_done_alone_keeps_nobody_waiting_while_something_is_claimed(tmp_path):
    (tmp_path / "counter").write_text("0")
    (tmp_path / "logs").mkdir()
    with claimed(tmp_path / "logs", ["sub-02"]):
        with alone(tmp_path / "logs", "sub-01"):
            pass
        subprocess.run([sys.executable, "-c", COUNT, str(tmp_path)], check=True, timeout=60)
    assert (tmp_path / "counter").read_text() == "20"
