"""Plots of the tables: motion, values along the slices, shape of the cord.

The slices run from the lowest on the left to the highest on the right. Left is drawn as a full
line with dots, right as a dashed line with triangles, so that a plot can be read without colours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from scsnet_bids.arrays import FloatArray
from scsnet_bids.compression import find_most_compressed
from scsnet_bids.derivatives import select_rows
from scsnet_bids.figures import SHOWN_AS
from scsnet_bids.regions import REGIONS, Region, Side, Tissue
from scsnet_bids.slice_marks import EXCLUDED

INK, SOFT, ACCENT, FAINT = "#1d2733", "#55616e", "#0b5c8a", "#c9d1d9"
WIDTH_INCH = 6.0
BAND_DEVIATIONS = 1.96
"""Half width of a band in standard deviations: 95 %."""
UNMIXED = ("unmixed", "unmixed_uncertainty")
LARGEST = {"FA": 1.0, "MD": 3.0}
"""No FA exceeds 1, and no MD that of free water."""
LINE_OF = {Side.LEFT: ("-", "o"), Side.RIGHT: ("--", "^")}
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e8ecf0",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "scsnet-bids",
    "figure.constrained_layout.use": True,
}


@contextmanager
def styled(height_inch: float) -> Iterator[Figure]:
    """Lend a figure of some height in the style of the report."""
    with mpl.rc_context(STYLE):
        yield Figure(figsize=(WIDTH_INCH, height_inch))


def figure_to_svg(figure: Figure, title: str) -> str:
    """Write a figure as SVG with real text; the same figure always gives the same file.

    Parameters
    ----------
    figure : to write
    title : what it shows

    Returns
    -------
    str, SVG document
    """
    buffer = StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": title})
    return buffer.getvalue()


def plot_profiles(regions: pd.DataFrame, metric: str) -> Figure:
    """Plot a metric of every tissue along the slices, both sides in one panel.

    Parameters
    ----------
    regions : region table
    metric : ``FA`` or ``MD``

    Returns
    -------
    Figure; the bands are 95 % intervals, hollow marks are flagged values
    """
    factor, label = SHOWN_AS[metric]
    with styled(4.6) as figure:
        panels = figure.subplots(2, 2, sharex=True, sharey=True)
        for axes, tissue in zip(panels.flat, Tissue, strict=True):
            for region in (r for r in REGIONS if r.tissue is tissue):
                rows = _slice_rows(regions, region, metric)
                value, deviation = (rows[c].to_numpy(float) * factor for c in UNMIXED)
                flagged = rows["unmixed_flag"].notna().to_numpy()
                _draw_side(axes, rows.index.to_numpy(), value, deviation, flagged, region)
            axes.set_title(as_title(tissue))
            _show_levels(axes, regions[regions["scope"] == "slice"])
        low, high = panels[0, 0].get_ylim()
        panels[0, 0].set_ylim(max(low, 0), min(high, LARGEST[metric]))
        _label_grid(figure, panels, label)
        _explain_sides(figure)
    return figure


def plot_asymmetry(regions: pd.DataFrame, metric: str) -> Figure:
    """Plot (left - right) / (left + right) of every tissue along the slices.

    Parameters
    ----------
    regions : region table
    metric : ``FA`` or ``MD``

    Returns
    -------
    Figure; the bands are 95 % intervals that take the two sides as independent
    """
    with styled(4.6) as figure:
        panels = figure.subplots(2, 2, sharex=True, sharey=True)
        for axes, tissue in zip(panels.flat, Tissue, strict=True):
            index, value, deviation = asymmetry(regions, str(tissue), metric)
            axes.axhline(0, color=INK, lw=0.8)
            half = BAND_DEVIATIONS * deviation
            axes.fill_between(index, value - half, value + half, color=ACCENT, alpha=0.18, lw=0)
            axes.plot(index, value, "-o", color=ACCENT, ms=3.5, lw=1.4)
            axes.set_title(as_title(tissue))
            _show_levels(axes, regions[regions["scope"] == "slice"])
        _label_grid(figure, panels, f"asymmetry of {metric}")
    return figure


def asymmetry(
    regions: pd.DataFrame, tissue: str, metric: str
) -> tuple[npt.NDArray[Any], FloatArray, FloatArray]:
    """Compare the two sides of a tissue: (left - right) / (left + right) of the unmixed values.

    Parameters
    ----------
    regions : region table
    tissue : value of the column ``region``
    metric : value of the column ``metric``

    Returns
    -------
    slices, asymmetry and its standard error if the sides are independent; nan where a side has
    no value
    """
    left, right = (
        _slice_rows(regions, region, metric)[list(UNMIXED)].astype(float)
        for region in (r for r in REGIONS if str(r.tissue) == tissue)
    )
    (a, s), (b, t) = left.to_numpy().T, right.reindex(left.index).to_numpy().T
    total = np.where(a + b > 0, a + b, np.nan)
    return left.index.to_numpy(), (a - b) / total, 2 * np.hypot(b * s, a * t) / total**2


def plot_shape(shape: pd.DataFrame) -> Figure:
    """Plot area, diameters and compression ratio of the cord along the slices.

    Parameters
    ----------
    shape : shape table

    Returns
    -------
    Figure
    """
    series = {
        "Area (mm²)": [("area_mm2", "-", "o", "")],
        "Diameter (mm)": [
            ("rl_diameter_mm", "-", "o", "right-left"),
            ("ap_diameter_mm", "--", "^", "front-back"),
        ],
        "Compression ratio (front-back / right-left)": [("compression_ratio", "-", "o", "")],
    }
    flagged = shape["flag"].notna().to_numpy()
    flattest = find_most_compressed(shape)
    with styled(5.4) as figure:
        panels = figure.subplots(3, 1, sharex=True)
        for axes, (title, columns) in zip(panels, series.items(), strict=True):
            for column, line, mark, name in columns:
                value = shape[column].to_numpy(float)
                axes.plot(shape["slice"], value, line, color=ACCENT, lw=1.4, label=name)
                _mark(axes, shape["slice"].to_numpy(), value, flagged, ACCENT, mark)
            axes.set_title(title)
            if len(columns) > 1:
                axes.legend(frameon=False, ncols=2, loc="upper right", borderpad=0)
            axes.margins(y=0.2)
            _show_levels(axes, shape)
            if flattest is not None:
                axes.axvline(flattest.slice, color=INK, lw=0.9, ls=":")
        label_slices(panels[-1])
    return figure


def plot_displacement(shift_mm: FloatArray, trusted: npt.NDArray[np.bool_]) -> Figure:
    """Plot how far every slice of every volume was moved.

    Parameters
    ----------
    shift_mm : (n, k, 2) displacement (left, posterior)
    trusted : (n, k) bool array; a cross marks a slice whose displacement was borrowed

    Returns
    -------
    Figure: lengths by volume and slice above, mean and maximum per volume below
    """
    length = np.linalg.norm(shift_mm, axis=-1)
    n_volumes = len(length)
    with styled(4.6) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        drawn = upper.imshow(
            length.T, origin="lower", aspect="auto", cmap="cividis", vmin=0, interpolation="none"
        )
        volumes, slices = np.nonzero(~trusted)
        upper.plot(volumes, slices, "x", color="w", ms=4, mew=1.2)
        upper.set(title="In-plane displacement of every slice", ylabel="slice")
        upper.grid(visible=False)
        upper.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        figure.colorbar(drawn, ax=upper, label="mm", pad=0.01)
        lower.fill_between(np.arange(n_volumes), length.max(axis=1), color=FAINT, label="maximum")
        lower.plot(length.mean(axis=1), color=ACCENT, lw=1.4, label="mean over slices")
        lower.margins(y=0.3)  # for the legend
        lower.set(xlabel="volume", ylabel="mm", xlim=(-0.5, n_volumes - 0.5), ylim=(0, None))
        lower.legend(frameon=False, ncols=2, loc="upper right", borderpad=0)
        lower.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return figure


def label_slices(axes: Axes) -> None:
    """Write what the slices' axis means."""
    axes.set_xlabel("slice (0 = lowest)")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def as_title(name: str) -> str:
    """Write a name of the tables as a title.

    >>> as_title("gray_matter")
    'Gray matter'
    """
    return name.replace("_", " ").capitalize()


def plain(word: str) -> str:
    """Keep a word from being read as a formula."""
    return word.replace("$", r"\$")


def _show_levels(axes: Axes, rows: pd.DataFrame) -> None:
    """Name the vertebral levels along the lower edge of a plot, with a line between two of them."""
    level = rows.drop_duplicates("slice").set_index("slice")["level"].dropna()
    for name, own in level.groupby(level, sort=False):
        low, high = min(own.index) - 0.5, max(own.index) + 0.5
        for edge in (low, high):
            axes.axvline(edge, color=FAINT, lw=0.8, ls=":", zorder=0)
        axes.text(
            (low + high) / 2,
            0.02,
            plain(str(name)),
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=7,
            color=SOFT,
        )


def _slice_rows(regions: pd.DataFrame, region: Region, metric: str) -> pd.DataFrame:
    """Rows of a region's slices, by slice."""
    names = {"region": str(region.tissue), "side": str(region.side)}
    chosen = select_rows(regions, scope="slice", metric=metric, **names)
    chosen = chosen[~chosen["flag"].astype(str).str.contains(EXCLUDED)]
    return chosen.assign(slice=chosen["slice"].astype(int)).set_index("slice").sort_index()


def _draw_side(
    axes: Axes,
    index: npt.NDArray[Any],
    value: FloatArray,
    deviation: FloatArray,
    flagged: npt.NDArray[np.bool_],
    region: Region,
) -> None:
    """Draw one side of a tissue: band, line and marks."""
    line, mark = LINE_OF[region.side]
    half = BAND_DEVIATIONS * deviation
    axes.fill_between(index, value - half, value + half, color=region.color, alpha=0.22, lw=0)
    outline = [withStroke(linewidth=2.6, foreground="#40464d")]
    axes.plot(index, value, line, color=region.color, lw=1.7, path_effects=outline)
    _mark(axes, index, value, flagged, region.color, mark)


def _mark(
    axes: Axes,
    index: npt.NDArray[Any],
    value: FloatArray,
    flagged: npt.NDArray[np.bool_],
    color: str,
    mark: str,
) -> None:
    """Mark values, hollow where they are flagged."""
    for chosen, face in ((~flagged, color), (flagged, "w")):
        axes.plot(index[chosen], value[chosen], mark, mfc=face, mec="#40464d", mew=0.6, ms=4.6)


def _explain_sides(figure: Figure) -> None:
    """Say below the panels which line is which side."""
    marks = [
        Line2D([], [], ls=line, marker=mark, color=INK, mfc=INK, ms=4.2, lw=1.4, label=str(side))
        for side, (line, mark) in LINE_OF.items()
    ]
    hollow = Line2D([], [], ls="", marker="o", mfc="w", mec=INK, ms=4.2, label="flagged")
    figure.legend(handles=[*marks, hollow], loc="outside lower center", ncols=3, frameon=False)


def _label_grid(figure: Figure, panels: npt.NDArray[Any], label: str) -> None:
    """Write what the axes of a grid of panels mean, at its edge only."""
    for axes in panels[-1]:
        label_slices(axes)
    for axes in panels[:, 0]:
        axes.set_ylabel(label)
    figure.align_ylabels(panels[:, 0])
