"""The page of a participant says what the tables say, needs nothing else, and hides no failure."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lxml import html

from scsnet_bids import cord_shape, quality
from scsnet_bids.cli import main
from scsnet_bids.derivatives import read_table
from scsnet_bids.errors import BusyError, GradientError, InputDataError, ScsnetError, SkippedSeries
from scsnet_bids.jobs import Job, read_job, write_job
from scsnet_bids.report import wording
from scsnet_bids.report.content import describe_compression
from scsnet_bids.report.outcomes import (
    Outcome,
    crash_text,
    participant_of,
    read_outcomes,
    record_outcomes,
)
from scsnet_bids.report.page import report_participants, write_methods_of_all, write_page
from scsnet_bids.report.processed import begin, conclude, find_done
from scsnet_bids.report.record import TABLES, RunRecord, find_records
from scsnet_bids.report.verdict import RULES, Verdict, judge_run, overall_verdict
from scsnet_bids.report.wording import FIGURES
from scsnet_bids.setting_values import change_settings
from scsnet_bids.settings import Settings
from scsnet_bids.unmixing import noise
from scsnet_bids.unmixing.table import NOISE_COLUMNS

JOB = Job(Settings(), {"version": "1.2.3", "sha256": "0123456789abcdef"})
HOSTILE = "sub-<img src=x onerror=alert(1)>"


@pytest.fixture
def out_dir(phantom_run: dict[str, Any], tmp_path: Path) -> Path:
    """Copy the output, so that a test may damage it."""
    return Path(shutil.copytree(phantom_run["out"], tmp_path / "out"))


def page_of(out_dir: Path, participant: str = "sub-01") -> Any:
    return html.fromstring((out_dir / f"{participant}.html").read_text(encoding="utf-8"))


def words_of(element: Any) -> str:
    return " ".join(element.text_content().split())


def table_of(out_dir: Path, name: str) -> pd.DataFrame:
    path = RunRecord(out_dir, "sub-01").table_path(name)
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def test_every_table_of_the_page_is_its_file(phantom_run):
    page = page_of(phantom_run["out"])
    for name in TABLES:
        file = table_of(phantom_run["out"], name)
        path = RunRecord(phantom_run["out"], "sub-01").table_path(name)
        (table,) = page.xpath(f'//table[@data-table="{path.name}"]')
        rows = [[cell.text_content() for cell in row] for row in table.iter("tr")]
        assert rows == [list(file.columns), *file.to_numpy().tolist()]


def test_the_values_of_the_whole_cord_are_those_of_the_region_table(phantom_run):
    regions = table_of(phantom_run["out"], "regions")
    regions = regions[regions["scope"] == "cord"].set_index(["region", "metric", "side"])
    rows = page_of(phantom_run["out"]).xpath('//table[@class="values"]/tbody/tr')
    assert len(rows) == 6
    for row in rows:
        region = words_of(row.find("th")).replace(" ", "_")
        cells = iter(row.findall("td"))
        for metric, factor in (("FA", 1), ("MD", 1000)):
            for side in ("left", "right", "both"):
                own = regions.loc[(region, metric, side)]
                expected = [own["unmixed"], own["unmixed_uncertainty"], own["mean"]]
                numbers = next(cells).xpath(".//data")
                exact = [number.get("value") for number in numbers]
                assert exact == [e for e in expected if own["unmixed"] != "n/a"] or [own["mean"]]
                for number in numbers:
                    shown, value = number.text_content(), number.get("value")
                    assert shown == ("n/a" if value == "n/a" else f"{float(value) * factor:.3f}")


def test_the_facts_are_those_of_the_quality_table(phantom_run):
    row = table_of(phantom_run["out"], "quality").iloc[0]
    page = page_of(phantom_run["out"])
    facts = {words_of(d.find("dt")): d.find("dd") for d in page.xpath('//dl[@class="facts"]/div')}
    exact = {name: [n.get("value") for n in dd.iter("data")] for name, dd in facts.items()}
    assert exact["Signal-to-noise ratio (b=0, one volume)"] == [row["snr_b0"]]
    assert exact["Displacement, largest"] == [row["displacement_max_mm"]]
    assert exact["Direction of white matter to the cord's axis"] == [row["direction_angle_rad"]]
    assert words_of(facts["Slices with a cord"]) == (
        f"{row['n_slices_with_cord']} of {row['n_slices']}"
    )
    assert "volumes of b=" in words_of(facts["Gradients"])


def test_levels_reach_every_table(phantom_run):
    regions, shape = (table_of(phantom_run["out"], name) for name in ("regions", "shape"))
    assert shape["level"].tolist() == ["C6", "C6", "C5", "n/a"]
    of_levels = regions[regions["scope"] == "level"]
    assert of_levels["level"].unique().tolist() == ["C6", "C5"]
    cell = {"region": "white_matter", "side": "both", "metric": "FA"}
    rows = of_levels[(of_levels[list(cell)] == pd.Series(cell)).all(axis=1)]
    assert (rows["unmixed"] != "n/a").all()
    quality = table_of(phantom_run["out"], "quality").iloc[0]
    assert quality["compressed_level"] == shape["level"][int(quality["compressed_slice"])]
    assert f"flattest in slice {quality['compressed_slice']}" in words_of(
        page_of(phantom_run["out"])
    )


def test_every_slice_is_shown_and_can_be_marked(phantom_run):
    n_slices = len(table_of(phantom_run["out"], "shape"))
    cards = page_of(phantom_run["out"]).xpath('//figure[contains(@class, "card")]')
    assert [words_of(card.xpath('.//*[@class="number"]')[0]).split()[1] for card in cards] == [
        str(k) for k in range(n_slices - 1, -1, -1)
    ]
    for card in cards:
        assert len(card.xpath('.//*[@class="tile"]')) == 3
        assert [i.get("value") for i in card.xpath('.//input[@type="radio"]')] == ["pass", "fail"]


def test_the_page_asks_for_nothing_from_elsewhere(phantom_run):
    page = page_of(phantom_run["out"])
    assert not page.xpath("//link|//iframe|//object|//script[@src]")
    for element in page.xpath("//*[@src or @href]"):
        target = element.get("src") or element.get("href")
        assert target.startswith(("data:", "#", "sub-01/dwi/"))
        if target.startswith("sub-01/"):
            assert (phantom_run["out"] / target).is_file()
    (policy,) = page.xpath('//meta[@http-equiv="Content-Security-Policy"]/@content')
    assert "default-src 'none'" in policy


def test_a_reader_without_eyes_or_mouse_finds_the_way(phantom_run):
    page = page_of(phantom_run["out"])
    ids = page.xpath("//@id")
    assert len(ids) == len(set(ids))
    assert page.get("lang") == "en"
    assert all(image.get("alt") for image in page.iter("img"))
    assert all(head.get("scope") for head in page.iter("th"))
    assert all(tile.get("aria-label") for tile in page.xpath('//*[@class="tile"]'))
    references = [r.removeprefix("#") for r in page.xpath("//a[starts-with(@href, '#')]/@href")]
    named = page.xpath("//@aria-labelledby") + page.xpath("//label/@for")
    assert set(references + named) <= set(ids)
    for choice in page.xpath('//input[@type="radio" or @type="checkbox"]'):
        own = page.xpath(f'//label[@for="{choice.get("id")}"]') if choice.get("id") else []
        assert own or choice.getparent().tag == "label"


def test_a_series_that_was_left_out_is_told_with_its_reason(phantom_run):
    assert phantom_run["code"] == 65
    page = page_of(phantom_run["out"])
    problem = words_of(page.xpath('//section[@id="problems"]')[0])
    assert "sub-01_acq-bare: left out" in problem
    assert "bvec" in problem
    assert "2 diffusion series found: 1 done, 1 left out." in words_of(page)
    assert page.xpath('//*[@class="verdict"]/span[@class="badge fail"]')


def test_pictures_that_cannot_be_saved_do_not_take_the_tables_along(phantom_run, tmp_path):
    (tmp_path / "out" / "sub-01").mkdir(parents=True)
    (tmp_path / "out" / "sub-01" / "figures").write_text("in the way")
    shutil.copy(phantom_run["out"] / "dataset_description.json", tmp_path / "out")
    data, _, *others = phantom_run["arguments"]
    assert main([data, str(tmp_path / "out"), *others]) == 1
    (record,) = find_records(tmp_path / "out", "sub-01")
    assert record.is_complete
    page = page_of(tmp_path / "out")
    words = words_of(page)
    assert f"no picture: {', '.join(wording.PICTURES.values())}" in words
    assert "2 diffusion series found: 1 failed, 1 left out." in words
    assert "Traceback" in words_of(page.xpath('//section[@id="problems"]//pre')[0])


def test_every_picture_lies_beside_the_tables(phantom_run):
    folder = phantom_run["out"] / "sub-01" / "figures"
    expected = {f"sub-01_desc-{name}_dwi.svg" for name in wording.PICTURES}
    assert {path.name for path in folder.iterdir()} == expected


def test_the_methods_are_on_the_page_and_in_the_logs(phantom_run):
    words = words_of(page_of(phantom_run["out"]).xpath('//section[@id="methods"]')[0])
    citation = (phantom_run["out"] / "logs/CITATION.md").read_text(encoding="utf-8")
    assert "was segmented by SCS-Net" in words
    assert "was segmented by SCS-Net" in citation
    assert "Bioengineering 2025;12(7):709" in words
    assert (phantom_run["out"] / "logs/CITATION.bib").read_text().startswith("@software{scsnetbids")


def test_the_page_is_the_same_when_it_is_made_again(phantom_run, out_dir):
    """It says what its runs were processed with, not what is asked for today."""
    first = (out_dir / "sub-01.html").read_text()
    assert write_page(out_dir, "sub-01", JOB).read_text() == first
    assert "weights of version 1.2.3" not in first


def test_what_is_asked_for_today_stands_for_runs_that_say_nothing(phantom_run, out_dir):
    for path in (out_dir / "logs").glob("scsnet-bids_*.json"):
        path.unlink()
    other = write_page(out_dir, "sub-01", JOB).read_text()
    assert "weights of version 1.2.3" in other


def test_a_job_that_was_interrupted_leaves_no_run_that_looks_done(phantom_run, out_dir):
    later = replace(JOB, name="later")
    write_job(out_dir / "logs", later, "later")
    begin(out_dir, ["sub-01"], later)
    assert find_done(out_dir, "sub-01") == []
    assert read_outcomes(out_dir, "sub-01")["sub-01"].status == "unfinished"
    page = html.fromstring(write_page(out_dir, "sub-01", later).read_text())
    assert "1 unfinished" in words_of(page)
    conclude(out_dir, {"sub-01": None}, later)
    assert len(find_done(out_dir, "sub-01")) == 1
    assert read_outcomes(out_dir, "sub-01")["sub-01"].job == "later"


def test_a_job_that_is_repeated_keeps_its_first_name_unless_it_fails(phantom_run, out_dir):
    first = read_outcomes(out_dir, "sub-01")["sub-01"].job
    again = replace(read_job(out_dir / "logs", first), name="again")
    write_job(out_dir / "logs", again, "again")
    begin(out_dir, ["sub-01"], again)
    conclude(out_dir, {"sub-01": None}, again)
    assert read_outcomes(out_dir, "sub-01")["sub-01"].job == first
    conclude(out_dir, {"sub-01": ScsnetError("no space")}, again)
    assert read_outcomes(out_dir, "sub-01")["sub-01"] == Outcome(
        "sub-01", "failed", "no space", "again", is_old=True
    )


@pytest.mark.parametrize("weights", [None, {}, {"sha256": 1}, {"sha256": "a", "dwi": {}}])
def test_a_record_of_a_job_that_says_something_else_is_no_record(tmp_path, weights):
    write_job(tmp_path, replace(JOB, weights=weights), "scsnet-bids")
    assert read_job(tmp_path, JOB.name) is None


def test_a_record_without_the_second_weights_that_its_settings_need_is_no_record(tmp_path):
    both = change_settings(JOB.settings, {("segmentation", "input"): "b0+dwi"})
    write_job(tmp_path, replace(JOB, settings=both), "scsnet-bids")
    assert read_job(tmp_path, JOB.name) is None


def test_the_text_of_all_is_written_if_all_is_known(phantom_run, out_dir):
    place = out_dir / "logs/CITATION.md"
    before = place.read_text()
    place.write_text("of another call")
    assert write_methods_of_all(out_dir)
    assert place.read_text() == before


@pytest.mark.parametrize("unknown", ["logs/scsnet-bids_*.json", "sub-01/dwi/*_label-SC_mask.*"])
def test_the_text_of_all_stays_where_something_is_not_known(phantom_run, out_dir, unknown):
    for path in out_dir.glob(unknown):
        path.write_bytes(b"damaged")
    before = (out_dir / "logs/CITATION.md").read_text()
    assert not write_methods_of_all(out_dir)
    assert (out_dir / "logs/CITATION.md").read_text() == before


@pytest.mark.parametrize("content", [b"volume\xff\n", b"a\n1\n", b""])
def test_a_damaged_table_leaves_the_text_of_all(phantom_run, out_dir, content, caplog):
    RunRecord(out_dir, "sub-01").table_path("confounds").write_bytes(content)
    before = (out_dir / "logs/CITATION.md").read_text()
    assert not write_methods_of_all(out_dir)
    assert (out_dir / "logs/CITATION.md").read_text() == before
    assert "A table cannot be used for the methods text" in caplog.text


def test_results_of_a_run_that_cannot_be_used_any_more_are_not_shown(phantom_run, out_dir):
    write_job(out_dir / "logs", JOB, "later")
    report_participants(out_dir, {"sub-01": InputDataError("It is truncated.")}, JOB)
    page = html.fromstring((out_dir / "sub-01.html").read_text())
    assert not page.xpath("//article")
    assert "Results of an earlier job" in words_of(page)
    assert find_done(out_dir, "sub-01") == []
    assert find_records(out_dir, "sub-01")


def test_markup_in_names_and_messages_stays_text(out_dir):
    for path in sorted((out_dir / "sub-01").rglob("*"), reverse=True):
        if path.is_file() and "acq" not in path.name:
            target = Path(str(path.parent).replace("sub-01", HOSTILE))
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / path.name.replace("sub-01", HOSTILE))
    crash = out_dir / "logs" / "crash-1.txt"
    crash.write_text("<script>alert(2)</script>")
    reason = "<b>bold</b> (crash file: /out/logs/crash-1.txt)"
    record_outcomes(out_dir, {f"{HOSTILE}_run-2": Outcome(f"{HOSTILE}_run-2", "failed", reason)})
    write_page(out_dir, HOSTILE, JOB)
    text = (out_dir / f"{HOSTILE}.html").read_text(encoding="utf-8")
    page = html.fromstring(text)
    assert words_of(page.find(".//h1")) == HOSTILE
    assert page.xpath("//article/@data-run") == [HOSTILE]
    assert not page.xpath("//*[@onerror]|//img[@src='x']|//p//b")
    assert len(page.xpath("//script")) == 1
    assert "<script>alert(2)" not in text
    assert "<script>alert(2)</script>" in words_of(page.xpath("//section[@id='problems']")[0])


def test_a_page_that_cannot_be_made_is_an_error_and_stops_no_other(out_dir):
    for path in (out_dir / "sub-01" / "dwi").glob("*.tsv"):
        target = out_dir / "sub-02" / "dwi" / path.name.replace("sub-01", "sub-02")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    # The image that tells the size of its voxels is missing.
    (out_dir / "sub-01.html").unlink()
    errors = report_participants(out_dir, {"sub-02": None, "sub-01": None}, JOB)
    assert list(errors) == ["sub-02"]
    assert "The page cannot be made" in str(errors["sub-02"])
    assert "Traceback" in (out_dir / "logs/crash-report-sub-02.txt").read_text()
    assert (out_dir / "sub-01.html").exists()


def test_pages_are_written_again_without_those_that_cannot_be(out_dir, capsys):
    for name in ("sub-02", "sub-03"):
        shutil.copytree(out_dir / "sub-01", out_dir / name)
        for path in list((out_dir / name).rglob("sub-01*")):
            path.rename(path.with_name(path.name.replace("sub-01", name)))
    regions = out_dir / "sub-02" / "dwi" / "sub-02_model-tensor_seg-SCSNet_scalarstats.tsv"
    regions.write_text("junk\n")
    (out_dir / "sub-01.html").unlink()
    assert main([str(out_dir), str(out_dir), "participant", "--reports-only"]) == 1
    said = capsys.readouterr().out
    assert "  sub-02: The page cannot be made" in said
    assert f"{regions} has 0 rows with the columns junk." in said
    assert said.splitlines()[-1].startswith("Failed: sub-02. 2 of 3 pages written: ")
    assert (out_dir / "sub-01.html").exists()
    assert (out_dir / "sub-03.html").exists()


def test_a_series_of_another_job_keeps_its_outcome_and_its_page(out_dir):
    page = (out_dir / "sub-01.html").read_text()
    errors = report_participants(out_dir, {"sub-01": BusyError("busy")}, JOB)
    assert errors == {}
    assert read_outcomes(out_dir, "sub-01")["sub-01"].status == "done"
    assert (out_dir / "sub-01.html").read_text() == page


def test_outcomes_of_earlier_calls_are_kept(tmp_path):
    first = {name: Outcome.of(name, None) for name in ("sub-1_run-1", "sub-1_run-2", "sub-2")}
    record_outcomes(tmp_path, first)
    record_outcomes(tmp_path, {"sub-1_run-2": Outcome.of("sub-1_run-2", ScsnetError("why\n so"))})
    assert read_outcomes(tmp_path, "sub-1") == {
        "sub-1_run-1": Outcome("sub-1_run-1", "done"),
        "sub-1_run-2": Outcome("sub-1_run-2", "failed", "why so"),
    }
    assert list(read_outcomes(tmp_path, "sub-2")) == ["sub-2"]
    assert read_outcomes(tmp_path, "sub-3") == {}


@pytest.mark.parametrize("content", [b"", b"run\xff\x00", b"a\tb\n1\t2\n"])
def test_a_damaged_list_of_outcomes_is_replaced_with_a_warning(out_dir, content, caplog):
    path = out_dir / "logs" / "sub-01_runs.tsv"
    path.write_bytes(content)
    with pytest.raises(InputDataError, match=str(path)):
        read_outcomes(out_dir, "sub-01")
    assert report_participants(out_dir, {"sub-01": None}, JOB) == {}
    assert list(read_outcomes(out_dir, "sub-01")) == ["sub-01"]
    assert caplog.text.count("It is replaced now") == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "done"),
        (GradientError("x"), "left out"),
        (SkippedSeries("x"), "skipped"),
        (ScsnetError("x"), "failed"),
    ],
)
def test_the_kind_of_an_error_tells_what_became_of_a_series(error, status):
    assert Outcome.of("sub-1", error).status == status


def test_crash_files_are_read_from_the_logs_only(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "crash-1.txt").write_text("inside")
    (tmp_path / "crash-2.txt").write_text("outside")
    texts = [
        crash_text(tmp_path, Outcome("sub-1", "failed", f"it broke (crash file: {name})"))
        for name in ("/elsewhere/logs/crash-1.txt", "../crash-2.txt", "crash-3.txt")
    ]
    assert texts == ["inside", "", ""]


def test_runs_come_in_the_order_of_their_numbers(out_dir):
    folder = out_dir / "sub-01" / "dwi"
    for n in (10, 2):
        for name in TABLES:
            path = RunRecord(out_dir, "sub-01").table_path(name)
            shutil.copy(path, folder / path.name.replace("sub-01_", f"sub-01_run-{n}_"))
    names = [record.name for record in find_records(out_dir, "sub-01")]
    assert names == ["sub-01", "sub-01_run-2", "sub-01_run-10"]
    assert {participant_of(name) for name in names} == {"sub-01"}


# The verdict.

GOOD_ROW = {"n_slices": 3, "snr_b0": 8.0, "flag": np.nan, "noise_flag": np.nan}


def shape_table(*flags: str | None) -> pd.DataFrame:
    return pd.DataFrame({"slice": range(len(flags)), "flag": flags})


def region_table(share_known: float) -> pd.DataFrame:
    n_known = round(10 * share_known)
    rows = [
        {
            "scope": "slice", "slice": k, "region": "gray_matter", "side": side, "metric": "FA",
            "volume_mm3": 5.0, "unmixed": 0.5 if k < n_known else np.nan,
        }
        for k in range(10)
        for side in ("left", "right", "both")
    ]  # fmt: skip
    return pd.DataFrame(rows)


def judged(shape: pd.DataFrame | None = None, known: float = 1.0, **change: Any) -> list[Any]:
    row = pd.DataFrame([GOOD_ROW | change])
    return judge_run(row, shape_table(None) if shape is None else shape, region_table(known))


def test_a_run_without_doubt_passes():
    assert judged() == []
    assert judged(untrusted_share=np.nan) == [], "motion was not estimated, as was asked for"
    assert overall_verdict([]) is Verdict.PASS


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"flag": "no_cord"}, Verdict.FAIL),
        ({"flag": "low_snr;odd_directions"}, Verdict.FAIL),
        ({"flag": "low_snr"}, Verdict.LOOK),
        ({"flag": "a_flag_of_tomorrow"}, Verdict.LOOK),
        ({"noise_flag": "unknown"}, Verdict.LOOK),
        ({"noise_flag": "no_background"}, Verdict.PASS),
        ({"snr_b0": np.nan}, Verdict.LOOK),
        ({"outline_at_limit": 1}, Verdict.LOOK),
        ({"outline_at_limit": 0}, Verdict.PASS),
        ({"shape": shape_table(None, "low_confidence")}, Verdict.LOOK),
        ({"shape": shape_table(None, "no_cord")}, Verdict.LOOK),
        ({"shape": shape_table(None, "narrow")}, Verdict.LOOK),
        ({"known": 0.4}, Verdict.LOOK),
        ({"known": 0.6}, Verdict.PASS),
    ],
)
def test_each_doubt_has_its_verdict(change, verdict):
    assert overall_verdict(judged(**change)) is verdict


def test_every_flag_of_the_tables_has_a_rule():
    told_by_the_quality_row = {"cut_off", "implausible"}
    known = {*quality.FLAGS, *noise.FLAGS, *cord_shape.FLAGS} - told_by_the_quality_row
    assert known <= set(RULES)


def test_every_figure_has_words_for_a_reader():
    columns = {*quality.QUALITY_COLUMNS, *NOISE_COLUMNS} - {"flag", "noise_flag"}
    assert columns == set(FIGURES)


def test_no_reason_shows_the_name_of_a_flag_or_column():
    figures = dict.fromkeys(FIGURES, 9.0) | {"fa_gray_matter": np.nan}
    flags = {"flag": ";".join([*quality.FLAGS, "of_tomorrow"]), "noise_flag": "unknown"}
    reasons = judged(shape_table(*cord_shape.FLAGS), known=0.1, **figures, **flags)
    assert len(reasons) > len(quality.FLAGS)
    assert not [reason.found for reason in reasons if "_" in reason.found.replace("low_conf", "")]


def test_the_worst_reason_comes_first_and_names_what_was_found():
    reasons = judged(flag="low_snr;no_contrast", snr_b0=3.21)
    assert [reason.verdict for reason in reasons] == [Verdict.FAIL, Verdict.LOOK]
    assert reasons[1].found == "signal-to-noise ratio (b=0, one volume) is below 4 (found 3.21)"


@pytest.mark.parametrize("value", [1, 1.0, np.int64(1), np.float64(1)])
def test_the_figure_of_a_flag_is_named_with_its_value(value):
    (reason,) = judged(flag="many_untrusted", untrusted_share=value)
    assert reason.found.startswith("share of displacements borrowed")
    assert reason.found.endswith("(found 1)")


def test_flagged_slices_are_named():
    (reason,) = judged(shape=shape_table("low_confidence", None, "low_confidence"))
    assert reason.found.startswith("slice 0, 2: ")


def test_slices_that_their_regions_do_not_explain_are_named():
    regions = region_table(1.0)
    regions["unmixed_flag"] = np.where(regions["slice"].isin([3, 5]), "unexplained", None)
    (reason,) = judge_run(pd.DataFrame([GOOD_ROW]), shape_table(None), regions)
    assert reason.verdict is Verdict.LOOK
    assert reason.found.startswith("slice 3, 5: the cord is bright and dark")


def test_a_picture_that_is_missing_is_a_reason_to_look(out_dir):
    RunRecord(out_dir, "sub-01").figure_path("faregions").unlink()
    text = write_page(out_dir, "sub-01", JOB).read_text()
    assert "no picture: regions on FA" in text


def test_the_flattest_slice_is_named_with_how_far_it_stands_out():
    row = {
        "compressed_slice": 4.0, "compressed_level": "C6", "compressed_compression_ratio": 0.423,
        "compressed_deviation": -5.93, "compressed_stands_out": 1.0,
    }  # fmt: skip
    sentence = describe_compression(row)
    assert "flattest in slice 4 (C6): compression ratio 0.42" in sentence
    assert "stands out from a smooth course along the cord (-5.9 robust" in sentence
    smooth = {"compressed_level": np.nan, "compressed_deviation": -1, "compressed_stands_out": 0}
    assert "slice 4: compression ratio 0.42. It does not stand out" in describe_compression(
        row | smooth
    )
    assert "too few slices" in describe_compression(row | {"compressed_deviation": np.nan})
    assert "No plausible cord" in describe_compression({"compressed_slice": np.nan})


def test_the_page_of_a_participant_without_results_says_so(tmp_path):
    record_outcomes(tmp_path, {"sub-9": Outcome("sub-9", "left out", "no b-vectors")})
    page = html.fromstring(write_page(tmp_path, "sub-9", JOB).read_text())
    assert page.xpath('//*[@class="verdict"]/span[@class="badge fail"]')
    assert "no b-vectors" in words_of(page)
    assert not page.xpath("//article")


def test_the_table_of_outcomes_can_be_read_as_a_table(phantom_run):
    table = read_table(phantom_run["out"] / "logs" / "sub-01_runs.tsv")
    assert dict(zip(table["run"], table["status"], strict=True)) == {
        "sub-01": "done",
        "sub-01_acq-bare": "left out",
    }
