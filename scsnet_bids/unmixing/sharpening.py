"""Shares of the regions, from probabilities that are too soft and borders of the wrong size.

Between two regions the network's probability changes more gently than the share of a voxel does.
Taken as they are, such shares exaggerate every contrast when signals are unmixed; hard labels
leave contrast lost where the network draws a border at the wrong place. So the logits are
multiplied by constants, measured on phantoms: those of region against region by less if the network
sees B0 alone, in which it often draws gray matter a little elsewhere. Between the network's pixels
the same is done: a border runs through pixels, and steepened pixels would be steps of half a
millimetre. The outline of each slice is moved to where the unmixed signals explain the series best.
The slices lean on what is best for all of them together. Then gray matter grows or shrinks, by the
same amount in all slices, to where the series is explained best: its size hardly shows in the image
that the network sees, but the series has all directions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.images import Grid
from scsnet_bids.regions import N_CLASSES
from scsnet_bids.settings import Sharpness
from scsnet_bids.slices import PlaneGrid, interpolate_linearly
from scsnet_bids.unmixing.noise import quick_moments
from scsnet_bids.unmixing.transfer import transfer_regions

WITHDRAWALS = np.arange(-6.0, 10.0)
"""How far the outline may move, in logits of the cord's sharp probability; in noise and beside thin
fluid the network errs to the wide side."""
COMMON, SPREAD = 4.0, 2.0
"""Expected size of the withdrawal of all slices, and of a slice's difference from it."""
MODEL_DEVIATION = 4.0
"""Shares are wrong beyond noise: a residual counts as if noise were larger by this factor."""
JUDGED_SHARE = 0.05
"""Voxels that the cord fills more than this, before sharpening, judge where the outline lies."""
MORE_GRAY = np.arange(-3.0, 4.0) / 3
"""By how much the border of gray matter may move, in logits of the network's probability."""
GRAY_SPREAD = 0.5
"""Expected size of it."""
GRAY_MODEL_DEVIATION = 16.0
"""As ``MODEL_DEVIATION``, and larger: other misplaced borders look like more gray matter."""
FEWEST_VOXELS = 30
FLOOR_ROUNDS = 5
"""Outlines end within 0.1 logits, at worst 0.3, of where 15 rounds would move them."""
GRAY = slice(N_CLASSES - 2, None)
"""Labels of gray matter, the last two."""
FINER = 2
"""Borders are drawn on pixels this many times smaller than the network's."""
SMALLEST = 1e-4
SMALLEST_REGION = 1e-6
NO_CORD = 1e-3


@dataclass(frozen=True, eq=False)
class PlacedRegions:
    """Region probabilities with all that brings them to a series.

    Attributes
    ----------
    probability : (k, 9, rows, columns) float array in [0, 1] on ``plane``, background first
    plane : grid of the probabilities, which lie where the B0 image does
    grid : of the series
    b0_to_dwi_mm : (k, 2) displacement (left, posterior) from the B0 image to the series
    sharpness : factors of the logits
    moved_mm : (n, k, 2) displacement by which the slices of the series' n volumes were
        interpolated; None if they were not
    """

    probability: FloatArray
    plane: PlaneGrid
    grid: Grid
    b0_to_dwi_mm: FloatArray
    sharpness: Sharpness
    moved_mm: FloatArray | None = None

    def cropped(self) -> PlacedRegions:
        """Cut away the rows and columns in which no slice has any cord."""
        probability, plane = _crop_to_cord(self.probability, self.plane)
        return replace(self, probability=probability, plane=plane)

    def refined(self) -> PlacedRegions:
        """Interpolate the logits between the pixels, and divide these."""
        regions = self.cropped()
        plane = regions.plane.divided(FINER)
        inside = np.clip(1 - regions.probability[:, 0], SMALLEST, 1 - SMALLEST)
        logit = interpolate_linearly(special.logit(inside), regions.plane, plane)
        logs = np.log(np.clip(regions.probability[:, 1:], SMALLEST_REGION, None))
        shared = np.exp(interpolate_linearly(logs, regions.plane, plane))
        cord = special.expit(logit)[:, None]
        shared *= cord / shared.sum(axis=1, keepdims=True)
        probability = np.concatenate([1 - cord, shared], axis=1, dtype=np.float32)
        return replace(regions, probability=probability, plane=plane)

    def sharpened(self, borders: Borders) -> PlacedRegions:
        """Sharpen, and move outline and gray matter."""
        moved = (x[:, None, None] for x in (borders.withdrawal, borders.more_gray))
        sharp = sharpen_probability(self.probability, self.sharpness, *moved)
        return replace(self, probability=sharp)

    def shares(self) -> FloatArray:
        """(i, j, k, 9) shares of the probabilities, as they are."""
        return transfer_regions(self.probability, self.plane, self.grid, self.b0_to_dwi_mm)

    def seen_shares(self) -> FloatArray:
        """(i, j, k, 9) the same as the series shows them, see ``interpolated``."""
        placed = (self.probability, self.plane, self.grid, self.b0_to_dwi_mm)
        return transfer_regions(*placed, self.moved_mm)


@dataclass(frozen=True, eq=False)
class Borders:
    """How the borders of each slice were moved.

    Attributes
    ----------
    withdrawal : (k,) what the sharpened logit of the cord loses; negative is outward
    more_gray : (k,) what the network's logits of gray matter gain on the columns
    area_ratio : (k,) area of the cord, by the area that the network gave it; nan without a cord
    gray_ratio : (k,) the same of gray matter
    at_limit : (k,) bool, whether the outline would have moved farther if it could
    """

    withdrawal: FloatArray
    more_gray: FloatArray
    area_ratio: FloatArray
    gray_ratio: FloatArray
    at_limit: BoolArray

    @classmethod
    def unmoved(cls, n_slices: int) -> Borders:
        """Leave the borders of every slice where they are."""
        zero, one = np.zeros(n_slices), np.ones(n_slices)
        return cls(zero, zero, one, one, np.zeros(n_slices, dtype=bool))

    def moved(self, withdrawal: float | FloatArray, more_gray: float = 0.0) -> Borders:
        """Move the outline of all slices inward, or gray matter outward, by a little more."""
        return replace(
            self, withdrawal=self.withdrawal + withdrawal, more_gray=self.more_gray + more_gray
        )


def fit_borders(
    series: FloatArray,
    regions: PlacedRegions,
    counted: BoolArray | None = None,
    sigma: float = 0.0,
) -> Borders:
    """Move the borders to where unmixed signals explain the series best.

    Parameters
    ----------
    series : (i, j, k, n) float array, corrected series
    regions : of the series, as the network gave them
    counted : (n, k) bool array, slices of volumes that show the cord; None counts all
    sigma : standard deviation of the noise in each channel of a magnitude image, unit of the
        signal; 0 if it has no floor

    Returns
    -------
    Borders
    """
    regions = regions.cropped()
    first = regions.shares()
    shown = np.ones(series.shape[:1:-1], dtype=bool) if counted is None else counted
    samples = _judged(series, first, shown)

    def residuals(candidates: list[Borders]) -> FloatArray:
        # On the network's own pixels, which are fewer and tell the same.
        shares = (regions.sharpened(borders).seen_shares() for borders in candidates)
        return np.array([_residuals(samples, share, sigma) for share in shares])

    borders, freedom = Borders.unmoved(series.shape[2]), _freedom(samples)
    by_outline = residuals([borders.moved(w) for w in WITHDRAWALS])
    borders = borders.moved(_believed_withdrawal(by_outline, freedom))
    by_gray = residuals([borders.moved(0.0, gray) for gray in MORE_GRAY])
    borders = borders.moved(0.0, _believed_gray(by_gray, freedom))
    share = regions.refined().sharpened(borders).shares()
    at_limit = (WITHDRAWALS[0], WITHDRAWALS[-1])
    return replace(
        borders,
        area_ratio=_ratio(share, first, slice(1, None)),
        gray_ratio=_ratio(share, first, GRAY),
        at_limit=np.isin(borders.withdrawal, at_limit),
    )


def sharpen_probability(
    probability: FloatArray,
    sharpness: Sharpness,
    withdrawal: float | FloatArray = 0.0,
    more_gray: float | FloatArray = 0.0,
) -> FloatArray:
    """Steepen probabilities, and move the outline of the cord inward and gray matter outward.

    Parameters
    ----------
    probability : (k, 9, rows, columns) float array in [0, 1], background first
    sharpness : factors of the logits
    withdrawal : what the sharpened logit of the cord loses; negative moves the outline outward;
        of shape (k, 1, 1) if the slices differ
    more_gray : what the logits of gray matter gain on the columns before, likewise

    Returns
    -------
    (k, 9, rows, columns) float array in [0, 1] of sum 1
    """
    cord = probability[:, 1:].sum(axis=1)
    inside = np.clip(cord, SMALLEST, 1 - SMALLEST)
    logit = sharpness.outline * special.logit(inside) - withdrawal
    sharp_cord = np.where(cord > NO_CORD, special.expit(logit), 0)
    power = np.asarray(probability[:, 1:], dtype=float) ** sharpness.regions
    power[:, GRAY.start - 1 :] *= np.exp(sharpness.regions * np.reshape(more_gray, (-1, 1, 1, 1)))
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
    down, across = (slice(int(x[0]), int(x[-1]) + 1) for x in (rows, columns))
    return probability[..., down, across], plane.part(across, down)


def _believed_withdrawal(residuals: FloatArray, freedom: FloatArray) -> FloatArray:
    """(k,) withdrawal of each slice, from the residuals (withdrawals, k) and their freedom (k,)."""
    misfit = _misfit(residuals, freedom, MODEL_DEVIATION)
    common = WITHDRAWALS[np.argmin(misfit.sum(axis=1) + (WITHDRAWALS / COMMON) ** 2)]
    return _lowest(misfit + ((WITHDRAWALS - common)[:, None] / SPREAD) ** 2, WITHDRAWALS)


def _believed_gray(residuals: FloatArray, freedom: FloatArray) -> float:
    """Gain of gray matter in all slices, from residuals (gains, k) and their freedom (k,)."""
    misfit = _misfit(residuals, freedom, GRAY_MODEL_DEVIATION).sum(axis=1)
    cost = misfit + (MORE_GRAY / GRAY_SPREAD) ** 2
    return float(_lowest(cost[:, None], MORE_GRAY)[0])


def _misfit(residuals: FloatArray, freedom: FloatArray, deviation: float) -> FloatArray:
    """Residuals in units of their own variance, the noise taken larger by a factor."""
    variance = residuals.min(axis=0) / np.maximum(freedom, 1)
    known = variance > 0
    return np.asarray(residuals * known / (np.where(known, variance, 1) * deviation**2))


def _lowest(cost: FloatArray, steps: FloatArray) -> FloatArray:
    """(k,) step of least cost (steps, k), between the steps by a parabola."""
    best = np.argmin(cost, axis=0)
    inner = np.clip(best, 1, len(cost) - 2)
    below, middle, above = (cost[inner + step, np.arange(cost.shape[1])] for step in (-1, 0, 1))
    bend = below - 2 * middle + above
    offset = np.where(bend > 0, (below - above) / np.where(bend > 0, 2 * bend, 1), 0)
    between = steps[inner] + (steps[1] - steps[0]) * np.clip(offset, -0.5, 0.5)
    return np.asarray(np.where(best == inner, between, steps[best]))


def _ratio(share: FloatArray, first: FloatArray, labels: slice) -> FloatArray:
    """(k,) area of regions by the area that they had at first; nan where they had none."""
    area, first_area = (x[..., labels].sum(axis=(0, 1, 3)) for x in (share, first))
    known = first_area > 0
    return np.asarray(np.where(known, area / np.where(known, first_area, 1), np.nan), dtype=float)


def _judged(
    series: FloatArray, share: FloatArray, counted: BoolArray
) -> list[tuple[BoolArray, FloatArray]]:
    """Per slice, the voxels that judge the outline, (i, j), and their samples, (m, n left)."""
    chosen = (1 - share[..., 0] > JUDGED_SHARE) & np.isfinite(series).all(axis=-1)
    slices = range(series.shape[2])
    return [
        (chosen[..., k], series[chosen[..., k], k][:, counted[:, k]].astype(float)) for k in slices
    ]


def _freedom(samples: list[tuple[BoolArray, FloatArray]]) -> FloatArray:
    """(k,) samples less the region signals that are found from them."""
    counts = [(len(values) - N_CLASSES) * values.shape[1] for _, values in samples]
    return np.asarray(np.clip(counts, 0, None))


def _residuals(
    samples: list[tuple[BoolArray, FloatArray]], share: FloatArray, sigma: float
) -> FloatArray:
    """(k,) sum of squares that no region signals whatever explain; 0 where voxels are too few."""
    total = np.zeros(len(samples))
    for k, (chosen, values) in enumerate(samples):
        if len(values) >= FEWEST_VOXELS:
            axes, _ = np.linalg.qr(share[chosen, k])
            total[k] = ((values - _explain(values, axes, sigma)) ** 2).sum()
    return total


def _explain(values: FloatArray, axes: FloatArray, sigma: float) -> FloatArray:
    """(m, n) magnitudes that come nearest to the values, of signals spanned by (m, 9) axes.

    The noise floor lifts dark voxels, those that cord and fluid share less than their shares say:
    taken as they are they look like more fluid, and the outline moves inward.
    """
    signal: FloatArray = axes @ (axes.T @ values)
    if not sigma > 0:
        return signal
    for _ in range(FLOOR_ROUNDS):
        mean, slope = quick_moments(signal / sigma)
        signal += axes @ (axes.T @ (slope * (values - sigma * mean)))
    return sigma * quick_moments(signal / sigma)[0]
