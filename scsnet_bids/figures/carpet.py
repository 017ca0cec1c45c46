"""The signal of the cord in every slice of every volume, and where it is not what is expected."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from scsnet_bids.arrays import FloatArray
from scsnet_bids.figures.plots import INK, styled

MARKS = {"lost": ("x", "lost"), "weak": ("v", "weak"), "bright": ("^", "too bright")}
"""Mark of a kind, so that the carpet can be read without colours, and its name."""
BRIGHTEST_PERCENTILE = 99.0
LARGEST_RATIO = 2.0


def plot_carpet(
    signal: FloatArray,
    expected: FloatArray,
    kind: npt.NDArray[np.str_],
    outlier: npt.NDArray[np.bool_],
) -> Figure:
    """Plot the signal of the cord, and what it is of the signal that is expected.

    Parameters
    ----------
    signal : (n, k) signal of the cord; below 0 there is none
    expected : (n, k) what the other volumes let expect; nan where nothing
    kind : (n, k) str array, one of ``outlier_table.KINDS``
    outlier : (n, k) bool array, whether a slice of a volume counts less than half, or not at all

    Returns
    -------
    Figure: volumes to the right, slices upward. Above, the signal by the median of its slice;
    below, by what is expected, outliers marked
    """
    typical = np.median(signal, axis=0)
    by_typical = signal / np.where(typical > 0, typical, np.nan)
    by_expected = signal / expected
    with styled(4.6) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True)
        brightest = np.nanpercentile(by_typical, BRIGHTEST_PERCENTILE) if typical.any() else 1.0
        _draw(figure, upper, by_typical, "gray", float(brightest), "by its slice's median")
        upper.set_title("Signal of the cord")
        _draw(figure, lower, by_expected, "RdBu_r", LARGEST_RATIO, "by what is expected")
        lower.set_title("Signal of the cord, contrast of the gradients taken out")
        lower.set_xlabel("volume")
        lower.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        for name, (mark, _) in MARKS.items():
            for chosen, face in ((outlier, INK), (~outlier, "none")):
                volumes, slices = np.nonzero((kind == name) & chosen)
                lower.plot(volumes, slices, mark, color=INK, mfc=face, ms=4, mew=1.0, ls="")
        _explain_marks(figure)
    return figure


def _draw(
    figure: Figure, axes: Axes, values: FloatArray, colors: str, largest: float, label: str
) -> None:
    """Draw (n, k) values; what is missing stays gray."""
    axes.set_facecolor("#d7dce1")
    drawn = axes.imshow(
        np.ma.masked_invalid(values.T),
        origin="lower",
        aspect="auto",
        cmap=colors,
        vmin=0,
        vmax=largest,
        interpolation="none",
    )
    axes.grid(visible=False)
    axes.set_ylabel("slice")
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    figure.colorbar(drawn, ax=axes, label=label, pad=0.01)


def _explain_marks(figure: Figure) -> None:
    """Say below the panels what the marks mean."""
    handles = [
        Line2D([], [], ls="", marker=mark, color=INK, ms=4.2, label=name)
        for mark, name in MARKS.values()
    ]
    hollow = Line2D(
        [], [], ls="", marker="v", color=INK, mfc="none", ms=4.2, label="hollow: slightly"
    )
    figure.legend(handles=[*handles, hollow], loc="outside lower center", ncols=4, frameon=False)
