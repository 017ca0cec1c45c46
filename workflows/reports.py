"""Reports: the pictures of a run, each group saved by itself, so that one may fail alone."""

from __future__ import annotations

from pathlib import Path

from nipype.pipeline import engine as pe
from scsnet_bids.workflows.graph import new_graph
from scsnet_bids.workflows.outputs import init_save_figures

from scsnet_bids.interfaces import DrawMotion, DrawRegions, PlotTables
from scsnet_bids.runs import DwiRun
from scsnet_bids.settings import Settings

REGIONS_SHOWN = ("b0", "mean_dwi", "fa", "direction", "region_share", "dwiref_to_dwi")
MOTION_SHOWN = ("dwi", "bval", "bvec", "corrected_dwi", "orig_to_dwiref", "region_share")
PLOTTED = ("region_table", "shape_table", "outliers")
INPUTS = tuple(dict.fromkeys(REGIONS_SHOWN + MOTION_SHOWN + PLOTTED))


def init_reports_wf(out_dir: Path, run: DwiRun, settings: Settings) -> pe.Workflow:
    """Build the graph that draws and saves a run's pictures.

    Parameters
    ----------
    out_dir : output folder
    run : the run
    settings : of the run

    Inputs
    ------
    b0, mean_dwi, fa, direction : images on which the regions are drawn
    region_share : the regions in DTI space
    dwiref_to_dwi, orig_to_dwiref : tables, displacements
    dwi, bval, bvec : the series as it was acquired
    corrected_dwi : the corrected series
    region_table, shape_table, outliers : tables that are plotted
    """
    graph = new_graph("reports_wf", INPUTS, ())
    inputnode = graph.get_node("inputnode")
    draw_regions = pe.Node(DrawRegions(run_name=run.prefix), name="draw_regions")
    draw_motion = pe.Node(
        DrawMotion(run_name=run.prefix, gradient_settings=settings.gradients), name="draw_motion"
    )
    plot_tables = pe.Node(PlotTables(run_name=run.prefix), name="plot_tables")
    shown = {draw_regions: REGIONS_SHOWN, draw_motion: MOTION_SHOWN, plot_tables: PLOTTED}
    for node, products in shown.items():
        graph.connect([(inputnode, node, [(name, name) for name in products])])
        pictures = list(node.outputs.copyable_trait_names())
        save = init_save_figures(out_dir, run, pictures, name=f"save_{node.name}")
        graph.connect([(node, save, [(name, name) for name in pictures])])
    return graph
