"""Segmentation: SCS-Net on the B0 image, and how far its cord lies from that of the mean DWI.

Where the settings say so, a second network looks at both images once more.
"""

from __future__ import annotations

from pathlib import Path

from nipype.pipeline import engine as pe
from scsnet_bids.workflows.graph import new_graph

from scsnet_bids.interfaces import (
    AlignB0ToDwi,
    FitRegionsToMask,
    RefineRegions,
    SegmentRegions,
)
from scsnet_bids.network.weights import weights_path, weights_sha256
from scsnet_bids.settings import B0, B0_AND_DWI, SegmentationSettings, Settings

INPUTS = ("b0", "mean_dwi", "b0_centre")
OUTPUTS = ("region_probability", "cord_found", "dwiref_to_dwi")


def init_segmentation_wf(settings: Settings, cord_mask: Path | None) -> pe.Workflow:
    """Build the graph that segments the cord and its regions.

    Parameters
    ----------
    settings : of the run
    cord_mask : mask that somebody else has made, whose outline is taken; None finds the cord

    Inputs
    ------
    b0, mean_dwi : averages of the corrected volumes of either kind
    b0_centre : table, centre of the cord per slice of ``b0``

    Outputs
    -------
    region_probability : probabilities on the network's grid, in B0 space
    cord_found : table, whether and how surely the cord was found per slice
    dwiref_to_dwi : table, displacement from B0 to DTI space per slice
    """
    graph = new_graph("segmentation_wf", INPUTS, OUTPUTS)
    inputnode, outputnode = graph.get_node("inputnode"), graph.get_node("outputnode")
    segment_regions = pe.Node(
        SegmentRegions(**describe_network(settings.segmentation)), name="segment_regions"
    )
    align_b0_to_dwi = pe.Node(
        AlignB0ToDwi(alignment_settings=settings.alignment), name="align_b0_to_dwi"
    )
    # Probabilities on the network's grid, in B0 space.
    graph.connect([(inputnode, segment_regions, [("b0", "b0"), ("b0_centre", "cord_centre")])])
    # How far the cord of the mean DWI lies from that of the B0 image.
    graph.connect(inputnode, "mean_dwi", align_b0_to_dwi, "mean_dwi")
    probability = [("region_probability", "region_probability")]
    graph.connect([(segment_regions, align_b0_to_dwi, list(probability))])
    graph.connect(align_b0_to_dwi, "dwiref_to_dwi", outputnode, "dwiref_to_dwi")
    segmented = [*probability, ("cord_found", "cord_found")]
    drawn = segment_regions
    # A second look, with the mean DWI beside the B0 image.
    if settings.segmentation.input == B0_AND_DWI:
        refine_regions = RefineRegions(**describe_network(settings.segmentation, B0_AND_DWI))
        drawn = pe.Node(refine_regions, name="refine_regions")
        graph.connect([(inputnode, drawn, [("b0", "b0"), ("mean_dwi", "mean_dwi")])])
        graph.connect([(segment_regions, drawn, list(segmented))])
        graph.connect(align_b0_to_dwi, "dwiref_to_dwi", drawn, "dwiref_to_dwi")
    # The outline of the cord: the network's, or that of a mask.
    if cord_mask is not None:
        outlined = _init_fit_regions_to_mask(settings, cord_mask)
        graph.connect(inputnode, "mean_dwi", outlined, "mean_dwi")
        graph.connect([(drawn, outlined, list(probability))])
        graph.connect(align_b0_to_dwi, "dwiref_to_dwi", outlined, "dwiref_to_dwi")
        drawn = outlined
    graph.connect([(drawn, outputnode, segmented)])
    return graph


def describe_network(settings: SegmentationSettings, sees: str = B0) -> dict[str, str]:
    """List what every step that runs a network must be told about it."""
    path = weights_path(settings, sees)
    return {
        "device": settings.device,
        "weights": str(path),
        "weights_sha256": weights_sha256(path),
    }


def _init_fit_regions_to_mask(settings: Settings, cord_mask: Path) -> pe.Node:
    """Build the node that places the regions in a mask."""
    interface = FitRegionsToMask(
        cord_mask=str(cord_mask),
        unmixing_settings=settings.unmixing,
        segmented_from=settings.segmentation.input,
    )
    return pe.Node(interface, name="fit_regions_to_mask")
