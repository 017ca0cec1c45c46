"""Labels on any scan of the session name the slices of a series, however both are turned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from scsnet_bids.errors import ImageError, InputDataError, UsageError
from scsnet_bids.images import Grid, read_grid, read_image
from scsnet_bids.level_files import check_levels, describe_levels, find_levels, read_levels
from scsnet_bids.phantom import PhantomSettings, simulate
from scsnet_bids.runs import DwiRun
from scsnet_bids.vertebrae import Labels, level_name, levels_of_slices

LEVEL_MM = 16.0
"""Length of a level of the straight cord below."""
OBLIQUE = Rotation.from_euler("xyz", [25, -12, 8], degrees=True).as_matrix()


def cord(n_slices: int, thickness_mm: float, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A cord along the slice axis, and the affine of its slices, turned about the origin."""
    share = np.zeros((20, 20, n_slices))
    share[8:12, 8:12] = 1
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.0, -1.0, thickness_mm])  # left, back, head
    affine[:3, 3] = turn @ [9.5, 9.5, 0]
    return share, affine


def on_axis(heights_mm: np.ndarray, turn: np.ndarray, front_mm: float = 0.0) -> np.ndarray:
    """Points at some heights above the lowest slice, in front of the cord."""
    place = np.stack([np.zeros_like(heights_mm), np.full_like(heights_mm, front_mm), heights_mm])
    return (turn @ place).T


def true_levels(n_slices: int, thickness_mm: float, top_of_c3_mm: float) -> list[str]:
    """Level of each slice by its middle."""
    below = (top_of_c3_mm - np.arange(n_slices) * thickness_mm) / LEVEL_MM
    return [level_name(3 + int(np.floor(b))) for b in below]


@pytest.mark.parametrize("turn", [np.eye(3), OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("front_mm", [0.0, 12.0])
@pytest.mark.parametrize("thickness_mm", [3.3, 5.0])
def test_discs_name_the_slices_between_them(thickness_mm, front_mm, turn):
    share, affine = cord(12, thickness_mm, turn)
    number = np.arange(2, 9)
    heights = 49.0 - (number - 3) * LEVEL_MM
    labels = Labels(number, on_axis(heights, turn, front_mm), are_discs=True)
    found = levels_of_slices(labels, share, affine)
    assert found.tolist() == true_levels(12, thickness_mm, 49.0)


@pytest.mark.parametrize("turn", [np.eye(3), OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("points", [False, True])
def test_vertebrae_name_their_slices_as_a_mask_or_as_points(points, turn):
    share, affine = cord(12, 5.0, turn)
    heights = np.array([8.0]) if points else np.arange(0.4, LEVEL_MM, 0.8)
    number = np.arange(2, 9)
    height = np.concatenate([49.0 - (n - 2) * LEVEL_MM + heights for n in number])
    labels = Labels(number.repeat(len(heights)), on_axis(height, turn), are_discs=False)
    assert levels_of_slices(labels, share, affine).tolist() == true_levels(12, 5.0, 49.0)


def test_what_the_labels_do_not_reach_stays_unknown():
    share, affine = cord(12, 5.0, np.eye(3))
    disc = Labels(np.array([5]), on_axis(np.array([27.0]), np.eye(3)), are_discs=True)
    assert levels_of_slices(disc, share, affine).tolist() == (
        [""] * 4 + ["C5"] * 2 + ["C4"] * 2 + [""] * 4
    )
    point = Labels(np.array([5]), on_axis(np.array([27.0]), np.eye(3)), are_discs=False)
    assert levels_of_slices(point, share, affine).tolist() == [""] * 5 + ["C5"] * 2 + [""] * 5
    far = Labels(np.array([5]), on_axis(np.array([400.0]), np.eye(3)), are_discs=True)
    assert set(levels_of_slices(far, share, affine)) == {""}


def test_without_a_cord_there_are_no_levels():
    share, affine = cord(3, 5.0, np.eye(3))
    disc = Labels(np.array([5]), on_axis(np.array([5.0]), np.eye(3)), are_discs=True)
    assert levels_of_slices(disc, 0 * share, affine).tolist() == [""] * 3


def test_a_bent_cord_of_the_phantom_has_the_levels_it_was_made_with():
    phantom = simulate(PhantomSettings(directions=6, b0_volumes=1, slices=10), 3)
    share = 1 - phantom.region_share[..., 0]
    # One labelled voxel in the middle of every slice, on a finer, turned grid far from its origin.
    centre = [np.argwhere(share[..., k] > 0.5).mean(axis=0) for k in range(10)]
    voxels = np.array([[*c, k] for k, c in enumerate(centre)])
    place_mm = voxels @ phantom.grid.affine[:3, :3].T + phantom.grid.affine[:3, 3]
    true = np.floor(phantom.level + 0.5).astype(int)  # 5.0 is the middle of C5
    labels = Labels(true, place_mm, are_discs=False)
    found = levels_of_slices(labels, share, phantom.grid.affine)
    assert found.tolist() == [level_name(n) for n in true]


@pytest.mark.data
def test_discs_of_the_template_give_the_levels_of_the_template(shared_data):
    folder = shared_data / "pam50" / "template"
    levels, discs, cord_image = (
        read_image(folder / f"PAM50_{name}.nii.gz") for name in ("levels", "label_disc", "cord")
    )
    chosen = slice(700, 960, 10)
    affine = levels.grid.affine.copy()
    affine[:3, 3] += 700 * affine[:3, 2]
    affine[:3, 2] *= 10
    voxels = np.argwhere((discs.data > 0) & (discs.data < 25))
    place_mm = voxels @ discs.grid.affine[:3, :3].T + discs.grid.affine[:3, 3]
    labels = Labels(discs.data[tuple(voxels.T)].astype(int), place_mm, are_discs=True)
    true = levels.data[..., chosen].max(axis=(0, 1)).astype(int)
    found = levels_of_slices(labels, cord_image.data[..., chosen], affine)
    assert found.tolist() == [level_name(n) for n in true]


# Files.


@pytest.fixture
def run(tmp_path: Path) -> DwiRun:
    """A run of ten slices of 5 mm, stored obliquely."""
    folder = tmp_path / "data" / "sub-01" / "ses-a" / "dwi"
    folder.mkdir(parents=True)
    _, affine = cord(10, 5.0, OBLIQUE)
    image = folder / "sub-01_ses-a_run-1_dwi.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((20, 20, 10, 2), np.int16), affine), image)
    entities = (("sub", "01"), ("ses", "a"), ("run", "1"))
    return DwiRun(image, image, image, (), entities)


def grid_of(run: DwiRun) -> Grid:
    return read_grid(run.image)[0]


def save_discs(folder: Path, name: str, top_of_c3_mm: float = 27.0, step: int = 1) -> Path:
    """Disc labels on a sagittal scan of 0.8 mm whose axes are those of the scanner."""
    data = np.zeros((40, 60, 160), np.uint8)
    affine = np.diag([1.5, 0.8, 0.8, 1.0])
    affine[:3, 3] = [-30, -24, -60]
    for number in range(2, 8):
        height = top_of_c3_mm - step * (number - 3) * LEVEL_MM
        place = on_axis(np.array([height]), OBLIQUE, 8.0)[0]
        voxel = np.round(np.linalg.solve(affine[:3, :3], place - affine[:3, 3])).astype(int)
        data[tuple(voxel)] = number
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), folder / name)
    return folder / name


def levels_of(run: DwiRun, source: Path) -> list[str]:
    path = find_levels(run, str(source))
    assert path is not None
    share, _ = cord(10, 5.0, OBLIQUE)
    return read_levels(path, run.prefix, share, grid_of(run)).tolist()


def test_disc_labels_on_an_anatomical_scan_are_found_and_mapped(run, tmp_path):
    labels = tmp_path / "labels"
    path = save_discs(labels / "sub-01/ses-a/anat", "sub-01_ses-a_T2w_label-discs_dlabel.nii.gz")
    assert find_levels(run, str(labels)) == path
    assert levels_of(run, labels) == true_levels(10, 5.0, 27.0)
    assert describe_levels(run, str(labels)) == "discs C2-C7 (other scan)"
    assert check_levels([run], {}, str(labels)) == ([run], {})


def test_labels_of_another_session_or_series_are_never_taken(run, tmp_path):
    labels = tmp_path / "labels"
    for name in (
        "sub-01/anat/sub-01_T2w_label-discs_dlabel.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_T2w_label-discs_dlabel.nii.gz",
        "sub-01/ses-a/dwi/sub-01_ses-a_run-2_label-vertebrae_dseg.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_T2w_label-SC_mask.nii.gz",
    ):
        (labels / name).parent.mkdir(parents=True, exist_ok=True)
        (labels / name).touch()
    assert find_levels(run, str(labels)) is None
    with pytest.raises(UsageError, match="none of sub-01_ses-a_run-1"):
        check_levels([run], {}, str(labels))


def test_labels_on_the_series_itself_come_first_and_masks_before_discs(run, tmp_path):
    labels = tmp_path / "labels"
    names = [
        "dwi/sub-01_ses-a_run-1_dwi_seg_labeled.nii.gz",
        "dwi/sub-01_ses-a_run-1_dwi_seg_labeled_discs.nii.gz",
        "anat/sub-01_ses-a_T2w_seg_labeled.nii.gz",
        "anat/sub-01_ses-a_T1w_seg_labeled.nii.gz",
    ]
    paths = [labels / "sub-01/ses-a" / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for path in paths:
        assert find_levels(run, str(labels)) == path
        path.unlink()


def test_names_of_participants_and_sessions_say_nothing_about_an_image(run, tmp_path):
    operated = replace(run, entities=(("sub", "vert01"), ("ses", "discectomy")))
    folder = tmp_path / "labels/sub-vert01/ses-discectomy/anat"
    stem = "sub-vert01_ses-discectomy_T2w"
    path = save_discs(folder, f"{stem}_label-vertebrae_dseg.nii.gz")
    save_discs(folder, f"{stem}.nii.gz")
    assert find_levels(operated, str(tmp_path / "labels")) == path
    assert describe_levels(operated, str(tmp_path / "labels")) == "labels C2-C7 (other scan)"
    path.unlink()
    assert find_levels(operated, str(tmp_path / "labels")) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"top_of_c3_mm": 4000.0}, "must lie where the series lies"),
        ({"step": -1, "top_of_c3_mm": -20.0}, "C3 lies above C2"),
    ],
)
def test_labels_that_cannot_belong_to_the_scan_are_a_fault_of_the_run(
    run, tmp_path, words, message
):
    folder = tmp_path / "labels" / "sub-01/ses-a/anat"
    path = folder / "sub-01_ses-a_T2w_label-discs_dlabel.nii.gz"
    if "step" in words:
        save_discs(folder, path.name, **words)
    else:
        save_discs(folder, path.name)
        moved = nib.load(path)
        affine = moved.affine.copy()
        affine[:3, 3] += 500
        nib.save(nib.Nifti1Image(np.asarray(moved.dataobj), affine), path)
    good, left_out = check_levels([run], {}, str(tmp_path / "labels"))
    assert good == []
    assert isinstance(left_out[run], ImageError)
    assert message in str(left_out[run])


def test_an_image_without_level_labels_is_a_fault(run, tmp_path):
    folder = tmp_path / "labels" / "sub-01/ses-a/anat"
    path = save_discs(folder, "sub-01_ses-a_T2w_label-discs_dlabel.nii.gz")
    image = nib.load(path)
    for factor in (0.0, 0.3, 100.0):
        data = np.asarray(image.dataobj).astype(np.float32) * factor
        nib.save(nib.Nifti1Image(data, image.affine), path)
        _, left_out = check_levels([run], {}, str(tmp_path / "labels"))
        assert "Labels of levels must" in str(left_out[run])


@pytest.mark.parametrize(
    "rows",
    [
        "slice\tlevel\n0-3\tc6\n4\t5\n5-6\tC5\n",
        "participant_id\tslice\tlevel\nsub-01\t0-3\tC6\n01\t4-6\tC5\nsub-02\t0-9\tC1\n",
        "participant_id\tsession\trun\tslice\tlevel\n01\ta\t01\t0-3\tC6\n01\tses-a\tn/a\t4-6\tC5\n"
        "01\tb\t1\t7\tC2\n01\ta\t2\t8\tC2\n",
        "run\tslice\tlevel\nsub-01_ses-a_run-1\t0-3\tC6\nsub-01_ses-a_run-1\t4-6\tC5\n",
    ],
)
def test_a_table_names_slices_of_the_runs_it_speaks_of(run, tmp_path, rows):
    path = tmp_path / "levels.tsv"
    path.write_text(rows)
    assert levels_of(run, path) == ["C6"] * 4 + ["C5"] * 3 + [""] * 3
    assert describe_levels(run, str(path)) == "C5-C6, table"


def test_a_table_without_any_level_tells_none(run, tmp_path):
    path = tmp_path / "levels.tsv"
    path.write_text("slice\tlevel\n0-9\tn/a\n")
    assert levels_of(run, path) == [""] * 10
    assert describe_levels(run, str(path)) == "-"


def test_a_table_that_speaks_of_others_gives_no_levels(run, tmp_path):
    path = tmp_path / "levels.tsv"
    path.write_text("participant_id\tslice\tlevel\nsub-02\t1\tC5\n")
    assert find_levels(run, str(path)) is None
    assert describe_levels(run, str(path)) == "-"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("slice\tlevel\n10\tC5\n", "gives a level to slice 10"),
        ("slice\tlevel\n0-2\tC3\n3-5\tC6\n", "and C6 to slice 3, which lies above it"),
        ("slice\tlevel\n1\tC5\n0-1\tC6\n", "both C5 and C6"),
        ("slice\tlevel\nlow\tC5\n", "must be a number"),
        ("slice\tlevel\n5-2\tC5\n", "must be a number"),
    ],
)
def test_a_faulty_row_is_a_fault_of_its_run(run, tmp_path, rows, message):
    path = tmp_path / "levels.tsv"
    path.write_text(rows)
    good, left_out = check_levels([run], {}, str(path))
    assert good == []
    assert isinstance(left_out[run], InputDataError)
    assert message in str(left_out[run])


@pytest.mark.parametrize("content", [None, "slice,level\n1,C5\n", "level\nC5\n", "\x00\xff"])
def test_a_table_that_cannot_be_used_is_wrong_usage(run, tmp_path, content):
    path = tmp_path / "levels.tsv"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match="table"):
        check_levels([run], {}, str(path))


def test_without_a_source_nothing_is_looked_for(run):
    assert find_levels(run, "") is None
    assert check_levels([run], {}, "") == ([run], {})
    assert describe_levels(run, "") == "-"
