"""Predict the signal of each volume from the others, though up to half of them may be wrong.

The logarithm of a slice's signal is a linear function of the gradient. As most errors are losses,
the first fit, one for all slices, runs above the middle of the data (a quantile regression). From
there every slice finds its own coefficients, and what does not belong has no say (an MM-estimate,
yohai1987). How far a signal may lie off is learned on the way: noise, which weighs more where
there is less signal, and an unrest in proportion to the signal.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scsnet_bids.arrays import BoolArray, FloatArray

START_QUANTILE = 0.7
REJECTED = 4.685
"""Tukey's biweight: no say from here on; as good as 95 % of least squares (yohai1987)."""
START_ROUNDS, ROUNDS = 60, 30
SMALLEST = 1e-3
"""Of the logarithm: to the first fit residuals below it are alike, and no unrest is smaller."""
RIDGE = 1e-3
INSIDE, VARIANCE_INSIDE = 3.0, 0.973
"""Standard deviations; what lies farther off does not tell the unrest, and the variance left of a
normal distribution."""
LEAST_FREEDOM = 10
"""With fewer samples beyond those that the fit uses up, the unrest is not known."""
FIRST_UNREST, USUAL_UNREST, USUAL_ROUNDS = 0.25, 0.08, 10
"""What is then taken for it where nothing but a level is fitted: b=0 volumes of real series differ
by 3 to 5 % of their signal. The rounds begin with more, so that no sample decides alone."""
LARGEST_UNREST = 0.16
"""Of such a level: what is learned from samples of which half are lost is no unrest."""
LEAST_VARIANCE = 0.05
"""Of a residual, by that of its sample, where the fit follows it."""
UPPER_MEDIAN = 0.51
"""Median of what lies above the start quantile, by the standard deviation; losses lie below it."""


class Levels(NamedTuple):
    """Signals of slices of volumes of one kind.

    Attributes
    ----------
    signal : (n, k) float array; what is not above 0 is missing
    spread2 : (k,) variance of the signal for voxel noise of variance 1; 0 leaves a slice out
    design : (n, 1 + p) whose first column is 1; the coefficients of the others differ between
        slices by about 1
    """

    signal: FloatArray
    spread2: FloatArray
    design: FloatArray

    @property
    def usable(self) -> BoolArray:
        """(n, k) whether there is a signal."""
        return np.asarray((self.signal > 0) & (self.spread2 > 0))

    @property
    def logarithm(self) -> FloatArray:
        """(n, k) logarithm of the signal; nan where there is none."""
        return np.asarray(np.log(np.where(self.usable, self.signal, np.nan)))


class Expectation(NamedTuple):
    """What is expected of signals.

    Attributes
    ----------
    signal : (n, k) expected signal; nan where there is nothing to compare with
    deviation : (n, k) logarithm of signal by expected signal, in standard deviations; nan
        likewise, and where there is no signal
    """

    signal: FloatArray
    deviation: FloatArray


class _Fit(NamedTuple):
    """Residuals of the logarithm, (n, k) all."""

    predicted: FloatArray
    error: FloatArray  # residual, as if its sample had not been fitted
    say: FloatArray  # in [0, 1]
    leverage: FloatArray  # what a sample with full say has of its own prediction


def expect_signals(levels: Levels) -> Expectation:
    """Fit the signals of every slice robustly.

    Parameters
    ----------
    levels : signals of volumes of one kind

    Returns
    -------
    Expectation
    """
    if not levels.usable.any():
        return Expectation(*np.full((2, *levels.signal.shape), np.nan))
    common = _fit_common(levels)
    residual = levels.logarithm - levels.design @ common.T
    above = residual[residual > 0]
    first = np.median(above) / UPPER_MEDIAN if above.size else 0.0
    variance = np.full(residual.shape, max(first, SMALLEST) ** 2)
    say = _biweight(residual / np.sqrt(variance))
    is_level = levels.design.shape[1] == 1
    for _ in range(ROUNDS):
        fit = _fit_slices(levels, common, say, variance)
        variance = _learn_variance(fit, levels.spread2, variance)
        if is_level:
            variance = np.minimum(variance, LARGEST_UNREST**2)
        say = _biweight(fit.error / np.sqrt(variance))
    known = levels.usable.any(axis=0)
    if _freedom(fit).sum() < LEAST_FREEDOM:
        known &= is_level
        for unrest in np.repeat([FIRST_UNREST, USUAL_UNREST], USUAL_ROUNDS):
            variance = np.full(residual.shape, unrest**2)
            say = _biweight(fit.error / unrest)
            fit = _fit_slices(levels, common, say, variance)
    return Expectation(
        np.where(known, np.exp(fit.predicted), np.nan),
        np.where(known, fit.error / np.sqrt(variance), np.nan),
    )


def _fit_common(levels: Levels) -> FloatArray:
    """(k, 1 + p) coefficients by quantile regression; all but the first are those of all slices.

    Solved by reweighted least squares.
    """
    design, k = levels.design[:, 1:], len(levels.spread2)
    usable, values = levels.usable, np.nan_to_num(levels.logarithm)
    level = values.max(axis=0)
    slope = np.zeros(design.shape[1])
    for _ in range(START_ROUNDS):
        residual = values - level - (design @ slope)[:, None]
        pull = np.where(residual > 0, START_QUANTILE, 1 - START_QUANTILE)
        say = usable * pull / np.maximum(np.abs(residual), SMALLEST)
        crossed = say.T @ design  # (k, p)
        square = design.T @ (say.sum(axis=1)[:, None] * design)
        normal = np.block([[np.diag(say.sum(axis=0)), crossed], [crossed.T, square]])
        right = np.concatenate([(say * values).sum(axis=0), design.T @ (say * values).sum(axis=1)])
        solution = np.linalg.solve(normal + RIDGE * np.eye(len(right)), right)
        level, slope = solution[:k], solution[k:]
    return np.column_stack([level, np.broadcast_to(slope, (k, slope.size))])


def _fit_slices(levels: Levels, common: FloatArray, say: FloatArray, variance: FloatArray) -> _Fit:
    """Fit every slice by weighted least squares, near to what fits all of them."""
    design, precision = levels.design, say / variance
    prior = np.diag(np.r_[RIDGE, np.ones(design.shape[1] - 1)])
    off_common = np.nan_to_num(levels.logarithm - design @ common.T)
    normal = np.einsum("na,nk,nb->kab", design, precision, design) + prior
    right = (precision * off_common).T @ design
    coefficients = common + np.linalg.solve(normal, right[..., None])[..., 0]
    predicted = design @ coefficients.T
    leverage = np.einsum("na,kab,nb->nk", design, np.linalg.inv(normal), design) / variance
    own = np.clip(1 + leverage * (1 - 2 * say), LEAST_VARIANCE, None)
    return _Fit(predicted, (levels.logarithm - predicted) / np.sqrt(own), say, leverage)


def _learn_variance(fit: _Fit, spread2: FloatArray, before: FloatArray) -> FloatArray:
    """(n, k) variance of the logarithm: an unrest and noise, by weighted least squares."""
    noisy = spread2 * np.exp(-2 * fit.predicted)
    inside = np.abs(fit.error) < INSIDE * np.sqrt(before)
    square = np.where(inside, fit.error, 0) ** 2
    weight = np.where(inside, np.clip(1 - fit.say * fit.leverage, 0, None), 0) / before**2
    (a, b), c = ((weight * noisy**power).sum() for power in (0, 1)), (weight * noisy**2).sum()
    constant, sloped = (weight * square).sum(), (weight * square * noisy).sum()
    both = a * c - b**2
    unrest2 = (c * constant - b * sloped) / both if both > 0 else constant / max(a, 1e-30)
    sigma2 = (a * sloped - b * constant) / both if both > 0 else 0.0
    if unrest2 < 0:
        unrest2, sigma2 = 0.0, sloped / c
    elif sigma2 < 0:
        unrest2, sigma2 = constant / a, 0.0
    return np.asarray(np.maximum((unrest2 + sigma2 * noisy) / VARIANCE_INSIDE, SMALLEST**2))


def _freedom(fit: _Fit) -> FloatArray:
    """(n, k) part of each sample that its fit does not use up."""
    return np.asarray(np.clip(fit.say * (1 - fit.say * fit.leverage), 0, None))


def _biweight(deviation: FloatArray) -> FloatArray:
    """Tukey's biweight of deviations in standard deviations; 0 where there is none."""
    inside = np.clip(1 - (deviation / REJECTED) ** 2, 0, None)
    return np.asarray(np.nan_to_num(inside) ** 2)
