"""One smooth path through the slices, from several candidates in each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scsnet_bids.arrays import FloatArray

FULL_SCORE_MM2 = 60.0
"""Summed cord probability from which a candidate is as good as any."""

TOLERANCE_MM = 1.5
TOLERANCE_SLOPE = 0.35
"""A step may be 1.5 mm plus 0.35 mm per mm of height before it costs a third of a candidate."""

STEP_COST = 1 / 3


@dataclass(frozen=True)
class Candidate:
    """Something like a cord in one slice.

    Attributes
    ----------
    slice_index : k
    centre_mm : (left, posterior)
    score_mm2 : summed cord probability
    """

    slice_index: int
    centre_mm: tuple[float, float]
    score_mm2: float


def choose_path(candidates: list[Candidate], n_slices: int, slice_spacing_mm: float) -> FloatArray:
    """Choose at most one candidate per slice so that they are large and follow each other smoothly.

    The best chain is found exactly, by dynamic programming over candidates in the order of their
    height. A candidate is worth its score (up to 60 mm2); a step costs the square of its length
    over what is tolerated between slices that far apart. Leaving a slice out costs nothing but its
    candidate.

    Parameters
    ----------
    candidates : of all slices, any order
    n_slices : slices of the stack
    slice_spacing_mm : distance between neighbouring slices

    Returns
    -------
    (k, 2) centre (left, posterior) in mm; nan where no candidate was chosen

    Examples
    --------
    A small wrong candidate beside the cord is left out:

    >>> cord = [Candidate(k, (10.0, 20.0), 70.0) for k in range(3)]
    >>> choose_path([*cord[::2], Candidate(1, (40.0, 20.0), 30.0)], 3, 5.0)[:, 0]
    array([10., nan, 10.])
    """
    path = np.full((n_slices, 2), np.nan)
    nodes = sorted(candidates, key=lambda candidate: candidate.slice_index)
    if not nodes:
        return path
    best, previous = _best_chains(nodes, slice_spacing_mm)
    node = int(np.argmax(best))
    while node >= 0:
        path[nodes[node].slice_index] = nodes[node].centre_mm
        node = int(previous[node])
    return path


def fill_gaps(path_mm: FloatArray) -> FloatArray:
    """Interpolate a path between slices that have a place; beyond the first and last it stays nan.

    Parameters
    ----------
    path_mm : (k, 2), nan where unknown

    Returns
    -------
    (k, 2)
    """
    known = np.flatnonzero(np.isfinite(path_mm).all(axis=1))
    if known.size == 0:
        return path_mm.copy()
    index = np.arange(len(path_mm))
    columns = [
        np.interp(index, known, path_mm[known, axis], left=np.nan, right=np.nan) for axis in (0, 1)
    ]
    return np.stack(columns, axis=1)


def _best_chains(
    nodes: list[Candidate], spacing_mm: float
) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """Worth of the best chain ending in each candidate, and the one before it (-1: none)."""
    height = np.array([node.slice_index for node in nodes]) * spacing_mm
    place = np.array([node.centre_mm for node in nodes])
    worth = np.minimum(np.array([node.score_mm2 for node in nodes]) / FULL_SCORE_MM2, 1)
    best, previous = worth.copy(), np.full(len(nodes), -1)
    for n in range(1, len(nodes)):
        rise = height[n] - height[:n]
        length = np.hypot(*(place[n] - place[:n]).T)
        cost = STEP_COST * (length / (TOLERANCE_MM + TOLERANCE_SLOPE * rise)) ** 2
        chain = np.where(rise > 0, best[:n] - cost, -np.inf)
        if chain.max() > 0:
            best[n], previous[n] = worth[n] + chain.max(), chain.argmax()
    return best, previous
