"""Nipype classes: files in, files out, and one function of the package in between.

The libraries that take long to import are imported where they run, so that a graph is built in
a moment and a worker loads only what its step needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from nipype.interfaces.base import (
    BaseInterface,
    BaseInterfaceInputSpec,
    Bunch,
    DynamicTraitedSpec,
    File,
    TraitedSpec,
    traits,
)

from scsnet_bids import confounds
from scsnet_bids.derivatives import Derivative, read_table, save_derivative, write_table
from scsnet_bids.gradients import (
    b0_volumes,
    read_gradients,
    tensor_volumes,
    write_gradients,
)
from scsnet_bids.images import Grid, Image, read_grid, read_image, write_image
from scsnet_bids.regions import REGIONS
from scsnet_bids.settings import (
    AlignmentSettings,
    GradientSettings,
    MotionSettings,
    RegionalSettings,
    SegmentationSettings,
    UnmixingSettings,
)
from scsnet_bids.slices import PlaneGrid, slices_to_volume


class StageInterface(BaseInterface):  # type: ignore[misc]
    """Base of the package's interfaces: every output is a file of the working directory.

    A subclass maps each output field to a file name in ``_files`` and writes them in ``_write``.
    """

    _files: ClassVar[dict[str, str]] = {}

    def _run_interface(self, runtime: Bunch) -> Bunch:
        """Run the stage in its working directory."""
        folder = Path(runtime.cwd)
        self._write(**{field: folder / name for field, name in self._files.items()})
        self._written = {field: str(folder / name) for field, name in self._files.items()}
        return runtime

    def _list_outputs(self) -> dict[str, str]:
        """Name the files that the run has written."""
        return self._written

    def _write(self, **paths: Path) -> None:
        """Compute the stage and write its files."""
        raise NotImplementedError


class SeriesInputSpec(BaseInterfaceInputSpec):  # type: ignore[misc]
    """A diffusion series with its gradients, and which volumes count as what."""

    dwi = File(exists=True, mandatory=True, desc="diffusion series")
    bval = File(exists=True, mandatory=True, desc="b-values, s/mm2")
    bvec = File(exists=True, mandatory=True, desc="b-vectors, FSL convention")
    gradient_settings = traits.Instance(GradientSettings, mandatory=True)


class SeriesInterface(StageInterface):
    """A stage that starts from a diffusion series."""

    input_spec = SeriesInputSpec

    def _read_gradients(self) -> Any:
        """Read the gradients of the series in scanner RAS+."""
        grid, n_volumes = read_grid(Path(self.inputs.dwi))
        bval, bvec = Path(self.inputs.bval), Path(self.inputs.bvec)
        return read_gradients(bval, bvec, grid, n_volumes, Path(self.inputs.dwi))

    def _b0_volumes(self, bvals: Any) -> Any:
        """Tell which volumes count as b=0."""
        return b0_volumes(bvals, self.inputs.gradient_settings.b0_max)


class NetworkInputSpec(BaseInterfaceInputSpec):  # type: ignore[misc]
    """What every stage that runs the network needs."""

    segmentation_settings = traits.Instance(SegmentationSettings, mandatory=True)
    weights_sha256 = traits.Str(
        mandatory=True, desc="checksum of the weights, so that new weights recompute the stage"
    )


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
        from scsnet_bids.network.weights import load_network

        series = read_image(Path(self.inputs.dwi))
        b0 = series.data[..., self._b0_volumes(self._read_gradients().bvals)].mean(axis=-1)
        network = load_network(self.inputs.segmentation_settings.device)
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


class SegmentRegionsInputSpec(NetworkInputSpec):
    """Inputs of :class:`SegmentRegions`."""

    b0 = File(exists=True, mandatory=True, desc="B0 image")
    cord_centre = File(exists=True, mandatory=True, desc="centre of the cord per slice (table)")


class SegmentRegionsOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`SegmentRegions`."""

    region_probability = File(desc="nine probabilities per pixel of the network's grid")
    cord_found = File(desc="whether and how surely the cord was found, per slice (table)")


class SegmentRegions(StageInterface):
    """Run SCS-Net on the B0 image."""

    input_spec = SegmentRegionsInputSpec
    output_spec = SegmentRegionsOutputSpec
    _files: ClassVar[dict[str, str]] = {
        "region_probability": "region_probability.nii.gz",
        "cord_found": "cord_found.tsv",
    }

    def _write(self, region_probability: Path, cord_found: Path) -> None:  # type: ignore[override]
        from scsnet_bids.network.inference import segment_regions
        from scsnet_bids.network.weights import load_network

        b0 = read_image(Path(self.inputs.b0))
        centre_mm = confounds.shifts_from_table(read_table(Path(self.inputs.cord_centre)))
        network = load_network(self.inputs.segmentation_settings.device)
        result = segment_regions(b0.data, b0.grid, centre_mm, network)
        volume = slices_to_volume(result.probability)
        write_image(region_probability, Image(volume, result.plane.on_image(b0.grid)))
        table = {"found": result.found.astype(int), "confidence": result.confidence}
        write_table(cord_found, pd.DataFrame(table).rename_axis("slice").reset_index())


class NetworkPlaneInputSpec(BaseInterfaceInputSpec):  # type: ignore[misc]
    """Region probabilities on the network's grid, in B0 space."""

    region_probability = File(exists=True, mandatory=True, desc="probabilities, network grid")


def _read_probability(path: Path, grid: Grid) -> tuple[Any, PlaneGrid]:
    """Read (k, 9, rows, columns) probabilities and their plane relative to an image's grid."""
    probability = read_image(path)
    slices = np.ascontiguousarray(probability.data.transpose(2, 3, 1, 0))
    return slices, PlaneGrid.between(grid, probability.grid)


class AlignB0ToDwiInputSpec(NetworkPlaneInputSpec):
    """Inputs of :class:`AlignB0ToDwi`."""

    mean_dwi = File(exists=True, mandatory=True, desc="mean of the corrected weighted volumes")
    alignment_settings = traits.Instance(AlignmentSettings, mandatory=True)


class AlignB0ToDwiOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`AlignB0ToDwi`."""

    dwiref_to_dwi = File(desc="displacement from B0 to DTI space per slice (table)")


class AlignB0ToDwi(StageInterface):
    """Estimate the residual displacement of the cord from the B0 image to the mean DWI."""

    input_spec = AlignB0ToDwiInputSpec
    output_spec = AlignB0ToDwiOutputSpec
    _files: ClassVar[dict[str, str]] = {"dwiref_to_dwi": "dwiref_to_dwi.tsv"}

    def _write(self, dwiref_to_dwi: Path) -> None:  # type: ignore[override]
        from scsnet_bids.alignment import estimate_b0_to_dwi

        mean_dwi = read_image(Path(self.inputs.mean_dwi))
        probability, plane = _read_probability(Path(self.inputs.region_probability), mean_dwi.grid)
        shifts = estimate_b0_to_dwi(
            1 - probability[:, 0],
            plane,
            mean_dwi.data,
            mean_dwi.grid,
            self.inputs.alignment_settings,
        )
        write_table(dwiref_to_dwi, confounds.tabulate_shifts(shifts.shift_mm, shifts.trusted))


class TransferRegionsInputSpec(SeriesInputSpec, NetworkPlaneInputSpec):
    """Inputs of :class:`TransferRegions`; the series and its gradients are the corrected ones."""

    dwiref_to_dwi = File(exists=True, mandatory=True, desc="displacement per slice (table)")
    unmixing_settings = traits.Instance(UnmixingSettings, mandatory=True)


class TransferRegionsOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`TransferRegions`."""

    region_share = File(desc="share of background and each region in every voxel")
    region_share_b0 = File(desc="the same where the cord lies in the b=0 volumes")
    outline_table = File(desc="how the outline was refined, in one row (table)")
    region_label = File(desc="label of every voxel")
    region_lut = File(desc="names and colours of the labels (table)")
    cord_mask = File(desc="cord")


class TransferRegions(SeriesInterface):
    """Bring the regions to DTI space in one resampling, their outline fitted to the series."""

    input_spec = TransferRegionsInputSpec
    output_spec = TransferRegionsOutputSpec
    _files: ClassVar[dict[str, str]] = {
        "region_share": "region_share.nii.gz",
        "region_share_b0": "region_share_b0.nii.gz",
        "outline_table": "outline_table.tsv",
        "region_label": "region_label.nii.gz",
        "region_lut": "region_lut.tsv",
        "cord_mask": "cord_mask.nii.gz",
    }

    def _write(self, **paths: Path) -> None:
        from scsnet_bids.sharpening import sharpen_shares
        from scsnet_bids.transfer import cord_mask, label_regions

        series = read_image(Path(self.inputs.dwi))
        grid = series.grid
        sharp = sharpen_shares(
            series.data,
            self._b0_volumes(self._read_gradients().bvals),
            *_read_probability(Path(self.inputs.region_probability), grid),
            grid,
            confounds.shifts_from_table(read_table(Path(self.inputs.dwiref_to_dwi))),
            self.inputs.unmixing_settings,
        )
        share = sharp.shares.weighted
        write_image(paths["region_share"], Image(share.astype(np.float32), grid))
        write_image(paths["region_share_b0"], Image(sharp.shares.b0.astype(np.float32), grid))
        write_image(paths["region_label"], Image(label_regions(share), grid))
        write_image(paths["cord_mask"], Image(cord_mask(share).astype(np.uint8), grid))
        outline = {
            "outline_area_ratio": [sharp.area_ratio],
            "outline_at_limit": [int(sharp.at_limit)],
        }
        write_table(paths["outline_table"], pd.DataFrame(outline))
        rows = [(r.label, r.name, r.abbreviation, r.color) for r in REGIONS]
        lut = pd.DataFrame(rows, columns=["index", "name", "abbreviation", "color"])
        write_table(paths["region_lut"], lut)


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

    output_spec = FitTensorOutputSpec
    _files: ClassVar[dict[str, str]] = {
        name: f"{name}.nii.gz" for name in ("fa", "md", "ad", "rd", "tensor", "direction", "noise")
    }

    def _write(self, **paths: Path) -> None:
        from scsnet_bids.tensor import fit_tensor

        series = read_image(Path(self.inputs.dwi))
        maps = fit_tensor(series.data, self._read_gradients(), None, self.inputs.gradient_settings)
        for name, path in paths.items():
            write_image(path, Image(getattr(maps, name).astype(np.float32), series.grid))


class MeasureRegionsInputSpec(BaseInterfaceInputSpec):  # type: ignore[misc]
    """Inputs of :class:`MeasureRegions`."""

    region_share = File(exists=True, mandatory=True, desc="share of each region in every voxel")
    cord_found = File(exists=True, mandatory=True, desc="confidence per slice (table)")
    fa = File(exists=True, mandatory=True)
    md = File(exists=True, mandatory=True)
    ad = File(exists=True, mandatory=True)
    rd = File(exists=True, mandatory=True)
    regional_settings = traits.Instance(RegionalSettings, mandatory=True)


class MeasureRegionsOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`MeasureRegions`."""

    plain_table = File(desc="means of the maps: one row per slice, region and metric")
    shape_table = File(desc="area and diameters of the cord per slice")


class MeasureRegions(StageInterface):
    """Measure the maps in every region, and the cord's shape."""

    input_spec = MeasureRegionsInputSpec
    output_spec = MeasureRegionsOutputSpec
    _files: ClassVar[dict[str, str]] = {
        "plain_table": "plain_table.tsv",
        "shape_table": "shape_table.tsv",
    }

    def _write(self, plain_table: Path, shape_table: Path) -> None:  # type: ignore[override]
        from scsnet_bids.levels import measure_shape
        from scsnet_bids.regional import measure_regions

        share = read_image(Path(self.inputs.region_share))
        maps = {
            name.upper(): read_image(Path(getattr(self.inputs, name))).data
            for name in ("fa", "md", "ad", "rd")
        }
        confidence = read_table(Path(self.inputs.cord_found))["confidence"].to_numpy(float)
        spacing_mm, settings = share.grid.spacing_mm, self.inputs.regional_settings
        rows = measure_regions(share.data, maps, spacing_mm, confidence, settings)
        write_table(plain_table, rows)
        cord_share = 1 - share.data[..., 0]
        shape = measure_shape(cord_share, spacing_mm, confidence, settings.low_confidence)
        write_table(shape_table, shape)


class UnmixRegionsInputSpec(SeriesInputSpec):
    """Inputs of :class:`UnmixRegions`; the series and its gradients are the corrected ones."""

    raw_dwi = File(exists=True, mandatory=True, desc="series as acquired: interpolation bends air")
    orig_to_dwiref = File(exists=True, mandatory=True, desc="motion (table)")
    region_share = File(exists=True, mandatory=True, desc="share of each region in every voxel")
    region_share_b0 = File(exists=True, mandatory=True, desc="the same in the b=0 volumes")
    noise = File(exists=True, mandatory=True, desc="standard deviation about the tensor fit")
    plain_table = File(exists=True, mandatory=True, desc="region table without unmixed values")
    unmixing_settings = traits.Instance(UnmixingSettings, mandatory=True)


class UnmixRegionsOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`UnmixRegions`."""

    region_table = File(desc="region table with unmixed values")
    noise_table = File(desc="noise level in one row (table)")


class UnmixRegions(SeriesInterface):
    """Take partial volume and noise floor out of the regions' signals before the tensor."""

    input_spec = UnmixRegionsInputSpec
    output_spec = UnmixRegionsOutputSpec
    _files: ClassVar[dict[str, str]] = {
        "region_table": "region_table.tsv",
        "noise_table": "noise_table.tsv",
    }

    def _write(self, region_table: Path, noise_table: Path) -> None:  # type: ignore[override]
        from scsnet_bids.unmixed_table import add_unmixed, tabulate_noise
        from scsnet_bids.unmixing import RegionShares, unmix_regions

        series, gradients = read_image(Path(self.inputs.dwi)), self._read_gradients()
        weighted, b0 = (
            read_image(Path(getattr(self.inputs, name))).data
            for name in ("region_share", "region_share_b0")
        )
        level = self._estimate_noise(self._b0_volumes(gradients.bvals), 1 - weighted[..., 0])
        unmixed = unmix_regions(
            series.data,
            RegionShares(weighted, b0),
            gradients,
            level.rician_sigma,
            self.inputs.unmixing_settings,
            self.inputs.gradient_settings,
        )
        plain = read_table(Path(self.inputs.plain_table))
        write_table(region_table, add_unmixed(plain, unmixed))
        write_table(noise_table, tabulate_noise(level))

    def _estimate_noise(self, is_b0: Any, cord_share: Any) -> Any:
        """Estimate the noise level from the series as acquired and the tensor's residual."""
        from scsnet_bids.noise import estimate_noise, interpolation_gain

        raw = read_image(Path(self.inputs.raw_dwi))
        shift_mm = confounds.shifts_from_table(read_table(Path(self.inputs.orig_to_dwiref)))
        gain = interpolation_gain(shift_mm / np.array(raw.grid.spacing_mm[:2]))
        residual = read_image(Path(self.inputs.noise)).data
        return estimate_noise(raw.data, is_b0, residual, cord_share, gain)


class SummariseQualityInputSpec(BaseInterfaceInputSpec):  # type: ignore[misc]
    """Inputs of :class:`SummariseQuality`."""

    b0 = File(exists=True, mandatory=True, desc="B0 image")
    noise = File(exists=True, mandatory=True, desc="standard deviation about the tensor fit")
    tensor = File(exists=True, mandatory=True, desc="tensor")
    cord_mask = File(exists=True, mandatory=True, desc="cord")
    orig_to_dwiref = File(exists=True, mandatory=True, desc="motion (table)")
    dwiref_to_dwi = File(exists=True, mandatory=True, desc="displacement from B0 to DWI (table)")
    region_table = File(exists=True, mandatory=True)
    shape_table = File(exists=True, mandatory=True)
    noise_table = File(exists=True, mandatory=True, desc="noise level in one row (table)")
    outline_table = File(exists=True, mandatory=True, desc="refined outline in one row (table)")


class SummariseQualityOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`SummariseQuality`."""

    quality_table = File(desc="the run's quality in one row (table)")


class SummariseQuality(StageInterface):
    """Judge a run in one row."""

    input_spec = SummariseQualityInputSpec
    output_spec = SummariseQualityOutputSpec
    _files: ClassVar[dict[str, str]] = {"quality_table": "quality_table.tsv"}

    def _write(self, quality_table: Path) -> None:  # type: ignore[override]
        from scsnet_bids.quality import signal_to_noise, summarise_quality
        from scsnet_bids.tensor import non_positive_tensors

        b0, noise, tensor, cord = (
            read_image(Path(getattr(self.inputs, name))).data
            for name in ("b0", "noise", "tensor", "cord_mask")
        )
        motion, b0_to_dwi, shape, regions = (
            read_table(Path(getattr(self.inputs, name)))
            for name in ("orig_to_dwiref", "dwiref_to_dwi", "shape_table", "region_table")
        )
        cord_mask = cord > 0
        failed = non_positive_tensors(tensor[cord_mask])
        row = summarise_quality(
            signal_to_noise(b0, noise, cord_mask),
            float(failed.mean()) if failed.size else np.nan,
            confounds.shifts_from_table(motion),
            motion["trusted"].to_numpy(bool),
            confounds.shifts_from_table(b0_to_dwi),
            shape,
            regions,
        )
        more = [
            read_table(Path(getattr(self.inputs, name)))
            for name in ("noise_table", "outline_table")
        ]
        write_table(quality_table, pd.concat([row, *more], axis=1))


class DrawRegionsInputSpec(BaseInterfaceInputSpec):  # type: ignore[misc]
    """Inputs of :class:`DrawRegions`."""

    b0 = File(exists=True, mandatory=True, desc="B0 image")
    fa = File(exists=True, mandatory=True, desc="fractional anisotropy")
    region_share = File(exists=True, mandatory=True, desc="share of each region in every voxel")
    dwiref_to_dwi = File(exists=True, mandatory=True, desc="displacement per slice (table)")
    title = traits.Str(mandatory=True, desc="what the picture shows")


class DrawRegionsOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`DrawRegions`."""

    region_figure = File(desc="regions on the B0 image and on FA")


class DrawRegions(StageInterface):
    """Draw the regions on the images they were found in and measured in."""

    input_spec = DrawRegionsInputSpec
    output_spec = DrawRegionsOutputSpec
    _files: ClassVar[dict[str, str]] = {"region_figure": "regions.png"}

    def _write(self, region_figure: Path) -> None:  # type: ignore[override]
        from scsnet_bids.figures import draw_regions

        b0, fa, share = (
            read_image(Path(getattr(self.inputs, name))) for name in ("b0", "fa", "region_share")
        )
        shift_mm = confounds.shifts_from_table(read_table(Path(self.inputs.dwiref_to_dwi)))
        figure = draw_regions(
            b0.data, fa.data, share.data, shift_mm, b0.grid.spacing_mm, self.inputs.title
        )
        figure.savefig(region_figure, dpi=110)


class SaveDerivativesInputSpec(DynamicTraitedSpec):  # type: ignore[misc]
    """One file field per derivative, made from the list that the node is built with."""

    derivatives = traits.List(traits.Instance(Derivative), mandatory=True)


class SaveDerivativesOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`SaveDerivatives`."""

    saved = traits.List(File(exists=True), desc="files in the output folder")


class SaveDerivatives(BaseInterface):  # type: ignore[misc]
    """Copy a run's products to their BIDS names, each with its sidecar, whole or not at all."""

    input_spec = SaveDerivativesInputSpec
    output_spec = SaveDerivativesOutputSpec
    # Someone may have deleted the output folder: copy again even where nothing has changed.
    _always_run = True

    def __init__(self, derivatives: list[Derivative], **inputs: Any) -> None:
        super().__init__(derivatives=derivatives, **inputs)
        for derivative in derivatives:
            self.inputs.add_trait(derivative.field, File(exists=True, mandatory=True))

    def _run_interface(self, runtime: Bunch) -> Bunch:
        for derivative in self.inputs.derivatives:
            save_derivative(derivative, Path(getattr(self.inputs, derivative.field)))
        return runtime

    def _list_outputs(self) -> dict[str, list[str]]:
        return {"saved": [str(derivative.path) for derivative in self.inputs.derivatives]}
