"""Masks that people drew: find them, know what they show, and match them with images.

Two customs of naming are known. Names of the standard, such as ``sub-01_label-SC_mask.nii.gz``
(cord), ``sub-01_label-GM_mask.nii.gz`` (gray matter) and ``sub-01_desc-manual_dseg.nii.gz`` (eight
regions); and the name of the image with ``_seg-manual`` or ``_gmseg-manual`` added. A mask belongs
to the image, or the run, in the same folder with the same entities, those that describe a
derivative (``label``, ``desc``, ``seg``, ``space``, ``res``) left aside. Evaluation and training
both start here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scsnet_bids.derivatives import read_table
from scsnet_bids.errors import EmptySelectionError, ImageError, InputDataError
from scsnet_bids.gradient_files import read_bvals
from scsnet_bids.gradients import b0_volumes
from scsnet_bids.images import Image, read_image
from scsnet_bids.regions import REGIONS, Side
from scsnet_bids.settings import GradientSettings

CORD, GRAY, EIGHT = "cord", "gray matter", "eight regions"
DESCRIBING = ("label", "desc", "seg", "space", "res")
NIFTI = (".nii.gz", ".nii")
_BY_ENDING = {"seg-manual": CORD, "gmseg-manual": GRAY, "dseg": EIGHT}
_BY_LABEL = {"SC": CORD, "GM": GRAY, "spinalcord": CORD, "graymatter": GRAY}


@dataclass(frozen=True)
class ManualMask:
    """A mask file and what its name says.

    Attributes
    ----------
    path : file
    shows : ``CORD``, ``GRAY`` or ``EIGHT``
    folder : relative to the folder of masks
    entities : (key, value) pairs that it shares with its image
    suffix : of its image, such as ``T2starw``; empty if the name does not tell
    """

    path: Path
    shows: str
    folder: Path
    entities: tuple[tuple[str, str], ...]
    suffix: str

    @property
    def prefix(self) -> str:
        """How the name of its image begins."""
        return "_".join(f"{key}-{value}" for key, value in self.entities)


def find_masks(root: Path, participants: Sequence[str] = ()) -> list[ManualMask]:
    """Find the manual masks of a folder.

    Parameters
    ----------
    root : derivatives folder with ``sub-*``
    participants : labels, with or without ``sub-``; empty takes all

    Returns
    -------
    list of ManualMask, in the order of their names

    Raises
    ------
    EmptySelectionError
        If there is none, or a participant has none.
    """
    wanted = {label.removeprefix("sub-") for label in participants}
    paths = [path for path in sorted(root.glob("sub-*/**/*.nii*")) if path.name.endswith(NIFTI)]
    masks = [_describe(path, root) for path in paths]
    found = [mask for mask in masks if mask and (not wanted or mask.entities[0][1] in wanted)]
    missing = wanted - {mask.entities[0][1] for mask in found}
    if missing or not found:
        raise EmptySelectionError(
            "Manual masks are needed: there is none "
            + (f"of {', '.join(sorted(missing))} " if missing else "")
            + f"in {root}. Expected are sub-*/**/*_label-SC_mask.nii.gz, *_seg-manual.nii.gz or "
            "*_dseg.nii.gz."
        )
    return found


def match_file(mask: ManualMask, roots: Sequence[Path], suffixes: Sequence[str]) -> Path:
    """Find the image that a mask belongs to.

    Parameters
    ----------
    mask : whose
    roots : dataset or derivatives folders, the first that has such an image counts
    suffixes : what kinds of image will do, the best first; a suffix in the mask's name comes first

    Returns
    -------
    Path

    Raises
    ------
    InputDataError
        If there is no such image, or more than one.
    """
    wanted, kinds = dict(mask.entities), [mask.suffix] if mask.suffix else suffixes
    for root, kind in product(roots, kinds):
        paths = [path for end in NIFTI for path in (root / mask.folder).glob(f"*_{kind}{end}")]
        found = sorted(path for path in paths if dict(shared_entities(path.name)) == wanted)
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise InputDataError(
                f"A mask must belong to one image: {mask.path} fits {names}. Keep one of them."
            )
        if found:
            return found[0]
    raise InputDataError(
        f"A mask needs its image: for {mask.path} there is no {roots[0] / mask.folder}/"
        f"{mask.prefix}[_..]_{'|'.join(kinds)}.nii.gz. Name both with the same entities."
    )


def read_still(path: Path) -> Image:
    """Read an image; of a diffusion series the mean b=0 volume, of another series its mean.

    Parameters
    ----------
    path : image; a diffusion series has its b-values beside it

    Returns
    -------
    Image of three dimensions

    Raises
    ------
    ImageError
        If a diffusion series has not as many b-values as volumes.
    """
    image = read_image(path)
    if image.data.ndim == 3:
        return image
    data = image.data
    if _stem(path).endswith("_dwi"):
        bvals = read_bvals(path.with_name(f"{_stem(path)}.bval"), path)
        if bvals.size != data.shape[-1]:
            raise ImageError(
                f"A series needs one b-value per volume: {path} has {data.shape[-1]} volumes and "
                f"{bvals.size} b-values."
            )
        data = data[..., b0_volumes(bvals, GradientSettings().b0_max)]
    return Image(data.mean(axis=-1), image.grid)


def read_labels(mask: ManualMask, root: Path) -> npt.NDArray[np.intp]:
    """Read manual regions, and refuse labels that mean something else.

    Parameters
    ----------
    mask : that shows eight regions
    root : folder of masks, which may hold a label table for all of them (``dseg.tsv``)

    Returns
    -------
    (i, j, k) int array, labels of ``REGIONS``

    Raises
    ------
    InputDataError
        If the values or the label table are not ours, or left lies right of right.
    """
    values = np.asarray(read_image(mask.path).data, dtype=float)
    if not np.isin(values, [0, *(region.label for region in REGIONS)]).all():
        raise InputDataError(
            f"Manual regions need whole labels from 0 to 8: {mask.path} holds "
            f"{np.setdiff1d(values, range(9))[:4].tolist()}. {_expected()}"
        )
    tables = [mask.path.with_name(f"{_stem(mask.path)}.tsv"), root / "dseg.tsv"]
    for path in tables:
        if path.exists():
            _check_table(path)
    labels = values.astype(np.intp)
    _check_sides(labels, mask.path)
    return labels


def shared_entities(name: str) -> tuple[tuple[str, str], ...]:
    """Read the entities of a file name that derivatives share with their source.

    >>> shared_entities("sub-01_run-2_desc-manual_label-SC_mask.nii.gz")
    (('sub', '01'), ('run', '2'))
    """
    pairs = (part.partition("-") for part in name.split("_")[:-1] if "-" in part)
    return tuple((key, value) for key, _, value in pairs if key not in DESCRIBING)


def _stem(path: Path) -> str:
    """Name without the ending of an image."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _describe(path: Path, root: Path) -> ManualMask | None:
    """Read the name of a mask; None if it is not one of ours."""
    *parts, ending = _stem(path).split("_")
    words = dict(part.split("-", 1) for part in parts if "-" in part)
    shows = _BY_ENDING.get(ending)
    if ending in ("mask", "seg"):
        shows = _BY_LABEL.get(words.get("label", words.get("desc", "")))
    if shows is None or "sub" not in words:
        return None
    suffix = "" if not parts or "-" in parts[-1] else parts[-1]
    folder = path.parent.relative_to(root)
    return ManualMask(path, shows, folder, shared_entities(path.name), suffix)


def _check_table(path: Path) -> None:
    """Raise if a label table gives our labels to other regions."""
    table = read_table(path)
    if not {"index", "name"} <= set(table.columns):
        raise InputDataError(f"A label table needs the columns index and name: {path} has not.")
    said = dict(zip(table["index"], table["name"], strict=True))
    wrong = [r.label for r in REGIONS if said.get(r.label, r.name) != r.name]
    if wrong:
        raise InputDataError(
            f"Manual regions need our labels: {path} says that {wrong[0]} is {said[wrong[0]]}. "
            f"{_expected()}"
        )


def _check_sides(labels: npt.NDArray[np.intp], path: Path) -> None:
    """Raise if the left regions lie right of the right ones."""
    of_side = ([r.label for r in REGIONS if r.side is side] for side in (Side.LEFT, Side.RIGHT))
    places = [np.nonzero(np.isin(labels, chosen))[0] for chosen in of_side]
    if all(place.size for place in places) and places[0].mean() < places[1].mean():
        raise InputDataError(
            f"Left is the patient's left: in {path} the left regions lie right of the right ones. "
            "Swap the labels, or correct the orientation in the file."
        )


def _expected() -> str:
    """Say what the labels are."""
    return "Expected are " + ", ".join(f"{r.label} {r.name}" for r in REGIONS) + "."
