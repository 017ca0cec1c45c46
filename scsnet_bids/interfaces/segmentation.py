"""Segmentation: SCS-Net on the B0 image, and its regions brought to DTI space."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    TraitedSpec,
    isdefined,
    traits,
)

from scsnet_bids.derivatives import read_table, write_table
from scsnet_bids.gradients import tensor_volumes
from scsnet_bids.images import Grid, Image, read_image, write_image
from scsnet_bids.interfaces.base import (
    CountedSeriesInputSpec,
    NetworkInputSpec,
    SeriesInterface,
    StageInterface,
    read_shifts,
)
from scsnet_bids.outlier_table import counted_slices
from scsnet_bids.prior_results import read_cord_mask
from scsnet_bids.regions import REGIONS
from scsnet_bids.settings import B0_AND_DWI, INPUTS, AlignmentSettings, UnmixingSettings
from scsnet_bids.shift_table import tabulate_shifts
from scsnet_bids.slices import PlaneGrid, slices_to_volume
from scsnet_bids.unmixing.mask_fitting import fit_regions_to_mask
from scsnet_bids.unmixing.noise import NoiseLevel
from scsnet_bids.unmixing.sharpening import Borders, PlacedRegions, fit_borders
from scsnet_bids.unmixing.table import tabulate_noise


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
        centre_mm = read_shifts(self.inputs.cord_centre)
        network = load_network(self.inputs.device, Path(self.inputs.weights))
        result = segment_regions(b0.data, b0.grid, centre_mm, network)
        _write_regions(region_probability, result.probability, result.plane, b0.grid)
        _write_found(cord_found, result.found, result.confidence)


def _write_regions(path: Path, probability: Any, plane: PlaneGrid, grid: Grid) -> None:
    """Write (k, 9, rows, columns) probabilities on a plane of an image's grid."""
    write_image(path, Image(slices_to_volume(probability), plane.on_image(grid)))


def _write_found(path: Path, found: Any, confidence: Any) -> None:
    """Write whether and how surely the cord was found in every slice."""
    table = pd.DataFrame({"found": found.astype(int), "confidence": confidence})
    write_table(path, table.rename_axis("slice").reset_index())


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
        from scsnet_bids.correction.alignment import estimate_b0_to_dwi

        mean_dwi = read_image(Path(self.inputs.mean_dwi))
        probability, plane = _read_probability(Path(self.inputs.region_probability), mean_dwi.grid)
        shifts = estimate_b0_to_dwi(
            1 - probability[:, 0],
            plane,
            mean_dwi.data,
            mean_dwi.grid,
            self.inputs.alignment_settings,
        )
        table = tabulate_shifts(shifts.shift_mm, shifts.trusted)
        if not self.inputs.alignment_settings.enabled:
            table["trusted"] = np.nan
        write_table(dwiref_to_dwi, table)


class RefineRegionsInputSpec(NetworkInputSpec, NetworkPlaneInputSpec):
    """Inputs of :class:`RefineRegions`."""

    b0 = File(exists=True, mandatory=True, desc="B0 image")
    mean_dwi = File(exists=True, mandatory=True, desc="mean of the corrected weighted volumes")
    cord_found = File(exists=True, mandatory=True, desc="cord on B0 alone, per slice (table)")
    dwiref_to_dwi = File(exists=True, mandatory=True, desc="displacement per slice (table)")


class RefineRegions(StageInterface):
    """Look once more at the cord that was found, on B0 image and mean DWI together."""

    input_spec = RefineRegionsInputSpec
    output_spec = SegmentRegionsOutputSpec
    _files: ClassVar[dict[str, str]] = SegmentRegions._files

    def _write(self, region_probability: Path, cord_found: Path) -> None:  # type: ignore[override]
        from scsnet_bids.network.inference import RegionSegmentation, refine_regions
        from scsnet_bids.network.weights import load_network

        b0, mean_dwi = (read_image(Path(p)) for p in (self.inputs.b0, self.inputs.mean_dwi))
        probability, plane = _read_probability(Path(self.inputs.region_probability), b0.grid)
        table = read_table(Path(self.inputs.cord_found))
        found, confidence = table["found"].to_numpy(bool), table["confidence"].to_numpy(float)
        result = refine_regions(
            RegionSegmentation(probability, plane, found, confidence),
            b0.data,
            mean_dwi.data,
            b0.grid,
            read_shifts(self.inputs.dwiref_to_dwi),
            load_network(self.inputs.device, Path(self.inputs.weights), B0_AND_DWI),
        )
        _write_regions(region_probability, result.probability, result.plane, b0.grid)
        _write_found(cord_found, result.found, result.confidence)


class PlacedRegionsInputSpec(NetworkPlaneInputSpec):
    """Region probabilities with what brings them to a series."""

    segmented_from = traits.Enum(*INPUTS, mandatory=True, desc="what the network saw")
    dwiref_to_dwi = File(exists=True, mandatory=True, desc="displacement per slice (table)")
    unmixing_settings = traits.Instance(UnmixingSettings, mandatory=True)


class BorderedRegionsInputSpec(PlacedRegionsInputSpec):
    """The same, with the borders that were found."""

    border_table = File(exists=True, mandatory=True, desc="borders per slice (table)")


def read_placed_regions(
    inputs: Any, grid: Grid, moved_mm: npt.NDArray[np.floating] | None = None
) -> PlacedRegions:
    """Read the inputs of :class:`PlacedRegionsInputSpec`."""
    probability, plane = _read_probability(Path(inputs.region_probability), grid)
    shift_mm = read_shifts(inputs.dwiref_to_dwi)
    sharpness = inputs.unmixing_settings.sharpness(inputs.segmented_from)
    return PlacedRegions(probability, plane, grid, shift_mm, sharpness, moved_mm)


def read_borders(path: Path) -> Borders:
    """Read the borders that :class:`TransferRegions` has found."""
    table = read_table(path)
    return Borders(**{f.name: table[f.name].to_numpy() for f in fields(Borders)})


class FitRegionsToMaskInputSpec(PlacedRegionsInputSpec):
    """Inputs of :class:`FitRegionsToMask`."""

    mean_dwi = File(exists=True, mandatory=True, desc="mean of the corrected weighted volumes")
    cord_mask = File(exists=True, mandatory=True, desc="mask that somebody else has made")


class FitRegionsToMask(StageInterface):
    """Let the regions share the cord of a mask that somebody else has made."""

    input_spec = FitRegionsToMaskInputSpec
    output_spec = SegmentRegionsOutputSpec
    _files: ClassVar[dict[str, str]] = SegmentRegions._files

    def _write(self, region_probability: Path, cord_found: Path) -> None:  # type: ignore[override]
        grid = read_image(Path(self.inputs.mean_dwi)).grid
        mask = read_cord_mask(Path(self.inputs.cord_mask), grid)
        fitted = fit_regions_to_mask(read_placed_regions(self.inputs, grid), mask)
        probability = fitted.regions.probability.astype(np.float32)
        _write_regions(region_probability, probability, fitted.regions.plane, grid)
        _write_found(cord_found, fitted.found, fitted.overlap)


class TransferRegionsInputSpec(CountedSeriesInputSpec, PlacedRegionsInputSpec):
    """Inputs of :class:`TransferRegions`; the series and its gradients are the corrected ones."""

    raw_dwi = File(exists=True, mandatory=True, desc="series as acquired: interpolation bends air")
    orig_to_dwi = File(exists=True, mandatory=True, desc="displacement to DTI space (table)")
    noise = File(exists=True, mandatory=True, desc="standard deviation about the tensor fit")
    removed_noise = File(exists=True, desc="standard deviation of what denoising has removed")
    outline_given = traits.Bool(False, usedefault=True, desc="whether the outline stays as it is")


class TransferRegionsOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`TransferRegions`."""

    noise_table = File(desc="noise level in one row (table)")
    region_share = File(desc="share of background and each region in every voxel")
    border_table = File(desc="how the borders were moved, per slice (table)")
    region_label = File(desc="label of every voxel")
    region_lut = File(desc="names and colours of the labels (table)")
    cord_mask = File(desc="cord")


class TransferRegions(SeriesInterface):
    """Bring the regions to DTI space in one resampling, their borders fitted to the series."""

    input_spec = TransferRegionsInputSpec
    output_spec = TransferRegionsOutputSpec
    _files: ClassVar[dict[str, str]] = {
        "noise_table": "noise_table.tsv",
        "region_share": "region_share.nii.gz",
        "border_table": "border_table.tsv",
        "region_label": "region_label.nii.gz",
        "region_lut": "region_lut.tsv",
        "cord_mask": "cord_mask.nii.gz",
    }

    def _write(self, **paths: Path) -> None:
        from scsnet_bids.unmixing.transfer import cord_mask, label_regions

        series = read_image(Path(self.inputs.dwi))
        grid = series.grid
        moved_mm = read_shifts(self.inputs.orig_to_dwi)
        regions = read_placed_regions(self.inputs, grid, moved_mm)
        counted = counted_slices(read_table(Path(self.inputs.outliers)))
        unmoved = Borders.unmoved(grid.shape[2])
        level = self._estimate_noise(1 - regions.sharpened(unmoved).shares()[..., 0], moved_mm)
        write_table(paths["noise_table"], tabulate_noise(level))
        borders = (
            unmoved
            if self.inputs.outline_given
            else fit_borders(series.data, regions, counted, level.rician_sigma)
        )
        share = regions.refined().sharpened(borders).shares()
        write_image(paths["region_share"], Image(share.astype(np.float32), grid))
        write_image(paths["region_label"], Image(label_regions(share), grid))
        write_image(paths["cord_mask"], Image(cord_mask(share).astype(np.uint8), grid))
        per_slice = pd.DataFrame(vars(borders)).astype({"at_limit": int})
        write_table(paths["border_table"], per_slice.rename_axis("slice").reset_index())
        rows = [(r.label, r.name, r.abbreviation, r.color) for r in REGIONS]
        lut = pd.DataFrame(rows, columns=["index", "name", "abbreviation", "color"])
        write_table(paths["region_lut"], lut)

    def _estimate_noise(
        self, cord_share: npt.NDArray[np.floating], moved_mm: npt.NDArray[np.floating]
    ) -> NoiseLevel:
        """Estimate the noise level from the series as acquired and the tensor's residual."""
        from scsnet_bids.correction.denoising import add_removed
        from scsnet_bids.unmixing.noise import estimate_noise, interpolation_gain

        bvals = self._read_gradients().bvals
        fitted = tensor_volumes(bvals, self.inputs.gradient_settings)
        raw = read_image(Path(self.inputs.raw_dwi))
        gain = interpolation_gain(moved_mm / np.array(raw.grid.spacing_mm[:2]))
        residual = read_image(Path(self.inputs.noise)).data
        if isdefined(self.inputs.removed_noise):
            removed = read_image(Path(self.inputs.removed_noise)).data
            residual = add_removed(residual, gain * removed)
        is_b0 = self._b0_volumes(bvals)
        return estimate_noise(raw.data, is_b0, residual, cord_share, gain, fitted)
