"""Images that could correct the distortion of a run: found and named, not used yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scsnet_bids.files import read_json
from scsnet_bids.runs import DwiRun, read_metadata


def find_fieldmaps(run: DwiRun, companions: Iterable[DwiRun] = ()) -> list[Path]:
    """Find the fieldmaps of a run by ``IntendedFor`` or ``B0FieldIdentifier``, or as a companion.

    Parameters
    ----------
    run : to find fieldmaps for
    companions : series of b=0 volumes; those of the same folder with the phase encoded the other
        way round count

    Returns
    -------
    list of NIfTI files
    """
    metadata = read_metadata(run)
    folder = run.image.parent.parent / "fmap"
    beside = [path for path in sorted(folder.glob("*.nii*")) if _is_for(path, run, metadata)]
    reversed_direction = _reverse(metadata.get("PhaseEncodingDirection"))
    return beside + [
        other.image
        for other in companions
        if other.image.parent == run.image.parent
        and reversed_direction is not None
        and read_metadata(other).get("PhaseEncodingDirection") == reversed_direction
    ]


def _is_for(path: Path, run: DwiRun, metadata: Mapping[str, Any]) -> bool:
    """Tell whether a fieldmap says that it belongs to a run."""
    try:
        said = read_json(path.with_name(path.name.split(".")[0] + ".json"))
    except (OSError, ValueError):
        return False
    # Relative to the participant's folder, or to the dataset as in bids::sub-01/dwi/...
    targets = [str(word).rpartition("::")[2] for word in _listed(said.get("IntendedFor"))]
    if any(run.image.as_posix().endswith(f"/{target.lstrip('/')}") for target in targets):
        return True
    fields = _listed(said.get("B0FieldIdentifier"))
    return any(name in fields for name in _listed(metadata.get("B0FieldSource")))


def _reverse(direction: Any) -> str | None:
    """Turn ``j`` into ``j-`` and back."""
    if not isinstance(direction, str):
        return None
    return direction.removesuffix("-") if direction.endswith("-") else f"{direction}-"


def _listed(value: Any) -> Sequence[Any]:
    """Return a list as it is, one value as a list, and nothing as an empty one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
