"""Synthetic B0 slices with known regions: random anatomy from atlas maps, random intensities.

No real image teaches the network. Each slice starts from maps of an ``Atlas``; shape, surroundings
and contrast are drawn far wider than any scanner makes them (SynthSeg [billot2023]_), so that what
is common to all of them, the shape of the cord in its canal, is what the network learns.
``augment`` then images the slice as an EPI readout would.

Everything runs on whole batches of (n, 128, 128) tensors, 0.5 mm, on any device. Coordinates x
(toward the patient's left) and y (toward the back) are mm from the centre of the patch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from scsnet_bids.network.model import CROP_PIXELS, PIXEL_MM
from scsnet_bids.training.atlas import Atlas

PATCH_PIXELS = 128
MARGIN_PIXELS = (PATCH_PIXELS - CROP_PIXELS) // 2
"""A slice is drawn in a patch this much wider, on each side, than what the network sees of it."""
NO_CORD_SHARE = 0.18


@dataclass(frozen=True)
class Draws:
    """Random numbers for a batch.

    Attributes
    ----------
    n : slices in the batch
    generator : source, on the device of the batch
    """

    n: int
    generator: torch.Generator

    def uniform(self, low: float, high: float) -> Tensor:
        """(n, 1, 1) between two bounds."""
        unit = torch.rand(self.n, 1, 1, generator=self.generator, device=self.generator.device)
        return low + (high - low) * unit

    def log_uniform(self, low: float, high: float) -> Tensor:
        """(n, 1, 1) between two positive bounds, uniform in the logarithm."""
        return self.uniform(math.log(low), math.log(high)).exp()

    def normal(self, deviation: float, limit: float) -> Tensor:
        """(n, 1, 1) around 0, clipped."""
        unit = torch.randn(self.n, 1, 1, generator=self.generator, device=self.generator.device)
        return (deviation * unit).clamp(-limit, limit)

    def chance(self, share: float) -> Tensor:
        """(n, 1, 1) bool, true in about this share of the slices."""
        return self.uniform(0, 1) < share

    def choice(self, count: int) -> Tensor:
        """(n,) whole numbers from 0 to count - 1."""
        return (self.uniform(0, 1)[:, 0, 0] * count).long().clamp(max=count - 1)

    def field(self, scale_mm: float, mode: str = "bilinear") -> Tensor:
        """(n, 128, 128) smooth field of about zero mean and unit deviation."""
        knots = max(4, round(PATCH_PIXELS * PIXEL_MM / scale_mm) + 1)
        device = self.generator.device
        coarse = torch.randn(self.n, 1, knots, knots, generator=self.generator, device=device)
        size = (PATCH_PIXELS, PATCH_PIXELS)
        smooth = functional.interpolate(coarse, size, mode=mode, align_corners=True)
        return 1.3 * smooth[:, 0]


@dataclass(frozen=True)
class Pose:
    """Where the neck lies in the patch, and how large its cord is.

    Attributes
    ----------
    x, y : (n, 128, 128) position in mm in the frame of the neck: cord centre at 0, upright
    centre_mm : (n, 2) position of the cord, x and y from the centre of the patch
    scale : (n, 2) size of the cord along x and y relative to the atlas
    has_cord : (n, 1, 1) bool
    """

    x: Tensor
    y: Tensor
    centre_mm: Tensor
    scale: Tensor
    has_cord: Tensor


@dataclass(frozen=True)
class Anatomy:
    """What lies in a batch of slices, and how bright it is without diffusion weighting.

    Attributes
    ----------
    regions : (n, 8, 128, 128) area fractions
    brightness : (n, 8, 1, 1) of the regions, near 1
    texture : (n, 128, 128) factor on the brightness of the cord
    around : (n, 128, 128) brightness of what is not cord, also where the cord hides it
    canal : (n, 128, 128) share of the spinal canal, the cord included; 0 where there is none
    pose : where the neck lies
    """

    regions: Tensor
    brightness: Tensor
    texture: Tensor
    around: Tensor
    canal: Tensor
    pose: Pose

    @property
    def target(self) -> Tensor:
        """(n, 9, 128, 128) area fractions of background and regions."""
        return torch.cat([1 - self.regions.sum(dim=1, keepdim=True), self.regions], dim=1)

    @property
    def b0(self) -> Tensor:
        """(n, 128, 128) intensities without diffusion weighting, cord near 1."""
        return self.weighted(torch.ones_like(self.brightness), torch.ones_like(self.around))

    def weighted(self, of_regions: Tensor, of_around: Tensor) -> Tensor:
        """(n, 128, 128) intensities that (n, 8, 1, 1) and (n, 128, 128) attenuations leave."""
        cord = (self.regions * (self.brightness * of_regions)).sum(dim=1) * self.texture
        return self.around * of_around * (1 - self.regions.sum(dim=1)) + cord


def draw_slices(atlas: Atlas, draws: Draws) -> Anatomy:
    """Draw anatomy and intensities of a batch.

    Parameters
    ----------
    atlas : slices to draw from, in the order of their height
    draws : random numbers

    Returns
    -------
    Anatomy
    """
    middle = draws.choice(len(atlas.maps))
    pose = _draw_pose(draws, atlas.scale[middle])
    regions = _place_regions(_mix_neighbours(atlas, middle, draws), pose, draws)
    half_size_mm = atlas.half_size_mm[middle] * pose.scale  # (n, 2)
    return _paint(regions, half_size_mm, pose, draws)


def cut_middle(patch: Tensor) -> Tensor:
    """Cut what the network sees, (..., 96, 96), out of the middle of (..., 128, 128) patches."""
    return patch[..., MARGIN_PIXELS:-MARGIN_PIXELS, MARGIN_PIXELS:-MARGIN_PIXELS]


def _draw_pose(draws: Draws, atlas_scale: Tensor) -> Pose:
    """Draw place, tilt and size of the cord; (n,) factor on the size."""
    near = draws.chance(0.75)
    x0 = torch.where(near, draws.normal(2.5, 7), draws.uniform(-15, 15))
    y0 = torch.where(near, draws.normal(2.5, 7), draws.uniform(-15, 15))
    angle = draws.normal(math.radians(8), math.radians(25))
    across = (torch.arange(PATCH_PIXELS, device=x0.device) - (PATCH_PIXELS - 1) / 2) * PIXEL_MM
    warp = draws.uniform(0, 1.5)
    x = across - x0 + warp * draws.field(14, "bicubic")  # (n, 128, 128)
    y = across[:, None] - y0 + warp * draws.field(14, "bicubic")
    size = torch.where(draws.chance(0.8), draws.normal(0.13, 0.3), draws.uniform(-0.4, 0.3)) + 1.13
    size = size * atlas_scale[:, None, None]
    flat = torch.where(draws.chance(0.7), draws.uniform(0.8, 1.15), draws.uniform(0.5, 1.0))
    scale = torch.cat([size * flat.clamp(max=1) ** -0.3, size * flat], dim=2)[:, 0]  # (n, 2)
    return Pose(
        angle.cos() * x + angle.sin() * y,
        angle.cos() * y - angle.sin() * x,
        torch.cat([x0, y0], dim=2)[:, 0],
        scale,
        ~draws.chance(NO_CORD_SHARE),
    )


def _mix_neighbours(atlas: Atlas, middle: Tensor, draws: Draws) -> Tensor:
    """(n, 4, 48, 48) maps, averaged across a thick slice (2 to 17 mm) around the (n,) middle ones.

    The neighbours are moved against each other, as in a cord that crosses the slice obliquely.
    """
    offsets = torch.tensor([-0.33, 0.0, 0.33], device=middle.device)
    apart = draws.log_uniform(2, 17)[:, 0] * offsets / atlas.spacing_mm[middle, None]
    index = (middle[:, None] + apart.round().long()).clamp(0, len(atlas.maps) - 1)  # (n, 3)
    same_stack = atlas.stack[index] == atlas.stack[middle, None]
    index = torch.where(same_stack, index, middle[:, None])
    tilt = torch.cat([draws.normal(0.5, 1.5), draws.normal(0.7, 2.0)], dim=2)[:, 0]
    tilt = tilt * draws.chance(0.6)[:, 0]  # (n, 2) mm
    shift = tilt[:, None] * offsets[None, :, None] * 1.5  # (n, 3, 2)
    maps = atlas.maps[index].flatten(0, 1)  # (3 n, 4, 48, 48)
    theta = torch.eye(2, 3, device=maps.device).repeat(len(maps), 1, 1)
    theta[:, :, 2] = shift.flatten(0, 1) / (maps.shape[-1] * PIXEL_MM / 2)
    places = functional.affine_grid(theta, list(maps.shape), align_corners=False)
    moved = functional.grid_sample(maps, places, align_corners=False)
    return moved.view(*index.shape, *maps.shape[1:]).mean(dim=1)


def _place_regions(maps: Tensor, pose: Pose, draws: Draws) -> Tensor:
    """(n, 8, 128, 128) area fractions of the regions after shear, dents and elastic warp."""
    strength, scale_mm = draws.uniform(0, 0.55), 5 + 7 * float(draws.uniform(0, 1)[0])
    x = pose.x - draws.normal(0.08, 0.25) * pose.y + strength * draws.field(scale_mm, "bicubic")
    y = pose.y + strength * draws.field(scale_mm, "bicubic")
    y = y - _dent(x, y, draws, 0.35, front=True) + _dent(x, y, draws, 0.15, front=False)
    sx, sy = pose.scale[:, 0, None, None], pose.scale[:, 1, None, None]
    places = torch.stack([x / sx, y / sy], dim=-1) / (maps.shape[-1] * PIXEL_MM / 2)
    tissues = functional.grid_sample(maps, places, align_corners=False)  # (n, 4, 128, 128)
    cord = tissues.sum(dim=1, keepdim=True)
    crisp = (0.5 + draws.uniform(1, 2.2)[:, None] * (cord - 0.5)).clamp(0, 1)
    tissues = tissues * crisp / cord.clamp_min(1e-3) * pose.has_cord[:, None]
    left = (0.5 + x / PIXEL_MM).clamp(0, 1)[:, None]  # (n, 1, 128, 128) share left of the midline
    return torch.stack([tissues * left, tissues * (1 - left)], dim=2).flatten(1, 2)


def _dent(x: Tensor, y: Tensor, draws: Draws, share: float, *, front: bool) -> Tensor:
    """(n, 128, 128) mm by which something pushes the cord in, from the front or the back."""
    depth = draws.uniform(0.3, 2.8) * draws.chance(share)
    across = torch.exp(-(((x - draws.normal(1.5, 4)) / draws.uniform(1.2, 5)) ** 2))
    toward = -y if front else y
    return depth * across * torch.sigmoid(toward / 1.2)


def _paint(regions: Tensor, half_size_mm: Tensor, pose: Pose, draws: Draws) -> Anatomy:
    """Draw intensities: surroundings, then bone, canal and its content, then the cord."""
    wild = draws.chance(0.12)
    image = _paint_surroundings(draws)
    has_canal = pose.has_cord | draws.chance(0.45)
    outside_mm, a, b = _outside_canal_mm(half_size_mm, pose, draws)
    near = has_canal & (outside_mm < 1)
    blobs = torch.where(pose.has_cord, draws.chance(0.6), draws.chance(0.8))
    for _ in range(4):
        image = _paint_ellipse(image, ~near & blobs, pose, draws)
    image = _paint_wings(image, a, pose, draws, has_canal)
    image = _paint_rings(image, outside_mm, draws, has_canal)
    canal = has_canal * (0.5 - outside_mm / PIXEL_MM).clamp(0, 1)
    image = torch.lerp(image, _csf(pose, a, b, wild, draws), canal)
    return Anatomy(regions, *_cord_intensity(wild, draws), image, canal, pose)


def _paint_surroundings(draws: Draws) -> Tensor:
    """(n, 128, 128) muscle, fat, vessels and airways as smooth random patches with a texture."""
    scale_mm = 6 + 10 * float(draws.uniform(0, 1)[0])
    fields = torch.stack([draws.field(scale_mm) for _ in range(3)], dim=1)
    shares = torch.softmax(draws.uniform(2, 12)[:, None] * fields, dim=1)
    values = torch.cat([draws.log_uniform(0.03, 1.6) for _ in range(3)], dim=1)[..., None]
    image = (shares * values).sum(dim=1) * torch.where(
        draws.chance(0.4), draws.uniform(0.08, 0.6), 1
    )
    ridges = torch.exp(-((draws.field(8) / draws.uniform(0.05, 0.3)) ** 2))
    image = torch.lerp(image, draws.log_uniform(0.05, 2), ridges * draws.chance(0.4))
    texture = 1 + draws.uniform(0, 0.4) * draws.field(1.5 + 2.5 * float(draws.uniform(0, 1)[0]))
    return image * texture.clamp_min(0.05)


def _outside_canal_mm(
    half_size_mm: Tensor, pose: Pose, draws: Draws
) -> tuple[Tensor, Tensor, Tensor]:
    """(n, 128, 128) distance from the canal's wall, and the canal's half sizes a and b (mm)."""
    gap_x = torch.where(draws.chance(0.15), draws.uniform(0, 0.7), draws.uniform(0.7, 8.5))
    gap_y = torch.where(draws.chance(0.25), draws.uniform(0, 0.6), draws.uniform(0.5, 6))
    a = half_size_mm[:, 0, None, None] + gap_x
    b = half_size_mm[:, 1, None, None] + gap_y
    x = pose.x - draws.uniform(-0.6, 0.6) * gap_x
    y = pose.y - draws.uniform(-0.9, 0.9) * gap_y
    narrowing = torch.where(draws.chance(0.4), draws.uniform(0, 0.5), 0)
    x = x * (1 + narrowing * (y / b).clamp(0, 2))
    power = draws.uniform(1.8, 3.2)
    radius = ((x / a).abs() ** power + (y / b).abs() ** power + 1e-6) ** (1 / power)
    wobble = draws.uniform(0, 0.4) * draws.field(5)
    return (radius - 1) * (a * b).sqrt() + wobble, a, b


def _paint_ellipse(image: Tensor, allowed: Tensor, pose: Pose, draws: Draws) -> Tensor:
    """Add one filled ellipse, often with a rim: vessel, blob, bar, or something like a cord."""
    central = ~pose.has_cord & draws.chance(0.3)
    x = pose.x - torch.where(central, draws.normal(2, 5), draws.uniform(-26, 26))
    y = pose.y - torch.where(central, draws.normal(2, 5), draws.uniform(-26, 26))
    turn, size = draws.uniform(0, math.pi), draws.log_uniform(0.8, 9)
    aspect = torch.where(draws.chance(0.7), draws.uniform(1, 1.8), draws.uniform(1.8, 6)).sqrt()
    along = (turn.cos() * x + turn.sin() * y) / (size * aspect)
    across = (turn.cos() * y - turn.sin() * x) / (size / aspect)
    outside_mm = ((along**2 + across**2).sqrt() - 1) * size  # (n, 128, 128)
    width = torch.where(draws.chance(0.5), draws.uniform(0.5, 3), 0)
    rim = allowed * (0.5 - (outside_mm - width)).clamp(0, 1) * draws.chance(0.8)
    fill = allowed * (0.5 - outside_mm / draws.uniform(0.4, 1.5)).clamp(0, 1)
    value = torch.where(draws.chance(0.4), draws.uniform(0.8, 1.2), draws.log_uniform(0.05, 2.5))
    return torch.lerp(torch.lerp(image, draws.log_uniform(0.05, 2.5), rim), value, fill)


def _paint_wings(image: Tensor, a: Tensor, pose: Pose, draws: Draws, where: Tensor) -> Tensor:
    """Add nerve roots and veins that leave the canal on both sides."""
    length, height = draws.uniform(1.5, 7), draws.uniform(0.6, 2.2)
    x = (pose.x.abs() - a - 0.6 * length) / length
    y = (pose.y - draws.uniform(-3, 2) + draws.uniform(-0.4, 0.4) * (pose.x.abs() - a)) / height
    wings = (2 * (1 - (x**2 + y**2))).clamp(0, 1) * (where & draws.chance(0.45))
    return torch.lerp(image, draws.log_uniform(0.5, 2.5), wings)


def _paint_rings(image: Tensor, outside_mm: Tensor, draws: Draws, where: Tensor) -> Tensor:
    """Add the dark bone around the canal, with gaps, and the epidural layer inside it."""
    uneven = (1 + 0.8 * draws.field(7)).clamp(0, 2)
    epidural = torch.where(draws.chance(0.5), draws.uniform(0, 1.6), 0) * uneven.flip(2)
    bone = torch.where(draws.chance(0.85), draws.uniform(0.5, 5), 0) * uneven + epidural
    softness = draws.uniform(0.5, 1.5)
    ring = where * (0.5 - (outside_mm - bone) / softness).clamp(0, 1)
    image = torch.lerp(image, draws.log_uniform(0.03, 0.4), ring)
    layer = where * (0.5 - (outside_mm - epidural) / PIXEL_MM).clamp(0, 1)
    return torch.lerp(image, draws.log_uniform(0.15, 2), layer * (epidural > 0))


def _csf(pose: Pose, a: Tensor, b: Tensor, wild: Tensor, draws: Draws) -> Tensor:
    """(n, 128, 128) fluid: bright, barely brighter than the cord, like it, or dark; flow voids."""
    kind = draws.uniform(0, 1)
    level = torch.where(kind < 0.55, draws.uniform(1.2, 3.2), draws.uniform(1.02, 1.5))
    level = torch.where(kind > 0.75, draws.uniform(0.85, 1.35), level)
    level = torch.where(kind > 0.9, draws.uniform(0.35, 0.9), level)
    level = torch.where(wild, draws.log_uniform(0.1, 3), level)
    slope = draws.normal(0.25, 0.7) * pose.y / b + draws.normal(0.1, 0.3) * pose.x / a
    roughness = torch.where(draws.chance(0.35), draws.uniform(0, 0.1), draws.uniform(0, 0.45))
    speckle = roughness * draws.field(1.2 + 2 * float(draws.uniform(0, 1)[0]))
    fluid = level * (1 + slope + speckle).clamp(0.1, 2.2)
    spots = (3 * (draws.field(1.6) - draws.uniform(1.0, 2.2))).clamp(0, 1)
    return torch.lerp(fluid, draws.log_uniform(0.2, 1.5), spots * draws.chance(0.5))


def _cord_intensity(wild: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """(n, 8, 1, 1) brightness of the regions, and (n, 128, 128) texture of the cord."""
    gray = 1.06 + draws.normal(0.08, 0.2)
    gray = torch.where(draws.chance(0.25), draws.uniform(1.1, 1.5), gray)
    gray = torch.where(wild, draws.uniform(0.6, 1.6), gray)
    columns = [1 + draws.normal(0.04, 0.1) for _ in range(3)]
    brightness = torch.cat([*columns, gray], dim=1).repeat_interleave(2, dim=1)[..., None]
    return brightness, 1 + draws.uniform(0, 0.08) * draws.field(2.5)
