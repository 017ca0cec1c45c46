"""Regional: regions in DTI space, times maps, make the tables; those judge the run."""

from __future__ import annotations

from pathlib import Path

from nipype.pipeline import engine as pe
from scsnet_bids.workflows.graph import new_graph
from scsnet_bids.workflows.segmentation import describe_network
from scsnet_bids.workflows.tensor import CORRECTED, SCALAR_MAPS

from scsnet_bids.images import read_grid
from scsnet_bids.interfaces import (
    EstimateOwnNoise,
    MeasureRegions,
    SummariseQuality,
    TransferRegions,
    UnmixRegions,
)
from scsnet_bids.level_files import find_levels
from scsnet_bids.network.weights import weights_path
from scsnet_bids.prior_results import level_source
from scsnet_bids.runs import DwiRun
from scsnet_bids.settings import B0_AND_DWI, Settings
from scsnet_bids.slice_marks import failed_slices, read_marks

PLACED = ("region_probability", "dwiref_to_dwi")
MEASURED = ("cord_found", *SCALAR_MAPS, *PLACED)
FITTED = ("noise", "orig_to_dwi", "outliers", *PLACED)
UNMIXED = ("orig_to_dwi", "outliers", *PLACED)
DRAWN_ANEW = ("orig_to_dwi", "outliers", "mean_dwi")
JUDGED = ("b0", "noise", "tensor", "direction", "orig_to_dwiref", "outliers", "dwiref_to_dwi")
INPUTS = ("dwi", "b0_centre", *CORRECTED, *dict.fromkeys(MEASURED + FITTED + JUDGED + DRAWN_ANEW))
TRANSFERRED = ("region_share", "region_label", "region_lut", "cord_mask")
OUTPUTS = (*TRANSFERRED, "region_table", "shape_table", "quality_table")


def init_regional_wf(run: DwiRun, settings: Settings, cord_mask: Path | None) -> pe.Workflow:
    """Build the graph that measures the regions of a run.

    Parameters
    ----------
    run : whose vertebral levels are looked for
    settings : of the run
    cord_mask : mask that somebody else has made, whose outline is kept; None if there is none

    Inputs
    ------
    dwi : the series as it was acquired
    corrected_dwi, corrected_bval, corrected_bvec : the series in DTI space
    region_probability : probabilities on the network's grid, in B0 space
    cord_found : table, confidence per slice
    fa, md, ad, rd, tensor, direction, noise : what the tensor fit gave
    b0, mean_dwi : averages of the corrected volumes of either kind
    b0_centre : table, centre of the cord per slice
    orig_to_dwiref, dwiref_to_dwi, orig_to_dwi : tables, displacements
    outliers : table, how much each slice of each volume counts

    Outputs
    -------
    region_share, region_label, region_lut, cord_mask : the regions in DTI space
    region_table : one row per slice, region and metric
    shape_table : one row per slice
    quality_table : one row
    """
    graph = new_graph("regional_wf", INPUTS, OUTPUTS)
    inputnode, outputnode = graph.get_node("inputnode"), graph.get_node("outputnode")
    measure_regions = pe.Node(
        MeasureRegions(
            run_name=run.prefix,
            regional_settings=settings.regional,
            unmixing_settings=settings.unmixing,
            segmented_from=settings.segmentation.input,
        ),
        name="measure_regions",
    )
    if levels := find_levels(run, level_source(run, settings)):
        measure_regions.inputs.levels = str(levels)
    marks = read_marks(settings.regional.exclude_slices)
    if failed := failed_slices(marks, run.prefix, read_grid(run.image)[0].shape[2]):
        measure_regions.inputs.excluded = list(failed)
    unmix_regions = pe.Node(
        UnmixRegions(
            gradient_settings=settings.gradients,
            unmixing_settings=settings.unmixing,
            segmented_from=settings.segmentation.input,
        ),
        name="unmix_regions",
    )
    summarise_quality = pe.Node(SummariseQuality(), name="summarise_quality")
    # One resampling to the voxels of the maps; the series says how large the cord is.
    transfer_regions = _init_transfer_regions(settings, cord_mask)
    estimate_own_noise = _init_estimate_own_noise(settings, cord_mask)
    series = [(name, name.removeprefix("corrected_")) for name in CORRECTED]
    graph.connect(inputnode, "dwi", transfer_regions, "raw_dwi")
    graph.connect([(inputnode, transfer_regions, [*series, *((name, name) for name in FITTED)])])
    graph.connect([(transfer_regions, outputnode, [(name, name) for name in TRANSFERRED])])
    found = {
        measure_regions: ("region_share", "border_table"),
        estimate_own_noise: ("border_table",),
        unmix_regions: ("noise_table", "border_table"),
        summarise_quality: ("cord_mask", "region_share", "noise_table", "border_table"),
    }
    for node, names in found.items():
        graph.connect([(transfer_regions, node, [(name, name) for name in names])])
    # Means of the maps.
    graph.connect([(inputnode, measure_regions, [(name, name) for name in MEASURED])])
    graph.connect(measure_regions, "shape_table", outputnode, "shape_table")
    # Values without partial volume, from the signals.
    graph.connect([(inputnode, unmix_regions, [*series, *((name, name) for name in UNMIXED)])])
    graph.connect(measure_regions, "plain_table", unmix_regions, "plain_table")
    graph.connect(unmix_regions, "region_table", outputnode, "region_table")
    # What is measured on the volumes on which the regions were drawn holds some of their noise.
    drawn_anew = [*series, *((name, name) for name in DRAWN_ANEW), ("b0_centre", "cord_centre")]
    graph.connect([(inputnode, estimate_own_noise, drawn_anew)])
    graph.connect(estimate_own_noise, "own_noise", unmix_regions, "own_noise")
    # Judge the run by its tables and by what made them.
    graph.connect([(inputnode, summarise_quality, [(name, name) for name in JUDGED])])
    graph.connect(measure_regions, "shape_table", summarise_quality, "shape_table")
    tables = [("region_table", "region_table"), ("fit_table", "fit_table")]
    graph.connect([(unmix_regions, summarise_quality, tables)])
    graph.connect(summarise_quality, "quality_table", outputnode, "quality_table")
    return graph


def _init_estimate_own_noise(settings: Settings, cord_mask: Path | None) -> pe.Node:
    """Build the node that draws the regions anew, with what the networks see."""
    node = pe.Node(
        EstimateOwnNoise(
            gradient_settings=settings.gradients,
            unmixing_settings=settings.unmixing,
            segmented_from=settings.segmentation.input,
            **describe_network(settings.segmentation),
        ),
        name="estimate_own_noise",
    )
    if settings.segmentation.input == B0_AND_DWI:
        node.inputs.dwi_weights = str(weights_path(settings.segmentation, B0_AND_DWI))
    if cord_mask is not None:
        node.inputs.cord_mask = str(cord_mask)
    return node


def _init_transfer_regions(settings: Settings, cord_mask: Path | None) -> pe.Node:
    """Build the node that brings the regions to DTI space."""
    interface = TransferRegions(
        gradient_settings=settings.gradients,
        unmixing_settings=settings.unmixing,
        segmented_from=settings.segmentation.input,
        outline_given=cord_mask is not None,
    )
    return pe.Node(interface, name="transfer_regions")
