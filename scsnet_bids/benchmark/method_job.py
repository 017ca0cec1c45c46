"""Correct one series by one method, in a process of its own.

    python -m scsnet_bids.benchmark.method_job METHOD SERIES CORRECTED

Both files are pickles of this package's own making; the second holds what the method gives and the
processor time of the correction alone, without imports and files.
"""

from __future__ import annotations

import pickle
import resource
import sys
import warnings
from pathlib import Path


def main(method: str, series: Path, corrected: Path) -> None:
    """Read, correct, write."""
    from scsnet_bids.benchmark.motion_methods import prepare

    correct = prepare(method)
    before = _cpu_s()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other people's methods
        result = correct(pickle.loads(series.read_bytes()))
    corrected.write_bytes(pickle.dumps((result, _cpu_s() - before)))


def _cpu_s() -> float:
    """Processor time of this process and of those it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
