"""A cord that somebody drew, in the place of the curves of ``anatomy``.

The curves are a fit to one atlas. The shapes of cord and gray matter differ from person to person
in ways that a handful of numbers does not follow; drawings bring those in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from scsnet_bids.arrays import FloatArray
from scsnet_bids.regions import LABELS, Side, Tissue

LabelArray = npt.NDArray[np.int8]

LABEL_TABLE = np.array(
    [[LABELS[tissue, side] for tissue in Tissue] for side in (Side.RIGHT, Side.LEFT)]
)
"""(2, 4) labels of the tissues, of the right side and of the left."""
LEVELS = (2.5, 6.5)
"""Vertebral levels between which the drawn slices are spread; beyond, the last ones go on."""


@dataclass(frozen=True, eq=False)
class DrawnCord:
    """Cross-sections of one cord, symmetric about the midline.

    Attributes
    ----------
    tissue_share : (n, 4, rows, columns) float array in [0, 1], share of each pixel that each of
        ``Tissue`` fills, both sides together; slices from the head downward, rows from front to
        back, the cord in the middle
    pixel_mm : size of the pixels
    """

    tissue_share: FloatArray
    pixel_mm: float

    def label_points(self, left: FloatArray, back: FloatArray, level: float) -> LabelArray:
        """Tell the region of each point of the cross-section at a level.

        Parameters
        ----------
        left, back : (...) float arrays, mm from the middle
        level : vertebral, 5.0 in the middle of C5

        Returns
        -------
        (...) int8 array of region labels, 0 outside the cord
        """
        tissue = self._section(level)
        rows, columns = (n // 2 - 0.5 for n in tissue.shape[1:])
        places = [rows + back / self.pixel_mm, columns + left / self.pixel_mm]
        share = np.stack([map_coordinates(part, places, order=1) for part in tissue])
        inside = share.sum(axis=0) > 0.5
        sided = LABEL_TABLE[(left > 0).astype(int), share.argmax(axis=0)]
        return np.where(inside, sided, 0).astype(np.int8)

    def _section(self, level: float) -> FloatArray:
        """(4, rows, columns) shares at a level, between two slices."""
        last = len(self.tissue_share) - 1
        place = float(np.interp(level, LEVELS, (0, last)))
        below = min(int(place), max(last - 1, 0))
        part = place - below
        above = self.tissue_share[min(below + 1, last)]
        return np.asarray((1 - part) * self.tissue_share[below] + part * above)
