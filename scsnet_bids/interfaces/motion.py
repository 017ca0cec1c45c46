"""Motion: where the cord is, and the corrected series."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from nipype.interfaces.base import File, TraitedSpec, traits

from scsnet_bids import confounds
from scsnet_bids.derivatives import read_table, write_table
from scsnet_bids.gradients import tensor_volumes, write_gradients
from scsnet_bids.images import Image, read_image, write_image
from scsnet_bids.interfaces.base import NetworkInputSpec, SeriesInputSpec, SeriesInterface
from scsnet_bids.settings import MotionSettings


class LocateCordInputSpec(SeriesInputSpec, NetworkInputSpec):
    """Inputs of :class:`LocateCord`."""


class LocateCordOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`LocateCord`."""

    cord_centre = File(desc="centre of the cord per slice, mm from the first voxel (table)")


class LocateCord(SeriesInterface):
    """Find the cord in the uncorrected mean b=0 image."""

    input_spec = LocateCordInputSpec
    output_spec = LocateCordOutputSpec
    _files: ClassVar[dict[str, str]] = {"cord_centre": "cord_centre.tsv"}

    def _write(self, cord_centre: Path) -> None:  # type: ignore[override]
        from scsnet_bids.network.inference import locate_cord
        from scsnet_bids.network.weights import load_network, weights_path

        series = read_image(Path(self.inputs.dwi))
        b0 = series.data[..., self._b0_volumes(self._read_gradients().bvals)].mean(axis=-1)
        settings = self.inputs.segmentation_settings
        network = load_network(settings.device, weights_path(settings.weights))
        centre_mm = locate_cord(b0, series.grid, network)
        write_table(cord_centre, confounds.tabulate_shifts(centre_mm))


class CorrectMotionInputSpec(SeriesInputSpec):
    """Inputs of :class:`CorrectMotion`."""

    cord_centre = File(exists=True, mandatory=True, desc="centre of the cord per slice (table)")
    motion_settings = traits.Instance(MotionSettings, mandatory=True)


class CorrectMotionOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`CorrectMotion`."""

    corrected_dwi = File(desc="corrected series")
    corrected_bval = File(desc="its b-values")
    corrected_bvec = File(desc="its b-vectors")
    b0 = File(desc="robust mean of the corrected b=0 volumes")
    mean_dwi = File(desc="robust mean of the corrected weighted volumes of the tensor's shells")
    orig_to_dwiref = File(desc="displacement per volume and slice (table)")
    confounds = File(desc="motion and gradient per volume (table)")


class CorrectMotion(SeriesInterface):
    """Correct in-plane motion slice by slice and average the corrected series."""

    input_spec = CorrectMotionInputSpec
    output_spec = CorrectMotionOutputSpec
    _files: ClassVar[dict[str, str]] = {
        "corrected_dwi": "dwi.nii.gz",
        "corrected_bval": "dwi.bval",
        "corrected_bvec": "dwi.bvec",
        "b0": "b0.nii.gz",
        "mean_dwi": "mean_dwi.nii.gz",
        "orig_to_dwiref": "orig_to_dwiref.tsv",
        "confounds": "confounds.tsv",
    }

    def _write(self, **paths: Path) -> None:
        from scsnet_bids import motion

        gradients = self._read_gradients()
        series = read_image(Path(self.inputs.dwi))
        is_b0 = self._b0_volumes(gradients.bvals)
        centre_mm = confounds.shifts_from_table(read_table(Path(self.inputs.cord_centre)))
        estimate = motion.estimate_motion(
            series.data, is_b0, centre_mm, series.grid, self.inputs.motion_settings
        )
        corrected = motion.apply_shifts(series.data, estimate.shift_mm, series.grid)
        weighted = tensor_volumes(gradients.bvals, self.inputs.gradient_settings) & ~is_b0
        write_image(paths["corrected_dwi"], Image(corrected, series.grid))
        write_gradients(paths["corrected_bval"], paths["corrected_bvec"], gradients, series.grid)
        write_image(paths["b0"], Image(motion.average_b0(corrected, is_b0), series.grid))
        write_image(paths["mean_dwi"], Image(motion.average_dwi(corrected, weighted), series.grid))
        shifts = confounds.tabulate_shifts(estimate.shift_mm, estimate.trusted)
        write_table(paths["orig_to_dwiref"], shifts)
        summary = confounds.tabulate_confounds(estimate.shift_mm, estimate.trusted, gradients)
        write_table(paths["confounds"], summary)
