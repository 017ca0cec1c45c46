"""Files that appear under their name only when they are complete.

Array jobs write the same dataset files at the same time, and jobs get killed: a reader must meet
either the old file or the whole new one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from scsnet_bids.errors import OutputError


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
    # Not the process number: in containers on two nodes it is often the same.
    partial = path.with_name(f".{uuid4().hex[:12]}_{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise OutputError(
            f"Outputs must be writable: {path} cannot be written ({error}). Check free space and "
            "permissions, or choose another output folder."
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
