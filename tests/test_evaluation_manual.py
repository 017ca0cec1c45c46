"""Manual masks are found, understood and compared; what is not meant is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scsnet_bids.derivatives import write_table
from scsnet_bids.errors import EmptySelectionError, InputDataError
from scsnet_bids.evaluation.command import carry_out, compare_outputs, main
from scsnet_bids.evaluation.network_scores import IMAGE_SUFFIXES
from scsnet_bids.images import Grid, Image, write_image
from scsnet_bids.manual_masks import find_masks, match_file, read_labels, read_still
from scsnet_bids.phantom import PhantomSettings, simulate
from scsnet_bids.regions import MIRROR, REGIONS, label_shares

SHAPE = (24, 20, 3)
GRID = Grid(SHAPE, np.diag([-1.0, -1.0, 5.0, 1.0]), np.array([[0, -1], [1, -1], [2, 1]]))


def eight_blocks() -> np.ndarray:
    """Blocks of 4 x 3 voxels, left regions on the left."""
    label = np.zeros(SHAPE, dtype=np.uint8)
    for region in REGIONS:
        i, j = 8 + 4 * (region.label % 2), 4 + 3 * ((region.label - 1) // 2)
        label[i : i + 4, j : j + 3] = region.label
    return label


class Study:
    """Manual masks and an output of ours in two folders."""

    def __init__(self, root: Path) -> None:
        self.root, self.masks, self.out = root, root / "masks", root / "out"
        self.ours("seg-SCSNet_dseg", eight_blocks())
        self.ours("model-tensor_param-fa_dwimap", 0.3 + 0.05 * eight_blocks())

    def ours(self, ending: str, array: np.ndarray) -> None:
        self._write(self.out, ending, array)

    def manual(self, ending: str, array: np.ndarray, grid: Grid = GRID) -> Path:
        return self._write(self.masks, ending, array, grid)

    def _write(self, root: Path, ending: str, array: np.ndarray, grid: Grid = GRID) -> Path:
        folder = root / "sub-07" / "ses-a" / "dwi"
        folder.mkdir(parents=True, exist_ok=True)
        return write_image(folder / f"sub-07_ses-a_run-1_{ending}.nii.gz", Image(array, grid))

    def scores(self) -> tuple[pd.DataFrame, list[str]]:
        return carry_out(compare_outputs(self.root / "data", self.out, self.masks))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def test_a_cord_is_compared_in_the_slices_that_were_drawn(study, capsys):
    mask = (eight_blocks() > 0).astype(np.uint8)
    ours = eight_blocks()
    ours[8:12, :, 1] = 0
    study.ours("seg-SCSNet_dseg", ours)
    mask[..., 2] = 0  # not drawn
    study.manual("desc-manual_label-SC_mask", mask)
    table, faults = study.scores()
    values = table.set_index("score")["value"]
    assert not faults
    assert values["lowest slice"] == pytest.approx(2 / 3)
    assert values["cord Dice"] == pytest.approx((1 + 2 / 3) / 2)
    assert values["slices lost %"] == 0
    assert main([str(study.root), str(study.out), "--reference", str(study.masks)]) == 0
    assert "sub-07_ses-a_run-1" in capsys.readouterr().out


def test_manual_regions_are_compared_in_the_slices_that_were_drawn(study):
    drawn = eight_blocks()
    drawn[drawn == 3] = 1
    drawn[..., 0] = 0
    study.manual("desc-manual_dseg", drawn)
    table, faults = study.scores()
    assert not faults
    values = table.set_index(["score", "region", "side"])["value"]
    assert values["Dice", "lateral_column", "left"] == pytest.approx(2 / 3)
    assert values["precision", "lateral_column", "left"] == 1
    assert values["recall", "lateral_column", "left"] == pytest.approx(1 / 2)
    assert values["Dice", "gray_matter", "right"] == 1
    error = 100 * (1 - 0.35 / 0.40)  # our region holds 0.35, the manual one 0.35 and 0.45
    assert values["FA error pooled %", "lateral_column", "left"] == pytest.approx(error, rel=1e-4)


def test_labels_of_another_table_are_refused(study):
    path = study.manual("desc-manual_dseg", eight_blocks())
    names = [region.name for region in REGIONS]
    table = pd.DataFrame({"index": range(1, 9), "name": names})
    write_table(Path(str(path).replace(".nii.gz", ".tsv")), table)
    assert not study.scores()[1]
    table.loc[0, "name"] = "spinal_level_C1"
    write_table(Path(str(path).replace(".nii.gz", ".tsv")), table)
    assert "says that 1 is spinal_level_C1" in study.scores()[1][0]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda label: label * 2, "whole labels from 0 to 8"),
        (lambda label: label * 0.5, "whole labels from 0 to 8"),
        (lambda label: MIRROR[label], "left regions lie right"),
    ],
)
def test_labels_that_mean_something_else_are_refused(study, change, complaint):
    changed = np.asarray(change(eight_blocks()), dtype=np.float32)
    study.manual("desc-manual_dseg", changed)
    (mask,) = find_masks(study.masks)
    with pytest.raises(InputDataError, match=complaint):
        read_labels(mask, study.masks)


def test_a_mask_on_another_grid_is_a_fault(study):
    elsewhere = Grid(SHAPE, np.diag([-2.0, -2.0, 5.0, 1.0]), GRID.storage)
    study.manual("label-SC_mask", np.ones(SHAPE, dtype=np.uint8), elsewhere)
    assert "needs one grid" in study.scores()[1][0]


def test_an_empty_mask_is_a_fault_and_does_not_stop_the_others(study):
    study.manual("label-SC_mask", np.zeros(SHAPE, dtype=np.uint8))
    study.manual("desc-manual_dseg", eight_blocks())
    table, faults = study.scores()
    assert len(faults) == 1
    assert "must hold something" in faults[0]
    assert len(table) > 0


def test_a_mask_without_its_image_or_with_two_is_a_fault(study):
    study.manual("label-SC_mask", np.ones(SHAPE, dtype=np.uint8))
    (mask,) = find_masks(study.masks)
    with pytest.raises(InputDataError, match="needs its image"):
        match_file(mask, [study.root / "data"], IMAGE_SUFFIXES)
    for name in ("desc-a_bold", "desc-b_bold"):
        study._write(study.root / "data", name, np.ones(SHAPE, dtype=np.float32))
    with pytest.raises(InputDataError, match="must belong to one image"):
        match_file(mask, [study.root / "data"], IMAGE_SUFFIXES)


def test_both_customs_of_naming_find_their_image(study):
    for ending in ("T2starw_seg-manual", "T2starw_gmseg-manual", "label-GM_mask"):
        study.manual(ending, np.ones(SHAPE, dtype=np.uint8))
    wanted = study._write(study.root / "data", "T2starw", np.ones(SHAPE, dtype=np.float32))
    study._write(study.root / "data", "bold", np.ones(SHAPE, dtype=np.float32))
    masks = find_masks(study.masks, ["sub-07"])
    shown = {mask.path.name.split("_", 3)[3]: mask.shows for mask in masks}
    assert shown["T2starw_seg-manual.nii.gz"] == "cord"
    assert shown["T2starw_gmseg-manual.nii.gz"] == shown["label-GM_mask.nii.gz"] == "gray matter"
    assert {match_file(mask, [study.root / "data"], IMAGE_SUFFIXES) for mask in masks} == {wanted}


def test_without_manual_masks_the_command_says_what_it_expects(study):
    with pytest.raises(EmptySelectionError, match="_label-SC_mask"):
        find_masks(study.root / "nowhere")
    study.manual("label-SC_mask", np.ones(SHAPE, dtype=np.uint8))
    with pytest.raises(EmptySelectionError, match="none of 08"):
        find_masks(study.masks, ["07", "08"])


@pytest.mark.parametrize("options", [[], ["out", "--masks", "masks"]])
def test_the_command_wants_either_an_output_or_masks(options, tmp_path, capsys):
    assert main([str(tmp_path), *options]) == 2
    assert "Give either an output folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [["out", "--rescan"], ["out", "--weights", "w.pt"], ["--masks", "m", "--reference", "r"]],
)
def test_an_option_of_the_other_comparison_is_refused(options, tmp_path, capsys):
    assert main([str(tmp_path), *options]) == 2
    assert "leave" in capsys.readouterr().err


def test_of_a_diffusion_series_the_b0_volumes_are_read(tmp_path):
    series = np.zeros((*SHAPE, 3), dtype=np.float32)
    series[..., 0], series[..., 1], series[..., 2] = 100, 5, 300
    write_image(tmp_path / "sub-1_dwi.nii.gz", Image(series, GRID))
    (tmp_path / "sub-1_dwi.bval").write_text("0 800 5\n")
    assert (read_still(tmp_path / "sub-1_dwi.nii.gz").data == 200).all()
    write_image(tmp_path / "sub-1_bold.nii.gz", Image(series, GRID))
    np.testing.assert_allclose(read_still(tmp_path / "sub-1_bold.nii.gz").data, 135)


def test_the_network_alone_is_compared_and_rescanned(tmp_path, capsys):
    settings = PhantomSettings(
        directions=6, b0_volumes=2, slices=4, motion_mm=0, b0_to_dwi_mm=0, matrix=(48, 40)
    )
    phantom = simulate(settings, 5)
    b0 = phantom.series[..., phantom.gradients.bvals == 0].mean(axis=-1)
    label = label_shares(phantom.region_share)
    data, masks = tmp_path / "data" / "sub-1" / "anat", tmp_path / "masks" / "sub-1" / "anat"
    for folder in (data, masks):
        folder.mkdir(parents=True)
    for run, image in ((1, b0), (2, b0 * 1.1)):
        write_image(data / f"sub-1_run-{run}_T2starw.nii.gz", Image(image, phantom.grid))
    stem = "sub-1_run-1_T2starw"
    cord, gray = (np.asarray(m, np.uint8) for m in (label > 0, np.isin(label, [7, 8])))
    write_image(masks / f"{stem}_seg-manual.nii.gz", Image(cord, phantom.grid))
    write_image(masks / f"{stem}_gmseg-manual.nii.gz", Image(gray, phantom.grid))
    tsv, folders = tmp_path / "scores.tsv", (str(tmp_path / "data"), str(tmp_path / "masks"))
    assert main([folders[0], "--masks", folders[1], "--rescan", "--tsv", str(tsv)]) == 0
    printed = capsys.readouterr().out
    assert "gray Dice" in printed
    assert "rescan" in printed
    table = pd.read_csv(tsv, sep="\t")
    values = table[table["group"] == "network"].set_index("score")["value"]
    assert values["cord Dice"] > 0.85
    assert values["gray Dice"] > 0.5
    assert values["slices lost %"] == 0
    change = table[table["group"] == "rescan"]["value"]
    assert len(change) > 8
    assert change.abs().max() < 0.5, "another gain is no other anatomy"
