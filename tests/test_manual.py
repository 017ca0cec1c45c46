"""Manual labels as training data: found, checked, cut, varied, held out by participant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scsnet_bids.errors import ImageError, InputDataError, UsageError
from scsnet_bids.images import Grid, Image, write_image
from scsnet_bids.regions import REGIONS, Side
from scsnet_bids.training.losses import soft_target_loss
from scsnet_bids.training.manual import ManualSlices, centre_crop, draw_manual, share_open_mass
from scsnet_bids.training.manual_files import find_drawings, read_drawing
from scsnet_bids.training.settings import DataSettings
from scsnet_bids.training.sources import read_training_data

SHAPE, SPACING_MM = (48, 44, 3), (0.9, 0.9, 5.0)
STORED = {
    "LPS": np.array([[0, -1], [1, -1], [2, 1]]),
    "RAS": np.array([[0, 1], [1, 1], [2, 1]]),
}


def grid(storage: str = "LPS") -> Grid:
    return Grid(SHAPE, np.diag([-0.9, -0.9, 5.0, 1.0]), STORED[storage].astype(float))


def drawn_labels() -> np.ndarray:
    """Eight blocks in two slices, left regions on the left, nothing in the last slice."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for region in REGIONS:
        i = 24 if region.side is Side.LEFT else 20
        j = 16 + 2 * ((region.label - 1) // 2)
        labels[i : i + 4, j : j + 2, :2] = region.label
    return labels


def signal() -> np.ndarray:
    """Signal of 150 in the cord and 100 outside, with a little texture."""
    texture = np.random.default_rng(0).normal(0, 1, SHAPE)
    return (100 + 50 * (drawn_labels() > 0) + texture).astype(np.float32)


def write_drawing(
    folder: Path,
    label: str = "01",
    ending: str = "seg-manual_dseg",
    labels: np.ndarray | None = None,
    storage: str = "LPS",
) -> None:
    """Write labels and a b=0 image of one participant."""
    labels = drawn_labels() if labels is None else labels
    here = folder / f"sub-{label}" / "dwi"
    here.mkdir(parents=True, exist_ok=True)
    write_image(here / f"sub-{label}_{ending}.nii.gz", Image(labels, grid(storage)))
    write_image(here / f"sub-{label}_desc-b0_dwiref.nii.gz", Image(signal(), grid(storage)))


def only_slices(folder: Path, images: Path | None = None) -> ManualSlices:
    """Read the one drawing of a folder."""
    (drawing,) = find_drawings(folder, images or folder)
    return read_drawing(drawing)


@pytest.mark.parametrize("storage", STORED)
def test_a_drawing_becomes_the_area_of_its_regions_on_the_patients_sides(storage, tmp_path: Path):
    write_drawing(tmp_path, storage=storage)
    slices = only_slices(tmp_path)
    assert slices.participants == ("01", "01")
    area_mm2 = slices.target.sum(dim=(2, 3)) / 4
    np.testing.assert_allclose(area_mm2[:, 1:], 8 * 0.81, rtol=0.12)
    columns = (slices.target.sum(dim=(0, 2)) * torch.arange(128)).sum(dim=1)
    columns = columns / slices.target.sum(dim=(0, 2, 3))
    for region in REGIONS:
        assert bool(columns[region.label] > 63.5) == (region.side is Side.LEFT)


def test_the_image_lies_where_its_labels_lie(tmp_path: Path):
    write_drawing(tmp_path)
    slices = only_slices(tmp_path)
    deep = slices.target[:, 0] < 0.01
    outside = (slices.target[:, 0] > 0.99) & slices.inside
    assert slices.images[deep].median() == pytest.approx(150, abs=1)
    assert slices.images[outside].median() == pytest.approx(100, abs=1)


def test_a_series_gives_the_mean_of_its_b0_volumes(tmp_path: Path):
    write_drawing(tmp_path / "labels")
    folder = tmp_path / "raw" / "sub-01" / "dwi"
    folder.mkdir(parents=True)
    (tmp_path / "labels/sub-01/dwi/sub-01_desc-b0_dwiref.nii.gz").unlink()
    series = np.stack([signal() * factor for factor in (1, 9, 3)], axis=-1)
    write_image(folder / "sub-01_dwi.nii.gz", Image(series, grid()))
    (folder / "sub-01_dwi.bval").write_text("0 800 5\n")
    slices = only_slices(tmp_path / "labels", tmp_path / "raw")
    assert slices.images[slices.target[:, 0] < 0.01].median() == pytest.approx(300, abs=2)
    (folder / "sub-01_dwi.bval").write_text("0 800\n")
    with pytest.raises(ImageError, match="3 volumes and 2 b-values"):
        only_slices(tmp_path / "labels", tmp_path / "raw")


def test_regions_go_before_a_cord_mask_of_the_same_image(tmp_path: Path):
    write_drawing(tmp_path)
    write_drawing(tmp_path, ending="label-SC_mask", labels=(drawn_labels() > 0).astype(np.uint8))
    (drawing,) = find_drawings(tmp_path, tmp_path)
    assert drawing.of_regions


def test_a_cord_mask_leaves_the_regions_open(tmp_path: Path):
    write_drawing(tmp_path, ending="label-SC_mask", labels=(drawn_labels() > 0).astype(np.uint8))
    slices = only_slices(tmp_path)
    assert not slices.has_regions.any()
    cord_mm2 = (1 - slices.target.sum(dim=1)).sum(dim=(1, 2)) / 4
    np.testing.assert_allclose(cord_mm2, 64 * 0.81, rtol=0.05)


def test_a_drawing_is_of_the_image_that_its_name_tells(tmp_path: Path):
    cord = (drawn_labels() > 0).astype(np.uint8)
    write_drawing(tmp_path, ending="T2starw_seg-manual", labels=cord)
    write_image(tmp_path / "sub-01/dwi/sub-01_T2starw.nii.gz", Image(2 * signal(), grid()))
    slices = only_slices(tmp_path)
    assert slices.images[slices.inside].median() == pytest.approx(200, abs=2)


def test_a_cord_mask_teaches_the_outline_and_no_region_against_another():
    torch.manual_seed(0)
    logits = torch.randn(1, 9, 4, 4, requires_grad=True)
    cord = torch.rand(1, 4, 4)
    target = torch.zeros(1, 9, 4, 4)
    target[:, 0] = 1 - cord
    filled = share_open_mass(logits, target)
    torch.testing.assert_close(filled.sum(dim=1), torch.ones(1, 4, 4))
    entropy = -(filled * logits.log_softmax(dim=1)).sum(dim=1).sum()
    (slope,) = torch.autograd.grad(entropy, logits)
    probability = logits.softmax(dim=1)
    inside = 1 - probability[:, :1]
    expected = probability[:, 1:] / inside * (inside - cord[:, None])
    torch.testing.assert_close(slope[:, 1:], expected)


def test_full_labels_are_not_changed_by_filling():
    torch.manual_seed(0)
    target = torch.rand(2, 9, 4, 4).softmax(dim=1)
    logits = torch.randn(2, 9, 4, 4)
    torch.testing.assert_close(share_open_mass(logits, target), target)
    assert torch.isfinite(soft_target_loss(logits, share_open_mass(logits, target)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x + 1, "whole labels from 0 to 8"),
        (lambda x: x * 0, "0 labelled"),
        (lambda x: x[::-1].copy(), "left regions lie right"),
        (lambda x: x * np.float32(0.5), "whole labels"),
    ],
)
def test_labels_that_cannot_be_right_are_refused(change, message, tmp_path: Path):
    write_drawing(tmp_path, labels=change(drawn_labels()))
    with pytest.raises((ImageError, InputDataError), match=message):
        only_slices(tmp_path)


def test_labels_on_another_grid_are_refused(tmp_path: Path):
    write_drawing(tmp_path)
    path = tmp_path / "sub-01/dwi/sub-01_seg-manual_dseg.nii.gz"
    moved = grid()
    moved.affine[0, 3] += 3
    write_image(path, Image(drawn_labels(), moved))
    with pytest.raises(ImageError, match="one grid"):
        only_slices(tmp_path)


def test_a_drawing_without_its_image_is_refused(tmp_path: Path):
    write_drawing(tmp_path)
    (tmp_path / "sub-01/dwi/sub-01_desc-b0_dwiref.nii.gz").unlink()
    with pytest.raises(UsageError, match=r"needs its image.*--images"):
        find_drawings(tmp_path, tmp_path)


def test_two_drawings_of_one_image_are_refused(tmp_path: Path):
    write_drawing(tmp_path)
    write_drawing(tmp_path, ending="seg-SCSNet_dseg")
    with pytest.raises(UsageError, match="needs one drawing"):
        find_drawings(tmp_path, tmp_path)


@pytest.fixture
def slices(tmp_path: Path) -> ManualSlices:
    write_drawing(tmp_path)
    return only_slices(tmp_path)


def test_drawn_slices_keep_their_regions_whole(slices: ManualSlices):
    images, target = draw_manual(slices, 40, torch.Generator().manual_seed(1))
    assert images.shape == (40, 1, 96, 96)
    assert torch.isfinite(images).all()
    torch.testing.assert_close(target.sum(dim=1), torch.ones(40, 96, 96))
    area_mm2 = target[:, 1:].sum(dim=(2, 3)) / 4
    assert area_mm2.min() > 0.5 * 8 * 0.81
    assert area_mm2.std(dim=0).min() > 0.05
    centre = (target[:, 1:].sum(dim=(1, 2)) * torch.arange(96)).sum(dim=1)
    assert (centre / target[:, 1:].sum(dim=(1, 2, 3))).std() > 4


def test_the_same_seed_draws_the_same_slices(slices: ManualSlices):
    first, again, other = (
        draw_manual(slices, 3, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_the_middle_of_a_patch_is_cut_unchanged(slices: ManualSlices):
    images, target = centre_crop(slices)
    assert images.shape == (2, 1, 96, 96)
    assert torch.equal(target, slices.target[:, :, 16:-16, 16:-16])


def held_out(folder: Path, **data: object) -> list[str]:
    """Participants that a training on a folder would hold out."""
    settings = DataSettings(labels=str(folder), **data)  # type: ignore[arg-type]
    seen, apart, _ = read_training_data(settings, seed=0)
    names = set(apart.manual.participants) if apart.manual else set()
    assert not names & set(seen.manual.participants)
    return sorted(names)


def test_participants_are_held_out_whole(tmp_path: Path):
    for label in ("01", "02ses1", "02ses2", "03", "04"):
        write_drawing(tmp_path, label)
    for label in ("02", "sub-02"):
        assert held_out(tmp_path, held_out=(label,)) == ["02ses1", "02ses2"]
    assert len(held_out(tmp_path, held_out_share=0.4)) == 2
    assert held_out(tmp_path, held_out_share=0.0) == []
    with pytest.raises(UsageError, match="no sub-9"):
        held_out(tmp_path, held_out=("9",))
    with pytest.raises(UsageError, match="must remain"):
        held_out(tmp_path, held_out=("0",))


def test_only_the_participants_that_are_named_are_used(tmp_path: Path):
    for label in ("01", "02", "03"):
        write_drawing(tmp_path, label)
    settings = DataSettings(labels=str(tmp_path), participants=("sub-01", "03"), held_out=("03",))
    seen, apart, _ = read_training_data(settings, seed=0)
    assert set(seen.manual.participants) == {"01"}
    assert set(apart.manual.participants) == {"03"}
    with pytest.raises(UsageError, match="none of 04"):
        read_training_data(DataSettings(labels=str(tmp_path), participants=("04",)), seed=0)


def test_a_single_participant_cannot_be_held_out(tmp_path: Path):
    write_drawing(tmp_path)
    with pytest.raises(UsageError, match="none with --held-out-share 0"):
        held_out(tmp_path)
