"""The methods text of exactly what was run: which words and which sentences say it.

Runs that different jobs processed share the text where it is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from scsnet_bids.jobs import Job
from scsnet_bids.methods_text import MethodsText, cite_works, fill_stages
from scsnet_bids.protocol import Protocol, listed

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
MOST_NAMED = 6
"""Of more series, a title names one and counts the others."""


def describe_methods(works: Sequence[tuple[Job, Mapping[str, Protocol]]]) -> MethodsText:
    """Write the methods of some jobs.

    Parameters
    ----------
    works : each job, with the protocols of its series by their names; at least one job

    Returns
    -------
    MethodsText; where jobs differ, a title names the series that its text is about
    """
    everybody = {name: protocol for _, own in works for name, protocol in own.items()}
    software = {(job.version, *job.libraries.items()) for job, _ in works}
    texts = [
        # The text that names the software describes the series too.
        _describe_job(job, own, everybody if len(software) == 1 else own)
        for job, own in works
    ]
    merged = {}
    for title in texts[0]:
        series: dict[str, list[str]] = {}
        for stages, (_, own) in zip(texts, works, strict=True):
            series.setdefault(stages[title], []).extend(own)
        for text, names in series.items():
            merged[title if len(series) == 1 else f"{title} ({_which(names)})"] = text
    return cite_works(merged)


def _which(names: Sequence[str]) -> str:
    """Name some series, or one of many and how many others there are."""
    return listed(names) if len(names) <= MOST_NAMED else f"{names[0]} and {len(names) - 1} more"


def _describe_job(
    job: Job, protocols: Mapping[str, Protocol], told: Mapping[str, Protocol]
) -> dict[str, str]:
    """Write the methods of a job by their titles; how series were acquired is told of some."""
    settings = job.settings
    words = _words(job, told)
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


def _words(job: Job, protocols: Mapping[str, Protocol]) -> dict[str, str]:
    """List what stands for the names in the sentences."""
    numbers = {
        f"{stage}_{name}": f"{value:g}" if isinstance(value, float) else str(value)
        for stage, values in asdict(job.settings).items()
        for name, value in values.items()
    }
    sharpness = job.settings.unmixing.sharpness(job.settings.segmentation.input)
    return numbers | {
        "outline_sharpness": f"{sharpness.outline:g}",
        "region_sharpness": f"{sharpness.regions:g}",
        "excluded": "; ".join(
            f"{listed(protocol.excluded)} of {name}"
            for name, protocol in protocols.items()
            if protocol.excluded
        ),
        "version": job.version,
        **job.libraries,
        **_name_weights("", job.weights),
        **(_name_weights("dwi_", job.weights["dwi"]) if "dwi" in job.weights else {}),
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
