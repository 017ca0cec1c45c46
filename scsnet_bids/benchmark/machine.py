"""Say on what a benchmark ran."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from scsnet_bids import __version__
from scsnet_bids.resources import available_cpus, available_memory_gb

LIBRARIES = ("numpy", "scipy", "torch", "dipy", "nibabel", "nipype", "antspyx")


def describe_machine() -> dict[str, str]:
    """Describe machine, load and versions.

    Returns
    -------
    dict of words by what they tell
    """
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "not known"
    return {
        "processor": _processor(),
        "processors for this job": f"{available_cpus():g}",
        "memory for this job": f"{available_memory_gb():.1f} GB",
        "load when it began": load,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "scsnet-bids": __version__,
        **{name: _version(name) for name in LIBRARIES},
    }


def machine_line(machine: dict[str, str]) -> str:
    """Write a description of a machine as one line."""
    return "; ".join(f"{name} {value}" for name, value in machine.items())


def _processor() -> str:
    """Name the processor as well as the system knows it."""
    with suppress(OSError, IndexError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    """Version of an installed library."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
