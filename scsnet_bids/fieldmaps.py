"""Images with reversed phase encoding that correct the distortion of a run: found and judged.

A fieldmap shares a ``B0FieldIdentifier`` with its series, or names it by ``IntendedFor``; a series
in the same folder with the phase encoded the other way round counts too. What cannot be used is
told in a sentence, and the run goes on without.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scsnet_bids.errors import (
    ONLY_B0,
    GradientError,
    InputDataError,
    ScsnetError,
    SkippedSeries,
)
from scsnet_bids.gradient_files import read_bvals
from scsnet_bids.gradients import b0_volumes
from scsnet_bids.images import Grid, read_grid
from scsnet_bids.runs import (
    DwiRun,
    comparable,
    is_raw_name,
    list_inherited,
    merge_sidecars,
    phase_encoding,
    read_entities,
    read_metadata,
)
from scsnet_bids.settings import DistortionSettings, Settings

OPPOSITE = {"AP": "PA", "PA": "AP", "LR": "RL", "RL": "LR"}
LABEL_AXIS = {"AP": 1, "PA": 1, "LR": 0, "RL": 0}
FEWEST_WEIGHTED = 7
"""So many volumes without gradients may be a diffusion series whose gradients are missing."""
READOUT_S = (1e-4, 10.0)
"""Readout times beyond this are taken as not said: only their ratio matters here."""


@dataclass(frozen=True)
class ReversedPair:
    """Images that are distorted the other way round than a run.

    Attributes
    ----------
    image : NIfTI file
    volumes : its b=0 volumes
    metadata : what its sidecars say
    readout_ratio : its total readout time over that of the run
    """

    image: Path
    volumes: tuple[int, ...]
    metadata: Mapping[str, Any]
    readout_ratio: float


@dataclass(frozen=True)
class DistortionPlan:
    """What is done about the distortion of a run.

    Attributes
    ----------
    method : auto, fsl or none
    pair : what it is estimated from; None if it is not corrected
    reason : why it is not, empty if it is
    found : whether there is any fieldmap
    """

    method: str
    pair: ReversedPair | None
    reason: str
    found: bool

    def __str__(self) -> str:
        if self.pair is None:
            return f"not corrected, because {self.reason}"
        how = " by FSL topup" if self.method == "fsl" else ""
        return f"corrected{how} with {self.pair.image.name}"


def plan_distortion(run: DwiRun, settings: Settings) -> DistortionPlan:
    """Choose what corrects the distortion of a run.

    Parameters
    ----------
    run : the run
    settings : of the run

    Returns
    -------
    DistortionPlan; the first fieldmap that can be used is
    """
    found = find_fieldmaps(run, settings.distortion)
    if settings.distortion.method == "none":
        return DistortionPlan("none", None, "--distortion is none", bool(found))
    reasons = []
    for path in found:
        try:
            pair = _read_pair(path, run, settings)
            return DistortionPlan(settings.distortion.method, pair, "", True)
        except ScsnetError as error:
            reasons.append(str(error))
    reason = " ".join(reasons) or "there is no image with reversed phase encoding"
    return DistortionPlan("none", None, reason, bool(found))


def find_fieldmaps(run: DwiRun, settings: DistortionSettings) -> list[Path]:
    """Find the images that are meant to correct a run, usable or not.

    Parameters
    ----------
    run : to find fieldmaps for
    settings : what to take for granted where sidecars say nothing

    Returns
    -------
    list of NIfTI files: those of ``fmap`` and the series beside the run with reversed phase
    encoding, first what tells of the same field, then what names the run, then the other series;
    of these the most alike in name first
    """
    metadata = read_series_metadata(run, settings)
    own = _comparable_entities(run.image)

    def rank(path: Path) -> tuple[bool, bool, int]:
        apart = len(own ^ _comparable_entities(path))
        return not _is_of_field(path, metadata), not _names_run(path, run), apart

    folder = run.image.parent.parent / "fmap"
    named = [path for path in sorted(folder.glob("*.nii*")) if not all(rank(path)[:2])]
    beside = [
        path
        for path in sorted(run.image.parent.glob("*_dwi.nii*"))
        if path != run.image and _looks_reversed(path, run, metadata)
    ]
    return sorted(named + beside, key=rank)


def _comparable_entities(path: Path) -> set[tuple[str, str]]:
    """Entities of a file name, written so that what means the same is the same."""
    return {(key, comparable(key, value)) for key, value in read_entities(path).items()}


def skip_pairs(
    good: Sequence[DwiRun], left_out: Mapping[DwiRun, ScsnetError], settings: Settings
) -> tuple[list[DwiRun], dict[DwiRun, ScsnetError]]:
    """Find no fault in series that hold nothing but the reversed b=0 volumes of a good run.

    Parameters
    ----------
    good, left_out : runs as :func:`scsnet_bids.run_checks.check_runs` sorts them
    settings : of the runs

    Returns
    -------
    The same, with such series as ``SkippedSeries``
    """
    reversed_images = {path for run in good for path in find_fieldmaps(run, settings.distortion)}
    skipped = {
        run: SkippedSeries(ONLY_B0)
        for run, error in left_out.items()
        if isinstance(error, GradientError)
        and run.image in reversed_images
        and _holds_only_b0(run.image, settings.gradients.b0_max)
    }
    return list(good), {**left_out, **skipped}


def _holds_only_b0(path: Path, b0_max: float) -> bool:
    """Tell whether all volumes of a series have b=0, or are few and have no gradients."""
    _, n_volumes = read_grid(path)
    if not list_inherited(path, ".bval"):
        return n_volumes < FEWEST_WEIGHTED and not list_inherited(path, ".bvec")
    try:
        return len(_find_b0(path, n_volumes, b0_max)) == n_volumes
    except InputDataError:
        return False


def read_series_metadata(run: DwiRun, settings: DistortionSettings) -> dict[str, Any]:
    """Read the sidecars of a run, completed by what the settings say of its phase encoding.

    Parameters
    ----------
    run : the run
    settings : direction and readout time for series whose sidecars lack them

    Returns
    -------
    dict

    Raises
    ------
    InputDataError
        If a sidecar is not a JSON object.
    """
    return _completed(read_metadata(run), settings.phase_encoding, settings)


def _completed(
    metadata: Mapping[str, Any], direction: str, settings: DistortionSettings
) -> dict[str, Any]:
    """Add what is taken for granted to what a sidecar says."""
    given = {"PhaseEncodingDirection": direction} if direction != "sidecar" else {}
    readout = {"TotalReadoutTime": settings.readout_s} if settings.readout_s > 0 else {}
    return {**given, **readout, **metadata}


def _read_pair(path: Path, run: DwiRun, settings: Settings) -> ReversedPair:
    """Take a fieldmap as the pair of a run, or raise why it cannot be."""
    if not path.name.split(".")[0].endswith(("_epi", "_dwi")):
        raise InputDataError(f"{path.name} is no image with reversed phase encoding.")
    if read_entities(path).get("part", "mag") != "mag" or not is_raw_name(path, "ce"):
        raise InputDataError(f"{path.name} is not named as a magnitude image of raw data.")
    grid, _ = read_grid(run.image)
    other, n_volumes = read_grid(path)
    if not grid.matches(other):
        raise InputDataError(
            f"{path.name} must have the voxels of the series: it has {other.describe()}, the "
            f"series {grid.describe()}, or they lie elsewhere."
        )
    metadata = read_series_metadata(run, settings.distortion)
    reverse = _reverse(settings.distortion.phase_encoding) or "sidecar"
    said = _completed(_read_inherited(path), reverse, settings.distortion)
    _refuse_through_slices(run.image, metadata, grid)
    _refuse_through_slices(path, said, other)
    signed = phase_encoding(metadata, grid).sign * phase_encoding(said, other).sign != 0
    if settings.distortion.method == "fsl" and not signed:
        raise InputDataError(
            f"FSL topup needs PhaseEncodingDirection in the sidecars of {run.image.name} and "
            f"{path.name}. Give that of the series with --phase-encoding."
        )
    _refuse_same_direction(path, run, (metadata, grid), (said, other))
    volumes = _find_b0(path, n_volumes, settings.gradients.b0_max)
    ratio = _readout_ratio(path, (metadata, grid), (said, other))
    return ReversedPair(path, volumes, said, ratio)


def _refuse_through_slices(path: Path, metadata: Mapping[str, Any], grid: Grid) -> None:
    """Raise InputDataError if a scan says that its phase is encoded along no axis of the slices."""
    direction = metadata.get("PhaseEncodingDirection")
    if _reverse(direction) and not phase_encoding(metadata, grid).sign:
        raise InputDataError(
            f"{path.name} has PhaseEncodingDirection {direction}, which points through the "
            "slices and cannot be used. Correct it."
        )


def _refuse_same_direction(
    path: Path,
    run: DwiRun,
    own: tuple[Mapping[str, Any], Grid],
    other: tuple[Mapping[str, Any], Grid],
) -> None:
    """Raise InputDataError unless two scans encode the phase in opposite directions."""
    one, two = phase_encoding(*own), phase_encoding(*other)
    if one.sign and two.sign:
        if one.axis == two.axis and one.sign == -two.sign:
            return
        raise InputDataError(
            f"{path.name} has its phase encoded along {other[0].get('PhaseEncodingDirection')}, "
            f"the series along {own[0].get('PhaseEncodingDirection')}: they must be opposite."
        )
    # Which of the two is which matters to nobody but FSL.
    labels = [read_entities(name).get("dir", "").upper() for name in (run.image, path)]
    if OPPOSITE.get(labels[0]) == labels[1] and one.axis == LABEL_AXIS[labels[0]]:
        return
    lacking = path.name if one.sign else run.image.name
    raise InputDataError(
        f"the sidecar of {lacking} does not say PhaseEncodingDirection, and the names do not say "
        "dir-AP and dir-PA. Give the direction of the series with --phase-encoding."
    )


def _readout_ratio(
    path: Path,
    own: tuple[Mapping[str, Any], Grid],
    other: tuple[Mapping[str, Any], Grid],
) -> float:
    """Readout time of a fieldmap over that of the series; 1 if nobody says either."""
    axis = phase_encoding(*own).axis
    one, two = (_readout_s(metadata, grid, axis) for metadata, grid in (own, other))
    if one is None and two is None:
        return 1.0
    if one is None or two is None:
        lacking = "the series" if one is None else path.name
        raise InputDataError(
            f"the sidecar of {lacking} does not say TotalReadoutTime, and the other does. Give it "
            "with --readout-time."
        )
    return two / one


def _readout_s(metadata: Mapping[str, Any], grid: Grid, axis: int) -> float | None:
    """Total readout time, given or from the echo spacing; None if neither is there."""
    given = {
        name: float(value)
        for name, value in metadata.items()
        if name in ("TotalReadoutTime", "EffectiveEchoSpacing") and type(value) in (int, float)
    }
    spacing = given.get("EffectiveEchoSpacing", 0.0)
    readout = given.get("TotalReadoutTime", spacing * (grid.shape[axis] - 1))
    return readout if READOUT_S[0] <= readout <= READOUT_S[1] else None


def _find_b0(path: Path, n_volumes: int, b0_max: float) -> tuple[int, ...]:
    """List the b=0 volumes of an image; without b-values all of them are."""
    files = list_inherited(path, ".bval")
    if not files:
        return tuple(range(n_volumes))
    bvals = read_bvals(files[-1], path)
    if bvals.size != n_volumes:
        if n_volumes == 1:
            return (0,)  # inherited from a series of many volumes
        raise InputDataError(f"{path.name} has {n_volumes} volumes and {bvals.size} b-values.")
    chosen = np.flatnonzero(b0_volumes(bvals, b0_max))
    if not chosen.size:
        raise InputDataError(f"{path.name} has no b=0 volume.")
    return tuple(int(n) for n in chosen)


def _is_of_field(path: Path, metadata: Mapping[str, Any]) -> bool:
    """Tell whether an image says that it helps to estimate the field of a run."""
    # A series that is one of the pair may say no more than which field it helps to estimate.
    own = _listed(metadata.get("B0FieldSource") or metadata.get("B0FieldIdentifier"))
    return any(name in own for name in _said(path, "B0FieldIdentifier"))


def _names_run(path: Path, run: DwiRun) -> bool:
    """Tell whether an image says that it is intended for a run."""
    # Relative to the participant's folder, or to the dataset as in bids::sub-01/dwi/... or
    # bids:raw:sub-01/dwi/...
    targets = [re.sub("^bids:.*?:", "", str(word)) for word in _said(path, "IntendedFor")]
    return any(run.image.as_posix().endswith(f"/{target.lstrip('/')}") for target in targets)


def _said(path: Path, name: str) -> Sequence[Any]:
    """List what the sidecars of an image say under a name; nothing if they cannot be read."""
    try:
        return _listed(_read_inherited(path).get(name))
    except InputDataError:
        return []


def _looks_reversed(path: Path, run: DwiRun, metadata: Mapping[str, Any]) -> bool:
    """Tell whether a series beside a run says that its phase is encoded the other way round."""
    try:
        said = _read_inherited(path).get("PhaseEncodingDirection")
    except InputDataError:
        return False
    direction = metadata.get("PhaseEncodingDirection")
    if direction and said:
        return bool(said == _reverse(direction))
    one, two = (read_entities(name).get("dir", "").upper() for name in (run.image, path))
    return OPPOSITE.get(one, "none") == two


def _reverse(direction: Any) -> str | None:
    """Turn ``j`` into ``j-`` and back."""
    if not isinstance(direction, str) or direction[:1] not in ("i", "j", "k"):
        return None
    return direction.removesuffix("-") if direction.endswith("-") else f"{direction}-"


def _read_inherited(path: Path) -> dict[str, Any]:
    """Merge the sidecars that apply to an image; the more specific file wins."""
    return merge_sidecars(list_inherited(path, ".json"))


def _listed(value: Any) -> Sequence[Any]:
    """Return a list as it is, one value as a list, and nothing as an empty one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
