"""One job at a time per run: two that write the same files are kept apart.

Every job locks one byte per run in a file of the folder that it writes to. Such locks end with the
process that holds them, however it ends, are not inherited by workers, and are what NFS itself
offers between machines. Where a file system has none (some parallel ones are mounted without), a
warning says so and the job goes on.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from scsnet_bids.errors import OutputError

LOCK_NAME = ".scsnet-bids.lock"

_log = logging.getLogger(__name__)


@contextmanager
def claimed(folder: Path, names: Collection[str]) -> Iterator[set[str]]:
    """Claim names in a folder until the block ends or the process dies.

    Parameters
    ----------
    folder : that the names are written to; it must exist
    names : of runs

    Yields
    ------
    set of the names that another process has claimed

    Raises
    ------
    OutputError
        If the lock file cannot be written.
    """
    try:
        file = (folder / LOCK_NAME).open("a")
    except OSError as error:
        raise OutputError(
            f"The output and work folders must be writable: {folder} is not ({error}). Correct "
            "its permissions, or choose another."
        ) from error
    with file:
        yield _claim(file.fileno(), folder, names)


def _claim(descriptor: int, folder: Path, names: Collection[str]) -> set[str]:
    """Lock one byte per name and return the names that are taken."""
    taken = set()
    for name in names:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte_of(name))
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                _log.warning(
                    "%s cannot lock files (%s): make sure that no other job processes the same "
                    "participants.",
                    folder,
                    error,
                )
                return set()
            taken.add(name)
    return taken


def _byte_of(name: str) -> int:
    """Choose the byte of a name, far from that of any other."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
