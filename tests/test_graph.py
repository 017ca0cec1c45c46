"""The wiring check finds what Nipype lets pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nipype.interfaces.utility import Function
from nipype.pipeline import engine as pe
from scsnet_bids.workflows.base import (
    COPIES,
    COPIES_OF_PATCH2SELF,
    STEP_GB,
    estimate_memory_gb,
    init_scsnet_wf,
)
from scsnet_bids.workflows.graph import check_graph, new_graph
from scsnet_bids.workflows.segmentation import init_segmentation_wf

from scsnet_bids.errors import WiringError
from scsnet_bids.images import Grid, Image, write_image
from scsnet_bids.report.wording import PICTURES
from scsnet_bids.runs import DwiRun
from scsnet_bids.settings import DenoisingSettings, SegmentationSettings, Settings


def double(number: int) -> int:
    return 2 * number


def doubling_graph(name: str = "doubling_wf") -> pe.Workflow:
    """Build a sound graph: number in, doubled out."""
    graph = new_graph(name, ["number"], ["doubled"])
    step = pe.Node(
        Function(input_names=["number"], output_names=["doubled"], function=double), name="step"
    )
    graph.connect(graph.get_node("inputnode"), "number", step, "number")
    graph.connect(step, "doubled", graph.get_node("outputnode"), "doubled")
    return graph


def make_run(folder: Path) -> DwiRun:
    """Write the image of a run, and name files that nobody reads."""
    paths = [folder / f"sub-01_dwi.{kind}" for kind in ("nii.gz", "bval", "bvec")]
    grid = Grid((4, 4, 2), np.eye(4), np.array([[0, -1], [1, -1], [2, 1]]))
    write_image(paths[0], Image(np.zeros((4, 4, 2, 3), np.float32), grid))
    return DwiRun(*paths, sidecars=(), entities=(("sub", "01"),))


def test_a_sound_graph_passes():
    check_graph(doubling_graph())


def test_an_edge_to_an_undeclared_output_is_found():
    graph = doubling_graph()
    graph.connect(graph.get_node("step"), "doubled", graph.get_node("outputnode"), "twice")
    with pytest.raises(WiringError, match=r"doubling_wf\.outputnode\.twice is not declared"):
        check_graph(graph)


def test_an_edge_from_an_undeclared_input_is_found():
    graph = doubling_graph()
    graph.connect(graph.get_node("inputnode"), "nmuber", graph.get_node("outputnode"), "doubled2")
    with pytest.raises(WiringError, match=r"doubling_wf\.inputnode\.nmuber is not declared"):
        check_graph(graph)


def test_an_input_nobody_reads_is_found():
    with pytest.raises(WiringError, match=r"inputnode\.number is never read"):
        check_graph(new_graph("idle_wf", ["number"], []))


def test_an_output_nobody_feeds_is_found():
    with pytest.raises(WiringError, match=r"outputnode\.doubled is never fed"):
        check_graph(new_graph("idle_wf", [], ["doubled"]))


def test_an_input_that_the_parent_does_not_feed_is_found():
    parent = pe.Workflow(name="parent_wf")
    parent.add_nodes([doubling_graph("child_wf")])
    with pytest.raises(WiringError, match=r"parent_wf\.child_wf\.inputnode\.number is never fed"):
        check_graph(parent)


def test_a_constant_counts_as_fed():
    parent, child = pe.Workflow(name="parent_wf"), doubling_graph("child_wf")
    child.inputs.inputnode.number = 2
    parent.add_nodes([child])
    check_graph(parent)


SEGMENTATION = "sub_01_wf.segmentation_wf"


@pytest.mark.parametrize("looks_again", [False, True])
def test_the_graph_of_the_app_is_wired(tmp_path, looks_again):
    sees = SegmentationSettings(input="b0+dwi" if looks_again else "b0")
    settings = Settings(segmentation=sees)
    run = make_run(tmp_path)
    graph = init_scsnet_wf([run], tmp_path / "out", settings)
    check_graph(graph)
    assert (graph.get_node(f"{SEGMENTATION}.refine_regions") is not None) == looks_again
    saved = graph.get_node("sub_01_wf.save_derivatives")
    assert len(saved.interface.inputs.derivatives) == 21
    savers = [name for name in graph.list_node_names() if ".reports_wf.save_" in name]
    pictures = [d.field for n in savers for d in graph.get_node(n).interface.inputs.derivatives]
    assert sorted(pictures) == sorted(PICTURES)


def test_memory_is_planned_by_the_size_of_the_series_and_what_removes_its_noise(tmp_path):
    run = make_run(tmp_path)
    copy_gb = 8 * 4 * 4 * 2 * 3 / 2**30
    usual, most = (
        estimate_memory_gb(run, Settings(denoising=DenoisingSettings(method=method))) - STEP_GB
        for method in ("mppca", "patch2self")
    )
    assert usual == pytest.approx(COPIES * copy_gb)
    assert most == pytest.approx(COPIES_OF_PATCH2SELF * copy_gb)


def test_a_mask_is_shared_by_the_regions_of_the_last_look(tmp_path):
    settings = Settings(segmentation=SegmentationSettings(input="b0+dwi"))
    (mask := tmp_path / "mask.nii.gz").touch()
    graph = init_segmentation_wf(settings, mask)
    check_graph(graph)
    edges = {(source.name, target.name) for source, target in graph._graph.edges()}
    after = {name: {b for a, b in edges if a == name} for name, _ in edges}
    assert after["segment_regions"] == {"align_b0_to_dwi", "refine_regions"}
    assert after["refine_regions"] == {"fit_regions_to_mask"}
    assert after["fit_regions_to_mask"] == {"outputnode"}
