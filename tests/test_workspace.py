"""A work folder holds pickles, so it is used only if everything in it is one's own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from scsnet_bids.errors import OutputError
from scsnet_bids.workspace import (
    need_temporary_folder,
    refuse_foreign_results,
    remove_results,
)


def make_results(work_dir: Path, run: str = "sub_01_wf") -> Path:
    """Write what stands for the results of a run."""
    folder = work_dir / "scsnet_0_1_0" / run
    (folder / "step").mkdir(parents=True)
    (folder / "step" / "result_step.pklz").touch()
    return folder


def give_away(path: Path) -> None:
    """Let a file belong to another user."""
    if os.getuid() != 0:
        pytest.skip("only root can give a file away, so nothing is proved")
    os.chown(path, 12345, -1, follow_symlinks=False)


def test_own_results_are_accepted(tmp_path):
    refuse_foreign_results(tmp_path, [make_results(tmp_path), tmp_path / "scsnet" / "absent"])


@pytest.mark.parametrize(
    "place", ["step/result_step.pklz", "step", ".", ".."], ids=["file", "step", "run", "graph"]
)
def test_anything_of_another_user_is_refused(place, tmp_path):
    folder = make_results(tmp_path)
    give_away(folder / place)
    with pytest.raises(OutputError, match=r"user number 12345.*--work-dir"):
        refuse_foreign_results(tmp_path, [folder])


def test_a_link_of_another_user_is_refused(tmp_path):
    folder = make_results(tmp_path)
    own = make_results(tmp_path / "elsewhere")
    (folder / "step" / "result_step.pklz").unlink()
    (folder / "step" / "result_step.pklz").symlink_to(own / "step" / "result_step.pklz")
    refuse_foreign_results(tmp_path, [folder])
    give_away(folder / "step" / "result_step.pklz")
    with pytest.raises(OutputError):
        refuse_foreign_results(tmp_path, [folder])


def test_the_work_folder_itself_and_other_runs_may_be_of_others(tmp_path):
    folder = make_results(tmp_path)
    give_away(make_results(tmp_path, "sub_02_wf"))
    give_away(tmp_path)
    refuse_foreign_results(tmp_path, [folder])


def test_removing_results_leaves_those_of_other_runs(tmp_path):
    first, second = make_results(tmp_path), make_results(tmp_path, "sub_02_wf")
    remove_results(tmp_path, [first])
    assert not first.exists()
    assert (second / "step" / "result_step.pklz").exists()


def test_removing_the_last_results_leaves_no_empty_folder(tmp_path):
    (tmp_path / "work" / "kept").mkdir(parents=True)
    remove_results(tmp_path / "work", [make_results(tmp_path / "work")])
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["kept"]


def test_the_work_folder_serves_where_there_is_no_folder_for_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "absent")])
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", "")
    with pytest.raises(OutputError, match="too long to serve"):
        need_temporary_folder(tmp_path / ("x" * 80))
    short = Path("/w")
    need_temporary_folder(short)
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == "/w"
