"""Outputs: the list of files that a run leaves behind, each with its name and its sidecar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nipype.pipeline import engine as pe

from scsnet_bids.compression import COMPRESSION_COLUMNS
from scsnet_bids.confounds import CONFOUND_COLUMNS
from scsnet_bids.cord_shape import SHAPE_COLUMNS
from scsnet_bids.derivatives import (
    BY_STORAGE,
    Derivative,
    carry_over,
    derivative_uri,
    describe_image,
    output_path,
    raw_uri,
    sidecar_path,
)
from scsnet_bids.fieldmaps import DistortionPlan
from scsnet_bids.interfaces import SaveDerivatives, WriteFlirtMatrices
from scsnet_bids.outlier_table import FRACTION_COLUMN, OUTLIER_COLUMNS
from scsnet_bids.prior_results import find_taken, prior_uri
from scsnet_bids.quality import QUALITY_COLUMNS
from scsnet_bids.regional import REGION_TABLE_COLUMNS
from scsnet_bids.regions import REGIONS
from scsnet_bids.runs import DwiRun, merge_sidecars, read_metadata
from scsnet_bids.settings import B0_AND_DWI, Settings
from scsnet_bids.shift_table import SHIFT_COLUMNS
from scsnet_bids.unmixing.table import NOISE_COLUMNS, UNMIXED_COLUMNS

MODEL = "tensor"
SEGMENTATION = "SCSNet"
DIFFUSIVITY_UNIT = "mm^2/s"
SCALAR_DESCRIPTIONS = {
    "fa": ("Fractional anisotropy", "1"),
    "md": ("Mean diffusivity", DIFFUSIVITY_UNIT),
    "ad": ("Axial diffusivity: the largest eigenvalue of the tensor", DIFFUSIVITY_UNIT),
    "rd": ("Radial diffusivity: the mean of the two smaller eigenvalues", DIFFUSIVITY_UNIT),
}


def init_save_derivatives(
    out_dir: Path, run: DwiRun, settings: Settings, plan: DistortionPlan
) -> pe.Node:
    """Build the node that copies a run's products to their BIDS names.

    Parameters
    ----------
    out_dir : output folder
    run : the run
    settings : of the run, for the sidecars
    plan : what is done about its distortion

    Returns
    -------
    nipype Node with one input field per product
    """
    derivatives = list_derivatives(out_dir, run, settings, plan)
    return pe.Node(SaveDerivatives(derivatives), name="save_derivatives")


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


def init_write_flirt_matrices(out_dir: Path, run: DwiRun) -> pe.Node:
    """Build the node that writes a run's displacements as a folder of FLIRT matrices.

    Parameters
    ----------
    out_dir : output folder
    run : the run

    Returns
    -------
    nipype Node
    """
    entities = {"from": "orig", "to": "dwi", "mode": "image", "desc": "flirt"}
    folder = output_path(out_dir, run, suffix="xfm", extension=".mat", **entities)
    return pe.Node(
        WriteFlirtMatrices(dwi=str(run.image), folder=str(folder)), name="write_flirt_matrices"
    )


def list_derivatives(
    out_dir: Path, run: DwiRun, settings: Settings, plan: DistortionPlan
) -> list[Derivative]:
    """List everything that a run leaves behind.

    Parameters
    ----------
    out_dir : output folder
    run : the run
    settings : of the run, for the sidecars
    plan : what is done about its distortion

    Returns
    -------
    list of Derivative
    """
    names, prior = _Names(out_dir, run), _prior_uris(run, settings)
    return [
        *_series_derivatives(names, _series_metadata(run, prior), settings, prior, plan),
        *_field_derivatives(names, plan),
        *_region_derivatives(names, settings, prior),
        *_map_derivatives(names, settings),
        *_table_derivatives(names, prior),
    ]


def _prior_uris(run: DwiRun, settings: Settings) -> dict[str, str]:
    """Where what is taken from other tools comes from, by kind."""
    folders = settings.derivatives.folders
    return {kind: prior_uri(path, folders) for kind, path in find_taken(run, settings).items()}


def _series_metadata(run: DwiRun, prior: Mapping[str, str]) -> dict[str, Any]:
    """Metadata of the series; another tool may have stored it in another order."""
    metadata = read_metadata(run)
    if "series" not in prior:
        return metadata
    own = sidecar_path(run.image)
    kept = {name: value for name, value in metadata.items() if name not in BY_STORAGE}
    return kept | merge_sidecars([own] if own.is_file() else [])


class _Names:
    """Names, sources and grid of a run's products."""

    def __init__(self, out_dir: Path, run: DwiRun) -> None:
        self.out_dir, self.run = out_dir, run
        self.raw = raw_uri(run)
        series = self.path("dwi", ".nii.gz", desc="preproc")
        self.series = derivative_uri(series, out_dir)
        self.b0 = derivative_uri(self.path("dwiref", ".nii.gz", desc="b0"), out_dir)

    def path(self, suffix: str, extension: str, **entities: str) -> Path:
        """Name a product."""
        return output_path(self.out_dir, self.run, suffix=suffix, extension=extension, **entities)

    def figure(self, desc: str) -> Path:
        """Name a picture."""
        path = self.path("dwi", ".svg", desc=desc)
        return path.parents[1] / "figures" / path.name

    def image(self, description: str, *sources: str, **fields: Any) -> dict[str, Any]:
        """Describe an image in DTI space."""
        return describe_image(description, sources, self.series, **fields)


MADE_BY = {
    "slicewise": "in-plane motion corrected slice by slice",
    "fsl": "motion and eddy currents corrected by FSL eddy",
    "none": "motion not corrected",
    "mppca": "noise removed by MP-PCA",
    "patch2self": "noise removed by Patch2Self",
}
"""What the sidecar of the series says of each method."""


def _describe_series(settings: Settings, *, taken: bool) -> str:
    """Say what was done to a series, in the order in which it was done."""
    noise, motion = settings.denoising, settings.motion.method
    done = [MADE_BY[noise.method]] * (noise.method != "none")
    done += ["Gibbs ringing removed"] * noise.degibbs
    done += ["as another tool has corrected it" if taken else MADE_BY[motion]]
    done += ["b=0 volumes moved onto the weighted ones"] * settings.alignment.enabled
    return f"Diffusion series, {', '.join(done)}."


def _series_derivatives(
    names: _Names,
    metadata: dict[str, Any],
    settings: Settings,
    prior: Mapping[str, str],
    plan: DistortionPlan,
) -> Iterator[Derivative]:
    """Corrected series, its gradients and the B0 image."""
    taken = "series" in prior
    left = "left as another tool has made it" if taken else plan
    source = prior.get("series", names.raw)
    series = describe_image(
        _describe_series(settings, taken=taken),
        [source, *_pair_uris(plan)],
        source,
        **carry_over(metadata),
        DistortionCorrection={
            "Method": plan.method,
            "Description": f"Distortion was {left}.",
        },
    )
    yield Derivative("corrected_dwi", names.path("dwi", ".nii.gz", desc="preproc"), series)
    for field in ("bval", "bvec"):
        yield Derivative(f"corrected_{field}", names.path("dwi", f".{field}", desc="preproc"))
    b0 = describe_image(
        "Robust mean of the b=0 volumes, their motion corrected, before they were moved onto the "
        "weighted ones: not in DTI space.",
        [source],
        source,
    )
    yield Derivative("b0", names.path("dwiref", ".nii.gz", desc="b0"), b0)


def _field_derivatives(names: _Names, plan: DistortionPlan) -> Iterator[Derivative]:
    """Field that distorted the series, where it was estimated."""
    if plan.pair is None:
        return
    entities = {"from": "dwiref", "to": "orig", "mode": "image", "desc": "distortion"}
    sidecar = names.image(
        "Distortion: how far what lies at a voxel is seen displaced in the acquired series along "
        "the phase-encode axis, toward the patient's left or back.",
        names.raw,
        *_pair_uris(plan),
        Units="mm",
    )
    yield Derivative("field", names.path("xfm", ".nii.gz", **entities), sidecar)


def _pair_uris(plan: DistortionPlan) -> list[str]:
    """BIDS URI of the image that distortion is estimated from, where there is one."""
    if plan.pair is None:
        return []
    path = plan.pair.image
    # The dataset itself may lie below a folder of such a name.
    participant = next(folder for folder in path.parents if folder.name.startswith("sub-"))
    return [f"bids:raw:{path.relative_to(participant.parent).as_posix()}"]


def _region_derivatives(
    names: _Names, settings: Settings, prior: Mapping[str, str]
) -> Iterator[Derivative]:
    """Cord, labels and shares in DTI space."""
    network = settings.segmentation
    both = network.input == B0_AND_DWI
    is_own = network.weights or (both and network.dwi_weights)
    own = " The weights are not those of the package." if is_own else ""
    given = [prior["cord_mask"]] if "cord_mask" in prior else []
    sources = (names.b0, names.series, *given)
    outline = " The outline of the cord was given." if given else ""
    mask = names.image(
        "Spinal cord: voxels that the cord fills at least half." + outline, *sources, Type="ROI"
    )
    yield Derivative("cord_mask", names.path("mask", ".nii.gz", label="SC"), mask)
    labels = names.image(
        f"Eight cord regions by SCS-Net on {'B0 and mean DWI' if both else 'B0'}. The cord's edge "
        "is seen in the image; the borders inside it are mostly learned anatomy, placed in the "
        f"cord that was found.{outline}{own}",
        *sources,
        Manual=False,
    )
    yield Derivative("region_label", names.path("dseg", ".nii.gz", seg=SEGMENTATION), labels)
    yield Derivative("region_lut", names.path("dseg", ".tsv", seg=SEGMENTATION))
    shares = names.image(
        "Part of each voxel that the background and each region fill." + outline + own,
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


def _table_derivatives(names: _Names, prior: Mapping[str, str]) -> Iterator[Derivative]:
    """Tables, each with its columns described."""
    slicewise = {"mode": "image", "desc": "slicewise"}
    entities: dict[str, tuple[str, dict[str, str], dict[str, dict[str, Any]]]] = {
        "confounds": (
            "timeseries",
            {"desc": "confounds"},
            CONFOUND_COLUMNS | FRACTION_COLUMN,
        ),
        "outliers": ("scalarstats", {"desc": "outliers"}, OUTLIER_COLUMNS),
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
        described = dict(columns)
        if "level" in columns and "levels" in prior:
            described["level"] = {**columns["level"], "Sources": [prior["levels"]]}
        yield Derivative(field, names.path(suffix, ".tsv", **named), described)
