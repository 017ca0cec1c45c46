"""Outliers: slices of volumes that lost their signal, and the averages of what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from nipype.interfaces.base import File, TraitedSpec

from scsnet_bids import confounds, outlier_table
from scsnet_bids.derivatives import read_table, write_table
from scsnet_bids.images import Grid, Image, read_image, write_image
from scsnet_bids.interfaces.base import SeriesInterface, read_shifts
from scsnet_bids.interfaces.motion import CorrectionInputSpec, read_correction, read_field
from scsnet_bids.shift_table import tabulate_shifts


class FindOutliersInputSpec(CorrectionInputSpec):
    """Inputs of :class:`FindOutliers`."""

    cord_centre = File(exists=True, mandatory=True, desc="centre of the cord as acquired (table)")


class FindOutliersOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`FindOutliers`."""

    outliers = File(desc="how much each slice of each volume counts (table)")
    b0 = File(desc="robust mean of the corrected b=0 volumes")
    b0_centre = File(desc="centre of the cord per slice in it (table)")
    mean_dwi = File(desc="robust mean of the corrected weighted volumes of the tensor's shells")
    confounds = File(desc="motion, gradient and outliers per volume (table)")


class FindOutliers(SeriesInterface):
    """Find slices that lost their signal, and average the corrected series without them.

    In the means every kind of volume lies where its own reference does. The series itself is not
    kept: its b=0 volumes are moved on once it is known where they belong.
    """

    input_spec = FindOutliersInputSpec
    output_spec = FindOutliersOutputSpec
    _files: ClassVar[dict[str, str]] = {
        "outliers": "outliers.tsv",
        "b0": "b0.nii.gz",
        "b0_centre": "b0_centre.tsv",
        "mean_dwi": "mean_dwi.nii.gz",
        "confounds": "confounds.tsv",
    }

    def _write(self, **paths: Path) -> None:
        from scsnet_bids.correction.averages import average_volumes
        from scsnet_bids.correction.outliers import find_outliers
        from scsnet_bids.correction.resampling import apply_correction

        series, gradients = read_image(Path(self.inputs.dwi)), self._read_gradients()
        grid, settings = series.grid, self.inputs.gradient_settings
        centre_mm = self._read_centre(grid)
        corrected = apply_correction(series.data, read_correction(self.inputs, centre_mm), grid)
        found = find_outliers(corrected, gradients, centre_mm, grid, settings)
        kinds = {
            "b0": self._b0_volumes(gradients.bvals),
            "mean_dwi": self._weighted_volumes(gradients.bvals),
        }
        for name, chosen in kinds.items():
            write_image(paths[name], Image(average_volumes(corrected, chosen, found.weight), grid))
        write_table(paths["b0_centre"], tabulate_shifts(centre_mm))
        write_table(paths["outliers"], outlier_table.tabulate_slices(vars(found)))
        tables = (self.inputs.orig_to_dwiref, self.inputs.motion_by_volume)
        shifts, by_volume = (read_table(Path(table)) for table in tables)
        summary = confounds.tabulate_confounds(shifts, by_volume, gradients)
        write_table(paths["confounds"], outlier_table.add_outlier_fraction(summary, found.weight))

    def _read_centre(self, grid: Grid) -> Any:
        """Read where the cord lies, without the distortion of the series as acquired."""
        from scsnet_bids.correction.resampling import undistorted_centre

        centre_mm = read_shifts(self.inputs.cord_centre)
        field_mm = read_field(self.inputs)
        if field_mm is None:
            return centre_mm
        return undistorted_centre(centre_mm, field_mm, self.inputs.phase_axis, grid)
