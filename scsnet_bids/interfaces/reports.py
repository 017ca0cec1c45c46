"""Reports: the pictures of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, traits

from scsnet_bids.derivatives import read_table
from scsnet_bids.files import write_text
from scsnet_bids.images import read_image
from scsnet_bids.interfaces.base import (
    SeriesInputSpec,
    SeriesInterface,
    StageInterface,
    read_shifts,
)
from scsnet_bids.outlier_table import column_of_slices, counted_slices
from scsnet_bids.shift_table import shifts_from_table


class PictureInputSpec(BaseInterfaceInputSpec):  # type: ignore[misc]
    """What every picture says: whose it is."""

    run_name = traits.Str(mandatory=True, desc="name of the run")


class DrawRegionsInputSpec(PictureInputSpec):
    """Inputs of :class:`DrawRegions`."""

    b0 = File(exists=True, mandatory=True, desc="B0 image")
    mean_dwi = File(exists=True, mandatory=True, desc="mean of the corrected weighted volumes")
    fa = File(exists=True, mandatory=True, desc="fractional anisotropy")
    direction = File(exists=True, mandatory=True, desc="principal direction")
    region_share = File(exists=True, mandatory=True, desc="share of each region in every voxel")
    dwiref_to_dwi = File(exists=True, mandatory=True, desc="displacement per slice (table)")


class DrawRegionsOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`DrawRegions`."""

    b0regions = File(desc="regions on the B0 image")
    dwiregions = File(desc="regions on the mean DWI")
    faregions = File(desc="regions on FA")
    directions = File(desc="FA in the colours of the principal direction")


class DrawRegions(StageInterface):
    """Draw the regions on the images they were found in and measured in."""

    input_spec = DrawRegionsInputSpec
    output_spec = DrawRegionsOutputSpec
    _files: ClassVar[dict[str, str]] = {
        name: f"{name}.svg" for name in ("b0regions", "dwiregions", "faregions", "directions")
    }

    def _write(self, **paths: Path) -> None:
        from scsnet_bids.figures import sheets

        names = ("b0", "mean_dwi", "fa", "direction", "region_share")
        images = {name: read_image(Path(getattr(self.inputs, name))) for name in names}
        b0, mean_dwi, fa, direction, share = (image.data for image in images.values())
        spacing_mm, run = images["b0"].grid.spacing_mm, self.inputs.run_name
        shift_mm = read_shifts(self.inputs.dwiref_to_dwi)
        on = f"{run}: regions on"
        drawn = {
            "b0regions": sheets.draw_regions(
                b0, share, spacing_mm, f"{on} b=0", dwi_to_image_mm=-shift_mm
            ),
            "dwiregions": sheets.draw_regions(mean_dwi, share, spacing_mm, f"{on} the mean DWI"),
            "faregions": sheets.draw_regions(fa, share, spacing_mm, f"{on} FA", sheets.FA_RANGE),
            "directions": sheets.draw_directions(
                direction, fa, share, spacing_mm, f"{run}: directions"
            ),
        }
        for name, path in paths.items():
            write_text(path, drawn[name])


class DrawMotionInputSpec(SeriesInputSpec, PictureInputSpec):
    """Inputs of :class:`DrawMotion`; the series is the one that was acquired."""

    corrected_dwi = File(exists=True, mandatory=True, desc="corrected series")
    orig_to_dwiref = File(exists=True, mandatory=True, desc="motion (table)")
    region_share = File(exists=True, mandatory=True, desc="share of each region in every voxel")


class DrawMotionOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`DrawMotion`."""

    uncorrected = File(desc="mean of the weighted volumes before correction")
    corrected = File(desc="and after it")
    uncorrectedlines = File(desc="a line through the cord in every volume before correction")
    correctedlines = File(desc="and after it")
    displacement = File(desc="displacement of every slice of every volume")


class DrawMotion(SeriesInterface):
    """Draw the series before and after motion correction, and how far it was moved."""

    input_spec = DrawMotionInputSpec
    output_spec = DrawMotionOutputSpec
    _files: ClassVar[dict[str, str]] = {
        name: f"{name}.svg"
        for name in (
            "uncorrected",
            "corrected",
            "uncorrectedlines",
            "correctedlines",
            "displacement",
        )
    }

    def _write(self, **paths: Path) -> None:
        from scsnet_bids.figures import sheets

        share = read_image(Path(self.inputs.region_share))
        about, spacing_mm = (share.data, share.grid.spacing_mm), share.grid.spacing_mm
        weighted = self._weighted_volumes(self._read_gradients().bvals)
        means = {}
        for name, path in (
            ("uncorrected", self.inputs.dwi),
            ("corrected", self.inputs.corrected_dwi),
        ):
            series = read_image(Path(path)).data
            means[name] = series.mean(axis=-1, where=weighted)
            lines = sheets.draw_volumes(series, share.data, spacing_mm, self._title(name))
            write_text(paths[f"{name}lines"], lines)
        for name, mean in means.items():
            picture = sheets.draw_mean(mean, means["corrected"], *about, self._title(name))
            write_text(paths[name], picture)
        write_text(paths["displacement"], self._plot_displacement())

    def _title(self, name: str) -> str:
        """Say what a picture shows."""
        return f"{self.inputs.run_name}: {name} series"

    def _plot_displacement(self) -> str:
        """Plot the table of motion."""
        from scsnet_bids.figures.plots import figure_to_svg, plot_displacement

        table = read_table(Path(self.inputs.orig_to_dwiref))
        shift_mm = shifts_from_table(table)
        trusted = table.sort_values(["volume", "slice"])["trusted"].ne(0).to_numpy()
        figure = plot_displacement(shift_mm, trusted.reshape(shift_mm.shape[:2]))
        return figure_to_svg(figure, f"{self.inputs.run_name}: displacement")


class PlotTablesInputSpec(PictureInputSpec):
    """Inputs of :class:`PlotTables`."""

    region_table = File(exists=True, mandatory=True)
    shape_table = File(exists=True, mandatory=True)
    outliers = File(exists=True, mandatory=True, desc="weight per volume and slice (table)")


class PlotTablesOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`PlotTables`."""

    faprofile = File(desc="FA along the slices")
    mdprofile = File(desc="MD along the slices")
    asymmetry = File(desc="asymmetry of FA along the slices")
    shape = File(desc="shape of the cord along the slices")
    carpet = File(desc="signal of the cord in every slice of every volume")


class PlotTables(StageInterface):
    """Plot the tables along the slices."""

    input_spec = PlotTablesInputSpec
    output_spec = PlotTablesOutputSpec
    _files: ClassVar[dict[str, str]] = {
        name: f"{name}.svg" for name in ("faprofile", "mdprofile", "asymmetry", "shape", "carpet")
    }

    def _write(self, **paths: Path) -> None:
        from scsnet_bids.figures import plots

        regions = read_table(Path(self.inputs.region_table))
        drawn = {
            "faprofile": plots.plot_profiles(regions, "FA"),
            "mdprofile": plots.plot_profiles(regions, "MD"),
            "asymmetry": plots.plot_asymmetry(regions, "FA"),
            "shape": plots.plot_shape(read_table(Path(self.inputs.shape_table))),
            "carpet": self._plot_carpet(),
        }
        for name, path in paths.items():
            title = f"{self.inputs.run_name}: {name}"
            write_text(path, plots.figure_to_svg(drawn[name], title))

    def _plot_carpet(self) -> Any:
        """Plot the table of outliers."""
        from scsnet_bids.figures.carpet import plot_carpet

        table = read_table(Path(self.inputs.outliers))
        signal, expected, kind = (
            column_of_slices(table, name) for name in ("signal", "expected", "kind")
        )
        return plot_carpet(signal, expected, kind, ~counted_slices(table))
