"""The benchmark: a tiny grid runs, and what it measures tells good from bad."""

from __future__ import annotations

import cProfile
import importlib.util
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pandas as pd
import pytest

from scsnet_bids.benchmark import motion
from scsnet_bids.benchmark.children import map_at_once, python_command, run_child
from scsnet_bids.benchmark.command import BENCHMARKS, main
from scsnet_bids.benchmark.cpu_kinds import KINDS, cpu_by_kind
from scsnet_bids.benchmark.figures_of_runs import show, summarise, with_ratio
from scsnet_bids.benchmark.grown_series import Size, grow_series
from scsnet_bids.benchmark.growth import fit_line, repeat_participant, tell_faster
from scsnet_bids.benchmark.motion_cases import Case, list_grid, list_phantoms, make_phantom
from scsnet_bids.benchmark.motion_grid import JUDGED, count_wins, hold_against_best, show_grid
from scsnet_bids.benchmark.motion_growth import list_sizes
from scsnet_bids.benchmark.motion_measures import judge, outliers_pct, shift_errors_mm
from scsnet_bids.benchmark.motion_methods import Corrected, leave, prepare
from scsnet_bids.benchmark.peers import fit_as_mrtrix, list_peers, read_series
from scsnet_bids.benchmark.sharpness import edge_mm, residual_lag1
from scsnet_bids.benchmark.shift_search import find_shifts
from scsnet_bids.derivatives import read_table
from scsnet_bids.errors import ScsnetError
from scsnet_bids.images import read_image
from scsnet_bids.phantom import TINY, simulate, write_dataset

SMALL = replace(TINY, matrix=(48, 48), snr=20.0, b0_to_dwi_mm=0.0, motion_mm=0.8)


@pytest.fixture(scope="module")
def moving() -> Case:
    return make_phantom(SMALL, 3)


@pytest.fixture(scope="module")
def by_truth(moving: Case) -> Corrected:
    """The same series corrected by the true displacements."""
    from scsnet_bids.correction.resampling import Correction, apply_correction

    shift_mm = moving.truth.shift_mm
    data = apply_correction(moving.series.data, Correction(shift_mm), moving.series.grid)
    return Corrected(data, shift_mm)


def test_true_displacements_have_no_error_and_true_regions_nearly_their_fa(moving, by_truth):
    found, raw = judge(moving, by_truth), judge(moving, leave(moving.series))
    assert found.error_dwi_mm == found.error_b0_mm == 0
    assert raw.error_dwi_mm == pytest.approx(0.8, abs=0.3)
    assert found.fa_error_pct < 0.6 * raw.fa_error_pct
    assert found.edge_mm < raw.edge_mm
    assert found.residual_lag1 < raw.residual_lag1


def test_a_displacement_of_all_volumes_of_a_slice_is_no_error(moving, rng):
    truth, is_b0 = moving.truth, moving.series.is_b0
    offset_mm = rng.normal(size=(1, *truth.shift_mm.shape[1:]))
    assert shift_errors_mm(truth.shift_mm + offset_mm, truth, is_b0) == pytest.approx((0, 0))


def test_inventing_motion_scores_worse_than_leaving_a_still_series(rng):
    still = make_phantom(replace(SMALL, motion_mm=0.0), 4)
    invented_mm = rng.normal(0, 0.3, still.truth.shift_mm.shape)
    left, moved = (
        judge(still, corrected)
        for corrected in (
            leave(still.series),
            Corrected(still.series.data, invented_mm),
        )
    )
    assert left.error_dwi_mm == left.fa_error_pct == 0
    assert moved.error_dwi_mm == pytest.approx(0.3 * np.sqrt(2), rel=0.3)


def test_lost_slices_have_no_say_in_the_error():
    case = make_phantom(replace(SMALL, lost_slices=0.3), 5)
    wrong_mm = case.truth.shift_mm + np.where(case.truth.lost[..., None], 3.0, 0.0)
    assert case.truth.lost.any()
    assert shift_errors_mm(wrong_mm, case.truth, case.series.is_b0) == (0, 0)


def test_eddy_currents_count_where_the_cord_lies():
    bent = replace(SMALL, motion_mm=0.0, eddy_mm=1.0)
    case, phantom = make_phantom(bent, 6), simulate(bent, (6, 1))
    shift_mm = case.truth.shift_mm
    assert np.abs(shift_mm[..., 1]).max() > 0.05
    assert not shift_mm[..., 0].any()
    assert not shift_mm[case.series.is_b0].any()
    # Far from the middle of the image the cord moves by more than the shift alone.
    assert not np.allclose(-shift_mm[..., 1], phantom.eddy[:, :1])


def test_blur_is_unmasked_by_edge_and_residuals(moving):
    from scipy.ndimage import gaussian_filter

    case, is_b0 = moving, moving.series.is_b0
    sharp = case.truth.still
    blurred = gaussian_filter(sharp, (0.8, 0.8, 0, 0))
    edges = [
        edge_mm(d[..., ~is_b0].mean(-1), case.cord_mask, case.series.grid) for d in (sharp, blurred)
    ]
    lags = [residual_lag1(d, case.cord_mask, case.series.gradients) for d in (sharp, blurred)]
    assert edges[1] > 1.2 * edges[0]
    assert abs(lags[0]) < 0.15
    assert lags[1] > 0.3


def test_shifts_are_found_to_a_tenth_of_a_voxel_and_doubted_in_noise(rng):
    from scipy.ndimage import gaussian_filter, shift

    reference = gaussian_filter(rng.normal(size=(36, 36)), 2.5)
    true_mm = np.array([[1.3, -0.4], [-2.2, 0.9]])
    slices = np.stack([shift(reference, one / 0.9, order=3) for one in true_mm])
    weight = np.zeros((2, 36, 36))
    weight[:, 8:-8, 8:-8] = 1
    references = np.stack([reference] * 2)
    found_mm, sure_mm = find_shifts(slices, references, weight, (0.9, 0.9))
    assert np.abs(found_mm - true_mm).max() < 0.09
    noisy = slices + rng.normal(0, 3 * slices.std(), slices.shape)
    assert (find_shifts(noisy, references, weight, (0.9, 0.9))[1] > 5 * sure_mm).all()


@pytest.mark.parametrize("method", ["phase correlation, slices", "DIPY rigid", "ours"])
def test_methods_say_where_the_cord_went_and_move_it_there(method):
    """A drift of whole volumes, which every method can find, at little noise."""
    case = make_phantom(replace(SMALL, motion_mm=0.0, snr=60.0), 7)
    drift = np.linspace(-1.2, 1.2, case.series.data.shape[3])
    shift_mm = np.stack(np.broadcast_arrays(drift[:, None] * np.ones(4), 0.0), axis=-1)
    from scsnet_bids.correction.resampling import Correction, apply_correction

    series = replace(
        case.series,
        data=apply_correction(case.series.data, Correction(-shift_mm), case.series.grid),
    )
    corrected = prepare(method)(series)
    error_mm, _ = shift_errors_mm(
        corrected.shift_mm, replace(case.truth, shift_mm=shift_mm), series.is_b0
    )
    assert error_mm < 0.35
    weighted = ~series.is_b0
    before, after = (d[..., weighted].std(axis=-1).mean() for d in (series.data, corrected.data))
    assert after < 0.9 * before


def test_every_method_gives_one_row_per_run_with_ratios_to_ours(moving):
    runs = motion.measure_methods([("moving", 0, lambda: moving)], ["none", "ours"])
    assert list(runs["method"]) == ["none", "ours"]
    assert list(runs["cpu_ratio"])[1] == 1
    assert {"error_dwi_mm", "fa_error_pct", "residual_lag1", "edge_mm", "peak_mb"} <= set(runs)
    # Our motion correction against a fixed amount of arithmetic of the same moment, with a wide
    # margin: it takes about MOTION_COST of them.
    ours_s = float(runs["cpu_s"].iloc[1])
    assert ours_s < 4 * MOTION_COST * arithmetic_s()


def arithmetic_s() -> float:
    """Processor time of a fixed amount of arithmetic."""
    matrix = np.random.default_rng(0).normal(size=(300, 300))
    started = time.process_time()
    for _ in range(40):
        np.linalg.svd(matrix[:100] @ matrix)
    return time.process_time() - started


MOTION_COST = 2.0


def test_the_grid_has_motion_noise_directions_lost_slices_and_eddy_currents():
    grid = list(list_grid().values())
    assert {s.motion_mm for s in grid} == {0.0, 0.3, 0.8, 1.5}
    assert {s.snr for s in grid} == {7.0, 12.0, 25.0}
    assert {s.directions for s in grid} == {30, 60}
    assert {bool(s.lost_slices) for s in grid} == {bool(s.eddy_mm) for s in grid} == {False, True}
    assert len(grid) == 48
    usual = list(list_phantoms("default").values())
    assert {s.directions for s in usual} == {30, 60}
    assert sum(s.lost_slices > 0 for s in usual) == sum(s.eddy_mm > 0 for s in usual) == 1
    assert len(list_phantoms("quick")) < len(usual) < len(grid)


def test_ours_is_held_against_the_best_other_tool_and_not_against_doing_nothing():
    figures = {"none": 0.0, "slow": 0.4, "fast": 0.3, "ours": 0.2}
    rows = [
        {"series": "still", "method": method, "run": run, **dict.fromkeys(JUDGED, value + run / 10)}
        for method, value in figures.items()
        for run in (0, 1)
    ]
    runs = pd.DataFrame(rows).assign(outliers_found_pct=np.nan, false_alarms_pct=0.0)
    table = hold_against_best(runs)
    assert table["error_dwi_mm"].tolist() == pytest.approx([0.25])
    assert table["error_dwi_mm_best"].tolist() == pytest.approx([0.35])
    assert table["error_dwi_mm_tool"].tolist() == ["fast"]
    assert "| 0.05               | 0.35 (fast)              | 0.25 " in show_grid(table)
    won = count_wins(table)
    assert won == ("Of 1 series, ours has the lowest error dwi in 1, error b0 in 1, fa error in 1.")
    worse = table.assign(fa_error_pct=0.36)
    assert "fa error in 0." in count_wins(worse)


def test_lost_slices_are_counted_and_left_out_of_the_fit():
    case = make_phantom(replace(SMALL, motion_mm=0.0, lost_slices=0.2, directions=20), 8)
    found = np.where(case.truth.lost, 0.0, 1.0)
    told, untold = (
        judge(case, leave(case.series)._replace(weight=weight)) for weight in (found, None)
    )
    assert (told.outliers_found_pct, told.false_alarms_pct) == (100, 0)
    assert np.isnan([untold.outliers_found_pct, untold.false_alarms_pct]).all()
    assert told.fa_error_pct < 0.5 * untold.fa_error_pct
    assert told.unmixed_fa_error_pct < untold.unmixed_fa_error_pct
    some = found.copy()
    some[case.truth.lost] = np.arange(case.truth.lost.sum()) % 2
    assert outliers_pct(some, case.truth.lost)[0] == pytest.approx(50, abs=5)


def test_series_of_any_size_differ_in_nothing_but_their_size():
    series = grow_series(Size(70, 9, 45), 0)
    assert series.data.shape == (70, 70, 9, 45)
    assert len(series.gradients.bvals) == 45
    # Mirrored along z, with noise of its own in volumes and slices that show the same.
    own = series.data[3:67, 11:59]  # what the edges of the phantom are drawn out around
    first, repeated = own[..., 2, 0], own[..., 2, 35]
    assert np.abs(first - repeated).mean() > 20
    assert np.corrcoef(first.ravel(), repeated.ravel())[0, 1] > 0.9
    assert np.corrcoef(own[..., 4, 0].ravel(), own[..., 6, 0].ravel())[0, 1] > 0.9
    # Tissue up to the edge, so that a large matrix is stored as integers too.
    assert np.median(series.data[:3, :, :, 0]) > 100
    sizes = list_sizes("full")
    assert {"96 x 96 x 15 x 35", "128 x 128 x 40 x 300"} == set(map(str, sizes["asked for"]))


def test_medians_spreads_and_ratios_are_of_the_same_run():
    runs = pd.DataFrame(
        {
            "tool": ["ours", "other"] * 3,
            "run": [0, 0, 1, 1, 2, 2],
            "cpu_s": [1.0, 2.0, 2.0, 6.0, 4.0, 8.0],
        }
    )
    summary = summarise(
        with_ratio(runs, runs["tool"] == "ours", ["run"]).drop(columns="run"), ["tool"]
    )
    assert summary["cpu_s"].tolist() == [2, 6]
    assert summary["cpu_s_spread"].tolist() == [1.5, 3]
    assert summary["cpu_ratio"].tolist() == [1, 2]
    assert "| other | 6.0 ± 3.0 |" in show(summary, ["tool"], {"cpu_s": 1})


def test_what_a_command_and_its_children_took_is_told(tmp_path):
    # It stays a while with what it has taken: memory is looked at from time to time only.
    child = "import time; b = bytearray(60 * 2**20); sum(range(3 * 10**6)); time.sleep(0.3)"
    words = (
        f"import subprocess, sys; [subprocess.run([sys.executable, '-c', {child!r}]) for _ in 'ab']"
    )
    alone = run_child([sys.executable, "-c", child], tmp_path / "log")
    both = run_child([sys.executable, "-c", words], tmp_path / "log")
    assert 60 < alone.peak_mb < 110
    assert both.cpu_s > 1.3 * alone.cpu_s
    at_once = run_child(["true"], tmp_path / "log")
    assert not at_once.peak_mb < 0.1, "it may be unknown, but no program is that small"
    with pytest.raises(ScsnetError, match="ended with 3: out of luck"):
        run_child([sys.executable, "-c", "print('out of luck'); exit(3)"], tmp_path / "log")


def test_what_is_done_at_once_comes_in_the_order_given():
    second_is_done = Event()

    def wait(number):
        if number == 0:
            assert second_is_done.wait(60)  # never, if the two were not done at once
        second_is_done.set()
        return number

    assert list(map_at_once(wait, [0, 1, 2], 2)) == [0, 1, 2]


def test_the_first_error_ends_what_is_done_at_once():
    begun = []

    def fail(number):
        begun.append(number)
        time.sleep(0.01)
        raise ScsnetError("out of luck")

    with pytest.raises(ScsnetError, match="luck"):
        list(map_at_once(fail, range(1000), 2))
    assert len(begun) < 500


def test_a_profile_tells_arithmetic_from_the_rest():
    profile = cProfile.Profile(time.process_time)
    profile.enable()
    np.linalg.svd(np.random.default_rng(0).normal(size=(400, 400)))
    profile.disable()
    kinds = cpu_by_kind(profile)
    assert set(KINDS) < set(kinds)
    assert kinds["arithmetic"] > 0.8 * sum(kinds.values())


def test_growth_beyond_a_line_is_named():
    sizes = np.array([5, 10, 20, 40, 80])
    rows = []
    for step, power in (("linear", 1.0), ("slow", 2.0)):
        part = pd.DataFrame({"size": sizes, "cpu_s": sizes**power / 10, "peak_mb": 3.0 * sizes})
        rows.append({"grows": "slices", "step": step, **fit_line(part)})
    lines = pd.DataFrame(rows)
    assert lines["mb_per_unit"].tolist() == pytest.approx([3, 3])
    assert tell_faster(lines) == "Faster than the data grow, by exponent: slow with slices (2.00)."
    assert tell_faster(lines[:1]) == "No step grows faster than the data."


def test_a_participant_is_repeated_under_new_names(tmp_path):
    write_dataset(tmp_path / "one", SMALL, 1, 0)
    repeat_participant(tmp_path / "one", tmp_path / "many", 3)
    names = {path.name for path in tmp_path.glob("many/sub-*/dwi/*_dwi.nii.gz")}
    assert names == {f"sub-{n:04d}_dwi.nii.gz" for n in (1, 2, 3)}


def test_the_app_reads_writes_and_loads_no_more_than_it_must(tmp_path):
    """Counts, which no slow machine changes; they may fall, and a rise needs a reason."""
    write_dataset(tmp_path / "data", TINY, 1, 0)
    words = [str(tmp_path / "data"), str(tmp_path / "out"), "participant"]
    words += ["-w", str(tmp_path / "work")]
    record = tmp_path / "record.tsv"
    run_child(python_command("app_job", str(record), "profile", *words), tmp_path / "log")
    steps = read_table(record)
    assert {"estimate_motion", "segment_regions", "around"} <= set(steps["step"])
    for name, most in MOST.items():
        assert 0 < steps[name].sum() <= most, name


MOST = {"weights loaded": 1, "images read": 60, "images written": 25}


@pytest.mark.skipif(not shutil.which("dwi2tensor"), reason="MRtrix3 is not installed")
def test_mrtrix_fits_what_a_fit_that_weighs_as_often_does(tmp_path):
    write_dataset(tmp_path, replace(TINY, snr=20.0), 1, 0)
    (series,) = tmp_path.glob("sub-*/dwi/*_dwi.nii.gz")
    for name, command in list_peers(series, series, tmp_path):
        if name in ("MRtrix3 dwi2tensor", "MRtrix3 tensor2metric"):
            subprocess.run(command, check=True)
    image, gradients = read_series(series)
    inside = image.data.min(axis=-1) > 0
    for name, ours in fit_as_mrtrix(image, gradients, inside).items():
        theirs = read_image(tmp_path / f"mrtrix_{name}.nii.gz").data[inside]
        assert np.median(np.abs(ours / theirs - 1)) < 1e-4


def test_the_command_says_what_real_series_need(tmp_path, capsys):
    assert main(["motion", "--quick", "--out", str(tmp_path), "--data", "here"]) == 2
    assert "--cord-masks" in capsys.readouterr().err


def test_tables_replace_what_lies_between_their_marks_and_nothing_else():
    path = Path(__file__).parents[1] / "docs" / "write_benchmarks.py"
    spec = importlib.util.spec_from_file_location("write_benchmarks", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = path.with_name("benchmarks.md").read_text(encoding="utf-8")
    for name in BENCHMARKS:
        page = script.replace_block(page, name, f"table of {name}")
    assert page == script.replace_block(page, "motion", "table of motion")
    assert "<!-- growth -->\n\ntable of growth\n\n<!-- end of growth -->" in page
    with pytest.raises(SystemExit, match="needs the marks"):
        script.replace_block("no marks", "motion", "table")
