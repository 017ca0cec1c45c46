"""Plots of a group: profiles of all people along the cord, and differences between groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scsnet_bids.figures import SHOWN_AS
from scsnet_bids.figures.plots import (
    ACCENT,
    BAND_DEVIATIONS,
    INK,
    SOFT,
    as_title,
    figure_to_svg,
    label_slices,
    plain,
    styled,
)
from scsnet_bids.regions import REGIONS, Side, Tissue
from scsnet_bids.vertebrae import level_rank

GROUP_STYLES = (
    (ACCENT, "-", "o"),
    ("#D55E00", "--", "^"),
    ("#009E73", "-.", "s"),
    ("#CC79A7", ":", "D"),
)
"""Colour, line and mark of each group; the fifth looks like the first again."""
PERSON_COLORS = tuple(color for color, _, _ in GROUP_STYLES)
FEW_PEOPLE = 12
"""So many are drawn with their intervals, side by side."""
MOST_NAMED = 40
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
    factor, label = SHOWN_AS[metric]
    groups = list(dict.fromkeys(values["group"]))
    with styled(height_inch=5.2) as figure:
        panels = figure.subplots(2, 2, sharex=True, sharey=True)
        for axes, tissue in zip(panels.flat, Tissue, strict=True):
            rows = values[values["region"] == str(tissue)]
            for n, group in enumerate(groups):
                _draw_group(axes, rows[rows["group"] == group], places, factor, n)
            axes.set_title(as_title(tissue))
        for axes in panels[-1]:
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
    color = ACCENT if row["q"] < SIGNIFICANT else SOFT
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
        label_slices(axes)


def _explain_groups(figure: Figure, groups: Sequence[str]) -> None:
    """Say below the panels which line is which group."""
    marks = []
    for n, group in enumerate(groups):
        color, line, mark = GROUP_STYLES[n % len(GROUP_STYLES)]
        words = plain(group)
        marks.append(Line2D([], [], color=color, ls=line, marker=mark, lw=2, ms=4.5, label=words))
    figure.legend(handles=marks, loc="outside lower center", ncols=4, frameon=False)


def draw_sessions(changes: pd.DataFrame, metric: str) -> str:
    """Draw everybody's sessions side by side: unmixed values of the whole cord with their errors.

    Parameters
    ----------
    changes : rows of the whole cord, of the metric and both sides, with the columns of
        ``scsnet_bids.group.changes``
    metric : ``FA`` or ``MD``

    Returns
    -------
    str, SVG document; one line per person, 95 % intervals for up to ``FEW_PEOPLE``
    """
    factor, label = SHOWN_AS[metric]
    sessions = list(dict.fromkeys([*changes["first_session"], *changes["session"]]))
    with styled(height_inch=5.2) as figure:
        panels = figure.subplots(2, 2, sharex=True, sharey=True)
        for axes, tissue in zip(panels.flat, Tissue, strict=True):
            rows = changes[changes["region"] == str(tissue)]
            people = [own for _, own in rows.groupby("participant_id", sort=False)]
            for n, own in enumerate(people):
                _draw_person(axes, own, sessions, factor, n, len(people))
            axes.set_title(as_title(tissue))
            axes.set_xticks(range(len(sessions)), [plain(name) for name in sessions])
            axes.set_xlim(-0.3, len(sessions) - 0.7)
        for axes in panels[:, 0]:
            axes.set_ylabel(label)
    return figure_to_svg(figure, f"{metric} of the sessions side by side")


def draw_changes(changes: pd.DataFrame, metric: str) -> str:
    """Draw the change of every person with its 95 % interval.

    Parameters
    ----------
    changes : as for :func:`draw_sessions`
    metric : ``FA`` or ``MD``

    Returns
    -------
    str, SVG document; more than ``MOST_NAMED`` people are drawn in order of size, without names
    """
    factor, label = SHOWN_AS[metric]
    sessions = list(dict.fromkeys(changes["session"]))
    people = list(dict.fromkeys(changes["participant_id"]))
    named = len(people) <= MOST_NAMED
    with styled(height_inch=max(5.2, 1.2 + 0.26 * len(people)) if named else 5.2) as figure:
        panels = figure.subplots(2, 2, sharex=True, sharey=True)
        for axes, tissue in zip(panels.flat, Tissue, strict=True):
            rows = changes[(changes["region"] == str(tissue)) & changes["change"].notna()]
            for n, session in enumerate(sessions):
                own = rows[rows["session"] == session].sort_values("change")
                place = own["participant_id"].map(people.index) if named else range(len(own))
                height = np.asarray(place, float) + 0.6 * (n + 0.5) / len(sessions) - 0.3
                _draw_changes_of_session(axes, own, height, factor, n)
            axes.axvline(0, color=INK, lw=0.8)
            axes.set_title(as_title(tissue))
        if named:
            axes.set_yticks(range(len(people)), [plain(name) for name in people], fontsize=7)
            axes.set_ylim(len(people) - 0.4, -0.6)
        else:
            axes.set_yticks([])
        for axes in panels[-1]:
            axes.set_xlabel(f"change of {label}")
        if len(sessions) > 1:
            _explain_groups(figure, sessions)
    return figure_to_svg(figure, f"Changes of {metric}")


def _draw_changes_of_session(
    axes: Axes, rows: pd.DataFrame, height: npt.NDArray[Any], factor: float, number: int
) -> None:
    """Draw the changes up to one session, in its own colour and mark."""
    color, _, mark = GROUP_STYLES[number % len(GROUP_STYLES)]
    few = len(rows) <= MOST_NAMED
    ends = rows[["change_low", "change_high"]].to_numpy(float) * factor
    axes.hlines(height, *ends.T, color=color, lw=1.0 if few else 0.5)
    axes.plot(
        rows["change"] * factor, height, mark, color=color, ms=3.6 if few else 1.6, mec="none"
    )


def _draw_person(
    axes: Axes, rows: pd.DataFrame, sessions: Sequence[str], factor: float, number: int, total: int
) -> None:
    """Draw a person's sessions, joined by a line; a session without a value is a gap."""
    first = rows.iloc[0]
    points = {first["first_session"]: (first["first_value"], first["first_uncertainty"])}
    points |= {s: (v, e) for s, v, e in rows[["session", "value", "uncertainty"]].to_numpy()}
    place = np.array([sessions.index(name) for name in points], float)
    value, error = np.array(list(points.values()), dtype=float).T * factor
    few = total <= FEW_PEOPLE
    color = ACCENT if not few else PERSON_COLORS[number % len(PERSON_COLORS)]
    place += (number - (total - 1) / 2) * 0.3 / total if few else 0.0
    faint = 1.0 if few else max(FAINTEST, min(0.5, 8 / total))
    axes.plot(place, value, "-o", color=color, ms=3.2 if few else 0, lw=1.0, alpha=faint)
    if few:
        axes.vlines(place, value - BAND_DEVIATIONS * error, value + BAND_DEVIATIONS * error, color)
