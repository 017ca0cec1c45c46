"""What a value owes to borders that are not known exactly.

Each border of the placed regions is moved by its typical error, one at a time; what a value changes
by is its uncertainty from that border. The errors are common to the slices, because the network
misplaces a border alike in all of them: they do not average out over the cord.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import ndimage

from scsnet_bids.arrays import FloatArray
from scsnet_bids.unmixing.sharpening import Borders, PlacedRegions

LEFT_MM, BACK_MM = 0.2, 0.2
"""Error of the place of the cord."""
OUTLINE = 1.0
"""Error of the outline, in logits of the sharpened probability."""
INNER_LEFT_MM, INNER_BACK_MM = 0.2, 0.3
"""Error of the place of the inner borders in the cord."""
MORE_GRAY = 1.0
"""Error of the border of gray matter, in logits of the sharpened probability."""

SMALL = 1e-4


def alternative_shares(regions: PlacedRegions, borders: Borders) -> list[FloatArray]:
    """Place the regions again with each border moved by its typical error.

    Parameters
    ----------
    regions : as the network gave them
    borders : of :func:`scsnet_bids.unmixing.sharpening.fit_borders`

    Returns
    -------
    list of (i, j, k, 9) float arrays
    """
    regions = regions.cropped()
    sharp = regions.sharpened(borders)
    inner: list[Callable[[FloatArray], FloatArray]] = [
        lambda p: _inner_moved(p, 0.0, INNER_LEFT_MM / sharp.plane.spacing_mm[0]),
        lambda p: _inner_moved(p, INNER_BACK_MM / sharp.plane.spacing_mm[1], 0.0),
    ]
    return [
        sharp.shares((LEFT_MM, 0.0)),
        sharp.shares((0.0, BACK_MM)),
        regions.sharpened(borders.moved(OUTLINE)).shares(),
        *(replace(sharp, probability=moved(sharp.probability)).shares() for moved in inner),
        regions.sharpened(borders.moved(0.0, MORE_GRAY)).shares(),
    ]


def _inner_moved(probability: FloatArray, rows: float, columns: float) -> FloatArray:
    """Move all borders inside the cord, and leave its outline."""
    moved = ndimage.shift(probability[:, 1:], (0, 0, rows, columns), order=1)
    total = moved.sum(axis=1, keepdims=True)
    # Where nothing has moved to, at the edge of the cord, the region stays.
    inside = np.where(total > SMALL, moved, probability[:, 1:])
    return _in_cord(inside, probability)


def _in_cord(inside: FloatArray, probability: FloatArray) -> FloatArray:
    """Let regions (k, 8, rows, columns) share the cord of a probability (k, 9, rows, columns)."""
    total = inside.sum(axis=1, keepdims=True)
    cord = np.where(total > 0, 1 - probability[:, :1], 0)
    regions = cord * inside / np.where(total > 0, total, 1)
    return np.concatenate([1 - regions.sum(axis=1, keepdims=True), regions], axis=1)
