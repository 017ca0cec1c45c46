"""Motion: where is the cord, how did every slice move, what do the corrected volumes average to."""

from __future__ import annotations

from nipype.pipeline import engine as pe
from scsnet_bids.workflows.distortion import init_estimate_distortion
from scsnet_bids.workflows.graph import new_graph

from scsnet_bids.fieldmaps import plan_distortion, read_series_metadata
from scsnet_bids.images import read_grid
from scsnet_bids.interfaces import (
    ApplyCorrection,
    DenoiseSeries,
    EstimateMotion,
    FindOutliers,
    LocateCord,
    RunEddy,
)
from scsnet_bids.network.weights import weights_path, weights_sha256
from scsnet_bids.prior_results import find_prior
from scsnet_bids.runs import DwiRun, phase_encoding
from scsnet_bids.settings import Settings

INPUTS = ("dwi", "bval", "bvec")
OUTPUTS = (
    "cord_centre",
    "corrected_dwi",
    "corrected_bval",
    "corrected_bvec",
    "b0",
    "mean_dwi",
    "orig_to_dwiref",
    "outliers",
    "confounds",
)


def init_motion_wf(run: DwiRun, settings: Settings) -> pe.Workflow:
    """Build the graph that corrects motion.

    Parameters
    ----------
    run : the run
    settings : of the run

    Inputs
    ------
    dwi, bval, bvec : the series as it was acquired

    Outputs
    -------
    cord_centre : table, centre of the cord per slice in the uncorrected B0
    corrected_dwi, corrected_bval, corrected_bvec : the corrected series
    b0, mean_dwi : its averages
    orig_to_dwiref : table, displacement per volume and slice
    field : image, distortion along the phase-encode axis in mm, where it is corrected
    outliers : table, how much each slice of each volume counts
    confounds : table, one row per volume
    """
    plan = plan_distortion(run, settings)
    graph = new_graph("motion_wf", INPUTS, (*OUTPUTS, *["field"] * (plan.pair is not None)))
    inputnode, outputnode = graph.get_node("inputnode"), graph.get_node("outputnode")
    locate_cord = pe.Node(
        LocateCord(
            gradient_settings=settings.gradients,
            segmentation_settings=settings.segmentation,
            weights_sha256=weights_sha256(weights_path(settings.segmentation.weights)),
        ),
        name="locate_cord",
    )
    if mask := find_prior(run, settings.derivatives.folders).cord_mask:
        locate_cord.inputs.cord_mask = str(mask)
    metadata = read_series_metadata(run, settings.distortion)
    phase_axis = phase_encoding(metadata, read_grid(run.image)[0]).axis
    estimate_motion = _init_estimate_motion(run, settings, phase_axis)
    apply_correction = pe.Node(
        ApplyCorrection(
            gradient_settings=settings.gradients,
            phase_axis=phase_axis,
            moved=settings.motion.method == "fsl",
        ),
        name="apply_correction",
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
    _connect(graph, series, apply_correction)
    # The window of the estimate follows the cord, which eddy currents leave where it is.
    for node in (estimate_motion, apply_correction):
        graph.connect(locate_cord, "cord_centre", node, "cord_centre")
    estimated = [(name, name) for name in ("orig_to_dwiref", "motion_by_volume")]
    graph.connect([(estimate_motion, apply_correction, estimated)])
    if (estimate_distortion := init_estimate_distortion(run, settings, plan)) is not None:
        _connect_distortion(graph, estimate_distortion, settings, acquired, series)
    # Slices that lost their signal have no say in what follows.
    find_outliers = pe.Node(
        FindOutliers(gradient_settings=settings.gradients), name="find_outliers"
    )
    _connect(graph, {f: (apply_correction, f"corrected_{f}") for f in INPUTS}, find_outliers)
    graph.connect(apply_correction, "motion_confounds", find_outliers, "motion_confounds")
    graph.connect(locate_cord, "cord_centre", find_outliers, "cord_centre")
    for node in (locate_cord, estimate_motion, apply_correction, find_outliers):
        made = [(name, name) for name in node.outputs.copyable_trait_names() if name in OUTPUTS]
        graph.connect([(node, outputnode, made)])
    return graph


def _connect_distortion(
    graph: pe.Workflow,
    estimate_distortion: pe.Node,
    settings: Settings,
    acquired: dict[str, tuple[pe.Node, str]],
    moved: dict[str, tuple[pe.Node, str]],
) -> None:
    """Feed the estimate of distortion, and what needs it."""
    locate_cord, apply_correction = (graph.get_node(n) for n in ("locate_cord", "apply_correction"))
    estimate_motion = graph.get_node("run_eddy") or graph.get_node("estimate_motion")
    graph.connect(estimate_distortion, "field", graph.get_node("outputnode"), "field")
    if settings.distortion.method == "fsl":
        _connect(graph, acquired, estimate_distortion)
    else:
        _connect(graph, moved, estimate_distortion)
        graph.connect(locate_cord, "cord_centre", estimate_distortion, "cord_centre")
        graph.connect(estimate_motion, "orig_to_dwiref", estimate_distortion, "orig_to_dwiref")
    if settings.distortion.method == settings.motion.method == "fsl":
        # FSL corrects both in one interpolation.
        graph.connect(estimate_distortion, "fieldcoef", estimate_motion, "fieldcoef")
    else:
        graph.connect(estimate_distortion, "field", apply_correction, "field")


def _init_denoise_series(settings: Settings) -> pe.Node:
    """Build the node that removes noise and ringing."""
    interface = DenoiseSeries(
        gradient_settings=settings.gradients, denoising_settings=settings.denoising
    )
    return pe.Node(interface, name="denoise_series")


def _init_estimate_motion(run: DwiRun, settings: Settings, phase_axis: int) -> pe.Node:
    """Build the node that estimates motion; FSL's corrects it too."""
    stages = {"gradient_settings": settings.gradients, "motion_settings": settings.motion}
    if settings.motion.method == "fsl":
        metadata = read_series_metadata(run, settings.distortion)
        return pe.Node(RunEddy(metadata=metadata, **stages), name="run_eddy")
    return pe.Node(EstimateMotion(**stages, phase_axis=phase_axis), name="estimate_motion")


def _connect(graph: pe.Workflow, series: dict[str, tuple[pe.Node, str]], node: pe.Node) -> None:
    """Feed a node with a series and its gradients."""
    for name, (source, field) in series.items():
        graph.connect(source, field, node, name)
