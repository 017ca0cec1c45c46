"""Texts of methods: sentences filled with what was done, works cited by number.

The sentences lie in ``boilerplate/methods_<stage>.md``; under a heading such as ``## motion
disabled`` stands what ``$motion`` means where the setting says so. ``$stage_name`` stands for a
setting, ``$name`` for a version, ``[@key]`` for a work in ``boilerplate/references.bib``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from scsnet_bids.files import write_text

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


def fill_stages(
    stages: Sequence[str], words: Mapping[str, str], cases: Mapping[str, str]
) -> dict[str, str]:
    """Fill the texts of some stages, works still cited by key.

    Parameters
    ----------
    stages : whose texts are taken, in this order
    words : what stands for the names in the sentences
    cases : which of the texts under headings stands for a word

    Returns
    -------
    dict of texts by the title of their stage
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
    return written


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


def _read_stage(stage: str) -> tuple[str, dict[str, str]]:
    """Read the text of a stage, and by its heading each text of which a setting chooses one."""
    source = files("scsnet_bids.boilerplate").joinpath(f"methods_{stage}.md")
    general, *parts = source.read_text(encoding="utf-8").split("\n## ")
    sections = dict(part.split("\n", 1) for part in parts)
    return _flowed(general), {heading: _flowed(text) for heading, text in sections.items()}


def _flowed(text: str) -> str:
    """Put a text on one line."""
    return " ".join(text.split())


def cite_works(texts: Mapping[str, str]) -> MethodsText:
    """Replace citations in texts, by title, by numbers, in the order of their first mention."""
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
    if "journal" in plain:
        volume = plain["volume"] + (f"({plain['number']})" if "number" in plain else "")
        place = f"{plain['journal']} {plain['year']};{volume}:{plain['pages']}."
    else:
        where = plain.get("publisher") or plain["howpublished"]
        place = f"{where}, {plain['year']}."
    doi = f" doi:{plain['doi']}" if "doi" in plain else ""
    return f"{who.removesuffix('.')}. {plain['title']}. {place}{doi}"
