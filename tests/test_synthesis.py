"""The synthetic slices that teach the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scsnet_bids.errors import UsageError
from scsnet_bids.network.model import mirror
from scsnet_bids.regions import MIRROR, REGIONS, Side, Tissue
from scsnet_bids.training.atlas import read_atlas
from scsnet_bids.training.augment import acquire, draw_batch
from scsnet_bids.training.synthesis import Draws, draw_slices
from scsnet_bids.training.weighting import draw_b0_and_dwi, mean_attenuation


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_area_fractions_of_every_pixel_sum_to_one(toy_atlas):
    images, target = draw_batch(toy_atlas, 24, seeded(0))
    assert images.shape == (24, 1, 96, 96)
    assert target.shape == (24, 9, 96, 96)
    torch.testing.assert_close(target.sum(dim=1), torch.ones(24, 96, 96))
    assert target.min() > -1e-5
    assert torch.isfinite(images).all()


def test_the_same_seed_draws_the_same_slices(toy_atlas):
    first, again = (draw_batch(toy_atlas, 4, seeded(7)) for _ in range(2))
    other = draw_batch(toy_atlas, 4, seeded(8))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_some_slices_hold_no_cord_and_most_do(toy_atlas):
    _, target = draw_batch(toy_atlas, 200, seeded(1))
    empty = (target[:, 1:].sum(dim=(1, 2, 3)) < 1).float().mean()
    assert 0.06 < empty < 0.22


def test_left_lies_at_larger_columns_and_dorsal_at_larger_rows(toy_atlas):
    target = draw_slices(toy_atlas, Draws(60, seeded(2))).target
    mass = target.sum(dim=(0, 2, 3))
    rows = (target.sum(dim=(0, 3)) * torch.arange(128)).sum(dim=1) / mass
    columns = (target.sum(dim=(0, 2)) * torch.arange(128)).sum(dim=1) / mass
    for region in REGIONS:
        if region.side is Side.LEFT:
            assert columns[region.label] > columns[region.mirrored.label] + 3
        if region.tissue is Tissue.DORSAL_COLUMN:
            ventral = next(
                r for r in REGIONS if r.side is region.side and r.tissue is Tissue.VENTRAL_COLUMN
            )
            assert rows[region.label] > rows[ventral.label] + 4


def test_left_and_right_are_equally_large_on_average(toy_atlas):
    _, target = draw_batch(toy_atlas, 200, seeded(3))
    mass = target.sum(dim=(0, 2, 3))
    np.testing.assert_allclose(mass[1:], mass[torch.from_numpy(MIRROR)][1:], rtol=0.06)


def test_mirroring_swaps_left_and_right(toy_atlas):
    images, target = draw_batch(toy_atlas, 2, seeded(4))
    mirrored = mirror(target, axis_of_classes=1)
    for region in REGIONS:
        partner = target[:, region.mirrored.label]
        assert torch.equal(mirrored[:, region.label], partner.flip(-1))
    assert torch.equal(mirror(images), images.flip(-1))


def test_mirroring_twice_changes_nothing(toy_atlas):
    _, target = draw_batch(toy_atlas, 2, seeded(5))
    assert torch.equal(mirror(mirror(target, axis_of_classes=1), axis_of_classes=1), target)


def test_the_mean_dwi_belongs_to_the_anatomy_of_its_b0(toy_atlas):
    alone, target = draw_batch(toy_atlas, 6, seeded(6))
    both, same_target = draw_batch(toy_atlas, 6, seeded(6), n_images=2)
    assert both.shape == (6, 2, 96, 96)
    assert torch.equal(same_target, target)
    assert torch.isfinite(both).all()
    assert alone.shape == (6, 1, 96, 96)


def test_fluid_loses_more_signal_than_the_cord_and_gray_matter_more_than_columns(toy_atlas):
    anatomy = draw_slices(toy_atlas, Draws(60, seeded(7)))
    flat = replace(
        anatomy,
        brightness=torch.ones_like(anatomy.brightness),
        texture=torch.ones_like(anatomy.texture),
        around=torch.ones_like(anatomy.around),
    )
    weighted = draw_b0_and_dwi(flat, Draws(60, seeded(8)))[0][:, 1]
    cord = flat.regions.sum(dim=1)
    lateral, gray = (flat.regions[:, pair].sum(dim=1) > 0.99 for pair in (slice(2), slice(6, 8)))
    fluid = (flat.canal > 0.99) & (cord < 0.01)
    means = [(weighted * x).sum(dim=(1, 2)) / x.sum(dim=(1, 2)) for x in (lateral, gray, fluid)]
    of_gray, of_fluid = (100 * (mean / means[0]).nanmean() for mean in means[1:])
    assert 90 < of_gray < 98
    assert of_fluid < 40


def test_the_mean_attenuation_is_that_of_many_directions():
    fa, md, b_value = (torch.tensor(value) for value in (0.7, 0.9, 1.2))
    spread = fa * md / (3 - 2 * fa**2).sqrt()
    cosine = torch.linspace(0, 1, 10001)  # the directions of a sphere fill its heights evenly
    signal = torch.exp(-b_value * (md - spread + 3 * spread * cosine**2))
    torch.testing.assert_close(
        mean_attenuation(fa, md, b_value), torch.trapezoid(signal, cosine), rtol=1e-4, atol=0
    )


def test_a_mean_of_many_volumes_has_little_noise_and_the_floor_of_one(toy_atlas):
    draws = Draws(8, seeded(9))
    pose = draw_slices(toy_atlas, draws).pose
    levels = torch.tensor([1.0, 1.0, 0.0])[:, None, None].expand(8, 3, 128, 128)
    images, inside = acquire(levels, torch.tensor([1.0, 64.0, 64.0]), pose, draws)
    inner = slice(32, 64)  # far from any edge that rings
    one, mean, empty = (images[:, c, inner, inner].flatten(1) for c in range(3))
    whole = inside[:, inner, inner].flatten(1).all(dim=1)
    assert whole.sum() > 3
    deviation = one.std(dim=1)[whole]
    assert (mean.std(dim=1)[whole] < 0.3 * deviation).all()
    assert (empty.mean(dim=1)[whole] > 1.1 * deviation).all()
    assert (empty.mean(dim=1)[whole] > 4 * empty.std(dim=1)[whole]).all()  # of one volume: 1.9


def test_b0_lies_a_little_beside_the_mean_dwi(toy_atlas):
    anatomy = draw_slices(toy_atlas, Draws(40, seeded(10)))
    images = draw_b0_and_dwi(anatomy, Draws(40, seeded(11)))[0]
    moved = images[:, 0] - anatomy.b0
    slope_y, slope_x = torch.gradient(anatomy.b0, spacing=0.5, dim=(1, 2))
    slopes = torch.stack([slope_x, slope_y], dim=-1).flatten(1, 2)
    shift = -torch.linalg.lstsq(slopes, moved.flatten(1)[..., None]).solution[..., 0]
    assert (shift.std(dim=0) < 0.35).all()
    assert (shift.std(dim=0) > 0.1).all()


def test_no_slice_is_both_trained_on_and_held_out(toy_atlas):
    numbered = replace(toy_atlas, half_size_mm=torch.arange(96.0)[:, None].repeat(1, 2))
    seen, held_out = numbered.split()
    assert len(seen.maps) + len(held_out.maps) == 96
    assert held_out.half_size_mm[:, 0].tolist() == list(range(84, 96))
    assert not set(seen.half_size_mm[:, 0].tolist()) & set(held_out.half_size_mm[:, 0].tolist())


def test_a_folder_without_the_atlas_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="PAM50_levels"):
        read_atlas(tmp_path)


@pytest.mark.data
def test_the_atlas_is_symmetric_upright_and_of_the_size_of_a_cord(shared_data: Path):
    atlas = read_atlas(shared_data / "pam50")
    torch.testing.assert_close(atlas.maps, atlas.maps.flip(-1))
    area_mm2 = atlas.maps.sum(dim=(1, 2, 3)) / 4
    assert 35 < area_mm2.min() < area_mm2.max() < 80
    rows = (atlas.maps.sum(dim=(0, 3)) * torch.arange(48)).sum(dim=1)
    _, dorsal, ventral, _ = rows / atlas.maps.sum(dim=(0, 2, 3))
    assert dorsal > ventral + 4
