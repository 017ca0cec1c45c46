from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scsnet_bids.derivatives import (
    Derivative,
    carry_over,
    derivative_uri,
    describe_image,
    output_name,
    output_path,
    raw_uri,
    read_table,
    read_words,
    save_derivative,
    sidecar_path,
    write_sidecar,
    write_table,
)
from scsnet_bids.errors import InputDataError, WiringError
from scsnet_bids.runs import DwiRun

ENTITIES = (("sub", "01"), ("ses", "pre"), ("dir", "AP"), ("run", "01"))
P = "sub-01_ses-pre_dir-AP_run-01"
SOURCE = Path("/data/sub-01/ses-pre/dwi")
RUN = DwiRun(
    SOURCE / f"{P}_dwi.nii.gz", SOURCE / f"{P}_dwi.bval", SOURCE / f"{P}_dwi.bvec", (), ENTITIES
)


@pytest.mark.parametrize(
    ("entities", "suffix", "extension", "expected"),
    [
        ({"desc": "preproc"}, "dwi", ".nii.gz", "desc-preproc_dwi.nii.gz"),
        ({"desc": "preproc"}, "dwi", ".bvec", "desc-preproc_dwi.bvec"),
        ({"desc": "b0"}, "dwiref", ".nii.gz", "desc-b0_dwiref.nii.gz"),
        ({"desc": "confounds"}, "timeseries", ".tsv", "desc-confounds_timeseries.tsv"),
        (
            {"desc": "slicewise", "mode": "image", "to": "dwiref", "from": "orig"},
            "xfm",
            ".tsv",
            "from-orig_to-dwiref_mode-image_desc-slicewise_xfm.tsv",
        ),
        ({"label": "SC"}, "mask", ".nii.gz", "label-SC_mask.nii.gz"),
        ({"seg": "SCSNet"}, "probseg", ".json", "seg-SCSNet_probseg.json"),
        (
            {"param": "fa", "model": "tensor"},
            "dwimap",
            ".nii.gz",
            "model-tensor_param-fa_dwimap.nii.gz",
        ),
        (
            {"seg": "SCSNet", "model": "tensor"},
            "scalarstats",
            ".tsv",
            "model-tensor_seg-SCSNet_scalarstats.tsv",
        ),
        ({"desc": "image"}, "qc", ".tsv", "desc-image_qc.tsv"),
    ],
)
def test_outputs_are_named_as_the_design_lists_them(
    entities: dict[str, str], suffix: str, extension: str, expected: str
) -> None:
    path = output_path(Path("/out"), RUN, suffix=suffix, extension=extension, **entities)
    assert path == Path("/out/sub-01/ses-pre/dwi") / f"{P}_{expected}"


@pytest.mark.parametrize(
    ("entities", "suffix", "extension"),
    [
        ({}, "dwi", ".nii.gz"),
        ({"space": "T2w"}, "dwimap", ".nii.gz"),
        ({"desc": "pre_proc"}, "dwi", ".nii.gz"),
        ({"desc": ""}, "dwi", ".nii.gz"),
        ({"desc": "preproc"}, "dwi", "nii.gz"),
    ],
    ids=["raw_name", "unknown_entity", "underscore", "empty", "no_dot"],
)
def test_a_name_that_nobody_could_read_back_is_refused(
    entities: dict[str, str], suffix: str, extension: str
) -> None:
    with pytest.raises(WiringError, match="entities out of from, to"):
        output_name(RUN, suffix=suffix, extension=extension, **entities)


@pytest.mark.parametrize("name", ["a_dwimap.nii.gz", "a_dwimap.tsv", "a_dwimap.nii"])
def test_a_sidecar_lies_beside_its_file(name: str) -> None:
    assert sidecar_path(Path("/out") / name) == Path("/out/a_dwimap.json")


def test_uris_are_relative_to_their_dataset() -> None:
    assert raw_uri(RUN) == f"bids:raw:sub-01/ses-pre/dwi/{P}_dwi.nii.gz"
    path = output_path(Path("/out"), RUN, suffix="dwi", extension=".nii.gz", desc="preproc")
    uri = f"bids::sub-01/ses-pre/dwi/{P}_desc-preproc_dwi.nii.gz"
    assert derivative_uri(path, Path("/out")) == uri


def test_an_image_is_described_as_the_standard_asks() -> None:
    sidecar = describe_image("Mean b=0 image.", [raw_uri(RUN)], "bids::x.nii.gz", Units="1")
    assert sidecar["SkullStripped"] is False
    assert sidecar["Sources"] == [raw_uri(RUN)]
    assert (sidecar["SpatialReference"], sidecar["Units"]) == ("bids::x.nii.gz", "1")


def test_metadata_that_stay_true_are_carried_over() -> None:
    metadata = {"EchoTime": 0.06, "PhaseEncodingDirection": "j-", "ConversionSoftware": "x"}
    assert carry_over(metadata) == {"EchoTime": 0.06, "PhaseEncodingDirection": "j-"}
    assert carry_over({}) == {}


def test_a_derivative_is_copied_with_its_sidecar(tmp_path: Path) -> None:
    source = tmp_path / "work.nii.gz"
    source.write_bytes(b"voxels")
    path = tmp_path / "out" / "sub-01" / "x_dwimap.nii.gz"
    assert save_derivative(Derivative("fa", path, {"Units": "1"}), source) == path
    assert path.read_bytes() == b"voxels"
    assert json.loads((path.parent / "x_dwimap.json").read_text()) == {"Units": "1"}


def test_a_derivative_without_sidecar_gets_none(tmp_path: Path) -> None:
    (tmp_path / "work.bval").write_text("0 1\n")
    path = tmp_path / "out" / "x_dwi.bval"
    save_derivative(Derivative("corrected_bval", path), tmp_path / "work.bval")
    assert list(path.parent.iterdir()) == [path]


def test_a_table_survives_with_missing_values(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"slice": [0, 1], "region": ["cord", "NA"], "mean": [0.000712345678, np.nan]}
    )
    path = write_table(tmp_path / "x.tsv", table)
    assert path.read_text() == "slice\tregion\tmean\n0\tcord\t0.000712346\n1\tNA\tn/a\n"
    again = read_table(path)
    assert again["region"].tolist() == ["cord", "NA"]
    np.testing.assert_allclose(again["mean"], table["mean"], rtol=1e-5)


@pytest.mark.parametrize("content", [b"", b"slice\xff\n0\n"])
def test_a_damaged_table_is_named_with_the_reason(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_bytes(content)
    for read in (read_table, read_words):
        with pytest.raises(InputDataError, match=rf"{tmp_path / 'x.tsv'} is not \(.+\)\. Correct"):
            read(tmp_path / "x.tsv")


def test_a_column_of_missing_values_stays_numeric(tmp_path: Path) -> None:
    table = pd.DataFrame({"level": [np.nan, np.nan]})
    assert read_table(write_table(tmp_path / "x.tsv", table))["level"].isna().all()


def test_a_sidecar_takes_numpy_and_refuses_nan(tmp_path: Path) -> None:
    fields = {"a": np.float32(0.5), "b": np.arange(2), "c": Path("x/y"), "d": "µ"}
    path = write_sidecar(tmp_path / "x.json", fields)
    assert json.loads(path.read_text()) == {"a": 0.5, "b": [0, 1], "c": "x/y", "d": "µ"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_sidecar(tmp_path / "y.json", {"a": np.nan})
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        write_sidecar(tmp_path / "y.json", {"a": object()})
    assert not (tmp_path / "y.json").exists()
