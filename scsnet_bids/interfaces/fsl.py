"""FSL: eddy and topup in the place of our own steps, and matrices for FSL's users."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Bunch,
    Directory,
    File,
    TraitedSpec,
    isdefined,
    traits,
)

from scsnet_bids.derivatives import write_table
from scsnet_bids.fsl.files import Acquisition, read_acquisition
from scsnet_bids.gradients import write_gradients
from scsnet_bids.images import Image, read_grid, read_image, write_image, write_series
from scsnet_bids.interfaces.base import (
    InterruptibleInterface,
    SeriesInputSpec,
    SeriesInterface,
    read_shifts,
)
from scsnet_bids.runs import phase_encoding
from scsnet_bids.settings import MotionSettings
from scsnet_bids.shift_table import tabulate_shifts

FIELDCOEF = "topup_fieldcoef.nii.gz"


class RunTopupInputSpec(SeriesInputSpec):
    """Inputs of :class:`RunTopup`."""

    metadata = traits.Dict(mandatory=True, desc="sidecar of the series")
    reversed_dwi = File(exists=True, mandatory=True, desc="b=0 image or images, phase reversed")
    reversed_volumes = traits.List(traits.Int, mandatory=True, desc="those that are b=0")
    reversed_metadata = traits.Dict(mandatory=True, desc="their sidecar")
    readout_ratio = traits.Float(1.0, usedefault=True, desc="their readout time over the series'")


class RunTopupOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`RunTopup`."""

    field = File(desc="distortion along the phase-encode axis, mm (image)")
    fieldcoef = File(desc="topup's own description of it, beside which its other files lie")


class RunTopup(SeriesInterface):
    """Estimate distortion by FSL topup."""

    input_spec = RunTopupInputSpec
    output_spec = RunTopupOutputSpec
    _files: ClassVar[dict[str, str]] = {"field": "field.nii.gz", "fieldcoef": FIELDCOEF}

    def _write(self, field: Path, fieldcoef: Path) -> None:  # type: ignore[override]
        from scsnet_bids.fsl.tools import run_topup

        series = read_image(Path(self.inputs.dwi))
        b0 = series.data[..., self._b0_volumes(self._read_gradients().bvals)]
        other = read_image(Path(self.inputs.reversed_dwi))
        reversed_b0 = Image(
            other.data.reshape(*other.grid.shape, -1)[..., self.inputs.reversed_volumes], other.grid
        )
        acquisition = read_acquisition(self.inputs.metadata, series.grid)
        other_acquisition = Acquisition(
            phase_encoding(self.inputs.reversed_metadata, other.grid),
            acquisition.readout_s * self.inputs.readout_ratio,
        )
        acquisitions = (acquisition, other_acquisition)
        pair = Image(b0, series.grid), reversed_b0
        by_topup = run_topup(*pair, acquisitions, fieldcoef.parent)
        field_mm = _as_distortion(by_topup, pair, acquisitions)
        write_image(field, Image(field_mm.astype(np.float32), series.grid))


def _as_distortion(
    field_mm: Any, pair: tuple[Image, Image], acquisitions: tuple[Acquisition, Acquisition]
) -> Any:
    """(i, j, k) field of the first image, what lies at a position being seen displaced by it.

    Which way topup counts is not documented: the sign is the one that makes both images agree.
    """
    from scsnet_bids.correction.resampling import Correction, apply_correction

    first, second = acquisitions
    signs = (1.0, -second.readout_s / first.readout_s)
    still = np.zeros((1, field_mm.shape[2], 2))

    def disagreement(field: Any) -> float:
        one, other = (
            apply_correction(
                image.data[..., :1],
                Correction(still, field_mm=sign * field, phase_axis=first.phase.axis),
                image.grid,
            )
            for image, sign in zip(pair, signs, strict=True)
        )
        return float(np.mean((one - other) ** 2))

    return min(field_mm, -field_mm, key=disagreement)


class RunEddyInputSpec(SeriesInputSpec):
    """Inputs of :class:`RunEddy`."""

    cord_centre = File(exists=True, mandatory=True, desc="centre of the cord per slice (table)")
    motion_settings = traits.Instance(MotionSettings, mandatory=True)
    metadata = traits.Dict(mandatory=True, desc="sidecar of the series")
    fieldcoef = File(exists=True, desc="what topup has found")


class RunEddyOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`RunEddy`."""

    moved_dwi = File(desc="corrected series")
    moved_bval = File(desc="its b-values")
    moved_bvec = File(desc="its b-vectors, rotated with the volumes")
    orig_to_dwiref = File(desc="displacement per volume and slice (table)")
    motion_by_volume = File(desc="what else is known of each volume (table)")


class RunEddy(SeriesInterface):
    """Correct motion, eddy currents and outliers by FSL eddy."""

    input_spec = RunEddyInputSpec
    output_spec = RunEddyOutputSpec
    _files: ClassVar[dict[str, str]] = {
        "moved_dwi": "moved_dwi.nii.gz",
        "moved_bval": "moved_dwi.bval",
        "moved_bvec": "moved_dwi.bvec",
        "orig_to_dwiref": "orig_to_dwiref.tsv",
        "motion_by_volume": "motion_by_volume.tsv",
    }

    def _write(self, **paths: Path) -> None:
        from scsnet_bids.fsl.tools import make_mask, run_eddy

        series, gradients = read_image(Path(self.inputs.dwi)), self._read_gradients()
        grid = series.grid
        centre_mm = read_shifts(self.inputs.cord_centre)
        mask = make_mask(centre_mm, grid, self.inputs.motion_settings.eddy_radius_mm)
        acquisition = read_acquisition(self.inputs.metadata, grid)
        folder = paths["moved_dwi"].parent
        found = run_eddy(series, gradients, mask, acquisition, folder, self._topup())
        write_series(paths["moved_dwi"], found.series)
        write_gradients(paths["moved_bval"], paths["moved_bvec"], found.gradients, grid)
        shift_mm = _as_displacement(found.translation_mm, series, found.series.data, mask)
        write_table(paths["orig_to_dwiref"], tabulate_shifts(shift_mm, ~found.outlier))
        unknown = pd.DataFrame({"last_step": np.full(len(shift_mm), np.nan)})
        write_table(paths["motion_by_volume"], unknown)

    def _topup(self) -> Path | None:
        """Prefix of topup's files, if there are any."""
        fieldcoef = self.inputs.fieldcoef
        return Path(fieldcoef.removesuffix("_fieldcoef.nii.gz")) if isdefined(fieldcoef) else None


def _as_displacement(translation_mm: Any, before: Image, after: Any, mask: Any) -> Any:
    """(n, k, 2) displacement from the source to the reference, alike in all slices.

    Which way eddy counts is not documented: the sign is the one that brings the series nearer to
    what eddy has made of it.
    """
    from scsnet_bids.correction.resampling import Correction, apply_correction

    n_slices = before.grid.shape[2]
    shift_mm = np.repeat(np.asarray(translation_mm, dtype=float)[:, None], n_slices, axis=1)
    off = [
        np.mean((apply_correction(before.data, Correction(s), before.grid) - after)[mask] ** 2)
        for s in (shift_mm, -shift_mm)
    ]
    return -shift_mm if off[1] < off[0] else shift_mm


class WriteFlirtMatricesInputSpec(BaseInterfaceInputSpec):  # type: ignore[misc]
    """Inputs of :class:`WriteFlirtMatrices`."""

    orig_to_dwi = File(exists=True, mandatory=True, desc="displacement to DTI space (table)")
    dwi = File(exists=True, mandatory=True, desc="series as acquired, whose header is read")
    folder = traits.Str(mandatory=True, desc="folder to write")


class WriteFlirtMatricesOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`WriteFlirtMatrices`."""

    matrices = Directory(exists=True, desc="folder of matrices per slice")


class WriteFlirtMatrices(InterruptibleInterface):
    """Write the slice-wise displacements as FLIRT matrices into the output folder."""

    input_spec = WriteFlirtMatricesInputSpec
    output_spec = WriteFlirtMatricesOutputSpec
    # Someone may have deleted the output folder.
    _always_run = True

    def _run_interface(self, runtime: Bunch) -> Bunch:
        from scsnet_bids.fsl.flirt import write_flirt_matrices

        shift_mm = read_shifts(self.inputs.orig_to_dwi)
        grid, _ = read_grid(Path(self.inputs.dwi))
        write_flirt_matrices(Path(self.inputs.folder), shift_mm, grid)
        return runtime

    def _list_outputs(self) -> dict[str, str]:
        return {"matrices": self.inputs.folder}
