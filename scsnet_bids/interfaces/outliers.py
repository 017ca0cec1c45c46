"""Outliers: slices of volumes that lost their signal, and the averages of what is left."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from nipype.interfaces.base import File, TraitedSpec

from scsnet_bids import confounds, outlier_table
from scsnet_bids.derivatives import read_table, write_table
from scsnet_bids.gradients import tensor_volumes
from scsnet_bids.images import Image, read_image, write_image
from scsnet_bids.interfaces.base import SeriesInputSpec, SeriesInterface


class FindOutliersInputSpec(SeriesInputSpec):
    """Inputs of :class:`FindOutliers`; the series and its gradients are the corrected ones."""

    cord_centre = File(exists=True, mandatory=True, desc="centre of the cord per slice (table)")
    motion_confounds = File(exists=True, mandatory=True, desc="motion per volume (table)")


class FindOutliersOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`FindOutliers`."""

    outliers = File(desc="how much each slice of each volume counts (table)")
    b0 = File(desc="robust mean of the corrected b=0 volumes")
    mean_dwi = File(desc="robust mean of the corrected weighted volumes of the tensor's shells")
    confounds = File(desc="motion, gradient and outliers per volume (table)")


class FindOutliers(SeriesInterface):
    """Find slices that lost their signal, and average the corrected series without them."""

    input_spec = FindOutliersInputSpec
    output_spec = FindOutliersOutputSpec
    _files: ClassVar[dict[str, str]] = {
        "outliers": "outliers.tsv",
        "b0": "b0.nii.gz",
        "mean_dwi": "mean_dwi.nii.gz",
        "confounds": "confounds.tsv",
    }

    def _write(self, **paths: Path) -> None:
        from scsnet_bids.correction.averages import average_volumes
        from scsnet_bids.correction.outliers import find_outliers

        series, gradients = read_image(Path(self.inputs.dwi)), self._read_gradients()
        settings = self.inputs.gradient_settings
        centre_mm = confounds.shifts_from_table(read_table(Path(self.inputs.cord_centre)))
        found = find_outliers(series.data, gradients, centre_mm, series.grid, settings)
        is_b0 = self._b0_volumes(gradients.bvals)
        weighted = tensor_volumes(gradients.bvals, settings) & ~is_b0
        for name, chosen in (("b0", is_b0), ("mean_dwi", weighted)):
            mean = average_volumes(series.data, chosen, found.weight)
            write_image(paths[name], Image(mean, series.grid))
        write_table(paths["outliers"], outlier_table.tabulate_slices(vars(found)))
        by_volume = read_table(Path(self.inputs.motion_confounds))
        write_table(paths["confounds"], outlier_table.add_outlier_fraction(by_volume, found.weight))
