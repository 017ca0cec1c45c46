"""Tensor: the series brought to DTI space in one interpolation, and its scalar maps."""

from __future__ import annotations

from nipype.pipeline import engine as pe
from scsnet_bids.workflows.graph import new_graph
from scsnet_bids.workflows.motion import ESTIMATED, SOURCE, describe_correction

from scsnet_bids.fieldmaps import DistortionPlan
from scsnet_bids.interfaces import ApplyCorrection, FitTensor
from scsnet_bids.runs import DwiRun
from scsnet_bids.settings import Settings

CORRECTED = ("corrected_dwi", "corrected_bval", "corrected_bvec")
PLACED = (*ESTIMATED, "b0_centre", "dwiref_to_dwi")
INPUTS = (*SOURCE, *PLACED, "outliers")
SCALAR_MAPS = ("fa", "md", "ad", "rd")
MAPS = (*SCALAR_MAPS, "tensor", "direction", "noise")
OUTPUTS = (*CORRECTED, "orig_to_dwi", *MAPS)


def init_tensor_wf(run: DwiRun, settings: Settings, plan: DistortionPlan) -> pe.Workflow:
    """Build the graph that corrects the series and fits the diffusion tensor.

    Parameters
    ----------
    run : the run
    settings : of the run
    plan : what is done about its distortion

    Inputs
    ------
    source_dwi, source_bval, source_bvec : the series from which the corrected one is made
    orig_to_dwiref, motion_by_volume, b0_centre : tables, its motion and eddy currents
    field : image, distortion, where it is corrected
    dwiref_to_dwi : table, displacement from B0 to DTI space per slice
    outliers : table, how much each slice of each volume counts

    Outputs
    -------
    corrected_dwi, corrected_bval, corrected_bvec : the series in DTI space
    orig_to_dwi : table, displacement per volume and slice to there
    fa, md, ad, rd : scalar maps
    tensor, direction : the tensor and its principal direction, in scanner RAS+
    noise : standard deviation of the signal about the fit
    """
    fields = ["field"] * (plan.pair is not None)
    graph = new_graph("tensor_wf", (*INPUTS, *fields), OUTPUTS)
    inputnode, outputnode = graph.get_node("inputnode"), graph.get_node("outputnode")
    apply_correction = pe.Node(
        ApplyCorrection(**describe_correction(run, settings)), name="apply_correction"
    )
    fit_tensor = pe.Node(FitTensor(gradient_settings=settings.gradients), name="fit_tensor")
    source = [(name, name.removeprefix("source_")) for name in SOURCE]
    placed = [(name, name) for name in (*PLACED, *fields)]
    graph.connect([(inputnode, apply_correction, [*source, *placed])])
    series = [(name, name.removeprefix("corrected_")) for name in CORRECTED]
    graph.connect([(apply_correction, fit_tensor, series)])
    graph.connect(inputnode, "outliers", fit_tensor, "outliers")
    made = [(name, name) for name in (*CORRECTED, "orig_to_dwi")]
    graph.connect([(apply_correction, outputnode, made)])
    graph.connect([(fit_tensor, outputnode, [(name, name) for name in MAPS])])
    return graph
