"""Slices that people labelled, as training data: placed, turned, bent and shaded at random.

Contrast, resolution and noise stay close to those of the images; only what changes from person to
person and from scan to scan is varied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from scsnet_bids.network.model import CROP_PIXELS, PIXEL_MM, standardise
from scsnet_bids.training.synthesis import PATCH_PIXELS, Draws, cut_middle


@dataclass(frozen=True)
class ManualSlices:
    """Labelled slices, each in a patch of 64 mm around its cord.

    A pixel of ``target`` that sums to less than 1 leaves the rest open: it is cord, but nobody said
    which region. Slices with a cord mask alone are such.

    Attributes
    ----------
    images : (n, 128, 128) signal on the network's grid, 0.5 mm
    inside : (n, 128, 128) bool, what the scanner saw
    target : (n, 9, 128, 128) area fractions
    participants : (n,) whose slice it is, without ``sub-``
    """

    images: Tensor
    inside: Tensor
    target: Tensor
    participants: tuple[str, ...]

    @classmethod
    def joined(cls, parts: Sequence[ManualSlices]) -> ManualSlices:
        """Put sets of slices one behind the other."""
        return cls(
            torch.cat([part.images for part in parts]),
            torch.cat([part.inside for part in parts]),
            torch.cat([part.target for part in parts]),
            tuple(name for part in parts for name in part.participants),
        )

    @property
    def has_regions(self) -> Tensor:
        """(n,) bool, slices whose regions are labelled, not the cord alone."""
        return self.target[:, 1:].sum(dim=(1, 2, 3)) > 0

    def to(self, device: torch.device) -> ManualSlices:
        """Move the slices to a device."""
        return self._changed(lambda tensor: tensor.to(device), self.participants)

    def split(self, held_out: Collection[str]) -> tuple[ManualSlices, ManualSlices | None]:
        """Part the slices of some participants from the others; None if there are none."""
        apart = torch.tensor([name in held_out for name in self.participants])
        return self._subset(~apart), self._subset(apart) if apart.any() else None

    def _subset(self, chosen: Tensor) -> ManualSlices:
        """Keep the chosen slices."""
        kept = [name for name, keep in zip(self.participants, chosen, strict=True) if keep]
        return self._changed(lambda tensor: tensor[chosen], tuple(kept))

    def _changed(
        self, change: Callable[[Tensor], Tensor], participants: tuple[str, ...]
    ) -> ManualSlices:
        """Do the same to every tensor."""
        images, inside, target = map(change, (self.images, self.inside, self.target))
        return ManualSlices(images, inside, target, participants)


def draw_manual(slices: ManualSlices, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw labelled slices, varied at random.

    Parameters
    ----------
    slices : to draw from, on the device of the generator
    n : slices
    generator : random numbers; the same state gives the same slices

    Returns
    -------
    (n, 1, 96, 96) standardised slices and (n, 9, 96, 96) area fractions, 0.5 mm
    """
    draws = Draws(n, generator)
    chosen = draws.choice(len(slices.images))
    places = _draw_places(draws)
    image, inside = (
        _sample(stack[chosen][:, None].float(), places)[:, 0]
        for stack in (slices.images, slices.inside)
    )
    seen = inside > 0.5
    return standardise(_vary(image, draws), seen)[:, None], _sample(slices.target[chosen], places)


def centre_crop(slices: ManualSlices) -> tuple[Tensor, Tensor]:
    """Cut the middle of every patch, unchanged: (n, 1, 96, 96) slices, (n, 9, 96, 96) fractions."""
    images, inside = cut_middle(slices.images), cut_middle(slices.inside)
    return standardise(images, inside)[:, None], cut_middle(slices.target)


def share_open_mass(logits: Tensor, target: Tensor) -> Tensor:
    """Give what a target leaves open to the regions, in the network's own proportions.

    The gradient of the cross-entropy is then that of cord against background alone: it does not
    move one region against another.

    Parameters
    ----------
    logits : (n, 9, rows, columns) of the network
    target : (n, 9, rows, columns) area fractions of sum 1 or less

    Returns
    -------
    (n, 9, rows, columns) area fractions of sum 1
    """
    left_open = (1 - target.sum(dim=1, keepdim=True)).clamp_min(0)
    proportion = logits.detach()[:, 1:].softmax(dim=1)
    return torch.cat([target[:, :1], target[:, 1:] + left_open * proportion], dim=1)


def _draw_places(draws: Draws) -> Tensor:
    """(n, 96, 96, 2) where each pixel of a crop lies in its patch, -1 to 1 from edge to edge."""
    device = draws.generator.device
    across = (torch.arange(CROP_PIXELS, device=device) - (CROP_PIXELS - 1) / 2) * PIXEL_MM
    bend = draws.uniform(0, 0.6)
    x = across + bend * cut_middle(draws.field(12, "bicubic")) + draws.normal(2.5, 6)
    y = across[:, None] + bend * cut_middle(draws.field(12, "bicubic")) + draws.normal(2.5, 6)
    angle = draws.normal(math.radians(6), math.radians(20))
    size = draws.uniform(0.88, 1.14)
    turned = (angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y)
    return torch.stack(turned, dim=-1) * size[..., None] / (PATCH_PIXELS * PIXEL_MM / 2)


def _sample(patches: Tensor, places: Tensor) -> Tensor:
    """(n, c, 96, 96) values of patches at places; beyond the edge they go on."""
    return functional.grid_sample(patches, places, padding_mode="border", align_corners=False)


def _vary(image: Tensor, draws: Draws) -> Tensor:
    """(n, 96, 96) image with another contrast, shading, sharpness and noise."""
    top = image.amax(dim=(1, 2), keepdim=True).clamp_min(1e-30)
    image = (image.clamp_min(0) / top) ** draws.log_uniform(0.75, 1.35)
    image = image * torch.exp(draws.uniform(0, 0.3) * cut_middle(draws.field(30, "bicubic")))
    blurred = functional.avg_pool2d(image[:, None], 3, stride=1, padding=1)[:, 0]
    image = torch.lerp(image, blurred, draws.uniform(0, 1) * draws.chance(0.4))
    deviation = image.std(dim=(1, 2), keepdim=True) * draws.uniform(0, 0.25)
    noise = torch.randn(2, *image.shape, generator=draws.generator, device=image.device)
    return torch.complex(image + deviation * noise[0], deviation * noise[1]).abs()
