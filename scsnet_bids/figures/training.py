"""Curves of a training: the loss, and the scores on what is held out."""

from __future__ import annotations

import pandas as pd

from scsnet_bids.figures.plots import ACCENT, figure_to_svg, styled

LINE_OF = {
    "cord_dice": ("Dice of the cord, synthetic", "-", "o"),
    "manual_cord_dice": ("Dice of the cord, labelled", "--", "^"),
    "regions": ("Dice of the regions, synthetic", "-.", "s"),
    "manual_regions": ("Dice of the regions, labelled", ":", "D"),
}
"""Words, line and mark of each score."""


def draw_training(curve: pd.DataFrame) -> str:
    """Draw loss and scores against the steps.

    Parameters
    ----------
    curve : ``step``, ``loss``, and columns with scores, filled in the rows of snapshots

    Returns
    -------
    str, SVG document
    """
    with styled(height_inch=4.2) as figure:
        above, below = figure.subplots(2, 1, sharex=True)
        above.plot(curve["step"], curve["loss"], color=ACCENT)
        above.set(title="Loss (running mean)", yscale="log")
        for name, values in _scores(curve).items():
            words, line, mark = LINE_OF[name]
            known = values.notna()
            below.plot(curve["step"][known], values[known], line, marker=mark, label=words)
        below.set(title="Held out", xlabel="step", ylim=(0, 1))
        below.legend(loc="lower right", frameon=False)
        return figure_to_svg(figure, "Progress of the training")


def _scores(curve: pd.DataFrame) -> dict[str, pd.Series[float]]:
    """Dice of the cord and mean Dice of the regions, for each kind of held-out data there is."""
    found = {}
    for prefix in ("", "manual_"):
        if f"{prefix}cord_dice" in curve:
            found[f"{prefix}cord_dice"] = curve[f"{prefix}cord_dice"]
        regions = [name for name in curve if str(name).startswith(f"{prefix}dice_")]
        if regions:
            found[f"{prefix}regions"] = curve[regions].mean(axis=1)
    return found
