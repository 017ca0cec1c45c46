"""The mean of the diffusion-weighted volumes that belongs to a synthetic B0 slice.

Within the cord the signal follows from a tensor per region, averaged over all directions: the
columns lose less than gray matter, whose diffusion is less directed. Fluid loses most. What lies
outside the canal diffuses at random. The B0 slice lies a little beside the mean, as it does in a
scan whose b=0 volumes were moved onto the weighted ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scsnet_bids.network.model import PIXEL_MM
from scsnet_bids.training.synthesis import PATCH_PIXELS, Anatomy, Draws

B_VALUE = (0.4, 2.0)
"""ms/um2; diffusivities here are um2/ms."""
CORD_MD = (0.65, 1.15)
LATERAL_FA, GRAY_FA = (0.5, 0.85), (0.25, 0.6)
DORSAL_MORE, VENTRAL_MORE = 0.02, -0.08
"""FA of the other columns relative to the lateral one."""
OWN_FA, OWN_SIGNAL = 0.03, 0.03
"""What a region has of its own: SD of FA, and of the attenuation (also because directions are few
and the cord bends)."""
FLUID_MD = (2.2, 3.2)
N_B0, N_WEIGHTED = (1, 8), (6, 90)
BESIDE_MM = (0.2, 0.25)
"""SD of what is left of the displacement between the two images, toward the left and the back."""


def draw_b0_and_dwi(anatomy: Anatomy, draws: Draws) -> tuple[Tensor, Tensor]:
    """Draw the mean DWI of slices.

    Parameters
    ----------
    anatomy : slices without weighting
    draws : random numbers

    Returns
    -------
    (n, 2, 128, 128) intensities of B0 and mean DWI, the second where the anatomy is; (n, 2) how
    many volumes each is the mean of
    """
    b_value = draws.log_uniform(*B_VALUE)
    dwi = anatomy.weighted(
        _cord_attenuation(b_value, draws), _attenuation_around(anatomy.canal, b_value, draws)
    )
    texture = 1 + draws.uniform(0, 0.12) * draws.field(2.5)
    volumes = [draws.log_uniform(*bounds)[:, 0] for bounds in (N_B0, N_WEIGHTED)]
    return torch.stack([_beside(anatomy.b0, draws), dwi * texture], dim=1), torch.cat(volumes, 1)


def mean_attenuation(fa: Tensor, md: Tensor, b_value: Tensor) -> Tensor:
    """Average the signal of a tensor of cylindrical symmetry over all gradient directions.

    Parameters
    ----------
    fa, md : of the tensor; um2/ms
    b_value : ms/um2

    Returns
    -------
    signal relative to b=0, in the shape of what was given

    Examples
    --------
    >>> one = torch.ones(1)
    >>> mean_attenuation(1e-3 * one, one, one)  # isotropic: exp(-b md)
    tensor([0.3679])
    """
    spread = fa * md / (3 - 2 * fa**2).sqrt()
    directed = (3 * b_value * spread).clamp_min(1e-6).sqrt()
    mean = math.sqrt(math.pi) / 2 * torch.erf(directed) / directed
    return torch.exp(-b_value * (md - spread)) * mean


def _cord_attenuation(b_value: Tensor, draws: Draws) -> Tensor:
    """(n, 8, 1, 1) attenuation of the regions."""
    lateral, gray = draws.uniform(*LATERAL_FA), draws.uniform(*GRAY_FA)
    tissues = [lateral, lateral + DORSAL_MORE, lateral + VENTRAL_MORE, gray]
    fa = torch.cat(tissues, dim=1).repeat_interleave(2, dim=1)  # (n, 8, 1)
    fa = (fa + _own(OWN_FA, draws)).clamp(0.1, 0.95)
    attenuation = mean_attenuation(fa, draws.uniform(*CORD_MD), b_value)
    return (attenuation * (1 + _own(OWN_SIGNAL, draws)))[..., None]


def _own(deviation: float, draws: Draws) -> Tensor:
    """(n, 8, 1) what each region has of its own."""
    return torch.cat([draws.normal(deviation, 3 * deviation) for _ in range(8)], dim=1)


def _attenuation_around(canal: Tensor, b_value: Tensor, draws: Draws) -> Tensor:
    """(n, 128, 128) attenuation of all that is not cord; flow takes more of the fluid's signal."""
    diffusivity = draws.uniform(0.1, 1.5) * torch.exp(draws.uniform(0, 0.8) * draws.field(8))
    tissue = torch.exp(-b_value * diffusivity.clamp_max(3))
    fluid = draws.uniform(0.3, 1) * torch.exp(-b_value * draws.uniform(*FLUID_MD))
    return torch.lerp(tissue, fluid.expand_as(tissue), canal)


def _beside(b0: Tensor, draws: Draws) -> Tensor:
    """Move (n, 128, 128) slices by what is left of their displacement."""
    x_mm, y_mm = (draws.normal(deviation, 3 * deviation) for deviation in BESIDE_MM)
    frequency = torch.fft.fftfreq(PATCH_PIXELS, PIXEL_MM, device=b0.device)
    phase = -2 * math.pi * (frequency * x_mm + frequency[:, None] * y_mm)
    moved: Tensor = torch.fft.ifft2(torch.fft.fft2(b0) * torch.polar(torch.ones_like(phase), phase))
    return moved.real
