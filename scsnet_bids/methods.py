"""The methods text of exactly what was run, with its references.

The sentences lie in ``boilerplate/methods_<stage>.md``; under a heading such as ``## motion
disabled`` stands what ``$motion`` means where the setting says so. ``$stage_name`` stands for a
setting, ``$name`` for a version, ``[@key]`` for a work in ``boilerplate/references.bib``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd

from scsnet_bids import __version__
from scsnet_bids.files import write_text
from scsnet_bids.gradient_checks import count_directions
from scsnet_bids.gradients import b0_volumes, list_shells
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
TITLES = {
    "series": "Data and software",
    "denoising": "Noise and ringing",
    "motion": "Motion",
    "distortion": "Distortion",
    "segmentation": "Segmentation",
    "tensor": "Diffusion tensor",
    "regional": "Region values",
    "levels": "Shape of the cord and levels",
    "group": "Group analysis",
}
TAKEN = {
    "series": "The corrected images of",
    "cord": "The outline of the cord of",
    "levels": "The vertebral levels of",
}
"""How a sentence begins that says what was taken from another tool."""


@dataclass(frozen=True, order=True)
class ShellFacts:
    """Volumes of about the same b-value.

    Attributes
    ----------
    b_value : s/mm2, 0 for b=0
    n_volumes : how many there are
    n_directions : different directions among them, 0 for b=0
    """

    b_value: int
    n_volumes: int
    n_directions: int

    def __str__(self) -> str:
        volumes = f"{self.n_volumes} volume{'' if self.n_volumes == 1 else 's'}"
        if not self.b_value:
            return f"{volumes} of b=0"
        return f"{volumes} of b={self.b_value} s/mm2 in {self.n_directions} directions"


@dataclass(frozen=True, order=True)
class Protocol:
    """What was acquired in a series.

    Attributes
    ----------
    shape : voxels toward the patient's left, back and head
    spacing_mm : voxel size
    shells : lowest b-value first
    taken : what was taken from other tools (series, cord, levels) and from which dataset
    has_levels : whether the vertebral level of any slice is known
    excluded : slices that a reader failed
    distortion : how it was corrected: auto, fsl or none
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    shells: tuple[ShellFacts, ...]
    taken: tuple[tuple[str, str], ...] = ()
    has_levels: bool = field(default=False, compare=False)
    excluded: tuple[int, ...] = field(default=(), compare=False)
    distortion: str = field(default="none", compare=False)

    def __str__(self) -> str:
        x, y, z = self.spacing_mm
        slices = f"{self.shape[2]} slice{'' if self.shape[2] == 1 else 's'}"
        return f"{slices} of {x:.2f} x {y:.2f} x {z:.2f} mm voxels, {_listed(self.shells)}"


@dataclass(frozen=True)
class MethodsText:
    """A methods text and the works it cites.

    Attributes
    ----------
    paragraphs : title and text of each stage; works are cited by number, ``[1]``
    references : the works, in the order of their numbers
    bibtex : their entries
    """

    paragraphs: tuple[tuple[str, str], ...]
    references: tuple[str, ...]
    bibtex: str

    def as_markdown(self) -> str:
        """Write text and references as Markdown."""
        body = "\n\n".join(f"### {title}\n\n{text}" for title, text in self.paragraphs)
        works = "\n".join(f"{n}. {work}" for n, work in enumerate(self.references, 1))
        return f"## Methods\n\n{body}\n\n## References\n\n{works}\n"


def describe_shells(confounds: pd.DataFrame, b0_max: float) -> tuple[ShellFacts, ...]:
    """Count volumes and directions of every shell of a series.

    Parameters
    ----------
    confounds : table of the series, one row per volume
    b0_max : s/mm2; volumes up to here are b=0

    Returns
    -------
    tuple of ShellFacts, lowest b-value first
    """
    bvals = confounds["bval"].to_numpy(float)
    bvecs = confounds[["grad_x", "grad_y", "grad_z"]].to_numpy(float)
    shells = list_shells(bvals, b0_max)
    weighted = [shell.b_value for shell in shells if shell.b_value]
    if not weighted:
        return tuple(ShellFacts(0, shell.n_volumes, 0) for shell in shells)
    distance = np.abs(bvals[:, None] - np.array(weighted))
    member = np.where(b0_volumes(bvals, b0_max), 0, np.array(weighted)[distance.argmin(axis=1)])
    return tuple(
        ShellFacts(
            shell.b_value,
            shell.n_volumes,
            count_directions(bvecs[member == shell.b_value]) if shell.b_value else 0,
        )
        for shell in shells
    )


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


def fill_stages(
    stages: Sequence[str], words: Mapping[str, str], cases: Mapping[str, str]
) -> MethodsText:
    """Fill the texts of some stages.

    Parameters
    ----------
    stages : whose texts are taken, in this order
    words : what stands for the names in the sentences
    cases : which of the texts under headings stands for a word

    Returns
    -------
    MethodsText
    """
    written = {}
    for stage in stages:
        general, sections = _read_stage(stage)
        chosen = {
            word: Template(sections[f"{word} {case}"]).substitute(words)
            for word, case in cases.items()
            if f"{word} {case}" in sections
        }
        written[TITLES[stage]] = Template(general).substitute({**words, **chosen})
    return _cite(written)


def write_citation(log_dir: Path, methods: MethodsText, name: str = "CITATION") -> None:
    """Write a text to cite as Markdown and its references as BibTeX.

    Parameters
    ----------
    log_dir : folder
    methods : to write
    name : of both files, without extension

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    write_text(log_dir / f"{name}.md", methods.as_markdown())
    write_text(log_dir / f"{name}.bib", methods.bibtex)


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
            f"{_listed(protocol.excluded)} of {name}"
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
        which = f" ({_listed(names)})" if len(by_protocol) > 1 else ""
        sentences.append(f"{who}{which} had {protocol}.")
    sentences += _describe_taken(protocols)
    return " ".join(sentences) or "No diffusion series was processed."


def _read_stage(stage: str) -> tuple[str, dict[str, str]]:
    """Read the text of a stage, and by its heading each text of which a setting chooses one."""
    source = files("scsnet_bids.boilerplate").joinpath(f"methods_{stage}.md")
    general, *parts = source.read_text(encoding="utf-8").split("\n## ")
    sections = dict(part.split("\n", 1) for part in parts)
    return _flowed(general), {heading: _flowed(text) for heading, text in sections.items()}


def _flowed(text: str) -> str:
    """Put a text on one line."""
    return " ".join(text.split())


def _cite(texts: Mapping[str, str]) -> MethodsText:
    """Replace citations by numbers, in the order of their first mention."""
    works = read_references()
    numbers: dict[str, int] = {}

    def numbered(match: re.Match[str]) -> str:
        keys = re.findall(r"@(\w+)", match[0])
        return f"[{', '.join(str(numbers.setdefault(key, len(numbers) + 1)) for key in keys)}]"

    paragraphs = tuple(
        (title, re.sub(r"\[@[^]]+\]", numbered, text)) for title, text in texts.items()
    )
    references = tuple(_format_reference(works[key][1]) for key in numbers)
    return MethodsText(paragraphs, references, "\n\n".join(works[key][0] for key in numbers) + "\n")


def read_references() -> dict[str, tuple[str, dict[str, str]]]:
    """Read the references: entry and fields of every work, by key."""
    text = files("scsnet_bids.boilerplate").joinpath("references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"^(@\w+\{(\w+),\n.*?^\})", text, flags=re.MULTILINE | re.DOTALL)
    return {
        key: (entry, dict(re.findall(r"^ *(\w+) = \{(.*)\},?$", entry, flags=re.MULTILINE)))
        for entry, key in entries
    }


def _format_reference(fields: Mapping[str, str]) -> str:
    """Write a work on one line."""
    plain = {name: re.sub(r"[{}]", "", value).replace("--", "-") for name, value in fields.items()}
    authors = plain["author"].split(" and ")
    who = ", ".join(" ".join(author.split(", ")) for author in authors[:6])
    who += " et al." if len(authors) > 6 else ""
    volume = plain["volume"] + (f"({plain['number']})" if "number" in plain else "")
    place = f"{plain['journal']} {plain['year']};{volume}:{plain['pages']}."
    doi = f" doi:{plain['doi']}" if "doi" in plain else ""
    return f"{who.removesuffix('.')}. {plain['title']}. {place}{doi}"


def _listed(items: Sequence[object]) -> str:
    """Join items with commas and a final ``and``."""
    *first, last = map(str, items)
    return f"{', '.join(first)} and {last}" if first else last
