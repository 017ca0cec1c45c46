"""The app as a process of its own, to be killed, starved and watched."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

APP = str(Path(sys.executable).with_name("scsnet-bids"))
LONGEST_S = 240


def command(root: Path, *words: str) -> list[str]:
    """Words of the command that processes ``root/data``."""
    folders = [str(root / "data"), str(root / "out"), "participant", "-w", str(root / "work")]
    return [APP, *folders, *words]


def start(words: Sequence[str], **environment: str) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, where Ctrl-C and a hang-up are heeded."""
    # A child ignores what its parent does, as in the background of a shell, or under nohup.
    heeded = signal.signal(signal.SIGINT, signal.default_int_handler)
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    job = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | environment,
    )
    signal.signal(signal.SIGINT, heeded)
    signal.signal(signal.SIGHUP, hang_up)
    return job


def run(words: Sequence[str], **environment: str) -> tuple[int, str]:
    """Run a command to its end; return its exit code and what it says."""
    with start(words, **environment) as job:
        said, _ = job.communicate(timeout=LONGEST_S)
    return job.returncode, said


def results(root: Path) -> dict[str, bytes]:
    """Content of everything that a run writes for its participants, reports apart."""
    out = root / "out"
    found = [path for path in sorted(out.glob("sub-*/**/*")) if path.is_file()]
    return {
        str(path.relative_to(out)): path.read_bytes() for path in found if not is_leftover(path)
    }


def is_leftover(path: Path) -> bool:
    """Tell whether a name is one of those that a file has until it is complete."""
    return re.fullmatch(r"\.[0-9a-f]{12}_.+", path.name) is not None


def descendants(pid: int) -> list[int]:
    """List the processes that a process has started, and those that they have."""
    return _below(_children(), pid)


def workers_of(pid: int) -> list[int]:
    """List the workers of a job: the children of the server from which they are forked."""
    children = _children()
    servers = [child for child in children.get(pid, []) if "forkserver" in words_of(child)]
    return [worker for server in servers for worker in children.get(server, [])]


def words_of(pid: int) -> str:
    """Return the command of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _children() -> dict[int, list[int]]:
    """List the children of every process."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, rest = entry.read_text().split(" ", 1)
        except OSError:
            continue
        parent = int(rest.rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(int(number))
    return children


def _below(children: dict[int, list[int]], pid: int) -> list[int]:
    """List the descendants of a process in a table of children."""
    nearest = children.get(pid, [])
    return nearest + [one for child in nearest for one in _below(children, child)]
