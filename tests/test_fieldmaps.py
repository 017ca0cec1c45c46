"""Fieldmaps are found in every way the standard knows to name them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scsnet_bids.fieldmaps import find_fieldmaps
from scsnet_bids.runs import DwiRun


def make_run(root: Path, name: str = "sub-01_dwi", **metadata: object) -> DwiRun:
    """Write the sidecar of a series that lies in ``root/sub-01/ses-a/dwi``."""
    folder = root / "sub-01" / "ses-a" / "dwi"
    folder.mkdir(parents=True, exist_ok=True)
    sidecar = folder / f"{name}.json"
    sidecar.write_text(json.dumps(metadata))
    paths = [folder / f"{name}{kind}" for kind in (".nii.gz", ".bval", ".bvec")]
    return DwiRun(*paths, sidecars=(sidecar,), entities=(("sub", "01"),))


def make_fieldmap(root: Path, **metadata: object) -> Path:
    """Write a fieldmap of the same session."""
    folder = root / "sub-01" / "ses-a" / "fmap"
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / "sub-01_dir-PA_epi.nii.gz"
    image.touch()
    (folder / "sub-01_dir-PA_epi.json").write_text(json.dumps(metadata))
    return image


@pytest.mark.parametrize(
    "intended",
    [
        "ses-a/dwi/sub-01_dwi.nii.gz",
        ["ses-a/func/other_bold.nii.gz", "ses-a/dwi/sub-01_dwi.nii.gz"],
        "bids::sub-01/ses-a/dwi/sub-01_dwi.nii.gz",
        ["bids:raw:sub-01/ses-a/dwi/x.nii.gz", "bids::sub-01/ses-a/dwi/sub-01_dwi.nii.gz"],
    ],
)
def test_a_fieldmap_that_names_the_series_is_found(intended, tmp_path):
    run = make_run(tmp_path)
    fieldmap = make_fieldmap(tmp_path, IntendedFor=intended)
    assert find_fieldmaps(run) == [fieldmap]


def test_a_fieldmap_of_the_same_field_is_found(tmp_path):
    run = make_run(tmp_path, B0FieldSource="pepolar0")
    fieldmap = make_fieldmap(tmp_path, B0FieldIdentifier=["other", "pepolar0"])
    assert find_fieldmaps(run) == [fieldmap]


@pytest.mark.parametrize(
    "metadata",
    [{}, {"IntendedFor": []}, {"IntendedFor": "ses-a/dwi/another_dwi.nii.gz"}, {"IntendedFor": 3}],
)
def test_a_fieldmap_of_something_else_is_not(metadata, tmp_path):
    run = make_run(tmp_path, B0FieldSource="pepolar0")
    make_fieldmap(tmp_path, **metadata)
    assert find_fieldmaps(run) == []


def test_a_companion_counts_if_its_phase_is_encoded_the_other_way_round(tmp_path):
    run = make_run(tmp_path, PhaseEncodingDirection="j-")
    same = make_run(tmp_path, "sub-01_acq-b0_dwi", PhaseEncodingDirection="j-")
    reverse = make_run(tmp_path, "sub-01_dir-PA_dwi", PhaseEncodingDirection="j")
    unknown = make_run(tmp_path, "sub-01_dir-AP_dwi")
    assert find_fieldmaps(run, [same, reverse, unknown]) == [reverse.image]
    assert find_fieldmaps(unknown, [same, reverse]) == []
