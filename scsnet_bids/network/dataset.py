"""The anatomy behind the synthetic slices: PAM50 tract maps of the cervical cord.

The atlas is not part of the package; see ``MODEL_CARD.md`` for where it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scsnet_bids.errors import UsageError
from scsnet_bids.images import FloatArray, read_image
from scsnet_bids.slices import volume_to_slices

TRACTS = {
    "lateral": range(4, 14),
    "dorsal": range(4),
    "ventral": range(14, 30),
    "gray": range(30, 36),
}
"""Numbers of the PAM50 tracts in each tissue, in the order of the labels of ``regions``."""

CERVICAL_LEVELS = range(1, 10)
"""Vertebral levels used, C1 to T2."""

MAP_PIXELS = 48
BLOCK_SLICES = 12
HELD_OUT_EVERY = 8


@dataclass(frozen=True)
class Atlas:
    """Tissue maps of neighbouring axial slices.

    Attributes
    ----------
    maps : (n, 4, 48, 48) fractions of lateral, dorsal, ventral column and gray matter, both sides
        together, symmetric about the midline, which lies between the two middle columns; 0.5 mm,
        rows from front to back, the cord's centre of mass in the middle
    half_size_mm : (n, 2) half width and half height of the cord
    """

    maps: Tensor
    half_size_mm: Tensor

    def split(self) -> tuple[Atlas, Atlas]:
        """Part the slices into those to train on and those held out: every 8th block of 12."""
        block = torch.arange(len(self.maps)) // BLOCK_SLICES
        held_out = block % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        return self._subset(~held_out), self._subset(held_out)

    def to(self, device: torch.device) -> Atlas:
        """Move the maps to a device."""
        return Atlas(self.maps.to(device), self.half_size_mm.to(device))

    def _subset(self, chosen: Tensor) -> Atlas:
        """Keep the chosen slices."""
        return Atlas(self.maps[chosen], self.half_size_mm[chosen])


def read_atlas(folder: Path) -> Atlas:
    """Read the PAM50 maps of the cervical cord.

    Parameters
    ----------
    folder : holds ``atlas/PAM50_atlas_00.nii.gz`` to ``_35`` and ``template/PAM50_levels.nii.gz``

    Returns
    -------
    Atlas

    Raises
    ------
    UsageError
        If the folder does not hold the atlas.
    """
    levels_path = folder / "template" / "PAM50_levels.nii.gz"
    if not levels_path.exists():
        raise UsageError(
            f"--atlas must name the PAM50 folder: {levels_path} is missing. Fetch PAM50 and give "
            "the folder that holds atlas/ and template/."
        )
    levels = _read_slices(levels_path)
    cervical = np.isin(levels.max(axis=(1, 2)), CERVICAL_LEVELS)
    tissues = [_sum_tracts(folder, tracts, cervical) for tracts in TRACTS.values()]
    cord = np.sum(tissues, axis=0)
    maps = np.stack([_symmetrised(_centred(tissue, cord)) for tissue in tissues], axis=1)
    tensor = torch.from_numpy(maps.astype(np.float32))
    return Atlas(tensor, _half_size_mm(tensor.sum(dim=1)))


def _sum_tracts(folder: Path, tracts: range, chosen: npt.NDArray[np.bool_]) -> FloatArray:
    """(n, rows, columns) sum of some tracts in the chosen slices."""
    paths = [folder / "atlas" / f"PAM50_atlas_{tract:02d}.nii.gz" for tract in tracts]
    return np.asarray(np.sum([_read_slices(path)[chosen] for path in paths], axis=0))


def _read_slices(path: Path) -> FloatArray:
    """(n, rows, columns) slices of an atlas file."""
    return volume_to_slices(np.asarray(read_image(path).data, dtype=np.float32))


def _centred(maps: FloatArray, cord: FloatArray) -> FloatArray:
    """Cut each slice to a square around the cord (rows: by centre of mass; columns: midline).

    The midline of the atlas is the centre of a column; one more column is kept on its right for
    ``_symmetrised``.
    """
    rows, columns = np.indices(cord.shape[1:])
    mass = cord.sum(axis=(1, 2))
    top = np.rint((cord * rows).sum(axis=(1, 2)) / mass).astype(int) - MAP_PIXELS // 2
    midline = int(np.rint((cord * columns).sum() / mass.sum()))
    left, right = midline - MAP_PIXELS // 2, midline + MAP_PIXELS // 2 + 1
    return np.stack([m[t : t + MAP_PIXELS, left:right] for m, t in zip(maps, top, strict=True)])


def _symmetrised(maps: FloatArray) -> FloatArray:
    """Average with the mirror image, and move the midline between two columns."""
    symmetric = (maps + maps[..., ::-1]) / 2
    return (symmetric[..., 1:] + symmetric[..., :-1]) / 2


def _half_size_mm(cord: Tensor) -> Tensor:
    """(n, 2) half width and half height of the cord at half its value, pixels being 0.5 mm."""
    inside = cord > 0.5
    width = inside.any(dim=1).sum(dim=1)
    height = inside.any(dim=2).sum(dim=1)
    return torch.stack([width, height], dim=1) * 0.25
