"""Motion: where the cord is, how it moved, and the series brought to DTI space."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits

from scsnet_bids.derivatives import read_table, write_table
from scsnet_bids.gradients import write_gradients
from scsnet_bids.images import Image, read_image, write_series
from scsnet_bids.interfaces.base import (
    NetworkInputSpec,
    SeriesInputSpec,
    SeriesInterface,
    read_shifts,
)
from scsnet_bids.prior_results import read_cord_mask
from scsnet_bids.settings import MotionSettings
from scsnet_bids.shift_table import tabulate_shifts
from scsnet_bids.slices import PlaneGrid, volume_to_slices

EDDY_COLUMNS = ["eddy_scale", "eddy_shear"]


class LocateCordInputSpec(SeriesInputSpec, NetworkInputSpec):
    """Inputs of :class:`LocateCord`."""

    cord_mask = File(exists=True, desc="mask of the cord that somebody else has made")


class LocateCordOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`LocateCord`."""

    cord_centre = File(desc="centre of the cord per slice, mm from the first voxel (table)")


class LocateCord(SeriesInterface):
    """Find the cord in the mean b=0 image, or take the middle of a given mask.

    Only jumps of whole volumes are undone in that image, which would else show several cords.
    """

    input_spec = LocateCordInputSpec
    output_spec = LocateCordOutputSpec
    _files: ClassVar[dict[str, str]] = {"cord_centre": "cord_centre.tsv"}

    def _write(self, cord_centre: Path) -> None:  # type: ignore[override]
        series = read_image(Path(self.inputs.dwi))
        if isdefined(self.inputs.cord_mask):
            mask = read_cord_mask(Path(self.inputs.cord_mask), series.grid)
            plane = PlaneGrid.of_image(series.grid)
            centre_mm, _ = plane.centre_and_spread_mm(volume_to_slices(mask))
        else:
            centre_mm = self._find_centre(series)
        write_table(cord_centre, tabulate_shifts(centre_mm))

    def _find_centre(self, series: Image) -> Any:
        """(k, 2) centre of the cord by the network, mm."""
        from scsnet_bids.correction.jumps import find_jumps, undo_jumps
        from scsnet_bids.network.inference import locate_cord
        from scsnet_bids.network.weights import load_network

        is_b0 = self._b0_volumes(self._read_gradients().bvals)
        still = undo_jumps(series.data, find_jumps(series.data, is_b0, series.grid))
        b0 = still[..., is_b0].mean(axis=-1)
        network = load_network(self.inputs.device, Path(self.inputs.weights))
        return locate_cord(b0, series.grid, network)


class EstimateMotionInputSpec(SeriesInputSpec):
    """Inputs of :class:`EstimateMotion`."""

    cord_centre = File(exists=True, mandatory=True, desc="centre of the cord per slice (table)")
    motion_settings = traits.Instance(MotionSettings, mandatory=True)
    phase_axis = traits.Enum(1, 0, desc="inner axis along which the phase is encoded")


class EstimateMotionOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`EstimateMotion`."""

    orig_to_dwiref = File(desc="displacement per volume and slice (table)")
    motion_by_volume = File(desc="how the estimate settled, eddy terms (table)")


class EstimateMotion(SeriesInterface):
    """Estimate in-plane motion slice by slice, and eddy currents volume by volume."""

    input_spec = EstimateMotionInputSpec
    output_spec = EstimateMotionOutputSpec
    _files: ClassVar[dict[str, str]] = {
        "orig_to_dwiref": "orig_to_dwiref.tsv",
        "motion_by_volume": "motion_by_volume.tsv",
    }

    def _write(self, orig_to_dwiref: Path, motion_by_volume: Path) -> None:  # type: ignore[override]
        from scsnet_bids.correction.eddy import estimate_eddy
        from scsnet_bids.correction.motion import estimate_motion

        series = read_image(Path(self.inputs.dwi))
        gradients = self._read_gradients()
        is_b0 = self._b0_volumes(gradients.bvals)
        centre_mm = read_shifts(self.inputs.cord_centre)
        settings = self.inputs.motion_settings
        estimate = estimate_motion(series.data, is_b0, centre_mm, series.grid, settings, gradients)
        shifts = tabulate_shifts(estimate.shift_mm, estimate.trusted)
        by_volume = pd.DataFrame({"last_step": estimate.last_step_mm})
        if settings.method == "none":
            shifts["trusted"] = np.nan
        else:
            found = estimate_eddy(
                series.data,
                estimate.shift_mm,
                centre_mm,
                series.grid,
                gradients,
                is_b0,
                self.inputs.phase_axis,
            )
            by_volume[EDDY_COLUMNS] = 0.0
            if found is not None:
                by_volume[EDDY_COLUMNS] = np.stack([found.scale, found.shear], axis=1)
        write_table(orig_to_dwiref, shifts)
        write_table(motion_by_volume, by_volume)


class CorrectionInputSpec(SeriesInputSpec):
    """A series, and what is known to be wrong with the positions in it."""

    orig_to_dwiref = File(exists=True, mandatory=True, desc="motion per volume and slice (table)")
    motion_by_volume = File(exists=True, mandatory=True, desc="of each volume (table)")
    field = File(exists=True, desc="distortion along the phase-encode axis, mm (image)")
    phase_axis = traits.Enum(1, 0, desc="inner axis along which the phase is encoded")
    moved = traits.Bool(False, usedefault=True, desc="the motion is out of the series already")
    undistorted = traits.Bool(False, usedefault=True, desc="and so is the distortion")


def read_correction(inputs: Any, centre_mm: Any) -> Any:
    """Gather the inputs of :class:`CorrectionInputSpec`, with the centre in the B0 image."""
    from scsnet_bids.correction.resampling import Correction

    shift_mm = read_shifts(inputs.orig_to_dwiref)
    return Correction(
        shift_mm * (not inputs.moved),
        _read_eddy(Path(inputs.motion_by_volume), centre_mm),
        None if inputs.undistorted else read_field(inputs),
        inputs.phase_axis,
    )


def read_field(inputs: Any) -> Any:
    """Read the field of distortion, if there is one."""
    return read_image(Path(inputs.field)).data if isdefined(inputs.field) else None


def _read_eddy(motion_by_volume: Path, centre_mm: Any) -> Any:
    """Read the terms of eddy currents, if there are any."""
    from scsnet_bids.correction.eddy import EddyTerms

    terms = read_table(motion_by_volume).reindex(columns=EDDY_COLUMNS)
    scale, shear = terms.fillna(0.0).to_numpy(float).T
    return EddyTerms(scale, shear, centre_mm) if scale.any() or shear.any() else None


class ApplyCorrectionInputSpec(CorrectionInputSpec):
    """Inputs of :class:`ApplyCorrection`."""

    b0_centre = File(exists=True, mandatory=True, desc="cord per slice of the B0 image (table)")
    dwiref_to_dwi = File(exists=True, mandatory=True, desc="displacement per slice (table)")


class ApplyCorrectionOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`ApplyCorrection`."""

    corrected_dwi = File(desc="series in DTI space")
    corrected_bval = File(desc="its b-values")
    corrected_bvec = File(desc="its b-vectors")
    orig_to_dwi = File(desc="displacement of every slice to DTI space (table)")


class ApplyCorrection(SeriesInterface):
    """Bring a series to DTI space by one interpolation."""

    input_spec = ApplyCorrectionInputSpec
    output_spec = ApplyCorrectionOutputSpec
    _files: ClassVar[dict[str, str]] = {
        "corrected_dwi": "dwi.nii.gz",
        "corrected_bval": "dwi.bval",
        "corrected_bvec": "dwi.bvec",
        "orig_to_dwi": "orig_to_dwi.tsv",
    }

    def _write(self, **paths: Path) -> None:
        from scsnet_bids.correction.resampling import apply_correction, to_dti_space

        series, gradients = read_image(Path(self.inputs.dwi)), self._read_gradients()
        is_b0 = self._b0_volumes(gradients.bvals)
        b0_to_dwi_mm = read_shifts(self.inputs.dwiref_to_dwi)
        correction = read_correction(self.inputs, read_shifts(self.inputs.b0_centre))
        shift_mm = to_dti_space(correction.shift_mm, is_b0, b0_to_dwi_mm)
        corrected = apply_correction(
            series.data, replace(correction, shift_mm=shift_mm), series.grid
        )
        write_series(paths["corrected_dwi"], Image(corrected, series.grid))
        write_gradients(paths["corrected_bval"], paths["corrected_bvec"], gradients, series.grid)
        # What another tool has moved already is part of the table, and of no second interpolation.
        total_mm = to_dti_space(read_shifts(self.inputs.orig_to_dwiref), is_b0, b0_to_dwi_mm)
        write_table(paths["orig_to_dwi"], tabulate_shifts(total_mm))
