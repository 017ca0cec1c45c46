"""The anatomy behind the synthetic slices: PAM50 tract maps of the cervical cord.

The atlas is not part of the package; see ``MODEL_CARD.md`` for where it comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from scsnet_bids.arrays import FloatArray
from scsnet_bids.errors import UsageError
from scsnet_bids.images import read_image
from scsnet_bids.network.model import PIXEL_MM
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
SLICE_MM = 0.5
"""Height of a slice of PAM50."""
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
    spacing_mm : (n,) height of a slice
    scale : (n,) factor that brings the source of a slice to the mean size of PAM50
    stack : (n,) number of the stack that a slice belongs to; slices of a stack are neighbours
    """

    maps: Tensor
    half_size_mm: Tensor
    spacing_mm: Tensor
    scale: Tensor
    stack: Tensor

    @classmethod
    def of_maps(cls, maps: Tensor, spacing_mm: float, scale: float = 1.0) -> Atlas:
        """Make an atlas of one stack of maps."""
        spacing, scales = (torch.full((len(maps),), value) for value in (spacing_mm, scale))
        stack = torch.zeros(len(maps), dtype=torch.long)
        return cls(maps, _half_size_mm(maps.sum(dim=1)), spacing, scales, stack)

    @classmethod
    def joined(cls, atlases: Sequence[Atlas]) -> Atlas:
        """Put atlases one behind the other; their stacks stay apart."""
        first, parts = 0, []
        for atlas in atlases:
            parts.append(replace(atlas, stack=atlas.stack + first))
            first += int(atlas.stack.max()) + 1
        return cls(*(torch.cat(tensors) for tensors in zip(*map(_tensors, parts), strict=True)))

    def split(self) -> tuple[Atlas, Atlas]:
        """Part the slices into those to train on and those held out: every 8th block of 12."""
        block = torch.arange(len(self.maps)) // BLOCK_SLICES
        held_out = block % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        # Slices on both sides of a gap are no neighbours.
        ends = (self.stack.diff() != 0) | (held_out.int().diff() != 0)
        runs = functional.pad(ends.long().cumsum(0), (1, 0))
        apart = replace(self, stack=runs)
        return apart._subset(~held_out), apart._subset(held_out)

    def to(self, device: torch.device) -> Atlas:
        """Move the maps to a device."""
        return Atlas(*(tensor.to(device) for tensor in _tensors(self)))

    def _subset(self, chosen: Tensor) -> Atlas:
        """Keep the chosen slices."""
        return Atlas(*(tensor[chosen] for tensor in _tensors(self)))


def _tensors(atlas: Atlas) -> list[Tensor]:
    """All that an atlas says of its slices."""
    return [getattr(atlas, field.name) for field in fields(atlas)]


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
    return Atlas.of_maps(torch.from_numpy(maps.astype(np.float32)), SLICE_MM)


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
    """(n, 2) half width and half height of the cord at half its value."""
    inside = cord > 0.5
    width = inside.any(dim=1).sum(dim=1)
    height = inside.any(dim=2).sum(dim=1)
    return torch.stack([width, height], dim=1) * PIXEL_MM / 2
