"""The eight regions of the cord: the only table of names, sides, colours and mirror partners.

Left means the patient's left. The label of a region is also its channel in a probability array,
channel 0 being everything that is not cord.

>>> [region.label for region in REGIONS if region.side is Side.LEFT]
[1, 3, 5, 7]
>>> MIRROR[np.array([0, 1, 4, 8])]
array([0, 2, 3, 7])
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt


class Side(str, Enum):
    """Side of the patient; ``BOTH`` is the two sides taken together."""

    __str__ = str.__str__

    LEFT = "left"
    RIGHT = "right"
    BOTH = "both"


class Tissue(str, Enum):
    """What a region is made of, in the names that the region table uses."""

    __str__ = str.__str__

    LATERAL_COLUMN = "lateral_column"
    DORSAL_COLUMN = "dorsal_column"
    VENTRAL_COLUMN = "ventral_column"
    GRAY_MATTER = "gray_matter"


@dataclass(frozen=True)
class Region:
    """One of the eight regions.

    Attributes
    ----------
    label : value in a label image and channel in a probability array, 1 to 8
    tissue, side : which part of the cord
    abbreviation : short name for figures and look-up tables
    color : sRGB hex colour, distinguishable with any colour vision (Okabe-Ito hues)
    """

    label: int
    tissue: Tissue
    side: Side
    abbreviation: str
    color: str

    @property
    def name(self) -> str:
        """Name in tables and look-up tables, such as ``left_lateral_column``."""
        return f"{self.side}_{self.tissue}"

    @property
    def mirrored(self) -> Region:
        """The same tissue on the other side."""
        other = Side.RIGHT if self.side is Side.LEFT else Side.LEFT
        return next(r for r in REGIONS if r.tissue is self.tissue and r.side is other)


REGIONS: tuple[Region, ...] = (
    Region(1, Tissue.LATERAL_COLUMN, Side.LEFT, "LLC", "#0072B2"),
    Region(2, Tissue.LATERAL_COLUMN, Side.RIGHT, "RLC", "#56B4E9"),
    Region(3, Tissue.DORSAL_COLUMN, Side.LEFT, "LDC", "#D55E00"),
    Region(4, Tissue.DORSAL_COLUMN, Side.RIGHT, "RDC", "#E69F00"),
    Region(5, Tissue.VENTRAL_COLUMN, Side.LEFT, "LVC", "#009E73"),
    Region(6, Tissue.VENTRAL_COLUMN, Side.RIGHT, "RVC", "#8FD6B4"),
    Region(7, Tissue.GRAY_MATTER, Side.LEFT, "LGM", "#CC79A7"),
    Region(8, Tissue.GRAY_MATTER, Side.RIGHT, "RGM", "#F0E442"),
)
N_CLASSES = len(REGIONS) + 1
SHARE_TIE = 1e-5
"""Shares are stored with 16 significant bits: two this close are equal, one this close below a
limit has reached it."""
HALF = 0.5 - SHARE_TIE
"""Voxels that the cord fills to this share or more are cord."""

LABELS: dict[tuple[Tissue, Side], int] = {(r.tissue, r.side): r.label for r in REGIONS}
"""Label of a region, by its tissue and side."""

MIRROR: npt.NDArray[np.intp] = np.array([0] + [r.mirrored.label for r in REGIONS])
"""Label (or channel) of the mirror partner, by label; the background is its own."""


@dataclass(frozen=True)
class RegionGroup:
    """One or several regions that a table row speaks of.

    Attributes
    ----------
    region : name in the ``region`` column
    side : value of the ``side`` column
    labels : labels of the members
    """

    region: str
    side: Side
    labels: tuple[int, ...]


def _groups() -> tuple[RegionGroup, ...]:
    """List the eight regions, then each tissue, white matter, gray matter and cord by side."""
    kinds: list[tuple[str, tuple[Tissue, ...]]] = [(str(t), (t,)) for t in Tissue]
    white = tuple(t for t in Tissue if t is not Tissue.GRAY_MATTER)
    kinds += [("white_matter", white), ("cord", tuple(Tissue))]
    return tuple(
        RegionGroup(
            name,
            side,
            tuple(r.label for r in REGIONS if r.tissue in tissues and side in (r.side, Side.BOTH)),
        )
        for name, tissues in kinds
        for side in Side
    )


REGION_GROUPS: tuple[RegionGroup, ...] = _groups()
"""Every row kind of the region table: six tissues or unions of tissues, each left, right, both."""


def label_shares(share: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Give each voxel that the cord fills at least half the label of its largest region.

    Parameters
    ----------
    share : (..., 9) float array in [0, 1], background first

    Returns
    -------
    (...) uint8 array of labels, 0 elsewhere
    """
    largest = 1 + share[..., 1:].argmax(axis=-1)
    return np.where(1 - share[..., 0] >= HALF, largest, 0).astype(np.uint8)


def white_matter_share(share: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Add up the shares of the columns.

    Parameters
    ----------
    share : (..., 9) float array, background first

    Returns
    -------
    (...) float array
    """
    labels = [r.label for r in REGIONS if r.tissue is not Tissue.GRAY_MATTER]
    return np.asarray(share[..., labels].sum(axis=-1))
