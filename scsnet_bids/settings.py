"""Every setting of a run, once, with its default, its unit and what it means.

``Settings`` is frozen and made of one small part per stage. A workflow builder takes only its part,
a leaf function takes plain numbers, and the same object is written as TOML beside the outputs. The
command line makes its options and their help from the same declarations.

>>> settings_from_toml(settings_to_toml(Settings())) == Settings()
True
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import tomli_w

from scsnet_bids.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


if TYPE_CHECKING:
    from _typeshed import DataclassInstance

B0, B0_AND_DWI = "b0", "b0+dwi"
INPUTS = (B0, B0_AND_DWI)
"""What a network can see: the B0 image, or the mean DWI beside it."""

Stages = TypeVar("Stages", bound="DataclassInstance")
"""A frozen dataclass with one part per stage, such as ``Settings``."""


def setting(
    default: Any, unit: str, text: str, option: str | None = None, choices: tuple[str, ...] = ()
) -> Any:
    """Declare a setting with its default, its unit (``1`` if it has none) and one sentence.

    Those that many users change have an option on the command line; TOML can set all of them.
    A word that must be one of a few names them as ``choices``.
    """
    words = {"unit": unit, "text": text, "option": option, "choices": choices}
    return field(default=default, metadata=words)


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
        "Remove noise before motion correction; the FA of the regions suffers.",
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
        "PhaseEncodingDirection of series whose sidecars do not say; a pair's is its reverse.",
        "--phase-encoding",
        ("sidecar", "i", "i-", "j", "j-"),
    )
    readout_s: float = setting(
        0.0,
        "s",
        "TotalReadoutTime of images whose sidecars do not say; 0 if unknown.",
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
    )
    dwi_weights: str = setting(
        "",
        "1",
        "The same of the network that sees B0 and mean DWI.",
        "--dwi-weights",
    )


@dataclass(frozen=True)
class AlignmentSettings:
    """Residual displacement from the B0 image to the mean DWI."""

    enabled: bool = setting(
        True, "1", "Estimate and apply the displacement from B0 to DWI.", "--b0-alignment"
    )
    max_shift_mm: float = setting(1.5, "mm", "Largest displacement that is applied.")


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
    )
    exclude_slices: tuple[str, ...] = setting(
        (),
        "1",
        "Slices to leave out: tables of marks as the pages save them, or folders of such.",
        "--exclude-slices",
    )


@dataclass(frozen=True)
class UnmixingSettings:
    """Region values from unmixed signals."""

    sharpness: float = setting(
        3.0, "1", "Factor of the logits of the network's probabilities; depends on the weights."
    )
    cord_share: float = setting(0.8, "1", "Voxels that the cord fills more than this are unmixed.")
    least_voxels: float = setting(
        2.0, "1", "A region determined worse than by this many voxels of its own has no value."
    )


@dataclass(frozen=True)
class DerivativesSettings:
    """Results of other tools."""

    folders: tuple[str, ...] = setting(
        (),
        "1",
        "Take what other tools have found, instead of computing it, from these derivative datasets "
        "(DIR or NAME=DIR): a corrected series, a mask of the cord, vertebral levels.",
        "--derivatives",
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
    """

    stage: str
    name: str
    default: Any
    unit: str
    text: str
    option: str | None
    choices: tuple[str, ...]


def list_settings(of: type[DataclassInstance] = Settings) -> Iterator[Declared]:
    """List every setting in the order of the stages."""
    for stage in fields(of):
        for declared in fields(type(getattr(of(), stage.name))):
            words = declared.metadata
            yield Declared(stage.name, declared.name, declared.default, **words)


def settings_to_toml(settings: DataclassInstance) -> str:
    """Write settings as TOML, one table per stage, every setting explained.

    Like :func:`read_toml` and :func:`change_settings` it takes ``Settings``, or any other frozen
    dataclass of stages whose settings are declared by :func:`setting`.
    """
    lines: list[str] = []
    for known in list_settings(type(settings)):
        if f"[{known.stage}]" not in lines:
            lines += ["", f"[{known.stage}]"]
        unit = "" if known.unit == "1" else f" ({known.unit})"
        value = getattr(getattr(settings, known.stage), known.name)
        choices = f" ({', '.join(known.choices)})" if known.choices else ""
        lines += [f"# {known.text}{unit}{choices}", tomli_w.dumps({known.name: value}).rstrip()]
    return "\n".join(lines[1:]) + "\n"


def settings_from_toml(text: str) -> Settings:
    """Read the settings of the app from TOML; what is not given keeps its default."""
    return read_toml(text, Settings())


def read_toml(text: str, settings: Stages) -> Stages:
    """Change settings by TOML.

    Parameters
    ----------
    text : TOML with one table per stage
    settings : to start from; what is not given stays

    Returns
    -------
    Settings of the same kind

    Raises
    ------
    UsageError
        If the text is not TOML, names a stage or a setting that does not exist, or gives one a
        value that it cannot have.
    """
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"Settings must be TOML: {error}.") from error
    loose = [name for name, values in given.items() if not isinstance(values, dict)]
    if loose:
        example = fields(type(settings))[0].name
        raise UsageError(
            f"Settings lie in a table such as [{example}]: {', '.join(loose)} does not."
        )
    return change_settings(
        settings,
        {(stage, name): value for stage, part in given.items() for name, value in part.items()},
    )


def change_settings(settings: Stages, changes: Mapping[tuple[str, str], Any]) -> Stages:
    """Change some settings.

    Parameters
    ----------
    settings : to start from
    changes : new values by stage and name

    Returns
    -------
    Settings of the same kind

    Raises
    ------
    UsageError
        If a stage or setting does not exist, or cannot have the value.

    >>> change_settings(Settings(), {("gradients", "b0_max"): 10}).gradients.b0_max
    10.0
    """
    known = {
        (declared.stage, declared.name): declared for declared in list_settings(type(settings))
    }
    stages = [f.name for f in fields(type(settings))]
    _refuse_unknown({stage for stage, _ in changes}, stages, "stage")
    for stage in {stage for stage, _ in changes}:
        given = {name for part, name in changes if part == stage}
        _refuse_unknown(given, [name for part, name in known if part == stage], f"[{stage}] name")
    for place, value in changes.items():
        part = replace(getattr(settings, place[0]), **{place[1]: _checked(known[place], value)})
        settings = replace(settings, **{place[0]: part})
    return settings


_KINDS: Mapping[type, str] = {
    bool: "true or false",
    float: "a number",
    int: "a whole number",
    str: "a word",
    tuple: "a list of words",
}


def _checked(known: Declared, value: Any) -> Any:
    """Return a value in the type of its setting, or say why it cannot be."""
    kind = type(known.default)
    if kind is float and type(value) is int:
        value = float(value)
    if kind is tuple and isinstance(value, list) and all(type(x) is str for x in value):
        value = tuple(value)
    if type(value) is not kind:
        raise UsageError(
            f"{known.name} in [{known.stage}] must be {_KINDS[kind]}, such as {known.default!r}: "
            f"found {value!r}."
        )
    if kind is float and not (math.isfinite(value) and value >= 0):
        raise UsageError(f"{known.name} in [{known.stage}] must be 0 or more: found {value:g}.")
    if known.choices and value not in known.choices:
        raise UsageError(
            f"{known.name} in [{known.stage}] must be one of {', '.join(known.choices)}: found "
            f"{value!r}."
        )
    return value


def _refuse_unknown(given: set[str], known: list[str], kind: str) -> None:
    """Raise for a name that no setting has."""
    unknown = sorted(given - set(known))
    if unknown:
        raise UsageError(
            f"Every {kind} must be known: found {', '.join(unknown)}; known are {', '.join(known)}."
        )
