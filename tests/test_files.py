from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from scsnet_bids.errors import OutputError
from scsnet_bids.files import (
    LARGEST_TEXT_BYTES,
    check_content,
    read_text,
    remove_half_written,
    remove_leftovers,
    temporary_name,
    write_text,
    written_whole,
)


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


def test_only_old_leftovers_of_killed_jobs_are_removed(tmp_path: Path) -> None:
    names = [".0123456789ab_x.tsv", ".0123456789ac_y.tsv", ".bidsignore", ".0123_x.tsv", "x_y.tsv"]
    for name in names:
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (0, 0))
    os.utime(tmp_path / names[1])
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "absent")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


def test_what_was_being_written_for_a_run_goes_and_what_is_of_others_stays(tmp_path: Path) -> None:
    folder = tmp_path / "sub-01" / "dwi"
    folder.mkdir(parents=True)
    others = [
        ".0123456789ab_sub-01_run-2_desc-preproc_dwi.nii.gz",
        ".notes_sub-01_x",
        "sub-01_desc-preproc_dwi.nii.gz",
    ]
    for name in others:
        (folder / name).touch()
    temporary_name(folder / "sub-01_desc-preproc_dwi.nii.gz").touch()
    matrices = temporary_name(folder / "sub-01_desc-flirt_xfm.mat") / "slice-000"
    matrices.mkdir(parents=True)
    (matrices / "MAT_0000").touch()
    remove_half_written(tmp_path / "sub-01", "sub-01", ("run", "acq"))
    remove_half_written(tmp_path / "sub-02", "sub-02", ("run", "acq"))
    assert sorted(path.name for path in folder.iterdir()) == others


def test_content_that_is_elsewhere_is_told_from_a_missing_file(tmp_path: Path) -> None:
    target = "../../.git/annex/objects/a/b/MD5E-s1--0"
    (tmp_path / "a b").symlink_to(target)
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "pointer").write_text("/annex/objects/MD5E-s1--0\n")
    (tmp_path / "short").write_text("/annex")
    for name, said in {
        "a b": f"run datalad get '{tmp_path}/a b'",
        "pointer": f"run datalad get {tmp_path}/pointer",
        "link": "it is a link to nowhere, which does not exist",
        "absent": "there is no such file",
        ".": "it is a folder, a pipe or a device",
    }.items():
        with pytest.raises(OSError, match=re.escape(said)):
            check_content(tmp_path / name)
    check_content(tmp_path / "short")


def test_large_text_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    os.truncate(tmp_path / "x", LARGEST_TEXT_BYTES + 1)
    with pytest.raises(ValueError, match="larger than 16 MiB"):
        read_text(tmp_path / "x")
