from __future__ import annotations

from pathlib import Path

import pytest

from scsnet_bids.errors import OutputError
from scsnet_bids.files import write_text, written_whole


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.tsv"
    with written_whole(path) as partial:
        partial.write_text("half")
        assert not path.exists()
        assert partial.name.endswith("x.tsv")
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = write_text(tmp_path / "x.json", "old")

    def fail() -> None:
        with written_whole(path) as partial:
            partial.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_never_share_a_temporary_name(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with written_whole(path) as one, written_whole(path) as other:
        one.write_text("one")
        other.write_text("other")
        assert one != other
    assert path.read_text() == "one"  # the outer writer ends last


def test_text_is_utf8_with_plain_line_ends(tmp_path: Path) -> None:
    path = write_text(tmp_path / "x.md", "µ\nm²\n")
    assert path.read_bytes() == "µ\nm²\n".encode()


def test_an_unwritable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match=r"file/x\.json cannot be written") as caught:
        write_text(tmp_path / "file" / "x.json", "{}")
    assert caught.value.exit_code == 73
