"""Motion: where is the cord, how did every slice move, what do the corrected volumes average to.

The corrected series itself is made later, when it is also known how far its b=0 volumes lie from
the others (``tensor``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype.pipeline import engine as pe
from scsnet_bids.workflows.distortion import find_phase_axis, init_estimate_distortion
from scsnet_bids.workflows.graph import new_graph
from scsnet_bids.workflows.segmentation import describe_network

from scsnet_bids.fieldmaps import DistortionPlan, read_series_metadata
from scsnet_bids.interfaces import (
    DenoiseSeries,
    EstimateMotion,
    FindOutliers,
    LocateCord,
    RunEddy,
)
from scsnet_bids.runs import DwiRun
from scsnet_bids.settings import Settings

INPUTS = ("dwi", "bval", "bvec")
SOURCE = ("source_dwi", "source_bval", "source_bvec")
ESTIMATED = ("orig_to_dwiref", "motion_by_volume")
OUTPUTS = (
    *SOURCE,
    *ESTIMATED,
    "b0",
    "b0_centre",
    "mean_dwi",
    "outliers",
    "confounds",
)


def init_motion_wf(
    run: DwiRun, settings: Settings, plan: DistortionPlan, cord_mask: Path | None
) -> pe.Workflow:
    """Build the graph that estimates motion and averages what it is taken out of.

    Parameters
    ----------
    run : the run
    settings : of the run
    plan : what is done about its distortion
    cord_mask : mask that somebody else has made, whose middle is the cord's; None finds the cord

    Inputs
    ------
    dwi, bval, bvec : the series as it was acquired

    Outputs
    -------
    source_dwi, source_bval, source_bvec : the series from which the corrected one is made
    orig_to_dwiref : table, displacement per volume and slice
    motion_by_volume : table, what else is known of each volume
    b0, mean_dwi : averages of the corrected volumes of either kind
    b0_centre : table, centre of the cord per slice of ``b0``
    field : image, distortion along the phase-encode axis in mm, where it is corrected
    outliers : table, how much each slice of each volume counts
    confounds : table, one row per volume
    """
    graph = new_graph("motion_wf", INPUTS, (*OUTPUTS, *["field"] * (plan.pair is not None)))
    inputnode, outputnode = graph.get_node("inputnode"), graph.get_node("outputnode")
    locate_cord = pe.Node(
        LocateCord(gradient_settings=settings.gradients, **describe_network(settings.segmentation)),
        name="locate_cord",
    )
    if cord_mask is not None:
        locate_cord.inputs.cord_mask = str(cord_mask)
    estimate_motion = _init_estimate_motion(run, settings)
    # Slices that lost their signal have no say in what follows.
    find_outliers = pe.Node(
        FindOutliers(**describe_correction(run, settings)), name="find_outliers"
    )
    series = {name: (inputnode, name) for name in INPUTS}
    if settings.denoising.removes_something:
        denoise_series = _init_denoise_series(settings)
        _connect(graph, series, denoise_series)
        series["dwi"] = (denoise_series, "denoised_dwi")
    for node in (locate_cord, estimate_motion):
        _connect(graph, series, node)
    acquired = dict(series)
    if settings.motion.method == "fsl":
        series = {name: (estimate_motion, f"moved_{name}") for name in INPUTS}
    _connect(graph, series, find_outliers)
    _connect(graph, series, outputnode, "source_")
    # The window of the estimate follows the cord, which eddy currents leave where it is.
    for node in (estimate_motion, find_outliers):
        graph.connect(locate_cord, "cord_centre", node, "cord_centre")
    graph.connect([(estimate_motion, find_outliers, [(name, name) for name in ESTIMATED])])
    if (estimate_distortion := init_estimate_distortion(run, settings, plan)) is not None:
        _connect_distortion(graph, estimate_distortion, settings, acquired, series)
    for node in (estimate_motion, find_outliers):
        made = [(name, name) for name in node.outputs.copyable_trait_names() if name in OUTPUTS]
        graph.connect([(node, outputnode, made)])
    return graph


def describe_correction(run: DwiRun, settings: Settings) -> dict[str, Any]:
    """List what every step that corrects a run's series must be told about it."""
    moved = settings.motion.method == "fsl"
    return {
        "gradient_settings": settings.gradients,
        "phase_axis": find_phase_axis(run, settings),
        "moved": moved,
        # FSL corrects both in one interpolation.
        "undistorted": moved and settings.distortion.method == "fsl",
    }


def _connect_distortion(
    graph: pe.Workflow,
    estimate_distortion: pe.Node,
    settings: Settings,
    acquired: dict[str, tuple[pe.Node, str]],
    moved: dict[str, tuple[pe.Node, str]],
) -> None:
    """Feed the estimate of distortion, and what needs it."""
    locate_cord = graph.get_node("locate_cord")
    estimate_motion = graph.get_node("run_eddy") or graph.get_node("estimate_motion")
    for node in ("find_outliers", "outputnode"):
        graph.connect(estimate_distortion, "field", graph.get_node(node), "field")
    if settings.distortion.method == "fsl":
        _connect(graph, acquired, estimate_distortion)
    else:
        _connect(graph, moved, estimate_distortion)
        graph.connect(locate_cord, "cord_centre", estimate_distortion, "cord_centre")
        graph.connect(estimate_motion, "orig_to_dwiref", estimate_distortion, "orig_to_dwiref")
    if settings.distortion.method == settings.motion.method == "fsl":
        graph.connect(estimate_distortion, "fieldcoef", estimate_motion, "fieldcoef")


def _init_denoise_series(settings: Settings) -> pe.Node:
    """Build the node that removes noise and ringing."""
    interface = DenoiseSeries(
        gradient_settings=settings.gradients, denoising_settings=settings.denoising
    )
    return pe.Node(interface, name="denoise_series")


def _init_estimate_motion(run: DwiRun, settings: Settings) -> pe.Node:
    """Build the node that estimates motion; FSL's corrects it too."""
    stages = {"gradient_settings": settings.gradients, "motion_settings": settings.motion}
    if settings.motion.method == "fsl":
        metadata = read_series_metadata(run, settings.distortion)
        return pe.Node(RunEddy(metadata=metadata, **stages), name="run_eddy")
    interface = EstimateMotion(**stages, phase_axis=find_phase_axis(run, settings))
    return pe.Node(interface, name="estimate_motion")


def _connect(
    graph: pe.Workflow, series: dict[str, tuple[pe.Node, str]], node: pe.Node, prefix: str = ""
) -> None:
    """Feed a node with a series and its gradients."""
    for name, (source, field) in series.items():
        graph.connect(source, field, node, prefix + name)
