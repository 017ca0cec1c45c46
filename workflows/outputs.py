"""Outputs: the list of files that a run leaves behind, each with its name and its sidecar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nipype.pipeline import engine as pe

from scsnet_bids.compression import COMPRESSION_COLUMNS
from scsnet_bids.confounds import CONFOUND_COLUMNS, SHIFT_COLUMNS
from scsnet_bids.derivatives import (
    Derivative,
    carry_over,
    derivative_uri,
    describe_image,
    output_path,
    raw_uri,
)
from scsnet_bids.interfaces import SaveDerivatives
from scsnet_bids.levels import SHAPE_COLUMNS
from scsnet_bids.quality import QUALITY_COLUMNS
from scsnet_bids.regional import REGION_TABLE_COLUMNS
from scsnet_bids.regions import REGIONS
from scsnet_bids.runs import DwiRun, read_metadata
from scsnet_bids.settings import Settings
from scsnet_bids.unmixed_table import NOISE_COLUMNS, UNMIXED_COLUMNS

MODEL = "tensor"
SEGMENTATION = "SCSNet"
DIFFUSIVITY_UNIT = "mm^2/s"
SCALAR_DESCRIPTIONS = {
    "fa": ("Fractional anisotropy", "1"),
    "md": ("Mean diffusivity", DIFFUSIVITY_UNIT),
    "ad": ("Axial diffusivity: the largest eigenvalue of the tensor", DIFFUSIVITY_UNIT),
    "rd": ("Radial diffusivity: the mean of the two smaller eigenvalues", DIFFUSIVITY_UNIT),
}


def init_save_derivatives(out_dir: Path, run: DwiRun, settings: Settings) -> pe.Node:
    """Build the node that copies a run's products to their BIDS names.

    Parameters
    ----------
    out_dir : output folder
    run : the run
    settings : of the run, for the sidecars

    Returns
    -------
    nipype Node with one input field per product
    """
    return pe.Node(
        SaveDerivatives(list_derivatives(out_dir, run, settings)), name="save_derivatives"
    )


def init_save_figures(out_dir: Path, run: DwiRun, pictures: Sequence[str], name: str) -> pe.Node:
    """Build the node that copies some of a run's pictures to their names.

    Parameters
    ----------
    out_dir : output folder
    run : the run
    pictures : by the entity ``desc`` of their names
    name : of the node

    Returns
    -------
    nipype Node with one input field per picture
    """
    names = _Names(out_dir, run)
    listed = [Derivative(picture, names.figure(picture)) for picture in pictures]
    return pe.Node(SaveDerivatives(listed), name=name)


def list_derivatives(out_dir: Path, run: DwiRun, settings: Settings) -> list[Derivative]:
    """List everything that a run leaves behind.

    Parameters
    ----------
    out_dir : output folder
    run : the run
    settings : of the run, for the sidecars

    Returns
    -------
    list of Derivative
    """
    names = _Names(out_dir, run)
    return [
        *_series_derivatives(names, read_metadata(run)),
        *_region_derivatives(names, settings),
        *_map_derivatives(names, settings),
        *_table_derivatives(names),
    ]


class _Names:
    """Names, sources and grid of a run's products."""

    def __init__(self, out_dir: Path, run: DwiRun) -> None:
        self.out_dir, self.run = out_dir, run
        self.raw = raw_uri(run)
        series = self.path("dwi", ".nii.gz", desc="preproc")
        self.series = derivative_uri(series, out_dir)
        self.reference = derivative_uri(self.path("dwiref", ".nii.gz", desc="b0"), out_dir)

    def path(self, suffix: str, extension: str, **entities: str) -> Path:
        """Name a product."""
        return output_path(self.out_dir, self.run, suffix=suffix, extension=extension, **entities)

    def figure(self, desc: str) -> Path:
        """Name a picture."""
        path = self.path("dwi", ".svg", desc=desc)
        return path.parents[1] / "figures" / path.name

    def image(self, description: str, *sources: str, **fields: Any) -> dict[str, Any]:
        """Describe an image on the grid of the series."""
        return describe_image(description, sources, self.reference, **fields)


def _series_derivatives(names: _Names, metadata: dict[str, Any]) -> Iterator[Derivative]:
    """Corrected series, its gradients and the B0 image."""
    series = names.image(
        "Diffusion series, in-plane motion corrected slice by slice.",
        names.raw,
        **carry_over(metadata),
    )
    yield Derivative("corrected_dwi", names.path("dwi", ".nii.gz", desc="preproc"), series)
    for field in ("bval", "bvec"):
        yield Derivative(f"corrected_{field}", names.path("dwi", f".{field}", desc="preproc"))
    b0 = names.image("Robust mean of the corrected b=0 volumes.", names.series)
    yield Derivative("b0", names.path("dwiref", ".nii.gz", desc="b0"), b0)


def _region_derivatives(names: _Names, settings: Settings) -> Iterator[Derivative]:
    """Cord, labels and shares in DTI space."""
    own = " The weights are not those of the package." if settings.segmentation.weights else ""
    sources = (names.reference, names.series)
    mask = names.image(
        "Spinal cord: voxels that the cord fills at least half.", *sources, Type="ROI"
    )
    yield Derivative("cord_mask", names.path("mask", ".nii.gz", label="SC"), mask)
    labels = names.image(
        "Eight cord regions by SCS-Net. The cord's edge is seen in the image; the borders inside "
        "it are mostly learned anatomy, placed in the cord that was found." + own,
        *sources,
        Manual=False,
    )
    yield Derivative("region_label", names.path("dseg", ".nii.gz", seg=SEGMENTATION), labels)
    yield Derivative("region_lut", names.path("dseg", ".tsv", seg=SEGMENTATION))
    shares = names.image(
        "Part of each voxel that the background and each region fill." + own,
        *sources,
        LabelMap=["background", *(region.name for region in REGIONS)],
        Manual=False,
    )
    yield Derivative("region_share", names.path("probseg", ".nii.gz", seg=SEGMENTATION), shares)


def _map_derivatives(names: _Names, settings: Settings) -> Iterator[Derivative]:
    """Scalar maps, tensor and direction."""
    model = {
        "Description": "Diffusion tensor",
        "Parameters": {"FitMethod": "wls", "MaximumBValue": settings.gradients.tensor_b_max},
    }
    world = {"Reference": "xyz", "EncodingAxis": 3}
    encodings = {
        "tensor": ("diffusivity", "Dxx Dxy Dxz Dyy Dyz Dzz", DIFFUSIVITY_UNIT, "tensor"),
        "direction": ("direction", "Unit vector along the largest eigenvalue", "1", "unitvector3D"),
    }
    for field, (description, unit) in SCALAR_DESCRIPTIONS.items():
        sidecar = names.image(f"{description}.", names.series, Model=model, Units=unit)
        yield Derivative(field, _map_path(names, field), sidecar)
    for field, (param, description, unit, kind) in encodings.items():
        sidecar = names.image(
            f"{description}, in scanner RAS+.",
            names.series,
            Model=model,
            Units=unit,
            OrientationEncoding={"Type": kind, **world},
        )
        yield Derivative(field, _map_path(names, param), sidecar)


def _map_path(names: _Names, param: str) -> Path:
    """Name a map of the tensor model."""
    return names.path("dwimap", ".nii.gz", model=MODEL, param=param)


def _table_derivatives(names: _Names) -> Iterator[Derivative]:
    """Tables, each with its columns described."""
    slicewise = {"mode": "image", "desc": "slicewise"}
    entities: dict[str, tuple[str, dict[str, str], dict[str, dict[str, Any]]]] = {
        "confounds": ("timeseries", {"desc": "confounds"}, CONFOUND_COLUMNS),
        "orig_to_dwiref": ("xfm", {"from": "orig", "to": "dwiref", **slicewise}, SHIFT_COLUMNS),
        "dwiref_to_dwi": (
            "xfm",
            {"from": "dwiref", "to": "dwi", **slicewise},
            {name: column for name, column in SHIFT_COLUMNS.items() if name != "volume"},
        ),
        "region_table": (
            "scalarstats",
            {"model": MODEL, "seg": SEGMENTATION},
            REGION_TABLE_COLUMNS | UNMIXED_COLUMNS,
        ),
        "shape_table": ("scalarstats", {"desc": "shape"}, SHAPE_COLUMNS),
        "quality_table": (
            "qc",
            {"desc": "image"},
            QUALITY_COLUMNS | NOISE_COLUMNS | COMPRESSION_COLUMNS,
        ),
    }
    for field, (suffix, named, columns) in entities.items():
        yield Derivative(field, names.path(suffix, ".tsv", **named), columns)
