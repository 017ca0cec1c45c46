"""Synthetic slices with a simulated diffusion series: B0, mean DWI and FA of the same anatomy.

The anatomy is that of ``synthesis``; around it lie fluid in a canal, bone without signal, and
muscle. Each region has one tensor, its long axis near the course of the cord; the columns differ
little, left and right almost nothing, gray matter has a lower FA. Signals of all tissues are added
up in voxels of 1 mm first, given Rician noise, and only then fitted, so that partial volume and
noise bias FA as they do in a scan. There is no motion and no displacement between the volumes: all
images of a slice share its geometry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from scsnet_bids.network.model import PIXEL_MM, standardise
from scsnet_bids.phantom.simulation import half_sphere
from scsnet_bids.training.atlas import Atlas
from scsnet_bids.training.synthesis import Draws, Pose, cut_middle, draw_slices

N_DIRECTIONS, N_B0 = 30, 5
B_VALUE = 0.8
"""ms/um2, which is 800 s/mm2; diffusivities here are um2/ms."""
VOXEL_PIXELS = 2
"""The voxels are 1 mm wide."""
FLUID, MUSCLE = 3.0, 1.5
"""Mean diffusivities."""
LATERAL_FA, GRAY_FA = (0.6, 0.8), (0.35, 0.55)
DORSAL_MORE, VENTRAL_MORE = 0.02, -0.08
"""FA of the other columns relative to the lateral one, as in the phantom."""
CORD_MD = (0.75, 1.05)
OWN_DEVIATION = 0.02
"""What a region has of its own: SD of FA, and relative SD of MD."""
TILT_DEG, OWN_TILT_DEG = 8.0, 3.0


@dataclass(frozen=True)
class DiffusionSlices:
    """What a scan of each slice gives, on the network's grid: a voxel is 2 x 2 equal pixels.

    Attributes
    ----------
    images : by name, (n, 96, 96) ``b0``, ``dwi`` (mean of the weighted volumes) and ``fa``
    target : (n, 9, 96, 96) true area fractions
    """

    images: dict[str, Tensor]
    target: Tensor

    def standardised(self, names: tuple[str, ...]) -> Tensor:
        """(n, len(names), 96, 96) some of the images as the channels of a network's input."""
        inside = torch.ones_like(self.target[:, 0], dtype=torch.bool)
        return torch.stack([standardise(self.images[name], inside) for name in names], dim=1)


def draw_diffusion(atlas: Atlas, n: int, generator: torch.Generator) -> DiffusionSlices:
    """Draw slices, scan them with one b=0 contrast and 30 directions, and fit the tensor.

    Parameters
    ----------
    atlas : anatomy, on the device of the generator
    n : slices
    generator : random numbers; the same state gives the same slices

    Returns
    -------
    DiffusionSlices
    """
    draws = Draws(n, generator)
    anatomy = draw_slices(atlas, draws)
    tissues = _paint_tissues(anatomy.regions, anatomy.pose, draws)  # (n, 10, 128, 128) b=0 signal
    voxels = functional.avg_pool2d(tissues, VOXEL_PIXELS)  # (n, 10, 64, 64)
    directions = torch.tensor(half_sphere(N_DIRECTIONS), dtype=torch.float32)
    directions = directions.to(generator.device)
    series = torch.einsum("nchw,ncv->nvhw", voxels, _attenuations(draws, directions))
    b0, dwi = _scan(series, draws)
    images = {
        "b0": b0.mean(dim=1),
        "dwi": dwi.mean(dim=1),
        "fa": fit_fa(b0, dwi, directions),
    }
    return DiffusionSlices(
        {name: _to_network(image) for name, image in images.items()}, cut_middle(anatomy.target)
    )


def fit_fa(b0: Tensor, dwi: Tensor, directions: Tensor) -> Tensor:
    """Fit tensors to the logarithm of the signals and compute FA.

    FA follows from the norms of the tensor and of its anisotropic part (basser1996), so that no
    eigenvalues are needed.

    Parameters
    ----------
    b0 : (n, volumes, rows, columns) signals without weighting
    dwi : (n, directions, rows, columns) signals
    directions : (directions, 3) unit vectors

    Returns
    -------
    (n, rows, columns) in [0, 1]
    """
    x, y, z = directions.T
    quadratic = torch.stack([x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z], dim=1)
    design = torch.cat([torch.ones_like(quadratic[:, :1]), -B_VALUE * quadratic], dim=1)
    unweighted = torch.eye(1, 7, device=design.device).repeat(b0.shape[1], 1)
    solve = torch.linalg.pinv(torch.cat([unweighted, design]))  # (7, volumes)
    logarithm = torch.cat([b0, dwi], dim=1).clamp_min(1e-4).log()
    tensor = torch.einsum("pv,nvhw->nphw", solve, logarithm)[:, 1:]
    diagonal, mixed = tensor[:, :3], tensor[:, 3:]
    mean = diagonal.mean(dim=1, keepdim=True)
    mixed_norm = 2 * mixed.square().sum(dim=1)
    anisotropic = (diagonal - mean).square().sum(dim=1) + mixed_norm
    whole = diagonal.square().sum(dim=1) + mixed_norm
    return (1.5 * anisotropic / whole.clamp_min(1e-12)).sqrt().clamp(max=1)


def _paint_tissues(regions: Tensor, pose: Pose, draws: Draws) -> Tensor:
    """(n, 10, 128, 128) b=0 signal that the eight regions, fluid and muscle add to each pixel."""
    cord = regions.sum(dim=1)
    canal, bone = _canal_and_bone(cord, pose, draws)
    fluid = (canal - cord).clamp_min(0)
    muscle = (1 - torch.maximum(canal, cord) - bone).clamp_min(0)
    gray = 1.06 + draws.normal(0.08, 0.2)
    columns = [1 + draws.normal(0.04, 0.1) for _ in range(3)]
    brightness = torch.cat([*columns, gray], dim=1).repeat_interleave(2, dim=1)[..., None]
    flow = (1 + draws.uniform(0, 0.35) * draws.field(2.5)).clamp(0.1, 2)
    texture = (1 + draws.uniform(0.1, 0.5) * draws.field(5)).clamp(0.1, 2.5)
    others = torch.stack(
        [
            fluid * draws.uniform(0.9, 3) * flow,
            muscle * draws.log_uniform(0.15, 1.0) * texture,
        ],
        dim=1,
    )
    shade = torch.exp(draws.uniform(0, 0.3) * draws.field(30, "bicubic"))[:, None]
    return torch.cat([regions * brightness, others], dim=1) * shade


def _canal_and_bone(cord: Tensor, pose: Pose, draws: Draws) -> tuple[Tensor, Tensor]:
    """(n, 128, 128) shares of the canal, an ellipse around the cord, and of the bone around it."""
    inside = cord > 0.5
    a, b = (
        torch.where(inside, axis.abs(), 0).amax(dim=(1, 2), keepdim=True).clamp_min(4)
        + draws.uniform(0.4, 5)
        for axis in (pose.x, pose.y)
    )
    radius = ((pose.x / a) ** 2 + (pose.y / b) ** 2 + 1e-6).sqrt()
    outside_mm = (radius - 1) * (a * b).sqrt() + draws.uniform(0, 0.4) * draws.field(5)
    canal = (0.5 - outside_mm / PIXEL_MM).clamp(0, 1)
    within = (0.5 - (outside_mm - draws.uniform(1, 5)) / PIXEL_MM).clamp(0, 1)
    return canal, (within - canal).clamp_min(0)


def _attenuations(draws: Draws, directions: Tensor) -> Tensor:
    """(n, 10, 5 + 30) signal of each tissue relative to b=0, in every volume."""
    lateral, gray = draws.uniform(*LATERAL_FA), draws.uniform(*GRAY_FA)
    columns = [lateral, lateral + DORSAL_MORE, lateral + VENTRAL_MORE, gray]
    fa = torch.cat(columns, dim=1).repeat_interleave(2, dim=1)  # (n, 8, 1)
    fa = (fa + _own(draws, OWN_DEVIATION)).clamp(0.1, 0.95)
    md = draws.uniform(*CORD_MD) * (1 + _own(draws, OWN_DEVIATION))
    spread = fa * md / (3 - 2 * fa**2).sqrt()
    common, own = (math.tan(math.radians(x)) for x in (TILT_DEG, OWN_TILT_DEG))
    slopes = [draws.normal(common, 3 * common) + _own(draws, own) for _ in range(2)]
    fibre = functional.normalize(torch.cat([*slopes, torch.ones_like(fa)], dim=2), dim=2)
    cosine = fibre @ directions.T  # (n, 8, 30)
    cord = torch.exp(-B_VALUE * (md - spread + 3 * spread * cosine**2))
    others = torch.tensor([FLUID, MUSCLE], device=cord.device)[None, :, None]
    around = torch.exp(-B_VALUE * others).expand(len(cord), 2, len(directions))
    weighted = torch.cat([cord, around], dim=1)
    return torch.cat([torch.ones_like(weighted[..., :N_B0]), weighted], dim=2)


def _own(draws: Draws, deviation: float) -> Tensor:
    """(n, 8, 1) what each region has of its own."""
    return torch.cat([draws.normal(deviation, 3 * deviation) for _ in range(8)], dim=1)


def _scan(series: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Add complex noise, and part the magnitudes into b=0 and weighted volumes."""
    deviation = 1 / draws.uniform(8, 25)[..., None]
    noise = torch.randn(2, *series.shape, generator=draws.generator, device=series.device)
    magnitude = torch.complex(series + deviation * noise[0], deviation * noise[1]).abs()
    return magnitude[:, :N_B0], magnitude[:, N_B0:]


def _to_network(image: Tensor) -> Tensor:
    """(n, 96, 96) pixels of (n, 64, 64) voxels."""
    return cut_middle(
        image.repeat_interleave(VOXEL_PIXELS, dim=1).repeat_interleave(VOXEL_PIXELS, dim=2)
    )
