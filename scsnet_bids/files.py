"""Files read with care, and written so that they appear under their name only when complete.

What is read comes from anywhere: a link is followed wherever it leads, but what lies there must be
a plain file of a sensible size, and content that is not fetched yet is named as such.

What is written is met by others: array jobs write the same dataset files at the same time, and
jobs get killed. A reader must meet either the old file or the whole new one.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from scsnet_bids.errors import OutputError

LARGEST_TEXT_BYTES = 16 * 2**20
"""Sidecars and gradient files are a thousand times smaller than this."""
POINTERS = (b"/annex/objects/", b"version https://git-lfs")
"""How a file begins that only names its content, kept elsewhere by git-annex or git LFS."""

TEMPORARY = r"\.[0-9a-f]{12}_"
"""How a name begins until its file or folder is complete."""
LEFTOVER_S = 600
"""No file takes longer to write, s."""


def check_content(path: Path) -> None:
    """Make sure that a path leads to a plain file whose content is here.

    Parameters
    ----------
    path : file to read; links are followed, also out of the dataset

    Raises
    ------
    OSError
        If there is no such file, its content is not fetched, or it is a folder, pipe or device.
        The message is part of a sentence.
    """
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise FileNotFoundError(_explain_absence(path)) from error
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is a folder, a pipe or a device")
    with path.open("rb") as file:
        if file.read(32).startswith(POINTERS):
            raise FileNotFoundError(_not_fetched(path))


def read_text(path: Path, encoding: str = "utf-8-sig") -> str:
    """Read a small text file.

    Parameters
    ----------
    path : file to read
    encoding : of its text

    Returns
    -------
    str

    Raises
    ------
    OSError
        As :func:`check_content`, or if it cannot be read.
    ValueError
        If it is larger than ``LARGEST_TEXT_BYTES``, or not text.
    """
    return read_bytes(path).decode(encoding)


def read_bytes(path: Path) -> bytes:
    """Read a small file; see :func:`read_text`."""
    check_content(path)
    with path.open("rb") as file:
        content = file.read(LARGEST_TEXT_BYTES + 1)
    if len(content) > LARGEST_TEXT_BYTES:
        raise ValueError(f"it is larger than {LARGEST_TEXT_BYTES / 2**20:.0f} MiB")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; a number that is not finite becomes None.

    Parameters
    ----------
    path : file to read

    Returns
    -------
    dict

    Raises
    ------
    OSError, ValueError
        As :func:`read_text`, or if it holds no JSON object, or one nested without end.
    """
    text = read_text(path)
    try:
        content = json.loads(text, parse_constant=lambda _: None, parse_float=_finite)
        json.dumps(content, ensure_ascii=False).encode()  # half characters cannot be written again
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("it holds no object, {...}")  # noqa: TRY004 (one kind for all bad content)
    return content


def remove_leftovers(folder: Path) -> None:
    """Remove what killed jobs left of files that all jobs write, such as those of the dataset.

    Parameters
    ----------
    folder : need not exist; what is younger than ``LEFTOVER_S`` may still be written, and stays
    """
    for path in folder.glob(".*_*"):
        with suppress(OSError):
            if re.match(TEMPORARY, path.name) and time.time() - path.stat().st_mtime > LEFTOVER_S:
                path.unlink()


def remove_half_written(folder: Path, prefix: str, entities: Collection[str]) -> None:
    """Remove what a killed job was writing for a run that no other job is processing.

    Parameters
    ----------
    folder : output folder of the participant; may be absent
    prefix : how the names of the run begin, such as ``sub-01``
    entities : keys that continue the prefix of another run, such as ``run``
    """
    name = re.compile(rf"{TEMPORARY}{re.escape(prefix)}_(?!(?:{'|'.join(entities)})-)")
    for path in [path for path in folder.rglob(f".*_{prefix}_*") if name.match(path.name)]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """Name a file or folder until it is complete, as nobody else does, beside its place."""
    # Not the process number: in containers on two nodes it is often the same.
    return path.with_name(f".{uuid4().hex[:12]}_{path.name}")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Lend a temporary name in the folder of a file, and rename it at the end.

    Parameters
    ----------
    path : file to write; its folder is made if need be

    Yields
    ------
    Path to write to; it has the extension of ``path``

    Raises
    ------
    OutputError
        If the folder or the file cannot be written.
    """
    partial = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise OutputError(
            f"Outputs must be writable: {path} cannot be written ({error}). Check free space and "
            "permissions, or choose another folder."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def write_text(path: Path, text: str) -> Path:
    """Write a UTF-8 text file, whole or not at all.

    Parameters
    ----------
    path : file to write
    text : its content

    Returns
    -------
    Path of the file

    Raises
    ------
    OutputError
        If the folder or the file cannot be written.
    """
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
    return path


def _finite(word: str) -> float | None:
    """Read a number of a JSON file."""
    value = float(word)
    return value if math.isfinite(value) else None


def _explain_absence(path: Path) -> str:
    """Say why a file is not there."""
    if not path.is_symlink():
        return "there is no such file"
    target = path.readlink()
    if {"annex", "objects"} <= set(target.parts):
        return _not_fetched(path)
    return f"it is a link to {target}, which does not exist"


def _not_fetched(path: Path) -> str:
    """Say how to get content that git-annex or git LFS keeps elsewhere."""
    return f"its content is not fetched yet: run datalad get {shlex.quote(str(path))}"
