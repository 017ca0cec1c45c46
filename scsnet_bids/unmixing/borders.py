"""Uncertainty of region values that comes from uncertain borders.

Each border of the placed regions is moved by its typical error, one at a time and both ways: moved
into fluid, a region changes more than moved into the cord, and of the two sides only one moves into
fluid. What a value changes by is its uncertainty from that border. The errors are common to the
slices, because the network misplaces a border alike in all of them: they do not average out over
the cord.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from scsnet_bids.arrays import FloatArray
from scsnet_bids.settings import B0, B0_AND_DWI
from scsnet_bids.unmixing.sharpening import Borders, PlacedRegions

SMALL = 1e-4


@dataclass(frozen=True)
class BorderErrors:
    """How wrong each border typically is.

    Attributes
    ----------
    place_mm : place of the cord (left, posterior)
    outline : of the cord, in logits of the sharpened probability
    inner_mm : place of the inner borders in the cord (left, posterior)
    more_gray : border of gray matter, in logits of the network's probability
    """

    place_mm: tuple[float, float]
    outline: float
    inner_mm: tuple[float, float]
    more_gray: float


TYPICAL_ERRORS = {
    B0: BorderErrors((0.15, 0.1), 1.5, (0.15, 0.25), 0.33),
    B0_AND_DWI: BorderErrors((0.1, 0.07), 1.5, (0.2, 0.2), 0.17),
}
"""By what the network sees; see ``docs/experiments.md``."""


def alternative_regions(
    regions: PlacedRegions, borders: Borders, errors: BorderErrors
) -> Iterator[PlacedRegions]:
    """Place the regions again with each border moved by its typical error, both ways.

    Parameters
    ----------
    regions : refined, not yet sharpened
    borders : of :func:`scsnet_bids.unmixing.sharpening.fit_borders`
    errors : typical ones

    Yields
    ------
    PlacedRegions, sharpened: every border moved one way, then every border the other way
    """
    sharp = regions.sharpened(borders)
    for way in (1.0, -1.0):
        yield from _moved_borders(regions, sharp, borders, errors, way)


def _moved_borders(
    regions: PlacedRegions,
    sharp: PlacedRegions,
    borders: Borders,
    errors: BorderErrors,
    way: float,
) -> Iterator[PlacedRegions]:
    """Move one border after the other, one way (1) or the other (-1)."""
    for shift_mm in np.diag(errors.place_mm):
        yield replace(sharp, b0_to_dwi_mm=sharp.b0_to_dwi_mm + way * shift_mm)
    yield regions.sharpened(borders.moved(way * errors.outline))
    for shift_mm in np.diag(errors.inner_mm):
        yield _inner_moved(sharp, way * shift_mm)
    yield regions.sharpened(borders.moved(0.0, way * errors.more_gray))


def _inner_moved(regions: PlacedRegions, shift_mm: FloatArray) -> PlacedRegions:
    """Move all borders inside the cord (left, posterior), and leave its outline."""
    columns, rows = shift_mm / regions.plane.spacing_mm
    first = regions.probability
    moved = ndimage.shift(first[:, 1:], (0, 0, rows, columns), order=1)
    total = moved.sum(axis=1, keepdims=True)
    # Where nothing has moved to, at the edge of the cord, the region stays.
    inside = np.where(total > SMALL, moved, first[:, 1:])
    return replace(regions, probability=_in_cord(inside, first))


def _in_cord(inside: FloatArray, probability: FloatArray) -> FloatArray:
    """Let regions (k, 8, rows, columns) share the cord of a probability (k, 9, rows, columns)."""
    total = inside.sum(axis=1, keepdims=True)
    cord = np.where(total > 0, 1 - probability[:, :1], 0)
    regions = cord * inside / np.where(total > 0, total, 1)
    return np.concatenate([1 - regions.sum(axis=1, keepdims=True), regions], axis=1)
