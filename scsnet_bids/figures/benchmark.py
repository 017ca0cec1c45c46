"""Figures of benchmarks."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from scsnet_bids.figures.plots import ACCENT, FAINT, INK, figure_to_svg, styled

OURS = "ours"
MARKS = "osD^vPX*"


def draw_motion(summary: pd.DataFrame) -> str:
    """Draw how far displacements are from the truth, and what finding them took.

    Parameters
    ----------
    summary : one row per series and method: ``series``, ``method``, ``error_dwi_mm``,
        ``fa_error_pct``, ``cpu_s``

    Returns
    -------
    str, SVG document
    """
    known = summary.dropna(subset="error_dwi_mm")
    series = list(dict.fromkeys(known["series"]))
    with styled(height_inch=2.2 + 0.32 * max(len(series), 4)) as figure:
        columns = figure.subplots(1, 3, sharey=True)
        for axes, (name, words) in zip(columns, _PANELS.items(), strict=True):
            _draw_marks(axes, known, series, name)
            axes.set_title(words, fontsize=8)
            ticks = TICKS[name]
            axes.set_xscale("symlog", linthresh=ticks[1])
            axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
            axes.set_xticks([], minor=True)
        columns[0].set(yticks=range(len(series)), yticklabels=series)
        columns[0].invert_yaxis()
        handles, labels = columns[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        return figure_to_svg(figure, "Ways to correct motion, against the truth")


_PANELS = {
    "error_dwi_mm": "shift (mm)",
    "fa_error_pct": "region FA (%)",
    "cpu_s": "CPU time (s)",
}
TICKS = {
    "error_dwi_mm": (0, 0.5, 2),
    "fa_error_pct": (0, 5, 20),
    "cpu_s": (0, 1, 10, 100),
}
"""Axes are logarithmic above the second, so that nothing far off squeezes the rest together."""


def _draw_marks(axes: Axes, known: pd.DataFrame, series: list[str], name: str) -> None:
    """Draw one mark per series and method."""
    for mark, (method, rows) in zip(MARKS, known.groupby("method", sort=False), strict=False):
        place = [series.index(one) for one in rows["series"]]
        color = ACCENT if method == OURS else FAINT
        axes.plot(rows[name], place, mark, color=color, markeredgecolor=INK, label=str(method))


def draw_growth(runs: pd.DataFrame) -> str:
    """Draw processor time against size, one panel per thing that grows.

    Parameters
    ----------
    runs : one row per size and step: ``grows``, ``size``, ``step``, ``cpu_s``

    Returns
    -------
    str, SVG document
    """
    kinds = list(dict.fromkeys(runs["grows"]))
    with styled(height_inch=2.6 * len(kinds)) as figure:
        panels = figure.subplots(len(kinds), 1, squeeze=False)[:, 0]
        for axes, kind in zip(panels, kinds, strict=True):
            rows = (
                runs[runs["grows"] == kind].groupby(["step", "size"])["cpu_s"].median().unstack(0)
            )
            largest = rows.iloc[-1].nlargest(5).index
            for mark, step in zip(MARKS, largest, strict=False):
                axes.plot(rows.index, rows[step], f"-{mark}", label=str(step), markersize=4)
            axes.set(xlabel=kind, ylabel="processor time (s)", xlim=(0, None), ylim=(0, None))
            axes.legend(frameon=False, fontsize=7)
        return figure_to_svg(figure, "Processor time of the slowest steps as series grow")
