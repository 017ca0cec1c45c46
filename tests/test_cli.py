"""The whole app, from the command line to the files, on a small phantom."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from scsnet_bids import phantom
from scsnet_bids.cli import main
from scsnet_bids.gradients import read_gradients, write_gradients
from scsnet_bids.images import read_grid
from scsnet_bids.setting_values import settings_from_toml
from scsnet_bids.settings import Settings

TABLE = "{0}/dwi/{0}_model-tensor_seg-SCSNet_scalarstats.tsv"
PRODUCTS = {
    "desc-preproc_dwi.nii.gz",
    "desc-preproc_dwi.bval",
    "desc-preproc_dwi.bvec",
    "desc-preproc_dwi.json",
    "desc-b0_dwiref.nii.gz",
    "desc-b0_dwiref.json",
    "desc-confounds_timeseries.tsv",
    "desc-confounds_timeseries.json",
    "desc-outliers_scalarstats.tsv",
    "desc-outliers_scalarstats.json",
    "from-orig_to-dwiref_mode-image_desc-slicewise_xfm.tsv",
    "from-orig_to-dwiref_mode-image_desc-slicewise_xfm.json",
    "from-dwiref_to-dwi_mode-image_desc-slicewise_xfm.tsv",
    "from-dwiref_to-dwi_mode-image_desc-slicewise_xfm.json",
    "label-SC_mask.nii.gz",
    "label-SC_mask.json",
    "seg-SCSNet_dseg.nii.gz",
    "seg-SCSNet_dseg.tsv",
    "seg-SCSNet_dseg.json",
    "seg-SCSNet_probseg.nii.gz",
    "seg-SCSNet_probseg.json",
    "model-tensor_seg-SCSNet_scalarstats.tsv",
    "model-tensor_seg-SCSNet_scalarstats.json",
    "desc-shape_scalarstats.tsv",
    "desc-shape_scalarstats.json",
    "desc-image_qc.tsv",
    "desc-image_qc.json",
} | {
    f"model-tensor_param-{param}_dwimap.{extension}"
    for param in ("fa", "md", "ad", "rd", "diffusivity", "direction")
    for extension in ("nii.gz", "json")
}


def write_phantom(folder: Path, participants: int) -> Path:
    """Write a small phantom dataset."""
    assert phantom.main([str(folder), "--participants", str(participants), "--tiny"]) == 0
    return folder


def checksums(folder: Path) -> dict[str, str]:
    """Sum of every file of a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Run both levels once on two good participants and one without b-vectors."""
    root = tmp_path_factory.mktemp("app")
    data = write_phantom(root / "data", 3)
    (data / "sub-03" / "dwi" / "sub-03_dwi.bvec").unlink()
    before = checksums(data)
    arguments = [str(data), str(root / "out"), "participant", "-w", str(root / "work")]
    codes = {"participant": main(arguments)}
    codes["group"] = main([str(data), str(root / "out"), "group"])
    return {"root": root, "codes": codes, "before": before, "arguments": arguments}


def test_a_bad_run_gives_its_exit_code_and_leaves_the_others_alone(run):
    assert run["codes"] == {"participant": 65, "group": 0}
    out = run["root"] / "out"
    assert (out / TABLE.format("sub-01")).exists()
    assert (out / TABLE.format("sub-02")).exists()
    assert not (out / "sub-03").exists()


def test_nothing_is_written_into_the_input(run):
    assert checksums(run["root"] / "data") == run["before"]


def test_every_product_lies_under_its_name(run):
    folder = run["root"] / "out" / "sub-01" / "dwi"
    assert {path.name.removeprefix("sub-01_") for path in folder.iterdir()} == PRODUCTS


def test_the_output_is_a_valid_bids_dataset(run):
    validator = shutil.which("bids-validator-deno", path=str(Path(sys.executable).parent))
    if validator is None:
        pytest.skip("bids-validator-deno is not installed, so nothing is proved")
    done = subprocess.run(
        [validator, "--format", "json", str(run["root"] / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    errors = [issue for issue in issues if issue["severity"] == "error"]
    assert (done.returncode, errors) == (0, [])


def test_the_command_and_its_settings_lie_beside_its_results(run):
    (path,) = (run["root"] / "out" / "logs").glob("scsnet-bids_*.toml")
    text = path.read_text()
    assert settings_from_toml(text) == Settings()
    assert f"# scsnet-bids {shlex.join(run['arguments'])}\n" in text


def test_regions_lie_on_their_sides_and_in_their_order(run):
    image = nib.load(run["root"] / "out/sub-01/dwi/sub-01_seg-SCSNet_dseg.nii.gz")
    labels = np.asarray(image.dataobj)
    for k in np.flatnonzero(labels.any(axis=(0, 1))):
        x, y = {}, {}
        for label in range(1, 9):
            i, j = np.argwhere(labels[..., k] == label).mean(axis=0)
            x[label], y[label], _ = nib.affines.apply_affine(image.affine, [i, j, k])
        assert all(x[left] < x[left + 1] for left in (1, 3, 5, 7))  # RAS+: left is negative
        assert all(y[dorsal] < y[dorsal + 2] for dorsal in (3, 4))


def test_a_repeated_command_reuses_everything_and_changes_nothing(run):
    out, work = run["root"] / "out", run["root"] / "work"
    tables = {path: path.read_bytes() for path in sorted(out.rglob("*.tsv"))}
    results = {path: path.stat().st_mtime_ns for path in work.rglob("apply_correction/*.nii.gz")}
    assert results
    assert main(run["arguments"]) == 65
    assert {path: path.read_bytes() for path in sorted(out.rglob("*.tsv"))} == tables
    assert {path: path.stat().st_mtime_ns for path in results} == results


def test_a_deleted_output_comes_back_from_the_work_folder(run):
    table = run["root"] / "out" / TABLE.format("sub-02")
    content = table.read_bytes()
    table.unlink()
    main([*run["arguments"], "--participant-label", "sub-02"])
    assert table.read_bytes() == content


def test_two_processes_give_the_same_tables(run):
    out = run["root"] / "out_two"
    arguments = [run["arguments"][0], str(out), "participant", "--nprocs", "2"]
    arguments += ["-w", str(run["root"] / "work_two"), "--participant-label", "01", "02"]
    assert main(arguments) == 0
    for participant in ("sub-01", "sub-02"):
        one = run["root"] / "out" / TABLE.format(participant)
        assert (out / TABLE.format(participant)).read_bytes() == one.read_bytes()


def test_the_group_tables_hold_every_participant(run):
    out = run["root"] / "out"
    long = pd.read_csv(out / "group_scalarstats.tsv", sep="\t", na_values="n/a")
    wide = pd.read_csv(out / "group_wide_scalarstats.tsv", sep="\t", na_values="n/a")
    assert set(long["participant_id"]) == {"sub-01", "sub-02"}
    assert wide["participant_id"].tolist() == ["sub-01", "sub-02"]
    assert json.loads((out / "group_scalarstats.json").read_text()).keys() == set(long.columns)


def test_the_outputs_can_be_read_by_pybids(run):
    """Sidecars of group tables lie in the root, and speak of all files below."""
    from bids import BIDSLayout

    layout = BIDSLayout(run["root"] / "out", validate=False, is_derivative=True)
    assert "Sessions: 0 | Runs: 0" in repr(layout)
    assert {"01", "02"} <= set(layout.get_subjects())
    tables = layout.get(suffix="scalarstats", subject="01", extension=".tsv")
    assert len(tables) == 3


def test_reports_are_written_again_from_the_outputs_alone(run, capsys):
    out, nowhere = run["root"] / "out", str(run["root"] / "nowhere")
    page = out / "sub-01.html"
    before = page.read_text()
    page.unlink()
    assert main([nowhere, str(out), "participant", "--reports-only"]) == 0
    assert page.read_text() == before
    assert "3 of 3 pages written" in capsys.readouterr().out
    code = main([nowhere, str(out), "participant", "--reports-only", "--participant-label", "9"])
    assert code == 18
    assert "none of sub-9" in capsys.readouterr().err


@pytest.fixture(scope="module")
def restored(run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the app on one participant's scan, stored in four voxel orders."""
    root = tmp_path_factory.mktemp("orders")
    source = run["root"] / "data" / "sub-01" / "dwi" / "sub-01_dwi.nii.gz"
    data = root / "data"
    for order in ("RAS", "LPS", "RPI", "ASL"):
        store_as(source, data / f"sub-{order}" / "dwi" / f"sub-{order}_dwi.nii.gz", order)
    shutil.copy(run["root"] / "data" / "dataset_description.json", data)
    assert main([str(data), str(root / "out"), "participant", "-w", str(root / "work")]) == 0
    return root / "out"


def store_as(source: Path, path: Path, order: str) -> None:
    """Store a series with its gradients in another voxel order."""
    path.parent.mkdir(parents=True)
    image = nib.load(source)
    turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(order))
    affine = image.affine @ inv_ornt_aff(turn, image.shape[:3])
    nib.save(nib.Nifti1Image(apply_orientation(np.asarray(image.dataobj), turn), affine), path)
    stem, copy = str(source).removesuffix(".nii.gz"), str(path).removesuffix(".nii.gz")
    grid, n_volumes = read_grid(source)
    gradients = read_gradients(Path(stem + ".bval"), Path(stem + ".bvec"), grid, n_volumes, source)
    new_grid, _ = read_grid(path)
    write_gradients(Path(copy + ".bval"), Path(copy + ".bvec"), gradients, new_grid)


@pytest.mark.parametrize("order", ["RAS", "LPS", "RPI", "ASL"])
def test_every_storage_order_gives_the_same_table(run, restored, order):
    expected = pd.read_csv(run["root"] / "out" / TABLE.format("sub-01"), sep="\t", na_values="n/a")
    found = pd.read_csv(restored / TABLE.format(f"sub-{order}"), sep="\t", na_values="n/a")
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("order", ["RAS", "LPS", "RPI", "ASL"])
def test_outputs_keep_the_storage_order_of_the_input(restored, order):
    mask = nib.load(restored / f"sub-{order}/dwi/sub-{order}_label-SC_mask.nii.gz")
    assert "".join(nib.aff2axcodes(mask.affine)) == order


def test_a_process_ends_without_looking_for_garbage_in_all_it_holds(tmp_path: Path):
    words = [str(tmp_path / "nothing"), str(tmp_path / "out"), "participant"]
    script = (
        "import atexit, gc, sys; atexit.register(lambda: print(gc.get_freeze_count() > 1000)); "
        f"from scsnet_bids.cli import main; sys.exit(main({words!r}))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1] == "True"
