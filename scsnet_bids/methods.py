"""The methods text of exactly what was run: which words and which sentences say it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from scsnet_bids import __version__
from scsnet_bids.methods_text import MethodsText, fill_stages
from scsnet_bids.protocol import Protocol, listed
from scsnet_bids.settings import Settings

STAGES = (
    "series",
    "denoising",
    "motion",
    "distortion",
    "segmentation",
    "tensor",
    "regional",
    "levels",
)
TAKEN = {
    "series": "The corrected images of",
    "cord": "The outline of the cord of",
    "levels": "The vertebral levels of",
}
"""How a sentence begins that says what was taken from another tool."""


def describe_methods(
    settings: Settings, weights: Mapping[str, Any], protocols: Mapping[str, Protocol]
) -> MethodsText:
    """Write the methods of a run of the app.

    Parameters
    ----------
    settings : of all its series
    weights : record of the network's weights, with ``version`` and ``sha256``; as ``dwi`` that of
        the network that sees the mean DWI as well, where there is one
    protocols : of each series, by its name

    Returns
    -------
    MethodsText
    """
    words = _words(settings, weights, protocols)
    ringing = "removed" if settings.denoising.degibbs else "kept"
    taken = _all_took(protocols, "series")
    bent = sum(protocol.distortion == "none" for protocol in protocols.values())
    cases = {
        "denoising": "taken" if taken else settings.denoising.method,
        "ringing": "taken" if taken else ringing,
        "motion": "taken" if taken else settings.motion.method,
        "distortion": "taken" if taken else _distortion_method(protocols),
        "uncorrected": "some" if 0 < bent < len(protocols) else "all",
        "outline": "taken" if _all_took(protocols, "cord") else "fitted",
        "alignment": "enabled" if settings.alignment.enabled else "disabled",
        "weights": "own" if settings.segmentation.weights else "shipped",
        "input": ("own " if settings.segmentation.dwi_weights else "")
        + settings.segmentation.input,
        "levels": "given" if any(p.has_levels for p in protocols.values()) else "absent",
        "marks": "given" if any(p.excluded for p in protocols.values()) else "absent",
    }
    return fill_stages(STAGES, words, cases)


def _words(
    settings: Settings, weights: Mapping[str, Any], protocols: Mapping[str, Protocol]
) -> dict[str, str]:
    """List what stands for the names in the sentences."""
    numbers = {
        f"{stage}_{name}": f"{value:g}" if isinstance(value, float) else str(value)
        for stage, values in asdict(settings).items()
        for name, value in values.items()
    }
    return numbers | {
        "excluded": "; ".join(
            f"{listed(protocol.excluded)} of {name}"
            for name, protocol in protocols.items()
            if protocol.excluded
        ),
        "version": __version__,
        "nipype": version("nipype"),
        "dipy": version("dipy"),
        **_name_weights("", weights),
        **(_name_weights("dwi_", weights["dwi"]) if "dwi" in weights else {}),
        "series": _describe_series(protocols),
    }


def _name_weights(prefix: str, record: Mapping[str, Any]) -> dict[str, str]:
    """Name weights by version and the start of their checksum."""
    return {
        f"{prefix}weights_version": str(record.get("version", "unknown")),
        f"{prefix}weights_sha256": str(record["sha256"])[:12],
    }


def _distortion_method(protocols: Mapping[str, Protocol]) -> str:
    """Tell how distortion was corrected where it was; none if nowhere."""
    methods = {protocol.distortion for protocol in protocols.values()} - {"none"}
    return min(methods, default="none")


def _all_took(protocols: Mapping[str, Protocol], kind: str) -> bool:
    """Tell whether every series took something from another tool."""
    return bool(protocols) and all(kind in dict(p.taken) for p in protocols.values())


def _describe_taken(protocols: Mapping[str, Protocol]) -> Iterator[str]:
    """Write a sentence for everything that was taken from another tool."""
    counts = Counter(taken for protocol in protocols.values() for taken in protocol.taken)
    for (kind, dataset), n_series in sorted(counts.items()):
        verb = "was" if kind == "cord" else "were"
        yield f"{TAKEN[kind]} {n_series} series {verb} taken from the dataset {dataset}."


def _describe_series(protocols: Mapping[str, Protocol]) -> str:
    """Write one sentence per protocol, naming its series where there are several protocols."""
    by_protocol: dict[Protocol, list[str]] = {}
    for name, protocol in protocols.items():
        by_protocol.setdefault(protocol, []).append(name)
    sentences = []
    for protocol, names in sorted(by_protocol.items()):
        who = f"{len(names)} diffusion series" if len(names) > 1 else "One diffusion series"
        which = f" ({listed(names)})" if len(by_protocol) > 1 else ""
        sentences.append(f"{who}{which} had {protocol}.")
    sentences += _describe_taken(protocols)
    return " ".join(sentences) or "No diffusion series was processed."
