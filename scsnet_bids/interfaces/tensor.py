"""Tensor: the fit and its maps."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from nipype.interfaces.base import File, TraitedSpec

from scsnet_bids.derivatives import read_table
from scsnet_bids.images import Image, read_image, write_image
from scsnet_bids.interfaces.base import CountedSeriesInputSpec, SeriesInterface
from scsnet_bids.outlier_table import weight_from_table


class FitTensorOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`FitTensor`."""

    fa = File(desc="fractional anisotropy")
    md = File(desc="mean diffusivity, mm2/s")
    ad = File(desc="axial diffusivity, mm2/s")
    rd = File(desc="radial diffusivity, mm2/s")
    tensor = File(desc="Dxx Dxy Dxz Dyy Dyz Dzz in scanner RAS+, mm2/s")
    direction = File(desc="principal direction in scanner RAS+")
    noise = File(desc="standard deviation of the signal about the fit")


class FitTensor(SeriesInterface):
    """Fit the diffusion tensor."""

    input_spec = CountedSeriesInputSpec
    output_spec = FitTensorOutputSpec
    _files: ClassVar[dict[str, str]] = {
        name: f"{name}.nii.gz" for name in ("fa", "md", "ad", "rd", "tensor", "direction", "noise")
    }

    def _write(self, **paths: Path) -> None:
        from scsnet_bids.tensor import fit_tensor

        series = read_image(Path(self.inputs.dwi))
        gradients, settings = self._read_gradients(), self.inputs.gradient_settings
        weight = weight_from_table(read_table(Path(self.inputs.outliers)))
        maps = fit_tensor(series.data, gradients, None, settings, weight)
        for name, path in paths.items():
            write_image(path, Image(getattr(maps, name).astype(np.float32), series.grid))
