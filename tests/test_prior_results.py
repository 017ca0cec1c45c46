"""What other tools have found takes the place of what would be computed, and is named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scsnet_bids.bids import find_runs
from scsnet_bids.cli import main
from scsnet_bids.derivatives import read_table
from scsnet_bids.errors import ImageError, InputDataError, UsageError
from scsnet_bids.phantom import TINY, write_dataset
from scsnet_bids.prior_results import (
    check_prior,
    find_prior,
    find_taken,
    level_source,
    list_datasets,
    settings_of_run,
    take_series,
)
from scsnet_bids.runs import DwiRun
from scsnet_bids.setting_values import change_settings
from scsnet_bids.settings import Settings

SERIES = "sub-01_dwi"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a dataset of one participant, and results of other tools on it."""
    root = tmp_path_factory.mktemp("prior")
    write_dataset(root / "data", TINY, participants=1, seed=0)
    series = root / "data/sub-01/dwi/sub-01_dwi.nii.gz"
    for folder in ("qsiprep", "sct"):
        (root / folder / "sub-01/dwi").mkdir(parents=True)
    for end in (".nii.gz", ".bval", ".bvec"):
        stem = root / "qsiprep/sub-01/dwi/sub-01_space-T1w_desc-preproc_dwi"
        shutil.copy(series.with_name(SERIES + end), f"{stem}{end}")
    truth = next((root / "data/derivatives").glob("*/sub-01/dwi/*_dseg.nii.gz"))
    labels = nib.load(truth)
    mask = nib.Nifti1Image((np.asarray(labels.dataobj) > 0).astype(np.uint8), labels.affine)
    nib.save(mask, root / "sct/sub-01/dwi/sub-01_dwi_seg.nii.gz")
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """Copy all of it."""
    return shutil.copytree(made, tmp_path / "copy")


@pytest.fixture
def run(root: Path) -> DwiRun:
    """Find the only run."""
    (found,) = find_runs(root / "data")
    return found


def settings_with(*folders: Path | str) -> Settings:
    """Return settings that take results from folders."""
    return change_settings(Settings(), {("derivatives", "folders"): tuple(map(str, folders))})


def test_a_corrected_series_takes_the_place_of_the_run_under_the_same_name(root, run):
    folders = [str(root / "qsiprep")]
    (taken,) = take_series([run], folders)
    assert taken.image.name == "sub-01_space-T1w_desc-preproc_dwi.nii.gz"
    assert taken.bval.is_file()
    assert taken.bvec.is_file()
    assert (taken.prefix, taken.sidecars) == (run.prefix, run.sidecars)
    assert find_prior(taken, folders).series == taken.image


def test_nothing_that_the_other_tool_has_corrected_is_corrected_again(root, run):
    settings = change_settings(settings_with(root / "qsiprep"), {("denoising", "method"): "mppca"})
    own = settings_of_run(run, settings)
    assert (own.motion.method, own.denoising.method, own.distortion.method) == ("none",) * 3
    assert settings_of_run(run, settings_with(root / "sct")) == settings_with(root / "sct")


def test_the_first_folder_that_has_a_result_gives_it(root, run):
    shutil.copytree(root / "qsiprep", root / "other")
    shutil.copytree(root / "sct/sub-01", root / "other/sub-01", dirs_exist_ok=True)
    prior = find_prior(run, [str(root / "sct"), f"x={root / 'other'}"])
    assert prior.cord_mask.is_relative_to(root / "sct")
    assert prior.series.is_relative_to(root / "other")


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("sub-01_label-SC_mask.nii.gz", True),
        ("sub-01_desc-moco_label-SC_seg.nii", True),
        ("sub-01_dwi_moco_dwi_mean_seg.nii.gz", True),
        ("sub-01_seg-SCSNet_dseg.nii.gz", True),
        ("sub-01_desc-brain_mask.nii.gz", False),
        ("sub-01_dwi_gmseg.nii.gz", False),
        ("sub-01_run-2_label-SC_mask.nii.gz", False),
        ("sub-01_label-GM_mask.nii.gz", False),
    ],
)
def test_a_mask_of_the_cord_is_known_by_its_name(root, run, name, taken):
    (root / "sct/sub-01/dwi/sub-01_dwi_seg.nii.gz").rename(root / "sct/sub-01/dwi" / name)
    assert (find_prior(run, [str(root / "sct")]).cord_mask is not None) == taken


def test_a_series_of_another_run_is_not_taken(root, run):
    folder = root / "qsiprep/sub-01/dwi"
    for path in folder.iterdir():
        path.rename(folder / path.name.replace("_space", "_run-2_space"))
    assert not find_prior(run, [str(root / "qsiprep")])


def test_runs_are_compared_as_numbers_and_those_without_results_are_named(root, run, caplog):
    for path in [*root.glob("qsiprep/*/dwi/*"), *root.glob("sct/*/dwi/*")]:
        path.rename(path.with_name(path.name.replace("sub-01_", "sub-01_run-1_")))
    (root / "sct/sub-01/dwi/sub-01_run-1_level-labels_dseg.nii.gz").touch()
    settings = settings_with(root / "qsiprep", root / "sct")
    first, second, third = (
        replace(run, entities=(("sub", "01"), ("run", number))) for number in ("01", "02", "10")
    )
    assert find_taken(first, settings).keys() == {"series", "cord_mask", "levels"}
    assert check_prior([first], {}, settings_with(root / "qsiprep")) == ([first], {})
    assert not caplog.text
    runs = [first, second, third]
    assert check_prior(runs, {}, settings_with(root / "qsiprep")) == (runs, {})
    assert "nothing of sub-01_run-02, sub-01_run-10: processed from" in caplog.text
    assert len(caplog.records) == 1


def test_two_corrected_series_of_a_run_are_refused(root, run):
    folder = root / "qsiprep/sub-01/dwi"
    first = folder / "sub-01_space-T1w_desc-preproc_dwi.nii.gz"
    shutil.copy(first, folder / "sub-01_space-orig_desc-preproc_dwi.nii.gz")
    with pytest.raises(InputDataError, match=r"one corrected series of sub-01.*Leave one"):
        find_prior(run, [str(root / "qsiprep")])


def test_two_corrected_series_are_a_fault_of_their_run_alone(root, capsys):
    shutil.copytree(root / "data/sub-01", root / "data/sub-02")
    for path in (root / "data/sub-02").rglob("sub-01*"):
        path.rename(path.with_name(path.name.replace("sub-01", "sub-02")))
    folder = root / "qsiprep/sub-01/dwi"
    first = folder / "sub-01_space-T1w_desc-preproc_dwi.nii.gz"
    shutil.copy(first, folder / "sub-01_space-orig_desc-preproc_dwi.nii.gz")
    words = [str(root / "data"), str(root / "out"), "participant", "-w", str(root / "work")]
    assert main([*words, "--derivatives", str(root / "qsiprep"), "--dry-run"]) == 65
    said = " ".join(capsys.readouterr().out.split())
    assert "1 of 2 diffusion series can be processed" in said
    assert "sub-01: A folder of --derivatives may have one corrected series of sub-01" in said


def test_a_mask_on_other_voxels_is_named_and_its_run_left_out(root, run):
    path = root / "sct/sub-01/dwi/sub-01_dwi_seg.nii.gz"
    nib.save(nib.load(path).slicer[1:], path)
    good, left_out = check_prior([run], {}, settings_with(root / "sct"))
    assert good == []
    assert isinstance(left_out[run], ImageError)
    assert "must have the voxels of its series" in str(left_out[run])
    assert str(path) in str(left_out[run])


def test_an_empty_mask_is_named(root, run):
    path = root / "sct/sub-01/dwi/sub-01_dwi_seg.nii.gz"
    mask = nib.load(path)
    nib.save(nib.Nifti1Image(np.zeros(mask.shape, np.uint8), mask.affine), path)
    _, left_out = check_prior([run], {}, settings_with(root / "sct"))
    assert "marks none" in str(left_out[run])


def test_folders_with_nothing_for_any_run_are_an_error(root, run):
    (root / "empty").mkdir()
    with pytest.raises(UsageError, match=r"neither a corrected series.*of sub-01 in"):
        check_prior([run], {}, settings_with(root / "empty"))


def test_labels_of_levels_are_taken_unless_others_are_named(root, run):
    series = nib.load(root / "data/sub-01/dwi/sub-01_dwi.nii.gz")
    labels = np.zeros(series.shape[:3], np.uint8)
    middle = series.shape[0] // 2
    labels[middle, middle] = np.arange(series.shape[2], 0, -1)
    path = root / "sct/sub-01/dwi/sub-01_dwi_label-vertebrae_dseg.nii.gz"
    nib.save(nib.Nifti1Image(labels, series.affine), path)
    settings = settings_with(root / "sct")
    assert find_taken(run, settings)["levels"] == path
    assert level_source(run, settings) == str(root / "sct")
    named = change_settings(settings, {("regional", "levels"): str(root)})
    assert "levels" not in find_taken(run, named)
    assert level_source(run, named) == str(root)


def test_datasets_have_names_of_their_own(tmp_path):
    for name in ("one/sct", "two/sct", "raw"):
        (tmp_path / name).mkdir(parents=True)
    words = [str(tmp_path / "one/sct"), f"mine={tmp_path / 'two/sct'}"]
    assert list(list_datasets(words)) == ["sct", "mine"]
    with pytest.raises(UsageError, match="name of its own"):
        list_datasets([str(tmp_path / "one/sct"), str(tmp_path / "two/sct")])
    with pytest.raises(UsageError, match="name of its own"):
        list_datasets([str(tmp_path / "raw")])
    with pytest.raises(UsageError, match=r"absent is none\. Correct the path"):
        list_datasets([str(tmp_path / "absent")])


def test_series_and_cord_of_other_tools_go_through_and_are_named_everywhere(root, capsys):
    words = [str(root / "data"), str(root / "out"), "participant", "-w", str(root / "work")]
    # The other tool has stored the second axis the other way.
    (root / "data/sub-01/dwi/sub-01_dwi.json").write_text('{"PhaseEncodingDirection": "j-"}')
    own = root / "qsiprep/sub-01/dwi/sub-01_space-T1w_desc-preproc_dwi.json"
    own.write_text('{"PhaseEncodingDirection": "j"}')
    others = ["--derivatives", f"pre={root / 'qsiprep'}", str(root / "sct"), "--nprocs", "1"]
    assert main([*words, *others]) == 0
    said = capsys.readouterr().out
    assert f"sub-01: series of {root / 'qsiprep'}" in said
    assert f"sub-01: cord mask of {root / 'sct'}" in said
    folder = root / "out/sub-01/dwi"
    sources = {
        name: json.loads((folder / f"sub-01_{name}.json").read_text())["Sources"]
        for name in ("desc-preproc_dwi", "label-SC_mask")
    }
    series = "bids:pre:sub-01/dwi/sub-01_space-T1w_desc-preproc_dwi.nii.gz"
    mask_uri = "bids:sct:sub-01/dwi/sub-01_dwi_seg.nii.gz"
    assert sources["desc-preproc_dwi"] == [series]
    assert mask_uri in sources["label-SC_mask"]
    sidecar = json.loads((folder / "sub-01_desc-preproc_dwi.json").read_text())
    assert sidecar["PhaseEncodingDirection"] == "j"
    assert "left as another tool" in sidecar["DistortionCorrection"]["Description"]
    quality = read_table(folder / "sub-01_desc-image_qc.tsv").iloc[0]
    assert np.isnan(quality["untrusted_share"])
    assert "many_untrusted" not in str(quality["flag"])
    links = json.loads((root / "out/dataset_description.json").read_text())["DatasetLinks"]
    assert links == {"raw": "../data", "pre": "../qsiprep", "sct": "../sct"}
    page = (root / "out/sub-01.html").read_text()
    assert series in page
    assert mask_uri in page
    methods = (root / "out/logs/CITATION.md").read_text()
    assert "had been corrected by another tool" in methods
    assert "fill the outline that was given" in methods
    given, found = (
        np.asarray(nib.load(path).dataobj) > 0
        for path in (
            root / "sct/sub-01/dwi/sub-01_dwi_seg.nii.gz",
            folder / "sub-01_label-SC_mask.nii.gz",
        )
    )
    assert 2 * (given & found).sum() / (given.sum() + found.sum()) > 0.97
