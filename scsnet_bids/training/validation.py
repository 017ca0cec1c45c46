"""How well a network reads synthetic slices of anatomy it was not trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scsnet_bids.network.model import PIXEL_MM
from scsnet_bids.regions import REGIONS
from scsnet_bids.training.atlas import Atlas
from scsnet_bids.training.augment import draw_batch
from scsnet_bids.training.manual import ManualSlices, centre_crop

N_BATCHES = 24
BATCH_SLICES = 16
SEED = 12345
FALSE_CORD_MM2 = 10.0


def draw_held_out(held_out: Atlas, n_images: int = 1) -> tuple[Tensor, Tensor]:
    """Draw the slices that every validation scores, the same ones every time.

    Parameters
    ----------
    held_out : atlas slices that the training does not use
    n_images : 1 for B0, 2 for B0 and mean DWI

    Returns
    -------
    (384, n_images, 96, 96) standardised slices and (384, 9, 96, 96) area fractions
    """
    generator = torch.Generator(held_out.maps.device).manual_seed(SEED)
    batches = [draw_batch(held_out, BATCH_SLICES, generator, n_images) for _ in range(N_BATCHES)]
    images, truth = (torch.cat(part) for part in zip(*batches, strict=True))
    return images, truth


@torch.no_grad()
def predict(network: nn.Module, images: Tensor) -> Tensor:
    """(n, 9, rows, columns) class probabilities of (n, c, rows, columns) slices."""
    return torch.cat([network(part).softmax(dim=1) for part in torch.split(images, BATCH_SLICES)])


def validate(network: nn.Module, held_out: Atlas, n_images: int = 1) -> dict[str, float]:
    """Score a network on the same 384 slices every time.

    Parameters
    ----------
    network : in evaluation mode
    held_out : atlas slices that the training does not use, where the network is
    n_images : how many images the network sees

    Returns
    -------
    dict; over the slices with a cord: mean ``cord_dice`` (probability >= 0.5) and its median,
    ``cord_found`` (share of slices with Dice > 0.5), ``area_ratio`` (predicted / true, total) and
    mean ``dice_<region>`` (soft); over those without: ``false_cord`` (share with over 10 mm2)
    """
    images, truth = draw_held_out(held_out, n_images)
    probability = predict(network, images)
    cord, true_cord = (1 - p[:, 0] >= 0.5 for p in (probability, truth))  # (n, rows, columns)
    has_cord = true_cord.any(dim=2).any(dim=1)
    dice = _dice(cord.float(), true_cord.float())[has_cord]
    area_mm2 = cord.sum(dim=(1, 2)) * PIXEL_MM**2
    scores = {
        "cord_dice": dice.mean(),
        "cord_dice_median": dice.median(),
        "cord_found": (dice > 0.5).float().mean(),
        "area_ratio": cord[has_cord].sum() / true_cord[has_cord].sum(),
        "false_cord": (area_mm2[~has_cord] > FALSE_CORD_MM2).float().mean(),
    }
    for region in REGIONS:
        both = (p[has_cord, region.label] for p in (probability, truth))
        scores[f"dice_{region.name}"] = _dice(*both).mean()
    return {name: round(float(score), 4) for name, score in scores.items()}


def validate_manual(network: nn.Module, held_out: ManualSlices) -> dict[str, float]:
    """Score a network on labelled slices of participants that it was not trained on.

    Parameters
    ----------
    network : in evaluation mode
    held_out : their slices, where the network is

    Returns
    -------
    dict; ``manual_cord_dice`` (probability >= 0.5, mean over slices), ``manual_area_ratio``, and
    ``manual_dice_<region>`` (soft, mean over the slices whose regions are labelled)
    """
    images, target = centre_crop(held_out)
    probability = predict(network, images)
    cord, true_cord = (1 - p[:, 0] >= 0.5 for p in (probability, target))
    scores = {
        "manual_cord_dice": _dice(cord.float(), true_cord.float()).mean(),
        "manual_area_ratio": cord.sum() / true_cord.sum(),
    }
    named = held_out.has_regions
    for region in REGIONS if named.any() else ():
        both = (p[named, region.label] for p in (probability, target))
        scores[f"manual_dice_{region.name}"] = _dice(*both).mean()
    return {name: round(float(score), 4) for name, score in scores.items()}


def _dice(first: Tensor, second: Tensor) -> Tensor:
    """(n,) soft Dice of each slice."""
    overlap = 2 * (first * second).sum(dim=(1, 2))
    return overlap / (first.square() + second.square()).sum(dim=(1, 2)).clamp_min(1e-6)
