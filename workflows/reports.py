"""Reports: pictures to judge a run by."""

from __future__ import annotations

from nipype.pipeline import engine as pe
from scsnet_bids.workflows.graph import new_graph

from scsnet_bids.interfaces import DrawRegions

INPUTS = ("b0", "fa", "region_share", "dwiref_to_dwi")
OUTPUTS = ("region_figure",)


def init_reports_wf(title: str) -> pe.Workflow:
    """Build the graph that draws a run's pictures.

    Parameters
    ----------
    title : what the pictures show

    Inputs
    ------
    b0, fa : images on which the regions are drawn
    region_share : the regions in DTI space
    dwiref_to_dwi : table, displacement from B0 to DTI space per slice

    Outputs
    -------
    region_figure : borders of the regions, slice by slice
    """
    graph = new_graph("reports_wf", INPUTS, OUTPUTS)
    inputnode, outputnode = graph.get_node("inputnode"), graph.get_node("outputnode")
    draw_regions = pe.Node(DrawRegions(title=title), name="draw_regions")
    graph.connect([(inputnode, draw_regions, [(name, name) for name in INPUTS])])
    graph.connect(draw_regions, "region_figure", outputnode, "region_figure")
    return graph
