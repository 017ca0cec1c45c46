"""The pages in a real browser: wide, narrow, by keyboard, on paper, without network."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from browser import CHROMIUM, Browser
from cohorts import write_cohort

from scsnet_bids.group.collect import collect_group
from scsnet_bids.group.page import write_group_page
from scsnet_bids.group.tables import analyse_group, write_group
from scsnet_bids.slice_marks import Mark, read_marks

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here")

AXE = os.environ.get("SCSNET_AXE", "")
"""axe.min.js of axe-core, for the further checks that it knows."""

HEADINGS = """
[...document.querySelectorAll("h1, h2, h3, h4")].filter(h => h.checkVisibility())
  .map(h => Number(h.tagName[1]))
"""
CUT_OFF = """
[...document.querySelectorAll("body *")]
  .filter(e => e.checkVisibility() && !e.closest(".scroll, pre, svg, .skip, .sr"))
  .filter(e => { const box = e.getBoundingClientRect();
                 return box.width && (box.right > innerWidth + 1 || box.left < -1); })
  .map(e => e.outerHTML.slice(0, 120))
"""
FAINT = """
(() => {
  const parse = text => { const n = text.match(/[\\d.]+/g).map(Number);
                          return n.length < 4 ? [...n, 1] : n; };
  const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
  const behind = element => {
    let layers = [];
    for (let e = element; e; e = e.parentElement)
      layers.push(parse(getComputedStyle(e).backgroundColor));
    let color = [255, 255, 255];
    for (const [r, g, b, a] of layers.reverse())
      color = [r, g, b].map((v, n) => v * a + color[n] * (1 - a));
    return color;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.closest("svg, .tag, script, .sr, .excluded")) continue;
    const style = getComputedStyle(element), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const pair = [light(parse(style.color)), light(behind(element))].sort((a, b) => b - a);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (contrast < (large ? 3 : 4.5)) found.push([walker.currentNode.data.trim(), contrast]);
  }
  return found;
})()
"""
NAMELESS = """
[...document.querySelectorAll("a, button, input, summary, img, svg[role=img], section, nav")]
  .filter(e => e.checkVisibility())
  .filter(e => !(e.getAttribute("aria-label") || e.alt || e.labels?.length ||
                 document.getElementById(e.getAttribute("aria-labelledby"))?.textContent.trim() ||
                 (e.matches("a, button, summary, pre") && e.textContent.trim())))
  .map(e => e.outerHTML.slice(0, 120))
"""
FOCUS = """
(() => { const e = document.activeElement, s = getComputedStyle(e);
  return [e.textContent.trim().slice(0, 40), s.outlineStyle, parseFloat(s.outlineWidth)]; })()
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(phantom_run: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A participant's page and that of a group, with everything that a page can hold."""
    folder = tmp_path_factory.mktemp("pages")
    write_cohort(folder, 12, 12, {("C5", "lateral_column"): 0.2}, seed=2, sessions=("pre", "post"))
    analysis = analyse_group(collect_group(folder), "group==control")
    write_group(folder, analysis)
    group = write_group_page(folder, analysis)
    return {"participant": phantom_run["out"] / "sub-01.html", "group": group}


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("name", ["participant", "group"])
def test_a_page_opens_whole_and_silent_at_any_width(browser, pages, name, width):
    browser.open(pages[name], width)
    assert browser.faults() == []
    assert browser.requests() == []
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(CUT_OFF) == []


@pytest.mark.parametrize("name", ["participant", "group"])
def test_a_page_can_be_read_without_seeing_it_well_or_at_all(browser, pages, name):
    browser.open(pages[name])
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true })")
    levels = browser.run(HEADINGS)
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert browser.run(NAMELESS) == []
    assert browser.run(FAINT) == []
    count = "n => document.querySelectorAll(`body > ${n}, header > ${n}`).length"
    landmarks = browser.run(f"['header', 'nav', 'main', 'footer'].map({count})")
    assert landmarks == [1, 1, 1, 1]


@pytest.mark.parametrize("name", ["participant", "group"])
def test_the_keyboard_reaches_what_the_mouse_does_and_shows_where_it_is(browser, pages, name):
    browser.open(pages[name])
    stops = []
    for _ in range(8):
        browser.press("Tab")
        stops.append(browser.run(FOCUS))
    words = [stop[0] for stop in stops]
    assert words[:2] == ["Skip to the content", "Summary"]
    assert all(style != "none" and width >= 2 for _, style, width in stops)


def test_marks_are_made_kept_and_saved_as_a_table_that_the_app_reads(browser, pages, tmp_path):
    browser.save_downloads(tmp_path)
    browser.open(pages["participant"])
    browser.run("document.querySelector('[data-slice=\"2\"] input[value=fail]').focus()")
    browser.press(" ")
    browser.run("document.querySelector('[data-slice=\"0\"] input[value=pass]').click()")
    browser.run("""
        const field = document.querySelector('[data-slice="2"] input[type=text]');
        field.value = "folded\\tover ";
        field.dispatchEvent(new Event("input", { bubbles: true }));
    """)
    assert browser.run("document.querySelector('.marked').textContent") == (
        "2 of 4 slices marked, 1 fail"
    )
    browser.open(pages["participant"])  # the marks are still there
    browser.run("document.querySelector('.save-marks').click()")
    saved = wait_for(tmp_path / "sub-01_marks.tsv")
    table = pd.read_csv(saved, sep="\t")
    assert table.columns.tolist() == ["run", "slice", "mark", "comment"]
    assert table.fillna("n/a").to_numpy().tolist() == [
        ["sub-01", 0, "pass", "n/a"],
        ["sub-01", 2, "fail", "folded over"],
    ]
    assert read_marks([str(saved)]) == {"sub-01": {2: Mark(saved, "folded over")}}


def test_a_table_is_sorted_by_keyboard_and_saved_as_it_stands(browser, pages, tmp_path):
    browser.save_downloads(tmp_path)
    browser.open(pages["group"])
    browser.run("""
        table = [...document.querySelectorAll("#outliers table, #comparison table.data")]
          .find(t => t.tBodies[0].rows.length > 1);
        titles = [...table.querySelectorAll("th")].map(t => t.textContent.trim());
        column = titles.findIndex(t => ["value", "difference"].includes(t));
        table.closest("details").open = true;
        table.querySelectorAll("th button")[column].focus();
    """)
    for direction in ("ascending", "descending"):
        browser.press("Enter")
        assert browser.run("table.querySelector('[aria-sort]').getAttribute('aria-sort')") == (
            direction
        )
        values = browser.run("[...table.tBodies[0].rows].map(r => +r.cells[column].textContent)")
        assert len(values) > 1
        assert values == sorted(values, reverse=direction == "descending")
    name = browser.run("""
        save = table.closest("details").querySelector(".save-table"); save.click();
        save.dataset.file
    """)
    saved = pd.read_csv(wait_for(tmp_path / name), sep="\t")
    assert saved[browser.run("titles[column]")].tolist() == pytest.approx(values)


def test_the_flicker_works_without_scripts(browser, pages):
    browser.open(pages["participant"])
    browser.run("document.querySelector('.view-2').click()")
    running = "document.querySelector('.pairs .after').getAnimations().map(a => a.animationName)"
    assert browser.run(running) == ["flicker"]
    browser.run("document.querySelector('.view-3').click()")
    assert browser.run("document.querySelector('.pairs .after').checkVisibility()") is False


@pytest.mark.parametrize("name", ["participant", "group"])
def test_on_paper_nothing_is_wider_than_the_sheet(browser, pages, name, tmp_path):
    browser.open(pages[name])
    browser.imitate_paper()
    assert browser.run("document.documentElement.scrollWidth") <= browser.run("innerWidth")
    wide = "[...document.querySelectorAll('table')].filter(t => t.checkVisibility() && "
    wide += "t.getBoundingClientRect().right > innerWidth + 1).length"
    assert browser.run(wide) == 0
    assert browser.paper(tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    browser.imitate_paper(False)


@pytest.mark.skipif(not AXE, reason="SCSNET_AXE does not name axe.min.js")
@pytest.mark.parametrize("name", ["participant", "group"])
def test_axe_finds_nothing_serious(browser, pages, name):
    browser.open(pages[name])
    browser.run(Path(AXE).read_text(encoding="utf-8") + ";1")
    found = json.loads(browser.run("axe.run().then(r => JSON.stringify(r.violations))"))
    assert [(v["impact"], v["id"]) for v in found if v["impact"] in ("serious", "critical")] == []


def wait_for(path: Path) -> Path:
    """Wait until the browser has saved a file."""
    for _ in range(200):
        if path.exists() and path.stat().st_size:
            return path
        time.sleep(0.05)
    raise AssertionError(f"{path} was not saved")
