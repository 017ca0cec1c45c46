"""Own noise: what the b=0 signals of regions owe to the noise on which these were drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits

from scsnet_bids.derivatives import read_table, write_table
from scsnet_bids.images import Grid, read_image
from scsnet_bids.interfaces.base import (
    CountedSeriesInputSpec,
    NetworkInputSpec,
    SeriesInterface,
    read_shifts,
)
from scsnet_bids.interfaces.segmentation import read_borders
from scsnet_bids.outlier_table import weight_from_table
from scsnet_bids.prior_results import read_cord_mask
from scsnet_bids.settings import B0_AND_DWI, INPUTS, UnmixingSettings
from scsnet_bids.unmixing.mask_fitting import fit_regions_to_mask
from scsnet_bids.unmixing.sharpening import PlacedRegions


class EstimateOwnNoiseInputSpec(CountedSeriesInputSpec, NetworkInputSpec):
    """Inputs of :class:`EstimateOwnNoise`; the series and its gradients are the corrected ones."""

    cord_centre = File(exists=True, mandatory=True, desc="centre of the cord per slice (table)")
    orig_to_dwi = File(exists=True, mandatory=True, desc="displacement to DTI space (table)")
    border_table = File(exists=True, mandatory=True, desc="borders per slice (table)")
    unmixing_settings = traits.Instance(UnmixingSettings, mandatory=True)
    segmented_from = traits.Enum(*INPUTS, mandatory=True, desc="what the network saw")
    dwi_weights = traits.Str(desc="weights of the network that looks at the mean DWI as well")
    mean_dwi = File(exists=True, mandatory=True, desc="mean of the corrected weighted volumes")
    cord_mask = File(exists=True, desc="mask that somebody else has made, whose outline is kept")


class EstimateOwnNoiseOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`EstimateOwnNoise`."""

    own_noise = File(desc="part of the b=0 signals that is their own noise, per slice (table)")


class EstimateOwnNoise(SeriesInterface):
    """Draw the regions without some of the b=0 volumes, to tell what the noise of these did."""

    input_spec = EstimateOwnNoiseInputSpec
    output_spec = EstimateOwnNoiseOutputSpec
    _files: ClassVar[dict[str, str]] = {"own_noise": "own_noise.tsv"}

    def _write(self, own_noise: Path) -> None:  # type: ignore[override]
        from scsnet_bids.correction.averages import average_volumes
        from scsnet_bids.unmixing.own_noise import estimate_own_noise, split_volumes
        from scsnet_bids.unmixing.table import tabulate_own_noise

        series, settings = read_image(Path(self.inputs.dwi)), self.inputs.unmixing_settings
        is_b0 = self._b0_volumes(self._read_gradients().bvals)
        weight = weight_from_table(read_table(Path(self.inputs.outliers)))
        parts = split_volumes(is_b0)
        rests = (average_volumes(series.data, is_b0 & ~part, weight) for part in parts)
        shares = [self._draw(rest, series.grid) for rest in rests]
        own = estimate_own_noise(series.data, parts, shares, weight, settings)
        write_table(own_noise, tabulate_own_noise(own))

    def _draw(self, b0: Any, grid: Grid) -> Any:
        """Find the shares of the regions on a B0 image, with the borders of the run's own."""
        from scsnet_bids.network.inference import refine_regions, segment_regions
        from scsnet_bids.network.weights import load_network

        centre_mm = read_shifts(self.inputs.cord_centre)
        network = load_network(self.inputs.device, Path(self.inputs.weights))
        drawn = segment_regions(b0, grid, centre_mm, network)
        # All volumes of the corrected series lie where the mean DWI does.
        in_place = np.zeros_like(centre_mm)
        seen = self.inputs.segmented_from
        if seen == B0_AND_DWI:
            network = load_network(self.inputs.device, Path(self.inputs.dwi_weights), B0_AND_DWI)
            mean_dwi = read_image(Path(self.inputs.mean_dwi)).data
            drawn = refine_regions(drawn, b0, mean_dwi, grid, in_place, network)
        regions = PlacedRegions(
            drawn.probability,
            drawn.plane,
            grid,
            in_place,
            self.inputs.unmixing_settings.sharpness(seen),
            read_shifts(self.inputs.orig_to_dwi),
        )
        if isdefined(self.inputs.cord_mask):
            mask = read_cord_mask(Path(self.inputs.cord_mask), grid)
            regions = fit_regions_to_mask(regions, mask).regions
        borders = read_borders(Path(self.inputs.border_table))
        return regions.refined().sharpened(borders).seen_shares()
