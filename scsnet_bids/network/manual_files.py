"""Manual labels in BIDS derivatives, and the b=0 images they were drawn on.

A drawing is a ``*_dseg.nii.gz`` with the eight labels of ``regions``, or a cord mask
(``*_label-SC_mask.nii.gz`` or ``*_label-SC_seg.nii.gz``). Its image has the same entities of
acquisition and lies in the same subfolder of the folder of images, or beside it: a b=0 reference,
or a diffusion series, of which the mean of the b=0 volumes is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from scsnet_bids.errors import ImageError, UsageError
from scsnet_bids.gradient_files import read_bvals
from scsnet_bids.gradients import b0_volumes
from scsnet_bids.images import FloatArray, Image, read_image
from scsnet_bids.network.field import resample_b0
from scsnet_bids.network.manual import ManualSlices
from scsnet_bids.network.model import PIXEL_MM
from scsnet_bids.network.synthesis import PATCH_PIXELS
from scsnet_bids.regions import N_CLASSES, REGIONS, Side
from scsnet_bids.settings import GradientSettings
from scsnet_bids.slices import PlaneGrid, interpolate_linearly, volume_to_slices

REGION_ENDING = "_dseg"
CORD_ENDINGS = ("_label-SC_mask", "_label-SC_seg")
IMAGE_ENDINGS = ("_desc-b0_dwiref", "_dwiref", "_dwi")
"""What the image of a drawing may be, the first that exists."""
ENTITIES = ("sub", "ses", "acq", "rec", "dir", "run", "chunk")
"""Entities that name an acquisition; the others say how it was processed or drawn."""
FINE = 4
"""Outlines are drawn this many times finer than the network's pixels."""


@dataclass(frozen=True)
class Drawing:
    """A manual drawing and its image.

    Attributes
    ----------
    participant : without ``sub-``
    label : path of the labels
    image : path of what they were drawn on
    of_regions : eight labels, or the cord alone
    """

    participant: str
    label: Path
    image: Path
    of_regions: bool


def find_drawings(labels: Path, images: Path) -> list[Drawing]:
    """Find the manual drawings of a folder.

    Parameters
    ----------
    labels : derivatives folder with the drawings
    images : folder with what was drawn on

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
    for path, of_regions in _list_labels(labels):
        name = "_".join(p for p in path.name.split("_") if p.split("-")[0] in ENTITIES)
        folder = path.parent.relative_to(labels)
        image = _find_image([images / folder, path.parent], name, path)
        before = found.get(image)
        if before is not None and before.of_regions is of_regions:
            raise UsageError(
                f"An image needs one drawing: {image} has {before.label} and {path}. Keep the "
                "drawings to learn from in a folder of their own."
            )
        if before is None:
            found[image] = Drawing(name.split("_")[0][4:], path, image, of_regions)
    if not found:
        raise UsageError(
            f"--labels must name BIDS derivatives with manual labels: {labels} holds no sub-*/**/"
            f"*{REGION_ENDING}.nii.gz or *{CORD_ENDINGS[0]}.nii.gz."
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
    image, label = _read_reference(drawing.image), read_image(drawing.label)
    if not image.grid.matches(label.grid):
        raise ImageError(
            f"Labels and image need one grid: {drawing.label} and {drawing.image} differ. Draw on "
            "the image itself, or resample the labels to it."
        )
    labels = _checked_labels(np.asarray(label.data), drawing)
    slices = [
        _cut_slice(image, labels, int(k), drawing.of_regions)
        for k in np.flatnonzero(labels.any(axis=(0, 1)))
    ]
    images, inside, target = (torch.from_numpy(np.stack(x)) for x in zip(*slices, strict=True))
    return ManualSlices(images, inside, target, (drawing.participant,) * len(slices))


def _list_labels(folder: Path) -> Iterator[tuple[Path, bool]]:
    """List label files, those of regions first; and whether they are such."""
    for ending in (REGION_ENDING, *CORD_ENDINGS):
        for extension in (".nii.gz", ".nii"):
            for path in sorted(folder.glob(f"sub-*/**/*{ending}{extension}")):
                yield path, ending == REGION_ENDING


def _find_image(folders: list[Path], name: str, label: Path) -> Path:
    """Find the image that a drawing was made on."""
    tried = [
        folder / f"{name}{ending}{extension}"
        for folder in folders
        for ending in IMAGE_ENDINGS
        for extension in (".nii.gz", ".nii")
    ]
    for path in tried:
        if path.exists():
            return path
    raise UsageError(
        f"Every drawing needs its image: {label} has none; looked for {name} with "
        f"{', '.join(IMAGE_ENDINGS)} in {folders[0]}. Give the folder with --images."
    )


def _read_reference(path: Path) -> Image:
    """Read a b=0 image, or the mean of the b=0 volumes of a series."""
    image = read_image(path)
    if image.data.ndim == 3:
        return image
    bvals = read_bvals(path.with_name(path.name.split(".")[0] + ".bval"), path)
    if bvals.size != image.data.shape[-1]:
        raise ImageError(
            f"A series needs one b-value per volume: {path} has {image.data.shape[-1]} volumes and "
            f"{bvals.size} b-values."
        )
    is_b0 = b0_volumes(bvals, GradientSettings().b0_max)
    return Image(image.data[..., is_b0].mean(axis=-1), image.grid)


def _checked_labels(labels: FloatArray, drawing: Drawing) -> npt.NDArray[np.uint8]:
    """Return labels as whole numbers; a cord mask becomes 0 and 1."""
    if labels.ndim != 3:
        raise ImageError(f"Labels must be one volume: {drawing.label} has {labels.shape}.")
    given = labels if drawing.of_regions else (labels > 0.5).astype(float)
    whole = np.nan_to_num(given, nan=-1).astype(int)
    if not np.array_equal(whole, given) or whole.min() < 0 or whole.max() >= N_CLASSES:
        raise ImageError(
            f"Labels must be whole numbers from 0 to {N_CLASSES - 1} (1 left lateral, 2 right "
            f"lateral, ...): {drawing.label} has {np.unique(labels)[:12]}. Renumber them."
        )
    if not whole.any():
        raise ImageError(f"A drawing must hold something: {drawing.label} has no labelled voxel.")
    if drawing.of_regions:
        _refuse_swapped_sides(whole, drawing.label)
    return np.asarray(whole, dtype=np.uint8)


def _refuse_swapped_sides(labels: npt.NDArray[np.int_], path: Path) -> None:
    """Raise if the labels of the left lie on the right: left is at larger first indices."""
    middle = {}
    for side in (Side.LEFT, Side.RIGHT):
        place = np.nonzero(np.isin(labels, [r.label for r in REGIONS if r.side is side]))[0]
        middle[side] = place.mean() if place.size else np.nan
    if middle[Side.LEFT] < middle[Side.RIGHT]:
        raise ImageError(
            f"Left must be the patient's left: in {path} the labels of the left (1, 3, 5, 7) lie "
            "right of the others. Swap the labels, or check the orientation in the header."
        )


def _cut_slice(
    image: Image, labels: npt.NDArray[np.uint8], k: int, of_regions: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Image, field of view and area fractions of one slice in a patch around its cord."""
    spacing_mm = np.array(image.grid.spacing_mm[:2])
    left, posterior = (float(x.mean()) for x in np.nonzero(labels[..., k]) * spacing_mm[:, None])
    plane = PlaneGrid.centred((left, posterior), (PATCH_PIXELS, PATCH_PIXELS), PIXEL_MM)
    field = resample_b0(image.data[..., k : k + 1], image.grid, plane)
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
