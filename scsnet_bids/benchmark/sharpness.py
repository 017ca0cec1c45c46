"""Two figures that unmask blur: what looks better after averaging is not better corrected.

``residual_lag1``, the correlation of a tensor fit's residuals between neighbouring voxels, rises as
a series gets smoother. ``edge_mm`` is the width of the edge of the cord.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.gradients import Gradients
from scsnet_bids.images import Grid
from scsnet_bids.slices import centre_of_slices
from scsnet_bids.unmixing.region_tensor import tensor_design

RAYS = 32
PROFILE_MM = np.arange(-4.0, 4.05, 0.1)


def residual_lag1(data: FloatArray, cord: BoolArray, gradients: Gradients) -> float:
    """Correlate the residuals of a tensor fit between neighbours in the plane of a slice.

    Parameters
    ----------
    data : (i, j, k, n) float array
    cord : (i, j, k) bool array
    gradients : of the n volumes

    Returns
    -------
    float in [-1, 1]
    """
    signal = np.maximum(data[cord], 1e-3 * np.abs(data[cord]).max())
    design = tensor_design(gradients)
    coefficients = np.log(signal) @ np.linalg.pinv(design).T
    weight = np.exp(2 * np.minimum(coefficients @ design.T, 40))
    weight /= weight.max(axis=1, keepdims=True)
    normal = np.einsum("na,vn,nb->vab", design, weight, design)
    right = np.einsum("na,vn->va", design, weight * np.log(signal))
    fitted = np.linalg.solve(normal, right[..., None])[..., 0] @ design.T
    residual = np.full(data.shape, np.nan)
    residual[cord] = data[cord] - np.exp(fitted)
    product = power = 0.0
    for axis in (0, 1):
        first, second = np.delete(residual, -1, axis), np.delete(residual, 0, axis)
        both = np.isfinite(first + second)
        product += float((first * second)[both].sum())
        power += float((first**2 + second**2)[both].sum() / 2)
    return product / power


def edge_mm(mean: FloatArray, cord: BoolArray, grid: Grid) -> float:
    """Measure how wide the edge of the cord is: brightness it loses over its steepest slope.

    Parameters
    ----------
    mean : (i, j, k) float array, cord brighter than what surrounds it
    cord : (i, j, k) bool array
    grid : of both

    Returns
    -------
    float, mm, median over slices of the median over rays; nan if no slice shows an edge
    """
    spacing_mm = grid.spacing_mm[:2]
    centre_mm = centre_of_slices(cord, grid.spacing_mm)
    widths = []
    for k in np.flatnonzero(cord.any(axis=(0, 1))):
        profiles = _ray_profiles(mean[..., k], cord[..., k], centre_mm[k], spacing_mm)
        inner = profiles[:, (PROFILE_MM >= -3) & (PROFILE_MM <= -1.5)].mean(axis=1)
        outer = profiles[:, (PROFILE_MM >= 1.75) & (PROFILE_MM <= 3.25)].mean(axis=1)
        slope = -np.gradient(profiles, PROFILE_MM, axis=1)[:, np.abs(PROFILE_MM) <= 1.5]
        clear = (inner > 1.3 * outer) & (slope.max(axis=1) > 0)
        if clear.sum() >= RAYS / 4:
            widths.append(np.median(((inner - outer) / slope.max(axis=1))[clear]))
    return float(np.median(widths)) if widths else float("nan")


def _ray_profiles(
    mean: FloatArray, cord: BoolArray, centre_mm: FloatArray, spacing_mm: tuple[float, float]
) -> FloatArray:
    """(rays, places) brightness along rays from the cord's centre, from inside to outside."""
    angle = np.arange(RAYS) * 2 * np.pi / RAYS
    direction = np.stack([np.cos(angle), np.sin(angle)])  # (2, rays)
    distance = np.arange(0, 15, 0.1)
    drawn = ndimage.gaussian_filter(cord.astype(float), 0.5)

    def read(image: FloatArray, radius_mm: FloatArray, order: int) -> FloatArray:
        places = centre_mm[:, None, None] + direction[..., None] * radius_mm
        voxels = places / np.array(spacing_mm)[:, None, None]
        return np.asarray(ndimage.map_coordinates(image, voxels, order=order, mode="nearest"))

    outside = read(drawn, np.broadcast_to(distance, (RAYS, distance.size)), 1) < 0.5
    border_mm = distance[outside.argmax(axis=1)]
    return read(mean, border_mm[:, None] + PROFILE_MM, 3)
