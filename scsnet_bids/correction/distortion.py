"""Distortion along the phase-encode axis, from two b=0 images with opposite phase encoding.

What lies at a position is seen displaced by a field in one image, and by as much the other way
round in the other (andersson2003). The field is sought under which both images, brought back,
look alike; no signal is lost on the way, so that an image becomes darker where it is pulled apart.
The field is a Gaussian process: smooth over some centimetres in the slice, less so along the cord,
where discs and vertebrae alternate, and 0 where the images say nothing. The images are compared
around the cord, blurred first and sharp last, by Gauss-Newton steps; voxels that differ much more
than the others, such as pulsating fluid, count less.

A person who lies elsewhere in the second scan is followed from side to side, slice by slice.
Motion along the phase-encode axis cannot be told from distortion: half of it goes into the field as
a constant of the slice, which moves the slice as a whole and bends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from scsnet_bids.arrays import FloatArray
from scsnet_bids.correction.interpolation import sample_bent, sample_lines, slope_per_voxel

FIELD_SD_MM = 2.0
"""How large a field is expected to be."""
IN_PLANE_MM, ALONG_CORD_MM = 15.0, 10.0
"""Over which distance it changes."""
WINDOW_MM, WINDOW_EDGE_MM = 20.0, 2.0
"""Radius around the cord within which the images are compared."""
BLURS_MM = (4.0, 1.5, 0.0)
STEPS = 4
SMALL_STEP_MM, LARGEST_STEP_MM = 0.02, 2.0
OUTLYING = 2.0
"""A difference of this many SD counts half."""
ACROSS_STEP_MM = 0.5
"""Of the place from side to side, which the second scan may have moved: damps its steps."""
SMALLEST_NOISE = 1e-3
"""Relative to the signal; images without noise would else be trusted without end."""


def estimate_distortion(
    b0: FloatArray,
    reversed_b0: FloatArray,
    centre_mm: FloatArray,
    spacing_mm: tuple[float, float, float],
    readout_ratio: float = 1.0,
    phase_axis: int = 1,
) -> npt.NDArray[np.float32]:
    """Estimate the field that distorts an image, from one with reversed phase encoding.

    Parameters
    ----------
    b0 : (i, j, k) array, mean b=0 image of the series
    reversed_b0 : (i, j, k) array on the same voxels
    centre_mm : (k, 2) float array, (left, posterior) middle of the cord in ``b0``; nan where it is
        not known
    spacing_mm : voxel size
    readout_ratio : total readout time of the second image over that of the first
    phase_axis : inner axis along which the phase is encoded, 0 (left) or 1 (posterior)

    Returns
    -------
    (i, j, k) float32 array, field in mm; what lies at a position is seen in the first image
    displaced by this, toward larger indices of the phase-encode axis
    """
    pair = [_as_lines(image, phase_axis) for image in (b0, reversed_b0)]
    across_size, phase_size = spacing_mm[1 - phase_axis], spacing_mm[phase_axis]
    size_mm = (spacing_mm[2], across_size, phase_size)
    centre = _known(centre_mm, b0.shape, spacing_mm)[:, [1 - phase_axis, phase_axis]]
    window = _window(pair[0].shape, centre, size_mm)
    basis = _FieldBasis.smooth(pair[0].shape, size_mm)
    weights = torch.zeros(basis.shape)
    across = torch.zeros(len(window))  # how far the second scan shows each slice aside, mm
    for blur_mm in BLURS_MM:
        blurred = [_blurred(image, blur_mm, size_mm) for image in pair]
        # Neighbours in a blurred image do not speak for themselves.
        counts = window / max(1.0, 4 * np.pi * blur_mm**2 / (across_size * phase_size))
        for _ in range(STEPS):
            seen = _compare(blurred, basis.field(weights), across, size_mm, readout_ratio)
            trust = counts / seen.noise(window) ** 2 * seen.agreement(window)
            step = _solve_step(basis, seen, trust, weights)
            largest_mm = float(basis.field(step)[0].abs().max())
            weights = weights + step * min(1.0, LARGEST_STEP_MM / max(largest_mm, SMALL_STEP_MM))
            across = across + seen.step_across(trust)
            if largest_mm < SMALL_STEP_MM:
                break
    return _as_volume(basis.field(weights)[0], phase_axis)


@dataclass(frozen=True, eq=False)
class _FieldBasis:
    """Smooth fields, as products of modes along each axis; independent weights have SD 1."""

    along_cord: Tensor  # (k, c)
    across: Tensor  # (a, p)
    phase: Tensor  # (b, q)
    phase_slope: Tensor  # (b, q) per mm

    @classmethod
    def smooth(cls, shape: tuple[int, ...], size_mm: tuple[float, float, float]) -> _FieldBasis:
        """Make the modes of a Gaussian process on a grid."""
        phase = _gaussian_modes(shape[2], size_mm[2])
        slope = np.gradient(phase, size_mm[2], axis=0) if shape[2] > 1 else 0 * phase
        return cls(
            _tensor(_cord_modes(shape[0], size_mm[0])),
            _tensor(FIELD_SD_MM * _gaussian_modes(shape[1], size_mm[1])),
            _tensor(phase),
            _tensor(slope),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the weights."""
        return (self.along_cord.shape[1], self.across.shape[1], self.phase.shape[1])

    def field(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """(k, a, b) field in mm, and its slope along the phase-encode axis."""
        stacked = (self.along_cord @ weights.flatten(1)).reshape(-1, *weights.shape[1:])
        rows = self.across @ stacked
        return rows @ self.phase.T, rows @ self.phase_slope.T

    def project(self, on_field: Tensor, on_slope: Tensor) -> Tensor:
        """Transpose of :meth:`field`."""
        rows = self.across.T @ (on_field @ self.phase + on_slope @ self.phase_slope)
        return (self.along_cord.T @ rows.flatten(1)).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class _Comparison:
    """Two images brought back, (k, a, b), and how their difference changes with the field."""

    first: Tensor
    second: Tensor
    by_field: Tensor  # per mm
    by_slope: Tensor
    second_by_across: Tensor  # per mm

    @property
    def difference(self) -> Tensor:
        """What the field should make small."""
        return self.first - self.second

    def noise(self, window: Tensor) -> float:
        """SD of the difference in the window, robustly."""
        inside = window > 0.5
        spread = 1.4826 * float(self.difference[inside].abs().median())
        signal = float(self.first[inside].square().mean().sqrt())
        return max(1.5 * spread, SMALLEST_NOISE * signal, 1e-12)

    def agreement(self, window: Tensor) -> Tensor:
        """Less than 1 where the difference lies outside of what is common."""
        return 1 / (1 + (self.difference / (OUTLYING * self.noise(window))) ** 2)

    def step_across(self, trust: Tensor) -> Tensor:
        """(k,) how much farther the second scan is displaced along the other axis, mm."""
        slope = self.second_by_across
        pull = (trust * self.difference * slope).sum((1, 2))
        return pull / ((trust * slope**2).sum((1, 2)) + 1 / ACROSS_STEP_MM**2)


def _compare(
    pair: Sequence[Tensor],
    field: tuple[Tensor, Tensor],
    across_mm: Tensor,
    size_mm: tuple[float, float, float],
    readout_ratio: float,
) -> _Comparison:
    """Bring two images back with a field, as bright as each other in every slice."""
    (first, second), (field_mm, slope) = pair, field
    index = torch.arange(first.shape[-1], dtype=first.dtype)
    _, across_size, phase_size = size_mm
    shift = torch.stack([across_mm / across_size, torch.zeros_like(across_mm)], dim=-1)
    here = sample_lines(first, index + field_mm / phase_size)
    there = sample_bent(second, shift, -readout_ratio * field_mm / phase_size, 1)
    back, forth = here * (1 + slope), there * (1 - readout_ratio * slope)
    power = [image.square().sum((1, 2), keepdim=True).clamp(min=1e-12) for image in (back, forth)]
    gain = (power[0] / power[1]).sqrt()
    # The slope of what was read is the slope of the image, times the stretching.
    by_field = (
        slope_per_voxel(here, -1) + readout_ratio * gain * slope_per_voxel(there, -1)
    ) / phase_size
    by_slope = here + readout_ratio * gain * there
    by_across = slope_per_voxel(gain * forth, -2) / across_size
    return _Comparison(back, gain * forth, by_field, by_slope, by_across)


def _solve_step(basis: _FieldBasis, seen: _Comparison, trust: Tensor, weights: Tensor) -> Tensor:
    """Gauss-Newton step of the weights under their prior."""

    def pull(change: Tensor) -> Tensor:
        weighted = trust * change
        return basis.project(seen.by_field * weighted, seen.by_slope * weighted)

    def curvature(step: Tensor) -> Tensor:
        field, slope = basis.field(step)
        return pull(seen.by_field * field + seen.by_slope * slope) + step

    return _conjugate_gradients(curvature, -pull(seen.difference) - weights)


def _conjugate_gradients(
    matrix: Callable[[Tensor], Tensor], wanted: Tensor, accuracy: float = 0.03, most: int = 80
) -> Tensor:
    """Solve a symmetric, positive system approximately."""
    found, rest = torch.zeros_like(wanted), wanted
    direction, power = rest, rest.square().sum()
    enough = accuracy**2 * power
    for _ in range(most):
        if power <= enough:
            break
        image = matrix(direction)
        length = power / (direction * image).sum()
        found, rest = found + length * direction, rest - length * image
        before, power = power, rest.square().sum()
        direction = rest + power / before * direction
    return found


def _window(
    shape: tuple[int, ...], centre_mm: FloatArray, size_mm: tuple[float, float, float]
) -> Tensor:
    """(k, a, b) 1 around the cord, 0 far from it."""
    across, phase = (np.arange(n) * size for n, size in zip(shape[1:], size_mm[1:], strict=True))
    distance = np.hypot(
        across[:, None] - centre_mm[:, 0, None, None], phase - centre_mm[:, 1, None, None]
    )
    return torch.sigmoid(_tensor((WINDOW_MM - distance) / WINDOW_EDGE_MM))


def _known(
    centre_mm: FloatArray, shape: tuple[int, ...], spacing_mm: tuple[float, float, float]
) -> FloatArray:
    """Put the mean of the known middles, or that of the image, where none is known."""
    unknown = np.isnan(centre_mm[:, :1]) | np.isnan(centre_mm[:, 1:])
    if unknown.all():
        return np.broadcast_to((np.array(shape[:2]) - 1) / 2 * spacing_mm[:2], centre_mm.shape)
    return np.where(unknown, centre_mm[~unknown[:, 0]].mean(axis=0), centre_mm)


def _gaussian_modes(n: int, spacing_mm: float) -> FloatArray:
    """(n, m) modes of a very smooth process of SD 1."""
    place = np.arange(n) * spacing_mm / IN_PLANE_MM
    power, modes = np.linalg.eigh(np.exp(-0.5 * (place[:, None] - place) ** 2))
    kept = power > 1e-3 * power.max()
    return np.asarray(modes[:, kept] * np.sqrt(power[kept]))


def _cord_modes(n: int, spacing_mm: float) -> FloatArray:
    """(n, n) modes of a rougher process of SD 1: Matern, of order 3/2."""
    place = np.arange(n) * spacing_mm / ALONG_CORD_MM
    distance = np.sqrt(3) * np.abs(place[:, None] - place)
    covariance = (1 + distance) * np.exp(-distance) + 1e-6 * np.eye(n)
    return np.asarray(np.linalg.cholesky(covariance))


def _blurred(image: FloatArray, blur_mm: float, size_mm: tuple[float, float, float]) -> Tensor:
    """Blur slices."""
    return _tensor(gaussian_filter(image, (0, blur_mm / size_mm[1], blur_mm / size_mm[2])))


def _as_lines(image: FloatArray, phase_axis: int) -> FloatArray:
    """(k, across, phase) of (i, j, k); what is not finite counts as 0."""
    finite = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0, neginf=0)
    return np.moveaxis(finite, (2, 1 - phase_axis, phase_axis), (0, 1, 2))


def _as_volume(lines: Tensor, phase_axis: int) -> npt.NDArray[np.float32]:
    """(i, j, k) of (k, across, phase)."""
    volume = np.moveaxis(lines.numpy(), (0, 1, 2), (2, 1 - phase_axis, phase_axis))
    return np.ascontiguousarray(volume, dtype=np.float32)


def _tensor(array: FloatArray) -> Tensor:
    """Make a tensor of single precision."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
