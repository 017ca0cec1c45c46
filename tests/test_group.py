"""The group level gathers what is there and names what is not."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from scsnet_bids.cli import main
from scsnet_bids.errors import EmptySelectionError, InputDataError, SkippedSeries
from scsnet_bids.group.collect import RUN_COLUMNS, collect_group
from scsnet_bids.group.wide import describe_wide, widen
from scsnet_bids.jobs import Job, write_job
from scsnet_bids.report.outcomes import Outcome, record_outcomes
from scsnet_bids.setting_values import change_settings
from scsnet_bids.settings import Settings

ENDINGS = {
    "scalarstats": "model-tensor_seg-SCSNet_scalarstats.tsv",
    "shape": "desc-shape_scalarstats.tsv",
    "quality": "desc-image_qc.tsv",
}
WEIGHTS = {"version": "1", "sha256": "0123456789abcdef"}


def region_table(fa: float, flag: str = "n/a") -> pd.DataFrame:
    """Two scopes, two regions, two metrics."""
    rows = [
        (
            *(scope, 0 if scope == "slice" else "n/a", "n/a", region, side, metric, value, flag),
            *(value, 0.01, "n/a"),
        )
        for scope in ("slice", "cord")
        for region, side in (("lateral_column", "left"), ("white_matter", "both"))
        for metric, value in (("FA", fa if scope == "cord" else 0.1), ("MD", 0.0009))
    ]
    names = ["scope", "slice", "level", "region", "side", "metric", "mean", "flag"]
    unmixed = ["unmixed", "unmixed_uncertainty", "unmixed_flag"]
    return pd.DataFrame(rows, columns=names + unmixed)


def write(folder: Path, run: str, kind: str, table: pd.DataFrame) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run}_{ENDINGS[kind]}"
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    return path


def write_run(out_dir: Path, run: str, fa: float, flag: str = "n/a") -> Path:
    """All tables of a run, in the folder that its name says."""
    levels = [part for part in run.split("_") if part.startswith(("sub-", "ses-"))]
    folder = out_dir.joinpath(*levels, "dwi")
    write(folder, run, "scalarstats", region_table(fa, flag))
    write(folder, run, "shape", pd.DataFrame({"slice": [0, 1], "area_mm2": [80.0, 78.5]}))
    write(folder, run, "quality", pd.DataFrame({"snr_b0": [6.5], "flag": ["n/a"]}))
    return folder


@pytest.fixture
def out_dir(tmp_path: Path) -> Path:
    write_run(tmp_path, "sub-02_ses-pre_acq-ax_run-01", 0.6, "few_voxels;low_confidence")
    write_run(tmp_path, "sub-02_ses-post", 0.7, "few_voxels")
    write_run(tmp_path, "sub-01", 0.8)
    (tmp_path / "sub-01.html").write_text("a report, not a folder")
    return tmp_path


def test_every_table_is_gathered_with_its_run_first(out_dir):
    tables = collect_group(out_dir)
    wide = widen(tables.scalarstats)
    for table in (tables.scalarstats, wide, tables.shape, tables.quality):
        assert table.columns[:3].tolist() == list(RUN_COLUMNS)
    assert len(tables.scalarstats) == 3 * 8
    assert len(tables.shape) == 3 * 2
    assert tables.quality["run"].tolist() == [
        "sub-01",
        "sub-02_ses-post",
        "sub-02_ses-pre_acq-ax_run-01",
    ]
    assert tables.quality["participant_id"].tolist() == ["sub-01", "sub-02", "sub-02"]
    assert tables.quality["session"].tolist()[1:] == ["ses-post", "ses-pre"]
    assert pd.isna(tables.quality["session"][0])
    assert tables.gaps.empty


def test_sessions_whose_labels_begin_alike_are_told_apart(tmp_path):
    write_run(tmp_path, "sub-01_ses-1", 0.6)
    write_run(tmp_path, "sub-01_ses-1+2", 0.7)
    assert set(collect_group(tmp_path).scalarstats["session"]) == {"ses-1", "ses-1+2"}


def test_old_tables_of_a_run_that_failed_since_are_not_gathered(out_dir):
    error = InputDataError("It is truncated.")
    record_outcomes(out_dir, {"sub-01": Outcome.of("sub-01", error, is_old=True)})
    tables = collect_group(out_dir)
    assert "sub-01" not in set(tables.scalarstats["run"]) | set(tables.quality["run"])
    assert tables.gaps["reason"].tolist() == ["left out: It is truncated."]


def test_old_tables_of_a_run_that_is_skipped_now_are_named(out_dir):
    error = SkippedSeries("It has no weighted volume.")
    record_outcomes(out_dir, {"sub-01": Outcome.of("sub-01", error, is_old=True)})
    assert collect_group(out_dir).gaps["reason"].tolist() == ["skipped: It has no weighted volume."]


def test_a_series_that_is_skipped_and_has_no_tables_is_no_gap(out_dir):
    run = "sub-01_acq-b0"
    record_outcomes(out_dir, {run: Outcome.of(run, SkippedSeries("b=0"), is_old=True)})
    assert collect_group(out_dir).gaps.empty


def test_runs_that_were_not_processed_alike_are_told_apart(out_dir, capsys):
    settings = change_settings(Settings(), {("motion", "method"): "none"})
    jobs = {"sub-01": Job(settings, WEIGHTS), "sub-02_ses-post": Job(Settings(), WEIGHTS)}
    for run, job in jobs.items():
        write_job(out_dir / "logs", job, "scsnet-bids")
        record_outcomes(out_dir, {run: Outcome.of(run, None, job.name)})
    unlike, unknown = collect_group(out_dir).differences
    assert unlike == "motion.method: none (sub-01), slicewise (sub-02_ses-post)"
    assert unknown == ("how they were processed is not known of sub-02_ses-pre_acq-ax_run-01")
    assert main([str(out_dir), str(out_dir), "group"]) == 0
    assert f"Warning: the runs were not processed alike. {unlike}" in capsys.readouterr().err
    assert unlike in (out_dir / "group.html").read_text()


def test_runs_of_several_jobs_that_were_processed_alike_raise_no_warning(out_dir):
    for run in ("sub-01", "sub-02_ses-post", "sub-02_ses-pre_acq-ax_run-01"):
        job = Job(Settings(), WEIGHTS)
        write_job(out_dir / "logs", job, f"scsnet-bids {run}")
        record_outcomes(out_dir, {run: Outcome.of(run, None, job.name)})
    assert collect_group(out_dir).differences == ()


def test_the_wide_table_has_the_whole_cord_in_one_row_per_run(out_dir):
    wide = widen(collect_group(out_dir).scalarstats)
    assert wide.columns.tolist() == [
        *RUN_COLUMNS,
        *(
            f"{metric}_{place}_{kind}"
            for kind in ("unmixed", "unmixed_uncertainty", "mean")
            for place in ("left_lateral_column", "both_white_matter")
            for metric in ("FA", "MD")
        ),
        "flag",
        "unmixed_flag",
    ]
    assert wide["FA_left_lateral_column_mean"].tolist() == [0.8, 0.7, 0.6]
    assert pd.isna(wide["flag"][0])
    assert wide["flag"].tolist()[1:] == ["few_voxels", "few_voxels;low_confidence"]


def test_every_column_of_the_wide_table_is_described(out_dir):
    wide = widen(collect_group(out_dir).scalarstats)
    described = describe_wide(wide)
    assert list(described) == wide.columns.tolist()
    assert "left lateral column" in described["FA_left_lateral_column_mean"]["Description"]
    assert described["MD_both_white_matter_unmixed_uncertainty"]["Units"] == "mm2/s"


def test_a_table_of_a_version_without_flags_is_a_gap(out_dir):
    table = region_table(0.5).drop(columns="unmixed_flag")
    write(out_dir / "sub-01" / "dwi", "sub-01", "scalarstats", table)
    tables = collect_group(out_dir)
    assert "sub-01" not in set(tables.scalarstats["run"])
    assert "it lacks the columns unmixed_flag" in tables.gaps["reason"].item()


def test_missing_values_stay_missing(out_dir):
    table = region_table(0.5)
    table["mean"] = "n/a"
    write(out_dir / "sub-01" / "dwi", "sub-01", "scalarstats", table)
    wide = widen(collect_group(out_dir).scalarstats)
    assert wide["FA_left_lateral_column_mean"].isna().tolist() == [True, False, False]


def test_what_is_missing_is_named_with_its_reason(out_dir):
    (out_dir / "sub-03" / "figures").mkdir(parents=True)
    next(out_dir.glob("sub-02/ses-post/dwi/*_qc.tsv")).unlink()
    next(out_dir.glob("sub-02/ses-pre/dwi/*_desc-shape*")).write_text("")
    write(out_dir / "sub-01" / "dwi", "sub-01", "quality", pd.DataFrame({"snr_b0": [1.0]}))
    tables = collect_group(out_dir)
    gaps = tables.gaps.set_index("participant_id")["reason"]
    assert "failed or are not done" in gaps["sub-03"]
    assert "lacks the columns flag" in gaps["sub-01"]
    assert "no quality table" in gaps["sub-02"].iloc[0]
    assert "desc-shape_scalarstats.tsv cannot be used" in gaps["sub-02"].iloc[1]
    assert len(widen(tables.scalarstats)) == 3
    assert tables.shape["run"].nunique() == 2


def test_why_a_run_is_missing_is_told_as_the_participant_level_wrote_it_down(out_dir):
    outcomes = [
        Outcome("sub-04_run-1", "left out", "no b-vectors"),
        Outcome("sub-01_run-9", "failed", "out of memory"),
        Outcome("sub-01_acq-b0", "skipped", "no weighting"),
    ]
    record_outcomes(out_dir, {outcome.run: outcome for outcome in outcomes})
    people = "participant_id\nsub-01\nsub-02\nsub-05\n"
    (out_dir / "participants.tsv").write_text(people)
    gaps = collect_group(out_dir).gaps.set_index("participant_id")
    assert gaps.index.tolist() == ["sub-01", "sub-04", "sub-05"]
    assert gaps.loc["sub-01", "reason"] == "failed: out of memory"
    assert gaps.loc["sub-04", "run"] == "sub-04_run-1"
    assert gaps.loc["sub-04", "reason"] == "left out: no b-vectors"
    assert "failed or are not done" in gaps.loc["sub-05", "reason"]


def test_unmixed_values_are_columns_of_the_wide_table_too(out_dir):
    for path in out_dir.rglob("*seg-SCSNet*"):
        table = pd.read_csv(path, sep="\t", na_values="n/a")
        table.assign(unmixed=table["mean"] + 1).to_csv(path, sep="\t", index=False, na_rep="n/a")
    wide = widen(collect_group(out_dir).scalarstats)
    assert wide["FA_left_lateral_column_unmixed"].tolist() == pytest.approx([1.8, 1.7, 1.6])
    described = describe_wide(wide)
    assert described["FA_left_lateral_column_unmixed"]["Description"].startswith("Unmixed FA")
    assert list(described) == wide.columns.tolist()


@pytest.mark.parametrize("content", ["", "a\tb\n1\t2\n", "scope\tregion\n", "\x00\xff"])
def test_a_damaged_region_table_does_not_stop_the_others(out_dir, content):
    path = next(out_dir.glob("sub-01/dwi/*seg-SCSNet*"))
    path.write_text(content, encoding="latin-1")
    tables = collect_group(out_dir)
    assert widen(tables.scalarstats)["participant_id"].tolist() == ["sub-02", "sub-02"]
    assert tables.gaps["participant_id"].tolist() == ["sub-01"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "run datalad get"),
        (b"scope\xff", "can't decode byte 0xff"),
        (b"scope\tregion\ncord\tcord\n", "lacks the columns"),
    ],
)
def test_the_reason_why_a_table_cannot_be_used_is_told(out_dir, content, reason):
    path = next(out_dir.glob("sub-01/dwi/*seg-SCSNet*"))
    path.unlink()
    if content is None:
        path.symlink_to("../../.git/annex/objects/a")
    else:
        path.write_bytes(content)
    (gap,) = collect_group(out_dir).gaps["reason"]
    assert gap.startswith(f"{path} cannot be used: ")
    assert reason in gap


def test_the_counts_are_of_the_same_runs_where_a_table_is_damaged(out_dir, capsys):
    next(out_dir.glob("sub-01/dwi/*seg-SCSNet*")).write_bytes(b"scope\xff")
    assert main([str(out_dir), str(out_dir), "group"]) == 0
    told = capsys.readouterr()
    assert "2 runs of 1 participants gathered, by verdict 0 pass, 2 look, 0 fail" in told.out
    assert "Missing: sub-01: " in told.err
    qc, wide = (
        pd.read_csv(out_dir / f"group_{name}.tsv", sep="\t")["run_id"].tolist()
        for name in ("qc", "wide_scalarstats")
    )
    assert qc == wide == ["sub-02_ses-post", "sub-02_ses-pre_acq-ax_run-01"]


@pytest.mark.parametrize("content", [b"", b"run\xff\x00", b"a\tb\n1\t2\n"])
def test_a_damaged_list_of_outcomes_stops_nobody(out_dir, content, capsys):
    path = out_dir / "logs" / "sub-01_runs.tsv"
    path.parent.mkdir()
    path.write_bytes(content)
    assert main([str(out_dir), str(out_dir), "group"]) == 0
    told = capsys.readouterr()
    assert "3 runs of 2 participants" in told.out
    assert "Missing: sub-01: whether tables are of the last job is not known" in told.err
    assert str(path) in told.err


def test_words_where_numbers_belong_are_a_damaged_table(out_dir):
    path = next(out_dir.glob("sub-01/dwi/*seg-SCSNet*"))
    path.write_text(path.read_text().replace("0.8", "high"))
    assert collect_group(out_dir).gaps["participant_id"].tolist() == ["sub-01"]


def test_an_empty_folder_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(EmptySelectionError, match="Run the participant level"):
        collect_group(tmp_path)
    with pytest.raises(EmptySelectionError):
        collect_group(tmp_path / "absent")


def test_nothing_is_written(out_dir):
    before = sorted(out_dir.rglob("*"))
    collect_group(out_dir)
    assert sorted(out_dir.rglob("*")) == before
