"""How well motion was found. Arrays in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scsnet_bids.arrays import FloatArray


@dataclass(frozen=True, eq=False)
class MotionScore:
    """How well the motion of one kind of volume was found.

    A displacement that is the same in all volumes of a slice is no error: the reference may lie
    anywhere. It is told apart, since whatever is compared with the truth has to follow it.

    Attributes
    ----------
    error_mm : RMS length of estimated minus true displacement, its mean per slice removed
    true_mm : RMS length of the true displacement, its mean per slice removed
    offset_mm : (k, 2) mean per slice of estimated minus true displacement
    """

    error_mm: float
    true_mm: float
    offset_mm: FloatArray


def score_motion(estimated_mm: FloatArray, true_mm: FloatArray) -> MotionScore:
    """Compare estimated with true displacements.

    Parameters
    ----------
    estimated_mm, true_mm : (n, k, 2) float arrays, of volumes of one kind

    Returns
    -------
    MotionScore
    """
    difference = estimated_mm - true_mm
    offset_mm = difference.mean(axis=0)
    return MotionScore(
        rms_length(difference - offset_mm), rms_length(true_mm - true_mm.mean(axis=0)), offset_mm
    )


def rms_length(vectors: FloatArray) -> float:
    """Root mean square length of (..., 2) vectors."""
    return float(np.sqrt((vectors**2).sum(axis=-1).mean()))
