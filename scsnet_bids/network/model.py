"""SCS-Net: a small U-shaped network that reads one slice and names the region of every pixel.

It sees the B0 image, or as a second image that of the mean DWI as well.

Rows run from front to back, columns from the patient's right to the left, pixels are 0.5 mm wide.
The input is standardised inside the field of view and 0 outside it (``standardise``), so neither
the gain of the scanner nor black padding changes what the network sees. It normalises its features
by running statistics (BatchNorm), never by those of the slice at hand: a border of zeros must not
change the area of a cord.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from scsnet_bids.regions import MIRROR, N_CLASSES

PIXEL_MM = 0.5
CROP_PIXELS = 96
STRIDE = 16
"""Rows and columns of an input must be a multiple of this."""

WIDTHS = (32, 64, 112, 160)
"""Channels at 1, 2, 4 and 8 mm."""

CLIP = 5.0
"""Standardised intensities beyond this many standard deviations are clipped."""


class ScsNet(nn.Module):
    """Map standardised slices to the logits of background and the eight regions.

    Attributes
    ----------
    n_images : how many images of a slice it sees, see ``count_images``
    """

    def __init__(self, n_images: int = 1) -> None:
        super().__init__()
        self.n_images = n_images
        self.stem = _convolution(n_images, WIDTHS[0], kernel=5, stride=2)
        self.top = _ResidualBlock(WIDTHS[0])
        self.down = nn.ModuleList(_convolution(a, b, 2, stride=2) for a, b in pairwise(WIDTHS))
        self.encode = nn.ModuleList(_LightBlock(width) for width in WIDTHS[1:])
        self.up = nn.ModuleList(_Upsampling(b, a) for a, b in pairwise(WIDTHS))
        self.decode = nn.ModuleList(_LightBlock(width) for width in WIDTHS[1:-1])
        self.finish = _ResidualBlock(WIDTHS[0])
        self.head = nn.Conv2d(WIDTHS[0], 4 * N_CLASSES, kernel_size=1)

    def forward(self, slices: Tensor) -> Tensor:
        """Compute logits.

        Parameters
        ----------
        slices : (n, n_images, rows, columns) standardised slices, 0.5 mm; sides divisible by 16

        Returns
        -------
        (n, 9, rows, columns) logits, channel = region label
        """
        x1 = self.top(self.stem(slices))  # (n, 32, rows/2, columns/2)
        x2 = self.encode[0](self.down[0](x1))  # (n, 64, rows/4, columns/4)
        x4 = self.encode[1](self.down[1](x2))  # (n, 112, rows/8, columns/8)
        x8 = self.encode[2](self.down[2](x4))  # (n, 160, rows/16, columns/16)
        y4 = self.decode[1](x4 + self.up[2](x8))  # (n, 112, rows/8, columns/8)
        y2 = self.decode[0](x2 + self.up[1](y4))  # (n, 64, rows/4, columns/4)
        y1 = self.finish(x1 + self.up[0](y2))  # (n, 32, rows/2, columns/2)
        return functional.pixel_shuffle(self.head(y1), 2)  # (n, 9, rows, columns)


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: fine detail at 1 mm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(width, width, kernel=3)
        self.second = _convolution(width, width, kernel=3)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.second(self.first(x))  # (n, width, rows, columns)
        return added


class _LightBlock(nn.Module):
    """Light feature extraction: two depthwise 5x5 and pointwise pairs beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_separable(width), *_separable(width))

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.layers(x)  # (n, width, rows, columns)
        return added


class _Upsampling(nn.Module):
    """A pointwise convolution whose channels become 2x2 pixels."""

    def __init__(self, wide: int, narrow: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(wide, 4 * narrow, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.pixel_shuffle(self.expand(x), 2)  # (n, narrow, 2 rows, 2 columns)


def count_images(sees: str) -> int:
    """Count the images that an input of ``settings.INPUTS`` names.

    >>> count_images("b0+dwi")
    2
    """
    return len(sees.split("+"))


def _convolution(wide: int, narrow: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU."""
    padding = (kernel - 1) // 2
    return nn.Sequential(
        nn.Conv2d(wide, narrow, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(narrow),
        nn.ReLU(inplace=True),
    )


def _separable(width: int) -> list[nn.Module]:
    """Depthwise 5x5, then pointwise, BatchNorm, ReLU."""
    return [
        nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False),
        *_convolution(width, width, kernel=1),
    ]


def standardise(slices: Tensor, inside: Tensor) -> Tensor:
    """Bring each slice to zero mean and unit deviation inside its field of view.

    Parameters
    ----------
    slices : (n, rows, columns) intensities
    inside : (n, rows, columns) bool, pixels of the field of view

    Returns
    -------
    (n, rows, columns) in [-5, 5]; 0 outside the field of view, and everywhere in a constant slice
    """
    inside = inside.to(slices.dtype)
    n_inside = inside.sum(dim=(1, 2), keepdim=True).clamp_min(1)
    mean = (slices * inside).sum(dim=(1, 2), keepdim=True) / n_inside
    centred = (slices - mean) * inside
    deviation = (centred.square().sum(dim=(1, 2), keepdim=True) / n_inside).sqrt()
    usable = deviation > 1e-6 * (mean.abs() + deviation)
    return torch.where(usable, centred / deviation.clamp_min(1e-30), 0.0).clamp(-CLIP, CLIP)


def mirror(slices: Tensor, axis_of_classes: int | None = None) -> Tensor:
    """Reflect slices left to right; class channels change places with their mirror partners.

    Parameters
    ----------
    slices : (..., rows, columns)
    axis_of_classes : axis of the nine classes, or None for an image

    Returns
    -------
    (..., rows, columns)
    """
    reflected = slices.flip(-1)
    if axis_of_classes is None:
        return reflected
    partners = torch.from_numpy(MIRROR).to(slices.device)
    return reflected.index_select(axis_of_classes, partners)
