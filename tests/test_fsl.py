"""What FSL is given, word by word, and what is made of its answer; FSL itself is not here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fake_fsl
import numpy as np
import pandas as pd
import pytest

from scsnet_bids.cli import main
from scsnet_bids.derivatives import read_table, write_table
from scsnet_bids.errors import InputDataError, MissingToolError, ScsnetError
from scsnet_bids.fsl.files import Acquisition, read_acquisition, slice_groups
from scsnet_bids.fsl.tools import check_fsl, make_mask, run_eddy, run_topup
from scsnet_bids.gradients import Gradients, read_gradients, write_gradients
from scsnet_bids.images import Grid, Image, read_image, write_image
from scsnet_bids.interfaces.fsl import RunEddy, RunTopup
from scsnet_bids.phantom import TINY, Phantom, simulate, write_dataset
from scsnet_bids.phantom.signals import WHITE_SIGNAL
from scsnet_bids.runs import PhaseEncoding
from scsnet_bids.setting_values import change_settings
from scsnet_bids.settings import GradientSettings, MotionSettings, Settings
from scsnet_bids.shift_table import shifts_from_table, tabulate_shifts

# A file that is stored toward the right, front and feet.
STORAGE = np.array([[0.0, -1.0], [1.0, -1.0], [2.0, -1.0]])
GRID = Grid((10, 9, 4), np.diag([-0.9, -0.9, 5.0, 1.0]), STORAGE)
POSTERIOR = Acquisition(PhaseEncoding(1, 1), 0.04)
TIMES = np.array([0.0, 0.2, 0.1, 0.3])


@pytest.fixture
def series(rng):
    """A small series that no shift leaves as it is."""
    return Image(rng.uniform(100, 1000, (10, 9, 4, 5)).astype(np.float32), GRID)


@pytest.fixture
def gradients():
    """Two b=0 volumes and three directions, in scanner RAS+."""
    bvecs = np.array([[0, 0, 0], [1, 0, 0], [0, 0.6, 0.8], [0, 0, 0], [0, 0, 1]])
    return Gradients(np.array([0.0, 800, 800, 0, 800]), bvecs)


@pytest.fixture
def fsl(tmp_path, monkeypatch):
    """Install eddy and topup under FSL's names."""
    programs = {"eddy_openmp": fake_fsl.EDDY, "topup": fake_fsl.TOPUP}
    folder = fake_fsl.install(tmp_path / "fsl", programs)
    monkeypatch.setenv("FSLDIR", str(folder))
    return folder


@pytest.fixture
def gpu(fsl, tmp_path, monkeypatch):
    """Install a GPU and eddy's version for it."""
    text = (fsl / "bin" / "eddy_openmp").read_text()
    programs = ("eddy_cuda9.1", "eddy_cuda10.2")
    for path in (*(fsl / "bin" / name for name in programs), tmp_path / "nvidia-smi"):
        path.write_text(text)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return fsl


def calls(fsl: Path) -> list[list[str]]:
    """Return the words of every call."""
    return [json.loads(line) for line in (fsl / "calls.jsonl").read_text().splitlines()]


def eddy(series, gradients, folder, acquisition=POSTERIOR, topup=None):
    """Run eddy with a mask of everything."""
    folder.mkdir(exist_ok=True)
    mask = np.ones(GRID.shape, dtype=bool)
    return run_eddy(series, gradients, mask, acquisition, folder, topup)


def test_eddy_gets_this_command_line(fsl, series, gradients, tmp_path):
    here = tmp_path / "work"
    eddy(series, gradients, here, replace(POSTERIOR, slice_time_s=TIMES), here / "topup")
    assert calls(fsl) == [
        [
            f"{fsl}/bin/eddy_openmp",
            f"--imain={here}/series.nii.gz",
            f"--mask={here}/mask.nii.gz",
            f"--index={here}/index.txt",
            f"--acqp={here}/acqparams.txt",
            f"--bvecs={here}/bvecs",
            f"--bvals={here}/bvals",
            f"--out={here}/eddy",
            "--data_is_shelled",
            "--repol",
            "--slm=linear",
            "--niter=8",
            "--fwhm=10,6,4,2,0,0,0,0",
            "--dont_peas",
            "--dont_mask_output",
            f"--topup={here}/topup",
        ]
    ]


def test_eddy_gets_these_files(fsl, series, gradients, tmp_path):
    here = tmp_path / "work"
    eddy(series, gradients, here)
    assert (here / "index.txt").read_text() == "1 1 1 1 1\n"
    assert (here / "acqparams.txt").read_text() == "0 -1 0 0.04\n"
    assert (here / "bvals").read_text() == "0 800 800 0 800\n"
    # Toward the left, front and head: FSL's way for a file without a flip.
    assert (here / "bvecs").read_text() == "0 -1 0 0 0\n0 0 0.6 0 0\n0 0 0.8 0 1\n"
    given = read_image(here / "series.nii.gz")
    assert given.grid.matches(series.grid)
    assert np.linalg.det(given.grid.storage_affine[:3, :3]) < 0
    np.testing.assert_allclose(given.data, series.data, rtol=2**-16)


def test_slices_are_moved_within_volumes_where_a_gpu_and_the_slice_times_are(
    gpu, series, gradients, tmp_path
):
    eddy(series, gradients, tmp_path / "work", replace(POSTERIOR, slice_time_s=TIMES))
    (call,) = calls(gpu)
    assert call[0].endswith("/eddy_cuda10.2")
    assert call[-2:] == [f"--slspec={tmp_path}/work/slspec.txt", "--mporder=1"]
    assert (tmp_path / "work" / "slspec.txt").read_text() == "0\n2\n1\n3\n"


@pytest.mark.parametrize("times", [None, np.array([0.0, 0.1, 0.2, 0.0])])
def test_without_usable_slice_times_volumes_move_as_a_whole(
    times, gpu, series, gradients, tmp_path
):
    eddy(series, gradients, tmp_path / "work", replace(POSTERIOR, slice_time_s=times))
    (call,) = calls(gpu)
    assert call[0].endswith("/eddy_cuda10.2")
    assert not any("slspec" in word or "mporder" in word for word in call)


def test_slices_acquired_together_share_a_line():
    odd = np.array([0.0, 0.2, 0.1, 0.0, 0.2, 0.1, 0.0, 0.2, 0.1])
    assert slice_groups(odd) == [[0, 3, 6], [2, 5, 8], [1, 4, 7]]
    assert slice_groups(np.arange(15.0)) == [[k] for k in range(15)]
    assert slice_groups(np.append(odd, 0.0)) == []


def test_the_sidecar_is_understood_whatever_the_file_was_stored_like():
    said = {
        "PhaseEncodingDirection": "j-",
        "TotalReadoutTime": 0.06,
        "SliceTiming": [0.3, 0.1, 0.2, 0.0],
    }
    found = read_acquisition(said, GRID)
    # j runs to the front, j- to the back; k runs to the feet.
    assert (found.phase, found.readout_s) == (PhaseEncoding(1, 1), 0.06)
    assert found.slice_time_s.tolist() == [0.0, 0.2, 0.1, 0.3]
    turned = read_acquisition(said | {"SliceEncodingDirection": "k-"}, GRID)
    assert turned.slice_time_s.tolist() == [0.3, 0.1, 0.2, 0.0]
    assert read_acquisition(said | {"SliceEncodingDirection": "i"}, GRID).slice_time_s is None
    assert read_acquisition({}, GRID).slice_time_s is None


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"TotalReadoutTime": 0}, "between 0.001 and 0.5 s: the sidecar says 0"),
        ({"TotalReadoutTime": "long"}, "the sidecar says 'long'"),
        ({"SliceTiming": [0.1, 0.2]}, "4 slices, the sidecar says .0.1, 0.2."),
        ({"SliceTiming": "up"}, "one number per slice"),
        ({"SliceTiming": [0, 1, 2, None]}, "one number per slice"),
    ],
)
def test_impossible_sidecars_get_a_sentence(said, message):
    with pytest.raises(InputDataError, match=message):
        read_acquisition(said, GRID)


def test_what_eddy_answers_comes_back_in_our_order(fsl, series, gradients, tmp_path):
    found = eddy(series, gradients, tmp_path / "work")
    np.testing.assert_allclose(found.series.data[..., 0], series.data[..., 0], rtol=2**-16)
    np.testing.assert_allclose(
        found.series.data[..., 1],
        np.roll(series.data[..., 1], (-1, 1), axis=(0, 1)),
        rtol=2**-16,
    )
    assert found.series.grid is series.grid
    # The program has exchanged the first two rows: left and front.
    turned = gradients.bvecs[:, [1, 0, 2]] * [-1, -1, 1]
    np.testing.assert_allclose(found.gradients.bvecs, turned, atol=1e-6)
    np.testing.assert_allclose(found.translation_mm[1], [0.9, -0.9])
    assert not np.delete(found.translation_mm, 1, axis=0).any()
    assert np.argwhere(found.outlier).tolist() == [[2, 0]]


def test_eddy_failing_gets_a_sentence(fsl, series, gradients, tmp_path):
    text = (fsl / "bin" / "eddy_openmp").read_text()
    broken = text[: text.index("n = data")] + fake_fsl.FAILURE
    (fsl / "bin" / "eddy_openmp").write_text(broken)
    with pytest.raises(ScsnetError, match="code 3 and said last: 'EDDY::: cannot do this'"):
        eddy(series, gradients, tmp_path / "work")
    assert "reading" in (tmp_path / "work" / "eddy.log").read_text()


@pytest.mark.parametrize("lost", ["eddy.nii.gz", "eddy.eddy_parameters", "eddy.eddy_outlier_map"])
def test_an_answer_with_something_missing_gets_a_sentence(lost, fsl, series, gradients, tmp_path):
    path = fsl / "bin" / "eddy_openmp"
    path.write_text(path.read_text() + f"\nPath(given['out']).with_name({lost!r}).unlink()\n")
    with pytest.raises(ScsnetError, match=f"{lost} is missing or not as expected"):
        eddy(series, gradients, tmp_path / "work")


def test_topup_gets_this_command_line_and_these_files(fsl, series, tmp_path):
    pair = series, Image(series.data[..., :1], GRID)
    backward = Acquisition(PhaseEncoding(1, -1), 0.04)
    field_mm = run_topup(*pair, (POSTERIOR, backward), tmp_path)
    assert calls(fsl) == [
        [
            f"{fsl}/bin/topup",
            f"--imain={tmp_path}/b0_both_ways.nii.gz",
            f"--datain={tmp_path}/acqparams_topup.txt",
            "--config=b02b0_1.cnf",
            f"--out={tmp_path}/topup",
            f"--fout={tmp_path}/field_hz.nii.gz",
        ]
    ]
    rows = ["0 -1 0 0.04"] * 3 + ["0 1 0 0.04"]
    assert (tmp_path / "acqparams_topup.txt").read_text().splitlines() == rows
    assert read_image(tmp_path / "b0_both_ways.nii.gz").data.shape == (10, 9, 4, 4)
    np.testing.assert_allclose(field_mm, 10 * 0.04 * 0.9, rtol=1e-6)


def test_images_that_make_no_pair_get_a_sentence(fsl, series, tmp_path):
    same = (POSTERIOR, POSTERIOR)
    with pytest.raises(InputDataError, match=r"opposite directions.*'0 -1 0 0.04' and '0 -1 0"):
        run_topup(series, series, same, tmp_path)
    unknown = (POSTERIOR, Acquisition(PhaseEncoding(1, 0)))
    with pytest.raises(InputDataError, match="opposite directions"):
        run_topup(series, series, unknown, tmp_path)
    other = Image(series.data, replace(GRID, affine=np.diag([-1.0, -1, 5, 1])))
    both = (POSTERIOR, Acquisition(PhaseEncoding(1, -1)))
    with pytest.raises(InputDataError, match="one geometry: the reversed one has 10 x 9 x 4"):
        run_topup(series, other, both, tmp_path)


def test_the_mask_is_a_disc_around_the_cord():
    centre_mm = np.array([[4.5, 3.6]] * 3 + [[0.0, 0.0]])
    mask = make_mask(centre_mm, GRID, 2.0)
    assert mask.shape == GRID.shape
    assert mask[5, 4, 0]
    assert mask[5, 6, 0]
    assert not mask[5, 7, 0]
    assert mask[0, 0, 3]
    assert not mask[5, 4, 3]


def write_series(folder: Path, person: Phantom) -> dict[str, str]:
    """Write a phantom's series and gradients; return their files by the names of a step."""
    names = {name: folder / f"dwi.{name}" for name in ("bval", "bvec")}
    write_gradients(names["bval"], names["bvec"], person.gradients, person.grid)
    names["dwi"] = write_image(folder / "dwi.nii.gz", Image(person.series, person.grid))
    return {name: str(path) for name, path in names.items()}


def settings_with(stage: str) -> Settings:
    """Return settings that ask for FSL."""
    return change_settings(Settings(), {(stage, "method"): "fsl"})


@pytest.mark.parametrize("stage", ["motion", "distortion"])
def test_fsl_that_is_not_installed_is_missed(stage, monkeypatch, tmp_path):
    monkeypatch.delenv("FSLDIR", raising=False)
    with pytest.raises(MissingToolError, match=r"FSLDIR is not set\. Install FSL"):
        check_fsl(settings_with(stage))
    monkeypatch.setenv("FSLDIR", str(tmp_path))
    with pytest.raises(MissingToolError, match=f"{tmp_path}/bin does not hold it"):
        check_fsl(settings_with(stage))
    check_fsl(Settings())


def test_fsl_that_is_installed_is_not_missed(fsl):
    check_fsl(settings_with("motion"))
    check_fsl(settings_with("distortion"))


def test_missing_fsl_ends_the_command_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("FSLDIR", raising=False)
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "data", TINY, 1, 0)
    words = [str(tmp_path / "data"), str(tmp_path / "out"), "participant", "--motion", "fsl"]
    assert main(words) == 127
    assert "eddy_cpu or eddy_openmp or eddy: FSLDIR is not set" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_whole_app_runs_with_fsl_and_a_denoiser(fsl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "data", replace(TINY, reversed_b0=1), 1, 0)
    words = ["--motion", "fsl", "--distortion", "fsl", "--denoise", "mppca", "--flirt-matrices"]
    here = [str(tmp_path / name) for name in ("data", "out")]
    assert main([*here, "participant", "--nprocs", "1", *words]) == 0
    topup, eddy = calls(fsl)
    fieldcoef = Path(eddy[-1].removeprefix("--topup=") + "_fieldcoef.nii.gz")
    assert fieldcoef.exists()
    assert f"--out={fieldcoef.parent}/topup" in topup
    folder = tmp_path / "out" / "sub-01" / "dwi"
    said = json.loads((folder / "sub-01_desc-preproc_dwi.json").read_text())["Description"]
    assert "noise removed by MP-PCA, motion and eddy currents corrected by FSL eddy" in said
    confounds = pd.read_csv(folder / "sub-01_desc-confounds_timeseries.tsv", sep="\t")
    assert confounds["untrusted_fraction"].tolist() == [0, 0, 0.25, *[0] * 11]
    matrices = folder / "sub-01_from-orig_to-dwi_mode-image_desc-flirt_xfm.mat"
    assert len(list(matrices.glob("slice-00*/MAT_00*"))) == 4 * 14
    noise = pd.read_csv(folder / "sub-01_desc-image_qc.tsv", sep="\t")["noise_sigma"].item()
    assert noise == pytest.approx(WHITE_SIGNAL / TINY.snr, rel=0.15)
    validator = shutil.which("bids-validator-deno", path=str(Path(sys.executable).parent))
    if validator is None:
        pytest.skip("bids-validator-deno is not installed, so nothing is proved of the folder")
    assert subprocess.run([validator, here[1]], check=False, capture_output=True).returncode == 0


def test_a_sidecar_that_fsl_cannot_be_given_is_told_before_any_run_starts(
    fsl, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "data", TINY, 1, 0)
    sidecar = tmp_path / "data" / "sub-01" / "dwi" / "sub-01_dwi.json"
    said = json.loads(sidecar.read_text()) | {"SliceTiming": [0.0, 0.1]}
    sidecar.write_text(json.dumps(said))
    words = [str(tmp_path / "data"), str(tmp_path / "out"), "participant", "--dry-run"]
    assert main([*words, "--motion", "fsl"]) == 65
    assert "SliceTiming must hold one number per slice" in " ".join(capsys.readouterr().out.split())
    assert main(words) == 0


def find_field(words, folder, fsl, sign, other, grid, **more):
    """Run the step where topup finds 1 / 0.05 Hz, counted one way or the other."""
    path = fsl / "bin" / "topup"
    path.write_text(path.read_text().replace("10.0", repr(sign / 0.05)))
    write_image(folder / "other.nii.gz", Image(other, grid))
    step = RunTopup(
        **words,
        gradient_settings=GradientSettings(),
        metadata={"PhaseEncodingDirection": "j-"},
        reversed_dwi=str(folder / "other.nii.gz"),
        reversed_volumes=[0],
        reversed_metadata={"PhaseEncodingDirection": "j"},
        **more,
    )
    return step.run().outputs


@pytest.mark.parametrize("sign", [1, -1])
def test_the_field_is_the_one_that_brings_both_images_together(sign, fsl, tmp_path, monkeypatch):
    """Which way topup counts does not matter."""
    monkeypatch.chdir(tmp_path)
    person = simulate(replace(TINY, motion_mm=0, b0_to_dwi_mm=0, snr=np.inf), 3)
    # One voxel toward the back in the series, one toward the front in the other image.
    seen = np.roll(person.series, 1, axis=1)
    other = np.roll(person.series[..., person.gradients.bvals == 0], -1, axis=1)
    words = write_series(tmp_path, replace(person, series=seen))
    found = find_field(words, tmp_path, fsl, sign, other[..., 0], person.grid)
    np.testing.assert_allclose(read_image(Path(found.field)).data, 0.9, rtol=1e-5)
    assert Path(found.fieldcoef).exists()


@pytest.mark.parametrize("sign", [1, -1])
def test_an_image_with_a_longer_readout_is_displaced_farther(sign, fsl, tmp_path, monkeypatch):
    """Stripes five voxels apart would agree the wrong way round if both were displaced alike."""
    monkeypatch.chdir(tmp_path)
    person = simulate(replace(TINY, motion_mm=0, b0_to_dwi_mm=0, snr=np.inf), 3)
    shape = person.series.shape
    stripes = np.broadcast_to((np.arange(shape[1]) % 5 < 2)[:, None, None] * 1000.0, shape)
    words = write_series(tmp_path, replace(person, series=np.roll(stripes, 1, axis=1)))
    other = np.roll(stripes, -2, axis=1)[..., 0]
    found = find_field(words, tmp_path, fsl, sign, other, person.grid, readout_ratio=2.0)
    np.testing.assert_allclose(read_image(Path(found.field)).data, 0.9, rtol=1e-5)


@pytest.mark.parametrize("sign", ["1", "-1"])
def test_the_step_takes_over_what_eddy_has_found(sign, fsl, tmp_path, monkeypatch):
    """Which way eddy counts does not matter."""
    path = fsl / "bin" / "eddy_openmp"
    path.write_text(path.read_text().replace("= 1 * np", f"= {sign} * np"))
    monkeypatch.chdir(tmp_path)
    person = simulate(replace(TINY, motion_mm=0), 3)
    words = write_series(tmp_path, person)
    centre = np.array([[21.6, 18.0]] * person.grid.shape[2])
    write_table(tmp_path / "centre.tsv", tabulate_shifts(centre))
    step = RunEddy(
        **words,
        cord_centre=str(tmp_path / "centre.tsv"),
        gradient_settings=GradientSettings(),
        motion_settings=MotionSettings(method="fsl"),
        metadata={"PhaseEncodingDirection": "j-"},
    )
    found = step.run().outputs
    shift_mm = shifts_from_table(read_table(Path(found.orig_to_dwiref)))
    np.testing.assert_allclose(shift_mm[1], [[-0.9, 0.9]] * len(shift_mm[1]), atol=1e-6)
    assert not np.delete(shift_mm, 1, axis=0).any()
    trusted = read_table(Path(found.orig_to_dwiref)).query("volume == 2")["trusted"]
    assert trusted.tolist() == [0, 1, 1, 1]
    moved = read_image(Path(found.moved_dwi))
    rotated = read_gradients(
        Path(found.moved_bval), Path(found.moved_bvec), moved.grid, len(shift_mm), tmp_path
    )
    assert not np.allclose(rotated.bvecs, person.gradients.bvecs)
    np.testing.assert_allclose(rotated.bvals, person.gradients.bvals)
