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


def test_an_unknown_participant_ends_with_18_and_lists_the_known(dataset, capsys):
    arguments = (dataset, dataset.parent / "out", "participant", "--participant-label", "99")
    code, said = complaint(capsys, *arguments)
    assert code == 18
    assert "sub-99" in said
    assert "sub-01" in said


def test_a_dataset_without_diffusion_ends_with_66(dataset, capsys):
    code, said = complaint(capsys, dataset, dataset.parent / "out", "participant")
    assert code == 66
    assert "dwi" in said


def test_options_before_the_folders_are_explained(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--participant-label", "01", "/data", "/out", "participant"])
    assert stopped.value.code == 2
    assert "options after them" in capsys.readouterr().err


def test_settings_that_do_not_exist_are_refused(dataset, capsys):
    config = dataset.parent / "settings.toml"
    config.write_text("[motion]\nspeed = 3\n")
    arguments = (dataset, dataset.parent / "out", "participant", "--config-file", config)
    code, said = complaint(capsys, *arguments)
    assert code == 2
    assert "speed" in said


def test_a_group_without_participants_ends_with_18(dataset, capsys):
    (dataset.parent / "out").mkdir()
    code, said = complaint(capsys, dataset, dataset.parent / "out", "group")
    assert code == 18
    assert "participant level" in said
