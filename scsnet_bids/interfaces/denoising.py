"""Denoising: the series as acquired, less noise or ringing."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from nipype.interfaces.base import File, TraitedSpec, traits

from scsnet_bids.images import Image, read_image, write_image, write_series
from scsnet_bids.interfaces.base import SeriesInputSpec, SeriesInterface
from scsnet_bids.settings import DenoisingSettings


class DenoiseSeriesInputSpec(SeriesInputSpec):
    """Inputs of :class:`DenoiseSeries`."""

    denoising_settings = traits.Instance(DenoisingSettings, mandatory=True)


class DenoiseSeriesOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`DenoiseSeries`."""

    denoised_dwi = File(desc="series without noise or ringing, volumes and grid as before")
    removed_noise = File(desc="standard deviation over the volumes of what was removed")


class DenoiseSeries(SeriesInterface):
    """Remove noise and Gibbs ringing from a series."""

    input_spec = DenoiseSeriesInputSpec
    output_spec = DenoiseSeriesOutputSpec
    _files: ClassVar[dict[str, str]] = {
        "denoised_dwi": "denoised_dwi.nii.gz",
        "removed_noise": "removed_noise.nii.gz",
    }

    def _write(self, denoised_dwi: Path, removed_noise: Path) -> None:  # type: ignore[override]
        from scsnet_bids.correction.denoising import denoise, removed_deviation

        series = read_image(Path(self.inputs.dwi))
        is_b0 = self._b0_volumes(self._read_gradients().bvals)
        denoised = denoise(series.data, is_b0, self.inputs.denoising_settings)
        removed = removed_deviation(series.data, denoised).astype(np.float32)
        write_series(denoised_dwi, Image(denoised, series.grid))
        write_image(removed_noise, Image(removed, series.grid))
