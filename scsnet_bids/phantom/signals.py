"""Signals of the phantom's tissues: one tensor per region, isotropic diffusion elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from scsnet_bids.arrays import FloatArray
from scsnet_bids.gradients import Gradients
from scsnet_bids.images import Grid
from scsnet_bids.regions import N_CLASSES, REGIONS, Region, Tissue

WHITE_SIGNAL = 1000.0
"""b=0 signal of white matter; other brightnesses are relative to it."""
GRAY_BRIGHTNESS = 1.1
FA_AND_MD = {
    Tissue.LATERAL_COLUMN: (0.70, 0.90e-3),
    Tissue.DORSAL_COLUMN: (0.72, 0.90e-3),
    Tissue.VENTRAL_COLUMN: (0.62, 0.90e-3),
    Tissue.GRAY_MATTER: (0.45, 0.85e-3),
}
"""Typical tensor of each tissue at 3 T, MD in mm2/s."""
FLUID_MD, MUSCLE_MD, NERVE_MD = 3.0e-3, 1.5e-3, 1.2e-3


@dataclass(frozen=True)
class RegionTensor:
    """True diffusion in one region: a tensor with one long axis.

    Attributes
    ----------
    region : which region
    fa : fractional anisotropy
    md : mean diffusivity, mm2/s
    """

    region: Region
    fa: float
    md: float


def draw_tissue(
    variation: float, fa_drop: float, rng: np.random.Generator
) -> tuple[RegionTensor, ...]:
    """Draw a person's tensors: deviations partly common to all regions, partly each its own.

    Parameters
    ----------
    variation : relative SD between persons
    fa_drop : loss of FA in the white columns, 0 to 1
    rng : source of the person's randomness

    Returns
    -------
    tuple of RegionTensor, one per region
    """
    common, own = rng.normal(0, 0.8, 2), rng.normal(0, 0.6, (len(REGIONS), 2))
    kept = dict.fromkeys(Tissue, 1 - fa_drop) | {Tissue.GRAY_MATTER: 1.0}
    return tuple(
        RegionTensor(
            region,
            float(FA_AND_MD[region.tissue][0] * kept[region.tissue] * fa_factor),
            float(FA_AND_MD[region.tissue][1] * md_factor),
        )
        for region, (fa_factor, md_factor) in zip(
            REGIONS, 1 + variation * (common + own), strict=True
        )
    )


def draw_tilts(count: int, rms_deg: float, rng: np.random.Generator) -> FloatArray:
    """Draw fibre tilts in opposite pairs.

    Parameters
    ----------
    count : how many, an even number
    rms_deg : root mean square of the angle from the course of the cord
    rng : source of randomness

    Returns
    -------
    (count, 2) float array, slopes toward left and posterior
    """
    half = rng.normal(0, 1, (count // 2, 2))
    angle = np.linalg.norm(half, axis=1, keepdims=True)
    scaled = np.deg2rad(rms_deg) * angle / np.sqrt((angle**2).mean())
    slopes = half / angle * np.tan(scaled)
    return np.concatenate([slopes, -slopes])


def mean_tensors(tissue: tuple[RegionTensor, ...], tilts: FloatArray) -> tuple[RegionTensor, ...]:
    """Average the tensors of a region's fibres, which are tilted against each other.

    It is what a tensor of the region can show at best: the tilts take from its FA, and leave MD.

    Parameters
    ----------
    tissue : tensor of the fibres of each region
    tilts : (t, 2) slopes of the fibres against the course of the cord, each as frequent

    Returns
    -------
    tuple of RegionTensor
    """
    fibre = _unit(np.pad(tilts, ((0, 0), (0, 1)), constant_values=1.0))
    spread = np.linalg.eigvalsh(fibre.T @ fibre / len(fibre))
    means = []
    for part in tissue:
        across, excess = axial_diffusivities(part.fa, part.md)
        along = across + excess * spread
        fa = np.sqrt(1.5 * ((along - part.md) ** 2).sum() / (along**2).sum())
        means.append(replace(part, fa=float(fa)))
    return tuple(means)


def cord_signals(
    tissue: tuple[RegionTensor, ...],
    course: FloatArray,
    tilts: FloatArray,
    gradients: Gradients,
    grid: Grid,
) -> FloatArray:
    """Compute the signal of every cord compartment in every slice and volume.

    Parameters
    ----------
    tissue : tensor of each region
    course : (k, 3) unit vectors along the cord, on the inner axes
    tilts : (t, 2) slopes of the fibres against that course
    gradients : of the n volumes
    grid : of the image

    Returns
    -------
    (k, n, 9 * t) float array, in order of label and tilt, 0 for label 0
    """
    fibre = _unit(course[:, None] + np.pad(tilts, ((0, 0), (0, 1))))  # (k, t, 3)
    inner_bvecs = gradients.bvecs @ (grid.affine[:3, :3] / grid.spacing_mm)
    cosine = np.einsum("ktx,nx->knt", fibre, inner_bvecs)
    signals = np.zeros((*cosine.shape[:2], N_CLASSES, len(tilts)))
    for part in tissue:
        brightness = GRAY_BRIGHTNESS if part.region.tissue is Tissue.GRAY_MATTER else 1.0
        across, excess = axial_diffusivities(part.fa, part.md)
        weight = gradients.bvals[:, None] * (across + excess * cosine**2)  # (k, n, t)
        signals[:, :, part.region.label] = WHITE_SIGNAL * brightness * np.exp(-weight)
    return signals.reshape(*cosine.shape[:2], -1)


def axial_diffusivities(fa: float, md: float) -> tuple[float, float]:
    """Turn FA and MD of a tensor with one long axis into its diffusivities.

    FA's definition (basser1996) solved for two equal eigenvalues.

    Parameters
    ----------
    fa : fractional anisotropy
    md : mean diffusivity

    Returns
    -------
    diffusivity across the axis, and what there is more along it, in the unit of ``md``

    Examples
    --------
    >>> across, excess = axial_diffusivities(1.0, 1.0)
    >>> round(across, 6), round(excess, 6)
    (0.0, 3.0)
    """
    spread = fa * md / np.sqrt(3 - 2 * fa**2)
    return float(md - spread), float(3 * spread)


def surrounding_signals(gradients: Gradients) -> FloatArray:
    """Compute the signal of fluid, muscle and nerve of brightness 1.

    Parameters
    ----------
    gradients : of the n volumes

    Returns
    -------
    (n, 3) float array
    """
    md = np.array([FLUID_MD, MUSCLE_MD, NERVE_MD])
    return np.asarray(WHITE_SIGNAL * np.exp(-gradients.bvals[:, None] * md))


def _unit(vectors: FloatArray) -> FloatArray:
    """(..., 3) vectors of length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
