"""Motion: where the cord is, and the corrected series."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits

from scsnet_bids import confounds
from scsnet_bids.derivatives import read_table, write_table
from scsnet_bids.gradients import write_gradients
from scsnet_bids.images import Image, read_image, write_image
from scsnet_bids.interfaces.base import NetworkInputSpec, SeriesInputSpec, SeriesInterface
from scsnet_bids.prior_results import read_cord_mask
from scsnet_bids.settings import MotionSettings
from scsnet_bids.unmixing.mask_fitting import centre_of_mask

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
        from scsnet_bids.correction.jumps import find_jumps, undo_jumps
        from scsnet_bids.network.inference import locate_cord
        from scsnet_bids.network.weights import load_network, weights_path

        series = read_image(Path(self.inputs.dwi))
        if isdefined(self.inputs.cord_mask):
            mask = read_cord_mask(Path(self.inputs.cord_mask), series.grid)
            centre_mm = centre_of_mask(mask, series.grid.spacing_mm)
            write_table(cord_centre, confounds.tabulate_shifts(centre_mm))
            return
        is_b0 = self._b0_volumes(self._read_gradients().bvals)
        still = undo_jumps(series.data, find_jumps(series.data, is_b0, series.grid))
        b0 = still[..., is_b0].mean(axis=-1)
        settings = self.inputs.segmentation_settings
        network = load_network(settings.device, weights_path(settings.weights))
        centre_mm = locate_cord(b0, series.grid, network)
        write_table(cord_centre, confounds.tabulate_shifts(centre_mm))


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
        centre_mm = confounds.shifts_from_table(read_table(Path(self.inputs.cord_centre)))
        settings = self.inputs.motion_settings
        estimate = estimate_motion(series.data, is_b0, centre_mm, series.grid, settings, gradients)
        shifts = confounds.tabulate_shifts(estimate.shift_mm, estimate.trusted)
        write_table(orig_to_dwiref, shifts)
        by_volume = pd.DataFrame({"last_step": estimate.last_step_mm})
        if settings.method != "none":
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
        write_table(motion_by_volume, by_volume)


class ApplyCorrectionInputSpec(SeriesInputSpec):
    """Inputs of :class:`ApplyCorrection`."""

    orig_to_dwiref = File(exists=True, mandatory=True, desc="motion per volume and slice (table)")
    motion_by_volume = File(exists=True, mandatory=True, desc="of each volume (table)")
    cord_centre = File(exists=True, mandatory=True, desc="centre of the cord per slice (table)")
    field = File(exists=True, desc="distortion along the phase-encode axis, mm (image)")
    phase_axis = traits.Enum(1, 0, desc="inner axis along which the phase is encoded")
    moved = traits.Bool(False, usedefault=True, desc="the motion is out of the series already")


class ApplyCorrectionOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`ApplyCorrection`."""

    corrected_dwi = File(desc="corrected series")
    corrected_bval = File(desc="its b-values")
    corrected_bvec = File(desc="its b-vectors")
    motion_confounds = File(desc="motion and gradient per volume (table)")


class ApplyCorrection(SeriesInterface):
    """Correct a series by one interpolation."""

    input_spec = ApplyCorrectionInputSpec
    output_spec = ApplyCorrectionOutputSpec
    _files: ClassVar[dict[str, str]] = {
        "corrected_dwi": "dwi.nii.gz",
        "corrected_bval": "dwi.bval",
        "corrected_bvec": "dwi.bvec",
        "motion_confounds": "motion_confounds.tsv",
    }

    def _write(self, **paths: Path) -> None:
        from scsnet_bids.correction.resampling import apply_correction

        gradients = self._read_gradients()
        series = read_image(Path(self.inputs.dwi))
        grid = series.grid
        corrected = apply_correction(series.data, self._read_correction(), grid)
        write_image(paths["corrected_dwi"], Image(corrected, grid))
        write_gradients(paths["corrected_bval"], paths["corrected_bvec"], gradients, grid)
        tables = (self.inputs.orig_to_dwiref, self.inputs.motion_by_volume)
        shifts, by_volume = (read_table(Path(table)) for table in tables)
        summary = confounds.tabulate_confounds(shifts, by_volume, gradients)
        write_table(paths["motion_confounds"], summary)

    def _read_correction(self) -> Any:
        """Gather what was estimated in the steps before."""
        from scsnet_bids.correction.resampling import Correction

        shift_mm = confounds.shifts_from_table(read_table(Path(self.inputs.orig_to_dwiref)))
        field = self.inputs.field
        return Correction(
            shift_mm * (not self.inputs.moved),
            self._read_eddy(),
            read_image(Path(field)).data if isdefined(field) else None,
            self.inputs.phase_axis,
        )

    def _read_eddy(self) -> Any:
        """Read the terms of eddy currents, if there are any."""
        from scsnet_bids.correction.eddy import EddyTerms

        terms = read_table(Path(self.inputs.motion_by_volume)).reindex(columns=EDDY_COLUMNS)
        scale, shear = terms.fillna(0.0).to_numpy(float).T
        if not (scale.any() or shear.any()):
            return None
        centre_mm = confounds.shifts_from_table(read_table(Path(self.inputs.cord_centre)))
        return EddyTerms(scale, shear, centre_mm)
