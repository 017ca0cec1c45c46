"""Regional: maps times regions make the tables, and the tables make a judgement of the run."""

from __future__ import annotations

from nipype.pipeline import engine as pe
from scsnet_bids.workflows.graph import new_graph
from scsnet_bids.workflows.tensor import SCALAR_MAPS

from scsnet_bids.interfaces import MeasureRegions, SummariseQuality, UnmixRegions
from scsnet_bids.level_files import find_levels
from scsnet_bids.prior_results import level_source
from scsnet_bids.runs import DwiRun
from scsnet_bids.settings import Settings
from scsnet_bids.slice_marks import read_marks

PLACED = ("region_probability", "dwiref_to_dwi", "outline_table")
MEASURED = ("region_share", "cord_found", *SCALAR_MAPS, *PLACED)
CORRECTED = ("corrected_dwi", "corrected_bval", "corrected_bvec")
UNMIXED = ("region_share", "region_share_b0", "noise", "orig_to_dwiref", "outliers", *PLACED)
JUDGED = (
    "b0",
    "noise",
    "tensor",
    "direction",
    "cord_mask",
    "region_share",
    "orig_to_dwiref",
    "outliers",
    "dwiref_to_dwi",
    "outline_table",
)
INPUTS = ("dwi", *CORRECTED, *dict.fromkeys(MEASURED + UNMIXED + JUDGED))
OUTPUTS = ("region_table", "shape_table", "quality_table")


def init_regional_wf(run: DwiRun, settings: Settings) -> pe.Workflow:
    """Build the graph that measures the regions of a run.

    Parameters
    ----------
    run : whose vertebral levels are looked for
    settings : of the run

    Inputs
    ------
    dwi : the series as it was acquired
    corrected_dwi, corrected_bval, corrected_bvec : the corrected series
    region_share, cord_mask : the regions in DTI space
    region_share_b0 : shares where the cord lies in the b=0 volumes
    region_probability : probabilities on the network's grid, in B0 space
    outline_table : table, how the outline was refined per slice
    cord_found : table, confidence per slice
    fa, md, ad, rd, tensor, direction, noise : what the tensor fit gave
    b0 : B0 image
    orig_to_dwiref, dwiref_to_dwi : tables, displacements
    outliers : table, how much each slice of each volume counts

    Outputs
    -------
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
        ),
        name="measure_regions",
    )
    if levels := find_levels(run, level_source(run, settings)):
        measure_regions.inputs.levels = str(levels)
    if failed := read_marks(settings.regional.exclude_slices).get(run.prefix):
        measure_regions.inputs.excluded = list(failed)
    unmix_regions = pe.Node(
        UnmixRegions(gradient_settings=settings.gradients, unmixing_settings=settings.unmixing),
        name="unmix_regions",
    )
    summarise_quality = pe.Node(SummariseQuality(), name="summarise_quality")
    # Means of the maps.
    graph.connect([(inputnode, measure_regions, [(name, name) for name in MEASURED])])
    graph.connect(measure_regions, "shape_table", outputnode, "shape_table")
    # Values without partial volume, from the signals.
    series = [(name, name.removeprefix("corrected_")) for name in CORRECTED]
    graph.connect(inputnode, "dwi", unmix_regions, "raw_dwi")
    graph.connect([(inputnode, unmix_regions, [*series, *((name, name) for name in UNMIXED)])])
    graph.connect(measure_regions, "plain_table", unmix_regions, "plain_table")
    graph.connect(unmix_regions, "region_table", outputnode, "region_table")
    # Judge the run by its tables and by what made them.
    graph.connect([(inputnode, summarise_quality, [(name, name) for name in JUDGED])])
    graph.connect(measure_regions, "shape_table", summarise_quality, "shape_table")
    tables = [("region_table", "region_table"), ("noise_table", "noise_table")]
    graph.connect([(unmix_regions, summarise_quality, tables)])
    graph.connect(summarise_quality, "quality_table", outputnode, "quality_table")
    return graph
