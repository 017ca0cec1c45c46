"""The evaluation finds the errors that were put in, and no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scsnet_bids.derivatives import write_table
from scsnet_bids.evaluation.command import carry_out, compare_outputs, main
from scsnet_bids.evaluation.motion_scores import score_motion
from scsnet_bids.evaluation.scores import (
    dice_of_slices,
    hausdorff95_of_slices,
    island_area_mm2,
    score_regions,
)
from scsnet_bids.evaluation.truth import shift_slices
from scsnet_bids.evaluation.value_scores import score_border_intervals
from scsnet_bids.images import Grid, Image, write_image
from scsnet_bids.regions import N_CLASSES, REGIONS, label_shares
from scsnet_bids.shift_table import tabulate_shifts

SHAPE = (24, 20, 3)
SPACING = (1.0, 1.0, 5.0)
GRID = Grid(SHAPE, np.diag([-1.0, -1.0, 5.0, 1.0]), np.array([[0, -1], [1, -1], [2, 1]]))
BVALS = np.array([0.0, 800.0, 800.0, 0.0, 800.0])
MOTION = "from-orig_to-dwiref_mode-image_desc-slicewise_xfm.tsv"
B0_TO_DWI = "from-dwiref_to-dwi_mode-image_desc-slicewise_xfm.tsv"


def true_share() -> np.ndarray:
    """Eight blocks of 4 x 3 voxels, left regions on the left."""
    share = np.zeros((*SHAPE, N_CLASSES))
    for region in REGIONS:
        i, j = 8 + 4 * (region.label % 2), 4 + 3 * ((region.label - 1) // 2)
        share[i : i + 4, j : j + 3, :, region.label] = 1
    share[..., 0] = 1 - share[..., 1:].sum(axis=-1)
    return share


def fa_map(label: np.ndarray) -> np.ndarray:
    return np.where(label > 0, 0.3 + 0.05 * label, 0.1)


def true_motion() -> np.ndarray:
    """(n, k, 2), of mean 0 over either kind of volume."""
    motion = np.random.default_rng(1).normal(0, 0.5, (len(BVALS), SHAPE[2], 2))
    for kind in (BVALS == 0, BVALS > 0):
        motion[kind] -= motion[kind].mean(axis=0)
    return motion


def region_table(mean: float, core_mean: float, unmixed: float = 0.5) -> pd.DataFrame:
    """Two slices, of which one lies 0.04 too high and one as much too low, and the cord."""
    rows = [
        (scope, k, str(r.tissue), str(r.side), metric, *(scale * (v + off) for v in values), scale)
        for scope, k, off in (("slice", 0, 0.04), ("slice", 1, -0.04), ("cord", np.nan, 0.0))
        for r in REGIONS
        for metric, scale in (("FA", 1.0), ("MD", 1e-3))
        for values in [(mean, core_mean, unmixed)]
    ]
    names = ["scope", "slice", "region", "side", "metric", "mean", "core_mean", "unmixed", "scale"]
    table = pd.DataFrame(rows, columns=names)
    uncertainty = 0.03 * table["scale"]
    return table.assign(unmixed_uncertainty=uncertainty, mean_uncertainty=uncertainty)


class Case:
    """A dataset with truth and a perfect output, to be spoiled."""

    def __init__(self, root: Path) -> None:
        self.data, self.out = root / "data", root / "out"
        self.truth = self.data / "derivatives" / "phantom" / "sub-01" / "dwi"
        self.result = self.out / "sub-01" / "dwi"
        for folder in (self.truth, self.result):
            folder.mkdir(parents=True)
        self.label = label_shares(true_share())
        write_image(self.truth / "sub-01_seg-SCSNet_probseg.nii.gz", Image(true_share(), GRID))
        tissue = {
            "region": [str(r.tissue) for r in REGIONS],
            "side": [str(r.side) for r in REGIONS],
        }
        write_table(
            self.truth / "sub-01_desc-tissue_scalarstats.tsv",
            pd.DataFrame(tissue).assign(FA=0.5, MD=0.5e-3),
        )
        for folder in (self.truth, self.result):
            write_table(folder / f"sub-01_{MOTION}", tabulate_shifts(true_motion()))
            write_table(folder / f"sub-01_{B0_TO_DWI}", tabulate_shifts(np.full((3, 2), 0.3)))
        np.savetxt(self.result / "sub-01_desc-preproc_dwi.bval", BVALS[None], fmt="%g")
        self.write("seg-SCSNet_dseg", self.label)
        self.write("model-tensor_param-fa_dwimap", fa_map(self.label))
        self.tabulate("model-tensor_seg-SCSNet_scalarstats", region_table(0.5, 0.5))

    def write(self, ending: str, array: np.ndarray) -> None:
        write_image(self.result / f"sub-01_{ending}.nii.gz", Image(array, GRID))

    def tabulate(self, ending: str, table: pd.DataFrame) -> None:
        write_table(self.result / f"sub-01_{ending}.tsv", table)

    def scores(self) -> pd.Series:
        """Values by group, score, region and side."""
        table, faults = carry_out(compare_outputs(self.data, self.out))
        assert not faults
        assert (table["run"] == "sub-01").all()
        return table.set_index(["group", "score", "region", "side"])["value"].sort_index()


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_a_perfect_result_has_no_error(case):
    values = case.scores()
    for name in ("Dice", "precision", "recall"):
        assert values["region", name].tolist() == [1.0] * 8
    for name in ("FA error of slices %", "FA error pooled %", "not found %", "Hausdorff 95 mm"):
        assert values["region", name].tolist() == pytest.approx([0.0] * 8)
    for name in ("FA plain bias %", "FA core bias %", "MD unmixed bias %"):
        assert values["value", name].tolist() == pytest.approx([0.0] * 8, abs=1e-9)
    assert values["cord", "lowest slice"].item() == 1
    assert values["cord", "slices lost %"].item() == 0
    assert values["cord", "islands mm2"].item() == 0
    for name in ("dwi error mm", "b0 error mm", "B0 to DWI error mm"):
        assert values["motion", name].item() == pytest.approx(0, abs=1e-5)
    assert values["motion", "B0 to DWI true mm"].item() == pytest.approx(0.3 * 2**0.5, rel=1e-4)


def test_a_region_that_swallows_its_neighbour_shows_in_its_error(case):
    label = case.label.copy()
    label[label == 3] = 1
    case.write("seg-SCSNet_dseg", label)
    values = case.scores()
    expected = 100 * (0.40 / 0.35 - 1)  # the mean of 0.35 and 0.45 instead of 0.35
    place = ("lateral_column", "left")
    assert values["region", "FA error of slices %"][place] == pytest.approx(expected, rel=1e-4)
    assert values["region", "FA error pooled %"][place] == pytest.approx(expected, rel=1e-4)
    assert values["region", "Dice"][place] == pytest.approx(2 / 3)
    lost = ("dorsal_column", "left")
    assert values["region", "Dice"][lost] == 0
    assert values["region", "not found %"][lost] == 100
    assert np.isnan(values["region", "FA error pooled %"][lost])
    assert values["region", "Dice"]["dorsal_column", "right"] == 1


def test_bias_is_that_of_the_cord_rows_against_the_tissue(case):
    case.tabulate("model-tensor_seg-SCSNet_scalarstats", region_table(0.55, 0.45, 0.52))
    values = case.scores()
    expected = {"FA plain": 10, "FA core": -10, "FA unmixed": 4, "MD plain": 10, "MD unmixed": 4}
    for name, bias in expected.items():
        assert values["value", f"{name} bias %"].tolist() == pytest.approx([bias] * 8), name


def test_the_error_of_slices_does_not_cancel(case):
    values = case.scores()
    assert values["value", "FA plain bias %"].tolist() == pytest.approx([0.0] * 8, abs=1e-9)
    assert values["value", "FA plain RMSE %"].tolist() == pytest.approx([8.0] * 8)


def test_coverage_counts_the_slices_whose_interval_holds_the_truth(case):
    assert case.scores()["value", "FA in 90 %"].tolist() == [100.0] * 8  # 0.04 < 1.645 x 0.03
    case.tabulate("model-tensor_seg-SCSNet_scalarstats", region_table(0.5, 0.5, 0.52))
    values = case.scores()  # 0.06 is too far, 0.02 is not
    assert values["value", "FA in 90 %"].tolist() == [50.0] * 8
    assert values["value", "MD in 90 %"].tolist() == [50.0] * 8


def test_the_interval_of_the_whole_cord_is_judged_apart(case):
    for unmixed, held in ((0.54, 100.0), (0.56, 0.0)):  # 1.645 x 0.03 is 0.049
        case.tabulate("model-tensor_seg-SCSNet_scalarstats", region_table(0.5, 0.5, unmixed))
        values = case.scores()
        assert values["value", "FA cord in 90 %"].tolist() == [held] * 8


def test_a_slice_without_a_value_is_counted_as_such_and_covers_nothing(case):
    table = region_table(0.5, 0.5)
    table.loc[(table["region"] == "gray_matter").idxmax(), "unmixed"] = np.nan
    case.tabulate("model-tensor_seg-SCSNet_scalarstats", table)
    values = case.scores()
    assert values["value", "FA n/a %"]["gray_matter", "left"] == 50
    assert values["value", "FA n/a %"]["gray_matter", "right"] == 0
    assert values["value", "FA in 90 %"]["gray_matter", "left"] == 100


def test_healthy_and_compressed_phantoms_are_told_apart(case, capsys):
    people = pd.DataFrame({"participant_id": ["sub-01"], "compression": [0.4]})
    write_table(case.data / "participants.tsv", people)
    assert main([str(case.data), str(case.out)]) == 0
    printed = capsys.readouterr().out
    assert "compressed phantoms, n = 1" in printed
    assert "healthy" not in printed


def test_a_constant_displacement_of_the_reference_is_no_error(case):
    ours = true_motion()
    ours[BVALS > 0] += np.array([2.0, -1.0])
    case.tabulate(MOTION.removesuffix(".tsv"), tabulate_shifts(ours))
    moved = shift_slices(true_share(), np.full((3, 2), [2.0, -1.0]), SPACING)
    case.write("seg-SCSNet_dseg", label_shares(moved))
    case.write("model-tensor_param-fa_dwimap", fa_map(label_shares(moved)))
    case.tabulate(B0_TO_DWI.removesuffix(".tsv"), tabulate_shifts(np.full((3, 2), [2.3, -0.7])))
    values = case.scores()
    assert values["motion", "dwi error mm"].item() == pytest.approx(0, abs=1e-5)
    assert values["motion", "B0 to DWI error mm"].item() == pytest.approx(0, abs=1e-5)
    assert values["region", "Dice"].tolist() == [1.0] * 8


def test_errors_of_either_kind_of_volume_are_told_apart(case):
    ours = true_motion()
    ours[[1, 2, 4], :, 0] += np.array([0.3, -0.3, 0.0])[:, None]
    case.tabulate(MOTION.removesuffix(".tsv"), tabulate_shifts(ours))
    values = case.scores()
    assert values["motion", "dwi error mm"].item() == pytest.approx(0.3 * (2 / 3) ** 0.5, rel=1e-4)
    assert values["motion", "b0 error mm"].item() == pytest.approx(0, abs=1e-5)


def test_a_run_without_output_is_a_fault_and_does_not_stop_the_others(case, capsys):
    other = case.data / "derivatives" / "phantom" / "sub-02" / "dwi"
    other.mkdir(parents=True)
    write_image(other / "sub-02_seg-SCSNet_probseg.nii.gz", Image(true_share(), GRID))
    assert main([str(case.data), str(case.out)]) == 1
    printed = capsys.readouterr()
    assert "sub-02" in printed.err
    assert "lateral_column" in printed.out


def test_an_output_on_another_grid_is_a_fault(case):
    elsewhere = Grid(SHAPE, np.diag([-2.0, -2.0, 5.0, 1.0]), GRID.storage)
    path = case.result / "sub-01_seg-SCSNet_dseg.nii.gz"
    write_image(path, Image(case.label, elsewhere))
    _, faults = carry_out(compare_outputs(case.data, case.out))
    assert len(faults) == 1
    assert "needs one grid" in faults[0]


def test_an_output_whose_table_lacks_a_column_is_a_fault(case):
    table = region_table(0.5, 0.5).drop(columns="mean_uncertainty")
    case.tabulate("model-tensor_seg-SCSNet_scalarstats", table)
    _, faults = carry_out(compare_outputs(case.data, case.out))
    assert faults == ["sub-01: a table lacks the column 'mean_uncertainty'."]


def test_the_command_prints_every_group_and_writes_the_table(case, tmp_path, capsys):
    tsv = tmp_path / "scores.tsv"
    assert main([str(case.data), str(case.out), "--tsv", str(tsv)]) == 0
    printed = capsys.readouterr().out
    for word in ("Cord and motion", "Regions", "Values", "FA error of slices %", "ventral_column"):
        assert word in printed
    written = pd.read_csv(tsv, sep="\t", na_values="n/a")
    names = ["run", "condition", "group", "score", "region", "side", "value"]
    assert written.columns.tolist() == names
    assert len(written) == len(case.scores())


def test_without_any_truth_the_command_says_what_to_do(tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path)]) == 18
    assert "scsnet-bids-phantom" in capsys.readouterr().err


def test_intervals_of_plain_means_are_held_against_the_true_region_on_the_same_map():
    rows = [
        ("slice", k, "lateral_column", "left", metric, mean, 0.1)
        for k, mean in enumerate([0.5, 0.6, 0.7, np.nan])
        for metric in ("FA", "MD")
    ]
    names = ["scope", "slice", "region", "side", "metric", "mean", "mean_uncertainty"]
    found = list(score_border_intervals(pd.DataFrame(rows, columns=names), np.full((4, 8), 0.5)))
    assert found[0].value == pytest.approx(100 * 2 / 3)  # 0.2 is too far, and one is missing
    assert np.isnan(found[1].value)


def test_slices_are_averaged_and_pooled_differently():
    values, truth = np.ones((4, 4, 2)), np.zeros((4, 4, 2), dtype=int)
    truth[:2, 0, 0] = 1
    truth[:2, :, 1] = 1
    predicted = truth.copy()
    predicted[0, 3, 0] = 1
    values[0, 3, 0] = 4.0  # slice 0: (1 + 1 + 4) / 3 instead of 1; slice 1 as it should be
    score = score_regions(values, predicted, truth, (1.0, 1.0, 5.0))[0]
    assert (score.precision, score.recall) == (pytest.approx(10 / 11), 1.0)
    assert score.error_of_slices == pytest.approx((1.0 + 0.0) / 2)
    assert score.error_pooled == pytest.approx(14 / 11 - 1)


def test_dice_of_an_empty_slice_is_missing():
    mask = np.zeros((3, 3, 2), dtype=bool)
    mask[0, 0, 0] = True
    assert dice_of_slices(mask, mask)[0] == 1
    assert np.isnan(dice_of_slices(mask, mask)[1])


def test_the_distance_of_outlines_is_in_mm_and_symmetric():
    first, second = np.zeros((2, 20, 20, 2), dtype=bool)
    first[5:10, 5:10] = True
    second[5:10, 5:13, 0] = True  # three voxels of 2 mm farther back
    for pair in ((first, second), (second, first)):
        distance_mm = hausdorff95_of_slices(*pair, (1.0, 2.0, 5.0))
        assert distance_mm[0] == pytest.approx(6.0)
        assert np.isnan(distance_mm[1]), "nothing to compare with"


def test_an_outline_drawn_wider_is_no_island():
    reference = np.zeros((20, 20, 1), dtype=bool)
    reference[8:12, 8:12] = True
    wider = np.zeros_like(reference)
    wider[6:14, 7:13] = True
    assert island_area_mm2(wider, reference, (1.0, 2.0, 5.0)) == 0
    wider[19, 10] = True
    assert island_area_mm2(wider, reference, (1.0, 2.0, 5.0)) == 2


def test_motion_is_compared_in_lengths():
    true_mm = np.zeros((2, 1, 2))
    true_mm[0, 0], true_mm[1, 0] = (0.3, 0.4), (-0.3, -0.4)
    score = score_motion(np.full((2, 1, 2), 7.0), true_mm)
    assert score.error_mm == pytest.approx(0.5)
    assert score.true_mm == pytest.approx(0.5)
    np.testing.assert_allclose(score.offset_mm, [[7.0, 7.0]])
