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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from scsnet_bids.errors import OutputError

LOCK_NAME = ".scsnet-bids.lock"

_log = logging.getLogger(__name__)
_opened: dict[Path, IO[str]] = {}
"""Lock files that this process has open, once each: closing a file ends all its locks on it."""


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
    with _opened_once(folder / LOCK_NAME) as descriptor:
        taken = _claim(descriptor, folder, names)
        yield taken
        _release(descriptor, set(names) - taken)


@contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """Wait until no other process does the same, and keep others waiting until the block ends.

    Parameters
    ----------
    folder : that is written to; it is made if need be
    name : of what is done

    Raises
    ------
    OutputError
        If the lock file cannot be written.
    """
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    with _opened_once(folder / LOCK_NAME) as descriptor:
        done = f"alone: {name}"  # not the byte of a run that has the same name
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, _byte_of(done))
        except OSError as error:
            _warn_without_locks(folder, error)
        yield
        _release(descriptor, [done])


@contextmanager
def _opened_once(path: Path) -> Iterator[int]:
    """Open a file to be locked, or lend the one that is open already."""
    if path in _opened:
        yield _opened[path].fileno()
        return
    with _open(path) as file:
        _opened[path] = file
        try:
            yield file.fileno()
        finally:
            del _opened[path]


def _open(path: Path) -> IO[str]:
    """Open a file to be locked."""
    try:
        return path.open("a")
    except OSError as error:
        raise OutputError(
            f"The output and work folders must be writable: {path.parent} is not ({error}). "
            "Correct its permissions, or choose another."
        ) from error


def _claim(descriptor: int, folder: Path, names: Collection[str]) -> set[str]:
    """Lock one byte per name and return the names that are taken."""
    taken = set()
    for name in names:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte_of(name))
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                _warn_without_locks(folder, error)
                return set()
            taken.add(name)
    return taken


def _release(descriptor: int, names: Collection[str]) -> None:
    """Unlock the bytes of names; after an error, the end of the file's use does so."""
    with suppress(OSError):
        for name in names:
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, _byte_of(name))


def _warn_without_locks(folder: Path, error: OSError) -> None:
    """Say that a file system has no locks."""
    _log.warning(
        "%s cannot lock files (%s): make sure that no other job processes the same participants.",
        folder,
        error,
    )


def _byte_of(name: str) -> int:
    """Choose the byte of a name, far from that of any other."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
