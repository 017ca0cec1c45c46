"""Distortion is found from a reversed pair, and left alone where there is none."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scsnet_bids.cli import main
from scsnet_bids.correction.distortion import estimate_distortion
from scsnet_bids.correction.resampling import Correction, apply_correction
from scsnet_bids.derivatives import read_table
from scsnet_bids.phantom import TINY, Phantom, PhantomSettings, simulate, write_dataset
from scsnet_bids.slices import PlaneGrid

SETTINGS = PhantomSettings(
    directions=6,
    b0_volumes=5,
    slices=8,
    matrix=(64, 48),
    motion_mm=0,
    b0_to_dwi_mm=0,
    reversed_b0=1,
)


@cache
def scan(distortion_mm: float, snr: float, **other: float) -> Phantom:
    return simulate(replace(SETTINGS, distortion_mm=distortion_mm, snr=snr, **other), 11)


@cache
def scan_moved() -> Phantom:
    return simulate(replace(SETTINGS, distortion_mm=2, snr=15, motion_mm=1), 11)


def b0_of(phantom: Phantom) -> np.ndarray:
    is_b0 = phantom.gradients.bvals == 0
    still = Correction(-phantom.motion_mm[is_b0])
    return apply_correction(phantom.series[..., is_b0], still, phantom.grid).mean(axis=-1)


def centre_mm(phantom: Phantom) -> np.ndarray:
    """Middle of the cord in each slice, where it is seen."""
    cord = 1 - phantom.region_share[..., 0]
    plane = PlaneGrid.of_image(phantom.grid)
    left = plane.positions_mm(0)[:, None, None]
    back = plane.positions_mm(1)[None, :, None] + phantom.field_mm
    return np.stack([(cord * at).sum((0, 1)) / cord.sum((0, 1)) for at in (left, back)], axis=1)


def estimate(phantom: Phantom) -> np.ndarray:
    pair = b0_of(phantom), phantom.reversed_b0[..., 0]
    return estimate_distortion(*pair, centre_mm(phantom), phantom.grid.spacing_mm)


def error_mm(found: np.ndarray, phantom: Phantom) -> np.ndarray:
    return (found - phantom.field_mm)[phantom.region_share[..., 0] < 0.5]


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


@pytest.mark.parametrize(("distortion_mm", "snr"), [(4.0, 7.0), (4.0, 25.0), (2.0, 15.0)])
def test_the_field_is_found_in_the_cord(distortion_mm, snr):
    phantom = scan(distortion_mm, snr)
    assert rms(error_mm(np.zeros(phantom.field_mm.shape), phantom)) > 0.8
    assert rms(error_mm(estimate(phantom), phantom)) < 0.12


@pytest.mark.parametrize("snr", [7.0, 25.0])
def test_images_that_are_not_distorted_are_left_as_they_are(snr):
    phantom = scan(0.0, snr)
    assert rms(error_mm(estimate(phantom), phantom)) < 0.05


def test_the_corrected_cord_has_its_true_area_and_brightness():
    bent, straight = scan(4.0, 1000.0), scan(0.0, 1000.0)
    found = Correction(np.zeros((1, 8, 2)), field_mm=estimate(bent))
    corrected = apply_correction(b0_of(bent)[..., None], found, bent.grid)[..., 0]
    # The cord is darker than the fluid around it, and a threshold between them outlines it.
    cord = bent.region_share[..., 0] < 0.5
    near = bent.region_share[..., 0] < 0.95
    for k in range(8):
        fluid = 0.5 * (b0_of(straight)[:, :, k][cord[:, :, k]].mean() + 1600)
        dark = [
            (image[:, :, k][near[:, :, k]] < fluid).sum() for image in (corrected, b0_of(straight))
        ]
        assert dark[0] == pytest.approx(dark[1], rel=0.06)
    assert corrected[cord].mean() == pytest.approx(b0_of(straight)[cord].mean(), rel=0.02)
    stretch = [1 + np.gradient(field, 0.9, axis=1) for field in (found.field_mm, bent.field_mm)]
    area = [(cord / one).sum(axis=(0, 1)) for one in stretch]
    np.testing.assert_allclose(area[0], area[1], rtol=0.03)


def test_a_person_who_lies_aside_in_the_second_scan_is_followed():
    phantom = scan(2.0, 15.0)
    aside = np.roll(phantom.reversed_b0[..., 0], 2, axis=0)  # 1.8 mm
    found = estimate_distortion(b0_of(phantom), aside, centre_mm(phantom), phantom.grid.spacing_mm)
    assert rms(error_mm(found, phantom)) < 0.1


def test_motion_between_the_scans_moves_slices_and_bends_nothing():
    phantom = scan_moved()
    back = phantom.reversed_motion_mm[0, :, 1]
    # Half of the motion along the phase-encode axis cannot be told from distortion.
    assert rms(error_mm(estimate(phantom) + back / 2, phantom)) < 0.12


def test_a_scan_with_a_shorter_readout_is_less_distorted():
    phantom = scan(3.0, 50.0)
    half = simulate(replace(SETTINGS, distortion_mm=1.5, snr=50), 11)
    pair = b0_of(phantom), half.reversed_b0[..., 0]
    found = estimate_distortion(
        *pair, centre_mm(phantom), phantom.grid.spacing_mm, readout_ratio=0.5
    )
    assert rms(error_mm(found, phantom)) < 0.12


def test_the_phase_may_be_encoded_from_side_to_side():
    phantom = scan(3.0, 25.0)
    pair = [image.swapaxes(0, 1) for image in (b0_of(phantom), phantom.reversed_b0[..., 0])]
    x, y, z = phantom.grid.spacing_mm
    turned = estimate_distortion(*pair, centre_mm(phantom)[:, ::-1], (y, x, z), phase_axis=0)
    np.testing.assert_allclose(turned.swapaxes(0, 1), estimate(phantom), atol=0.02)


def test_the_brightness_of_the_two_scans_may_differ():
    phantom = scan(3.0, 25.0)
    pair = b0_of(phantom), 7.5 * phantom.reversed_b0[..., 0]
    found = estimate_distortion(*pair, centre_mm(phantom), phantom.grid.spacing_mm)
    difference_mm = found - estimate(phantom)
    assert np.abs(difference_mm[phantom.region_share[..., 0] < 0.5]).max() < 0.005
    assert np.abs(difference_mm).max() < 0.06  # in the corners, where nothing is seen


def test_odd_images_give_finite_fields():
    phantom = scan(2.0, 15.0)
    b0, reverse = b0_of(phantom), phantom.reversed_b0[..., 0].copy()
    reverse[:, :, 2] = 0
    reverse[3, 3, 3] = np.nan
    unknown = centre_mm(phantom)
    unknown[4] = np.nan
    spacing = phantom.grid.spacing_mm
    found = estimate_distortion(b0, reverse, unknown, spacing)
    good = np.delete(np.arange(8), 2)
    assert np.isfinite(found).all()
    in_good = (phantom.region_share[..., 0] < 0.5)[:, :, good]
    assert rms((found - phantom.field_mm)[:, :, good][in_good]) < 0.3
    blank = estimate_distortion(0 * b0, 0 * b0, np.full((8, 2), np.nan), spacing)
    assert rms(blank) == 0
    one = estimate_distortion(b0[..., :1], reverse[..., :1], unknown[:1], spacing)
    assert one.shape == (64, 48, 1)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny dataset with a pair for one participant, and what the app makes of it."""
    root = tmp_path_factory.mktemp("distortion")
    data, out = root / "sub-cohort" / "data", root / "out"
    settings = replace(TINY, distortion_mm=3, reversed_b0=1, snr=25)
    write_dataset(data, settings, participants=2, seed=5)
    shutil.rmtree(data / "sub-02" / "fmap")
    assert main([str(data), str(out), "participant", "-w", str(root / "work")]) == 0
    return data, out


def test_the_app_corrects_what_has_a_pair_and_says_so(app):
    data, out = app
    folder = out / "sub-01" / "dwi"
    field = nib.load(
        folder / "sub-01_from-dwiref_to-orig_mode-image_desc-distortion_xfm.nii.gz"
    ).get_fdata()
    truth = data / "derivatives" / "phantom" / "sub-01" / "dwi"
    true = nib.load(truth / "sub-01_desc-distortion_displacement.nii.gz").get_fdata()
    share = nib.load(truth / "sub-01_seg-SCSNet_probseg.nii.gz").get_fdata()
    cord = share[..., 0] < 0.5
    off = [np.mean((field - true)[:, :, k][cord[:, :, k]]) for k in range(field.shape[2])]
    # Motion between the scans moves whole slices.
    assert rms(true[cord]) > 0.3
    assert rms((field - true - off)[cord]) < 0.15
    said = json.loads((folder / "sub-01_desc-preproc_dwi.json").read_text("utf-8"))
    assert said["DistortionCorrection"]["Method"] == "auto"
    assert "sub-01_dir-PA_epi.nii.gz" in said["DistortionCorrection"]["Description"]
    assert "corrected with sub-01_dir-PA_epi" in (out / "sub-01.html").read_text("utf-8")
    images = [
        "bids:raw:sub-01/dwi/sub-01_dwi.nii.gz",
        "bids:raw:sub-01/fmap/sub-01_dir-PA_epi.nii.gz",
    ]
    assert said["Sources"] == images
    field_name = "sub-01_from-dwiref_to-orig_mode-image_desc-distortion_xfm.json"
    assert json.loads((folder / field_name).read_text("utf-8"))["Sources"] == images
    assert len(read_table(folder / "sub-01_desc-image_qc.tsv")) == 1


def test_the_app_says_what_has_no_pair(app):
    _, out = app
    assert not list((out / "sub-02").rglob("*distortion*"))
    page = (out / "sub-02.html").read_text("utf-8")
    assert "not corrected, because there is no image with reversed phase encoding" in page
    assert "Distortion was not corrected." in page
    methods = (out / "logs" / "CITATION.md").read_text("utf-8")
    assert "Series without usable images of opposite phase encoding were not corrected" in methods


def test_outputs_with_a_field_are_valid_bids(app):
    validator = shutil.which("bids-validator-deno", path=Path(sys.executable).parent)
    if validator is None:
        pytest.skip("VALIDATOR ABSENT: install bids-validator-deno to check the outputs")
    for folder in app:
        report = subprocess.run(
            [validator, str(folder), "--format", "json"],
            capture_output=True,
            text=True,
            check=False,
        )
        issues = json.loads(report.stdout)["issues"]["issues"]
        assert [issue for issue in issues if issue["severity"] == "error"] == []
