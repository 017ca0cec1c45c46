"""Find the cord in a B0 image, and its eight regions. Arrays in, arrays out.

The network looks twice. First at the whole field, to collect everything that resembles a cord; one
smooth path through the slices decides which of it is. Then at a 48 mm square around the path, the
size it was trained on, both as it is and mirrored. A slice without a credible cord stays empty.
A second network may look once more where the first has found a cord, with the mean DWI beside B0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.images import Grid
from scsnet_bids.network.credibility import LEAST_CONFIDENCE, judge_run
from scsnet_bids.network.field import Field, network_plane, resample_image, standardise_locally
from scsnet_bids.network.model import CROP_PIXELS, PIXEL_MM, ScsNet, mirror, standardise
from scsnet_bids.network.path import Candidate, choose_path, fill_gaps
from scsnet_bids.regions import N_CLASSES
from scsnet_bids.slices import PlaneGrid

PIXELS_AT_ONCE = 300_000
PIXEL_MM2 = PIXEL_MM**2
CANDIDATES_PER_SLICE = 4
CANDIDATE_MIN_MM2 = 8.0
CORD_MIN_MM2 = 15.0
CORD_MAX_MM2 = 200.0
RECENTRE_MM = 1.0
RIM_PIXELS = 2
"""How far beyond the half-probability outline the soft edge is kept (1 mm)."""


@dataclass(frozen=True)
class RegionSegmentation:
    """Regions of a B0 stack on one network grid.

    Attributes
    ----------
    probability : (k, 9, rows, columns) float32, channel = label, sum 1; slices without a cord are
        background everywhere
    plane : where the pixels lie in the B0 image
    found : (k,) bool, slices with a credible cord
    confidence : (k,) Dice overlap that the network expects between its mask and the truth, 0 to
        1, lowered where the run as a whole makes a cord doubtful; 0 where nothing was found
    """

    probability: npt.NDArray[np.float32]
    plane: PlaneGrid
    found: BoolArray
    confidence: FloatArray

    @property
    def cord(self) -> npt.NDArray[np.float32]:
        """(k, rows, columns) probability of the cord, the sum of its regions."""
        return np.asarray(self.probability[:, 1:].sum(axis=1))


def locate_cord(b0: FloatArray, grid: Grid, network: ScsNet) -> FloatArray:
    """Find the cord's centre in each slice.

    Parameters
    ----------
    b0 : (i, j, k) B0 signal, inner order, any gain and offset
    grid : of the image
    network : in evaluation mode

    Returns
    -------
    (k, 2) centre (left, posterior) in mm from the first voxel; nan where there is nothing like a
    cord. A gap between slices that have a cord is bridged by a straight line: whether there is a
    cord in it, ``segment_regions`` judges afresh.
    """
    field = resample_image(b0, grid, network_plane(grid))
    slices = standardise_locally(field)
    candidates = []
    with torch.inference_mode():
        for part in _parts(slices.shape):
            images = torch.from_numpy(slices[part])[:, None]
            cord = 1 - _predict(network, images)[:, 0].numpy()  # (part, rows, columns)
            for k, map_of_slice in zip(range(len(slices))[part], cord, strict=True):
                candidates += _find_candidates(k, map_of_slice, field.plane)
    return fill_gaps(choose_path(candidates, len(slices), grid.spacing_mm[2]))


def segment_regions(
    b0: FloatArray, grid: Grid, centre_mm: FloatArray, network: ScsNet
) -> RegionSegmentation:
    """Segment the eight regions in a 48 mm square around a path.

    Parameters
    ----------
    b0 : (i, j, k) B0 signal, inner order, any gain and offset
    grid : of the image
    centre_mm : (k, 2) centre of the cord (left, posterior) in mm, as from ``locate_cord``; slices
        with nan are not looked at
    network : in evaluation mode

    Returns
    -------
    RegionSegmentation
    """

    def look(plane: PlaneGrid) -> list[Field]:
        return [resample_image(b0, grid, plane)]

    first = _segment_around(look, grid, centre_mm, network)
    measured_mm = _measure_centres(first)
    better_mm = np.where(np.isfinite(centre_mm), _smooth(fill_gaps(measured_mm)), np.nan)
    better_mm = np.where(np.isfinite(better_mm), better_mm, centre_mm)
    offset_mm = np.hypot(*(better_mm - centre_mm).T)
    if np.any(offset_mm > RECENTRE_MM):
        return _believe(_segment_around(look, grid, better_mm, network), grid.spacing_mm[2])
    return _believe(first, grid.spacing_mm[2])


def refine_regions(
    first: RegionSegmentation,
    b0: FloatArray,
    mean_dwi: FloatArray,
    grid: Grid,
    b0_to_dwi_mm: FloatArray,
    network: ScsNet,
) -> RegionSegmentation:
    """Segment once more where there is a cord, on B0 and mean DWI together.

    Parameters
    ----------
    first : of the B0 image alone
    b0, mean_dwi : (i, j, k) signals, inner order, any gain and offset
    grid : of both images
    b0_to_dwi_mm : (k, 2) displacement (left, posterior) of the cord from the first to the second
    network : that sees two images, in evaluation mode

    Returns
    -------
    RegionSegmentation, placed where the B0 image lies. A slice keeps its cord if both networks
    find one, and is believed as far as the less sure of them believes it.
    """

    def look(plane: PlaneGrid) -> list[Field]:
        displaced = resample_image(mean_dwi, grid, plane, b0_to_dwi_mm)
        return [resample_image(b0, grid, plane), displaced]

    second = _segment_around(look, grid, _measure_centres(first), network)
    second = _believe(second, grid.spacing_mm[2])
    return replace(second, confidence=np.minimum(first.confidence, second.confidence))


def _segment_around(
    look: Callable[[PlaneGrid], list[Field]], grid: Grid, centre_mm: FloatArray, network: ScsNet
) -> RegionSegmentation:
    """Segment once what is seen on a plane, each slice in the crop around its centre."""
    plane, corners = _common_plane(centre_mm, grid)
    fields = look(plane)
    probability = np.zeros((len(centre_mm), N_CLASSES, *plane.shape[::-1]), dtype=np.float32)
    probability[:, 0] = 1
    found = np.zeros(len(centre_mm), dtype=bool)
    confidence = np.zeros(len(centre_mm))
    crops = np.flatnonzero(np.isfinite(centre_mm).all(axis=1))
    for k, predicted in zip(crops, _predict_crops(network, fields, corners, crops), strict=True):
        mask = _choose_component(1 - predicted[0])
        if mask is None:
            continue
        confidence[k] = _expected_dice(1 - predicted[0], mask)
        found[k] = confidence[k] >= LEAST_CONFIDENCE
        if found[k]:
            (row, column), n = corners[k], CROP_PIXELS
            probability[k, :, row : row + n, column : column + n] = _keep_only(predicted, mask)
    return RegionSegmentation(probability, plane, found, confidence * found)


def _common_plane(centre_mm: FloatArray, grid: Grid) -> tuple[PlaneGrid, npt.NDArray[np.intp]]:
    """One grid that holds all crops, and the (k, 2) row and column of their corners."""
    middle_mm = (np.array(grid.shape[:2]) - 1) / 2 * grid.spacing_mm[:2]
    centres = centre_mm[np.isfinite(centre_mm).all(axis=1)]
    low_mm = (centres if len(centres) else middle_mm[None]).min(axis=0)
    steps = np.rint((np.nan_to_num(centre_mm - low_mm)) / PIXEL_MM).astype(np.intp)
    columns, rows = steps.max(axis=0, initial=0) + CROP_PIXELS
    start_mm = low_mm - (CROP_PIXELS - 1) / 2 * PIXEL_MM
    start = (float(start_mm[0]), float(start_mm[1]))
    return PlaneGrid(start, (int(columns), int(rows)), (PIXEL_MM, PIXEL_MM)), steps[:, ::-1]


def _predict_crops(
    network: ScsNet, fields: list[Field], corners: npt.NDArray[np.intp], crops: npt.NDArray[np.intp]
) -> FloatArray:
    """(len(crops), 9, 96, 96) probabilities, averaged over each crop and its mirror image."""
    places = [(k, *(slice(c, c + CROP_PIXELS) for c in corners[k])) for k in crops]
    if not places:
        return np.zeros((0, N_CLASSES, CROP_PIXELS, CROP_PIXELS))
    cut = [_cut_crops(field, places) for field in fields]
    images = torch.stack([standardise(*crop) for crop in cut], dim=1)
    predicted = []
    with torch.inference_mode():
        for part in _parts(images[:, 0].shape):
            plain = _predict(network, images[part])
            mirrored = mirror(_predict(network, mirror(images[part])), axis_of_classes=1)
            predicted.append((plain + mirrored) / 2)
    return np.asarray(torch.cat(predicted).numpy())


def _cut_crops(field: Field, places: list[Any]) -> tuple[Tensor, Tensor]:
    """(n, 96, 96) signal, and what the scanner saw of it, at n places (slice, rows, columns)."""
    slices, inside = (
        torch.from_numpy(np.stack([stack[place] for place in places]))
        for stack in (field.slices, field.inside)
    )
    return slices, inside


def _predict(network: ScsNet, images: Tensor) -> Tensor:
    """(n, 9, rows, columns) class probabilities of (n, c, rows, columns) images, on the CPU."""
    device = next(network.parameters()).device
    images = images.to(device).contiguous(memory_format=torch.channels_last)
    logits: Tensor = network(images)
    return logits.softmax(dim=1).cpu()


def _parts(shape: tuple[int, ...]) -> Iterator[slice]:
    """Cut a stack into parts that need little memory."""
    n_slices, rows, columns = shape
    step = max(1, PIXELS_AT_ONCE // (rows * columns))
    return (slice(start, start + step) for start in range(0, n_slices, step))


def _find_candidates(k: int, cord: FloatArray, plane: PlaneGrid) -> list[Candidate]:
    """List the largest connected pieces of cord in one slice."""
    pieces, n_pieces = ndimage.label(cord >= 0.5)
    labels = np.arange(1, n_pieces + 1)
    score_mm2 = ndimage.sum_labels(cord, pieces, labels) * PIXEL_MM2
    chosen = [n for n in np.argsort(-score_mm2) if score_mm2[n] >= CANDIDATE_MIN_MM2]
    candidates = []
    for n in chosen[:CANDIDATES_PER_SLICE]:
        row, column = ndimage.center_of_mass(cord, pieces, labels[n])
        centre_mm = (plane.start_mm[0] + column * PIXEL_MM, plane.start_mm[1] + row * PIXEL_MM)
        candidates.append(Candidate(k, centre_mm, float(score_mm2[n])))
    return candidates


def _choose_component(cord: FloatArray) -> BoolArray | None:
    """Take the piece of cord nearest the middle of the crop; None if there is none of its size."""
    pieces, n_pieces = ndimage.label(cord >= 0.5)
    labels = np.arange(1, n_pieces + 1)
    area_mm2 = ndimage.sum_labels(pieces > 0, pieces, labels) * PIXEL_MM2
    labels = labels[(area_mm2 >= CORD_MIN_MM2) & (area_mm2 <= CORD_MAX_MM2)]
    if labels.size == 0:
        return None
    rows, columns = np.indices(cord.shape) - (CROP_PIXELS - 1) / 2
    distance = ndimage.minimum(np.hypot(rows, columns), pieces, labels)
    return np.asarray(pieces == labels[np.argmin(distance)])


def _expected_dice(cord: FloatArray, mask: BoolArray) -> float:
    """Dice between a mask and a truth that follows the cord probability, in expectation."""
    return float(2 * cord[mask].sum() / (mask.sum() + cord.sum()))


def _keep_only(predicted: FloatArray, mask: BoolArray) -> FloatArray:
    """Make everything background but one piece of cord and its soft edge."""
    near = ndimage.binary_dilation(mask, iterations=RIM_PIXELS)
    other = (1 - predicted[0] >= 0.5) & ~mask
    kept: FloatArray = np.where(near & ~other, predicted, 0)
    kept[0] = 1 - kept[1:].sum(axis=0)
    return kept


def _measure_centres(segmentation: RegionSegmentation) -> FloatArray:
    """(k, 2) centre of mass of the cord (left, posterior) in mm; nan where none was found."""
    centre_mm, _ = segmentation.plane.centre_and_spread_mm(segmentation.cord)
    return np.where(segmentation.found[:, None], centre_mm, np.nan)


def _smooth(path_mm: FloatArray) -> FloatArray:
    """Average each place of a path with its neighbours (1, 2, 1); at an end it stays."""
    smooth = path_mm.copy()
    inner = (path_mm[:-2] + 2 * path_mm[1:-1] + path_mm[2:]) / 4
    smooth[1:-1] = np.where(np.isfinite(inner), inner, path_mm[1:-1])
    return smooth


def _believe(segmentation: RegionSegmentation, slice_spacing_mm: float) -> RegionSegmentation:
    """Empty the slices whose mask the run does not bear out."""
    area_mm2 = (segmentation.cord >= 0.5).sum(axis=(1, 2)) * PIXEL_MM2
    found, confidence = judge_run(
        area_mm2, _measure_centres(segmentation), segmentation.confidence, slice_spacing_mm
    )
    background = np.zeros((N_CLASSES, 1, 1), dtype=np.float32)
    background[0] = 1
    probability = np.where(found[:, None, None, None], segmentation.probability, background)
    return RegionSegmentation(probability, segmentation.plane, found, confidence)
