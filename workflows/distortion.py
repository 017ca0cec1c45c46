"""Distortion: the node that estimates the field of a run."""

from __future__ import annotations

from nipype.pipeline import engine as pe

from scsnet_bids.fieldmaps import DistortionPlan, ReversedPair, read_series_metadata
from scsnet_bids.images import read_grid
from scsnet_bids.interfaces import EstimateDistortion, RunTopup
from scsnet_bids.runs import DwiRun, phase_encoding
from scsnet_bids.settings import Settings


def init_estimate_distortion(
    run: DwiRun, settings: Settings, plan: DistortionPlan
) -> pe.Node | None:
    """Build the node that estimates the field that distorts a run.

    Parameters
    ----------
    run : the run
    settings : of the run
    plan : what is done about its distortion

    Returns
    -------
    nipype Node with the output ``field``; None if nothing is done
    """
    if plan.pair is None:
        return None
    if plan.method == "fsl":
        return _init_run_topup(run, settings, plan.pair)
    interface = EstimateDistortion(
        gradient_settings=settings.gradients,
        motion_settings=settings.motion,
        moved=settings.motion.method == "fsl",
        phase_axis=find_phase_axis(run, settings),
        reversed_dwi=str(plan.pair.image),
        reversed_volumes=list(plan.pair.volumes),
        readout_ratio=plan.pair.readout_ratio,
    )
    return pe.Node(interface, name="estimate_distortion")


def find_phase_axis(run: DwiRun, settings: Settings) -> int:
    """Tell along which inner axis the phase of a run is encoded, by its sidecar or the user."""
    metadata = read_series_metadata(run, settings.distortion)
    return phase_encoding(metadata, read_grid(run.image)[0]).axis


def _init_run_topup(run: DwiRun, settings: Settings, pair: ReversedPair) -> pe.Node:
    """Build the node that leaves the estimate to FSL."""
    interface = RunTopup(
        gradient_settings=settings.gradients,
        metadata=read_series_metadata(run, settings.distortion),
        reversed_dwi=str(pair.image),
        reversed_volumes=list(pair.volumes),
        reversed_metadata=dict(pair.metadata),
        readout_ratio=pair.readout_ratio,
    )
    return pe.Node(interface, name="run_topup")
