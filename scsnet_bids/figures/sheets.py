"""Sheets: all slices of a run in one picture, each a tile with its number and sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from scsnet_bids.arrays import FloatArray
from scsnet_bids.figures.tiles import (
    FIELD_MM,
    Window,
    compose_sheet,
    cord_line,
    direction_colors,
    draw_tile,
    grey_levels,
    region_lines,
    window_around,
)

Spacing = tuple[float, float, float]

FA_RANGE = (0.0, 1.0)
BRIGHTEST_PERCENTILE = 98.0
"""Of a line through the cord in one volume; b=0 and weighted volumes then look alike."""


def draw_regions(
    image: FloatArray,
    share: FloatArray,
    spacing_mm: Spacing,
    title: str,
    limits: tuple[float, float] | None = None,
    dwi_to_image_mm: FloatArray | None = None,
    slices: Sequence[int] | None = None,
) -> str:
    """Draw the borders of the regions on an image, slice by slice.

    Parameters
    ----------
    image : (i, j, k) float array
    share : (i, j, k, 9) float array in [0, 1], background first, in DTI space
    spacing_mm : voxel size
    title : what the picture shows
    limits : values of black and white; percentiles of each slice by default
    dwi_to_image_mm : (k, 2) displacement (left, posterior) from DTI space to the image; none by
        default
    slices : which slices to show; all of them by default

    Returns
    -------
    str, SVG document
    """
    window = window_around(1 - share[..., 0], spacing_mm)
    shift_mm = np.zeros((share.shape[2], 2)) if dwi_to_image_mm is None else dwi_to_image_mm

    def draw(k: int) -> str:
        lines = region_lines(window.cut(share, k), window.spacing_mm, tuple(shift_mm[k]))
        return _tile(grey_levels(window.cut(image, k, np.nan), limits), window, k, lines)

    return _sheet(draw, image.shape[2], title, slices)


def draw_mean(
    mean: FloatArray, reference: FloatArray, share: FloatArray, spacing_mm: Spacing, title: str
) -> str:
    """Draw a mean of volumes with the edge of the cord, in the grey levels of a reference.

    Parameters
    ----------
    mean : (i, j, k) float array to draw
    reference : (i, j, k) float array that says what is black and white in each slice
    share : (i, j, k, 9) float array in [0, 1], background first
    spacing_mm : voxel size
    title : what the picture shows

    Returns
    -------
    str, SVG document
    """
    window = window_around(1 - share[..., 0], spacing_mm)

    def draw(k: int) -> str:
        low, high = np.nanpercentile(window.cut(reference, k, np.nan), [1, 99])
        lines = cord_line(window.cut(share, k), window.spacing_mm)
        return _tile(grey_levels(window.cut(mean, k), (float(low), float(high))), window, k, lines)

    return _sheet(draw, mean.shape[2], title)


def draw_volumes(series: FloatArray, share: FloatArray, spacing_mm: Spacing, title: str) -> str:
    """Draw one line through the cord in every volume: motion from front to back shows as waves.

    Parameters
    ----------
    series : (i, j, k, n) float array
    share : (i, j, k, 9) float array in [0, 1], background first
    spacing_mm : voxel size
    title : what the picture shows

    Returns
    -------
    str, SVG document; volumes run from left to right, the patient's front is at the top
    """
    window = window_around(1 - share[..., 0], spacing_mm)
    middle = window.size[0] // 2

    def draw(k: int) -> str:
        line = window.cut(series, k)[middle - 1 : middle + 2].mean(axis=0).T  # (n, j)
        bright = np.nanpercentile(line, BRIGHTEST_PERCENTILE, axis=1, keepdims=True)
        level = line / np.where(bright > 0, bright, 1)
        size_mm = (FIELD_MM, window.size[1] * window.spacing_mm[1])
        return draw_tile(grey_levels(level, (0.0, 1.0)), size_mm, str(k), {}, ("", ""))

    return _sheet(draw, series.shape[2], title)


def draw_directions(
    direction: FloatArray, fa: FloatArray, share: FloatArray, spacing_mm: Spacing, title: str
) -> str:
    """Draw FA in the colours of the principal direction, with the edge of the cord.

    Parameters
    ----------
    direction : (i, j, k, 3) unit vectors in scanner RAS+
    fa : (i, j, k) float array
    share : (i, j, k, 9) float array in [0, 1], background first
    spacing_mm : voxel size
    title : what the picture shows

    Returns
    -------
    str, SVG document
    """
    window = window_around(1 - share[..., 0], spacing_mm)
    colors = direction_colors(direction, fa)

    def draw(k: int) -> str:
        lines = cord_line(window.cut(share, k), window.spacing_mm)
        return _tile(window.cut(colors, k), window, k, lines)

    return _sheet(draw, fa.shape[2], title)


def _tile(pixels: npt.NDArray[np.uint8], window: Window, k: int, lines: dict[str, str]) -> str:
    """Draw one slice of a window."""
    width, height = (n * s for n, s in zip(window.size, window.spacing_mm, strict=True))
    return draw_tile(pixels, (width, height), str(k), lines)


def _sheet(
    draw: Callable[[int], str], n_slices: int, title: str, slices: Sequence[int] | None = None
) -> str:
    """Draw some or all slices, the highest first, and put them on a sheet."""
    shown = sorted(range(n_slices) if slices is None else slices, reverse=True)
    return compose_sheet([(k, draw(k)) for k in shown], title)
