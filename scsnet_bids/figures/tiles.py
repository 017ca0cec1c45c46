"""Slices of an image as small vector pictures, with the borders of the regions on them.

A tile is an SVG that holds the voxels of one slice as they are, and lines above them that stay
sharp at any size. Slices are shown as radiologists do: the patient's front at the top, the
patient's right on the left. The highest slice comes first. The first voxel of a tile begins at 0,
and its coordinates are mm.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
from contourpy import contour_generator

from scsnet_bids.arrays import FloatArray
from scsnet_bids.regions import REGIONS
from scsnet_bids.slices import centre_of_slices

PixelArray = npt.NDArray[np.uint8]

FIELD_MM = 26.0
TILES_PER_ROW = 5
TILE, GAP, HEAD = 180, 8, 40
"""Size of a tile on a sheet, the space around it, and that of the title, in px."""
HALO = '<path fill="none" stroke="#000" stroke-opacity=".4" stroke-width=".5"'
LINE = '<path fill="none" stroke-width=".22"'
"""Widths in mm."""
CORD_COLOR = "#FFFFFF"


@dataclass(frozen=True, eq=False)
class Window:
    """The part of every slice that is shown: a square around the cord.

    Attributes
    ----------
    first : (k, 2) int array, first voxel of the square toward left and back; may lie outside
    size : (2,) voxels
    spacing_mm : voxel size
    """

    first: npt.NDArray[np.intp]
    size: tuple[int, int]
    spacing_mm: tuple[float, float]

    def cut(self, volume: npt.NDArray[Any], k: int, outside: float = 0) -> npt.NDArray[Any]:
        """Cut the square out of slice k of an (i, j, k, ...) array; a value stands beyond it."""
        margin = [(n, n) for n in self.size] + [(0, 0)] * (volume.ndim - 3)
        plane = np.pad(volume[:, :, k], margin, constant_values=outside)
        i, j = np.clip(self.first[k] + self.size, 0, np.array(plane.shape[:2]) - self.size)
        return plane[i : i + self.size[0], j : j + self.size[1]]


def window_around(cord_share: FloatArray, spacing_mm: tuple[float, float, float]) -> Window:
    """Choose the part of every slice around its cord.

    Parameters
    ----------
    cord_share : (i, j, k) float array in [0, 1]; a slice without a cord takes the place of its
        neighbours, an image without one its middle
    spacing_mm : voxel size

    Returns
    -------
    Window
    """
    step = np.array(spacing_mm[:2])
    size = np.round(FIELD_MM / step).astype(int)
    centre = centre_of_slices(cord_share)
    found = np.flatnonzero(np.isfinite(centre[:, 0]))
    if found.size:
        slices = np.arange(len(centre))
        centre = np.stack([np.interp(slices, found, x) for x in centre[found].T], axis=1)
    else:
        centre[:] = (np.array(cord_share.shape[:2]) - 1) / 2
    first = np.round(centre - (size - 1) / 2).astype(int)
    return Window(first, (int(size[0]), int(size[1])), (float(step[0]), float(step[1])))


def region_lines(
    share: FloatArray, spacing_mm: tuple[float, float], shift_mm: tuple[float, ...] = (0.0, 0.0)
) -> dict[str, str]:
    """Trace where the regions of a slice end.

    Parameters
    ----------
    share : (i, j, 9) float array, background first; what no region fills is background
    spacing_mm : voxel size
    shift_mm : (left, posterior) by which the lines are moved

    Returns
    -------
    dict, SVG path data by colour; the border of a region is where it exceeds every other
    """
    whole = np.concatenate([1 - share[..., 1:].sum(axis=-1, keepdims=True), share[..., 1:]], -1)
    leads = {
        r.color: whole[..., r.label] - np.delete(whole, r.label, axis=-1).max(axis=-1)
        for r in REGIONS
    }
    return {color: _trace(lead, spacing_mm, shift_mm) for color, lead in leads.items()}


def cord_line(share: FloatArray, spacing_mm: tuple[float, float]) -> dict[str, str]:
    """Trace the edge of the cord in a slice; see :func:`region_lines`."""
    return {CORD_COLOR: _trace(share[..., 1:].sum(axis=-1) - 0.5, spacing_mm)}


def grey_levels(plane: FloatArray, limits: tuple[float, float] | None = None) -> PixelArray:
    """Turn values into grey levels.

    Parameters
    ----------
    plane : (...) float array
    limits : values of black and white; by default the percentiles 1 and 99 of the finite values

    Returns
    -------
    (...) uint8 array; black where there is no value
    """
    if limits is None:
        finite = plane[np.isfinite(plane)]
        ends = np.percentile(finite, [1, 99]) if finite.size else (0.0, 1.0)
        limits = (float(ends[0]), float(ends[1]))
    low, high = limits
    level = np.clip((plane - low) / max(high - low, np.finfo(float).tiny), 0, 1)
    return np.asarray(np.round(np.nan_to_num(level) * 255), dtype=np.uint8)


def direction_colors(direction: FloatArray, fa: FloatArray) -> PixelArray:
    """Colour voxels by direction: red left-right, green front-back, blue head-foot.

    Parameters
    ----------
    direction : (..., 3) unit vectors in scanner RAS+
    fa : (...) float array in [0, 1], how bright

    Returns
    -------
    (..., 3) uint8 array
    """
    level = np.abs(direction) * np.clip(fa, 0, 1)[..., None]
    return np.asarray(np.round(np.nan_to_num(level) * 255), dtype=np.uint8)


def draw_tile(
    pixels: PixelArray,
    size_mm: tuple[float, float],
    label: str,
    lines: Mapping[str, str],
    sides: tuple[str, str] = ("R", "L"),
) -> str:
    """Draw a slice.

    Parameters
    ----------
    pixels : (i, j) or (i, j, 3) uint8 array, toward the patient's left and back
    size_mm : how wide and high that is
    label : what is written in the upper left corner
    lines : SVG path data by colour
    sides : what is written at the left and at the right edge

    Returns
    -------
    str, SVG element with its own coordinates and neither place nor size
    """
    width, height = (f"{size:.4g}" for size in size_mm)
    rows = np.swapaxes(pixels, 0, 1)
    picture = base64.b64encode(encode_png(rows)).decode()
    halo = "".join(lines.values())
    drawn = "".join(f'{LINE} stroke="{c}" d="{d}"/>' for c, d in lines.items() if d)
    places = ((0.03, 0.09), (0.03, 0.53), (0.97, 0.53))
    words = zip((label, *sides), places, strict=True)
    text = "".join(_write(word, place, size_mm) for word, place in words)
    return (
        f'<svg class="tile" viewBox="0 0 {width} {height}" preserveAspectRatio="none">'
        f'<image width="{width}" height="{height}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{picture}"/>'
        f'<g class="lines">{HALO} d="{halo}"/>{drawn}</g>'
        f"{text}</svg>"
    )


def compose_sheet(tiles: Sequence[tuple[int, str]], title: str) -> str:
    """Put tiles on a sheet that stands alone.

    Parameters
    ----------
    tiles : number and picture of each slice, in the order in which they are shown
    title : what the sheet shows

    Returns
    -------
    str, SVG document
    """
    columns = min(TILES_PER_ROW, max(len(tiles), 1))
    width = columns * (TILE + GAP) + GAP
    height = -(-len(tiles) // columns) * (TILE + GAP) + GAP + HEAD
    placed = "".join(
        tile.replace(
            '<svg class="tile"',
            f'<svg class="tile" data-slice="{k}" x="{GAP + n % columns * (TILE + GAP)}" '
            f'y="{HEAD + n // columns * (TILE + GAP)}" width="{TILE}" height="{TILE}"',
            1,
        )
        for n, (k, tile) in enumerate(tiles)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" font-family="sans-serif">'
        f"<title>{escape(title)}</title>"
        f'<rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{GAP}" y="26" font-size="16">{escape(title)}</text>{placed}</svg>\n'
    )


def encode_png(rows: PixelArray) -> bytes:
    """Encode grey (row, column) or colour (row, column, 3) levels as PNG."""
    height, width = rows.shape[:2]
    kind = 0 if rows.ndim == 2 else 2
    lines = np.pad(rows.reshape(height, -1), ((0, 0), (1, 0)))  # each begins with its filter: none
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0),
        b"IDAT": zlib.compress(lines.tobytes(), 9),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in parts.items())


def _chunk(name: bytes, data: bytes) -> bytes:
    """Frame a part of a PNG by its length and its checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _trace(
    lead: FloatArray, spacing_mm: tuple[float, float], shift_mm: tuple[float, ...] = (0.0, 0.0)
) -> str:
    """Write the zero lines of an (i, j) array as path data; a centre lies half a voxel in."""
    x, y = (
        (np.arange(n) + 0.5) * step + shift
        for n, step, shift in zip(lead.shape, spacing_mm, shift_mm, strict=True)
    )
    return "".join(_path(line) for line in contour_generator(x, y, lead.T).lines(0.0))


def _path(line: Any) -> str:
    """Write an (m, 2) line as SVG path data."""
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in line)


def _write(word: str, place: tuple[float, float], size_mm: tuple[float, float]) -> str:
    """Write a word at a part of the width and height of a tile."""
    anchor = "end" if place[0] > 0.5 else "start"
    x, y = (f"{part * size:.4g}" for part, size in zip(place, size_mm, strict=True))
    rim = f'stroke="#000" stroke-width="{0.012 * size_mm[1]:.2g}"'
    start = f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{0.075 * size_mm[1]:.3g}" '
    # Twice, since not every program knows paint-order: the dark rim, and the word on it.
    rim = f'{start}fill="#000" {rim} aria-hidden="true">{escape(word)}</text>'
    return f'{rim}{start}fill="#fff">{escape(word)}</text>'
