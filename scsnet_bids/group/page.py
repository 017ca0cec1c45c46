"""The page of the group: one HTML file that needs nothing else, readable for 500 people."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from scsnet_bids.derivatives import as_words
from scsnet_bids.figures import SHOWN_AS
from scsnet_bids.figures.group import (
    SIGNIFICANT,
    draw_changes,
    draw_forest,
    draw_profiles,
    draw_sessions,
)
from scsnet_bids.files import write_text
from scsnet_bids.group.norms import FEWEST_FREEDOM
from scsnet_bids.group.people import PUBLISHED, add_people
from scsnet_bids.group.tables import GroupAnalysis
from scsnet_bids.group.text import CITATION, describe_analysis
from scsnet_bids.group.values import PERSON
from scsnet_bids.methods_text import write_citation
from scsnet_bids.regions import REGIONS, Tissue
from scsnet_bids.report.page import render_template
from scsnet_bids.report.wording import name_figure
from scsnet_bids.vertebrae import level_rank

FILE = "group.html"
OPEN_ROWS = 40
"""Longer tables are folded."""
MOST_ROWS = 2000
"""Longer tables are shown in part; the file has all rows."""
EVERYBODY = "all"
CAPTION = "Unmixed values, both sides together. A thin line is a run, thick ones are medians."
NO_LEVELS = " Levels are not known: the same slice lies elsewhere in another person."
SHOWN_DIFFERENCE = (
    *("n_group", "n_controls", "difference", "difference_low", "difference_high"),
    *("p", "q", "hedges_g"),
)
RUN_FIGURES = ("snr_b0", "displacement_max_mm", "cord_area_mm2", "fa_white_matter")


def write_group_page(out_dir: Path, analysis: GroupAnalysis) -> Path:
    """Write the page of the group, and the text to cite.

    Parameters
    ----------
    out_dir : output folder
    analysis : what the group level found

    Returns
    -------
    Path of the page

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    methods = describe_analysis(analysis)
    write_citation(out_dir / "logs", methods, CITATION)
    runs = _list_runs(analysis)
    tables = analysis.tables
    text = render_template(
        "group.html.j2",
        counts=_count(analysis, runs),
        verdicts=Counter(runs["verdict"]),
        runs=_table("Runs", "group_qc.tsv", runs, out_dir),
        gaps=_table("Missing or failed", "group_missing.tsv", tables.gaps, out_dir),
        outliers=_table("Outliers", "group_outliers.tsv", _named(analysis.outliers), out_dir),
        profiles=list(_profiles(analysis)),
        comparison=_comparison(analysis, out_dir),
        changes=_changes(analysis, out_dir),
        excluded=_table("Excluded slices", "group_excluded.tsv", tables.excluded, out_dir),
        methods=methods,
        files=sorted(path.name for path in out_dir.glob("group_*.tsv")),
    )
    return write_text(out_dir / FILE, text)


def _list_runs(analysis: GroupAnalysis) -> pd.DataFrame:
    """Make one row per run: whose it is, its verdict with the reasons, and some figures."""
    quality = analysis.tables.quality
    figures = quality[["run", *(name for name in RUN_FIGURES if name in quality)]]
    listed = analysis.verdicts.merge(figures, on="run", how="left")
    return add_people(listed, analysis.tables.people, len(analysis.verdicts.columns))


def _named(outliers: pd.DataFrame) -> pd.DataFrame:
    """Name the measures of a table of outliers as a reader would."""
    return outliers.assign(measure=outliers["measure"].map(name_figure))


def _count(analysis: GroupAnalysis, runs: pd.DataFrame) -> list[tuple[str, str]]:
    """List name and number of what the page is about."""
    tables = analysis.tables
    counts = [
        ("Participants with values", str(tables.scalarstats["participant_id"].nunique())),
        ("Runs", str(len(runs))),
        ("Missing or failed", str(len(tables.gaps))),
        (
            "Left out of comparisons (verdict fail, or no quality table)",
            str(len(analysis.unusable)),
        ),
        ("Slices excluded by readers", str(len(tables.excluded))),
        *(("Not processed alike", line) for line in tables.differences),
        ("Vertebral levels", ", ".join(_levels(analysis.values)) or "not known"),
    ]
    if analysis.controls and analysis.covariates:
        groups = analysis.controls.groups.items()
        words = [f"{name} {len(members & analysis.measured)}" for name, members in groups]
        counts.append((f"Groups ({analysis.controls.expression})", ", ".join(words)))
        counts.append(("Covariates", " and ".join(analysis.covariates.names) or "none"))
    if analysis.differences is not None and len(analysis.differences):
        rows = analysis.differences.sort_values("q")
        clear, first = int((rows["q"] < SIGNIFICANT).sum()), rows.iloc[0]
        place = " ".join(map(str, first[["group", "level", "side", "region", "metric"]]))
        where = f"; the clearest: {place.replace('_', ' ')}" if clear else ""
        counts.append(
            (f"Differences with q below {SIGNIFICANT:g}", f"{clear} of {len(rows)}{where}")
        )
    return counts


def _levels(values: pd.DataFrame) -> list[str]:
    """List the levels that anybody has, from head to foot."""
    return sorted(set(values["level"]) - {""}, key=level_rank)


def _profiles(analysis: GroupAnalysis) -> Iterator[dict[str, str]]:
    """Yield the profiles of all people along levels, or along slices where nobody has levels."""
    along = "level" if _levels(analysis.values) else "slice"
    rows = analysis.tables.scalarstats
    rows = rows[(rows["scope"] == along) & (rows["side"] == "both") & rows["unmixed"].notna()]
    rows = rows[rows["region"].isin([str(t) for t in Tissue])]
    rows = rows[~rows["run"].isin(list(analysis.unusable))]
    rows = rows.assign(
        person=rows["run"],
        group=rows["participant_id"].map(_group_of(analysis)).fillna("no group"),
        place=rows[along],
        value=rows["unmixed"],
    )
    for metric in SHOWN_AS:
        own = rows[rows["metric"] == metric]
        if len(own):
            caption = CAPTION + ("" if along == "level" else NO_LEVELS)
            picture = draw_profiles(own, metric, along)
            yield {"title": f"{metric} along the {along}s", "caption": caption} | _embed(picture)


def _group_of(analysis: GroupAnalysis) -> dict[str, str]:
    """Name everybody's group; all are one without controls."""
    if analysis.controls is None:
        return dict.fromkeys(analysis.tables.scalarstats["participant_id"], EVERYBODY)
    groups = analysis.controls.groups.items()
    return {person: name for name, members in groups for person in members}


def _comparison(analysis: GroupAnalysis, out_dir: Path) -> dict[str, Any] | None:
    """Collect what the comparison with the controls found; None without controls."""
    if analysis.differences is None or analysis.scores is None or analysis.controls is None:
        return None
    rows = analysis.differences
    significant = rows[rows["q"] < SIGNIFICANT].sort_values("p")
    columns = ["group", "level", "region", "side", "metric", *SHOWN_DIFFERENCE]
    forests = [
        {
            "title": f"{metric}: {group} against controls",
            **_embed(draw_forest(own, f"{metric}: {group} against controls")),
        }
        for group in dict.fromkeys(rows["group"])
        for metric in SHOWN_AS
        if len(own := rows[(rows["group"] == group) & (rows["metric"] == metric)])
    ]
    few = [name for name in analysis.controls.others if name not in set(rows["group"])]
    return {
        "forests": forests,
        "n_tests": len(rows),
        "too_few": few,
        "covariates": " and ".join(analysis.covariates.names) if analysis.covariates else "",
        "lowest": _lowest_of_controls(analysis),
        "fewest": FEWEST_FREEDOM,
        "significant": _table(
            f"Differences with q below {SIGNIFICANT:g}",
            "group_differences.tsv",
            significant[columns],
            out_dir,
        ),
        "scores": _table(
            "Everybody against the controls",
            "group_zscores.tsv",
            _summarise(analysis, analysis.scores),
            out_dir,
        ),
    }


def _lowest_of_controls(analysis: GroupAnalysis) -> str | None:
    """Say below what the lowest z of FA at any level lies in half of the controls."""
    if analysis.scores is None or analysis.controls is None:
        return None
    rows = _sided_fa(analysis.scores)
    rows = rows[(rows["scope"] == "level") & rows["participant_id"].isin(analysis.controls.members)]
    return f"{rows.groupby(PERSON)['z'].min().median():.1f}" if len(rows) else None


def _sided_fa(scores: pd.DataFrame) -> pd.DataFrame:
    """Take the z-scores of FA in the eight regions."""
    fa = scores[scores["metric"] == "FA"]
    return fa[fa["side"].isin(["left", "right"]) & fa["z"].notna()]


def _summarise(analysis: GroupAnalysis, scores: pd.DataFrame) -> pd.DataFrame:
    """Make a row per person and session: z of FA in the eight regions, and the lowest z."""
    fa = _sided_fa(scores)
    cord = fa[(fa["scope"] == "cord")].assign(name=fa["side"] + "_" + fa["region"])
    wide = cord.pivot(index=PERSON, columns="name", values="z")
    wide = wide.reindex(columns=[r.name for r in REGIONS])
    wide.columns = pd.Index([f"z of FA, {c.replace('_', ' ')}" for c in wide.columns])
    level = fa[fa["scope"] == "level"]
    if len(level):
        lowest = level.loc[level.groupby(PERSON)["z"].idxmin()].set_index(PERSON)
        words = lowest["level"] + " " + lowest["side"] + " " + lowest["region"]
        wide = wide.join(lowest["z"].rename("lowest z at a level"))
        wide = wide.join(lowest["z_uncertainty"].rename("its uncertainty"))
        wide = wide.join(lowest["percentile"].rename("its percentile"))
        wide = wide.join(words.str.replace("_", " ").rename("where"))
    wide = wide.reset_index()
    wide.insert(2, "group", wide["participant_id"].map(_group_of(analysis)))
    wide["session"] = wide["session"].replace("", None)
    return wide


def _changes(analysis: GroupAnalysis, out_dir: Path) -> dict[str, Any] | None:
    """Show how the whole cord's values changed between sessions; None if nobody has several."""
    rows = analysis.changes
    if rows.empty:
        return None
    cord = rows[(rows["scope"] == "cord") & (rows["side"] == "both")]
    told = rows[rows["change_low"].notna()]
    drawn = [
        {"title": title, **_embed(draw(own, metric))}
        for metric in SHOWN_AS
        if len(own := cord[cord["metric"] == metric])
        for title, draw in (
            (f"{metric}: sessions side by side", draw_sessions),
            (f"{metric}: later minus first session", draw_changes),
        )
    ]
    columns = [c for c in cord.columns if c not in ("scope", "level", "side")]
    return {
        "table": _table("Changes of the whole cord", "group_changes.tsv", cord[columns], out_dir),
        "plots": drawn,
        "n_people": rows["participant_id"].nunique(),
        "n_told": len(told),
        "n_clear": int(((told["change_low"] > 0) | (told["change_high"] < 0)).sum()),
        "order": list(dict.fromkeys([*rows["first_session"], *rows["session"]])),
    }


def _table(title: str, file: str, rows: pd.DataFrame, out_dir: Path) -> dict[str, Any]:
    """Describe a table: the words of its cells, and the pages that participants lead to."""
    words = as_words(rows.head(MOST_ROWS)).fillna("n/a").astype(str).rename(columns=PUBLISHED)
    people = set(rows["participant_id"]) if "participant_id" in rows else set()
    return {
        "title": title,
        "file": file,
        "columns": [str(column) for column in words.columns],
        "rows": words.to_numpy().tolist(),
        "n_rows": len(rows),
        "open": len(rows) <= OPEN_ROWS,
        "links": {p: f"{p}.html" for p in people if (out_dir / f"{p}.html").is_file()},
    }


def _embed(svg: str) -> dict[str, str]:
    """Make a picture part of the page."""
    data = base64.b64encode(svg.encode()).decode()
    return {"source": f"data:image/svg+xml;base64,{data}"}
