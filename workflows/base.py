"""The whole way of a run, from its files to its derivatives: who feeds whom, nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from nipype.pipeline import engine as pe
from scsnet_bids.workflows import motion, outputs, regional, reports, segmentation, tensor
from scsnet_bids.workflows.graph import new_graph

from scsnet_bids import __version__
from scsnet_bids.fieldmaps import plan_distortion
from scsnet_bids.images import read_grid
from scsnet_bids.prior_results import find_prior, settings_of_run
from scsnet_bids.runs import DwiRun
from scsnet_bids.settings import Settings

GRAPH_NAME = "scsnet_" + "".join(c if c.isalnum() else "_" for c in __version__)
RUN_INPUTS = ("dwi", "bval", "bvec")
STEP_GB = 0.5
"""A step with its libraries before it has read anything; measured 0.4."""
COPIES = 3
"""Double-precision copies of the series that a step holds at most; measured 2.3."""
COPIES_OF_PATCH2SELF = 8
"""Measured 6.9."""


def init_scsnet_wf(runs: Sequence[DwiRun], out_dir: Path, settings: Settings) -> pe.Workflow:
    """Build the graph of all runs.

    The version is part of its name, so that a new version never takes the old one's results
    from the work directory.

    Parameters
    ----------
    runs : good runs
    out_dir : output folder
    settings : of all runs

    Returns
    -------
    nipype Workflow with one subgraph per run
    """
    graph = pe.Workflow(name=GRAPH_NAME)
    graph.add_nodes([init_run_wf(run, out_dir, settings) for run in runs])
    return graph


def run_graph_name(run: DwiRun) -> str:
    """Name the subgraph of a run; names of graphs hold letters, digits and underscores only."""
    return run.prefix.replace("-", "_").replace("+", "_plus_") + "_wf"


def run_folder(work_dir: Path, run: DwiRun) -> Path:
    """Name the folder of a run's intermediate results."""
    return work_dir / GRAPH_NAME / run_graph_name(run)


def estimate_memory_gb(run: DwiRun, settings: Settings) -> float:
    """Estimate the most memory that a step of a run needs.

    Parameters
    ----------
    run : the run, of which the header is read
    settings : of all runs

    Returns
    -------
    float, GB of 2^30 bytes
    """
    grid, n_volumes = read_grid(run.image)
    method = settings_of_run(run, settings).denoising.method
    copies = COPIES_OF_PATCH2SELF if method == "patch2self" else COPIES
    return STEP_GB + copies * 8 * math.prod(grid.shape) * n_volumes / 2**30


def init_run_wf(run: DwiRun, out_dir: Path, settings: Settings) -> pe.Workflow:
    """Build the graph of one run.

    Parameters
    ----------
    run : the run
    out_dir : output folder
    settings : of all runs

    Returns
    -------
    nipype Workflow that needs no inputs
    """
    settings = settings_of_run(run, settings)
    plan = plan_distortion(run, settings)
    cord_mask = find_prior(run, settings.derivatives.folders).cord_mask
    graph = new_graph(run_graph_name(run), RUN_INPUTS, ())
    inputnode = graph.get_node("inputnode")
    inputnode.inputs.trait_set(dwi=str(run.image), bval=str(run.bval), bvec=str(run.bvec))
    motion_wf = motion.init_motion_wf(run, settings, plan, cord_mask)
    segmentation_wf = segmentation.init_segmentation_wf(settings, cord_mask)
    tensor_wf = tensor.init_tensor_wf(run, settings, plan)
    regional_wf = regional.init_regional_wf(run, settings, cord_mask)
    reports_wf = reports.init_reports_wf(out_dir, run, settings)
    save_derivatives = outputs.init_save_derivatives(out_dir, run, settings, plan)
    stages = {
        motion_wf: motion.OUTPUTS,
        segmentation_wf: segmentation.OUTPUTS,
        tensor_wf: tensor.OUTPUTS,
        regional_wf: regional.OUTPUTS,
    }
    for stage in (motion_wf, reports_wf):
        # A new list for each: Nipype changes the one that it is given.
        acquired = [(name, f"inputnode.{name}") for name in RUN_INPUTS]
        graph.connect([(inputnode, stage, acquired)])
    graph.connect(inputnode, "dwi", regional_wf, "inputnode.dwi")
    # A product has one name from the stage that makes it to every stage that uses it.
    _connect_by_name(graph, stages, segmentation_wf, segmentation.INPUTS)
    _connect_by_name(graph, stages, tensor_wf, tensor.INPUTS)
    _connect_by_name(graph, stages, regional_wf, regional.INPUTS)
    _connect_by_name(graph, stages, reports_wf, reports.INPUTS)
    if settings.denoising.removes_something:
        given, taken = (f"{step}.removed_noise" for step in ("denoise_series", "transfer_regions"))
        graph.connect(motion_wf, given, regional_wf, taken)
    if settings.motion.flirt_matrices:
        write_flirt_matrices = outputs.init_write_flirt_matrices(out_dir, run)
        moved = "orig_to_dwi"
        graph.connect(tensor_wf, f"outputnode.{moved}", write_flirt_matrices, moved)
    if plan.pair is not None:
        graph.connect(motion_wf, "outputnode.field", save_derivatives, "field")
        graph.connect(motion_wf, "outputnode.field", tensor_wf, "inputnode.field")
    for stage, products in stages.items():
        saved = [
            (f"outputnode.{name}", name) for name in products if _takes(save_derivatives, name)
        ]
        graph.connect([(stage, save_derivatives, saved)])
    return graph


def _connect_by_name(
    graph: pe.Workflow,
    stages: dict[pe.Workflow, tuple[str, ...]],
    consumer: pe.Workflow,
    fields: tuple[str, ...],
) -> None:
    """Feed a stage's inputs from whichever stage makes the product of the same name."""
    for stage, products in stages.items():
        edges = [(f"outputnode.{f}", f"inputnode.{f}") for f in fields if f in products]
        if edges and stage is not consumer:
            graph.connect([(stage, consumer, edges)])


def _takes(node: pe.Node, field: str) -> bool:
    """Tell whether a node has an input of this name."""
    return field in node.inputs.copyable_trait_names()
