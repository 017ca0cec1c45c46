"""The same command again computes nothing; a change recomputes what depends on it, no more."""

from __future__ import annotations

import gzip
import os
import re
import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
from scsnet_bids.workflows import base, segmentation

from scsnet_bids import phantom
from scsnet_bids.cli import main
from scsnet_bids.network.weights import (
    load_network,
    save_network,
    shipped_weights,
    weights_sha256,
)
from scsnet_bids.settings import B0_AND_DWI

AFTER_MOTION = {
    "estimate motion",
    "apply correction",
    "find outliers",
    "segment regions",
    "align b0 to dwi",
    "transfer regions",
    "fit tensor",
    "measure regions",
    "unmix regions",
    "summarise quality",
}
MOTION = {"locate cord", "estimate motion", "find outliers"}
NETWORK = {"locate cord", "segment regions"}
"""Steps whose results depend on the weights directly."""


class Job:
    """A command on one participant's scan, and what its steps did."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.data, self.out = root, root / "data", root / "out"
        self._capsys = capsys

    def __call__(self, *words: str, n_procs: int = 1) -> set[str]:
        """Run the command and return the steps that computed something.

        Those that copy results to their names always run: someone may have deleted a file.
        """
        work = str(self.root / "work")
        command = [str(self.data), str(self.out), "participant", "-w", work, *words]
        self._capsys.readouterr()
        assert main([*command, "--nprocs", str(n_procs)]) == 0
        said = self._capsys.readouterr().out
        steps = re.findall(r"^\[.*?\] sub-01  (.+?)  +(reused|[\d.]+ s)$", said, re.MULTILINE)
        assert len(steps) > 10
        computed = {step for step, outcome in steps if outcome != "reused"}
        return {step for step in computed if not step.startswith("save ")}

    def table(self) -> bytes:
        """Content of the region table."""
        (path,) = self.out.rglob("*_seg-SCSNet_scalarstats.tsv")
        return path.read_bytes()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the app once."""
    root = tmp_path_factory.mktemp("resume")
    assert phantom.main([str(root / "data"), "--participants", "1", "--tiny"]) == 0
    command = [str(root / "data"), str(root / "out"), "participant", "-w", str(root / "work")]
    assert main([*command, "--nprocs", "1"]) == 0
    return root


@pytest.fixture
def job(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Job]:
    """Lend a copy of the finished job at another place, the first one out of reach."""
    for name in ("data", "out", "work"):
        shutil.copytree(finished / name, tmp_path / name, symlinks=True)
    away = finished.rename(finished.with_name("away"))
    yield Job(tmp_path, capsys)
    away.rename(finished)


@pytest.mark.parametrize("n_procs", [1, 2])
def test_the_same_command_computes_nothing_even_on_moved_folders(job, n_procs):
    before = job.table()
    assert job(n_procs=n_procs) == set()
    assert job.table() == before


def test_touching_or_copying_the_input_computes_nothing(job):
    for path in job.data.rglob("*"):
        os.utime(path, (10**9, 10**9))
    assert job() == set()
    shutil.copytree(job.data, job.root / "elsewhere" / "data")
    job.data = job.root / "elsewhere" / "data"
    assert job() == set()


@pytest.mark.parametrize(
    "words",
    [
        ["--mem", "4G"],
        ["--omp-nthreads", "1", "-v"],
        ["--stop-on-first-crash", "--notrack"],
        ["--b0-threshold", "50"],
    ],
)
def test_options_that_change_no_result_compute_nothing(job, words):
    assert job(*words) == set()


@pytest.mark.parametrize(
    ("setting", "computed"),
    [
        ("[regional]\nlow_confidence = 0.99", {"measure regions", "unmix regions"}),
        ("[unmixing]\nleast_voxels = 3", {"transfer regions", "unmix regions"}),
        ("[alignment]\nmax_shift_mm = 1.4", {"align b0 to dwi"}),
        ("[motion]\nmax_shift_mm = 3.9", {"estimate motion"}),
    ],
)
def test_a_changed_setting_starts_from_the_steps_that_have_it(job, setting, computed):
    config = job.root / "settings.toml"
    config.write_text(setting)
    found = job("--config-file", str(config))
    assert computed <= found
    assert "locate cord" not in found
    if "motion" not in setting:
        assert not found & {"estimate motion", "find outliers", "segment regions"}
        assert "alignment" in setting or "fit tensor" not in found
    assert job("--config-file", str(config)) == set()


def test_a_second_look_keeps_all_that_came_before_and_changes_the_regions(job):
    before, sees = job.table(), ["--segment-from", "b0+dwi"]
    computed = job(*sees)
    assert computed >= {"refine regions", "transfer regions", "measure regions", "unmix regions"}
    assert not computed & {"segment regions", "align b0 to dwi", "fit tensor", *MOTION}
    assert job.table() != before
    (labels,) = job.out.rglob("*_seg-SCSNet_dseg.json")
    assert "SCS-Net on B0 and mean DWI" in labels.read_text()
    methods = (job.out / "logs" / "CITATION.md").read_text()
    assert f"(SHA-256 {weights_sha256(shipped_weights(B0_AND_DWI))[:12]})" in methods
    assert job(*sees) == set()
    assert "refine regions" not in job()
    assert job.table() == before


def test_what_motion_correction_changes_is_computed_again(job):
    assert job("--motion", "none") >= AFTER_MOTION


def test_changed_voxels_are_computed_again(job):
    (image,) = job.data.rglob("*_dwi.nii.gz")
    raw = bytearray(gzip.decompress(image.read_bytes()))
    raw[-200:] = bytes(200)
    image.write_bytes(gzip.compress(bytes(raw)))
    assert {"locate cord", "estimate motion"} <= job()


def test_new_weights_run_the_network_again(job, monkeypatch):
    monkeypatch.setattr(segmentation, "weights_sha256", lambda _: "0" * 64)
    computed = job()
    assert computed >= NETWORK
    # The weights are in truth the same, so what follows the network finds its inputs unchanged.
    assert "fit tensor" not in computed


def test_weights_of_ones_own_run_the_network_again_and_are_said_to_be_such(job):
    mine, network = job.root / "mine.pt", deepcopy(load_network("cpu"))
    network.head.bias += 1e-3
    save_network(network, mine, {})
    assert job("--weights", str(mine)) >= NETWORK
    (sidecar,) = job.out.rglob("*_dseg.json")
    assert "not those of the package" in sidecar.read_text()
    assert "not those of the package" in (job.out / "logs" / "CITATION.md").read_text()


def test_a_new_version_computes_everything_again(job, monkeypatch):
    monkeypatch.setattr(base, "GRAPH_NAME", "scsnet_99_0_0")
    assert job() >= AFTER_MOTION | NETWORK


def test_the_settings_beside_the_results_reproduce_them(job):
    job("--b0-threshold", "40", "--no-b0-alignment")
    (written,) = (
        path for path in (job.out / "logs").glob("*.toml") if "b0_max = 40.0" in path.read_text()
    )
    expected = job.table()
    job.out = job.root / "again"
    assert job("--config-file", str(written)) == set()
    assert job.table() == expected


@pytest.mark.data
def test_the_work_folder_of_a_real_series_stays_under_three_times_the_input(shared_data, tmp_path):
    words = [str(shared_data / "ds-cord"), str(tmp_path / "out"), "participant"]
    words += ["--participant-label", "01", "-w", str(tmp_path / "work"), "--nprocs", "1"]
    assert main(words) == 0
    sizes = [path.stat().st_size for path in (tmp_path / "work").rglob("*") if path.is_file()]
    (series,) = (shared_data / "ds-cord" / "sub-01").rglob("*_dwi.nii.gz")
    assert sum(sizes) < 3 * series.stat().st_size


def test_intermediate_results_go_only_when_every_run_has_succeeded(job, capsys):
    shutil.copytree(job.data / "sub-01", job.data / "sub-02")
    for path in sorted((job.data / "sub-02").rglob("sub-01*")):
        path.rename(path.with_name(path.name.replace("sub-01", "sub-02")))
    (bvec,) = (job.data / "sub-02").rglob("*.bvec")
    kept = bvec.rename(job.root / "kept.bvec")
    command = [str(job.data), str(job.out), "participant", "-w", str(job.root / "work")]
    results = job.root / "work" / base.GRAPH_NAME
    assert main([*command, "--clean-workdir"]) == 65
    assert (results / "sub_01_wf").exists()
    kept.rename(bvec)
    assert main([*command, "--clean-workdir", "--nprocs", "1"]) == 0
    assert not results.exists()
