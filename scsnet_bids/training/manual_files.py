"""Slices that people labelled, read from BIDS derivatives as training data.

A drawing (``manual_masks`` finds it) shows the eight regions or the cord alone. Its image is the
one that its name tells, a b=0 reference, or a diffusion series, of which the mean of the b=0
volumes is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from scsnet_bids.errors import EmptySelectionError, ImageError, InputDataError, UsageError
from scsnet_bids.images import Image, read_image
from scsnet_bids.manual_masks import (
    EIGHT,
    GRAY,
    ManualMask,
    find_masks,
    match_file,
    read_labels,
    read_still,
)
from scsnet_bids.network.field import resample_image
from scsnet_bids.network.model import PIXEL_MM
from scsnet_bids.regions import N_CLASSES
from scsnet_bids.slices import PlaneGrid, interpolate_linearly, volume_to_slices
from scsnet_bids.training.manual import ManualSlices
from scsnet_bids.training.synthesis import PATCH_PIXELS

IMAGE_SUFFIXES = ("dwiref", "dwi")
"""What the image of a drawing may be, the first that exists."""
FINE = 4
"""Outlines are drawn this many times finer than the network's pixels."""


@dataclass(frozen=True)
class Drawing:
    """A manual drawing and its image.

    Attributes
    ----------
    mask : what was drawn
    image : path of what it was drawn on
    folder : of all drawings, which may hold a label table for them
    """

    mask: ManualMask
    image: Path
    folder: Path

    @property
    def of_regions(self) -> bool:
        """Eight labels, or the cord alone."""
        return self.mask.shows == EIGHT


def find_drawings(labels: Path, images: Path, participants: Sequence[str] = ()) -> list[Drawing]:
    """Find the manual drawings of a folder.

    Parameters
    ----------
    labels : derivatives folder with the drawings
    images : folder with what was drawn on; images beside the drawings count as well
    participants : labels; empty takes all

    Returns
    -------
    list of Drawing, in the order of their names; one per image: labels of regions go before a cord
    mask

    Raises
    ------
    UsageError
        If there is no drawing, a drawing has no image, or two of a kind belong to one image.
    """
    found: dict[Path, Drawing] = {}
    for mask in _list_masks(labels, participants):
        drawing = Drawing(mask, _find_image(mask, [images, labels]), labels)
        before = found.setdefault(drawing.image, drawing)
        if before is not drawing and before.of_regions is drawing.of_regions:
            raise UsageError(
                f"An image needs one drawing: {drawing.image} has {before.mask.path} and "
                f"{mask.path}. Keep the drawings to learn from in a folder of their own."
            )
    return list(found.values())


def read_drawing(drawing: Drawing) -> ManualSlices:
    """Read the labelled slices of a drawing.

    Parameters
    ----------
    drawing : files to read

    Returns
    -------
    ManualSlices; slices without any label are left out, since nobody says that they hold no cord

    Raises
    ------
    ImageError
        If image and labels differ in their grids, or the labels cannot be right.
    """
    image, label = read_still(drawing.image), read_image(drawing.mask.path)
    if not image.grid.matches(label.grid):
        raise ImageError(
            f"Labels and image need one grid: {drawing.mask.path} and {drawing.image} differ. Draw "
            "on the image itself, or resample the labels to it."
        )
    labels = _read_checked(drawing)
    slices = [
        _cut_slice(image, labels, int(k), drawing.of_regions)
        for k in np.flatnonzero(labels.any(axis=(0, 1)))
    ]
    images, inside, target = (torch.from_numpy(np.stack(x)) for x in zip(*slices, strict=True))
    participant = dict(drawing.mask.entities)["sub"]
    return ManualSlices(images, inside, target, (participant,) * len(slices))


def _list_masks(folder: Path, participants: Sequence[str]) -> list[ManualMask]:
    """List the masks of a folder that show regions, then those that show the cord."""
    try:
        masks = [mask for mask in find_masks(folder, participants) if mask.shows != GRAY]
    except EmptySelectionError as error:
        raise UsageError(
            f"--labels must name BIDS derivatives with manual labels. {error}"
        ) from error
    return sorted(masks, key=lambda mask: mask.shows != EIGHT)


def _find_image(mask: ManualMask, folders: list[Path]) -> Path:
    """Find the image that a drawing was made on."""
    try:
        return match_file(mask, folders, IMAGE_SUFFIXES)
    except InputDataError as error:
        raise UsageError(f"{error} Give the folder of the images with --images.") from error


def _read_checked(drawing: Drawing) -> npt.NDArray[np.uint8]:
    """Read labels as whole numbers; a cord mask becomes 0 and 1."""
    if drawing.of_regions:
        labels = read_labels(drawing.mask, drawing.folder)
    else:
        labels = (np.asarray(read_image(drawing.mask.path).data) > 0.5).astype(np.intp)
    if labels.ndim != 3 or not labels.any():
        raise ImageError(
            "A drawing must be one volume that holds something: "
            f"{drawing.mask.path} has {labels.shape} voxels, {np.count_nonzero(labels)} labelled."
        )
    return labels.astype(np.uint8)


def _cut_slice(
    image: Image, labels: npt.NDArray[np.uint8], k: int, of_regions: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Image, field of view and area fractions of one slice in a patch around its cord."""
    spacing_mm = np.array(image.grid.spacing_mm[:2])
    left, posterior = (float(x.mean()) for x in np.nonzero(labels[..., k]) * spacing_mm[:, None])
    plane = PlaneGrid.centred((left, posterior), (PATCH_PIXELS, PATCH_PIXELS), PIXEL_MM)
    field = resample_image(image.data[..., k : k + 1], image.grid, plane)
    source = PlaneGrid.of_image(image.grid)
    target = _area_fractions(labels[..., k : k + 1], source, (left, posterior))
    if not of_regions:
        target[1:] = 0  # the cord is left open, see ManualSlices
    return field.slices[0], field.inside[0], target


def _area_fractions(
    labels: npt.NDArray[np.uint8], source: PlaneGrid, centre_mm: tuple[float, float]
) -> npt.NDArray[np.float32]:
    """(9, 128, 128) area fractions of the labels of one slice, without the steps of its voxels."""
    n = PATCH_PIXELS * FINE
    fine = PlaneGrid.centred(centre_mm, (n, n), PIXEL_MM / FINE)
    masks = np.stack([volume_to_slices(labels == c)[0] for c in range(1, N_CLASSES)])
    shares = interpolate_linearly(masks.astype(np.float32), source, fine)
    largest = np.where(shares.sum(axis=0) > 0.5, 1 + shares.argmax(axis=0), 0)
    crisp = largest == np.arange(N_CLASSES)[:, None, None]
    blocks = crisp.reshape(N_CLASSES, PATCH_PIXELS, FINE, PATCH_PIXELS, FINE)
    return np.asarray(blocks.mean(axis=(2, 4)), dtype=np.float32)
