"""The diffusion tensor of every voxel: DIPY's weighted least squares, and the maps made from it.

A map says only what was measured. Outside the mask it is 0, as NIfTI maps are; inside, a voxel
that cannot be fitted is nan, and region means leave it out. A sample that is 0, negative or nan
holds no signal (the edge of a shifted slice, a missing volume) and has no say in its voxel's fit.
A slice that lost its signal in a volume has less say or none, and where so many are lost that
noise would move the tensor twice as far, the slice has no tensor.

Where noise makes one or two eigenvalues negative, they are raised to 0 for the maps, as DIPY does:
dropping such voxels would take away the most anisotropic ones. The tensor itself is left as
fitted, and ``non_positive_tensors`` counts them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.errors import GradientError
from scsnet_bids.gradients import (
    Gradients,
    b0_volumes,
    tensor_volumes,
)
from scsnet_bids.settings import GradientSettings
from scsnet_bids.unmixing.region_tensor import (
    B_UNIT,
    MATRIX_FROM_ELEMENTS,
    N_COEFFICIENTS,
    degrees_of_freedom,
    determined,
    metrics_of,
    tensor_design,
)

N_COLUMNS = 14
"""fa, md, ad, rd, noise, six tensor elements, three of the direction."""
SAMPLES_AT_ONCE = 2**18
"""Of voxels and volumes: memory is used again instead of asked for anew."""
LARGEST_LOG_SIGNAL = 40.0
RIDGE = 1e-12
"""Of the size of a matrix, so that it can always be solved."""


@dataclass(frozen=True, eq=False)
class TensorMaps:
    """What the tensor fit says about every voxel.

    Everything is 0 outside the mask and nan where no tensor could be fitted.

    Attributes
    ----------
    fa : (i, j, k) fractional anisotropy in [0, 1]
    md, ad, rd : (i, j, k) mean, axial and radial diffusivity, mm2/s
    tensor : (i, j, k, 6) Dxx Dxy Dxz Dyy Dyz Dzz in scanner RAS+, mm2/s, as fitted
    direction : (i, j, k, 3) unit vector along the largest eigenvalue, scanner RAS+, z >= 0
    noise : (i, j, k) standard deviation of the signal about the tensor that fits it best, unit of
        the signal
    """

    fa: FloatArray
    md: FloatArray
    ad: FloatArray
    rd: FloatArray
    tensor: FloatArray
    direction: FloatArray
    noise: FloatArray


def fit_tensor(
    series: FloatArray,
    gradients: Gradients,
    mask: BoolArray | None,
    settings: GradientSettings,
    weight: FloatArray | None = None,
) -> TensorMaps:
    """Fit a diffusion tensor to every voxel by weighted least squares.

    Parameters
    ----------
    series : (i, j, k, n) float array, diffusion series
    gradients : of the n volumes
    mask : (i, j, k) bool array of the voxels to fit; None fits the whole field
    settings : which volumes enter the fit
    weight : (n, k) float array in [0, 1], how much each slice of each volume counts; None counts
        all fully

    Returns
    -------
    TensorMaps

    Raises
    ------
    GradientError
        If the chosen volumes leave the tensor undetermined.
    """
    used = tensor_volumes(gradients.bvals, settings)
    chosen = gradients.select(used)
    design = tensor_design(chosen)
    _check_rank(design, settings)
    is_b0 = b0_volumes(chosen.bvals, settings.b0_max)
    inside = np.ones(series.shape[:3], dtype=bool) if mask is None else np.asarray(mask, bool)
    of_slices = np.ones((inside.shape[2], len(design))) if weight is None else weight[used].T
    in_slice = determined(of_slices, chosen)
    volume = np.zeros((*inside.shape, N_COLUMNS))
    places = np.argwhere(inside)
    at_once = SAMPLES_AT_ONCE // len(design)
    for first in range(0, len(places), at_once):
        i, j, k = places[first : first + at_once].T
        signal = np.asarray(series[i, j, k][:, used], dtype=float)
        say = np.where(np.isfinite(signal) & (signal > 0), of_slices[k], 0).astype(np.float32)
        fittable = _enough_samples(design, say > 0, is_b0) & in_slice[k]
        columns = np.full((len(signal), N_COLUMNS), np.nan)
        columns[fittable] = _fit_voxels(design, signal[fittable], say[fittable])
        volume[i, j, k] = columns
    fa, md, ad, rd, noise = np.moveaxis(volume[..., :5], -1, 0)
    return TensorMaps(fa, md, ad, rd, volume[..., 5:11], volume[..., 11:], noise)


def non_positive_tensors(tensor: FloatArray) -> BoolArray:
    """Tell where noise has left a fitted tensor without three positive eigenvalues.

    Parameters
    ----------
    tensor : (..., 6) float array, Dxx Dxy Dxz Dyy Dyz Dzz

    Returns
    -------
    (...) bool array, False where there is no tensor (0 or nan)
    """
    present = np.isfinite(tensor).all(axis=-1) & tensor.any(axis=-1)
    smallest = np.zeros(present.shape)
    smallest[present] = np.linalg.eigvalsh(tensor[present][:, MATRIX_FROM_ELEMENTS])[:, 0]
    return np.asarray(present & (smallest <= 0))


def _check_rank(design: FloatArray, settings: GradientSettings) -> None:
    """Raise if no signal whatever could determine the tensor."""
    if np.linalg.matrix_rank(design) < N_COEFFICIENTS:
        raise GradientError(
            "A tensor needs a b=0 volume and six different directions: the "
            f"{len(design)} volumes with b <= {settings.tensor_b_max:g} do not hold them. Raise "
            "the tensor's b-value limit, or leave this series out."
        )


def _enough_samples(design: FloatArray, usable: BoolArray, is_b0: BoolArray) -> BoolArray:
    """Tell which voxels have a b=0 sample and determine a tensor, (voxels,) from (voxels, n)."""
    packed = np.packbits(usable, axis=1)
    _, first, alike = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    patterns = usable[first]
    rank = np.linalg.matrix_rank(design * patterns[..., None])
    enough = patterns[:, is_b0].any(axis=1) & (rank == N_COEFFICIENTS)
    return np.asarray(enough[alike.ravel()])


def _fit_voxels(design: FloatArray, signal: FloatArray, say: FloatArray) -> FloatArray:
    """Columns fa md ad rd noise, six tensor elements, direction of (voxels, n) signals."""
    coefficients = _fit_coefficients(design, signal, say)
    elements = coefficients[:, 1:] / B_UNIT
    # Where there is nothing but noise the fit may promise any signal.
    predicted = np.exp(np.minimum(coefficients @ design.T, LARGEST_LOG_SIGNAL))
    noise = _residual_deviation(design, signal, predicted, say)
    scalars, direction = _describe_tensors(elements)
    columns = np.column_stack([scalars, noise, elements, direction])
    columns[~(scalars[:, 2] > 0)] = np.nan  # no positive eigenvalue: nothing was measured
    return columns


def _fit_coefficients(design: FloatArray, signal: FloatArray, say: FloatArray) -> FloatArray:
    """(voxels, 7) coefficients of ``design``; samples without a say are left out."""
    from dipy.reconst.dti import wls_fit_tensor

    coefficients = np.empty((len(signal), N_COEFFICIENTS))
    whole = (say == 1).all(axis=1)
    if whole.any():
        fitted, _ = wls_fit_tensor(design, signal[whole], return_lower_triangular=True)
        coefficients[whole] = fitted
    if not whole.all():
        counted = say[~whole].astype(float)
        kept = np.where(counted > 0, signal[~whole], 1.0)
        first, _ = wls_fit_tensor(design, kept, weights=counted, return_lower_triangular=True)
        weights = counted * np.exp(2 * np.minimum(first @ design.T, LARGEST_LOG_SIGNAL))
        fitted, _ = wls_fit_tensor(design, kept, weights=weights, return_lower_triangular=True)
        coefficients[~whole] = fitted
    return coefficients


def _residual_deviation(
    design: FloatArray, signal: FloatArray, predicted: FloatArray, say: FloatArray
) -> FloatArray:
    """(voxels,) standard deviation about the fit; nan where no sample is left to judge it.

    About the tensor that fits the signals best, one step of Gauss-Newton away: the logarithm of a
    weak signal lies too low on average, and so does a fit to it, which would pass for noise.
    """
    apart = np.where(say > 0, signal - predicted, 0)
    slope = say * predicted * apart @ design
    products = np.einsum("np,nq->npq", design, design).reshape(len(design), -1)
    curvature = (say * predicted**2 @ products).reshape(-1, N_COEFFICIENTS, N_COEFFICIENTS)
    size = np.trace(curvature, axis1=1, axis2=2) + np.finfo(float).tiny
    curvature += RIDGE * size[:, None, None] * np.eye(N_COEFFICIENTS)
    step = np.linalg.solve(curvature, slope[..., None])[..., 0]
    squares = (say * apart**2).sum(axis=1) - (slope * step).sum(axis=1)
    freedom = degrees_of_freedom(say)
    mean = np.clip(squares, 0, None) / np.where(freedom > 0, freedom, np.nan)
    return np.asarray(np.sqrt(mean))


def _describe_tensors(elements: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(voxels, 4) fa md ad rd and (voxels, 3) principal direction of (voxels, 6) elements."""
    ascending, vectors = np.linalg.eigh(elements[:, MATRIX_FROM_ELEMENTS])
    scalars = metrics_of(ascending)
    direction = vectors[:, :, 2]
    return scalars, direction * np.where(direction[:, 2:] < 0, -1.0, 1.0)
