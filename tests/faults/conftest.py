"""A good dataset made once, copied for every test, and the command line run on it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import pytest
from faults.datasets import Dataset, Fault, fingerprint, unfinished_files

from scsnet_bids.cli import main
from scsnet_bids.phantom import TINY, write_dataset

Ended = tuple[int, str]


@pytest.fixture(scope="session")
def two_participants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the smallest series that the whole app can process: 24 x 24 voxels, 3 slices."""
    made = tmp_path_factory.mktemp("good") / "data"
    write_dataset(made, TINY, participants=2, seed=0)
    shutil.rmtree(made / "derivatives")
    for path in made.glob("sub-*/dwi/*_dwi.nii.gz"):
        nib.save(nib.load(path).slicer[12:36, 8:32, :3], path)
    return made


@pytest.fixture(scope="session")
def good_dataset(two_participants: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a dataset of one participant."""
    made = tmp_path_factory.mktemp("one") / "data"
    return shutil.copytree(two_participants, made, ignore=shutil.ignore_patterns("sub-02"))


@pytest.fixture
def dataset(good_dataset: Path, tmp_path: Path) -> Dataset:
    """Copy the good dataset."""
    shutil.copytree(good_dataset, tmp_path / "data")
    return Dataset(tmp_path / "data")


@pytest.fixture
def run_app(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Ended]:
    """Run the participant level; whatever happens, it must leave things in order."""

    def run(dataset: Dataset, *further: str) -> Ended:
        monkeypatch.chdir(tmp_path)
        before = fingerprint(dataset.root)
        names = {"data": dataset.root, "out": tmp_path / "out"}
        words = [str(names["data"]), str(names["out"]), "participant", "-w", str(tmp_path / "work")]
        try:
            code = main([*words, *(word.format(**names) for word in further)])
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        said = capsys.readouterr()
        assert fingerprint(dataset.root) == before
        assert unfinished_files(tmp_path / "out") == []
        assert "Traceback" not in said.out + said.err
        warned = [record.getMessage() for record in caplog.records]
        return code, " ".join(" ".join([said.out, said.err, *warned]).split())

    return run


@pytest.fixture
def expect_refusal(
    dataset: Dataset, run_app: Callable[..., Ended], tmp_path: Path
) -> Callable[[Fault], None]:
    """Spoil the dataset, run the command, and compare how it ends."""

    def expect(fault: Fault) -> None:
        fault.spoil(dataset)
        code, said = run_app(dataset, *fault.arguments)
        assert code == fault.exit_code, said
        for sentence in fault.said:
            assert sentence in said
        assert not list((tmp_path / "out").glob("sub-*/"))

    return expect
