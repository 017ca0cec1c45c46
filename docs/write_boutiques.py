"""Describe the command line in the words of Boutiques, which nipoppy and others read.

Writes `boilerplate/boutiques.json` from the parser; a test compares the two.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scsnet_bids import __version__
from scsnet_bids.parser import DESCRIPTION, LEVELS, make_parser

FILE = Path(__file__).resolve().parents[1] / "boilerplate" / "boutiques.json"
MADE_BY_THE_RUN = {"output_dir", "work_dir"}


def describe_command() -> dict[str, Any]:
    """Make the descriptor (schema 0.5) of every word that the help shows."""
    inputs = [found for action in make_parser()._actions for found in _describe(action)]
    keys = " ".join(found["value-key"] for found in inputs)
    return {
        "name": "scsnet-bids",
        "description": " ".join(DESCRIPTION.split()),
        "tool-version": __version__,
        "schema-version": "0.5",
        "command-line": f"scsnet-bids {keys}",
        "inputs": inputs,
        "output-files": [
            {
                "id": "results",
                "name": "Results",
                "description": "BIDS derivatives, one page per participant, group tables",
                "path-template": "[OUTPUT_DIR]",
            }
        ],
        "suggested-resources": {"cpu-cores": 1, "ram": 2},
        "tags": {"domain": ["neuroinformatics", "mri", "bids app"]},
    }


def _describe(action: argparse.Action) -> Iterator[dict[str, Any]]:
    """Yield the input of an option; one that can be said or denied has two."""
    if action.help == argparse.SUPPRESS or {"--help", "--version"} & set(action.option_strings):
        return
    long = [word for word in action.option_strings if word.startswith("--")]
    both = isinstance(action, argparse.BooleanOptionalAction)
    for flag in long[: 2 if both else 1] or [""]:
        name = flag.removeprefix("--").replace("-", "_") or action.dest
        yield {
            "id": name,
            "name": name.replace("_", " "),
            "description": str(action.help),
            "value-key": f"[{name.upper()}]",
            "optional": bool(flag),
            **({"command-line-flag": flag} if flag else {}),
            **_kind(action, name),
        }


def _kind(action: argparse.Action, name: str) -> dict[str, Any]:
    """Say which values an input takes."""
    if action.nargs == 0:
        return {"type": "Flag"}
    several = {"list": True, "min-list-entries": 1} if action.nargs == "+" else {}
    choices = LEVELS if action.dest == "level" else action.choices
    if choices:
        return {"type": "String", "value-choices": list(choices), **several}
    if action.type is Path and name not in MADE_BY_THE_RUN:
        return {"type": "File", **several}
    if action.type is float:
        return {"type": "Number", **several}
    if action.type is int or "integer" in getattr(action.type, "__name__", ""):
        return {"type": "Number", "integer": True, **several}
    return {"type": "String", **several}


if __name__ == "__main__":
    FILE.write_text(json.dumps(describe_command(), indent=2, ensure_ascii=False) + "\n", "utf-8")
