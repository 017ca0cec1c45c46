"""Memory and processors that a job may use: what was asked for, what the machine grants.

A job on a cluster owns a part of its machine. The limits are told by control groups (version 1 and
2, also those of containers) and by SLURM's variables; the smallest of them counts.

>>> [round(parse_memory(word), 2) for word in ("16G", "16GB", "1.5g", "16000M", "512 MiB")]
[16.0, 16.0, 1.5, 15.62, 0.5]
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from scsnet_bids.errors import UsageError

GB = 2**30
"""Bytes of a gigabyte, counted as SLURM counts them."""

_POWERS = {"k": -2, "m": -1, "g": 0, "t": 1}
_UNLIMITED = 2**60
"""Control groups of version 1 write a number beyond this where there is no limit."""


def parse_memory(word: str) -> float:
    """Read an amount of memory.

    Parameters
    ----------
    word : number with a unit, such as ``16G``, ``16GB``, ``1.5g`` or ``16000M``

    Returns
    -------
    float, GB of 2^30 bytes

    Raises
    ------
    UsageError
        If the unit is missing, or it is no amount of memory at all.
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(?:([kmgt])(?:i?b)?)?", word.strip().lower())
    if found is None or float(found[1]) == 0:
        raise UsageError(f"Memory must look like 16G or 16000M: found {word!r}.")
    if found[2] is None:
        raise UsageError(
            f"Memory needs a unit: found {word!r}. Write {word.strip()}G for gigabytes or "
            f"{word.strip()}M for megabytes."
        )
    return float(found[1]) * 1024.0 ** _POWERS[found[2]]


def available_memory_gb(
    environment: Mapping[str, str] = os.environ, root: Path = Path("/")
) -> float:
    """Find how much memory this job may use.

    Parameters
    ----------
    environment : may hold what SLURM grants
    root : where ``proc`` and ``sys`` lie

    Returns
    -------
    float, GB of 2^30 bytes; infinite if nothing is known
    """
    limits = [
        *_slurm_memory_gb(environment),
        *(value / GB for value in _group_memory_bytes(root) if value < _UNLIMITED),
        *_machine_memory_gb(root),
    ]
    return min(limits, default=math.inf)


def available_cpus(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> int:
    """Find how many processors this job may use.

    Parameters
    ----------
    environment : may hold what SLURM grants
    root : where ``proc`` and ``sys`` lie

    Returns
    -------
    int, at least 1
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    granted = _whole(environment.get("SLURM_CPUS_PER_TASK", ""))
    limits = [usable or 1, *_group_cpus(root), *granted]
    return max(1, math.floor(min(limits)))


def _slurm_memory_gb(environment: Mapping[str, str]) -> Iterator[float]:
    """Read what SLURM grants; it counts in MB, and 0 stands for all there is."""
    for node in _whole(environment.get("SLURM_MEM_PER_NODE", "")):
        yield node / 1024
    for part in _whole(environment.get("SLURM_MEM_PER_CPU", "")):
        for cpus in _whole(environment.get("SLURM_CPUS_PER_TASK", "")):
            yield part * cpus / 1024


def _machine_memory_gb(root: Path) -> Iterator[float]:
    """Memory of the whole machine."""
    found = re.search(r"MemTotal:\s*(\d+) kB", _text(root / "proc/meminfo"))
    if found:
        yield int(found[1]) / 2**20


def _group_memory_bytes(root: Path) -> Iterator[int]:
    """Memory limits of the control groups of this process."""
    for folder in _group_folders(root, ""):
        yield from _whole(_text(folder / "memory.max"))
    for folder in _group_folders(root, "memory"):
        yield from _whole(_text(folder / "memory.limit_in_bytes"))


def _group_cpus(root: Path) -> Iterator[float]:
    """Processor limits of the control groups of this process."""
    for folder in _group_folders(root, ""):
        share = [n for word in _text(folder / "cpu.max").split() for n in _whole(word)]
        if len(share) == 2:
            yield share[0] / share[1]
    for folder in _group_folders(root, "cpu"):
        for quota in _whole(_text(folder / "cpu.cfs_quota_us")):
            for period in _whole(_text(folder / "cpu.cfs_period_us")):
                yield quota / period


def _group_folders(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control group of this process and of those around it.

    Version 2 has no name of a controller. A container may see its own group as the top one, so
    the top is always looked at, and what does not exist is passed over.
    """
    top = root / "sys/fs/cgroup" / controller
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            place = Path(path.lstrip("/"))
            yield from (top / part for part in (place, *place.parents))


def _whole(text: str) -> list[int]:
    """Read a positive whole number, as a list that is empty for anything else."""
    return [int(text)] if text.strip().isdecimal() and int(text) > 0 else []


def _text(path: Path) -> str:
    """Text of a file, empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
