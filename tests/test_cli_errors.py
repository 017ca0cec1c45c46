"""What the command line says when it is asked for something that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scsnet_bids.cli import main


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Make a BIDS dataset with a participant but no series."""
    data = tmp_path / "data"
    (data / "sub-01").mkdir(parents=True)
    description = {"Name": "empty", "BIDSVersion": "1.9.0"}
    (data / "dataset_description.json").write_text(json.dumps(description))
    return data


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Run the command and return its exit code and what it says on standard error."""
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


def test_a_folder_that_is_no_dataset_ends_with_16(tmp_path, capsys):
    code, said = complaint(capsys, tmp_path, tmp_path / "out", "participant")
    assert code == 16
    assert str(tmp_path / "dataset_description.json") in said
    assert not (tmp_path / "out").exists()


def test_an_unknown_level_ends_with_17(dataset, capsys):
    code, said = complaint(capsys, dataset, dataset.parent / "out", "particpant")
    assert code == 17
    assert "participant, group" in said
    code, said = complaint(capsys, dataset, dataset.parent / "out", "participant", "gruop")
    assert code == 17
    assert "'gruop'" in said


def test_a_group_without_participants_ends_with_18(dataset, capsys):
    (dataset.parent / "out").mkdir()
    code, said = complaint(capsys, dataset, dataset.parent / "out", "group")
    assert code == 18
    assert "participant level" in said


def test_a_name_that_is_too_long_is_named(dataset, capsys, caplog):
    name = 300 * "x"
    for words in (("participant", "--reports-only"), ("group",)):
        code, said = complaint(capsys, dataset, dataset.parent / name, *words)
        assert code == 73
        assert name in said
        assert "(File name too long)" in said
        assert "Traceback" not in said + caplog.text
    complaint(capsys, dataset, dataset.parent / name, "group", "--verbose")
    assert "Traceback" in caplog.text
    code, said = complaint(
        capsys, dataset, dataset.parent / "out", "participant", "--dry-run", "--weights", name
    )
    assert code == 2
    assert f"{name} (File name too long)" in said


def test_a_name_that_is_not_utf_8_is_refused(dataset, capsys, monkeypatch):
    odd = dataset.rename(dataset.with_name("d\udce4ta"))
    code, said = complaint(capsys, odd, dataset.parent / "out", "participant")
    assert (code, said.count("\n")) == (2, 1)
    assert r"must be UTF-8: found '" in said
    assert r"d\udce4ta'" in said
    monkeypatch.chdir(odd)
    code, said = complaint(capsys, ".", "out", "participant", "-w", "work")
    assert (code, said.count("\n")) == (2, 1)
    assert r"d\udce4ta" in said


def test_a_link_that_leads_to_itself_is_refused(dataset, capsys):
    place = dataset.parent / "place"
    place.symlink_to(place)
    code, said = complaint(capsys, dataset, place, "participant")
    assert code in {2, 73}
    assert str(place) in said
    code, said = complaint(capsys, dataset, "~nobody-has-this-name/x", "participant")
    assert code == 2
    assert "A path must lead somewhere: ~nobody-has-this-name/x" in said


def test_pages_are_never_written_into_a_dataset_of_others(dataset, capsys):
    code, said = complaint(capsys, dataset, dataset, "participant", "--reports-only")
    assert code == 73
    assert "belongs to another dataset" in said
    assert sorted(path.name for path in dataset.iterdir()) == ["dataset_description.json", "sub-01"]
