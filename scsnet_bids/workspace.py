"""The work folder: whose it is, and how it is cleared.

Nipype keeps results as pickles, and loading a pickle runs what its author put into it. So a work
folder is used only where everything in it belongs to whoever runs the command.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from scsnet_bids.errors import OutputError

LONGEST_FOLDER = 70
"""Bytes of a path in which a socket can still have its name; the system allows 107 in all."""


def refuse_foreign_results(work_dir: Path, folders: Iterable[Path]) -> None:
    """Make sure that the intermediate results to be loaded are one's own.

    Parameters
    ----------
    work_dir : writable folder
    folders : below it; those that do not exist are passed over

    Raises
    ------
    OutputError
        If anything in them belongs to another user.
    """
    # Some network drives and containers show other numbers than the process has.
    with tempfile.TemporaryFile(dir=work_dir) as probe:
        own = os.fstat(probe.fileno()).st_uid
    for path in _everything(work_dir, folders):
        if path.lstat().st_uid != own:
            raise OutputError(
                f"Intermediate results must be your own: {path} was written by user number "
                f"{path.lstat().st_uid}, and loading it would run that user's code. Choose "
                "another folder with --work-dir."
            )


def need_temporary_folder(work_dir: Path) -> None:
    """Make sure that there is a folder for temporary files; the work folder serves for want of any.

    Parameters
    ----------
    work_dir : writable folder

    Raises
    ------
    OutputError
        If there is none, and the path of the work folder is too long for the sockets in it.
    """
    with suppress(FileNotFoundError):
        tempfile.gettempdir()
        return
    if len(os.fsencode(work_dir)) > LONGEST_FOLDER:
        raise OutputError(
            "A folder for temporary files is needed: neither TMPDIR nor /tmp is writable, and "
            f"the path of {work_dir} is too long to serve. Set TMPDIR to a writable folder."
        )
    tempfile.tempdir = os.environ["TMPDIR"] = str(work_dir)


def remove_results(work_dir: Path, folders: Iterable[Path]) -> None:
    """Remove intermediate results, and the folders around them that become empty.

    Parameters
    ----------
    work_dir : the outermost folder that may be removed
    folders : below it
    """
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        _remove_empty(folder.parent, work_dir)


def _remove_empty(folder: Path, last: Path) -> None:
    """Remove empty folders upward."""
    with suppress(OSError):
        while folder.is_relative_to(last):
            folder.rmdir()
            folder = folder.parent


def _everything(work_dir: Path, folders: Iterable[Path]) -> Iterator[Path]:
    """List folders, what leads to them and what lies in them, links not followed."""
    for folder in folders:
        if not os.path.lexists(folder):
            continue
        yield from (path for path in (folder, *folder.parents) if work_dir in path.parents)
        for place, below, files in os.walk(folder):
            yield from (Path(place, name) for name in (*below, *files))
