"""Slices that readers failed leave the values of levels and of the whole cord, at both levels."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cohorts import LEVELS, draw_person, flat_template, write_person
from lxml import html

from scsnet_bids.cli import main
from scsnet_bids.derivatives import read_table
from scsnet_bids.errors import UsageError
from scsnet_bids.group.collect import collect_group
from scsnet_bids.group.exclusion import exclude_slices
from scsnet_bids.report.record import RunRecord
from scsnet_bids.slice_marks import EXCLUDED, Mark, failed_slices, read_marks

KEY = ["scope", "level", "region", "side", "metric"]
EXACT = ["n_voxels", "volume_mm3", "mean", "std", "weighted_mean", "coverage", "confidence"]
UNKNOWN = ["median", "p25", "p75", "core_mean", "mean_uncertainty"]
MARKS = "run\tslice\tmark\tcomment\nsub-01\t1\tfail\tfolded\nsub-01\t0\tpass\tn/a\n"


def marks_file(folder: Path, text: str = MARKS, name: str = "a_marks.tsv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.fixture(scope="module")
def both(phantom_run: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Fail a slice at the participant level, and at the group level after a run without marks."""
    folder = tmp_path_factory.mktemp("marks")
    marks = marks_file(folder)
    data, _, *others = phantom_run["arguments"]
    code = main([data, str(folder / "out"), *others, "--exclude-slices", marks])
    plain = Path(shutil.copytree(phantom_run["out"], folder / "plain"))
    assert main([data, str(plain), "group", "--exclude-slices", marks]) == 0
    return {"participant": folder / "out", "group": plain, "code": code}


def regions_of(out_dir: Path) -> pd.DataFrame:
    return read_table(RunRecord(out_dir, "sub-01").table_path("regions"))


def test_a_failed_slice_is_flagged_and_enters_no_other_row(both, phantom_run):
    before, after = (regions_of(out) for out in (phantom_run["out"], both["participant"]))
    is_slice = after["scope"] == "slice"
    flagged = after["flag"].astype(str).str.contains(EXCLUDED)
    assert (flagged == (is_slice & (after["slice"] == 1))).all()
    assert (after["unmixed_flag"].astype(str).str.contains(EXCLUDED) == flagged).all()
    values = ["mean", "unmixed", "volume_mm3"]
    pd.testing.assert_frame_equal(before.loc[is_slice, values], after.loc[is_slice, values])
    parts = (after["region"] == "cord") & (after["side"] == "both") & (after["metric"] == "FA")
    for scope, kept in (("cord", [0, 2, 3]), ("level", [0])):
        row = after[parts & (after["scope"] == scope)].iloc[0]
        slices = after[parts & is_slice & after["slice"].isin(kept)]
        assert row["n_voxels"] == slices["n_voxels"].sum()
        mean = np.average(slices["mean"], weights=slices["n_voxels"])
        assert row["mean"] == pytest.approx(mean, rel=1e-4)


def test_shape_and_quality_know_of_it(both):
    record = RunRecord(both["participant"], "sub-01")
    shape, quality = (read_table(record.table_path(name)) for name in ("shape", "quality"))
    assert shape["flag"].astype(str).str.contains(EXCLUDED).tolist() == [False, True, False, False]
    row = quality.iloc[0]
    assert row["n_slices_excluded"] == 1
    assert row["cord_area_mm2"] == pytest.approx(shape["area_mm2"].drop(1).mean(), rel=1e-5)
    assert row["compressed_slice"] != 1


def test_the_page_shows_it_as_excluded_and_keeps_the_mark(both):
    page = html.fromstring((both["participant"] / "sub-01.html").read_text(encoding="utf-8"))
    (card,) = page.xpath('//figure[@class="card excluded"]')
    assert "Slice 1 (C6)" in card.text_content()
    assert card.xpath('.//input[@value="fail"]/@checked')
    assert len(page.xpath("//input[@type='radio'][@checked][@value='fail']")) == 1
    summary = page.xpath('//section[@id="summary"]')[0].text_content()
    assert "a reader failed the slice" in summary
    words = " ".join(page.xpath('//section[@id="methods"]')[0].text_content().split())
    assert "had marked as fail were left out of levels and of the whole cord: 1 of sub-01" in words


def test_the_group_level_tells_the_same_as_far_as_its_tables_do(both):
    tables = {
        name: pd.read_csv(both["group"] / f"group_{name}.tsv", sep="\t", na_values="n/a")
        for name in ("scalarstats", "qc", "shape_scalarstats", "excluded")
    }
    group = tables["scalarstats"]
    assert 1 not in set(group["slice"].dropna())
    assert tables["shape_scalarstats"]["slice"].tolist() == [0, 2, 3]
    assert tables["excluded"][["run_id", "slice"]].to_numpy().tolist() == [["sub-01", 1]]
    exact = regions_of(both["participant"])
    exact, made = (t[t["scope"] != "slice"].fillna({"level": ""}) for t in (exact, group))
    exact, made = exact.set_index(KEY), made.set_index(KEY)
    made = made.reindex(exact.index)
    for column in (*EXACT, "unmixed"):
        np.testing.assert_allclose(made[column], exact[column], rtol=1e-4, err_msg=column)
    for column in ("flag", "unmixed_flag"):
        assert made[column].astype(str).tolist() == exact[column].astype(str).tolist()
    # A standard error that the tables do not tell is never stated too small.
    error, bound = exact["unmixed_uncertainty"], made["unmixed_uncertainty"]
    assert (bound.dropna() >= error.dropna() * (1 - 1e-4)).all()
    touched = made[made.index.get_level_values("scope") == "cord"]
    assert touched[UNKNOWN].isna().all(axis=None)
    untouched = made[made.index.get_level_values("level") == "C5"]
    assert untouched["median"].notna().any()
    quality = read_table(RunRecord(both["participant"], "sub-01").table_path("quality")).iloc[0]
    for column in ("cord_area_mm2", "fa_white_matter", "compressed_slice", "n_slices_excluded"):
        assert tables["qc"][column][0] == pytest.approx(quality[column], rel=1e-4)


def test_what_the_participant_level_left_out_stays_exact_in_the_group(both):
    tables = collect_group(both["participant"])
    group = exclude_slices(tables, {"sub-01": {1: Mark(Path("marks.tsv"))}})
    assert group.excluded["slice"].tolist() == [1]
    wide = tables.scalarstats[tables.scalarstats["scope"] != "slice"].reset_index(drop=True)
    kept = group.scalarstats[group.scalarstats["scope"] != "slice"].reset_index(drop=True)
    pd.testing.assert_frame_equal(wide, kept)


def test_a_level_without_any_slice_left_has_no_value(phantom_run):
    marks = {"sub-01": {n: Mark(Path("marks.tsv")) for n in (0, 1)}}
    rows = exclude_slices(collect_group(phantom_run["out"]), marks).scalarstats
    lost = rows[(rows["scope"] == "level") & (rows["level"] == "C6")]
    assert (lost["flag"] == EXCLUDED).all()
    assert (lost["unmixed_flag"] == EXCLUDED).all()
    assert lost[["mean", "unmixed", "unmixed_uncertainty", "median"]].isna().all(axis=None)


def test_runs_are_left_out_of_each_by_itself(tmp_path):
    template, rng = flat_template(), np.random.default_rng(0)
    for n in range(3):
        levels = draw_person(template, rng).assign(
            n_voxels=5, std=0.1, weighted_mean=0.5, coverage=1.0, confidence=0.9
        )
        slices = [
            levels[levels["level"] == name].assign(scope="slice", slice=k)
            for k, name in enumerate(LEVELS)
        ]
        write_person(tmp_path, f"sub-{n}", pd.concat([*slices, levels]))
    tables = collect_group(tmp_path)
    marks = {run: {k: Mark(Path("marks.tsv"))} for run, k in (("sub-0", 3), ("sub-2", 1))}
    at_once = exclude_slices(tables, marks)
    for run in ("sub-0", "sub-1", "sub-2"):
        alone = exclude_slices(tables, {run: marks[run]} if run in marks else {})
        for name in ("scalarstats", "shape", "quality"):
            both, one = (getattr(t, name) for t in (at_once, alone))
            assert both["run"].is_monotonic_increasing
            both, one = (t[t["run"] == run].reset_index(drop=True) for t in (both, one))
            pd.testing.assert_frame_equal(both[one.columns], one, check_dtype=False)


def test_nothing_changes_without_marks(phantom_run):
    tables = collect_group(phantom_run["out"])
    same = exclude_slices(tables, {})
    pd.testing.assert_frame_equal(same.scalarstats, tables.scalarstats)
    pd.testing.assert_frame_equal(same.quality, tables.quality)


# What a table of marks may say.


def test_several_tables_and_folders_are_united_and_fail_wins(tmp_path):
    first = marks_file(tmp_path, "run\tslice\tmark\nsub-1\t3\tpass\nsub-1\t2\tFail\n", "one.tsv")
    (tmp_path / "more").mkdir()
    marks_file(tmp_path / "more", "run\tslice\tmark\nsub-1\t3\tfail\nsub-2\t0\tpass\n")
    marks_file(tmp_path / "more", "slice\trun\n7\tsub-2_run-1\n", "other.tsv")
    found = read_marks([first, str(tmp_path / "more")])
    assert {run: list(slices) for run, slices in found.items()} == {
        "sub-1": [2, 3],
        "sub-2_run-1": [7],
    }
    assert found["sub-1"][3].table.name == "a_marks.tsv"
    assert read_marks([]) == {}


def test_a_run_is_left_out_with_its_reason(phantom_run, tmp_path):
    marks = marks_file(tmp_path, "run\tslice\tcomment\nsub-01\tall\tneck out of view\n")
    out = Path(shutil.copytree(phantom_run["out"], tmp_path / "out"))
    data = phantom_run["arguments"][0]
    assert main([data, str(out), "group", "--exclude-slices", marks]) == 0
    listed = read_table(out / "group_excluded.tsv")
    assert listed[["run_id", "slice", "reason"]].to_numpy().tolist() == [
        ["sub-01", k, "neck out of view"] for k in range(4)
    ]
    wide = read_table(out / "group_wide_scalarstats.tsv")
    values = wide.filter(regex="^FA_.*_(mean|unmixed)$")
    assert values.shape[1] > 30
    assert values.isna().all(axis=None)
    page = html.parse(out / "group.html").getroot().text_content()
    assert "neck out of view" in page


def test_a_failed_run_has_no_value_at_the_participant_level_either(phantom_run, tmp_path):
    marks = marks_file(tmp_path, "run\tslice\nsub-01\tall\n")
    data, _, *others = phantom_run["arguments"]
    main([data, str(tmp_path / "out"), *others, "--exclude-slices", marks])
    regions = regions_of(tmp_path / "out")
    assert regions.loc[regions["scope"] != "slice", ["mean", "unmixed"]].isna().all(axis=None)
    flags = regions.loc[regions["scope"] == "slice", "flag"]
    assert flags.str.contains(EXCLUDED).all()


def test_of_several_marks_the_first_with_a_reason_counts(tmp_path):
    first = marks_file(tmp_path, "run\tslice\tcomment\nsub-1\t2\tn/a\n", "a.tsv")
    second = marks_file(tmp_path, "run\tslice\tcomment\nsub-1\t2\tfolded\nsub-1\tall\tshort\n")
    found = failed_slices(read_marks([first, second]), "sub-1", 4)
    assert {k: mark.comment for k, mark in found.items()} == {
        0: "short", 1: "short", 2: "folded", 3: "short",
    }  # fmt: skip
    assert failed_slices({}, "sub-1", 4) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("run\tslice\tmark\nsub-01\tfour\tfail\n", "A slice must be a number.*'four' in row 2"),
        ("run\tslice\tmark\nsub-01\t-1\tfail\n", "A slice must be a number.*'-1'"),
        ("run\tslice\tmark\nsub-01\t1\tbad\n", "must be fail or pass: found 'bad' in row 2"),
        ("run,slice,mark\nsub-01,1,fail\n", "must have the columns run and slice"),
        ("", "cannot be read"),
        ("run\tslice\nsub-01\t3\tfolded\n", "more cells than its heading"),
    ],
)
def test_a_table_that_cannot_be_understood_is_one_clear_sentence(tmp_path, content, message):
    with pytest.raises(UsageError, match=message):
        read_marks([marks_file(tmp_path, content)])


def test_a_source_that_is_absent_or_empty_is_one_clear_sentence(tmp_path):
    with pytest.raises(UsageError, match=r"cannot be read"):
        read_marks([str(tmp_path / "absent.tsv")])
    with pytest.raises(UsageError, match=r"holds no \.tsv file"):
        read_marks([str(tmp_path)])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("sub-07\t1", "names 'sub-07', and .* has no such"),
        ("../sub-01\t1", "names '../sub-01'"),
        ("sub-01\t99", "fails slice 99 of sub-01, which has 4"),
    ],
)
@pytest.mark.parametrize("level", ["participant", "group"])
def test_an_unknown_run_or_slice_ends_the_command_before_any_work(
    phantom_run, tmp_path, capsys, row, message, level
):
    marks = marks_file(tmp_path, f"run\tslice\n{row}\n")
    data, out, _, *others = phantom_run["arguments"]
    before = sorted(Path(out).rglob("*"))
    assert main([data, out, level, *others, "--exclude-slices", marks]) == 2
    error = capsys.readouterr().err
    assert pd.Series([error]).str.contains(message).all(), error
    assert sorted(Path(out).rglob("*")) == before


def test_pages_alone_cannot_leave_slices_out(phantom_run, tmp_path, capsys):
    arguments = [*phantom_run["arguments"], "--exclude-slices", marks_file(tmp_path)]
    assert main([*arguments, "--reports-only"]) == 2
    assert "--reports-only computes none" in capsys.readouterr().err
