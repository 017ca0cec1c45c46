from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scsnet_bids.bids import find_runs
from scsnet_bids.run_checks import check_run, check_runs
from scsnet_bids.runs import DwiRun
from scsnet_bids.settings import GradientSettings

SETTINGS = GradientSettings()
AFFINE = np.diag([3.0, 3.0, 5.0, 1.0])
BVALS = [0, 800, 800, 800, 800, 800, 800]
BVECS = np.array(
    [[0, 1, 1, 1, 1, 0, 0], [0, 1, -1, 0, 0, 1, 1], [0, 0, 0, 1, -1, 1, -1]]
) / np.sqrt(2)


class Dataset:
    """A dataset with one good series per participant, to be spoiled."""

    def __init__(self, root: Path, participants: tuple[str, ...] = ("01",)) -> None:
        self.root = root
        root.mkdir()
        description = {"Name": "made for a test", "BIDSVersion": "1.10.0"}
        (root / "dataset_description.json").write_text(json.dumps(description))
        for participant in participants:
            self.path(".bval", participant).parent.mkdir(parents=True)
            self.write_image(np.ones((8, 8, 4, 7), np.int16), participant)
            self.write_gradients(BVALS, BVECS, participant)
            self.path(".json", participant).write_text('{"EchoTime": 0.06}')

    def path(self, extension: str, participant: str = "01") -> Path:
        return self.root / f"sub-{participant}/dwi/sub-{participant}_dwi{extension}"

    def write_image(self, voxels: np.ndarray, participant: str = "01") -> None:
        nib.save(nib.Nifti1Image(voxels, AFFINE), self.path(".nii.gz", participant))

    def write_gradients(
        self, bvals: list[float], bvecs: np.ndarray, participant: str = "01"
    ) -> None:
        np.savetxt(self.path(".bval", participant), [bvals], fmt="%g")
        np.savetxt(self.path(".bvec", participant), bvecs, fmt="%.6f")

    def runs(self) -> list[DwiRun]:
        return find_runs(self.root)

    def checksums(self) -> dict[Path, str]:
        files = sorted(path for path in self.root.rglob("*") if path.is_file())
        return {path: sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path / "data")


def truncate(dataset: Dataset) -> None:
    whole = np.random.default_rng(0).normal(size=(16, 16, 8, 7))
    dataset.write_image(whole)
    raw = dataset.path(".nii.gz").read_bytes()
    dataset.path(".nii.gz").write_bytes(raw[: len(raw) // 2])


def cut_checksum(dataset: Dataset) -> None:
    raw = dataset.path(".nii.gz").read_bytes()
    dataset.path(".nii.gz").write_bytes(raw[:-4])


def cut_before_packing(dataset: Dataset) -> None:
    whole = nib.Nifti1Image(np.ones((8, 8, 4, 7), np.int16), AFFINE).to_bytes()
    dataset.path(".nii.gz").write_bytes(gzip.compress(whole[:-1]))


def spoil_one_byte(dataset: Dataset) -> None:
    dataset.write_image(np.random.default_rng(0).normal(size=(8, 8, 4, 7)))
    raw = bytearray(dataset.path(".nii.gz").read_bytes())
    raw[len(raw) // 2] ^= 1
    dataset.path(".nii.gz").write_bytes(raw)


def flatten_affine(dataset: Dataset) -> None:
    raw = bytearray(nib.Nifti1Image(np.ones((8, 8, 4, 7), np.int16), AFFINE).to_bytes())
    raw[254:256] = np.int16(1).tobytes()  # sform_code
    raw[312:328] = np.zeros(4, "<f4").tobytes()  # its third row
    dataset.path(".nii.gz").unlink()
    dataset.path(".nii").write_bytes(raw)


def keep_one_volume(dataset: Dataset) -> None:
    dataset.write_image(np.ones((8, 8, 4), np.int16))


def remove(extension: str) -> Callable[[Dataset], None]:
    return lambda dataset: dataset.path(extension).unlink()


def replace_gradients(bvals: list[float], bvecs: np.ndarray) -> Callable[[Dataset], None]:
    return lambda dataset: dataset.write_gradients(bvals, bvecs)


def with_nan(bvecs: np.ndarray) -> np.ndarray:
    spoiled = bvecs.copy()
    spoiled[:, 3] = np.nan
    return spoiled


def blank_the_last(dataset: Dataset) -> None:
    """Leave five directions."""
    series = np.ones((8, 8, 4, 7), np.int16)
    series[..., -1] = 0
    dataset.write_image(series)


FAULTS: dict[str, tuple[Callable[[Dataset], None], str, str]] = {
    "no_bval": (remove(".bval"), "sub-01_dwi.bval is missing", "convert the series again"),
    "no_bvec": (remove(".bvec"), "sub-01_dwi.bvec is missing", "convert the series again"),
    "counts": (
        replace_gradients(BVALS[:-1], BVECS),
        "sub-01_dwi.nii.gz has 7 volumes, sub-01_dwi.bval 6 b-values, sub-01_dwi.bvec 7 b-vectors",
        "same conversion",
    ),
    "nan_bval": (
        replace_gradients([0, np.nan, *BVALS[2:]], BVECS),
        "sub-01_dwi.bval has nan in volume 1",
        "correct the file",
    ),
    "nan_bvec": (
        replace_gradients(BVALS, with_nan(BVECS)),
        "sub-01_dwi.nii.gz it is zero or not a number for volume 3",
        "correct the file",
    ),
    "no_b0": (
        replace_gradients([800] * 7, BVECS),
        "sub-01_dwi.nii.gz has b=800",
        "Raise --b0-threshold",
    ),
    "five_directions": (
        replace_gradients([*BVALS[:-1], 0], BVECS),
        "sub-01_dwi.nii.gz has 5 there",
        "Raise --tensor-b-max",
    ),
    "truncated": (truncate, "sub-01_dwi.nii.gz ends early", "Copy or convert it again"),
    "no_checksum": (cut_checksum, "sub-01_dwi.nii.gz ends early", "Copy or convert it again"),
    "cut": (cut_before_packing, "sub-01_dwi.nii.gz ends early", "Copy or convert it again"),
    "one_byte": (spoil_one_byte, "sub-01_dwi.nii.gz ends early", "Copy or convert it again"),
    "blank": (
        blank_the_last,
        "has none in volume 6 (counted from 0), and those that are left do not",
        "leave it out",
    ),
    "3d": (keep_one_volume, "sub-01_dwi.nii.gz has 1 volume", "leave it out with a filter"),
    "singular": (flatten_affine, "sub-01_dwi.nii is singular", "repair qform and sform"),
    "sidecar": (
        lambda dataset: dataset.path(".json").write_text("{") and None,
        "sub-01_dwi.json is not",
        "Correct or remove it",
    ),
    "sidecar_list": (
        lambda dataset: dataset.path(".json").write_text("[1]") and None,
        "sub-01_dwi.json is not",
        "Correct or remove it",
    ),
}


def test_a_good_run_has_no_faults(dataset: Dataset) -> None:
    (run,) = dataset.runs()
    assert check_run(run, SETTINGS) == []


@pytest.mark.parametrize("name", FAULTS)
def test_bad_input_gets_one_sentence_with_file_and_remedy(name: str, dataset: Dataset) -> None:
    spoil, found, remedy = FAULTS[name]
    spoil(dataset)
    before = dataset.checksums()
    (run,) = dataset.runs()
    (error,) = check_run(run, SETTINGS)
    assert error.exit_code == 65
    assert found in str(error)
    assert remedy in str(error)
    assert dataset.checksums() == before


def test_gradients_inherited_from_the_root_will_do(dataset: Dataset) -> None:
    for extension in (".bval", ".bvec"):
        dataset.path(extension).rename(dataset.root / f"dwi{extension}")
    (run,) = dataset.runs()
    assert run.bval == dataset.root / "dwi.bval"
    assert check_run(run, SETTINGS) == []


TWO = ("acq-x", "dir-AP")


@pytest.mark.parametrize(
    ("extension", "names", "n_faults"),
    [
        (".bval", TWO, 1),
        (".bvec", TWO, 1),
        (".json", TWO, 1),
        (".bval", (*TWO, "acq-x_dir-AP"), 0),
        (".json", (*TWO, "acq-x_dir-AP"), 1),  # all are merged
        (".bval", ("", "acq-x"), 0),
        (".json", ("", "acq-x"), 0),
    ],
)
def test_which_of_the_files_of_a_folder_applies_first_must_be_clear(
    extension: str, names: tuple[str, ...], n_faults: int, dataset: Dataset
) -> None:
    for path in list(dataset.path("").parent.iterdir()):
        path.rename(path.with_name(path.name.replace("sub-01_", "sub-01_acq-x_dir-AP_")))
    own = dataset.path("").with_name(f"sub-01_acq-x_dir-AP_dwi{extension}")
    files = [f"{name}_dwi{extension}".lstrip("_") for name in names]
    for name in files:
        shutil.copy(own, dataset.root / name)
    own.unlink()
    faults = check_run(*dataset.runs(), SETTINGS)
    assert [error.exit_code for error in faults] == [65] * n_faults
    assert all(word in str(error) for error in faults for word in (*files[:2], "Merge them"))


def test_nan_directions_of_b0_volumes_are_harmless(dataset: Dataset) -> None:
    bvecs = BVECS.copy()
    bvecs[:, 0] = np.nan
    dataset.write_gradients(BVALS, bvecs)
    assert check_run(*dataset.runs(), SETTINGS) == []


def test_a_blank_volume_beside_enough_others_is_left_out(dataset: Dataset, caplog) -> None:
    bvecs = np.column_stack([BVECS, BVECS[:, -1]])
    dataset.write_gradients([*BVALS, BVALS[-1]], bvecs)
    series = np.ones((8, 8, 4, 8), np.int16)
    series[..., -1] = 0
    dataset.write_image(series)
    assert check_run(*dataset.runs(), SETTINGS) == []
    assert "no signal in volume 7" in caplog.text


def test_the_limits_are_settings(dataset: Dataset) -> None:
    dataset.write_gradients([60, 2000, 2000, 2000, 2000, 2000, 2000], BVECS)
    (run,) = dataset.runs()
    assert check_run(run, SETTINGS)
    assert check_run(run, GradientSettings(b0_max=100, tensor_b_max=2000)) == []


def test_all_faults_of_a_run_are_told_together(dataset: Dataset) -> None:
    dataset.path(".bvec").unlink()
    dataset.path(".json").write_text("{")
    (run,) = dataset.runs()
    good, bad = check_runs([run], SETTINGS)
    assert good == []
    assert bad[run].exit_code == 65
    assert "sub-01_dwi.bvec is missing" in str(bad[run])
    assert "sub-01_dwi.json is not" in str(bad[run])


def test_one_bad_run_does_not_hide_the_others(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "data", ("01", "02", "03"))
    dataset.path(".bvec", "01").unlink()
    dataset.write_image(np.ones((8, 8, 4), np.int16), "03")
    good, bad = check_runs(dataset.runs(), SETTINGS)
    assert [run.participant for run in good] == ["02"]
    assert {run.participant: str(error).split(":")[0] for run, error in bad.items()} == {
        "01": "A diffusion series needs b-values and b-vectors",
        "03": "A diffusion series must be 4D with a volume per gradient",
    }


@pytest.mark.data
def test_the_real_runs_are_good(shared_data: Path) -> None:
    good, bad = check_runs(find_runs(shared_data / "ds-cord"), SETTINGS)
    assert [run.prefix for run in good] == ["sub-01", "sub-02"]
    assert bad == {}
