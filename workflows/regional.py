"""Regional: maps times regions make the tables, and the tables make a judgement of the run."""

from __future__ import annotations

from nipype.pipeline import engine as pe
from scsnet_bids.workflows.graph import new_graph
from scsnet_bids.workflows.tensor import SCALAR_MAPS

from scsnet_bids.interfaces import MeasureRegions, SummariseQuality
from scsnet_bids.settings import RegionalSettings

MEASURED = ("region_share", "cord_found", *SCALAR_MAPS)
JUDGED = ("b0", "noise", "tensor", "cord_mask", "orig_to_dwiref", "dwiref_to_dwi")
TABLES = ("region_table", "shape_table")
INPUTS = (*MEASURED, *JUDGED)
OUTPUTS = (*TABLES, "quality_table")


def init_regional_wf(settings: RegionalSettings) -> pe.Workflow:
    """Build the graph that measures the regions.

    Inputs
    ------
    region_share, cord_mask : the regions in DTI space
    cord_found : table, confidence per slice
    fa, md, ad, rd, tensor, noise : what the tensor fit gave
    b0 : B0 image
    orig_to_dwiref, dwiref_to_dwi : tables, displacements

    Outputs
    -------
    region_table : one row per slice, region and metric
    shape_table : one row per slice
    quality_table : one row
    """
    graph = new_graph("regional_wf", INPUTS, OUTPUTS)
    inputnode, outputnode = graph.get_node("inputnode"), graph.get_node("outputnode")
    measure_regions = pe.Node(MeasureRegions(regional_settings=settings), name="measure_regions")
    summarise_quality = pe.Node(SummariseQuality(), name="summarise_quality")
    tables = [(name, name) for name in TABLES]
    graph.connect([(inputnode, measure_regions, [(name, name) for name in MEASURED])])
    graph.connect([(measure_regions, outputnode, tables)])
    # Judge the run by its tables and by what made them.
    graph.connect([(inputnode, summarise_quality, [(name, name) for name in JUDGED])])
    graph.connect([(measure_regions, summarise_quality, tables)])
    graph.connect(summarise_quality, "quality_table", outputnode, "quality_table")
    return graph
