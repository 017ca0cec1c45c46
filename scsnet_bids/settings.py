"""Every setting of a run, once, with its default, its unit and what it means.

``Settings`` is frozen and made of one small part per stage. A workflow builder takes only its part,
a leaf function takes plain numbers, and the same object is written as TOML beside the outputs:

>>> settings_from_toml(settings_to_toml(Settings())) == Settings()
True
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import tomli_w

from scsnet_bids.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def setting(default: Any, unit: str, text: str) -> Any:
    """Declare a setting with its default, its unit (``1`` if it has none) and one sentence."""
    return field(default=default, metadata={"unit": unit, "text": text})


@dataclass(frozen=True)
class GradientSettings:
    """Which volumes count as b=0 and which enter the tensor."""

    b0_max: float = setting(50.0, "s/mm2", "Volumes up to this b-value count as b=0.")
    tensor_b_max: float = setting(1200.0, "s/mm2", "The tensor uses shells up to this b-value.")


@dataclass(frozen=True)
class MotionSettings:
    """Slice-wise motion correction."""

    enabled: bool = setting(True, "1", "Correct in-plane motion slice by slice.")
    window_radius_mm: float = setting(11.0, "mm", "Radius of the window around the cord.")
    max_shift_mm: float = setting(4.0, "mm", "Largest displacement that is believed.")


@dataclass(frozen=True)
class SegmentationSettings:
    """SCS-Net."""

    device: str = setting("auto", "1", "Where the network runs: auto, cpu, cuda or cuda:N.")


@dataclass(frozen=True)
class AlignmentSettings:
    """Residual displacement from the B0 image to the mean DWI."""

    enabled: bool = setting(True, "1", "Estimate and apply the displacement from B0 to DWI.")
    max_shift_mm: float = setting(1.5, "mm", "Largest displacement that is applied.")


@dataclass(frozen=True)
class RegionalSettings:
    """The region table."""

    inside_share: float = setting(0.5, "1", "A voxel counts as inside from this share on.")
    core_share: float = setting(0.8, "1", "A voxel counts as core from this share on.")
    low_confidence: float = setting(0.75, "1", "Slices stated below this confidence are flagged.")


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
class Settings:
    """All settings of a run, one part per stage."""

    gradients: GradientSettings = field(default_factory=GradientSettings)
    motion: MotionSettings = field(default_factory=MotionSettings)
    segmentation: SegmentationSettings = field(default_factory=SegmentationSettings)
    alignment: AlignmentSettings = field(default_factory=AlignmentSettings)
    regional: RegionalSettings = field(default_factory=RegionalSettings)
    unmixing: UnmixingSettings = field(default_factory=UnmixingSettings)


def settings_to_toml(settings: Settings) -> str:
    """Write settings as TOML, one table per stage."""
    return tomli_w.dumps(asdict(settings))


def settings_from_toml(text: str) -> Settings:
    """Read settings from TOML; what is not given keeps its default.

    Parameters
    ----------
    text : TOML with one table per stage

    Returns
    -------
    Settings

    Raises
    ------
    UsageError
        If the text is not TOML, or names a stage or a setting that does not exist.
    """
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"Settings must be TOML: {error}.") from error
    stages = {stage.name: type(getattr(Settings(), stage.name)) for stage in fields(Settings)}
    _refuse_unknown(given, list(stages), "stage")
    parts: dict[str, Any] = {}
    for name, values in given.items():
        _refuse_unknown(values, [f.name for f in fields(stages[name])], f"setting of [{name}]")
        parts[name] = stages[name](**values)
    return Settings(**parts)


def _refuse_unknown(given: dict[str, Any], known: list[str], kind: str) -> None:
    """Raise for a name that no setting has."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise UsageError(
            f"Every {kind} must be known: found {', '.join(unknown)}; known are {', '.join(known)}."
        )
