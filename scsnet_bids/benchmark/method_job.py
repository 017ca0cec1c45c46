"""Correct one series by one method, in a process of its own.

    python -m scsnet_bids.benchmark.method_job METHOD SERIES CORRECTED

Both files are pickles of this package's own making; the second holds what the method gives, and
the processor time and the time by the clock of the correction alone, without imports and files.
"""

from __future__ import annotations

import pickle
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path


def main(method: str, series: Path, corrected: Path) -> None:
    """Read, correct, write."""
    # ANTs looks through all that lies beside its temporary files.
    tempfile.tempdir = tempfile.mkdtemp(dir=series.parent)
    from scsnet_bids.benchmark.motion_methods import prepare

    correct = prepare(method)
    with series.open("rb") as file:
        given = pickle.load(file)
    cpu_s, wall_s = _cpu_s(), time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other people's methods
        result = correct(given)
    used = (_cpu_s() - cpu_s, time.perf_counter() - wall_s)
    with corrected.open("wb") as file:
        pickle.dump((result, *used), file, protocol=pickle.HIGHEST_PROTOCOL)


def _cpu_s() -> float:
    """Processor time of this process and of those it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
