"""Turn synthetic anatomy into images: echo-planar readout, noise, field of view; mirroring.

The readout is computed in k-space, so that blur, ringing and ghosts are those of a scanner: the
spectrum is cut to the native voxel size, weighted by T2* decay and partial Fourier along the
phase-encode axis (front-back), evaluated on the native voxels, given complex noise, and only then
interpolated to the network's grid, exactly as a real image is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scsnet_bids.network.model import CROP_PIXELS, PIXEL_MM, standardise
from scsnet_bids.training.atlas import Atlas
from scsnet_bids.training.synthesis import (
    MARGIN_PIXELS,
    PATCH_PIXELS,
    Draws,
    Pose,
    cut_middle,
    draw_slices,
)
from scsnet_bids.training.weighting import draw_b0_and_dwi

SMALLEST_VOXEL_MM = 0.6
PATCH_MM = PATCH_PIXELS * PIXEL_MM
NATIVE_VOXELS = math.ceil(PATCH_MM / SMALLEST_VOXEL_MM) + 1
NOISIEST_VOLUME = 1 / 3
"""Largest deviation of the noise of a single volume, relative to the cord without weighting."""


def draw_batch(
    atlas: Atlas, n: int, generator: torch.Generator, n_images: int = 1
) -> tuple[Tensor, Tensor]:
    """Draw synthetic slices and their truth.

    Parameters
    ----------
    atlas : anatomy, on the device of the generator
    n : slices
    generator : random numbers; the same state gives the same slices
    n_images : 1 draws B0, 2 draws the mean DWI as well

    Returns
    -------
    (n, n_images, 96, 96) standardised slices and (n, 9, 96, 96) area fractions, 0.5 mm
    """
    draws = Draws(n, generator)
    anatomy = draw_slices(atlas, draws)
    if n_images == 1:
        intensities, volumes = anatomy.b0[:, None], torch.ones(1, device=generator.device)
    else:
        intensities, volumes = draw_b0_and_dwi(anatomy, draws)
    shade = torch.exp(draws.uniform(0, 0.35) * draws.field(30, "bicubic"))
    images, inside = acquire(intensities * shade[:, None], volumes, anatomy.pose, draws)
    slices = [standardise(image, inside) for image in images.unbind(dim=1)]
    return torch.stack(slices, dim=1), cut_middle(anatomy.target)


def acquire(
    intensities: Tensor, volumes: Tensor, pose: Pose, draws: Draws
) -> tuple[Tensor, Tensor]:
    """Acquire slices with a random readout, the same for all images of a slice.

    Noise that is drawn fits the first image; another has less of it the more volumes it is the
    mean of, but does not fall below the floor of the magnitude of a single one.

    Parameters
    ----------
    intensities : (n, c, 128, 128)
    volumes : (c,) or (n, c) of how many volumes each image is the mean
    pose : where the cord lies, so that the field of view holds it
    draws : random numbers

    Returns
    -------
    (n, c, 96, 96) magnitudes on the network's grid, 0 outside; (n, 96, 96) bool field of view
    """
    fine = draws.log_uniform(SMALLEST_VOXEL_MM, 1.0)
    voxel_y = torch.where(draws.chance(0.75), fine, draws.uniform(1.0, 1.6))
    ratio = torch.where(
        draws.chance(0.6), torch.ones_like(voxel_y), draws.log_uniform(1 / 1.5, 1.5)
    )
    voxel_x = (voxel_y * ratio).clamp(SMALLEST_VOXEL_MM, 1.6)
    native_y, native_x = (_native_positions(v, draws) for v in (voxel_y, voxel_x))  # (n, 1, voxels)
    read_y = _readout(native_y, _phase_weights(voxel_y, draws))  # (n, voxels, 128)
    read_x = _readout(native_x, _window(voxel_x, draws).to(torch.complex64))
    spectrum = torch.fft.fft2(intensities)
    signal = read_y[:, None] @ spectrum @ read_x.transpose(1, 2)[:, None]  # (n, c, voxels, voxels)
    signal_to_noise = torch.where(draws.chance(0.3), draws.uniform(3, 9), draws.uniform(8, 40))
    volumes = volumes.expand(signal.shape[:2])[..., None, None]
    deviation = (volumes[:, :1].sqrt() / signal_to_noise[:, None]).clamp_max(NOISIEST_VOLUME)
    noise = torch.randn(2, *signal.shape, generator=draws.generator, device=signal.device)
    magnitude = (signal + torch.complex(*noise) * deviation / volumes.sqrt()).abs()
    floor = deviation.square() * math.pi / 2 * (1 - 1 / volumes)
    magnitude = (magnitude.square() + floor).sqrt()
    field_y = _field_of_view(pose.centre_mm[:, 1], 0.55, 24.0, draws)
    field_x = _field_of_view(pose.centre_mm[:, 0], 0.3, 28.0, draws)
    rows, inside_y = _interpolation(native_y, voxel_y, field_y)  # (n, 96, voxels), (n, 96)
    columns, inside_x = _interpolation(native_x, voxel_x, field_x)
    inside = inside_y[:, :, None] & inside_x[:, None, :]
    return rows[:, None] @ magnitude @ columns.transpose(1, 2)[:, None], inside


def _frequencies(like: Tensor) -> Tensor:
    """(128,) spatial frequencies in 1/mm, in the order of the Fourier transform."""
    frequency: Tensor = torch.fft.fftfreq(PATCH_PIXELS, PIXEL_MM, device=like.device)
    return frequency


def _native_positions(voxel_mm: Tensor, draws: Draws) -> Tensor:
    """(n, 1, voxels) centres of the native voxels, mm from the patch's first pixel."""
    count = torch.arange(NATIVE_VOXELS, device=voxel_mm.device)
    return (count + draws.uniform(0, 1) - 0.5) * voxel_mm


def _window(voxel_mm: Tensor, draws: Draws) -> Tensor:
    """(n, 1, 128) the frequencies that voxels of this size keep: a box, sometimes a Hann edge."""
    relative = _frequencies(voxel_mm).abs() * 2 * voxel_mm
    softened = (
        1 - draws.chance(0.25) * draws.uniform(0, 0.7) * torch.sin(relative * math.pi / 2) ** 2
    )
    return torch.where(relative <= 1, softened, 0)


def _phase_weights(voxel_mm: Tensor, draws: Draws) -> Tensor:
    """(n, 1, 128) weights along phase encoding: T2*, partial Fourier, motion, N/2 ghost."""
    frequency = _frequencies(voxel_mm)
    relative = frequency * 2 * voxel_mm  # -1 to 1 inside the window
    decay = torch.exp(draws.chance(0.6) * draws.uniform(-0.9, 0) * relative)
    partial = torch.where(draws.chance(0.2), draws.uniform(0.35, 0.8), 1)
    motion = torch.cos(2 * math.pi * frequency * draws.chance(0.4) * draws.uniform(0, 0.35))
    ghost = torch.where(draws.chance(0.3), draws.uniform(0, 0.12), 0)
    shift = 2j * math.pi * frequency * draws.uniform(14, 32)
    real: Tensor = _window(voxel_mm, draws) * decay * (relative >= -partial) * motion
    return real * (1 + ghost * torch.exp(shift))


def _readout(position_mm: Tensor, weights: Tensor) -> Tensor:
    """(n, voxels, 128) matrix from the spectrum along one axis to the native voxels."""
    angle = 2 * math.pi * position_mm.transpose(1, 2) * _frequencies(position_mm)
    return torch.polar(torch.full_like(angle, 1 / PATCH_PIXELS), angle) * weights


def _field_of_view(
    centre_mm: Tensor, share_small: float, smallest_mm: float, draws: Draws
) -> tuple[Tensor, Tensor]:
    """(n, 1, 1) first and last position seen along an axis, from the patch's first pixel."""
    length = draws.uniform(smallest_mm, 54)
    low = centre_mm[:, None, None] + PATCH_MM / 2 - draws.uniform(0.25, 0.75) * length
    small = draws.chance(share_small)
    whole = torch.full_like(low, PATCH_MM)
    return torch.where(small, low, -whole), torch.where(small, low + length, 2 * whole)


def _interpolation(
    native_mm: Tensor, voxel_mm: Tensor, field_mm: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """(n, 96, voxels) weights from native voxels to the network's grid, and (n, 96) inside."""
    seen = (native_mm > field_mm[0]) & (native_mm < field_mm[1])
    seen &= (native_mm > -voxel_mm / 2) & (native_mm < PATCH_MM)
    first = native_mm.masked_fill(~seen, math.inf).amin(dim=2, keepdim=True)
    last = native_mm.masked_fill(~seen, -math.inf).amax(dim=2, keepdim=True)
    place = (torch.arange(CROP_PIXELS, device=native_mm.device) + MARGIN_PIXELS)[:, None] * PIXEL_MM
    inside = (place >= first - voxel_mm / 2) & (place <= last + voxel_mm / 2)  # (n, 96, 1)
    clamped = torch.minimum(torch.maximum(place, first), last)
    weights = (1 - (clamped - native_mm).abs() / voxel_mm).clamp_min(0)
    return weights * inside, inside[..., 0]
