"""The series that is kept lies wholly in DTI space; the B0 image lies where it was segmented."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scsnet_bids.correction.resampling import Correction, apply_correction
from scsnet_bids.derivatives import read_table, write_table
from scsnet_bids.gradients import write_gradients
from scsnet_bids.images import Image, read_image, write_image
from scsnet_bids.interfaces import ApplyCorrection, FindOutliers
from scsnet_bids.phantom import TINY, Phantom, simulate
from scsnet_bids.settings import GradientSettings
from scsnet_bids.shift_table import shifts_from_table, tabulate_shifts

FIELD_MM = 2.0


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """Return a cord whose b=0 volumes lie elsewhere."""
    return simulate(replace(TINY, motion_mm=0.5, b0_to_dwi_mm=0.8, snr=60), 3)


@pytest.fixture
def inputs(phantom: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Write what the steps take, the true motion among it."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    write_image(tmp_path / "dwi.nii.gz", Image(phantom.series, phantom.grid))
    gradients = phantom.gradients
    write_gradients(tmp_path / "dwi.bval", tmp_path / "dwi.bvec", gradients, phantom.grid)
    trusted = np.ones(phantom.motion_mm.shape[:2], dtype=bool)
    tables = {
        "orig_to_dwiref": tabulate_shifts(-phantom.motion_mm, trusted),
        "motion_by_volume": tabulate_shifts(np.zeros((len(trusted), 2)))[["slice"]],
    }
    for name, table in tables.items():
        write_table(tmp_path / f"{name}.tsv", table)
    names = ["dwi.nii.gz", "dwi.bval", "dwi.bvec", *(f"{name}.tsv" for name in tables)]
    fields = ["dwi", "bval", "bvec", *tables]
    paths = {field: str(tmp_path / name) for field, name in zip(fields, names, strict=True)}
    return paths | {"gradient_settings": GradientSettings(), "phase_axis": 1}


def table_of(folder: Path, name: str, shift_mm: np.ndarray) -> str:
    """Write a table of positions or displacements per slice."""
    write_table(folder / f"{name}.tsv", tabulate_shifts(shift_mm))
    return str(folder / f"{name}.tsv")


def test_b0_volumes_are_interpolated_once_to_where_the_weighted_lie(phantom, inputs, tmp_path):
    centre = table_of(tmp_path, "b0_centre", np.tile([21.6, 18.0], (4, 1)))
    to_dwi = table_of(tmp_path, "dwiref_to_dwi", phantom.b0_to_dwi_mm)
    made = ApplyCorrection(**inputs, b0_centre=centre, dwiref_to_dwi=to_dwi).run().outputs
    total_mm = shifts_from_table(read_table(Path(made.orig_to_dwi)))
    is_b0 = phantom.gradients.bvals == 0
    expected_mm = -phantom.motion_mm + is_b0[:, None, None] * phantom.b0_to_dwi_mm
    np.testing.assert_allclose(total_mm, expected_mm, atol=1e-5)
    expected = apply_correction(phantom.series, Correction(expected_mm), phantom.grid)
    found = read_image(Path(made.corrected_dwi)).data
    np.testing.assert_allclose(found, expected, atol=0.1)
    unmoved = apply_correction(phantom.series, Correction(-phantom.motion_mm), phantom.grid)
    np.testing.assert_allclose(found[..., ~is_b0], unmoved[..., ~is_b0], atol=0.1)


def test_without_motion_and_displacement_nothing_changes(phantom, inputs, tmp_path):
    still = tabulate_shifts(np.zeros_like(phantom.motion_mm), phantom.motion_mm[..., 0] < 9)
    write_table(Path(inputs["orig_to_dwiref"]), still)
    centre = table_of(tmp_path, "b0_centre", np.tile([21.6, 18.0], (4, 1)))
    to_dwi = table_of(tmp_path, "dwiref_to_dwi", np.zeros((4, 2)))
    made = ApplyCorrection(**inputs, b0_centre=centre, dwiref_to_dwi=to_dwi).run().outputs
    found = read_image(Path(made.corrected_dwi)).data
    np.testing.assert_allclose(found, read_image(Path(inputs["dwi"])).data, atol=0.1)


def test_what_another_step_has_moved_is_moved_by_the_rest_alone(phantom, inputs, tmp_path):
    """After FSL eddy only the b=0 volumes are interpolated again."""
    centre = table_of(tmp_path, "b0_centre", np.tile([21.6, 18.0], (4, 1)))
    to_dwi = table_of(tmp_path, "dwiref_to_dwi", phantom.b0_to_dwi_mm)
    step = ApplyCorrection(**inputs, b0_centre=centre, dwiref_to_dwi=to_dwi, moved=True)
    found = read_image(Path(step.run().outputs.corrected_dwi)).data
    is_b0 = phantom.gradients.bvals == 0
    given = read_image(Path(inputs["dwi"])).data
    np.testing.assert_allclose(found[..., ~is_b0], given[..., ~is_b0], atol=0.1)
    assert np.abs(found - given)[..., is_b0].max() > 100


@pytest.mark.parametrize("undistorted", [False, True])
def test_the_centre_of_the_b0_image_is_without_distortion(phantom, inputs, tmp_path, undistorted):
    seen_mm = np.tile([21.6, 18.0], (4, 1))
    seen_mm[1] = np.nan
    write_image(
        tmp_path / "field.nii.gz", Image(np.full(phantom.grid.shape, FIELD_MM), phantom.grid)
    )
    found = (
        FindOutliers(
            **inputs,
            cord_centre=table_of(tmp_path, "cord_centre", seen_mm),
            field=str(tmp_path / "field.nii.gz"),
            undistorted=undistorted,
        )
        .run()
        .outputs
    )
    centre_mm = shifts_from_table(read_table(Path(found.b0_centre)))
    np.testing.assert_allclose(centre_mm, seen_mm - [0, FIELD_MM], atol=1e-5)
    moved = 0 if undistorted else FIELD_MM
    shift_mm = -phantom.motion_mm - [0, moved]
    is_b0 = phantom.gradients.bvals == 0
    expected = apply_correction(phantom.series, Correction(shift_mm), phantom.grid)
    b0 = read_image(Path(found.b0)).data
    np.testing.assert_allclose(b0, np.median(expected[..., is_b0], axis=-1), atol=60)
