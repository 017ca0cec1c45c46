"""Whether what was found in a run is a cord: size, continuity along z, and the run as a whole.

A single slice cannot tell a cord from something round in a bright ring. A run can: a cord goes on
in the next slice, keeps its size, and is found surely in many slices. The limits were chosen on
synthetic runs with and without a cord (``tests/benchmarks/no_cord.py`` prints the rates and says
what else was in view).
"""

from __future__ import annotations

import numpy as np

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.network.path import TOLERANCE_MM, TOLERANCE_SLOPE

LEAST_CONFIDENCE = 0.7
"""A mask that the network expects to overlap less than this with the truth is not believed."""

SMALLEST_TO_MEDIAN, LARGEST_TO_MEDIAN = 0.3, 1.9
"""A mask outside these multiples of the run's median area is not believed. A compressed cord keeps
about half of its area, and its mask may keep less."""

REACH_SLICES = 2
"""A cord may be missing in one slice and go on in the next."""

SURE, ENOUGH = 0.75, 0.06
"""A run is supported if its confidences exceed the first by the second, on average over all of its
slices: phantoms do so by 0.15 to 0.19, synthetic runs without a cord by 0.01 at most. A sure cord
in two fifths of the slices is enough."""


def judge_run(
    area_mm2: FloatArray, centre_mm: FloatArray, confidence: FloatArray, slice_spacing_mm: float
) -> tuple[BoolArray, FloatArray]:
    """Decide in which slices of a run to believe the masks, and how far.

    Parameters
    ----------
    area_mm2 : (k,) area of the mask, 0 where there is none
    centre_mm : (k, 2) centre of the mask (left, posterior); nan where there is none
    confidence : (k,) Dice overlap that the network expects of each mask
    slice_spacing_mm : distance between neighbouring slices

    Returns
    -------
    (k,) bool, slices with a credible cord; (k,) confidence, lowered in all slices of a run that
    supports its finds too little, 0 where nothing was found

    Examples
    --------
    A find that goes on in no other slice is dropped:

    >>> place = np.array([[9.0, 9.0], [9.0, 9.0], [30.0, 9.0]])
    >>> judge_run(np.full(3, 80.0), place, np.full(3, 0.9), 5.0)[0]
    array([ True,  True, False])
    """
    found = (area_mm2 > 0) & (confidence >= LEAST_CONFIDENCE)
    if not found.any():
        return found, np.zeros(len(found))
    ratio = area_mm2 / np.median(area_mm2[found])
    found &= (ratio >= SMALLEST_TO_MEDIAN) & (ratio <= LARGEST_TO_MEDIAN)
    found = _continued(found, centre_mm, slice_spacing_mm)
    excess = np.clip(confidence - SURE, 0, None) * found
    support = min(1.0, float(excess.mean()) / ENOUGH)
    return found, confidence * support * found


def _continued(found: BoolArray, centre_mm: FloatArray, slice_spacing_mm: float) -> BoolArray:
    """(k,) bool: finds that have another nearby in the next slices; in one slice all of them."""
    if len(found) == 1:
        return found
    step = np.abs(np.subtract.outer(np.arange(len(found)), np.arange(len(found))))
    length_mm = np.linalg.norm(centre_mm[:, None] - centre_mm, axis=-1)  # (k, k), nan if not found
    tolerance_mm = TOLERANCE_MM + TOLERANCE_SLOPE * slice_spacing_mm * step
    near = (step > 0) & (step <= REACH_SLICES) & (length_mm <= tolerance_mm)
    return np.asarray(found & (near & found).any(axis=1))
