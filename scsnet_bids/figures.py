"""Pictures to judge a run by: arrays in, matplotlib figures out.

Slices are shown as radiologists do: the patient's front at the top, the patient's right on the
left. The highest slice comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from contourpy import contour_generator
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scsnet_bids.regions import REGIONS

FloatArray = npt.NDArray[np.floating]

FIELD_MM = 30.0
SLICES_PER_ROW = 5
PANEL_INCH, HEAD_INCH, FOOT_INCH = 2.0, 0.5, 0.7
FA_RANGE = (0.0, 1.0)


@dataclass(frozen=True)
class _Borders:
    """Where the regions of a slice end.

    Attributes
    ----------
    share : (i, j, 9) float array, background first
    spacing_mm : voxel size
    """

    share: FloatArray
    spacing_mm: tuple[float, float, float]

    def lead(self, label: int) -> FloatArray:
        """(i, j) by how much a region exceeds every other; its border is where this is 0."""
        others = np.delete(self.share, label, axis=-1).max(axis=-1)
        return np.asarray(self.share[..., label] - others)


def draw_regions(
    b0: FloatArray,
    fa: FloatArray,
    share: FloatArray,
    b0_to_dwi_mm: FloatArray,
    spacing_mm: tuple[float, float, float],
    title: str,
    slices: Sequence[int] | None = None,
) -> Figure:
    """Draw the outlines of the regions on the B0 image and on FA, slice by slice.

    Parameters
    ----------
    b0 : (i, j, k) float array, B0 image
    fa : (i, j, k) float array, fractional anisotropy
    share : (i, j, k, 9) float array in [0, 1], background first, in DTI space
    b0_to_dwi_mm : (k, 2) displacement (left, posterior) from the B0 image to DTI space
    spacing_mm : voxel size
    title : what the picture shows
    slices : which slices to show; all of them by default

    Returns
    -------
    matplotlib Figure
    """
    shown = sorted(range(b0.shape[2]) if slices is None else slices, reverse=True)
    n_rows = -(-len(shown) // SLICES_PER_ROW)
    n_columns = min(len(shown), SLICES_PER_ROW)
    height = 2 * n_rows * PANEL_INCH + HEAD_INCH + FOOT_INCH
    figure = Figure(figsize=(PANEL_INCH * max(n_columns, 2), height))
    edges = {
        "top": 1 - HEAD_INCH / height,
        "bottom": FOOT_INCH / height,
        "left": 0.01,
        "right": 0.99,
    }
    gaps = {"wspace": 0.03, "hspace": 0.14}
    axes = figure.subplots(2 * n_rows, n_columns, squeeze=False, gridspec_kw=edges | gaps)
    for panel in axes.flat:
        panel.set_axis_off()
    for place, k in enumerate(shown):
        row, column = divmod(place, SLICES_PER_ROW)
        window = _window(share[:, :, k, 0], spacing_mm)
        upper, lower = axes[2 * row, column], axes[2 * row + 1, column]
        plane = b0[(*window, k)]
        limits = tuple(np.nanpercentile(plane, [1, 99]))
        borders = _Borders(share[(*window, k)], spacing_mm)
        _draw_slice(upper, plane, limits, borders, -b0_to_dwi_mm[k])
        _draw_slice(lower, fa[(*window, k)], FA_RANGE, borders, np.zeros(2))
        upper.set_title(f"slice {k}: b = 0 image", fontsize=8, y=1.0, pad=3)
        lower.set_title(f"slice {k}: FA", fontsize=8, y=1.0, pad=3)
    lines = [Line2D([], [], color=region.color, lw=2) for region in REGIONS]
    names = [region.name.replace("_", " ") for region in REGIONS]
    figure.legend(lines, names, loc="lower center", ncols=4 if n_columns > 3 else 2, fontsize=7)
    figure.suptitle(title, fontsize=9, y=1 - 0.1 / height, va="top")
    return figure


def _window(background: FloatArray, spacing_mm: tuple[float, float, float]) -> tuple[slice, slice]:
    """Choose the part of a slice around its cord, or around its middle where there is none."""
    cord = 1 - background
    weight = cord if cord.sum() > 0 else np.ones_like(cord)
    centre = [float(np.average(index, weights=weight)) for index in np.indices(cord.shape)]
    edges = [
        (round(middle - FIELD_MM / 2 / step), round(middle + FIELD_MM / 2 / step) + 1)
        for middle, step in zip(centre, spacing_mm, strict=False)
    ]
    left, posterior = (slice(max(low, 0), high) for low, high in edges)
    return left, posterior


def _draw_slice(
    axes: Axes,
    plane: FloatArray,
    limits: tuple[Any, ...],
    borders: _Borders,
    shift_mm: FloatArray,
) -> None:
    """Draw one (i, j) slice with the borders of its regions, moved by (left, posterior)."""
    aspect = borders.spacing_mm[1] / borders.spacing_mm[0]
    axes.imshow(plane.T, cmap="gray", vmin=limits[0], vmax=limits[1], aspect=aspect)
    x, y = (
        np.arange(n) + shift / step
        for n, shift, step in zip(plane.shape, shift_mm, borders.spacing_mm, strict=False)
    )
    for region in REGIONS:
        lines: list[Any] = list(contour_generator(x, y, borders.lead(region.label).T).lines(0.0))
        axes.add_collection(LineCollection(lines, colors=region.color, linewidths=1.1))
    axes.set(xlim=(-0.5, plane.shape[0] - 0.5), ylim=(plane.shape[1] - 0.5, -0.5))
    marks: dict[str, Any] = {"color": "w", "fontsize": 7, "va": "center"}
    axes.text(0.02, 0.5, "R", ha="left", transform=axes.transAxes, **marks)
    axes.text(0.98, 0.5, "L", ha="right", transform=axes.transAxes, **marks)
