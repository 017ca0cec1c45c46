from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scsnet_bids.arrays import FloatArray
from scsnet_bids.correction.alignment import B0ToDwi, estimate_b0_to_dwi
from scsnet_bids.images import Grid, read_image
from scsnet_bids.settings import AlignmentSettings
from scsnet_bids.slices import PlaneGrid, average_over_voxels, slices_to_volume, volume_to_slices

K = 10
GRID = Grid((40, 34, K), np.diag([0.9, 0.9, 5.0, 1.0]), np.array([[0, 1], [1, 1], [2, 1]]))
PLANE = PlaneGrid(start_mm=(2.0, 1.0), shape=(64, 56), spacing_mm=(0.5, 0.5))
HEIGHT = np.linspace(-1, 1, K)
COURSE_MM = np.stack([0.2 * HEIGHT, 0.5 + 0.3 * HEIGHT - 0.2 * HEIGHT**2], axis=1)


def cord_share() -> FloatArray:
    """Ellipses of 12 by 9 mm that wander along z, with soft edges."""
    left, posterior = np.meshgrid(PLANE.positions_mm(0), PLANE.positions_mm(1))
    across = (left - (18 + HEIGHT[:, None, None])) / 6.0
    along = (posterior - (14.5 - HEIGHT[:, None, None])) / 4.5
    return 1 / (1 + np.exp((np.hypot(across, along) - 1) * 12))


def mean_dwi(
    shift_mm: FloatArray, rng: np.random.Generator, noise: float = 1 / 7, contrast: float = 1.0
) -> FloatArray:
    """Show the displaced cord, of brightness 1, on a sloping background."""
    voxels = PlaneGrid.of_image(GRID)
    cord = np.stack(
        [
            average_over_voxels(share, PLANE, voxels, (float(shift[0]), float(shift[1])))
            for share, shift in zip(cord_share(), shift_mm, strict=True)
        ]
    )
    slope = np.linspace(0.3, 0.5, cord.shape[2])
    return slices_to_volume(contrast * cord + slope + rng.normal(0, noise, cord.shape))


def estimate(image: FloatArray, share: FloatArray | None = None, **changed: float) -> B0ToDwi:
    share = cord_share() if share is None else share
    return estimate_b0_to_dwi(share, PLANE, image, GRID, AlignmentSettings(**changed))


def rms(vectors: FloatArray) -> float:
    return float(np.sqrt((vectors**2).sum(axis=-1).mean()))


def test_the_displacement_toward_left_and_back_is_found(rng: np.random.Generator) -> None:
    shift_mm = np.tile([0.6, 0.9], (K, 1))
    found = estimate(mean_dwi(shift_mm, rng, noise=0.02))
    assert found.trusted.all()
    np.testing.assert_allclose(found.shift_mm, shift_mm, atol=0.06)


def test_a_course_along_z_is_found_in_noise(rng: np.random.Generator) -> None:
    found = estimate(mean_dwi(COURSE_MM, rng))
    assert found.trusted.all()
    assert rms(found.shift_mm - COURSE_MM) < 0.1
    assert rms(COURSE_MM) > 0.4


def test_no_displacement_is_left_alone(rng: np.random.Generator) -> None:
    assert rms(estimate(mean_dwi(np.zeros((K, 2)), rng)).shift_mm) < 0.1


def test_a_slice_without_contrast_borrows_from_its_neighbours(rng: np.random.Generator) -> None:
    image = mean_dwi(COURSE_MM, rng)
    image[:, :, [0, 4, 5]] = rng.normal(0.4, 1 / 7, (*image.shape[:2], 3))
    found = estimate(image)
    np.testing.assert_array_equal(np.flatnonzero(~found.trusted), [0, 4, 5])
    assert rms(found.shift_mm - COURSE_MM) < 0.12


def test_a_slice_where_the_cord_was_drawn_wrong_follows_its_neighbours(
    rng: np.random.Generator,
) -> None:
    share = cord_share()
    share[5] = np.roll(share[5], 2, axis=0)  # 1 mm too far back
    found = estimate(mean_dwi(COURSE_MM, rng), share)
    wrong_mm = COURSE_MM[5, 1] - 1.0
    assert found.trusted[5]
    assert found.shift_mm[5, 1] > wrong_mm + 0.3


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_slices_without_a_cord_or_with_nothing_else_are_not_trusted(
    rng: np.random.Generator, share: float
) -> None:
    shares = cord_share()
    shares[3] = share
    found = estimate(mean_dwi(COURSE_MM, rng), shares)
    np.testing.assert_array_equal(np.flatnonzero(~found.trusted), [3])
    assert rms(found.shift_mm[3] - COURSE_MM[3]) < 0.2


@pytest.mark.parametrize("value", [np.nan, 0.0, 5.0])
def test_slices_without_an_image_are_not_trusted(rng: np.random.Generator, value: float) -> None:
    image = mean_dwi(COURSE_MM, rng)
    image[:, :, 7] = value
    found = estimate(image)
    np.testing.assert_array_equal(np.flatnonzero(~found.trusted), [7])
    assert rms(found.shift_mm - COURSE_MM) < 0.12


def test_a_cord_darker_than_its_surroundings_is_not_trusted(rng: np.random.Generator) -> None:
    found = estimate(mean_dwi(COURSE_MM, rng, contrast=-1.0))
    assert not found.trusted.any()
    assert not found.shift_mm.any()


def test_without_any_cord_nothing_moves(rng: np.random.Generator) -> None:
    found = estimate(mean_dwi(COURSE_MM, rng), np.zeros_like(cord_share()))
    assert not found.trusted.any()
    assert not found.shift_mm.any()


def test_the_displacement_applied_is_bounded(rng: np.random.Generator) -> None:
    moved = mean_dwi(np.tile([0.0, 1.2], (K, 1)), rng)
    found = estimate(moved, max_shift_mm=0.8, max_common_mm=0.0)
    assert found.trusted.all()
    np.testing.assert_allclose(np.linalg.norm(found.shift_mm, axis=1), 0.8)


def test_a_displacement_beyond_reach_is_not_trusted(rng: np.random.Generator) -> None:
    found = estimate(mean_dwi(np.tile([0.0, 4.0], (K, 1)), rng, noise=0.02), max_common_mm=2.0)
    assert not found.trusted.any()
    assert not found.shift_mm.any()


@pytest.mark.parametrize("jump_mm", [(0.0, 4.0), (-3.0, 0.5), (1.3, 1.5), (0.0, 1.2), (-1.6, -0.5)])
def test_a_jump_between_both_kinds_is_found_and_the_course_beside_it(rng, jump_mm) -> None:
    shift_mm = COURSE_MM + jump_mm
    found = estimate(mean_dwi(shift_mm, rng, noise=0.05))
    assert found.trusted.all()
    assert rms(found.shift_mm - shift_mm) < 0.15


def test_tissue_that_a_few_slices_show_elsewhere_is_no_jump(rng: np.random.Generator) -> None:
    elsewhere = np.where(np.arange(K) < 3, 4.0, 0.0)
    found = estimate(mean_dwi(np.stack([0 * elsewhere, elsewhere], axis=1), rng, noise=0.05))
    assert np.abs(found.shift_mm).max() < 1.5
    np.testing.assert_array_equal(np.flatnonzero(~found.trusted), [0, 1, 2])


def test_no_displacement_is_allowed(rng: np.random.Generator) -> None:
    found = estimate(mean_dwi(COURSE_MM, rng), max_shift_mm=0.0, max_common_mm=0.0)
    assert not found.shift_mm.any()


def test_bright_tissue_beyond_the_rim_has_no_say(rng: np.random.Generator) -> None:
    image = mean_dwi(COURSE_MM, rng)
    image[:5, :, :] += 3.0
    image[:, -3:, :] += 3.0
    assert rms(estimate(image).shift_mm - COURSE_MM) < 0.15


def test_a_single_slice_is_enough(rng: np.random.Generator) -> None:
    image = mean_dwi(COURSE_MM, rng, noise=0.05)[:, :, 4:5]
    grid = Grid((40, 34, 1), GRID.affine, GRID.storage)
    found = estimate_b0_to_dwi(cord_share()[4:5], PLANE, image, grid, AlignmentSettings())
    np.testing.assert_allclose(found.shift_mm, COURSE_MM[4:5], atol=0.12)


def test_alignment_that_is_switched_off_moves_and_trusts_nothing(
    rng: np.random.Generator,
) -> None:
    found = estimate(mean_dwi(COURSE_MM, rng), enabled=False)
    assert not found.shift_mm.any()
    assert not found.trusted.any()


def test_the_unit_of_the_image_does_not_matter(rng: np.random.Generator) -> None:
    image = mean_dwi(COURSE_MM, rng)
    np.testing.assert_allclose(estimate(300 * image).shift_mm, estimate(image).shift_mm, atol=1e-6)


def test_slices_far_apart_may_differ_more(rng: np.random.Generator) -> None:
    to_and_fro_mm = np.stack([np.zeros(K), np.tile([0.4, -0.4], K // 2)], axis=1)
    image, spread_mm = mean_dwi(to_and_fro_mm, rng), []
    for slice_mm in (1.0, 20.0):
        grid = Grid(GRID.shape, np.diag([0.9, 0.9, slice_mm, 1.0]), GRID.storage)
        found = estimate_b0_to_dwi(cord_share(), PLANE, image, grid, AlignmentSettings())
        spread_mm.append(found.shift_mm[:, 1].std())
    assert spread_mm[0] < 0.5 * spread_mm[1]


def test_a_speck_is_too_small_to_be_trusted(rng: np.random.Generator) -> None:
    share = cord_share()
    share[3] = 0
    share[3, 24:30, 29:35] = 1  # 9 mm2
    voxels = PlaneGrid.of_image(GRID)
    image = slices_to_volume(average_over_voxels(share, PLANE, voxels))
    found = estimate(image + rng.normal(0, 0.02, image.shape), share)
    np.testing.assert_array_equal(np.flatnonzero(~found.trusted), [3])


@pytest.mark.data
def test_a_known_displacement_of_a_real_cord_is_found(shared_data: Path) -> None:
    dwi = shared_data / "ds-cord" / "sub-01" / "dwi"
    outlines = shared_data / "ds-cord" / "derivatives" / "meandwi" / "sub-01" / "dwi"
    series = read_image(dwi / "sub-01_dwi.nii.gz")
    weighted = np.loadtxt(dwi / "sub-01_dwi.bval") > 50
    share = volume_to_slices(read_image(outlines / "sub-01_label-SC_probseg.nii.gz").data)
    image = PlaneGrid.of_image(series.grid)
    moved = PlaneGrid((0.3, -0.7), image.shape, image.spacing_mm)
    mean = series.data[..., weighted].mean(axis=-1)
    found = estimate_b0_to_dwi(share, moved, mean, series.grid, AlignmentSettings())
    assert found.trusted.all()
    assert rms(found.shift_mm - [-0.3, 0.7]) < 0.15
