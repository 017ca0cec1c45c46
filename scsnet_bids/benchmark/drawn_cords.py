"""Cords for the phantoms that people drew: shapes that no curve of the phantom made."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from scsnet_bids.network.model import PIXEL_MM
from scsnet_bids.phantom import DrawnCord
from scsnet_bids.training.shapes import read_shapes


def read_drawn_cords(folder: Path, held_out: Collection[str]) -> list[DrawnCord]:
    """Read the drawn cords of a folder.

    Parameters
    ----------
    folder : of manual masks, see ``training.shapes``
    held_out : starts of participant labels to take; none takes all

    Returns
    -------
    list of DrawnCord, two per scan: made symmetric from its left half, and from its right, the
    first of all scans before the second

    Raises
    ------
    UsageError
        If the folder holds no pair of masks, or a label names nobody.
    """
    everyone, chosen = read_shapes(folder, held_out)
    atlas = chosen if held_out else everyone
    assert atlas is not None  # read_shapes raises where nothing is found
    stacks = [atlas.maps[atlas.stack == n] for n in range(int(atlas.stack.max()) + 1)]
    cords = [DrawnCord(maps.flip(0).numpy(), PIXEL_MM) for maps in stacks]  # from the head downward
    return [*cords[::2], *cords[1::2]]
