"""Plots of a group: profiles of all people along the cord, and differences between groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from scsnet_bids.figures.plots import ACCENT, INK, SCALE, figure_to_svg, styled
from scsnet_bids.regions import REGIONS, Side, Tissue
from scsnet_bids.vertebrae import level_rank

GROUP_STYLES = (
    (ACCENT, "-", "o"),
    ("#D55E00", "--", "^"),
    ("#009E73", "-.", "s"),
    ("#CC79A7", ":", "D"),
)
"""Colour, line and mark of each group; the fifth looks like the first again."""
FAINTEST = 0.08
SIGNIFICANT = 0.05
ROW_INCH = 0.17
WHOLE_CORD = "whole cord"


def draw_profiles(values: pd.DataFrame, metric: str, along: str) -> str:
    """Draw a metric of every tissue along the cord, one thin line per person, medians thick.

    Parameters
    ----------
    values : ``person``, ``group``, ``place`` (level or slice), ``region`` and ``value``, of the
        metric and both sides
    metric : ``FA`` or ``MD``
    along : ``level`` or ``slice``

    Returns
    -------
    str, SVG document
    """
    places = _order(values["place"], along)
    factor, label = SCALE[metric]
    groups = list(dict.fromkeys(values["group"]))
    with styled(height_inch=5.2) as figure:
        panels = figure.subplots(2, 2, sharex=True, sharey=True)
        for axes, tissue in zip(panels.flat, Tissue, strict=True):
            rows = values[values["region"] == str(tissue)]
            for n, group in enumerate(groups):
                _draw_group(axes, rows[rows["group"] == group], places, factor, n)
            axes.set_title(str(tissue).replace("_", " ").capitalize())
            _label_places(axes, places, along)
        for axes in panels[:, 0]:
            axes.set_ylabel(label)
        if len(groups) > 1:
            _explain_groups(figure, groups)
    return figure_to_svg(figure, f"{metric} of all people along the {along}s")


def draw_forest(differences: pd.DataFrame, title: str) -> str:
    """Draw effect sizes with their intervals, one row per region, the whole cord on top.

    Parameters
    ----------
    differences : rows of one group and one metric, with the columns of
        ``scsnet_bids.group.differences``
    title : what it shows

    Returns
    -------
    str, SVG document; filled marks are significant after correction
    """
    level = differences["level"].replace("", WHOLE_CORD)
    places = [WHOLE_CORD, *sorted(set(level) - {WHOLE_CORD}, key=level_rank)]
    rows: list[tuple[str, Mapping[Any, Any] | None]] = []
    for place in (p for p in places if (level == p).any()):
        rows.append((place, None))
        of_place = differences[level == place].set_index(["region", "side"]).to_dict("index")
        names = [(str(r.tissue), str(r.side)) for r in REGIONS]
        rows += [
            (f"{side} {region.replace('_', ' ')}", of_place[region, side])
            for region, side in [*names, ("white_matter", str(Side.BOTH))]
            if (region, side) in of_place
        ]
    with styled(height_inch=1.0 + ROW_INCH * len(rows)) as figure:
        axes = figure.subplots()
        for n, (_, row) in enumerate(rows):
            if row is not None:
                _draw_effect(axes, n, row)
        axes.axvline(0, color=INK, lw=0.8)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
        for text, (_, row) in zip(axes.get_yticklabels(), rows, strict=True):
            text.set_fontweight("bold" if row is None else "normal")
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel="Hedges' g with 95 % interval", title=title)
        axes.grid(axis="y", visible=False)
    return figure_to_svg(figure, title)


def _draw_effect(axes: Axes, place: int, row: Mapping[Any, Any]) -> None:
    """Draw one effect size, filled if it is significant after correction."""
    color = ACCENT if row["q"] < SIGNIFICANT else "#55616e"
    axes.plot([row["hedges_g_low"], row["hedges_g_high"]], [place, place], color=color, lw=1.6)
    face = color if row["q"] < SIGNIFICANT else "w"
    axes.plot(row["hedges_g"], place, "o", color=color, mfc=face, ms=4.6)


def _order(place: pd.Series[Any], along: str) -> list[str]:
    """Order the places from foot to head."""
    names = set(place.astype(str))
    if along == "slice":
        return sorted(names, key=float)
    return sorted(names, key=level_rank, reverse=True)


def _draw_group(
    axes: Axes, rows: pd.DataFrame, places: Sequence[str], factor: float, number: int
) -> None:
    """Draw everybody of a group thin, and the median thick."""
    color, line, mark = GROUP_STYLES[number % len(GROUP_STYLES)]
    table = rows.assign(place=rows["place"].astype(str)).pivot_table(
        index="person", columns="place", values="value"
    )
    lines = table.reindex(columns=list(places)).to_numpy(float) * factor
    if not len(lines):
        return
    x = np.arange(len(places))
    faint = max(FAINTEST, min(0.5, 8 / len(lines)))
    # One path with gaps is many times smaller than a path per person.
    gap = np.full((len(lines), 1), np.nan)
    joined = np.hstack([lines, gap]).ravel()
    axes.plot(np.tile(np.append(x, np.nan), len(lines)), joined, color=color, lw=0.7, alpha=faint)
    known = np.asarray(np.isfinite(lines).any(axis=0))
    middle = np.nanmedian(lines[:, known], axis=0)
    axes.plot(x[known], middle, line, marker=mark, color=color, lw=2, ms=4.5, mec="w", mew=0.6)


def _label_places(axes: Axes, places: Sequence[str], along: str) -> None:
    """Write where along the cord the values lie."""
    if along == "level":
        axes.set_xticks(range(len(places)), list(places))
        axes.set_xlabel("level (foot to head)")
    else:
        axes.set_xlabel("slice (0 = lowest)")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def _explain_groups(figure: Figure, groups: Sequence[str]) -> None:
    """Say below the panels which line is which group."""
    marks = []
    for n, group in enumerate(groups):
        color, line, mark = GROUP_STYLES[n % len(GROUP_STYLES)]
        words = group.replace("$", r"\$")
        marks.append(Line2D([], [], color=color, ls=line, marker=mark, lw=2, ms=4.5, label=words))
    figure.legend(handles=marks, loc="outside lower center", ncols=4, frameon=False)
