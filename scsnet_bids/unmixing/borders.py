"""What a value owes to borders that are not known exactly.

Each border of the placed regions is moved by its typical error, one at a time and both ways: moved
into fluid, a region changes more than moved into the cord, and of the two sides only one moves into
fluid. What a value changes by is its uncertainty from that border. The errors are common to the
slices, because the network misplaces a border alike in all of them: they do not average out over
the cord.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy import ndimage

from scsnet_bids.arrays import FloatArray
from scsnet_bids.unmixing.sharpening import Borders, PlacedRegions

LEFT_MM, BACK_MM = 0.15, 0.1
"""Error of the place of the cord."""
OUTLINE = 1.5
"""Error of the outline, in logits of the sharpened probability."""
INNER_LEFT_MM, INNER_BACK_MM = 0.2, 0.15
"""Error of the place of the inner borders in the cord."""
MORE_GRAY = 0.5
"""Error of the border of gray matter, in logits of the sharpened probability."""

SMALL = 1e-4


def alternative_regions(regions: PlacedRegions, borders: Borders) -> Iterator[PlacedRegions]:
    """Place the regions again with each border moved by its typical error, both ways.

    Parameters
    ----------
    regions : refined, not yet sharpened
    borders : of :func:`scsnet_bids.unmixing.sharpening.fit_borders`

    Yields
    ------
    PlacedRegions, sharpened: every border moved one way, then every border the other way
    """
    sharp = regions.sharpened(borders)
    for way in (1.0, -1.0):
        yield from _moved_borders(regions, sharp, borders, way)


def _moved_borders(
    regions: PlacedRegions, sharp: PlacedRegions, borders: Borders, way: float
) -> Iterator[PlacedRegions]:
    """Move one border after the other, one way (1) or the other (-1)."""
    spacing_mm = sharp.plane.spacing_mm
    for shift_mm in ((LEFT_MM, 0.0), (0.0, BACK_MM)):
        yield replace(sharp, b0_to_dwi_mm=sharp.b0_to_dwi_mm + way * np.array(shift_mm))
    yield regions.sharpened(borders.moved(way * OUTLINE))
    for columns, rows in ((INNER_LEFT_MM / spacing_mm[0], 0), (0, INNER_BACK_MM / spacing_mm[1])):
        moved = _inner_moved(sharp.probability, way * rows, way * columns)
        yield replace(sharp, probability=moved)
    yield regions.sharpened(borders.moved(0.0, way * MORE_GRAY))


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
