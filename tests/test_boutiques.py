"""The Boutiques descriptor says what the command line takes, and nothing else."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from scsnet_bids import __version__
from scsnet_bids.parser import make_parser

ROOT = Path(__file__).parents[1]
DESCRIPTOR = json.loads((ROOT / "boilerplate" / "boutiques.json").read_text(encoding="utf-8"))
INPUTS = {found["id"]: found for found in DESCRIPTOR["inputs"]}
POSITIONALS = ["bids_dir", "output_dir", "level"]


def word_for(found: dict[str, Any]) -> list[str]:
    """A value that an input takes."""
    if found["type"] == "Flag":
        return []
    words = found.get("value-choices", ["2"] if found["type"] == "Number" else ["a"])
    return words if found.get("list") else words[:1]


def test_the_descriptor_is_that_of_this_parser():
    spec = importlib.util.spec_from_file_location("made", ROOT / "docs" / "write_boutiques.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.describe_command() == DESCRIPTOR, "run docs/write_boutiques.py again"


def test_it_has_what_schema_0_5_asks_for():
    assert (DESCRIPTOR["schema-version"], DESCRIPTOR["tool-version"]) == ("0.5", __version__)
    assert [name for name, found in INPUTS.items() if not found["optional"]] == POSITIONALS
    for name, found in INPUTS.items():
        assert re.fullmatch(r"[0-9a-z_]+", name)
        assert found["type"] in {"File", "String", "Number", "Flag"}
        assert DESCRIPTOR["command-line"].count(found["value-key"]) == 1
    assert INPUTS["nprocs"]["type"] == INPUTS["b0_threshold"]["type"] == "Number"
    assert INPUTS["participant_label"]["list"]


@pytest.mark.parametrize("name", [n for n in INPUTS if n not in POSITIONALS])
def test_the_parser_takes_every_input_as_it_is_described(name):
    found = INPUTS[name]
    make_parser().parse_args(
        ["data", "out", "participant", found["command-line-flag"], *word_for(found)]
    )


def test_every_option_of_the_help_is_an_input():
    shown = set(re.findall(r"(?<=[ ,])--[a-z][a-z0-9-]+", make_parser().format_help()))
    flags = {found.get("command-line-flag") for found in INPUTS.values()}
    others = {"--help", "--version"}
    spelled_otherwise = {"--session-id", "--skip-bids-validator", "--nthreads", "--n-cpus"}
    assert shown - flags == others | spelled_otherwise
