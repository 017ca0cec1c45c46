"""Shares of the regions, from probabilities that are too soft and an outline of the wrong size.

Between two regions the network's probability changes more gently than the share of a voxel does.
Taken as they are, such shares exaggerate every contrast when signals are unmixed; hard labels
leave contrast lost, as the network draws the cord about 0.4 mm too wide. So the logits are
multiplied by one constant, measured on phantoms, and the outline is moved to where the unmixed
signals explain the series best. One number is found for the whole series, which noise hardly moves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scsnet_bids.images import Grid
from scsnet_bids.settings import UnmixingSettings
from scsnet_bids.slices import PlaneGrid
from scsnet_bids.transfer import transfer_regions
from scsnet_bids.unmixing import RegionShares

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]

FARTHEST, FIRST_STEP, SMALLEST_STEP = 6.0, 2.0, 0.25
"""How far the outline may move, and by which steps, in logits of the cord's sharp probability."""
JUDGED_SHARE = 0.3
"""Voxels that the cord fills more than this, before sharpening, judge where the outline lies."""
FEWEST_VOXELS = 30
SMALLEST = 1e-4
NO_CORD = 1e-3


@dataclass(frozen=True, eq=False)
class SharpShares:
    """Shares for unmixing.

    Attributes
    ----------
    shares : of the regions in both kinds of volume
    area_ratio : area of the cord, by the area that the network gave it; nan without a cord
    at_limit : whether the outline would have moved farther if it could
    """

    shares: RegionShares
    area_ratio: float
    at_limit: bool


def sharpen_shares(
    series: FloatArray,
    is_b0: BoolArray,
    probability: FloatArray,
    plane: PlaneGrid,
    grid: Grid,
    b0_to_dwi_mm: FloatArray,
    settings: UnmixingSettings,
) -> SharpShares:
    """Sharpen probabilities, find the size of the cord, and bring both to the series.

    Parameters
    ----------
    series : (i, j, k, n) float array, corrected series
    is_b0 : (n,) bool array
    probability : (k, 9, rows, columns) float array in [0, 1] on ``plane``, background first
    plane : grid of the probabilities, which lie where the b=0 volumes do
    grid : of the series
    b0_to_dwi_mm : (k, 2) displacement (left, posterior) from the b=0 to the weighted volumes
    settings : sharpness

    Returns
    -------
    SharpShares
    """
    probability, plane = _crop_to_cord(probability, plane)
    shifts_mm = (b0_to_dwi_mm, np.zeros_like(b0_to_dwi_mm))

    def transferred(probability: FloatArray) -> list[FloatArray]:
        return [transfer_regions(probability, plane, grid, shift_mm) for shift_mm in shifts_mm]

    def residual(withdrawal: float) -> float:
        shares = transferred(sharpen_probability(probability, settings.sharpness, withdrawal))
        return sum(_residual(*pair) for pair in zip(samples, shares, strict=True))

    first = transferred(probability)
    samples = [
        _judged(series[..., kind], s) for kind, s in zip((~is_b0, is_b0), first, strict=True)
    ]
    best = _minimise(residual)
    shares = RegionShares(*transferred(sharpen_probability(probability, settings.sharpness, best)))
    area, first_area = ((1 - share[..., 0]).sum() for share in (shares.weighted, first[0]))
    ratio = float(area / first_area) if first_area > 0 else float("nan")
    return SharpShares(shares, ratio, abs(best) >= FARTHEST)


def sharpen_probability(
    probability: FloatArray, sharpness: float, withdrawal: float = 0.0
) -> FloatArray:
    """Steepen probabilities, and move the outline of the cord inward.

    Parameters
    ----------
    probability : (k, 9, rows, columns) float array in [0, 1], background first
    sharpness : factor of the logits of cord against background, and of region against region
    withdrawal : what the sharpened logit of the cord loses; negative moves the outline outward

    Returns
    -------
    (k, 9, rows, columns) float array in [0, 1] of sum 1
    """
    cord = probability[:, 1:].sum(axis=1)
    inside = np.clip(cord, SMALLEST, 1 - SMALLEST)
    logit = sharpness * np.log(inside / (1 - inside)) - withdrawal
    sharp_cord = np.where(cord > NO_CORD, 1 / (1 + np.exp(-logit)), 0)
    power = np.asarray(probability[:, 1:], dtype=float) ** sharpness
    total = power.sum(axis=1, keepdims=True)
    regions = (
        power / np.where(total > 0, total, 1) * np.where(total[:, 0] > 0, sharp_cord, 0)[:, None]
    )
    return np.concatenate([1 - regions.sum(axis=1, keepdims=True), regions], axis=1)


def _crop_to_cord(probability: FloatArray, plane: PlaneGrid) -> tuple[FloatArray, PlaneGrid]:
    """Cut away the rows and columns in which no slice has any cord."""
    cord: BoolArray = np.any(1 - probability[:, 0] > NO_CORD, axis=0)
    if not cord.any():
        return probability, plane
    rows, columns = np.flatnonzero(cord.any(axis=1)), np.flatnonzero(cord.any(axis=0))
    top, bottom, first, last = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    start_mm = (float(plane.positions_mm(0)[first]), float(plane.positions_mm(1)[top]))
    cropped = PlaneGrid(start_mm, (int(last - first), int(bottom - top)), plane.spacing_mm)
    return probability[..., top:bottom, first:last], cropped


def _minimise(residual: Callable[[float], float]) -> float:
    """Find the withdrawal of smallest residual by halving steps; 0 where none is better."""
    known = {0.0: residual(0.0)}
    step = FIRST_STEP
    while step >= SMALLEST_STEP:
        best = min(known, key=known.__getitem__)
        tried = [x for x in (best - step, best + step) if x not in known and abs(x) <= FARTHEST]
        known |= {x: residual(x) for x in tried}
        if min(known, key=known.__getitem__) == best:
            step /= 2
    return min(known, key=known.__getitem__)


def _judged(series: FloatArray, share: FloatArray) -> list[tuple[BoolArray, FloatArray]]:
    """Per slice, the voxels that judge the outline, (i, j), and their samples, (m, n)."""
    chosen = (1 - share[..., 0] > JUDGED_SHARE) & np.isfinite(series).all(axis=-1)
    slices = range(series.shape[2])
    return [(chosen[..., k], np.asarray(series[chosen[..., k], k], dtype=float)) for k in slices]


def _residual(samples: list[tuple[BoolArray, FloatArray]], share: FloatArray) -> float:
    """Sum of squares that no region signals whatever explain."""
    total = 0.0
    for k, (chosen, values) in enumerate(samples):
        if len(values) >= FEWEST_VOXELS:
            axes, _ = np.linalg.qr(share[chosen, k])
            total += float((values**2).sum() - ((axes.T @ values) ** 2).sum())
    return total
