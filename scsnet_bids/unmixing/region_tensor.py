"""One diffusion tensor per region and slice, fitted to unmixed signals by nonlinear least squares.

Unmixed signals have about the same noise in every volume, may be small and even negative: their
logarithm would be biased, so the exponential itself is fitted. Many tensors are fitted at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.gradients import Gradients

METRICS = ("FA", "MD", "AD", "RD")
N_COEFFICIENTS = 7
"""Logarithm of the signal without weighting, and Dxx Dxy Dxz Dyy Dyz Dzz."""
MATRIX_FROM_ELEMENTS = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])
"""Which of the six elements stands where in the symmetric matrix."""
RANK_TOLERANCE = 1e-3
LARGEST_INFLATION = 4.0
"""Of the tensor's variance by volumes that do not count."""
TIMES_IN_MATRIX = np.array([1, 2, 2, 1, 2, 1])
"""How often each of the six elements stands in the symmetric matrix."""
B_UNIT = 1000.0
"""Coefficients are fitted in 1e-3 mm2/s, so that all are of size 1."""
ROUNDS = 30
SETTLED = 1e-10
"""Part of the signal's power by which a round must change the squares to be followed by another."""
SMALLEST_START = 0.02
LARGEST_EXPONENT = 5.0
FIRST_DAMPING, LARGEST_DAMPING = 1e-3, 1e8


@dataclass(frozen=True, eq=False)
class RegionTensors:
    """Metrics of many tensors, and how they answer to the signals.

    Attributes
    ----------
    value : (p, 4) FA (1), MD, AD, RD (mm2/s); nan where no eigenvalue is positive
    influence : (p, 4, n) change of each metric per unit of each volume's signal
    variance : (p,) of the signal about the fit, square of its unit
    predicted : (p, n) signal of the tensor in each volume
    elements : (p, 6) Dxx Dxy Dxz Dyy Dyz Dzz, mm2/s
    spread : (p, 6, 6) covariance of the elements for noise of variance 1 in every volume
    curved : (p, 6) by how much such noise shifts them on average, since signals are no straight
        function of them (box1971)
    """

    value: FloatArray
    influence: FloatArray
    variance: FloatArray
    predicted: FloatArray
    elements: FloatArray
    spread: FloatArray
    curved: FloatArray


def fit_region_tensors(
    signal: FloatArray, weight: FloatArray, gradients: Gradients
) -> RegionTensors:
    """Fit a tensor to each row of signals.

    Parameters
    ----------
    signal : (p, n) float array
    weight : (p, n) float array in [0, 1]; 0 leaves a volume out. With each row's weights the
        tensor must be determined, as ``determined`` tells
    gradients : of the n volumes

    Returns
    -------
    RegionTensors
    """
    design = tensor_design(gradients)
    scale = np.where(weight > 0, np.abs(signal), 0).max(axis=1, keepdims=True, initial=0)
    scale = np.where(scale > 0, scale, 1.0)
    kept = np.where(weight > 0, signal, 0.0) / scale
    coefficients = _refine(_start(kept, weight, design), kept, weight, design)
    predicted = _predict(coefficients, design)
    slope = predicted[..., None] * design  # (p, n, 7)
    curvature = np.einsum("pna,pn,pnb->pab", slope, weight, slope)
    inverse = np.linalg.pinv(curvature, hermitian=True)
    solve = inverse @ (slope * weight[..., None]).swapaxes(1, 2)
    answer = solve[:, 1:] / B_UNIT / scale[..., None]  # (p, 6, n)
    bend = np.einsum("na,pab,nb,pn->pn", design, solve @ solve.swapaxes(1, 2), design, predicted)
    curved = -0.5 * np.einsum("pan,pn->pa", solve, bend)[:, 1:] / B_UNIT / scale**2
    elements = coefficients[:, 1:] / B_UNIT
    value, gradient = _describe(elements)
    freedom = degrees_of_freedom(weight)
    squares = (weight * (kept - predicted) ** 2).sum(axis=1)
    variance = scale[:, 0] ** 2 * squares / np.where(freedom > 0, freedom, np.nan)
    spread = answer @ answer.swapaxes(1, 2)
    return RegionTensors(
        value, gradient @ answer, variance, scale * predicted, elements, spread, curved
    )


def degrees_of_freedom(weight: FloatArray) -> FloatArray:
    """Count the samples that a tensor's fit leaves to tell the noise.

    Parameters
    ----------
    weight : (p, n) float array in [0, 1]; the noise of all samples is the same

    Returns
    -------
    (p,) float array: by what the weighted squares about the fit must be divided

    >>> degrees_of_freedom(np.array([[1.0] * 10 + [0.0] * 2, [0.5] * 12]))
    array([3. , 2.5])
    """
    total = weight.sum(axis=1)
    typical = (weight**2).sum(axis=1) / np.where(total > 0, total, 1)
    return np.asarray(total - N_COEFFICIENTS * typical)


def noise_bias(tensors: RegionTensors, variance: FloatArray) -> FloatArray:
    """Tell what noise adds to the metrics on average.

    Noise spreads the eigenvalues apart, which raises FA (pierpaoli1996). Its mean effect is that on
    twelve tensors: the root of six standard deviations to both sides of the fitted one, along each
    axis of its covariance (the sigma points of julier2004). Near the noise floor it also raises the
    diffusivities, by 1 to 2 % of MD at b=0 SNR 3, since signals fall ever more slowly (box1971).

    Parameters
    ----------
    tensors : p tensors
    variance : (p,) of the noise in each signal

    Returns
    -------
    (p, 4) float array; nan where the variance is
    """
    scaled, axes = np.linalg.eigh(tensors.spread)
    length = np.sqrt(np.clip(scaled, 0, None) * variance[:, None] * scaled.shape[1])
    steps = np.swapaxes(axes * length[:, None, :], 1, 2)  # (p, 6 axes, 6 elements)
    centre = tensors.elements[:, None]
    around = np.concatenate([centre + steps, centre - steps], axis=1)
    known = np.isfinite(around).all(axis=(1, 2))
    bias = np.full((len(around), len(METRICS)), np.nan)
    metrics = metrics_of(np.linalg.eigvalsh(_matrix(around[known])))
    # The expansion holds for shifts that are small beside the noise itself.
    largest = np.sqrt(variance[:, None] * np.einsum("paa->pa", tensors.spread))
    shift = np.clip(variance[:, None] * tensors.curved, -largest, largest)
    straight = metrics_of(np.linalg.eigvalsh(_matrix((tensors.elements - shift)[known])))
    bias[known] = metrics.mean(axis=1) - straight
    return bias


def tensor_design(gradients: Gradients) -> FloatArray:
    """Write the logarithm of the signal as a linear function of the seven coefficients.

    Parameters
    ----------
    gradients : of n volumes

    Returns
    -------
    (n, 7) float array, for diffusivities in 1e-3 mm2/s
    """
    x, y, z = gradients.bvecs.T
    elements = np.stack([x * x, 2 * x * y, 2 * x * z, y * y, 2 * y * z, z * z], axis=1)
    # What weighs a volume without a direction, as the scanner's own gradients do at b = 45, say,
    # weighs it in some other: on average in all of them alike.
    elements[~gradients.bvecs.any(axis=1)] = [1 / 3, 0, 0, 1 / 3, 0, 1 / 3]
    return np.insert(-gradients.bvals[:, None] / B_UNIT * elements, 0, 1.0, axis=1)


def determined(weight: FloatArray, gradients: Gradients) -> BoolArray:
    """Tell with which weights the volumes still determine a tensor.

    They do if noise moves the tensor at most twice as far as when all volumes count: if a quarter
    of the volumes are left, evenly spread, or more that are not.

    Parameters
    ----------
    weight : (k, n) float array in [0, 1]
    gradients : of the n volumes

    Returns
    -------
    (k,) bool array
    """
    design = tensor_design(gradients)
    if np.linalg.matrix_rank(design, tol=RANK_TOLERANCE) < N_COEFFICIENTS:
        return np.zeros(len(weight), dtype=bool)
    kept = design * np.sqrt(weight)[..., None]
    full_rank = np.linalg.matrix_rank(kept, tol=RANK_TOLERANCE) == N_COEFFICIENTS
    kept[~full_rank] = design
    variance, best = (
        np.einsum("...aa->...a", np.linalg.inv(d.swapaxes(-1, -2) @ d))[..., 1:] @ TIMES_IN_MATRIX
        for d in (kept, design)
    )
    return np.asarray(full_rank & (variance <= LARGEST_INFLATION * best))


def _predict(coefficients: FloatArray, design: FloatArray) -> FloatArray:
    """(p, n) signals of (p, 7) coefficients."""
    return np.asarray(np.exp(np.minimum(coefficients @ design.T, LARGEST_EXPONENT)))


def _start(signal: FloatArray, weight: FloatArray, design: FloatArray) -> FloatArray:
    """(p, 7) coefficients by weighted least squares of the logarithm."""
    raised = np.maximum(signal, SMALLEST_START)
    weight = weight * raised**2
    normal = np.einsum("na,pn,nb->pab", design, weight, design)
    right = np.einsum("na,pn->pa", design, weight * np.log(raised))
    return np.asarray(np.linalg.solve(normal, right[..., None])[..., 0])


def _refine(
    coefficients: FloatArray, signal: FloatArray, weight: FloatArray, design: FloatArray
) -> FloatArray:
    """Minimise the squares of the exponential's residuals (Levenberg-Marquardt, all at once)."""
    damping = np.full(len(signal), FIRST_DAMPING)
    predicted = _predict(coefficients, design)
    cost = (weight * (signal - predicted) ** 2).sum(axis=1)
    power = (weight * signal**2).sum(axis=1)
    for _ in range(ROUNDS):
        slope = predicted[..., None] * design
        curvature = np.einsum("pna,pn,pnb->pab", slope, weight, slope)
        downhill = np.einsum("pna,pn->pa", slope, weight * (signal - predicted))
        diagonal = np.einsum("paa->pa", curvature).max(axis=1)[:, None, None] * np.eye(7)
        damped = curvature + damping[:, None, None] * diagonal
        trial = coefficients + np.linalg.solve(damped, downhill[..., None])[..., 0]
        trial_predicted = _predict(trial, design)
        trial_cost = (weight * (signal - trial_predicted) ** 2).sum(axis=1)
        settled = np.abs(cost - trial_cost) <= SETTLED * (cost + power)
        better = trial_cost < cost
        coefficients = np.where(better[:, None], trial, coefficients)
        predicted = np.where(better[:, None], trial_predicted, predicted)
        cost = np.where(better, trial_cost, cost)
        if settled.all():
            break
        damping = np.clip(damping * np.where(better, 0.2, 5), 1e-12, LARGEST_DAMPING)
    return coefficients


def _matrix(elements: FloatArray) -> FloatArray:
    """(..., 3, 3) tensors of (..., 6) elements."""
    return np.asarray(elements[..., MATRIX_FROM_ELEMENTS])


def metrics_of(eigenvalues: FloatArray) -> FloatArray:
    """Tell what a tensor says of diffusion.

    Parameters
    ----------
    eigenvalues : (..., 3) float array, ascending; negative ones count as 0

    Returns
    -------
    (..., 4) FA, MD, AD, RD, in the unit of the eigenvalues; nan where none is positive
    """
    positive = np.clip(eigenvalues, 0, None)
    mean = positive.mean(axis=-1)
    power = (positive**2).sum(axis=-1)
    power = np.where(power > 0, power, np.nan)
    fa = np.sqrt(1.5 * ((positive - mean[..., None]) ** 2).sum(axis=-1) / power)
    metrics = np.stack([fa, mean, positive[..., 2], positive[..., :2].mean(axis=-1)], axis=-1)
    return np.where(np.isnan(fa)[..., None], np.nan, metrics)


def _describe(elements: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(p, 4) metrics of (p, 6) tensor elements, and (p, 4, 6) their gradients (basser1996)."""
    fitted, vectors = np.linalg.eigh(_matrix(elements))
    value = metrics_of(fitted)
    eigenvalues = np.clip(fitted, 0, None)
    fa = value[:, :1]
    spread = eigenvalues - eigenvalues.mean(axis=1, keepdims=True)
    power, variation = ((x**2).sum(axis=1, keepdims=True) for x in (eigenvalues, spread))
    power = np.where(power > 0, power, np.nan)
    steepness = spread / np.where(variation > 0, variation, np.nan) - eigenvalues / power
    by_eigenvalue = (
        np.stack(
            np.broadcast_arrays(np.nan_to_num(fa * steepness), 1 / 3, [0, 0, 1], [0.5, 0.5, 0]),
            axis=1,
        )
        * (fitted > 0)[:, None]
    )  # (p, 4, 3)
    outer = np.einsum("pxe,pye->pexy", vectors, vectors)
    rows, columns = np.triu_indices(3)
    by_element = outer[:, :, rows, columns] * np.where(rows == columns, 1.0, 2.0)  # (p, 3, 6)
    return value, by_eigenvalue @ by_element
