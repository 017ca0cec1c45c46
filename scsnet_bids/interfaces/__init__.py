"""Nipype classes: files in, files out, and one function of the package in between.

The libraries that take long to import are imported where they run, so that a graph is built in
a moment and a worker loads only what its step needs.
"""

from __future__ import annotations

from scsnet_bids.interfaces.denoising import DenoiseSeries
from scsnet_bids.interfaces.distortion import EstimateDistortion
from scsnet_bids.interfaces.fsl import RunEddy, RunTopup, WriteFlirtMatrices
from scsnet_bids.interfaces.motion import ApplyCorrection, EstimateMotion, LocateCord
from scsnet_bids.interfaces.outliers import FindOutliers
from scsnet_bids.interfaces.outputs import SaveDerivatives
from scsnet_bids.interfaces.own_noise import EstimateOwnNoise
from scsnet_bids.interfaces.regional import MeasureRegions, SummariseQuality, UnmixRegions
from scsnet_bids.interfaces.reports import DrawMotion, DrawRegions, PlotTables
from scsnet_bids.interfaces.segmentation import (
    AlignB0ToDwi,
    FitRegionsToMask,
    RefineRegions,
    SegmentRegions,
    TransferRegions,
)
from scsnet_bids.interfaces.tensor import FitTensor

__all__ = [
    "AlignB0ToDwi",
    "ApplyCorrection",
    "DenoiseSeries",
    "DrawMotion",
    "DrawRegions",
    "EstimateDistortion",
    "EstimateMotion",
    "EstimateOwnNoise",
    "FindOutliers",
    "FitRegionsToMask",
    "FitTensor",
    "LocateCord",
    "MeasureRegions",
    "PlotTables",
    "RefineRegions",
    "RunEddy",
    "RunTopup",
    "SaveDerivatives",
    "SegmentRegions",
    "SummariseQuality",
    "TransferRegions",
    "UnmixRegions",
    "WriteFlirtMatrices",
]
