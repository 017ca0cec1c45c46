"""Signals that end a command: Ctrl-C, a scheduler's time limit, a terminal that closes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_S = 2.0
"""When an interruption that has had no effect is raised again, s."""

_blocks: list[list[int]] = []
"""Numbers of the signals that have come, for each block that is open."""


@contextmanager
def signals_that_interrupt() -> Iterator[list[int]]:
    """Let every signal that ends a process raise KeyboardInterrupt until the block ends.

    Once one has come, any other error leaves the block as KeyboardInterrupt as well: it may be
    what a library has made of the interruption.

    Yields
    ------
    list of the numbers of the signals that have come, the first one first
    """
    came: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        came.append(number)
        # Python ignores what is raised at some moments, as while it removes an object.
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (*ENDING_SIGNALS, signal.SIGALRM)}
    # One that is ignored, as under nohup, stays so.
    after = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in after:
        signal.signal(number, interrupt)
    _blocks.append(came)
    try:
        yield came
    except BaseException as error:
        if not came or isinstance(error, SystemExit):
            raise
        # Another one would only disturb the end.
        after = dict.fromkeys(after, disregard)
        raise KeyboardInterrupt from error
    finally:
        _blocks.pop()
        if came:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in after.items():
            signal.signal(number, handler)


def heed_interruption() -> None:
    """Raise KeyboardInterrupt once a signal has come, where a library may have kept it to itself.

    traits, with which Nipype copies its nodes, drops every exception and leaves the copy
    incomplete.
    """
    if any(_blocks):
        raise KeyboardInterrupt


def disregard(*_: object) -> None:
    """Handle a signal by doing nothing; programs that the process starts heed it all the same."""


@contextmanager
def signals_held(*numbers: int) -> Iterator[None]:
    """Let signals wait until the block ends; a process that is started in it holds them as well.

    Parameters
    ----------
    numbers : of the signals
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
