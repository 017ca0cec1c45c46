"""Anatomies from masks that people drew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scsnet_bids.benchmark.drawn_cords import read_drawn_cords
from scsnet_bids.errors import UsageError
from scsnet_bids.images import Grid, Image, write_image
from scsnet_bids.training.shapes import SCALE_TO_PAM50, read_shapes, symmetric_anatomies

SPACING_MM = np.array([0.5, 0.5])
LATERAL, DORSAL, VENTRAL, GRAY = range(4)
PLACE_MM = (np.arange(48) - 23.5) / 2
"""Positions of the pixels of a map."""


def draw_masks(
    angle_deg: float = 0, shift_mm: tuple[float, float] = (0, 0), right_half_width_mm: float = 6.0
) -> tuple[np.ndarray, np.ndarray]:
    """Cord (an ellipse, 8 mm high) and gray matter like an H, turned and moved (right, back)."""
    down, across = np.meshgrid(*[np.arange(-12, 12, 0.5)] * 2, indexing="ij")
    x, y = across - shift_mm[0], down - shift_mm[1]
    angle = np.radians(angle_deg)
    x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    half_width = np.where(x > 0, 6.0, right_half_width_mm)
    cord = (x / half_width) ** 2 + (y / 4) ** 2 < 1
    side = abs(x)
    commissure = (side < 2) & (abs(y) < 0.6)
    ventral_horn = (side - 2) ** 2 + (y + 1) ** 2 < 1.2**2
    dorsal_horn = (abs(side - 1.5 - 0.6 * y) < 0.6) & (y > 0) & (y < 2.8)
    return cord, (commissure | ventral_horn | dorsal_horn) & cord


def fraction_at(maps: np.ndarray, x_mm: float, y_mm: float) -> np.ndarray:
    """(2, 4) fractions of the tissues in one pixel of both anatomies."""
    row, column = (np.abs(PLACE_MM - place).argmin() for place in (y_mm, x_mm))
    return maps[:, :, row, column]


def write_pair(
    folder: Path, label: str, *, move_gray_mm: float = 0, speck_in: tuple[int, ...] = ()
) -> None:
    """Write both masks of a participant, two slices 5 mm apart, some with a speck of gray."""
    affine = np.diag([-0.5, -0.5, 5.0, 1.0])
    for mask, ending in zip(draw_masks(), ("seg", "gmseg"), strict=True):
        affine = affine.copy()
        affine[0, 3] = move_gray_mm if ending == "gmseg" else 0
        grid = Grid((48, 48, 2), affine, np.array([[0, -1], [1, -1], [2, 1]]))
        volume = np.repeat(mask.T[:, :, None], 2, axis=2).astype(np.uint8)
        if ending == "gmseg":
            volume[..., speck_in] = 0
            volume[24, 24, speck_in] = 1
        path = folder / f"sub-{label}" / "anat" / f"sub-{label}_T2starw_{ending}-manual.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, Image(volume, grid))


def test_both_anatomies_are_symmetric_and_no_pixel_is_more_than_full():
    maps = symmetric_anatomies(*draw_masks(angle_deg=7, right_half_width_mm=5), SPACING_MM)
    assert maps.shape == (2, 4, 48, 48)
    np.testing.assert_array_equal(maps, maps[..., ::-1])
    assert maps.min() >= 0
    assert maps.sum(axis=1).max() <= 1


def test_cord_and_gray_matter_keep_their_areas():
    cord, gray = draw_masks()
    maps = symmetric_anatomies(cord, gray, SPACING_MM)
    np.testing.assert_allclose(maps.sum(axis=(1, 2, 3)), cord.sum(), rtol=0.02)
    np.testing.assert_allclose(maps[:, GRAY].sum(axis=(1, 2)), gray.sum(), rtol=0.08)


def test_each_half_gives_an_anatomy_of_its_own_size():
    cord, gray = draw_masks(right_half_width_mm=5)
    maps = symmetric_anatomies(cord, gray, SPACING_MM)
    first, second = maps.sum(axis=(1, 2, 3))
    assert first > 1.05 * second  # the half at larger columns comes first
    assert (first + second) / 2 == pytest.approx(cord.sum(), rel=0.02)


@pytest.mark.parametrize(
    ("angle_deg", "shift_mm"), [(0, (2.5, -1.5)), (10, (0, 0)), (-13, (1.3, 2.1))]
)
def test_a_turned_and_shifted_mask_gives_the_anatomy_of_the_upright_one(angle_deg, shift_mm):
    upright = symmetric_anatomies(*draw_masks(), SPACING_MM)
    found = symmetric_anatomies(*draw_masks(angle_deg, shift_mm), SPACING_MM)
    overlap = 2 * np.minimum(found, upright).sum(axis=(0, 2, 3))
    dice = overlap / (found + upright).sum(axis=(0, 2, 3))
    assert dice.min() > 0.88


def test_the_columns_lie_where_the_horns_say():
    maps = symmetric_anatomies(*draw_masks(), SPACING_MM)
    for x, y, tissue in [
        (0.75, 2.25, DORSAL),
        (0.25, 3.25, DORSAL),
        (0.75, -2.75, VENTRAL),
        (4.75, 0.25, LATERAL),
        (3.75, 2.25, LATERAL),
        (0.75, 0.25, GRAY),
        (2.25, -1.25, GRAY),
    ]:
        np.testing.assert_array_equal(fraction_at(maps, x, y).argmax(axis=1), tissue)
        np.testing.assert_array_equal(fraction_at(maps, -x, y), fraction_at(maps, x, y))


def test_voxels_that_are_not_square_give_the_same_anatomy():
    cord, gray = draw_masks()
    square = symmetric_anatomies(cord, gray, SPACING_MM)
    coarse = symmetric_anatomies(cord[::2], gray[::2], SPACING_MM * (2, 1))
    overlap = 2 * np.minimum(square, coarse).sum() / (square + coarse).sum()
    assert overlap > 0.85


def test_participants_are_held_out_by_the_start_of_their_label(tmp_path: Path):
    for label in ("07ses1", "07ses2", "08"):
        write_pair(tmp_path, label)
    seen, held_out = read_shapes(tmp_path, ["07"])
    assert (len(seen.maps), len(held_out.maps)) == (4, 8)  # slices x sides
    assert seen.stack.tolist() == [0, 0, 1, 1]
    assert held_out.spacing_mm.unique().tolist() == [5.0]
    assert held_out.scale.unique().tolist() == [pytest.approx(SCALE_TO_PAM50)]


def test_nobody_is_held_out_unless_asked(tmp_path: Path):
    write_pair(tmp_path, "08")
    seen, held_out = read_shapes(tmp_path)
    assert len(seen.maps) == 4
    assert held_out is None


def test_a_folder_without_masks_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"manual masks.*holds no"):
        read_shapes(tmp_path)


def test_a_held_out_label_that_names_nobody_is_refused(tmp_path: Path):
    write_pair(tmp_path, "08")
    with pytest.raises(UsageError, match="found 09, there are 08"):
        read_shapes(tmp_path, ["08", "09"])


def test_masks_on_two_grids_are_refused(tmp_path: Path):
    write_pair(tmp_path, "08", move_gray_mm=1.0)
    with pytest.raises(UsageError, match=r"on one grid.*gmseg-manual"):
        read_shapes(tmp_path)


def test_a_slice_with_a_speck_of_gray_matter_is_left_out(tmp_path: Path):
    write_pair(tmp_path, "08", speck_in=(1,))
    seen, _ = read_shapes(tmp_path)
    assert seen.stack.tolist() == [0, 1]  # one slice, two sides


def test_masks_without_any_slice_to_learn_from_are_refused(tmp_path: Path):
    write_pair(tmp_path, "08", speck_in=(0, 1))
    with pytest.raises(UsageError, match=r"must show some slice.*gmseg-manual"):
        read_shapes(tmp_path)


@pytest.mark.data
def test_a_real_drawing_gives_symmetric_cords_of_a_plausible_make_up(
    shared_data: Path, tmp_path: Path
):
    drawn = shared_data / "gm-challenge" / "derivatives" / "labels" / "sub-9418"
    (tmp_path / drawn.name).symlink_to(drawn)
    seen, _ = read_shapes(tmp_path)
    torch.testing.assert_close(seen.maps, seen.maps.flip(-1))
    area_mm2 = seen.maps.sum(dim=(1, 2, 3)) / 4
    assert 50 < area_mm2.min() < area_mm2.max() < 120
    share = seen.maps.sum(dim=(0, 2, 3)) / seen.maps.sum()
    assert 0.1 < share[GRAY] < 0.25
    assert share[LATERAL] > share[DORSAL] > share[VENTRAL] > 0.08


def test_cords_for_phantoms_are_those_of_the_people_that_are_named(tmp_path):
    for label in ("08", "09"):
        write_pair(tmp_path, label)
    assert len(read_drawn_cords(tmp_path, [])) == 4
    left, right = read_drawn_cords(tmp_path, ["09"])
    cord, _ = draw_masks()
    for drawn in (left, right):
        area_mm2 = drawn.tissue_share.sum(axis=(1, 2, 3)) * drawn.pixel_mm**2
        np.testing.assert_allclose(area_mm2, cord.sum() * SPACING_MM.prod(), rtol=0.02)
    with pytest.raises(UsageError, match="carl"):
        read_drawn_cords(tmp_path, ["carl"])
