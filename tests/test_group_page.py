"""The page of the group says what its tables say, leads to people, and needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cohorts import draw_person, flat_template, write_cohort, write_person
from lxml import html

from scsnet_bids.group.collect import collect_group
from scsnet_bids.group.page import write_group_page
from scsnet_bids.group.tables import analyse_group, write_group
from scsnet_bids.report.outcomes import Outcome, record_outcomes

HOSTILE = "sub-<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def out_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort with an outlier, a failure, names with markup, and some participants' pages."""
    folder = tmp_path_factory.mktemp("group")
    write_cohort(folder, 12, 12, {("C5", "lateral_column"): 0.2}, seed=2, sessions=("a", "b"))
    rng = np.random.default_rng(0)
    write_person(folder, HOSTILE, draw_person(flat_template(), rng, factor=0.5), flag="no_contrast")
    failed = Outcome("sub-099", "left out", "<b>no</b> b-vectors")
    record_outcomes(folder, {"sub-099": failed})
    (folder / "sub-003.html").write_text("a page")
    analysis = analyse_group(collect_group(folder), "group==control")
    write_group(folder, analysis)
    write_group_page(folder, analysis)
    return folder


@pytest.fixture(scope="module")
def page(out_dir: Path) -> Any:
    return html.fromstring((out_dir / "group.html").read_text(encoding="utf-8"))


def words_of(element: Any) -> str:
    return " ".join(element.text_content().split())


def table_of(page: Any, section: str, n: int = 0) -> pd.DataFrame:
    element = page.xpath(f'//section[@id="{section}"]//table[@class="data"]')[n]
    rows = [[cell.text_content() for cell in row] for row in element.iter("tr")]
    return pd.DataFrame(rows[1:], columns=rows[0])


def file_of(out_dir: Path, name: str) -> pd.DataFrame:
    path = out_dir / f"group_{name}.tsv"
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def test_the_numbers_of_the_page_are_those_of_the_tables(page, out_dir):
    differences = file_of(out_dir, "differences")
    significant = differences[differences["q"].astype(float) < 0.05]
    shown = table_of(page, "comparison")
    assert set(shown["p"]) == set(significant["p"])
    assert set(shown["difference_low"]) == set(significant["difference_low"])
    pd.testing.assert_frame_equal(table_of(page, "outliers"), file_of(out_dir, "outliers"))
    pd.testing.assert_frame_equal(table_of(page, "missing"), file_of(out_dir, "missing"))
    quality = file_of(out_dir, "qc")
    runs = table_of(page, "runs")
    assert runs["snr_b0"].tolist() == quality["snr_b0"].tolist()
    assert runs["run_id"].tolist() == quality["run_id"].tolist()
    scores = file_of(out_dir, "zscores")
    cell = {"scope": "cord", "region": "gray_matter", "side": "left", "metric": "FA"}
    z = scores[(scores[list(cell)] == pd.Series(cell)).all(axis=1)]
    assert table_of(page, "comparison", 1)["z of FA, left gray matter"].tolist() == z["z"].tolist()
    changes = file_of(out_dir, "changes")
    assert set(table_of(page, "changes")["change"]) <= set(changes["change"])


def test_who_failed_and_why_is_told_and_left_out_of_comparisons(page, out_dir):
    summary = words_of(page.xpath('//section[@id="summary"]')[0])
    assert "Missing or failed1" in summary
    assert "fail 1" in summary
    assert "Left out of comparisons (verdict fail, or no quality table)1" in summary
    assert "left out: <b>no</b> b-vectors" in words_of(page.xpath('//section[@id="missing"]')[0])
    scores = file_of(out_dir, "zscores")
    assert HOSTILE not in set(scores["participant_id"])
    runs = table_of(page, "runs").set_index("participant_id")
    assert runs.loc[HOSTILE, "verdict"] == "fail"
    assert "FA of white matter" in runs.loc[HOSTILE, "reasons"]


def test_participants_lead_to_their_pages(page):
    links = page.xpath('//section[@id="runs"]//td/a')
    assert {(a.text, a.get("href")) for a in links} == {("sub-003", "sub-003.html")}


def test_an_outlier_is_named(page):
    outliers = table_of(page, "outliers")
    assert HOSTILE in set(outliers["participant_id"])


def test_the_page_needs_nothing_from_elsewhere(page):
    assert not page.xpath("//link|//iframe|//object|//script[@src]")
    for element in page.xpath("//*[@src or @href]"):
        target = element.get("src") or element.get("href")
        assert target.startswith(("data:", "#", "group_", "sub-"))
    (policy,) = page.xpath('//meta[@http-equiv="Content-Security-Policy"]/@content')
    assert "default-src 'none'" in policy


def test_a_reader_without_eyes_or_mouse_finds_the_way(page):
    ids = page.xpath("//@id")
    assert len(ids) == len(set(ids))
    assert all(image.get("alt") for image in page.iter("img"))
    assert all(head.get("scope") for head in page.iter("th"))
    references = [r.removeprefix("#") for r in page.xpath("//a[starts-with(@href, '#')]/@href")]
    assert set(references + page.xpath("//@aria-labelledby")) <= set(ids)


def test_markup_in_names_stays_text(page, out_dir):
    assert not page.xpath("//*[@onerror]|//img[@src='x']|//td//b")
    assert "<img src=x" not in (out_dir / "group.html").read_text()
    assert len(page.xpath("//script")) == 1


def test_without_controls_levels_and_people_the_page_says_so(tmp_path):
    rng = np.random.default_rng(0)
    for n in range(3):
        table = draw_person(flat_template(), rng)
        table = table[table["scope"] == "cord"]
        slices = [table.assign(scope="slice", slice=k) for k in range(3)]
        write_person(tmp_path, f"sub-{n}", pd.concat([table, *slices]))
    analysis = analyse_group(collect_group(tmp_path))
    page = html.fromstring(write_group_page(tmp_path, analysis).read_text())
    words = words_of(page)
    assert "No controls were named, so there are neither z-scores" in words
    assert "Vertebral levelsnot known" in words
    assert "the same slice lies elsewhere in another person" in words
    assert not page.xpath('//section[@id="comparison"]|//section[@id="changes"]')


def test_five_hundred_people_make_a_page_of_a_few_megabytes(tmp_path):
    write_cohort(tmp_path, 250, 250, {}, seed=3)
    analysis = analyse_group(collect_group(tmp_path), "group==control")
    path = write_group_page(tmp_path, analysis)
    assert path.stat().st_size < 5e6
    page = html.fromstring(path.read_text())
    runs = table_of(page, "runs")
    assert (len(runs), set(runs["verdict"])) == (500, {"pass"})
    assert not page.xpath('//section[@id="runs"]//details/@open')
