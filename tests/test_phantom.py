"""The synthetic cord: its anatomy, its signals, its motion and the dataset written from it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dipy.core.gradients import gradient_table
from dipy.reconst.dti import TensorModel
from scipy.ndimage import center_of_mass, shift

from scsnet_bids.derivatives import read_table
from scsnet_bids.errors import OutputError, UsageError
from scsnet_bids.gradient_checks import check_gradients
from scsnet_bids.gradients import read_gradients
from scsnet_bids.images import read_grid
from scsnet_bids.phantom import Phantom, PhantomSettings, main, simulate, write_dataset
from scsnet_bids.phantom.acquisition import truncate_spectrum
from scsnet_bids.phantom.anatomy import (
    TYPICAL_DEPTH,
    TYPICAL_WIDTH,
    Pose,
    cross_section,
    label_cord,
    label_points,
    random_neck,
)
from scsnet_bids.phantom.distortion import SusceptibilityField, bend
from scsnet_bids.phantom.scene import draw_scene, region_share, render_slice, slice_heights_mm
from scsnet_bids.phantom.simulation import make_gradients
from scsnet_bids.regions import LABELS, MIRROR, N_CLASSES, REGIONS, Side, Tissue
from scsnet_bids.settings import GradientSettings
from scsnet_bids.slices import PlaneGrid

SMALL = PhantomSettings(directions=12, b0_volumes=3, slices=4, matrix=(48, 40))
STILL = replace(SMALL, snr=np.inf, motion_mm=0, b0_to_dwi_mm=0, tilt_deg=0)
FINE_MM = 0.05
LEFT, BACK = np.meshgrid(np.arange(-9.975, 10, FINE_MM), np.arange(-7.975, 8, FINE_MM))
SIDES = (Side.LEFT, Side.RIGHT)


@pytest.fixture(scope="module")
def still() -> Phantom:
    return simulate(STILL, 7)


@pytest.fixture(scope="module")
def noisy() -> Phantom:
    return simulate(replace(STILL, snr=15), 7)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "data"
    write_dataset(out, SMALL, participants=2, seed=3)
    return out


def typical_cord(level: float) -> np.ndarray:
    return label_cord(LEFT, BACK, Pose((0, 0), 0, level, TYPICAL_WIDTH, TYPICAL_DEPTH))


def area_mm2(labels: np.ndarray) -> float:
    return float((labels > 0).sum()) * FINE_MM**2


# Anatomy


@pytest.mark.parametrize("level", [2, 3, 4, 5, 6])
def test_the_typical_cord_has_the_cross_sectional_area_of_living_ones(level):
    assert 60 < area_mm2(typical_cord(level)) < 90


def test_the_cord_is_thickest_in_the_cervical_enlargement():
    area = {level: area_mm2(typical_cord(level)) for level in (2, 4.5, 7)}
    assert area[4.5] > 1.1 * area[2] > 1.1 * area[7]


@pytest.mark.parametrize("level", [2, 4.3, 7])
def test_an_unrotated_cord_is_its_own_mirror_image(level):
    labels = typical_cord(level)
    np.testing.assert_array_equal(labels[:, ::-1], MIRROR[labels])


@pytest.mark.parametrize("level", [2, 5, 7])
def test_every_region_lies_where_its_name_says(level):
    labels = typical_cord(level)
    centre = {
        key: (LEFT[labels == label].mean(), BACK[labels == label].mean())
        for key, label in LABELS.items()
    }
    for side, sign in zip(SIDES, (1, -1), strict=True):
        assert all(sign * centre[tissue, side][0] > 0.5 for tissue in Tissue)
        assert (
            centre[Tissue.DORSAL_COLUMN, side][1] > 1 > -1 > centre[Tissue.VENTRAL_COLUMN, side][1]
        )
        lateral, gray = (
            abs(centre[t, side][0]) for t in (Tissue.LATERAL_COLUMN, Tissue.GRAY_MATTER)
        )
        assert lateral > gray + 1


@pytest.mark.data
def test_the_regions_agree_with_those_of_the_tract_atlas(shared_data):
    c5 = 817
    tracts = {
        Tissue.DORSAL_COLUMN: range(4),
        Tissue.LATERAL_COLUMN: range(4, 14),
        Tissue.VENTRAL_COLUMN: range(14, 30),
        Tissue.GRAY_MATTER: range(30, 36),
    }
    folder = shared_data / "pam50" / "atlas"
    atlas = np.stack(
        [
            sum(
                np.asarray(nib.load(folder / f"PAM50_atlas_{n:02d}.nii.gz").dataobj[..., c5])
                for n in numbers
            )
            for numbers in tracts.values()
        ]
    )
    left, back = np.meshgrid(*[(np.arange(141 * 5) - 352) * 0.1] * 2, indexing="ij")
    labels = label_points(left, -back, cross_section(5.0))
    shares = np.stack(
        [
            np.isin(labels, [LABELS[tissue, side] for side in SIDES])
            .reshape(141, 5, 141, 5)
            .mean(axis=(1, 3))
            for tissue in tracts
        ]
    )
    # The atlas stands 0.5 mm off its grid's middle from front to back.
    offset = np.array(center_of_mass(atlas.sum(axis=0))) - center_of_mass(shares.sum(axis=0))
    assert np.abs(offset).max() < 1.5
    moved = np.stack([shift(share, offset, order=1) for share in shares])
    dice = 2 * np.minimum(atlas, moved).sum(axis=(1, 2)) / (atlas + moved).sum(axis=(1, 2))
    assert (dice > 0.85).all()
    np.testing.assert_allclose(shares.sum(axis=(1, 2)), atlas.sum(axis=(1, 2)), rtol=0.1)


def test_compression_flattens_the_cord_at_c5_c6_and_nowhere_else():
    rng = np.random.default_rng
    healthy, pressed = (random_neck(rng(1), (40.0, 20.0), compression=c) for c in (0.0, 0.4))

    def depth_mm(neck, level):
        pose = neck.pose_at((neck.middle_level - level) * neck.level_height_mm)
        labels = label_cord(LEFT, BACK, replace(pose, centre_mm=(0, 0), rotation_rad=0))
        return (labels > 0).any(axis=1).sum() * FINE_MM

    assert depth_mm(pressed, 5.5) < 0.65 * depth_mm(healthy, 5.5)
    assert depth_mm(pressed, 3.0) == depth_mm(healthy, 3.0)


# What the voxels see


def test_the_shares_of_every_voxel_sum_to_one(noisy):
    assert noisy.region_share.shape == (*noisy.series.shape[:3], N_CLASSES)
    assert noisy.region_share.min() > -1e-6
    np.testing.assert_allclose(noisy.region_share.sum(axis=-1), 1, atol=1e-5)


@pytest.fixture(scope="module")
def drawn(still):
    rng = np.random.default_rng(2)
    scene = draw_scene(random_neck(rng, (22.0, 18.0), 0.0), still.grid, rng)
    return scene, still.grid


def test_averaging_over_voxels_keeps_the_area_of_the_cord(drawn):
    scene, grid = drawn
    seen = (1 - region_share(scene, grid)[..., 0]).sum(axis=(0, 1)) * np.prod(grid.spacing_mm[:2])
    true = [(part.compartments > 0).mean(axis=0).sum() * 0.1**2 for part in scene]
    np.testing.assert_allclose(seen, true, rtol=1e-5)


@pytest.mark.parametrize("shift_mm", [(0.7, 0.0), (0.0, -0.7), (-1.3, 0.45)])
def test_moving_a_slice_moves_its_centroid_by_just_that(drawn, shift_mm, rng):
    scene, grid = drawn
    part, voxels = scene[1], PlaneGrid.of_image(grid)
    cord_only = np.ones(N_CLASSES * 24)
    cord_only[:24] = 0

    def centroid_mm(shift_mm):
        image = render_slice(part, cord_only, np.zeros(3), np.array(shift_mm), voxels, rng)
        return np.array(center_of_mass(image))[::-1] * grid.spacing_mm[:2]

    np.testing.assert_allclose(centroid_mm(shift_mm) - centroid_mm((0, 0)), shift_mm, atol=0.03)


def shifted_to(image: np.ndarray, shift_mm: np.ndarray) -> np.ndarray:
    return shift(image, shift_mm / 0.9, order=3)[4:-4, 4:-4]


@pytest.mark.parametrize("cause", ["motion_mm", "b0_to_dwi_mm"])
def test_the_recorded_displacements_are_those_of_the_images(still, cause):
    moved = simulate(replace(STILL, **{cause: 1.2}), 7)
    is_b0 = moved.gradients.bvals == 0
    displacement = moved.motion_mm - moved.b0_to_dwi_mm * is_b0[:, None, None]
    weighted = np.flatnonzero(~is_b0)[0]
    for volume in (weighted, 0) if cause == "motion_mm" else (0,):
        for k in range(moved.grid.shape[2]):
            before, after = still.series[:, :, k, volume], moved.series[:, :, k, volume]
            true = displacement[volume, k]
            left = after[4:-4, 4:-4]
            error = [np.abs(shifted_to(before, s * true) - left).mean() for s in (1, 0, -1)]
            if np.linalg.norm(true) > 0.3:
                assert error[0] < 0.6 * min(error[1:])


def column_centroids_mm(image: np.ndarray, spacing_mm: float) -> np.ndarray:
    """(columns,) centre of what each column of a slice shows, along posterior."""
    back = np.arange(image.shape[1]) * spacing_mm
    return (image * back).sum(axis=1) / image.sum(axis=1)


@pytest.mark.parametrize("amount", [1.0, -2.5])
def test_a_slice_is_shifted_stretched_and_sheared_by_its_terms_and_keeps_its_signal(
    drawn, amount, rng
):
    scene, grid = drawn
    voxels, middle = PlaneGrid.of_image(grid), (22.0, 18.0)
    cord_only = np.ones(N_CLASSES * 24)
    cord_only[:24] = 0
    no_field = SusceptibilityField(np.zeros((4, 2)), np.zeros((4, 3)), np.zeros(4))
    eddy = amount * np.array([0.8, 0.03, 0.02])
    signals = (cord_only, np.zeros(3), np.zeros(2), voxels, rng)
    still = render_slice(scene[1], *signals)
    seen = render_slice(scene[1], *signals, bend(eddy, no_field, 1, middle))
    assert seen.sum() == pytest.approx(still.sum())
    np.testing.assert_allclose(seen.sum(axis=0), still.sum(axis=0), atol=1e-9)
    full = still.sum(axis=0) > 3
    before, after = (column_centroids_mm(image.T[full], 0.9) for image in (still, seen))
    left = voxels.positions_mm(0)[full] - middle[0]
    expected = before + eddy[0] + eddy[1] * (before - middle[1]) + eddy[2] * left
    np.testing.assert_allclose(after, expected, atol=0.02)


def test_a_field_displaces_forth_and_back_by_what_is_recorded():
    settings = replace(STILL, distortion_mm=3, reversed_b0=1)
    straight, bent = simulate(STILL, 7), simulate(settings, 7)
    cord = bent.region_share[..., 0] < 0.5
    assert np.abs(bent.field_mm[cord]).max() == pytest.approx(3)
    assert straight.reversed_b0.shape == (48, 40, 4, 0)
    assert not straight.field_mm.any()
    stretch = 1 + np.gradient(bent.field_mm, 0.9, axis=1)
    voxel = np.arange(40.0)
    for image, sign in ((bent.series[..., 0], 1), (bent.reversed_b0[..., 0], -1)):
        place = voxel[:, None] + sign * bent.field_mm / 0.9
        back = np.array(
            [
                [np.interp(place[i, :, k], voxel, image[i, :, k]) for k in range(4)]
                for i in range(48)
            ]
        ).swapaxes(1, 2) * (stretch if sign > 0 else 2 - stretch)
        error = np.abs(back - straight.series[..., 0])[cord].mean()
        assert error < 0.4 * np.abs(image - straight.series[..., 0])[cord].mean()


def test_eddy_currents_follow_the_gradient_and_have_the_stated_size_at_the_edge():
    phantom = simulate(replace(STILL, eddy_mm=1.5, directions=30), 7)
    gradients, eddy = phantom.gradients, phantom.eddy
    weighted = gradients.bvals > 0
    assert not eddy[~weighted].any()
    np.testing.assert_allclose(eddy[weighted].mean(axis=0), 0, atol=1e-12)
    design = np.column_stack([gradients.bvecs[weighted], np.ones(weighted.sum())])
    rest = eddy[weighted] - design @ np.linalg.lstsq(design, eddy[weighted], rcond=None)[0]
    assert (rest.std(axis=0) < 0.5 * eddy[weighted].std(axis=0)).all()
    half_left, half_back = np.array(phantom.grid.shape[:2]) * 0.9 / 2
    around = np.linspace(-1, 1, 201)
    edge = np.concatenate(
        [
            np.stack([0 * around + 1, half_back * around, 0 * around + s * half_left], axis=1)
            for s in (-1, 1)
        ]
        + [
            np.stack([0 * around + 1, 0 * around + s * half_back, half_left * around], axis=1)
            for s in (-1, 1)
        ]
    )
    assert np.sqrt(((eddy[weighted] @ edge.T) ** 2).mean()) == pytest.approx(1.5, rel=0.02)
    moved = np.abs(phantom.series - simulate(replace(STILL, directions=30), 7).series)
    assert moved[..., ~weighted].max() == 0
    assert moved[..., weighted].mean() > 1


def test_ringing_overshoots_at_edges_and_keeps_the_signal():
    plain, ringing = (
        simulate(replace(STILL, ringing=on, directions=6, b0_volumes=1), 7) for on in (0, 1)
    )
    before, after = plain.series[..., 0].astype(float), ringing.series[..., 0].astype(float)
    np.testing.assert_allclose(after.sum(axis=(0, 1)), before.sum(axis=(0, 1)), rtol=0.02)
    assert after.max() > 1.03 * before.max()
    assert 0.005 < np.abs(after - before).mean() / before.mean() < 0.2


def test_a_matrix_keeps_waves_that_it_can_show_where_they_are():
    voxels = PlaneGrid((0.0, 0.0), (24, 16), (1.0, 1.0))
    fine = voxels.divided(2)
    waves = [
        np.cos(2 * np.pi * (3 * plane.positions_mm(0) / 24)) * np.ones((plane.shape[1], 1))
        for plane in (voxels, fine)
    ]
    np.testing.assert_allclose(truncate_spectrum(waves[1]), waves[0], atol=1e-12)


def test_new_effects_draw_from_streams_of_their_own(still):
    bent = simulate(replace(STILL, eddy_mm=1, distortion_mm=2, reversed_b0=2, ringing=1), 7)
    for name in ("region_share", "motion_mm", "b0_to_dwi_mm", "lost"):
        np.testing.assert_array_equal(getattr(bent, name), getattr(still, name))
    assert bent.tissue == still.tissue


def test_motion_has_the_stated_size_and_averages_to_zero_for_each_kind_of_volume():
    phantom = simulate(replace(SMALL, motion_mm=0.9, b0_to_dwi_mm=0.5), 4)
    is_b0 = phantom.gradients.bvals == 0
    assert np.sqrt((phantom.motion_mm**2).sum(axis=-1).mean()) == pytest.approx(0.9)
    assert np.sqrt((phantom.b0_to_dwi_mm**2).sum(axis=-1).mean()) == pytest.approx(0.5)
    for kind in (is_b0, ~is_b0):
        np.testing.assert_allclose(phantom.motion_mm[kind].mean(axis=0), 0, atol=1e-12)
    assert np.ptp(phantom.motion_mm, axis=1).min() > 0


def test_b0_is_displaced_mostly_from_front_to_back_and_alike_in_neighbouring_slices():
    for seed in range(5):
        settings = PhantomSettings(directions=6, b0_volumes=1, matrix=(48, 40))
        left_mm, posterior_mm = np.abs(simulate(settings, seed).b0_to_dwi_mm).T
        assert posterior_mm.mean() > left_mm.mean()
        assert np.abs(np.diff(posterior_mm)).max() < 0.4


# Signals


def test_a_tensor_fit_of_pure_voxels_without_noise_returns_the_truth(still):
    table = gradient_table(still.gradients.bvals, bvecs=still.gradients.bvecs)
    for part in still.tissue:
        pure = still.region_share[..., part.region.label] > 0.9999
        assert pure.any()
        fit = TensorModel(table, fit_method="WLS").fit(still.series[pure].astype(float))
        np.testing.assert_allclose(fit.fa, part.fa, rtol=0.02)
        np.testing.assert_allclose(fit.md, part.md, rtol=0.02)


def test_a_region_shows_the_mean_tensor_of_its_tilted_fibres():
    tilted = simulate(replace(STILL, tilt_deg=10.0), 1)
    table = gradient_table(tilted.gradients.bvals, bvecs=tilted.gradients.bvecs)
    of_seen, of_fibres = [], []
    for seen, fibre in zip(tilted.region_tensors, tilted.tissue, strict=True):
        inside = tilted.region_share[..., seen.region.label] > 0.99
        signal = tilted.series[inside].astype(float).mean(axis=0)
        fit = TensorModel(table, fit_method="NLLS").fit(signal)
        assert seen.md == fibre.md
        of_seen.append(float(fit.fa) / seen.fa)
        of_fibres.append(float(fit.fa) / fibre.fa)
    assert np.mean(of_seen) == pytest.approx(1, abs=0.01)
    assert np.mean(of_fibres) < 0.98


def test_fibres_run_along_the_neck_in_scanner_space(still):
    pure = still.region_share[..., LABELS[Tissue.LATERAL_COLUMN, Side.LEFT]] > 0.9999
    table = gradient_table(still.gradients.bvals, bvecs=still.gradients.bvecs)
    direction = TensorModel(table).fit(still.series[pure].astype(float)).evecs[:, :, 0]
    normal = still.grid.affine[:3, 2] / still.grid.spacing_mm[2]
    assert abs(normal[1]) > 0.08, "the slices are oblique, so that a wrong frame would show"
    assert np.abs(direction @ normal).min() > np.cos(np.deg2rad(8))


def test_tilted_fibres_lower_the_anisotropy_of_a_voxel(still):
    tilted = simulate(replace(STILL, tilt_deg=20), 7)
    table = gradient_table(still.gradients.bvals, bvecs=still.gradients.bvecs)
    white = still.region_share[..., 1:7].sum(axis=-1) > 0.9999
    fa = [TensorModel(table).fit(p.series[white]).fa.mean() for p in (still, tilted)]
    assert fa[1] < fa[0] - 0.03


def test_noise_and_signal_have_the_stated_ratio(still, noisy):
    b0 = still.gradients.bvals == 0
    white = still.region_share[..., 1:7].sum(axis=-1) > 0.99
    signal = still.series[white][:, b0]
    assert signal.mean() == pytest.approx(1000, rel=0.03)
    noise = noisy.series[white][:, b0] - signal
    assert noise.std() == pytest.approx(1000 / 15, rel=0.05)


def test_fluid_is_brighter_than_the_cord_at_b0_and_darker_when_weighted(still):
    cord = still.region_share[..., 0] < 0.01
    b0 = still.gradients.bvals == 0
    mean = {
        kind: still.series[..., chosen].mean(axis=-1) for kind, chosen in (("b0", b0), ("dwi", ~b0))
    }
    fluid = mean["b0"] > 1.3 * mean["b0"][cord].mean()
    assert fluid.sum() > 100
    assert mean["dwi"][fluid].mean() < 0.6 * mean["dwi"][cord].mean()


def test_a_drop_of_fa_spares_gray_matter():
    healthy, ill = (simulate(replace(STILL, fa_drop=drop), 1).tissue for drop in (0, 0.2))
    for before, after in zip(healthy, ill, strict=True):
        kept = 1.0 if before.region.tissue is Tissue.GRAY_MATTER else 0.8
        assert after.fa == pytest.approx(kept * before.fa)
        assert after.md == before.md


def test_lost_slices_are_dark_weighted_and_as_many_as_asked_for(still):
    phantom = simulate(replace(STILL, lost_slices=0.3), 7)
    assert not phantom.lost[phantom.gradients.bvals == 0].any()
    assert 0.1 < phantom.lost.mean() < 0.4
    ratio = (phantom.series.sum(axis=(0, 1)) / still.series.sum(axis=(0, 1))).T
    np.testing.assert_array_equal(ratio < 0.5, phantom.lost)
    np.testing.assert_allclose(ratio[~phantom.lost], 1, rtol=1e-5)


def test_the_scheme_starts_with_a_b0_volume_and_determines_a_tensor():
    gradients = make_gradients(PhantomSettings())
    assert gradients.bvals.tolist().count(0) == 5
    assert gradients.bvals[0] == 0
    assert gradients.bvals[1] == 800
    assert np.diff(np.flatnonzero(gradients.bvals == 0)).tolist() == [7, 7, 7, 7]
    for directions in (6, 12, 30, 64):
        scheme = make_gradients(PhantomSettings(directions=directions))
        check_gradients(scheme, Path("phantom.nii.gz"), GradientSettings())


def test_the_same_seed_gives_the_same_data_and_another_seed_another_person():
    first, again, other = (simulate(SMALL, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.series, again.series)
    assert not np.array_equal(first.region_share, other.region_share)
    assert first.tissue != other.tissue


def test_noise_changes_nothing_that_is_true(still, noisy):
    np.testing.assert_array_equal(still.region_share, noisy.region_share)
    np.testing.assert_array_equal(still.motion_mm, noisy.motion_mm)
    assert still.tissue == noisy.tissue


def test_levels_run_from_c2_at_the_top_to_c7_at_the_bottom():
    settings = PhantomSettings(directions=6, b0_volumes=1, matrix=(48, 40))
    level = simulate(settings, 1).level
    assert (np.diff(level) < 0).all()
    assert 1.7 < level[-1] < 3.0
    assert 6.0 < level[0] < 7.6


def test_heights_count_from_the_middle_of_the_image(still):
    np.testing.assert_allclose(slice_heights_mm(still.grid), [-7.5, -2.5, 2.5, 7.5])


@pytest.mark.parametrize(
    "wrong",
    [
        {"snr": 0},
        {"motion_mm": -1},
        {"directions": 5},
        {"compression": 0.9},
        {"snr": np.nan},
        {"matrix": (96, 20)},
        {"distortion_mm": 5},
        {"ringing": 2},
    ],
)
def test_impossible_settings_are_refused_by_name(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        PhantomSettings(**wrong)


# Files


def truth_path(dataset: Path, rest: str) -> Path:
    return dataset / "derivatives" / "phantom" / "sub-01" / "dwi" / f"sub-01_{rest}"


def test_files_are_stored_as_las_and_oblique_with_the_patients_left_at_left(dataset):
    image = nib.load(truth_path(dataset, "seg-SCSNet_dseg.nii.gz"))
    assert nib.aff2axcodes(image.affine) == ("L", "A", "S")
    assert not np.allclose(image.affine[:3, :3], np.diag(np.diag(image.affine[:3, :3])))
    labels = np.asarray(image.dataobj)
    centre = {
        key: nib.affines.apply_affine(image.affine, np.argwhere(labels == label)).mean(axis=0)
        for key, label in LABELS.items()
    }
    for tissue in Tissue:
        assert centre[tissue, Side.LEFT][0] < centre[tissue, Side.RIGHT][0] - 1  # RAS+: right is +
    for side in SIDES:
        dorsal, ventral = centre[Tissue.DORSAL_COLUMN, side], centre[Tissue.VENTRAL_COLUMN, side]
        assert dorsal[1] < ventral[1] - 2  # RAS+: front is +


def test_written_truth_is_that_of_the_simulation(dataset):
    phantom = simulate(SMALL, (3, 1))
    stored = nib.load(dataset / "sub-01" / "dwi" / "sub-01_dwi.nii.gz")
    assert stored.get_data_dtype() == np.int16
    np.testing.assert_allclose(np.asarray(stored.dataobj)[:, ::-1], phantom.series, atol=0.51)
    shares = np.asarray(nib.load(truth_path(dataset, "seg-SCSNet_probseg.nii.gz")).dataobj)
    np.testing.assert_allclose(shares[:, ::-1], phantom.region_share, rtol=2**-16)
    sidecar = json.loads(truth_path(dataset, "seg-SCSNet_probseg.json").read_text("utf-8"))
    assert sidecar["LabelMap"] == ["background", *(region.name for region in REGIONS)]
    tissue = read_table(truth_path(dataset, "desc-tissue_scalarstats.tsv"))
    pairs = zip(phantom.region_tensors, phantom.tissue, strict=True)
    for row, (seen, fibre) in zip(tissue.itertuples(), pairs, strict=True):
        assert f"{row.side}_{row.region}" == seen.region.name
        written = [row.FA, row.MD, row.fibre_FA]
        np.testing.assert_allclose(written, [seen.fa, seen.md, fibre.fa], rtol=1e-5)


def test_displacement_tables_undo_the_motion(dataset):
    phantom = simulate(SMALL, (3, 1))
    motion = read_table(
        truth_path(dataset, "from-orig_to-dwiref_mode-image_desc-slicewise_xfm.tsv")
    )
    for row in motion.sample(20, random_state=0).itertuples():
        expected = -phantom.motion_mm[row.volume, row.slice]
        assert (row.left_mm, row.posterior_mm) == pytest.approx(tuple(expected), abs=1e-5)
    assert len(motion) == phantom.motion_mm[..., 0].size
    b0_to_dwi = read_table(
        truth_path(dataset, "from-dwiref_to-dwi_mode-image_desc-slicewise_xfm.tsv")
    )
    assert b0_to_dwi.columns.tolist() == ["slice", "left_mm", "posterior_mm"]
    np.testing.assert_allclose(b0_to_dwi.iloc[:, 1:], phantom.b0_to_dwi_mm, atol=1e-5)


def test_gradients_read_back_as_they_were_simulated(dataset):
    stem = dataset / "sub-02" / "dwi" / "sub-02_dwi"
    image = stem.with_suffix(".nii.gz")
    grid, n_volumes = read_grid(image)
    read = read_gradients(
        stem.with_suffix(".bval"), stem.with_suffix(".bvec"), grid, n_volumes, image
    )
    expected = make_gradients(SMALL)
    np.testing.assert_array_equal(read.bvals, expected.bvals)
    np.testing.assert_allclose(read.bvecs, expected.bvecs, atol=1e-6)


def test_labels_cover_the_voxels_that_the_cord_fills_at_least_half(dataset):
    labels, shares = (
        np.asarray(nib.load(truth_path(dataset, f"seg-SCSNet_{kind}.nii.gz")).dataobj)
        for kind in ("dseg", "probseg")
    )
    np.testing.assert_array_equal(labels > 0, shares[..., 0] <= 0.5)
    region = labels > 0
    np.testing.assert_array_equal(labels[region], shares[region][:, 1:].argmax(axis=1) + 1)


def test_the_dataset_and_its_truth_are_valid_bids(dataset):
    validator = shutil.which("bids-validator-deno", path=Path(sys.executable).parent)
    if validator is None:
        pytest.skip("VALIDATOR ABSENT: install bids-validator-deno to check the written dataset")
    for folder in (dataset, dataset / "derivatives" / "phantom"):
        report = subprocess.run(
            [validator, str(folder), "--format", "json"],
            capture_output=True,
            text=True,
            check=False,
        )
        issues = json.loads(report.stdout)["issues"]["issues"]
        assert [issue for issue in issues if issue["severity"] == "error"] == []
        assert report.returncode == 0


def test_a_reversed_pair_and_the_truth_about_it_are_written_as_valid_bids(tmp_path):
    settings = replace(SMALL, distortion_mm=2, reversed_b0=2, eddy_mm=1)
    write_dataset(tmp_path, settings, participants=1, seed=3)
    phantom = simulate(settings, (3, 1))
    pair = tmp_path / "sub-01" / "fmap" / "sub-01_dir-PA_epi.nii.gz"
    stored = np.asarray(nib.load(pair).dataobj)[:, ::-1]
    np.testing.assert_allclose(stored, phantom.reversed_b0, atol=0.51)
    said, own = (
        json.loads(path.read_text("utf-8"))
        for path in (
            pair.with_name("sub-01_dir-PA_epi.json"),
            tmp_path / "sub-01" / "dwi" / "sub-01_dwi.json",
        )
    )
    assert (own["PhaseEncodingDirection"], said["PhaseEncodingDirection"]) == ("j-", "j")
    assert said["IntendedFor"] == "bids::sub-01/dwi/sub-01_dwi.nii.gz"
    assert said["B0FieldIdentifier"] == own["B0FieldSource"]
    field = np.asarray(
        nib.load(truth_path(tmp_path, "desc-distortion_displacement.nii.gz")).dataobj
    )
    np.testing.assert_allclose(field[:, ::-1], phantom.field_mm, rtol=2**-16, atol=1e-5)
    eddy = read_table(truth_path(tmp_path, "from-orig_to-dwiref_mode-image_desc-eddy_xfm.tsv"))
    np.testing.assert_allclose(eddy.iloc[:, 1:], phantom.eddy, rtol=1e-5, atol=1e-9)
    test_the_dataset_and_its_truth_are_valid_bids(tmp_path)


def test_a_new_phantom_replaces_the_participants_of_an_older_one(tmp_path):
    write_dataset(tmp_path, SMALL, participants=2, seed=1)
    write_dataset(tmp_path, SMALL, participants=1, seed=2)
    folders = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("sub-??")]
    assert sorted(folders) == ["derivatives/phantom/sub-01", "sub-01"]
    assert read_table(tmp_path / "participants.tsv")["participant_id"].tolist() == ["sub-01"]
    assert not list(tmp_path.rglob(".*_sub*")), "no temporary file stays behind"


def test_the_last_participants_are_the_compressed_ones(tmp_path):
    squeezed = replace(SMALL, compression=0.5)
    write_dataset(tmp_path, squeezed, participants=2, seed=1, compressed=1)
    people = read_table(tmp_path / "participants.tsv")
    assert people["compression"].tolist() == [0.0, 0.5]
    with pytest.raises(UsageError, match="compressed must lie between 0 and the 2"):
        write_dataset(tmp_path, squeezed, participants=2, seed=1, compressed=3)


def test_compressed_participants_need_a_compression(tmp_path):
    with pytest.raises(UsageError, match="--compression"):
        write_dataset(tmp_path, SMALL, participants=2, seed=1, compressed=1)
    write_dataset(tmp_path, SMALL, participants=1, seed=1, compressed=0)


@pytest.mark.parametrize("content", ["notes.txt", "dataset_description.json"])
def test_a_folder_with_anything_else_is_refused_and_left_alone(tmp_path, content):
    (tmp_path / content).write_text('{"Name": "mine"}', encoding="utf-8")
    with pytest.raises(OutputError, match="holds something else"):
        write_dataset(tmp_path, SMALL, participants=1, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == [content]


def test_the_command_writes_a_tiny_dataset(tmp_path):
    out = tmp_path / "new" / "data"
    assert main([str(out), "--tiny", "--participants", "1", "--motion-mm", "0.2"]) == 0
    motion = read_table(truth_path(out, "from-orig_to-dwiref_mode-image_desc-slicewise_xfm.tsv"))
    length = np.hypot(motion["left_mm"], motion["posterior_mm"])
    assert np.sqrt((length**2).mean()) == pytest.approx(0.2, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "code"),
    [(["--snr", "0"], 2), (["--participants", "0"], 2), (["--seed", "-1"], 2), ([], 73)],
)
def test_the_command_ends_with_the_code_of_the_error_and_one_sentence(
    tmp_path, capsys, options, code
):
    (tmp_path / "notes.txt").touch()
    assert main([str(tmp_path), *options]) == code
    complaint = capsys.readouterr().err
    assert complaint.startswith("scsnet-bids-phantom: ")
    assert "Traceback" not in complaint
    assert complaint.count("\n") == 1
