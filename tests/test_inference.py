"""Finding and segmenting the cord, with the shipped weights, on a phantom of known truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import ndimage

from scsnet_bids.arrays import FloatArray
from scsnet_bids.images import Grid
from scsnet_bids.network.inference import (
    RegionSegmentation,
    locate_cord,
    refine_regions,
    segment_regions,
)
from scsnet_bids.network.path import Candidate, choose_path, fill_gaps
from scsnet_bids.network.weights import load_network, shipped_weights
from scsnet_bids.regions import REGIONS, Side, Tissue
from scsnet_bids.settings import B0_AND_DWI
from scsnet_bids.slices import PlaneGrid, average_over_voxels, volume_to_slices

SPACING_MM = (0.9, 0.9, 5.0)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
STORAGE = np.array([[0, 1], [1, 1], [2, 1]])


@dataclass(frozen=True)
class Phantom:
    """A bright canal around an elliptic cord that leans to the left, in dim muscle."""

    b0: FloatArray
    grid: Grid
    cord: FloatArray
    centre_mm: FloatArray


def make_phantom(
    shape: tuple[int, int, int] = (64, 56, 5), sizes: tuple[float, ...] | None = None
) -> Phantom:
    """Draw the phantom; ``sizes`` scales the cord of each slice (0: no cord, no canal)."""
    rng = np.random.default_rng(1)
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS * SPACING_MM
    affine[:3, 3] = (30.0, 12.0, -100.0)
    k = np.arange(shape[2])
    size = np.ones(shape[2]) if sizes is None else np.array(sizes)
    centre = np.stack([27 + 0.6 * k, 24 + 0.4 * k], axis=1)
    x, y, _ = np.indices(shape) * np.array(SPACING_MM)[:, None, None, None]
    x, y = x - centre[:, 0], y - centre[:, 1]

    def ellipse(half_width: float, half_height: float) -> FloatArray:
        radius = np.hypot(x / (half_width * size + 1e-9), y / (half_height * size + 1e-9))
        return np.clip((1 - radius) * half_height * size / 0.9 + 0.5, 0, 1) * (size > 0)

    cord, canal, wall = ellipse(6.5, 4.0), ellipse(9.5, 6.8), ellipse(12, 9)
    muscle = 0.45 + 0.1 * ndimage.gaussian_filter(rng.normal(size=shape), (2, 2, 0)) * 4
    b0 = muscle * (1 - wall) + 0.15 * (wall - canal) + 1.9 * (canal - cord) + 1.0 * cord
    b0 = 400 * np.abs(b0 + 0.04 * rng.normal(size=shape))
    return Phantom(b0, Grid(shape, affine, STORAGE), cord, centre)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom()


@pytest.fixture(scope="module")
def segmentation(phantom: Phantom) -> RegionSegmentation:
    return segment(phantom.b0, phantom.grid)


def segment(b0: FloatArray, grid: Grid) -> RegionSegmentation:
    network = load_network()
    return segment_regions(b0, grid, locate_cord(b0, grid, network), network)


def on_image(segmentation: RegionSegmentation, grid: Grid) -> FloatArray:
    """(k, 9, rows, columns) area shares of the image's voxels."""
    plane = PlaneGrid.of_image(grid)
    return average_over_voxels(segmentation.probability, segmentation.plane, plane)


def dice(first: FloatArray, second: FloatArray) -> float:
    return float(2 * np.minimum(first, second).sum() / (first.sum() + second.sum()))


def region_areas(share: FloatArray) -> FloatArray:
    return share[:, 1:].sum(axis=(0, 2, 3))


def test_the_centre_is_found_within_a_millimetre_in_every_slice(phantom):
    centre = locate_cord(phantom.b0, phantom.grid, load_network())
    assert np.hypot(*(centre - phantom.centre_mm).T).max() < 1.0


def test_the_cord_mask_agrees_with_the_truth(phantom, segmentation):
    cord = on_image(segmentation, phantom.grid)[:, 1:].sum(axis=1)
    assert segmentation.found.all()
    assert dice(cord, volume_to_slices(phantom.cord)) > 0.88


def test_probabilities_sum_to_one_everywhere(segmentation):
    np.testing.assert_allclose(segmentation.probability.sum(axis=1), 1, atol=1e-5)
    assert segmentation.probability.dtype == np.float32
    assert segmentation.probability.min() >= -1e-6


def test_left_regions_lie_on_the_patients_left_and_dorsal_ones_at_the_back(phantom, segmentation):
    affine = segmentation.plane.on_image(phantom.grid).affine
    x_ras, y_ras = {}, {}
    for region in REGIONS:
        mass = segmentation.probability[:, region.label].transpose(2, 1, 0)
        index = [*ndimage.center_of_mass(mass), 1]
        x_ras[region], y_ras[region] = (affine @ index)[:2]
    for region in REGIONS:
        if region.side is Side.LEFT:
            assert x_ras[region] < x_ras[region.mirrored] - 1
        if region.tissue is Tissue.DORSAL_COLUMN:
            assert y_ras[region] < min(y_ras.values()) + 1


def test_a_mirrored_patient_gets_mirrored_regions(phantom, segmentation):
    mirrored = on_image(segment(phantom.b0[::-1], phantom.grid), phantom.grid)
    expected = on_image(segmentation, phantom.grid)
    for region in REGIONS:
        partner = mirrored[:, region.mirrored.label, :, ::-1]
        assert dice(expected[:, region.label], partner) > 0.95


@pytest.mark.parametrize(("gain", "offset"), [(37.0, 0.0), (1e-3, 0.0), (1.0, -500.0)])
def test_gain_and_offset_do_not_change_the_regions(phantom, segmentation, gain, offset):
    changed = segment(gain * phantom.b0 + offset, phantom.grid)
    np.testing.assert_allclose(changed.probability, segmentation.probability, atol=2e-3)


def test_a_black_border_does_not_change_the_regions(phantom, segmentation):
    border = 20
    padded = np.pad(phantom.b0, ((border, border), (border, border), (0, 0)))
    grid = phantom.grid.resized(padded.shape, phantom.grid.affine)
    share = on_image(segment(padded, grid), grid)[:, :, border:-border, border:-border]
    expected = on_image(segmentation, phantom.grid)
    np.testing.assert_allclose(region_areas(share), region_areas(expected), rtol=0.05)
    assert dice(share[:, 1:], expected[:, 1:]) > 0.95


def test_a_smaller_field_of_view_hardly_changes_the_regions(phantom, segmentation):
    cropped = phantom.b0[6:-6, 8:-8]
    grid = phantom.grid.resized(cropped.shape, phantom.grid.affine)
    share = on_image(segment(cropped, grid), grid)
    expected = on_image(segmentation, phantom.grid)[:, :, 8:-8, 6:-6]
    np.testing.assert_allclose(region_areas(share), region_areas(expected), rtol=0.05)
    assert dice(share[:, 1:], expected[:, 1:]) > 0.95


@pytest.mark.parametrize("offset_mm", [(5.0, -4.0), (-6.0, 3.0)])
def test_a_path_beside_the_cord_is_centred_again(phantom, segmentation, offset_mm):
    beside = segment_regions(
        phantom.b0, phantom.grid, phantom.centre_mm + offset_mm, load_network()
    )
    share = on_image(beside, phantom.grid)[:, 1:]
    assert dice(share, on_image(segmentation, phantom.grid)[:, 1:]) > 0.95


@pytest.mark.parametrize("shape", [(64, 56, 4), (160, 40, 3)])
@pytest.mark.parametrize("kind", ["noise", "smooth", "constant", "zero", "nan"])
def test_a_volume_without_a_cord_is_empty(kind: str, shape: tuple[int, int, int], rng):
    noise = rng.normal(size=shape)
    b0 = {
        "noise": np.abs(noise) * 100,
        "smooth": ndimage.gaussian_filter(noise, (12, 12, 0)),
        "constant": np.full(shape, 37.0),
        "zero": np.zeros(shape),
        "nan": np.full(shape, np.nan),
    }[kind]
    empty = segment(b0, replace(make_phantom().grid, shape=shape))
    assert not empty.found.any()
    assert (empty.probability[:, 0] == 1).all()
    assert (empty.confidence == 0).all()


def test_a_slice_that_is_not_a_number_is_left_out_and_the_others_are_kept(phantom):
    b0 = phantom.b0.copy()
    b0[:, :, 2] = np.nan
    result = segment(b0, phantom.grid)
    assert result.found.tolist() == [True, True, False, True, True]
    assert result.cord[2].max() == 0


def test_a_single_bad_voxel_is_survived(phantom, segmentation):
    b0 = phantom.b0.copy()
    b0[1, 1, :] = np.nan
    share = on_image(segment(b0, phantom.grid), phantom.grid)
    assert dice(share[:, 1:], on_image(segmentation, phantom.grid)[:, 1:]) > 0.95


def test_a_stack_of_one_slice_works(phantom):
    grid = phantom.grid.resized((64, 56, 1), phantom.grid.affine)
    result = segment(phantom.b0[:, :, 2:3], grid)
    assert result.found.tolist() == [True]


def test_a_slice_without_cord_between_others_stays_empty():
    phantom = make_phantom(sizes=(1, 1, 0, 1, 1))
    assert segment(phantom.b0, phantom.grid).found.tolist() == [True, True, False, True, True]


def test_a_mask_much_smaller_than_the_others_is_not_believed():
    phantom = make_phantom(sizes=(1, 1, 0.5, 1, 1))
    assert segment(phantom.b0, phantom.grid).found.tolist() == [True, True, False, True, True]


def test_the_input_is_not_changed(phantom):
    b0, centre = phantom.b0.copy(), phantom.centre_mm.copy()
    segment_regions(b0, phantom.grid, centre, load_network())
    np.testing.assert_array_equal(b0, phantom.b0)
    np.testing.assert_array_equal(centre, phantom.centre_mm)


def test_a_path_without_any_place_gives_an_empty_segmentation(phantom):
    result = segment_regions(phantom.b0, phantom.grid, np.full((5, 2), np.nan), load_network())
    assert not result.found.any()
    assert result.probability.shape[:2] == (5, 9)


def test_the_path_prefers_a_smooth_chain_to_larger_lone_spots():
    cord = [Candidate(k, (10.0 + k, 20.0), 40.0) for k in range(5)]
    lone = [Candidate(1, (60.0, 5.0), 90.0), Candidate(3, (80.0, 40.0), 90.0)]
    path = choose_path([*lone, *cord], n_slices=5, slice_spacing_mm=5.0)
    np.testing.assert_allclose(path[:, 0], 10 + np.arange(5))


def test_a_step_is_judged_by_the_distance_between_the_slices():
    steps = [Candidate(k, (10.0 + 8 * k, 20.0), 60.0) for k in range(3)]
    far, near = (np.isfinite(choose_path(steps, 3, dz)[:, 0]).sum() for dz in (17.5, 1.0))
    assert far == 3
    assert near == 1


def test_gaps_are_bridged_only_between_places_that_are_known():
    path = np.array([[np.nan] * 2, [1.0, 2.0], [np.nan] * 2, [3.0, 6.0], [np.nan] * 2])
    filled = fill_gaps(path)
    np.testing.assert_allclose(filled[1:4], [[1, 2], [2, 4], [3, 6]])
    assert np.isnan(filled[[0, 4]]).all()


B0_TO_DWI_MM = np.array([[0.9, -0.9]] * 5)
"""One voxel toward the right of the image's first axis, and one to the front."""


def mean_dwi_of(phantom: Phantom) -> FloatArray:
    """Let the cord alone keep its signal, one voxel beside where the b=0 image has it."""
    rng = np.random.default_rng(2)
    signal = 0.05 + 0.35 * np.roll(phantom.cord, (1, -1), axis=(0, 1))
    return 400 * np.abs(signal + 0.02 * rng.normal(size=signal.shape))


def refine(phantom: Phantom, first: RegionSegmentation, dwi: FloatArray) -> RegionSegmentation:
    network = load_network("cpu", shipped_weights(B0_AND_DWI), B0_AND_DWI)
    return refine_regions(first, phantom.b0, dwi, phantom.grid, B0_TO_DWI_MM, network)


def test_a_second_look_draws_the_cord_better_and_where_the_b0_image_has_it(phantom, segmentation):
    second = refine(phantom, segmentation, mean_dwi_of(phantom))
    truth = volume_to_slices(phantom.cord)
    before, after = (
        dice(on_image(s, phantom.grid)[:, 1:].sum(axis=1), truth) for s in (segmentation, second)
    )
    assert second.found.all()
    assert after > max(0.93, before)


def test_a_second_look_does_not_see_padding(phantom, segmentation):
    dwi = mean_dwi_of(phantom)
    areas = region_areas(refine(phantom, segmentation, dwi).probability)
    wide = [np.pad(x, ((9, 4), (3, 8), (0, 0))) for x in (phantom.b0, dwi)]
    affine = phantom.grid.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [9, 3, 0]
    grid = phantom.grid.resized(wide[0].shape, affine)
    padded = refine(replace(phantom, b0=wide[0], grid=grid), segment(wide[0], grid), wide[1])
    np.testing.assert_allclose(region_areas(padded.probability), areas, rtol=0.01)


def test_a_slice_keeps_its_cord_only_if_both_looks_find_one(phantom, segmentation):
    b0, dwi = phantom.b0.copy(), mean_dwi_of(phantom)
    for image in (b0, dwi):
        image[..., 2] = 20 * np.random.default_rng(3).random(image.shape[:2])
    second = refine(replace(phantom, b0=b0), segmentation, dwi)
    assert segmentation.found[2]
    assert second.found.tolist() == [True, True, False, True, True]
    assert second.confidence[2] == 0
    assert (second.confidence <= segmentation.confidence).all()


def test_a_lost_mean_dwi_leaves_the_b0_image_to_go_by(phantom, segmentation):
    dwi = mean_dwi_of(phantom)
    dwi[..., 2] = 20 * np.random.default_rng(3).random(dwi.shape[:2])
    second = refine(phantom, segmentation, dwi)
    cord = on_image(second, phantom.grid)[2, 1:].sum(axis=0)
    assert not second.found[2] or dice(cord, volume_to_slices(phantom.cord)[2]) > 0.85


def test_a_second_look_does_not_look_where_the_first_found_nothing(phantom, segmentation):
    empty = segmentation.probability.copy()
    empty[4] = 0
    empty[4, 0] = 1
    first = replace(segmentation, probability=empty, found=np.arange(5) < 4)
    second = refine(phantom, first, mean_dwi_of(phantom))
    assert second.found.tolist() == [True] * 4 + [False]
    assert (second.probability[4, 0] == 1).all()
