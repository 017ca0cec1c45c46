"""Every setting of a run, once, with its default, its unit and what it means.

``Settings`` is frozen and made of one small part per stage. A workflow builder takes only its part,
a leaf function takes plain numbers. From the same declarations ``setting_values`` reads and writes
TOML, and ``setting_options`` makes options of a command line and their help.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

B0, B0_AND_DWI = "b0", "b0+dwi"
INPUTS = (B0, B0_AND_DWI)
"""What a network can see: the B0 image, or the mean DWI beside it."""

Stages = TypeVar("Stages", bound="DataclassInstance")
"""A frozen dataclass with one part per stage, such as ``Settings``."""


def setting(
    default: Any,
    unit: str,
    text: str,
    option: str | None = None,
    choices: tuple[str, ...] = (),
    is_path: bool = False,
) -> Any:
    """Declare a setting with its default, its unit (``1`` if it has none) and one sentence.

    Those that many users change have an option on the command line; TOML can set all of them.
    A word that must be one of a few names them as ``choices``; ``is_path`` marks files and folders.
    """
    return field(
        default=default,
        metadata={
            "unit": unit,
            "text": text,
            "option": option,
            "choices": choices,
            "is_path": is_path,
        },
    )


@dataclass(frozen=True)
class GradientSettings:
    """Which volumes count as b=0 and which enter the tensor."""

    b0_max: float = setting(
        50.0, "s/mm2", "Volumes up to this b-value count as b=0.", "--b0-threshold"
    )
    tensor_b_max: float = setting(
        1200.0, "s/mm2", "The tensor uses shells up to this b-value.", "--tensor-b-max"
    )


@dataclass(frozen=True)
class DenoisingSettings:
    """What is done to the series before anything else."""

    method: str = setting(
        "none",
        "1",
        "Remove noise first. Not advised where regions are compared: it pulls their FA together.",
        "--denoise",
        ("none", "mppca", "patch2self"),
    )
    degibbs: bool = setting(
        False, "1", "Remove Gibbs ringing in the slices before motion correction.", "--degibbs"
    )

    @property
    def removes_something(self) -> bool:
        """Whether the series is changed at all."""
        return self.degibbs or self.method != "none"


@dataclass(frozen=True)
class MotionSettings:
    """Motion correction."""

    method: str = setting(
        "slicewise",
        "1",
        "Correct motion in the plane of each slice, by FSL eddy (where FSL is installed), or not.",
        "--motion",
        ("slicewise", "fsl", "none"),
    )
    window_radius_mm: float = setting(11.0, "mm", "Radius of the window around the cord.")
    max_shift_mm: float = setting(
        4.0, "mm", "Largest displacement that is believed, beside jumps of whole volumes."
    )
    eddy_radius_mm: float = setting(22.0, "mm", "Radius around the cord that FSL eddy looks at.")
    flirt_matrices: bool = setting(
        False,
        "1",
        "Write the displacement of every slice and volume as a FLIRT matrix too.",
        "--flirt-matrices",
    )


@dataclass(frozen=True)
class DistortionSettings:
    """Correction of distortion along the phase-encode axis."""

    method: str = setting(
        "auto",
        "1",
        "Correct distortion where there is a reversed phase-encode pair, by FSL topup (where FSL "
        "is installed), or not.",
        "--distortion",
        ("auto", "fsl", "none"),
    )
    phase_encoding: str = setting(
        "sidecar",
        "1",
        "PhaseEncodingDirection to assume where sidecars do not say; a pair has its reverse.",
        "--phase-encoding",
        ("sidecar", "i", "i-", "j", "j-"),
    )
    readout_s: float = setting(
        0.0,
        "s",
        "TotalReadoutTime to assume where sidecars do not say; 0 if unknown.",
        "--readout-time",
    )


@dataclass(frozen=True)
class SegmentationSettings:
    """SCS-Net."""

    input: str = setting(
        B0,
        "1",
        "Segment the B0 image alone, or look once more with the mean DWI beside it.",
        "--segment-from",
        INPUTS,
    )
    device: str = setting(
        "auto", "1", "Where the network runs: auto, cpu, cuda or cuda:N.", "--device"
    )
    weights: str = setting(
        "",
        "1",
        "Weights of your own (.pt, with its .json); empty takes the shipped ones.",
        "--weights",
        is_path=True,
    )
    dwi_weights: str = setting(
        "",
        "1",
        "Weights of your own for the network that sees B0 and mean DWI; empty: the shipped ones.",
        "--dwi-weights",
        is_path=True,
    )


@dataclass(frozen=True)
class AlignmentSettings:
    """Residual displacement from the B0 image to the mean DWI."""

    enabled: bool = setting(
        True, "1", "Estimate and apply the displacement from B0 to DWI.", "--b0-alignment"
    )
    max_shift_mm: float = setting(
        1.5, "mm", "Largest displacement of a slice, beside one that is common to all."
    )
    max_common_mm: float = setting(
        5.0, "mm", "Largest displacement common to all slices, as by a jump between b=0 and DWI."
    )


@dataclass(frozen=True)
class RegionalSettings:
    """The region table."""

    inside_share: float = setting(0.5, "1", "A voxel counts as inside from this share on.")
    core_share: float = setting(0.8, "1", "A voxel counts as core from this share on.")
    low_confidence: float = setting(0.75, "1", "Slices stated below this confidence are flagged.")
    levels: str = setting(
        "",
        "1",
        "Vertebral levels: a table (.tsv) or a folder of label images; empty leaves levels out.",
        "--levels",
        is_path=True,
    )
    exclude_slices: tuple[str, ...] = setting(
        (),
        "1",
        "Slices to leave out: tables of marks as the pages save them, or folders of such.",
        "--exclude-slices",
        is_path=True,
    )


class Sharpness(NamedTuple):
    """Factors of the network's logits: of cord against background, and of region against region."""

    outline: float
    regions: float


@dataclass(frozen=True)
class UnmixingSettings:
    """Region values from unmixed signals."""

    outline_sharpness: float = setting(
        3.0,
        "1",
        "Factor of the network's logits of cord against background; depends on the weights.",
    )
    region_sharpness: float = setting(
        2.0, "1", "Factor of the logits of region against region, where the network sees B0."
    )
    region_sharpness_with_dwi: float = setting(
        3.0, "1", "The same where it sees the mean DWI as well."
    )
    cord_share: float = setting(0.8, "1", "Voxels that the cord fills more than this are unmixed.")
    least_voxels: float = setting(
        2.0, "1", "Fewest voxels of its own, in effect, that a region needs in a slice; else n/a."
    )
    largest_unexplained: float = setting(
        0.12,
        "1",
        "Part of the cord's signal that its regions may leave unexplained in a slice; else n/a.",
    )

    def sharpness(self, seen: str) -> Sharpness:
        """By what the network sees, one of ``INPUTS``."""
        by_input = {B0: self.region_sharpness, B0_AND_DWI: self.region_sharpness_with_dwi}
        return Sharpness(self.outline_sharpness, by_input[seen])


@dataclass(frozen=True)
class DerivativesSettings:
    """Results of other tools."""

    folders: tuple[str, ...] = setting(
        (),
        "1",
        "Take what other tools have found, instead of computing it, from these derivative datasets "
        "(DIR or NAME=DIR): a corrected series, a mask of the cord, vertebral levels.",
        "--derivatives",
        is_path=True,
    )


@dataclass(frozen=True)
class Settings:
    """All settings of a run, one part per stage."""

    derivatives: DerivativesSettings = field(default_factory=DerivativesSettings)
    gradients: GradientSettings = field(default_factory=GradientSettings)
    denoising: DenoisingSettings = field(default_factory=DenoisingSettings)
    motion: MotionSettings = field(default_factory=MotionSettings)
    distortion: DistortionSettings = field(default_factory=DistortionSettings)
    segmentation: SegmentationSettings = field(default_factory=SegmentationSettings)
    alignment: AlignmentSettings = field(default_factory=AlignmentSettings)
    regional: RegionalSettings = field(default_factory=RegionalSettings)
    unmixing: UnmixingSettings = field(default_factory=UnmixingSettings)


class Declared(NamedTuple):
    """A setting as it is declared.

    Attributes
    ----------
    stage, name : where it lies in ``Settings``, and in TOML
    default : its type is the type of the setting
    unit : ``1`` if it has none
    text : one sentence
    option : on the command line, or None
    choices : words that it can be; empty if any will do
    is_path : tells that it names files or folders
    """

    stage: str
    name: str
    default: Any
    unit: str
    text: str
    option: str | None
    choices: tuple[str, ...]
    is_path: bool


def list_settings(of: type[DataclassInstance] = Settings) -> Iterator[Declared]:
    """List every setting in the order of the stages."""
    for stage in fields(of):
        for declared in fields(type(getattr(of(), stage.name))):
            words = declared.metadata
            yield Declared(stage.name, declared.name, declared.default, **words)
