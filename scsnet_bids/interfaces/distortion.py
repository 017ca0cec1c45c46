"""Distortion: the field of a run, from images with reversed phase encoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from nipype.interfaces.base import File, TraitedSpec, traits

from scsnet_bids.images import Image, read_image, write_image
from scsnet_bids.interfaces.base import SeriesInputSpec, SeriesInterface, read_shifts
from scsnet_bids.settings import MotionSettings


class EstimateDistortionInputSpec(SeriesInputSpec):
    """Inputs of :class:`EstimateDistortion`."""

    cord_centre = File(exists=True, mandatory=True, desc="centre of the cord per slice (table)")
    orig_to_dwiref = File(exists=True, mandatory=True, desc="motion per volume and slice (table)")
    motion_settings = traits.Instance(MotionSettings, mandatory=True)
    moved = traits.Bool(False, usedefault=True, desc="the motion is out of the series already")
    phase_axis = traits.Enum(1, 0, desc="inner axis along which the phase is encoded")
    reversed_dwi = File(exists=True, mandatory=True, desc="image or images, phase reversed")
    reversed_volumes = traits.List(traits.Int, mandatory=True, desc="those that are b=0")
    readout_ratio = traits.Float(1.0, usedefault=True, desc="their readout time over the series'")


class EstimateDistortionOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`EstimateDistortion`."""

    field = File(desc="distortion along the phase-encode axis, mm (image)")


class EstimateDistortion(SeriesInterface):
    """Estimate distortion from b=0 images with opposite phase encoding."""

    input_spec = EstimateDistortionInputSpec
    output_spec = EstimateDistortionOutputSpec
    _files: ClassVar[dict[str, str]] = {"field": "field.nii.gz"}

    def _write(self, field: Path) -> None:  # type: ignore[override]
        from scsnet_bids.correction.distortion import estimate_distortion

        series = read_image(Path(self.inputs.dwi))
        centre_mm = read_shifts(self.inputs.cord_centre)
        shifts = read_shifts(self.inputs.orig_to_dwiref)
        is_b0 = self._b0_volumes(self._read_gradients().bvals)
        still = 0.0 if self.inputs.moved else 1.0
        b0 = _mean_still(series.data[..., is_b0], shifts[is_b0] * still, series)
        other = read_image(Path(self.inputs.reversed_dwi))
        volumes = other.data.reshape(*other.grid.shape, -1)[..., self.inputs.reversed_volumes]
        field_mm = estimate_distortion(
            b0,
            _mean_still(volumes, self._motion_of(volumes, centre_mm, other), other),
            centre_mm,
            series.grid.spacing_mm,
            self.inputs.readout_ratio,
            self.inputs.phase_axis,
        )
        write_image(field, Image(field_mm, series.grid))

    def _motion_of(self, volumes: Any, centre_mm: Any, image: Image) -> Any:
        """(m, k, 2) motion of the reversed volumes against each other."""
        from scsnet_bids.correction.motion import estimate_motion

        everyone = np.ones(volumes.shape[3], dtype=bool)
        settings = self.inputs.motion_settings
        return estimate_motion(volumes, everyone, centre_mm, image.grid, settings).shift_mm


def _mean_still(volumes: Any, shift_mm: Any, image: Image) -> Any:
    """(i, j, k) mean of volumes without their motion."""
    from scsnet_bids.correction.averages import average_volumes
    from scsnet_bids.correction.resampling import Correction, apply_correction

    corrected = apply_correction(volumes, Correction(shift_mm), image.grid)
    n, k = shift_mm.shape[:2]
    return average_volumes(corrected, np.ones(n, dtype=bool), np.ones((n, k)))
