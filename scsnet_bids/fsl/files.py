"""What FSL wants to know of a series, in its own words, and how its results are read.

FSL is given files that are stored toward the patient's left, front and head (``LAS``), whatever
the source was stored like: then FSL's coordinates are voxels times their size, its sign rule for
b-vectors changes nothing, and slices count from the lowest, as they do inside this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scsnet_bids.arrays import FloatArray
from scsnet_bids.errors import ImageError, InputDataError, ScsnetError
from scsnet_bids.images import Grid, Image, read_image
from scsnet_bids.runs import PhaseEncoding, phase_encoding

STORED_AS_LAS = np.array([[0.0, 1.0], [1.0, -1.0], [2.0, 1.0]])
ANY_READOUT_S = 0.05
"""Where nobody says: it scales the field in Hz, and cancels out of every displacement."""
ACCEPTED_READOUT_S = (0.001, 0.5)
SAME_TIME_S = 0.001
"""Slices that were acquired closer in time than this were acquired together."""


@dataclass(frozen=True, eq=False)
class Acquisition:
    """How a series was read out.

    Attributes
    ----------
    phase : axis and direction of the phase encoding
    readout_s : total readout time
    slice_time_s : (k,) when each slice was acquired, from the lowest; None where nobody says
    """

    phase: PhaseEncoding
    readout_s: float = ANY_READOUT_S
    slice_time_s: FloatArray | None = None


def read_acquisition(metadata: Mapping[str, Any], grid: Grid) -> Acquisition:
    """Take from a sidecar what FSL wants to know.

    Parameters
    ----------
    metadata : ``PhaseEncodingDirection``, ``TotalReadoutTime``, ``SliceTiming`` and
        ``SliceEncodingDirection``; what is missing has a harmless default
    grid : of the series

    Returns
    -------
    Acquisition

    Raises
    ------
    InputDataError
        If the readout time is impossible, or the slice times are not one number per slice.
    """
    readout_s = metadata.get("TotalReadoutTime", ANY_READOUT_S)
    shortest, longest = ACCEPTED_READOUT_S
    if type(readout_s) not in (int, float) or not shortest <= readout_s <= longest:
        raise InputDataError(
            f"TotalReadoutTime must lie between {shortest:g} and {longest:g} s: the sidecar says "
            f"{readout_s!r}. Correct or remove it."
        )
    slice_time_s = _slice_times(metadata, grid)
    return Acquisition(phase_encoding(metadata, grid), float(readout_s), slice_time_s)


def acquisition_row(acquisition: Acquisition) -> str:
    """Write a line of ``acqparams.txt``: vector of the phase encoding, readout time.

    Where nobody says which way round the phase was encoded, eddy alone does as well with either.

    >>> acquisition_row(Acquisition(PhaseEncoding(1, 1), 0.0646))
    '0 -1 0 0.0646'
    >>> acquisition_row(Acquisition(PhaseEncoding(0, -1)))
    '-1 0 0 0.05'
    """
    axis, sign = acquisition.phase
    vector = [0, 0, 0]
    vector[axis] = int((sign or 1) * STORED_AS_LAS[axis, 1])
    return f"{vector[0]} {vector[1]} {vector[2]} {acquisition.readout_s:g}"


def slice_groups(slice_time_s: FloatArray) -> list[list[int]]:
    """List which slices were acquired together, in the order of time.

    Parameters
    ----------
    slice_time_s : (k,) when each slice was acquired

    Returns
    -------
    list of lists of slices, all of one length; empty where lengths differ, as with a number of
    slices that the multiband factor does not divide: FSL's tools take no such list

    >>> slice_groups(np.array([0.0, 0.2, 0.4, 0.0, 0.2, 0.4]))
    [[0, 3], [1, 4], [2, 5]]
    >>> slice_groups(np.array([0.0, 0.2, 0.4, 0.0, 0.2]))
    []
    """
    order = np.argsort(slice_time_s, kind="stable")
    starts = np.flatnonzero(np.diff(slice_time_s[order]) > SAME_TIME_S) + 1
    groups = [sorted(int(k) for k in group) for group in np.split(order, starts)]
    return groups if len({len(group) for group in groups}) == 1 else []


def topup_config(shape: Sequence[int]) -> str:
    """Name the settings of topup: those that halve the image need even numbers of voxels.

    >>> topup_config((96, 48, 14)), topup_config((96, 48, 15)), topup_config((95, 48, 14))
    ('b02b0.cnf', 'b02b0_1.cnf', 'b02b0_1.cnf')
    """
    return "b02b0_1.cnf" if any(n % 2 for n in shape[:3]) else "b02b0.cnf"


def stored_for_fsl(grid: Grid) -> Grid:
    """Return a grid in the storage order that FSL's coordinates follow without a flip."""
    return replace(grid, storage=STORED_AS_LAS)


def read_result(path: Path, shape: tuple[int, ...]) -> Image:
    """Read an image that FSL has written.

    Parameters
    ----------
    path : file
    shape : that it must have, in inner order

    Returns
    -------
    Image

    Raises
    ------
    ScsnetError
        If it is missing or not as expected.
    """
    try:
        image = read_image(path)
    except ImageError as error:
        raise unexpected(path) from error
    if image.data.shape != shape or not np.isfinite(image.data).all():
        raise unexpected(path)
    return image


def read_numbers(path: Path, n_rows: int, n_titles: int) -> FloatArray:
    """Read a table that FSL has written.

    Parameters
    ----------
    path : file
    n_rows : that it must have
    n_titles : lines of words above them

    Returns
    -------
    (n_rows, columns) float array

    Raises
    ------
    ScsnetError
        If it is missing or not as expected.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[n_titles:]
        values = np.array([line.split() for line in lines if line.strip()], dtype=float)
    except (OSError, ValueError) as error:
        raise unexpected(path) from error
    if values.ndim != 2 or len(values) != n_rows or values.shape[1] < 2:
        raise unexpected(path)
    return values


def unexpected(path: Path) -> ScsnetError:
    """Say that FSL has not written what it should."""
    return ScsnetError(
        f"FSL must write a result for every volume and slice: {path} is missing or not as "
        "expected. See the log beside it; another version of FSL may help."
    )


def _slice_times(metadata: Mapping[str, Any], grid: Grid) -> FloatArray | None:
    """(k,) times from the lowest slice; None where the sidecar has none of these slices."""
    times, direction = metadata.get("SliceTiming"), str(metadata.get("SliceEncodingDirection", "k"))
    stored_axis, sign = grid.storage[2]
    if times is None or "ijk".find(direction[:1]) != stored_axis:
        return None
    try:
        slice_time_s = np.array(times, dtype=float)
    except (TypeError, ValueError):
        slice_time_s = np.array(np.nan)
    if slice_time_s.shape != (grid.shape[2],) or not np.isfinite(slice_time_s).all():
        raise InputDataError(
            f"SliceTiming must hold one number per slice: the image has {grid.shape[2]} slices, "
            f"the sidecar says {str(times)[:60]}. Correct or remove it."
        )
    from_the_top = (sign < 0) != direction.endswith("-")
    return slice_time_s[::-1] if from_the_top else slice_time_s
