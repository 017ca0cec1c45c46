"""What a training draws its slices from: synthetic anatomy, slices with manual labels, or both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scsnet_bids.errors import UsageError
from scsnet_bids.network.model import count_images
from scsnet_bids.training.atlas import Atlas, read_atlas
from scsnet_bids.training.augment import draw_batch
from scsnet_bids.training.manual import ManualSlices, draw_manual
from scsnet_bids.training.manual_files import find_drawings, read_drawing
from scsnet_bids.training.settings import DataSettings
from scsnet_bids.training.shapes import read_shapes

PAM50_SENTENCE = (
    "Synthetic slices from the PAM50 atlas and template of the spinal cord (De Leener et al., "
    "NeuroImage 2018, doi:10.1016/j.neuroimage.2017.10.041)."
)


@dataclass(frozen=True)
class TrainingData:
    """Anatomy to draw synthetic slices from, and labelled slices; one of the two may be missing.

    Attributes
    ----------
    atlas : anatomy
    manual : labelled slices
    manual_share : share of a batch that is drawn from the labelled ones
    n_images : 1 for B0, 2 for B0 and mean DWI, which synthetic slices alone have
    """

    atlas: Atlas | None
    manual: ManualSlices | None = None
    manual_share: float = 0.5
    n_images: int = 1

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw (n, n_images, 96, 96) standardised slices and (n, 9, 96, 96) area fractions."""
        n_manual = round(n * self.manual_share) if self.manual is not None else 0
        n_manual = n_manual if self.atlas is not None else n
        parts = []
        if self.atlas is not None and n > n_manual:
            parts.append(draw_batch(self.atlas, n - n_manual, generator, self.n_images))
        if self.manual is not None and n_manual:
            parts.append(draw_manual(self.manual, n_manual, generator))
        images, target = (torch.cat(part) for part in zip(*parts, strict=True))
        return images, target

    def to(self, device: torch.device) -> TrainingData:
        """Move the data to a device."""
        atlas = self.atlas.to(device) if self.atlas is not None else None
        manual = self.manual.to(device) if self.manual is not None else None
        return replace(self, atlas=atlas, manual=manual)


def read_training_data(
    settings: DataSettings, seed: int
) -> tuple[TrainingData, TrainingData, dict[str, Any]]:
    """Read everything that a training needs.

    Parameters
    ----------
    settings : where the data lie and what is held out
    seed : chooses the labelled participants to hold out, where the settings name none

    Returns
    -------
    TrainingData to train on, TrainingData held out, and what a record of the weights should say
    about them

    Raises
    ------
    UsageError
        If there are no data, or what is held out does not fit them.
    ImageError
        If an image or a drawing cannot be used.
    """
    if not settings.atlas and not settings.labels:
        raise UsageError(
            "A training needs data: give --atlas with the PAM50 folder for synthetic slices, "
            "--labels with manual labels, or both."
        )
    named = _split_named(settings)
    atlases = _read_anatomies(settings, named["shapes"]) if settings.atlas else (None, None)
    manual = _read_manual(settings, named["labels"], seed) if settings.labels else (None, None)
    seen, held_out = (
        TrainingData(atlas, slices, settings.manual_share, count_images(settings.input))
        for atlas, slices in zip(atlases, manual, strict=True)
    )
    return seen, held_out, _describe(settings, *manual)


def _split_named(settings: DataSettings) -> dict[str, list[str]]:
    """Tell which of the held-out labels mean participants of the shapes, which of the labels."""
    folders = {"shapes": settings.shapes, "labels": settings.labels}
    held_out = [label.removeprefix("sub-") for label in settings.held_out]
    named = {
        kind: [x for x in held_out if folder and any(Path(folder).glob(f"sub-{x}*"))]
        for kind, folder in folders.items()
    }
    unknown = [x for x in held_out if not any(x in found for found in named.values())]
    if unknown:
        raise UsageError(
            f"--held-out must name participants: there is no sub-{unknown[0]}* in "
            f"{' or '.join(filter(None, folders.values())) or 'any folder (none is given)'}."
        )
    return named


def _read_anatomies(settings: DataSettings, held_out: list[str]) -> tuple[Atlas, Atlas]:
    """Read the anatomies to train on and those held out."""
    seen, apart = read_atlas(Path(settings.atlas)).split()
    if not settings.shapes:
        return seen, apart
    more, more_apart = read_shapes(Path(settings.shapes), held_out)
    return (
        Atlas.joined([seen, more]) if more else seen,
        Atlas.joined([apart, more_apart]) if more_apart else apart,
    )


def _read_manual(
    settings: DataSettings, held_out: list[str], seed: int
) -> tuple[ManualSlices, ManualSlices | None]:
    """Read the labelled slices, participants to train on and those held out."""
    images = Path(settings.images or settings.labels)
    drawings = find_drawings(Path(settings.labels), images, settings.participants)
    slices = ManualSlices.joined([read_drawing(drawing) for drawing in drawings])
    people = sorted(set(slices.participants))
    apart = {name for name in people if name.startswith(tuple(held_out))}
    if not held_out and settings.held_out_share > 0:
        count = max(1, round(settings.held_out_share * len(people)))
        apart = set(np.random.default_rng(seed).permutation(people)[:count].tolist())
    if len(apart) == len(people):
        raise UsageError(
            f"Some labelled participant must remain to learn from: {settings.labels} has "
            f"{', '.join(people)}, all held out. Hold out fewer, or none with --held-out-share 0."
        )
    return slices.split(apart)


def _describe(
    settings: DataSettings, seen: ManualSlices | None, held_out: ManualSlices | None
) -> dict[str, Any]:
    """Say in the record of the weights what they were trained on."""
    words = [PAM50_SENTENCE] if settings.atlas else []
    if settings.shapes:
        words.append(
            f"Further anatomies from manual masks of cord and gray matter in {settings.shapes}."
        )
    if seen is None:
        return {"data": " ".join([*words, "No real image was used."])}
    n_people = len(set(seen.participants))
    words.append(f"{len(seen.images)} slices of {n_people} participants with manual labels.")
    apart = sorted(set(held_out.participants)) if held_out else []
    return {"data": " ".join(words), "held_out_participants": apart}
