"""The network alone, on real images with manual masks: no motion correction, no tensor, no series.

Beside the overlap with what people drew, the areas of the regions in two scans of one person.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scsnet_bids.arrays import BoolArray
from scsnet_bids.errors import InputDataError
from scsnet_bids.evaluation.scores import Score, dice_of_slices, score_cord
from scsnet_bids.evaluation.truth import read_mask
from scsnet_bids.images import Image
from scsnet_bids.manual_masks import (
    CORD,
    GRAY,
    ManualMask,
    match_file,
    read_still,
    shared_entities,
)
from scsnet_bids.network.inference import RegionSegmentation, locate_cord, segment_regions
from scsnet_bids.network.model import PIXEL_MM, ScsNet
from scsnet_bids.regions import REGION_GROUPS, REGIONS, Side, Tissue
from scsnet_bids.unmixing.transfer import cord_mask, label_regions, transfer_regions

IMAGE_SUFFIXES = ("T2starw", "T2w", "T1w", "dwiref", "dwi", "bold")
"""What the network is tried on, the first of them that a mask has."""
WITH_BOTH_SIDES = ("cord", "white_matter", "gray_matter")
"""Of these the area of both sides together is told too."""
GRAY_LABELS = [r.label for r in REGIONS if r.tissue is Tissue.GRAY_MATTER]


def score_masks(masks: list[ManualMask], data: Path, network: ScsNet) -> Iterator[Score]:
    """Compare the network with the manual masks of one image.

    Parameters
    ----------
    masks : of the image: its cord, and its gray matter if that was drawn
    data : dataset with the image
    network : in evaluation mode

    Yields
    ------
    Score, of the slices that were drawn
    """
    drawn = {mask.shows: mask for mask in masks}
    if CORD not in drawn:
        raise InputDataError(f"A comparison needs the cord: beside {masks[0].path} there is none.")
    image = read_still(match_file(drawn[CORD], [data], IMAGE_SUFFIXES))
    cords = read_mask(drawn[CORD].path, image.grid)
    found = segment_image(image, network)
    no_shift = np.zeros((image.grid.shape[2], 2))
    share = transfer_regions(found.probability, found.plane, image.grid, no_shift)
    yield from score_cord("network", cord_mask(share), cords, image.grid.spacing_mm)
    if GRAY in drawn:
        gray = np.isin(label_regions(share), GRAY_LABELS)
        truth = read_mask(drawn[GRAY].path, image.grid)
        yield from _tell_gray(gray, truth & cords.any(axis=(0, 1)))


def compare_runs(mask: ManualMask, data: Path, network: ScsNet) -> Iterator[Score]:
    """Compare the areas of the regions in an image and in its other runs.

    Parameters
    ----------
    mask : of the image
    data : dataset with the image and its other runs
    network : in evaluation mode

    Yields
    ------
    Score, area in the other run against that in this one, mean of the slices in which both have
    a cord, for the regions and their unions
    """
    first = match_file(mask, [data], IMAGE_SUFFIXES)
    others = _other_runs(first)
    if not others:
        return
    areas, *areas_of_others = (
        _areas_mm2(segment_image(read_still(path), network)) for path in (first, *others)
    )
    for other in areas_of_others:
        if len(other) != len(areas):
            raise InputDataError(f"Runs need the same slices: those of {first} differ in number.")
        both = np.isfinite(areas).all(axis=1) & np.isfinite(other).all(axis=1)
        change = 100 * (other[both].mean(axis=0) / areas[both].mean(axis=0) - 1)
        for group, value in zip(REGION_GROUPS, change, strict=True):
            if group.side is not Side.BOTH or group.region in WITH_BOTH_SIDES:
                yield Score("rescan", "area %", float(value), group.region, str(group.side))


def segment_image(image: Image, network: ScsNet) -> RegionSegmentation:
    """Segment an image as the app does."""
    centre_mm = locate_cord(image.data, image.grid, network)
    return segment_regions(image.data, image.grid, centre_mm, network)


def _tell_gray(gray: BoolArray, truth: BoolArray) -> Iterator[Score]:
    """Yield the overlap of the gray matter in the slices where it was drawn."""
    drawn = truth.any(axis=(0, 1))
    gray, truth = gray[..., drawn], truth[..., drawn]
    yield Score("network", "gray Dice", float(dice_of_slices(gray, truth).mean()))
    yield Score("network", "gray area ratio", float(gray.sum() / truth.sum()))


def _other_runs(path: Path) -> list[Path]:
    """List the other runs of an image; none of an image that is not one of several."""
    entities, suffix = dict(shared_entities(path.name)), path.name.rsplit("_", 1)[1]
    if "run" not in entities:
        return []
    others = [other for other in sorted(path.parent.glob(f"*_{suffix}")) if other != path]
    same = entities | {"run": ""}
    return [other for other in others if dict(shared_entities(other.name)) | {"run": ""} == same]


def _areas_mm2(found: RegionSegmentation) -> npt.NDArray[np.floating]:
    """(k, 18) areas of the regions and their unions; nan where there is no cord."""
    per_region = found.probability.sum(axis=(2, 3)) * PIXEL_MM**2
    areas = np.stack([per_region[:, list(g.labels)].sum(axis=1) for g in REGION_GROUPS], axis=1)
    return np.where(found.found[:, None], areas, np.nan)
