"""The pages tell of faults that exist, and the citation file of this version."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import scsnet_bids

ROOT = Path(__file__).resolve().parents[1]


def sentences() -> set[str]:
    """List how every text in the code begins, up to the first value put into it."""
    found = set()
    for path in [*ROOT.glob("scsnet_bids/**/*.py"), *ROOT.glob("workflows/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            first = node.values[0] if isinstance(node, ast.JoinedStr) else node
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                found.add(first.value)
    return found


def test_every_message_that_the_faq_explains_is_one_of_the_code():
    page = (ROOT / "docs/faq.md").read_text(encoding="utf-8")
    explained = re.findall(r'^\| "([^"]+)"', page, flags=re.MULTILINE)
    known = sentences()
    assert len(explained) > 40
    assert not [text for text in explained if not any(s.startswith(text) for s in known)]


def test_the_page_of_flags_is_that_of_the_code():
    spec = importlib.util.spec_from_file_location("made", ROOT / "docs" / "write_flags.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs/flags.md").read_text(encoding="utf-8")
    assert module.write_flags() == page, "run docs/write_flags.py again"


def test_every_exit_code_of_an_error_is_explained():
    page = (ROOT / "docs/faq.md").read_text(encoding="utf-8")
    drawn = (ROOT / "scsnet_bids/errors.py").read_text(encoding="utf-8")
    codes = set(re.findall(r"exit_code(?:: int)? = (\d+)", drawn))
    assert len(codes) > 5
    assert codes <= set(re.findall(r"^\| (\d+)", page, flags=re.MULTILINE))


def test_every_file_that_the_checklist_names_exists():
    page = (ROOT / "docs/expectations.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([A-Za-z][\w/-]*(?:\.(?:py|md|json)|/)|Dockerfile)`", page))
    homes = [ROOT, ROOT / "scsnet_bids", ROOT / "tests", ROOT / "docs"]
    assert len(named) > 50
    assert not [name for name in sorted(named) if not any((home / name).exists() for home in homes)]


def test_the_checklist_has_every_wish_once():
    page = (ROOT / "docs/expectations.md").read_text(encoding="utf-8")
    numbers = re.findall(r"^\| (\d+) \|", page, flags=re.MULTILINE)
    assert numbers == [str(number) for number in range(1, 47)]


def test_the_citation_names_this_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {scsnet_bids.__version__}\n" in text
