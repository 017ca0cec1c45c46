"""Tensor: scalar maps of the corrected series."""

from __future__ import annotations

from nipype.pipeline import engine as pe
from scsnet_bids.workflows.graph import new_graph

from scsnet_bids.interfaces import FitTensor
from scsnet_bids.settings import GradientSettings

INPUTS = ("corrected_dwi", "corrected_bval", "corrected_bvec", "outliers")
SCALAR_MAPS = ("fa", "md", "ad", "rd")
OUTPUTS = (*SCALAR_MAPS, "tensor", "direction", "noise")


def init_tensor_wf(settings: GradientSettings) -> pe.Workflow:
    """Build the graph that fits the diffusion tensor.

    Inputs
    ------
    corrected_dwi, corrected_bval, corrected_bvec : the corrected series
    outliers : table, how much each slice of each volume counts

    Outputs
    -------
    fa, md, ad, rd : scalar maps
    tensor, direction : the tensor and its principal direction, in scanner RAS+
    noise : standard deviation of the signal about the fit
    """
    graph = new_graph("tensor_wf", INPUTS, OUTPUTS)
    inputnode, outputnode = graph.get_node("inputnode"), graph.get_node("outputnode")
    fit_tensor = pe.Node(FitTensor(gradient_settings=settings), name="fit_tensor")
    series = [(name, name.removeprefix("corrected_")) for name in INPUTS]
    graph.connect([(inputnode, fit_tensor, series)])
    graph.connect([(fit_tensor, outputnode, [(name, name) for name in OUTPUTS])])
    return graph
