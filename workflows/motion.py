"""Motion: where is the cord, how did every slice move, what do the corrected volumes average to."""

from __future__ import annotations

from nipype.pipeline import engine as pe
from scsnet_bids.workflows.graph import new_graph

from scsnet_bids.interfaces import CorrectMotion, LocateCord
from scsnet_bids.network.weights import weights_path, weights_sha256
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
    "confounds",
)


def init_motion_wf(settings: Settings) -> pe.Workflow:
    """Build the graph that corrects motion.

    Inputs
    ------
    dwi, bval, bvec : the series as it was acquired

    Outputs
    -------
    cord_centre : table, centre of the cord per slice in the uncorrected B0
    corrected_dwi, corrected_bval, corrected_bvec : the corrected series
    b0, mean_dwi : its averages
    orig_to_dwiref : table, displacement per volume and slice
    confounds : table, one row per volume
    """
    graph = new_graph("motion_wf", INPUTS, OUTPUTS)
    inputnode, outputnode = graph.get_node("inputnode"), graph.get_node("outputnode")
    locate_cord = pe.Node(
        LocateCord(
            gradient_settings=settings.gradients,
            segmentation_settings=settings.segmentation,
            weights_sha256=weights_sha256(weights_path(settings.segmentation.weights)),
        ),
        name="locate_cord",
    )
    correct_motion = pe.Node(
        CorrectMotion(gradient_settings=settings.gradients, motion_settings=settings.motion),
        name="correct_motion",
    )
    series = [(name, name) for name in INPUTS]
    corrected = [(name, name) for name in OUTPUTS if name != "cord_centre"]
    # The window of the correction follows the cord.
    graph.connect([(inputnode, locate_cord, series), (inputnode, correct_motion, series)])
    graph.connect(locate_cord, "cord_centre", correct_motion, "cord_centre")
    graph.connect(locate_cord, "cord_centre", outputnode, "cord_centre")
    graph.connect([(correct_motion, outputnode, corrected)])
    return graph
