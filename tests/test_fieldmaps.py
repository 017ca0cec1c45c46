"""Fieldmaps are found in every way the standard knows to name them, and judged by what they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scsnet_bids.fieldmaps import find_fieldmaps, plan_distortion
from scsnet_bids.runs import DwiRun
from scsnet_bids.settings import DistortionSettings, Settings

AFFINE = np.diag([-0.9, 0.9, 5.0, 1.0])
DEFAULT = DistortionSettings()


def write_image(
    path: Path, n_volumes: int = 1, affine: np.ndarray = AFFINE, slices: int = 3
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (8, 6, slices, n_volumes) if n_volumes > 1 else (8, 6, slices)
    nib.save(nib.Nifti1Image(np.ones(shape, np.int16), affine), path)
    return path


def make_run(root: Path, name: str = "sub-01_ses-a_dwi", **metadata: object) -> DwiRun:
    """Write a series with its sidecar in ``root/sub-01/ses-a/dwi``."""
    folder = root / "sub-01" / "ses-a" / "dwi"
    image = write_image(folder / f"{name}.nii.gz", 4)
    sidecar = folder / f"{name}.json"
    sidecar.write_text(json.dumps(metadata))
    bval = folder / f"{name}.bval"
    bval.write_text("0 800 0 800")
    return DwiRun(
        image,
        bval,
        folder / f"{name}.bvec",
        sidecars=(sidecar,),
        entities=(("sub", "01"), ("ses", "a")),
    )


def make_fieldmap(root: Path, name: str = "sub-01_ses-a_dir-PA_epi", **metadata: object) -> Path:
    """Write a fieldmap of the same session."""
    image = write_image(root / "sub-01" / "ses-a" / "fmap" / f"{name}.nii.gz")
    image.with_name(f"{name}.json").write_text(json.dumps(metadata))
    return image


def settings_with(**values: Any) -> Settings:
    return replace(Settings(), distortion=replace(DEFAULT, **values))


FOR_RUN = {"IntendedFor": "bids::sub-01/ses-a/dwi/sub-01_ses-a_dwi.nii.gz"}


@pytest.mark.parametrize(
    "intended",
    [
        "ses-a/dwi/sub-01_ses-a_dwi.nii.gz",
        ["ses-a/func/other_bold.nii.gz", "ses-a/dwi/sub-01_ses-a_dwi.nii.gz"],
        "bids::sub-01/ses-a/dwi/sub-01_ses-a_dwi.nii.gz",
        "bids:raw:sub-01/ses-a/dwi/sub-01_ses-a_dwi.nii.gz",
        ["bids:raw:sub-01/ses-a/dwi/x.nii.gz", "bids::sub-01/ses-a/dwi/sub-01_ses-a_dwi.nii.gz"],
    ],
)
def test_a_fieldmap_that_names_the_series_is_found(intended, tmp_path):
    run = make_run(tmp_path)
    fieldmap = make_fieldmap(tmp_path, IntendedFor=intended)
    assert find_fieldmaps(run, DEFAULT) == [fieldmap]


@pytest.mark.parametrize("name", ["B0FieldSource", "B0FieldIdentifier"])
def test_a_fieldmap_of_the_same_field_is_found(name, tmp_path):
    run = make_run(tmp_path, **{name: "pepolar0"})
    fieldmap = make_fieldmap(tmp_path, B0FieldIdentifier=["other", "pepolar0"])
    assert find_fieldmaps(run, DEFAULT) == [fieldmap]


def test_a_field_that_the_series_only_helps_to_estimate_is_not_its_own(tmp_path):
    run = make_run(tmp_path, B0FieldSource="pepolar1", B0FieldIdentifier="pepolar0")
    make_fieldmap(tmp_path, B0FieldIdentifier="pepolar0")
    assert find_fieldmaps(run, DEFAULT) == []


def test_what_a_fieldmap_says_may_be_inherited(tmp_path):
    run = make_run(tmp_path, B0FieldSource="pepolar0")
    fieldmap = make_fieldmap(tmp_path)
    (tmp_path / "dir-PA_epi.json").write_text('{"B0FieldIdentifier": "pepolar0"}')
    (tmp_path / "dir-AP_epi.json").write_text('{"B0FieldIdentifier": "other"}')
    assert find_fieldmaps(run, DEFAULT) == [fieldmap]


@pytest.mark.parametrize(
    "metadata",
    [{}, {"IntendedFor": []}, {"IntendedFor": "ses-a/dwi/another_dwi.nii.gz"}, {"IntendedFor": 3}],
)
def test_a_fieldmap_of_something_else_is_not(metadata, tmp_path):
    run = make_run(tmp_path, B0FieldSource="pepolar0")
    make_fieldmap(tmp_path, **metadata)
    assert find_fieldmaps(run, DEFAULT) == []
    plan = plan_distortion(run, Settings())
    assert not plan.found
    assert str(plan) == "not corrected, because there is no image with reversed phase encoding"


def test_a_series_beside_the_run_counts_if_its_phase_is_encoded_the_other_way_round(tmp_path):
    run = make_run(tmp_path, PhaseEncodingDirection="j-")
    make_run(tmp_path, "sub-01_ses-a_acq-b0_dwi", PhaseEncodingDirection="j-")
    reverse = make_run(tmp_path, "sub-01_ses-a_dir-PA_dwi", PhaseEncodingDirection="j")
    unknown = make_run(tmp_path, "sub-01_ses-a_dir-AP_dwi")
    assert find_fieldmaps(run, DEFAULT) == [reverse.image]
    assert find_fieldmaps(unknown, DEFAULT) == [reverse.image], "their names say so"


def test_the_field_goes_before_the_name_of_the_series_and_that_before_nearness(tmp_path):
    own = {"PhaseEncodingDirection": "j-", "B0FieldSource": "right"}
    run = make_run(tmp_path, "sub-01_ses-a_run-2_dwi", **own)
    reverse: dict[str, Any] = {"PhaseEncodingDirection": "j"}
    named = {**reverse, "IntendedFor": "ses-a/dwi/sub-01_ses-a_run-2_dwi.nii.gz"}
    names = [f"sub-01_ses-a_dir-PA_run-{n}" for n in ("1", "3", "02")]
    beside = [
        make_run(tmp_path, f"{names[0]}_dwi", **reverse, B0FieldIdentifier="right").image,
        make_run(tmp_path, f"{names[1]}_dwi", **reverse, B0FieldIdentifier="wrong").image,
        make_run(tmp_path, f"{names[2]}_dwi", **reverse).image,
    ]
    fmap = [
        make_fieldmap(tmp_path, f"{names[0]}_epi", **named, B0FieldIdentifier="wrong"),
        make_fieldmap(tmp_path, f"{names[1]}_epi", **named, B0FieldIdentifier=["a", "right"]),
        make_fieldmap(tmp_path, f"{names[2]}_epi", **named),
    ]
    right = [fmap[1], beside[0]]
    assert find_fieldmaps(run, DEFAULT) == [*right, fmap[2], fmap[0], beside[2], beside[1]]


def test_two_full_series_correct_each_other_by_their_b0_volumes(tmp_path):
    there = make_run(tmp_path, "sub-01_ses-a_dir-AP_dwi", PhaseEncodingDirection="j-")
    back = make_run(tmp_path, "sub-01_ses-a_dir-PA_dwi", PhaseEncodingDirection="j")
    for run, other in ((there, back), (back, there)):
        plan = plan_distortion(run, Settings())
        assert plan.pair is not None
        assert plan.pair.image == other.image
        assert plan.pair.volumes == (0, 2)
        assert plan.pair.readout_ratio == 1


def test_a_single_volume_is_enough(tmp_path):
    run = make_run(tmp_path, PhaseEncodingDirection="j", TotalReadoutTime=0.04)
    fieldmap = make_fieldmap(
        tmp_path, PhaseEncodingDirection="j-", EffectiveEchoSpacing=0.004, **FOR_RUN
    )
    plan = plan_distortion(run, Settings())
    assert plan.pair is not None
    assert (plan.pair.image, plan.pair.volumes) == (fieldmap, (0,))
    assert plan.pair.readout_ratio == pytest.approx(0.004 * 5 / 0.04)
    assert str(plan) == "corrected with sub-01_ses-a_dir-PA_epi.nii.gz"


def test_the_reversed_one_of_two_fieldmaps_is_used(tmp_path):
    run = make_run(tmp_path, PhaseEncodingDirection="j-")
    make_fieldmap(tmp_path, "sub-01_ses-a_dir-AP_epi", PhaseEncodingDirection="j-", **FOR_RUN)
    reverse = make_fieldmap(tmp_path, PhaseEncodingDirection="j", **FOR_RUN)
    plan = plan_distortion(run, Settings())
    assert plan.pair is not None
    assert plan.pair.image == reverse


@pytest.mark.parametrize(
    ("own", "other", "reason"),
    [
        ({"PhaseEncodingDirection": "j"}, {"PhaseEncodingDirection": "j"}, "must be opposite"),
        ({"PhaseEncodingDirection": "j"}, {"PhaseEncodingDirection": "i-"}, "must be opposite"),
        (
            {"PhaseEncodingDirection": "j"},
            {},
            "sidecar of sub-01_ses-a_dir-PA_epi.nii.gz does not say",
        ),
        ({}, {"PhaseEncodingDirection": "j"}, "sidecar of sub-01_ses-a_dwi.nii.gz does not say"),
        (
            {"PhaseEncodingDirection": "k-"},
            {"PhaseEncodingDirection": "j"},
            "sub-01_ses-a_dwi.nii.gz has PhaseEncodingDirection k-, which points "
            "through the slices and cannot be used",
        ),
        (
            {"PhaseEncodingDirection": "j"},
            {"PhaseEncodingDirection": "k"},
            "sub-01_ses-a_dir-PA_epi.nii.gz has PhaseEncodingDirection k, which",
        ),
        (
            {"PhaseEncodingDirection": "j", "TotalReadoutTime": 0.05},
            {"PhaseEncodingDirection": "j-"},
            "sidecar of sub-01_ses-a_dir-PA_epi.nii.gz does not say TotalReadoutTime",
        ),
    ],
)
def test_what_cannot_be_used_is_told_in_a_sentence(own, other, reason, tmp_path):
    run = make_run(tmp_path, **own)
    make_fieldmap(tmp_path, **other, **FOR_RUN)
    plan = plan_distortion(run, Settings())
    assert plan.found
    assert plan.pair is None
    assert reason in plan.reason


def oblique() -> np.ndarray:
    angle = np.deg2rad(10)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ AFFINE


@pytest.mark.parametrize(
    "geometry", [{"slices": 4}, {"affine": oblique()}, {"affine": AFFINE @ np.diag([2, 2, 1, 1])}]
)
def test_a_fieldmap_of_another_geometry_is_refused(geometry, tmp_path):
    run = make_run(tmp_path, PhaseEncodingDirection="j")
    fieldmap = make_fieldmap(tmp_path, PhaseEncodingDirection="j-", **FOR_RUN)
    write_image(fieldmap, **geometry)
    plan = plan_distortion(run, Settings())
    assert plan.pair is None
    assert "must have the voxels of the series" in plan.reason
    assert "8 x 6 x 3 voxels of 0.9 x 0.9 x 5 mm" in plan.reason


def test_a_damaged_fieldmap_is_told_and_not_used(tmp_path):
    run = make_run(tmp_path, PhaseEncodingDirection="j")
    make_fieldmap(tmp_path, PhaseEncodingDirection="j-", **FOR_RUN).write_bytes(b"no image")
    plan = plan_distortion(run, Settings())
    assert plan.pair is None
    assert "sub-01_ses-a_dir-PA_epi.nii.gz" in plan.reason


def test_phase_images_are_not_used(tmp_path):
    run = make_run(tmp_path, PhaseEncodingDirection="j")
    make_fieldmap(tmp_path, "sub-01_ses-a_phasediff", **FOR_RUN)
    assert "no image with reversed phase encoding" in plan_distortion(run, Settings()).reason


@pytest.mark.parametrize(
    "name",
    [
        "sub-01_ses-a_dir-PA_part-phase",
        "sub-01_ses-a_dir-PA_part-imag",
        "sub-01_ses-a_dir-PA_part-real",
        "sub-01_ses-a_dir-PA_desc-moco",
        "sub-01_ses-b_dir-PA",
    ],
)
def test_only_a_magnitude_image_with_the_name_of_raw_data_is_used(name, tmp_path):
    run = make_run(tmp_path, PhaseEncodingDirection="j")
    beside = make_run(tmp_path, f"{name}_dwi", PhaseEncodingDirection="j-").image
    fieldmap = make_fieldmap(tmp_path, f"{name}_epi", PhaseEncodingDirection="j-", **FOR_RUN)
    plan = plan_distortion(run, Settings())
    assert plan.pair is None
    for path in (beside, fieldmap):
        assert f"{path.name} is not named as a magnitude image of raw data." in plan.reason
    magnitude = "sub-01_ses-a_acq-b0_rec-x_dir-PA_part-mag_dwi"
    other = make_run(tmp_path, magnitude, PhaseEncodingDirection="j-")
    pair = plan_distortion(run, Settings()).pair
    assert pair is not None
    assert pair.image == other.image


def test_a_series_without_b0_volumes_is_not_used(tmp_path):
    run = make_run(tmp_path, PhaseEncodingDirection="j")
    make_run(tmp_path, "sub-01_ses-a_dir-PA_dwi", PhaseEncodingDirection="j-").bval.write_text(
        "900 800 900 800"
    )
    assert "no b=0 volume" in plan_distortion(run, Settings()).reason


def test_the_user_can_say_what_sidecars_do_not(tmp_path):
    run = make_run(tmp_path, TotalReadoutTime=0.06)
    make_fieldmap(tmp_path, **FOR_RUN)
    plan = plan_distortion(run, settings_with(phase_encoding="j-", readout_s=0.03))
    assert plan.pair is not None
    assert plan.pair.readout_ratio == 0.5
    assert plan.pair.metadata["PhaseEncodingDirection"] == "j"


def test_topup_needs_directions_and_not_only_names(tmp_path):
    run = make_run(tmp_path, "sub-01_ses-a_dir-AP_dwi")
    make_run(tmp_path, "sub-01_ses-a_dir-PA_dwi")
    assert plan_distortion(run, Settings()).pair is not None
    plan = plan_distortion(run, settings_with(method="fsl"))
    assert plan.pair is None
    assert "FSL topup needs PhaseEncodingDirection" in plan.reason


def test_nothing_is_corrected_if_the_user_does_not_want_it(tmp_path):
    run = make_run(tmp_path, PhaseEncodingDirection="j")
    make_fieldmap(tmp_path, PhaseEncodingDirection="j-", **FOR_RUN)
    plan = plan_distortion(run, settings_with(method="none"))
    assert (plan.pair, plan.method, plan.found) == (None, "none", True)
    assert str(plan) == "not corrected, because --distortion is none"


def test_a_sidecar_whose_name_holds_more_than_entities_applies_to_nothing(tmp_path):
    run = make_run(tmp_path, PhaseEncodingDirection="j")
    make_fieldmap(tmp_path, **FOR_RUN, PhaseEncodingDirection="j-")
    (tmp_path / "phantom_epi.json").write_text('{"TotalReadoutTime": 1, "EchoTime": 9}')
    pair = plan_distortion(run, Settings()).pair
    assert pair is not None
    assert "EchoTime" not in pair.metadata
