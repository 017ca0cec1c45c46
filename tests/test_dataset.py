from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from scsnet_bids import __version__
from scsnet_bids.bids import find_runs
from scsnet_bids.dataset import check_output_folder, write_dataset_files
from scsnet_bids.derivatives import (
    Derivative,
    derivative_uri,
    describe_image,
    output_path,
    raw_uri,
    save_derivative,
    write_sidecar,
    write_table,
)
from scsnet_bids.errors import OutputError, UsageError

VALIDATOR = Path(sys.executable).parent / "bids-validator-deno"


@pytest.fixture
def bids_dir(tmp_path: Path) -> Path:
    """Make an input dataset of one empty series."""
    root = tmp_path / "raw data"
    folder = root / "sub-01" / "ses-a" / "dwi"
    folder.mkdir(parents=True)
    description = {"Name": "made", "BIDSVersion": "1.10.0", "License": "CC0"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    for end in ("nii.gz", "bval", "bvec"):
        (folder / f"sub-01_ses-a_run-01_dwi.{end}").touch()
    return root


def described(out_dir: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((out_dir / "dataset_description.json").read_text())
    return content


def test_the_output_describes_itself(bids_dir: Path, tmp_path: Path) -> None:
    write_dataset_files(tmp_path / "out", bids_dir)
    description = described(tmp_path / "out")
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"] == [{"Name": "scsnet-bids", "Version": __version__}]
    assert description["DatasetLinks"] == {"raw": "../raw%20data"}
    assert description["License"] == "CC0"
    assert "sub-*/figures\n" in (tmp_path / "out/.bidsignore").read_text()
    assert "patient's left" in (tmp_path / "out/README.md").read_text()


def test_a_doi_of_the_source_is_passed_on(bids_dir: Path, tmp_path: Path) -> None:
    source = {"Name": "made", "BIDSVersion": "1.10.0", "DatasetDOI": "doi:10.0/x"}
    (bids_dir / "dataset_description.json").write_text(json.dumps(source))
    write_dataset_files(tmp_path / "out", bids_dir)
    assert described(tmp_path / "out")["SourceDatasets"] == [{"DOI": "doi:10.0/x"}]


def test_writing_again_changes_nothing(bids_dir: Path, tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        write_dataset_files(tmp_path / "out", bids_dir)
        contents.append({p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 3


def test_the_derivatives_folder_of_the_input_may_be_written(bids_dir: Path) -> None:
    out_dir = bids_dir / "derivatives" / "scsnet-bids"
    write_dataset_files(out_dir, bids_dir)
    assert described(out_dir)["DatasetLinks"] == {"raw": "../.."}
    assert len(find_runs(bids_dir)) == 1


def test_an_odd_name_under_derivatives_is_remarked_on(
    bids_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        write_dataset_files(bids_dir / "derivatives" / "mine", bids_dir)
    assert "called scsnet-bids" in caplog.text


@pytest.mark.parametrize("folder", [".", "out", "derivatives", "sub-01/dwi", "x/../code"])
def test_the_input_is_never_written_to(folder: str, bids_dir: Path) -> None:
    before = sorted(bids_dir.rglob("*"))
    with pytest.raises(UsageError, match="never written to") as caught:
        check_output_folder(bids_dir / folder, bids_dir)
    assert str(bids_dir / "derivatives" / "scsnet-bids") in str(caught.value)
    assert sorted(bids_dir.rglob("*")) == before


def test_a_link_into_the_input_is_seen_through(bids_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(bids_dir)
    with pytest.raises(UsageError, match="never written to"):
        check_output_folder(tmp_path / "link" / "out", bids_dir)


@pytest.mark.parametrize("name", ["sub-01/dwi", "sub-01/figures", "sub-01/ses-a/dwi"])
def test_a_link_deep_in_the_output_is_seen_through(
    name: str, bids_dir: Path, tmp_path: Path
) -> None:
    link = tmp_path / "out" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(bids_dir / "sub-01" / "ses-a" / "dwi")
    with pytest.raises(UsageError, match="never written to"):
        check_output_folder(tmp_path / "out", bids_dir)


def test_the_folder_around_the_input_may_be_written(bids_dir: Path, tmp_path: Path) -> None:
    check_output_folder(tmp_path, bids_dir)
    check_output_folder(tmp_path / "raw data 2", bids_dir)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw data", "raw data 2"]


@pytest.mark.parametrize(
    "description",
    ['{"Name": "raw", "BIDSVersion": "1.10.0"}', '{"GeneratedBy": [{"Name": "fmriprep"}]}'],
)
def test_another_dataset_is_never_overwritten(
    description: str, bids_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/dataset_description.json").write_text(description)
    with pytest.raises(OutputError, match="belongs to another dataset") as caught:
        write_dataset_files(tmp_path / "out", bids_dir)
    assert caught.value.exit_code == 73
    assert (tmp_path / "out/dataset_description.json").read_text() == description


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "Expecting value"), ("[1]", "holds no object"), (None, "run datalad get")],
)
def test_a_description_that_cannot_be_read_is_told_as_such(
    text: str | None, reason: str, bids_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out/dataset_description.json"
    path.parent.mkdir()
    if text is None:
        path.symlink_to(".git/annex/objects/a")
    else:
        path.write_text(text)
    with pytest.raises(OutputError, match=f"description.json cannot be read .*{reason}"):
        write_dataset_files(tmp_path / "out", bids_dir)


@pytest.mark.parametrize(
    "name", ["README.md", "participants.tsv", ".bidsignore", "sub-01/dwi/x.tsv", "notes/a.txt"]
)
def test_files_of_somebody_else_are_never_overwritten(
    name: str, bids_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(OutputError, match=f"holds {Path(name).parts[0]}. Move") as caught:
        write_dataset_files(tmp_path / "out", bids_dir)
    assert caught.value.exit_code == 73
    assert path.read_text() == "mine"
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == [path]


def test_what_is_never_overwritten_is_no_reason_to_refuse(bids_dir: Path, tmp_path: Path) -> None:
    names = ["logs/slurm/x/submit.sh", "work/scsnet/a.pklz", ".git/config", ".datalad/config"]
    names += [".DS_Store", ".snapshot/a", "lost+found/a", "code/run.sh", "scratch/.cache/a"]
    for path in (tmp_path / "out" / name for name in names):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    bids_dir = bids_dir.rename(tmp_path / "out" / "raw")
    write_dataset_files(tmp_path / "out", bids_dir)
    (tmp_path / "out" / "notes.txt").touch()  # nothing is refused in one's own output
    write_dataset_files(tmp_path / "out", bids_dir)
    assert described(tmp_path / "out")["DatasetLinks"] == {"raw": "raw"}


def test_a_folder_that_cannot_be_made_is_named(bids_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file/out is not"):
        check_output_folder(tmp_path / "file" / "out", bids_dir)


def save_everything(bids_dir: Path, out_dir: Path) -> None:
    """Write every file that the design lists, with as little content as possible."""
    (run,) = find_runs(bids_dir)
    reference = output_path(out_dir, run, suffix="dwi", extension=".nii.gz", desc="preproc")
    seen = describe_image("x", [raw_uri(run)], derivative_uri(reference, out_dir))
    columns = {"slice": {"Description": "slice number"}}
    image, table, text = (out_dir / name for name in ("image.nii.gz", "table.tsv", "gradients"))
    voxels = nib.Nifti1Image(np.zeros((2, 2, 2, 7), np.float32), np.eye(4))
    voxels.header.set_xyzt_units("mm", "sec")
    nib.save(voxels, image)
    write_table(table, pd.DataFrame({"slice": [0]}))
    text.write_text("0 1 1 1 1 1 1\n")
    slicewise = {"mode": "image", "desc": "slicewise"}
    products = [
        ("dwi", {"desc": "preproc"}, image),
        ("dwi", {"desc": "preproc"}, text),
        ("dwiref", {"desc": "b0"}, image),
        ("timeseries", {"desc": "confounds"}, table),
        ("xfm", {"from": "orig", "to": "dwiref", **slicewise}, table),
        ("xfm", {"from": "dwiref", "to": "dwi", **slicewise}, table),
        ("mask", {"label": "SC"}, image),
        ("dseg", {"seg": "SCSNet"}, image),
        ("probseg", {"seg": "SCSNet"}, image),
        *[
            ("dwimap", {"model": "tensor", "param": name}, image)
            for name in ("fa", "md", "ad", "rd", "diffusivity", "direction")
        ],
        ("scalarstats", {"model": "tensor", "seg": "SCSNet"}, table),
        ("scalarstats", {"desc": "shape"}, table),
        ("qc", {"desc": "image"}, table),
    ]
    for suffix, entities, source in products:
        extension = {image: ".nii.gz", table: ".tsv", text: ".bval"}[source]
        path = output_path(out_dir, run, suffix=suffix, extension=extension, **entities)
        sidecar = {image: seen, table: columns, text: None}[source]
        if suffix == "probseg":
            sidecar = seen | {"LabelMap": ["background", "cord"]}
        save_derivative(Derivative(suffix, path, sidecar), source)
    labels = output_path(out_dir, run, suffix="dseg", extension=".tsv", seg="SCSNet")
    write_table(labels, pd.DataFrame({"index": [1], "name": ["left_lateral_column"]}))
    bvec = output_path(out_dir, run, suffix="dwi", extension=".bvec", desc="preproc")
    bvec.write_text("0 1 1 1 1 1 1\n" * 3)
    for source in (image, table, text):
        source.unlink()
    (out_dir / "sub-01/figures").mkdir()
    (out_dir / "logs").mkdir()
    loose = ("sub-01/figures/x.svg", "sub-01.html", "group.html", "group_x.tsv", "logs/x.txt")
    for name in loose:
        (out_dir / name).write_text("a\n1\n")
    write_sidecar(out_dir / "group_x.json", columns)


@pytest.mark.skipif(not VALIDATOR.exists(), reason="bids-validator-deno IS NOT INSTALLED")
def test_the_validator_finds_no_error_in_a_complete_output(bids_dir: Path, tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    write_dataset_files(out_dir, bids_dir)
    save_everything(bids_dir, out_dir)
    command = [str(VALIDATOR), "--format", "json", str(out_dir)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    issues = json.loads(result.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert result.returncode == 0


@pytest.mark.skipif(not VALIDATOR.exists(), reason="bids-validator-deno IS NOT INSTALLED")
def test_the_validator_would_find_an_error(bids_dir: Path, tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    write_dataset_files(out_dir, bids_dir)
    save_everything(bids_dir, out_dir)
    (out_dir / ".bidsignore").write_text("")
    command = [str(VALIDATOR), str(out_dir)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 16


def test_who_the_participants_are_is_copied_for_the_group_level(
    bids_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = "participant_id\tgroup\nsub-01\tcontrol\n"
    (bids_dir / "participants.tsv").write_text(table)
    write_dataset_files(tmp_path / "out", bids_dir)
    assert (tmp_path / "out/participants.tsv").read_text() == table
    assert not (tmp_path / "out/participants.json").exists()
    (bids_dir / "participants.tsv").write_bytes(b"\xff\xfe\x00")
    write_dataset_files(tmp_path / "out", bids_dir)
    assert (tmp_path / "out/participants.tsv").read_text() == table
    assert "participants.tsv is not copied" in caplog.text


def test_participants_whose_table_is_not_fetched_are_warned_of(
    bids_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (bids_dir / "participants.tsv").symlink_to(".git/annex/objects/a")
    write_dataset_files(tmp_path / "out", bids_dir)
    assert "participants.tsv is not copied" in caplog.text
    assert "run datalad get" in caplog.text
    assert "participants.json" not in caplog.text
