"""Regional: the tables of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    TraitedSpec,
    isdefined,
    traits,
)

from scsnet_bids.derivatives import read_table, write_table
from scsnet_bids.images import Grid, read_image
from scsnet_bids.interfaces.base import (
    CountedSeriesInputSpec,
    SeriesInterface,
    StageInterface,
    read_shifts,
)
from scsnet_bids.interfaces.segmentation import (
    BorderedRegionsInputSpec,
    read_borders,
    read_placed_regions,
)
from scsnet_bids.level_files import read_levels
from scsnet_bids.outlier_table import outlier_shares, weight_from_table
from scsnet_bids.settings import RegionalSettings
from scsnet_bids.shift_table import shifts_from_table


class MeasureRegionsInputSpec(BorderedRegionsInputSpec):
    """Inputs of :class:`MeasureRegions`."""

    region_share = File(exists=True, mandatory=True, desc="share of each region in every voxel")
    cord_found = File(exists=True, mandatory=True, desc="confidence per slice (table)")
    fa = File(exists=True, mandatory=True)
    md = File(exists=True, mandatory=True)
    ad = File(exists=True, mandatory=True)
    rd = File(exists=True, mandatory=True)
    levels = File(exists=True, desc="vertebral levels (table or label image)")
    excluded = traits.List(traits.Int(), desc="slices that a reader failed")
    run_name = traits.Str(mandatory=True, desc="name of the run")
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
        from scsnet_bids.cord_shape import measure_shape
        from scsnet_bids.regional import SliceNotes, measure_regions
        from scsnet_bids.unmixing.borders import TYPICAL_ERRORS, alternative_regions

        share = read_image(Path(self.inputs.region_share))
        maps = {
            name.upper(): read_image(Path(getattr(self.inputs, name))).data
            for name in ("fa", "md", "ad", "rd")
        }
        confidence = read_table(Path(self.inputs.cord_found))["confidence"].to_numpy(float)
        spacing_mm, settings = share.grid.spacing_mm, self.inputs.regional_settings
        borders = read_borders(Path(self.inputs.border_table))
        regions = read_placed_regions(self.inputs, share.grid).refined()
        errors = TYPICAL_ERRORS[self.inputs.segmented_from]
        others = [other.shares() for other in alternative_regions(regions, borders, errors)]
        cord_share = 1 - share.data[..., 0]
        level = self._read_levels(cord_share, share.grid)
        excluded = self.inputs.excluded if isdefined(self.inputs.excluded) else ()
        notes = SliceNotes(level, excluded)
        rows = measure_regions(share.data, maps, spacing_mm, confidence, settings, others, notes)
        write_table(plain_table, rows)
        shape = measure_shape(
            cord_share, spacing_mm, confidence, settings.low_confidence, level, excluded
        )
        write_table(shape_table, shape)

    def _read_levels(self, cord_share: Any, grid: Grid) -> Any:
        """Read the vertebral level of every slice; None if nothing tells it."""
        if not isdefined(self.inputs.levels):
            return None
        return read_levels(Path(self.inputs.levels), self.inputs.run_name, cord_share, grid)


class UnmixRegionsInputSpec(CountedSeriesInputSpec, BorderedRegionsInputSpec):
    """Inputs of :class:`UnmixRegions`; the series and its gradients are the corrected ones."""

    orig_to_dwi = File(exists=True, mandatory=True, desc="displacement to DTI space (table)")
    noise_table = File(exists=True, mandatory=True, desc="noise level in one row (table)")
    own_noise = File(exists=True, mandatory=True, desc="own noise of b=0 signals (table)")
    plain_table = File(exists=True, mandatory=True, desc="region table without unmixed values")


class UnmixRegionsOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`UnmixRegions`."""

    region_table = File(desc="region table with unmixed values")
    fit_table = File(desc="unexplained signal in one row (table)")


class UnmixRegions(SeriesInterface):
    """Take partial volume and noise floor out of the regions' signals before the tensor."""

    input_spec = UnmixRegionsInputSpec
    output_spec = UnmixRegionsOutputSpec
    _files: ClassVar[dict[str, str]] = {
        "region_table": "region_table.tsv",
        "fit_table": "fit_table.tsv",
    }

    def _write(self, region_table: Path, fit_table: Path) -> None:  # type: ignore[override]
        from scsnet_bids.unmixing.borders import TYPICAL_ERRORS, alternative_regions
        from scsnet_bids.unmixing.own_noise import take_out_own_noise
        from scsnet_bids.unmixing.signals import change_of_values, unmix_regions
        from scsnet_bids.unmixing.table import (
            add_unmixed,
            noise_from_table,
            own_noise_from_table,
            tabulate_fit,
        )

        series, gradients = read_image(Path(self.inputs.dwi)), self._read_gradients()
        settings = (self.inputs.unmixing_settings, self.inputs.gradient_settings)
        weight = weight_from_table(read_table(Path(self.inputs.outliers)))
        sigma = noise_from_table(read_table(Path(self.inputs.noise_table))).rician_sigma
        borders = read_borders(Path(self.inputs.border_table))
        moved_mm = read_shifts(self.inputs.orig_to_dwi)
        regions = read_placed_regions(self.inputs, series.grid, moved_mm).refined()
        shares = [regions.sharpened(borders).seen_shares()]
        errors = TYPICAL_ERRORS[self.inputs.segmented_from]
        others = alternative_regions(regions, borders, errors)
        shares += [other.seen_shares() for other in others]
        unmixed = unmix_regions(series.data, shares[0], gradients, sigma, *settings, weight)
        own = own_noise_from_table(read_table(Path(self.inputs.own_noise)))
        unmixed = take_out_own_noise(unmixed, own, gradients, self.inputs.gradient_settings)
        change = change_of_values(series.data, shares, gradients, unmixed, *settings)
        plain = read_table(Path(self.inputs.plain_table))
        write_table(region_table, add_unmixed(plain, unmixed, change))
        write_table(fit_table, tabulate_fit(unmixed))


class SummariseQualityInputSpec(BaseInterfaceInputSpec):  # type: ignore[misc]
    """Inputs of :class:`SummariseQuality`."""

    b0 = File(exists=True, mandatory=True, desc="B0 image")
    noise = File(exists=True, mandatory=True, desc="standard deviation about the tensor fit")
    tensor = File(exists=True, mandatory=True, desc="tensor")
    direction = File(exists=True, mandatory=True, desc="principal direction")
    region_share = File(exists=True, mandatory=True, desc="share of each region in every voxel")
    cord_mask = File(exists=True, mandatory=True, desc="cord")
    orig_to_dwiref = File(exists=True, mandatory=True, desc="motion (table)")
    outliers = File(exists=True, mandatory=True, desc="weight per volume and slice (table)")
    dwiref_to_dwi = File(exists=True, mandatory=True, desc="displacement from B0 to DWI (table)")
    region_table = File(exists=True, mandatory=True)
    shape_table = File(exists=True, mandatory=True)
    noise_table = File(exists=True, mandatory=True, desc="noise level in one row (table)")
    fit_table = File(exists=True, mandatory=True, desc="unexplained signal in one row (table)")
    border_table = File(exists=True, mandatory=True, desc="moved borders per slice (table)")


class SummariseQualityOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`SummariseQuality`."""

    quality_table = File(desc="the run's quality in one row (table)")


class SummariseQuality(StageInterface):
    """Judge a run in one row."""

    input_spec = SummariseQualityInputSpec
    output_spec = SummariseQualityOutputSpec
    _files: ClassVar[dict[str, str]] = {"quality_table": "quality_table.tsv"}

    def _write(self, quality_table: Path) -> None:  # type: ignore[override]
        from scsnet_bids.compression import tabulate_compression
        from scsnet_bids.quality import summarise_quality
        from scsnet_bids.unmixing.table import summarise_borders

        motion, b0_to_dwi, shape, regions = (
            read_table(Path(getattr(self.inputs, name)))
            for name in ("orig_to_dwiref", "dwiref_to_dwi", "shape_table", "region_table")
        )
        row = summarise_quality(
            self._measure_images() | outlier_shares(read_table(Path(self.inputs.outliers))),
            shifts_from_table(motion),
            motion["trusted"].to_numpy(float),
            shifts_from_table(b0_to_dwi),
            b0_to_dwi.sort_values("slice")["trusted"].to_numpy(float),
            shape,
            regions,
        )
        noise, fit, borders = (
            read_table(Path(getattr(self.inputs, f"{name}_table")))
            for name in ("noise", "fit", "border")
        )
        compression = tabulate_compression(shape, regions)
        parts = [row, noise, fit, summarise_borders(borders), compression]
        write_table(quality_table, pd.concat(parts, axis=1))

    def _measure_images(self) -> dict[str, float]:
        """Measure what the tables do not hold."""
        from scsnet_bids.quality import direction_angle, signal_to_noise
        from scsnet_bids.regions import white_matter_share
        from scsnet_bids.tensor import non_positive_tensors

        names = ("b0", "noise", "tensor", "cord_mask", "direction", "region_share")
        images = {name: read_image(Path(getattr(self.inputs, name))) for name in names}
        b0, noise, tensor, cord, direction, share = (image.data for image in images.values())
        failed = non_positive_tensors(tensor[cord > 0])
        grid = images["b0"].grid
        b0_to_dwi = read_shifts(self.inputs.dwiref_to_dwi) / np.array(grid.spacing_mm[:2])
        white = white_matter_share(share)
        return {
            "snr_b0": signal_to_noise(b0, noise, cord > 0, b0_to_dwi),
            "non_positive_share": float(failed.mean()) if failed.size else np.nan,
            "direction_angle_rad": direction_angle(
                direction, white, 1 - share[..., 0], grid.affine
            ),
        }
