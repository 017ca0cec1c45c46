"""Segmentation: SCS-Net on the B0 image, and its regions brought to DTI space."""

from __future__ import annotations

from nipype.pipeline import engine as pe
from scsnet_bids.workflows.graph import new_graph

from scsnet_bids.interfaces import AlignB0ToDwi, SegmentRegions, TransferRegions
from scsnet_bids.network.weights import weights_path, weights_sha256
from scsnet_bids.settings import Settings

TRANSFERRED = (
    "region_share",
    "region_share_b0",
    "outline_table",
    "region_label",
    "region_lut",
    "cord_mask",
)
CORRECTED = ("corrected_dwi", "corrected_bval", "corrected_bvec")
INPUTS = ("b0", "mean_dwi", "cord_centre", *CORRECTED)
OUTPUTS = ("region_probability", "cord_found", "dwiref_to_dwi", *TRANSFERRED)


def init_segmentation_wf(settings: Settings) -> pe.Workflow:
    """Build the graph that segments the cord and its regions.

    Inputs
    ------
    b0, mean_dwi : averages of the corrected series
    corrected_dwi, corrected_bval, corrected_bvec : the corrected series
    cord_centre : table, centre of the cord per slice

    Outputs
    -------
    region_probability : probabilities on the network's grid, in B0 space
    cord_found : table, whether and how surely the cord was found per slice
    dwiref_to_dwi : table, displacement from B0 to DTI space per slice
    region_share, region_label, region_lut, cord_mask : the regions in DTI space
    region_share_b0 : shares where the cord lies in the b=0 volumes
    outline_table : table, how the outline was refined per slice
    """
    graph = new_graph("segmentation_wf", INPUTS, OUTPUTS)
    inputnode, outputnode = graph.get_node("inputnode"), graph.get_node("outputnode")
    segment_regions = pe.Node(
        SegmentRegions(
            segmentation_settings=settings.segmentation,
            weights_sha256=weights_sha256(weights_path(settings.segmentation.weights)),
        ),
        name="segment_regions",
    )
    align_b0_to_dwi = pe.Node(
        AlignB0ToDwi(alignment_settings=settings.alignment), name="align_b0_to_dwi"
    )
    transfer_regions = pe.Node(
        TransferRegions(gradient_settings=settings.gradients, unmixing_settings=settings.unmixing),
        name="transfer_regions",
    )
    # Probabilities on the network's grid, in B0 space.
    graph.connect([(inputnode, segment_regions, [("b0", "b0"), ("cord_centre", "cord_centre")])])
    segmented = [(name, name) for name in ("region_probability", "cord_found")]
    graph.connect([(segment_regions, outputnode, segmented)])
    # How far the cord of the mean DWI lies from that of the B0 image.
    graph.connect(inputnode, "mean_dwi", align_b0_to_dwi, "mean_dwi")
    probability = [("region_probability", "region_probability")]
    graph.connect([(segment_regions, align_b0_to_dwi, probability)])
    graph.connect(align_b0_to_dwi, "dwiref_to_dwi", outputnode, "dwiref_to_dwi")
    # One resampling to the voxels of the maps; the series says how large the cord is.
    series = [(name, name.removeprefix("corrected_")) for name in CORRECTED]
    graph.connect([(inputnode, transfer_regions, series)])
    graph.connect([(segment_regions, transfer_regions, probability)])
    graph.connect(align_b0_to_dwi, "dwiref_to_dwi", transfer_regions, "dwiref_to_dwi")
    graph.connect([(transfer_regions, outputnode, [(name, name) for name in TRANSFERRED])])
    return graph
