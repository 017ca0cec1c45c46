"""The numbers in ``.bval`` and ``.bvec`` files, however a converter or an editor left them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scsnet_bids.arrays import FloatArray
from scsnet_bids.errors import GradientError
from scsnet_bids.files import read_bytes

LONGEST_QUOTE = 12


def read_bvals(path: Path, image_path: Path) -> FloatArray:
    """Read b-values in a row or a column.

    Parameters
    ----------
    path : text file, numbers apart by blanks, tabs, commas or line ends
    image_path : the image they belong to, for messages

    Returns
    -------
    (n,) float array as written, s/mm2

    Raises
    ------
    GradientError
        If the file is missing or holds anything but numbers.
    """
    return np.array([value for row in _read_rows(path, image_path) for value in row])


def read_bvecs(path: Path, image_path: Path) -> FloatArray:
    """Read b-vectors in three rows (FSL's way, which wins for 3 x 3) or three columns.

    Parameters
    ----------
    path : text file, numbers apart by blanks, tabs or commas
    image_path : the image they belong to, for messages

    Returns
    -------
    (n, 3) float array as written

    Raises
    ------
    GradientError
        If the file is missing, holds anything but numbers, or has another shape.
    """
    rows = _read_rows(path, image_path)
    lengths = sorted({len(row) for row in rows})
    if len(lengths) == 1 and len(rows) == 3:
        return np.array(rows).T
    if lengths == [3]:
        return np.array(rows)
    raise GradientError(
        f"b-vectors need three rows of equal length, or three columns: {path} has {len(rows)} "
        f"rows of {' or '.join(map(str, lengths)) or 'no'} numbers. Convert the series again."
    )


def _read_rows(path: Path, image_path: Path) -> list[list[float]]:
    """Read the numbers of a text file, one list per line that is not blank."""
    try:
        raw = read_bytes(path)
    except OSError as error:
        raise GradientError(
            f"A diffusion series needs b-values and b-vectors: {path} is missing or unreadable "
            f"({error}), and {image_path.name} inherits no other. Fetch it, or convert the series "
            "again."
        ) from error
    except ValueError as error:
        raise _not_numbers(path, str(error)) from error
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    lines = raw.decode(encoding, errors="replace").replace(",", " ").splitlines()
    return [_read_row(line, path) for line in lines if line.strip()]


def _read_row(line: str, path: Path) -> list[float]:
    """Read the numbers of a line."""
    row = []
    for word in line.split():
        try:
            row.append(float(word))
        except ValueError as error:
            # A link may lead anywhere, so that little of what lies there is repeated.
            raise _not_numbers(path, f"{word[:LONGEST_QUOTE]!r} is none") from error
    return row


def _not_numbers(path: Path, found: str) -> GradientError:
    """Make the error of a file that holds something else."""
    return GradientError(
        f"A gradient file must hold numbers only: {path} does not ({found}). Convert the series "
        "again."
    )
