"""The plan says what will happen to every series, and why, before anything happens."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scsnet_bids.bids import find_runs
from scsnet_bids.cli import main
from scsnet_bids.errors import InputDataError, ScsnetError, SkippedSeries
from scsnet_bids.run_checks import check_runs
from scsnet_bids.setting_values import change_settings
from scsnet_bids.settings import GradientSettings, Settings
from scsnet_bids.summary import WIDTH, describe_plan, describe_result, exit_code

BVALS = [0, 0, *[800] * 6, *[1500] * 6]
AXES = np.array([[0, 1, 1, 1, 1, 0, 0], [0, 1, -1, 0, 0, 1, 1], [0, 0, 0, 1, -1, 1, -1]]) / 2**0.5
BVECS = np.concatenate([AXES[:, :1], AXES, AXES[:, 1:]], axis=1)


def write_series(root: Path, name: str, bvals: list[float] | None, **metadata: object) -> Path:
    """Write a series under its BIDS name, its gradients and its sidecar."""
    folder = root / "/".join(p for p in name.split("_") if p.startswith(("sub-", "ses-"))) / "dwi"
    folder.mkdir(parents=True, exist_ok=True)
    (root / "dataset_description.json").write_text('{"Name": "n", "BIDSVersion": "1.10.0"}')
    shape = (32, 32, 4, len(bvals)) if bvals else (32, 32, 4)
    voxels = np.random.default_rng(0).integers(1, 100, shape).astype(np.int16)
    image = nib.Nifti1Image(voxels, np.diag([0.9, 0.9, 5, 1]))
    nib.save(image, folder / f"{name}_dwi.nii.gz")
    if bvals:
        np.savetxt(folder / f"{name}_dwi.bval", [bvals], fmt="%g")
        np.savetxt(folder / f"{name}_dwi.bvec", BVECS[:, : len(bvals)], fmt="%.6f")
    if metadata:
        (folder / f"{name}_dwi.json").write_text(json.dumps(metadata))
    return folder


def plan(root: Path) -> str:
    """Describe the plan for a whole dataset."""
    settings = Settings()
    return describe_plan(*check_runs(find_runs(root), settings.gradients), settings)


def test_the_plan_shows_how_every_series_was_acquired(tmp_path):
    write_series(tmp_path, "sub-01_ses-pre_run-1", BVALS, PhaseEncodingDirection="j-")
    write_series(tmp_path, "sub-02_ses-pre", BVALS)
    title, header, first, second = plan(tmp_path).splitlines()
    assert title == "2 of 2 diffusion series can be processed."
    assert " ".join(header.split()) == (
        "sub ses series volumes dirs voxels (mm) slices phase fieldmap"
    )
    assert " ".join(first.split()) == "01 pre run-1 2 b0, 6 b800, 6 b1500 6 0.9x0.9x5 4 j- -"
    assert second.split()[:3] == ["02", "pre", "-"]
    assert "n/a" in second.split()


def test_what_the_user_says_of_the_phase_stands_in_the_plan(tmp_path):
    write_series(tmp_path, "sub-01", BVALS)
    settings = change_settings(Settings(), {("distortion", "phase_encoding"): "j"})
    found = check_runs(find_runs(tmp_path), settings.gradients)
    assert describe_plan(*found, settings).splitlines()[2].split()[-2:] == ["j", "-"]


def test_columns_that_say_nothing_are_left_out(tmp_path):
    write_series(tmp_path, "sub-01", BVALS)
    header = plan(tmp_path).splitlines()[1].split()
    assert "ses" not in header
    assert "series" not in header


@pytest.mark.parametrize(("direction", "word"), [("j", "used"), ("j-", "not used")])
def test_a_fieldmap_is_used_or_the_plan_says_why_not(direction, word, tmp_path):
    said = {"B0FieldSource": "field", "PhaseEncodingDirection": "j-"}
    folder = write_series(tmp_path, "sub-01", BVALS, **said)
    (folder.parent / "fmap").mkdir()
    image = nib.Nifti1Image(np.ones((32, 32, 4), np.int16), np.diag([0.9, 0.9, 5, 1]))
    nib.save(image, folder.parent / "fmap" / "sub-01_dir-PA_epi.nii.gz")
    sidecar = folder.parent / "fmap" / "sub-01_dir-PA_epi.json"
    said = {"B0FieldIdentifier": "field", "PhaseEncodingDirection": direction}
    sidecar.write_text(json.dumps(said))
    text = plan(tmp_path)
    assert text.splitlines()[2].split("  ")[-1].strip() == word
    assert ("must be opposite" in " ".join(text.split())) == (word == "not used")


def test_all_faults_of_all_series_are_told_at_once(tmp_path):
    write_series(tmp_path, "sub-01", BVALS)
    (write_series(tmp_path, "sub-02", BVALS) / "sub-02_dwi.bvec").unlink()
    (write_series(tmp_path, "sub-03", BVALS) / "sub-03_dwi.bval").write_text("0 0 800\n")
    text = plan(tmp_path)
    assert text.startswith("1 of 3 diffusion series can be processed.")
    lines = " ".join(text.split())
    assert "sub-02: A diffusion series needs b-values and b-vectors" in lines
    assert "sub-03: b-values and b-vectors need one entry per volume" in lines


def test_the_plan_fits_a_terminal_but_paths_stay_whole(tmp_path):
    (write_series(tmp_path, "sub-02", BVALS) / "sub-02_dwi.bvec").unlink()
    write_series(tmp_path, "sub-01_ses-pre_acq-axial_run-01", BVALS, PhaseEncodingDirection="j-")
    text = plan(tmp_path)
    assert all(len(line) <= WIDTH or str(tmp_path) in line for line in text.splitlines())
    assert str(tmp_path / "sub-02" / "dwi" / "sub-02_dwi.bvec") in text


@pytest.mark.parametrize(
    ("name", "bvals"),
    [
        ("sub-01_acq-b0", [0, 0, 0]),
        ("sub-01_dir-PA", [5, 5]),
        ("sub-01_acq-b0", [0]),
        ("sub-01_acq-b0", None),
    ],
)
def test_a_companion_of_b0_volumes_is_skipped_and_no_fault(name, bvals, tmp_path):
    write_series(tmp_path, "sub-01", BVALS)
    write_series(tmp_path, name, bvals)
    good, left_out = check_runs(find_runs(tmp_path), GradientSettings())
    assert [run.prefix for run in good] == ["sub-01"]
    assert {run.prefix: error.exit_code for run, error in left_out.items()} == {name: 0}
    text = plan(tmp_path)
    assert "1 of 1 diffusion series can be processed." in text
    assert f"Skipped, which is no fault:\n  {name}: Every volume has b=0" in text


@pytest.mark.parametrize(
    ("name", "bvals", "removed", "exit_code"),
    [
        ("sub-01_dir-PA", [0, 5], (), 0),
        ("sub-01_dir-PA", [0, 5], (".bvec",), 0),
        ("sub-01_dir-PA", [0, 0, 0], (".bval", ".bvec"), 0),
        ("sub-01_dir-PA", [0, 0, 0], (".bval",), 65),
        ("sub-01_dir-PA", BVALS, (".bval", ".bvec"), 65),  # its gradients are missing
        ("sub-01_dir-PA", [0, 800, 0], (), 65),
        ("sub-01_dir-AP_run-2", [0, 5], (), 65),
        ("sub-01_dir-AP_run-2", [0, 0, 0], (".bval", ".bvec"), 65),
    ],
)
def test_reversed_b0_volumes_of_another_series_are_no_fault(
    name, bvals, removed, exit_code, tmp_path, capsys
):
    data = tmp_path / "data"
    write_series(data, "sub-01_dir-AP", BVALS, PhaseEncodingDirection="j-")
    folder = write_series(data, name, bvals)
    for end in removed:
        (folder / f"{name}_dwi{end}").unlink()
    words = [str(data), str(tmp_path / "out"), "participant", "-w", str(tmp_path / "work")]
    assert main([*words, "--dry-run"]) == exit_code
    said = capsys.readouterr().out
    assert (f"Skipped, which is no fault:\n  {name}: Every volume has b=0" in said) == (
        exit_code == 0
    )


@pytest.mark.parametrize(
    ("name", "bvals"),
    [
        ("sub-02_run-1", None),  # the only series of its participant
        ("sub-01_run-2", [0, 0, *[0.8] * 6]),  # ms/um2
        ("sub-01_run-2", [900, 900]),
    ],
)
def test_a_series_that_was_meant_to_be_one_stays_a_fault(name, bvals, tmp_path):
    write_series(tmp_path, "sub-01_run-1", BVALS)
    write_series(tmp_path, name, bvals)
    _, left_out = check_runs(find_runs(tmp_path), GradientSettings())
    assert {run.prefix: error.exit_code for run, error in left_out.items()} == {name: 65}


def test_a_dry_run_writes_nothing_and_ends_like_the_run_would(tmp_path, capsys):
    data, out, work = tmp_path / "data", tmp_path / "out", tmp_path / "work"
    write_series(data, "sub-01", BVALS)
    write_series(data, "sub-01_acq-b0", None)
    command = [str(data), str(out), "participant", "-w", str(work), "--dry-run"]
    assert main(command) == 0
    assert "1 of 1" in capsys.readouterr().out
    (write_series(data, "sub-02", BVALS) / "sub-02_dwi.bvec").unlink()
    assert main(command) == 65
    assert "sub-02_dwi.bvec is missing" in " ".join(capsys.readouterr().out.split())
    assert main([*command, "--exclude-participant-label", "02"]) == 0
    inside = [str(data), str(data / "out"), *command[2:], "--exclude-participant-label", "02"]
    assert main(inside) == 2
    assert "never written to" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_weights_that_are_needed_must_be_there(tmp_path, capsys):
    write_series(tmp_path / "data", "sub-01", BVALS)
    command = [str(tmp_path / "data"), str(tmp_path / "out"), "participant", "--dry-run"]
    absent = str(tmp_path / "ours.pt")
    assert main([*command, "--weights", absent]) == 2
    expected = f"Weights must be a file: --weights names {absent}, which is none"
    assert expected in capsys.readouterr().err
    assert main([*command, "--dwi-weights", absent]) == 0, "B0 alone does not use them"
    assert main([*command, "--dwi-weights", absent, "--segment-from", "b0+dwi"]) == 2


def test_where_every_series_has_b0_only_there_is_none_to_process(tmp_path, capsys):
    write_series(tmp_path / "data", "sub-01_acq-b0", [0, 0])
    command = [str(tmp_path / "data"), str(tmp_path / "out"), "participant", "--dry-run"]
    assert main(command) == 66
    assert "diffusion-weighted volumes" in capsys.readouterr().err


def test_excluding_everybody_is_an_empty_selection(tmp_path, capsys):
    write_series(tmp_path / "data", "sub-01", BVALS)
    command = [str(tmp_path / "data"), str(tmp_path / "out"), "participant", "--dry-run"]
    assert main([*command, "--exclude-participant-label", "sub-01"]) == 18
    assert "01" in capsys.readouterr().err


def test_the_last_line_of_the_result_says_what_the_exit_code_says(tmp_path):
    write_series(tmp_path, "sub-01", BVALS)
    write_series(tmp_path, "sub-02", BVALS)
    runs = find_runs(tmp_path)
    done = describe_result(runs, {}, tmp_path)
    assert done.splitlines()[-1].startswith("Done: 2 of 2 runs done.")
    failures = {"sub-02": ScsnetError("the reason")}
    failed = describe_result(runs, failures, tmp_path)
    assert "  sub-02: the reason" in failed
    assert failed.splitlines()[-1].startswith("Failed: sub-02. 1 of 2 runs done.")


def test_reasons_that_are_no_faults_do_not_change_the_exit_code():
    faults = [InputDataError("bad")]
    assert exit_code(faults) == 65
    assert SkippedSeries("nothing to fit").exit_code == 0
    assert exit_code([*faults, ScsnetError("crashed")]) == 1
