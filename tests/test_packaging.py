"""What is in the tree is in the package, and what the documents say is so."""

from __future__ import annotations

import configparser
import doctest
import importlib
import pkgutil
import re
import sys
from pathlib import Path

import pytest
import scsnet_bids.workflows

ROOT = Path(__file__).resolve().parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def test_every_folder_with_code_is_a_listed_package():
    sources = [*ROOT.glob("scsnet_bids/**/__init__.py"), *ROOT.glob("*/__init__.py")]
    folders = {path.parent.relative_to(ROOT).as_posix() for path in sources}
    names = {folder.replace("/", ".") for folder in folders}
    found = {n if n.startswith("scsnet_bids") else f"scsnet_bids.{n}" for n in names}
    assert set(SETUP["options"]["packages"].split()) == found


def test_the_workflows_are_imported_under_one_name():
    for module in pkgutil.iter_modules(scsnet_bids.workflows.__path__):
        importlib.import_module(f"scsnet_bids.workflows.{module.name}")
    assert "workflows" not in sys.modules


@pytest.mark.parametrize(
    "line", SETUP["options.entry_points"]["console_scripts"].strip().split("\n")
)
def test_every_command_can_be_called(line):
    module, function = line.partition("=")[2].strip().split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_every_cited_work_is_in_the_references():
    known = set(re.findall(r"@\w+\{(\w+),", (ROOT / "boilerplate/references.bib").read_text()))
    code = [*ROOT.glob("scsnet_bids/**/*.py"), *ROOT.glob("workflows/*.py")]
    text = "".join(path.read_text(encoding="utf-8") for path in code)
    cited = set(re.findall(r"\b[a-z]{3,}(?:19|20)\d{2}\b", text))
    assert cited
    assert cited <= known


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")), ids=lambda path: path.name)
def test_the_examples_of_the_documents_run(page):
    assert doctest.testfile(str(page), module_relative=False).failed == 0


def test_links_between_documents_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
