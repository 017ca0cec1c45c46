"""Run commands as processes of their own, and tell what each and its children took.

On Linux processor time and memory are added up over all processes that a command starts, also
those whose parent does not wait for them; elsewhere the system's own account has to do, which
knows the largest process only.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple, TypeVar

from scsnet_bids.errors import ScsnetError

THREADS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR")
SAMPLE_S = 0.05
MB = 2**20
PROC = Path("/proc")

Given = TypeVar("Given")
Found = TypeVar("Found")


class Usage(NamedTuple):
    """What a command took.

    Attributes
    ----------
    wall_s : from start to end
    cpu_s : user and system time of the command and all that it started
    peak_mb : most memory at one time, 2^20 bytes; what processes share counts once; nan if it
        ended before anybody looked
    """

    wall_s: float
    cpu_s: float
    peak_mb: float


def run_child(command: Sequence[str], log: Path, threads: int = 1) -> Usage:
    """Run a command to its end.

    Parameters
    ----------
    command : program and words
    log : file for what it prints
    threads : of numerical libraries

    Returns
    -------
    Usage

    Raises
    ------
    ScsnetError
        If it ends with anything but 0.
    """
    started = time.perf_counter()
    with log.open("wb") as file:
        # The process is waited for below, for its account.
        job = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=_with(threads))
    watch = _Watch(job.pid)
    watch.start()
    _, status, used = os.wait4(job.pid, 0)
    job.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - started
    watch.end()
    if job.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise ScsnetError(
            f"The commands of a benchmark must end well: {' '.join(command)} ended with "
            f"{job.returncode}: {' '.join(last)}"
        )
    cpu_s = max(used.ru_utime + used.ru_stime, watch.cpu_s)
    # Linux counts what this process held when it started the other as the other's, and in KB.
    known_mb = math.nan if PROC.is_dir() else used.ru_maxrss / MB
    return Usage(wall_s, cpu_s, watch.peak_mb or known_mb)


def map_at_once(
    function: Callable[[Given], Found], items: Iterable[Given], at_once: int
) -> Iterator[Found]:
    """Apply a function that waits for children to several items at a time.

    Parameters
    ----------
    function : of one item; the first error ends everything
    items : in the order of what is found
    at_once : how many at a time

    Yields
    ------
    what the function finds
    """
    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(function, items)


def python_command(module: str, *words: str) -> list[str]:
    """Write the command that runs a module of this package with this interpreter."""
    return [sys.executable, "-m", f"scsnet_bids.benchmark.{module}", *words]


def app_command(*words: str, room: str = "cli") -> list[str]:
    """Write the command that runs the app, or another room's, as its console script does."""
    start = f"import sys; from scsnet_bids.{room} import main; sys.exit(main())"
    return [sys.executable, "-c", start, *words]


def _with(threads: int) -> dict[str, str]:
    """Environment in which numerical libraries use so many threads."""
    names = [f"{name}_NUM_THREADS" for name in THREADS]
    others = ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "MRTRIX_NTHREADS"]
    return {**os.environ, **dict.fromkeys([*names, *others], str(threads)), "NO_ET": "1"}


class _Watch(Thread):
    """Look at a process and its descendants from time to time."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak_mb = pid, 0.0
        self._cpu: dict[int, float] = {}
        self._ended = Event()

    @property
    def cpu_s(self) -> float:
        """Processor time of all that were seen, as they were seen last."""
        return sum(self._cpu.values())

    def run(self) -> None:
        """Look until told to end."""
        while not self._ended.wait(SAMPLE_S):
            family = {self.pid, *_descendants(self.pid)} if PROC.is_dir() else {self.pid}
            # The mark that the system keeps is exact, but knows one process only.
            memory_mb = _memory_mb if len(family) > 1 else most_memory_mb
            self.peak_mb = max(self.peak_mb, sum(map(memory_mb, family)))
            for pid in family:
                self._cpu[pid] = max(self._cpu.get(pid, 0.0), _cpu_s(pid))

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()
        self.join()


def _descendants(pid: int) -> Iterator[int]:
    """List the processes that a process has started, and those that they have."""
    with suppress(OSError, ValueError):
        for task in (PROC / str(pid) / "task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                yield child
                yield from _descendants(child)


def _memory_mb(pid: int) -> float:
    """Memory of a process, what it shares divided among those that share it."""
    with suppress(OSError, ValueError, IndexError):
        text = (PROC / str(pid) / "smaps_rollup").read_text()
        return int(text.split("Pss:")[1].split()[0]) / 1024
    return 0.0


def most_memory_mb(pid: int) -> float:
    """Most memory that a process has had so far, 2^20 bytes; 0 where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        text = (PROC / str(pid) / "status").read_text()
        return int(text.split("VmHWM:")[1].split()[0]) / 1024
    return 0.0


def _cpu_s(pid: int) -> float:
    """User and system time of a process alone."""
    with suppress(OSError, ValueError, IndexError):
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0
