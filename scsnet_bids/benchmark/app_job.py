"""Run the app in this process and write down what each of its steps took.

    python -m scsnet_bids.benchmark.app_job RECORD plain|profile WORDS OF THE APP

RECORD becomes a table with one row per step: its processor time with everything that the graph
does around it (``cpu_s``), the largest memory of the process so far and, if profiled, the
processor time of each kind of work (``cpu_kinds``) and the counts of what should not happen often.
What lies between the steps is the row ``around``.
"""

from __future__ import annotations

import cProfile
import os
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from scsnet_bids.benchmark.children import most_memory_mb

AROUND = "around"


class Clock:
    """Adds up the processor time of named spans that follow each other.

    Parameters
    ----------
    profile : whether to profile them as well
    """

    def __init__(self, *, profile: bool) -> None:
        self.cpu_s: defaultdict[str, float] = defaultdict(float)
        self.peak_mb: dict[str, float] = {}
        self.profiles: dict[str, cProfile.Profile] = {}
        self._profile = profile
        self._span, self._since = AROUND, time.process_time()
        self._watch(AROUND)

    def switch(self, span: str) -> None:
        """End the present span and begin another, or go on with an earlier one."""
        if self._profile:
            self.profiles[self._span].disable()
        now = time.process_time()
        self.cpu_s[self._span] += now - self._since
        self.peak_mb[self._span] = most_memory_mb(os.getpid())
        self._span, self._since = span, now
        self._watch(span)

    def tabulate(self) -> pd.DataFrame:
        """One row per span."""
        rows: list[dict[str, Any]] = []
        for span, cpu_s in self.cpu_s.items():
            row = {"step": span, "cpu_s": cpu_s, "peak_mb": self.peak_mb[span]}
            rows.append({**row, **self._kinds(span)})
        return pd.DataFrame(rows)

    def _watch(self, span: str) -> None:
        """Begin or go on to profile a span."""
        if self._profile:
            self.profiles.setdefault(span, cProfile.Profile(time.process_time)).enable()

    def _kinds(self, span: str) -> dict[str, float]:
        """Processor time by kind of work, and counts."""
        if not self._profile:
            return {}
        from scsnet_bids.benchmark.cpu_kinds import count_calls, cpu_by_kind

        profile = self.profiles[span]
        return {**cpu_by_kind(profile), **count_calls(profile)}


def main(record: Path, words: Sequence[str], *, profile: bool) -> int:
    """Run the app and write the record; its exit code."""
    clock = Clock(profile=profile)
    from scsnet_bids.cli import main as run_app
    from scsnet_bids.workflows import execution

    class Timed(execution.Progress):
        """The app's progress display, with a clock."""

        def __call__(self, node: Any, status: str) -> None:
            if status == "start":
                clock.switch(node.name)
            super().__call__(node, status)
            if status != "start":
                clock.switch(AROUND)

    execution.Progress = Timed  # type: ignore[misc]
    code = run_app([*words, "--nprocs", "1"])
    clock.switch("")
    from scsnet_bids.derivatives import write_table

    write_table(record, clock.tabulate())
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[3:], profile=sys.argv[2] == "profile"))
