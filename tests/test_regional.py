"""The region table says what the maps hold, and says so where they hold nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scsnet_bids.regional import PLAUSIBLE, REGION_TABLE_COLUMNS, SliceNotes, measure_regions
from scsnet_bids.regions import N_CLASSES, REGION_GROUPS, REGIONS
from scsnet_bids.settings import RegionalSettings
from scsnet_bids.slice_marks import EXCLUDED

SETTINGS = RegionalSettings()
SPACING = (1.0, 0.5, 4.0)
VOXEL_MM3 = 2.0
COLUMNS = [
    "scope",
    "slice",
    "level",
    "region",
    "side",
    "metric",
    "n_voxels",
    "volume_mm3",
    "mean",
    "std",
    "median",
    "p25",
    "p75",
    "weighted_mean",
    "core_mean",
    "mean_uncertainty",
    "confidence",
    "coverage",
    "flag",
]
SURE = np.array([0.9, 0.8])


def strips(n_slices: int = 2) -> np.ndarray:
    """(10, 8, k, 9) shares: region r fills five voxels of column j = r - 1."""
    share = np.zeros((10, 8, n_slices, N_CLASSES))
    for region in REGIONS:
        share[2:7, region.label - 1, :, region.label] = 1
    share[..., 0] = 1 - share[..., 1:].sum(axis=-1)
    return share


def constant_maps(share: np.ndarray) -> dict[str, np.ndarray]:
    """Maps that hold 0.1 times the label as FA, and plausible diffusivities."""
    label = share.argmax(axis=-1)
    return {
        "FA": 0.1 * np.maximum(label, 1),
        "MD": np.full(label.shape, 0.9e-3),
        "AD": np.full(label.shape, 1.6e-3),
        "RD": np.full(label.shape, 0.5e-3),
    }


def row(table: pd.DataFrame, **wanted: object) -> pd.Series:
    """The one row that fits."""
    rows = table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_there_is_one_row_for_every_scope_region_group_and_metric():
    share = strips()
    table = measure_regions(share, constant_maps(share), SPACING, SURE, SETTINGS)
    assert table.columns.tolist() == COLUMNS
    assert len(table) == (2 + 1) * len(REGION_GROUPS) * 4
    assert not table.duplicated(["scope", "slice", "region", "side", "metric"]).any()
    assert table["level"].isna().all()
    assert table.loc[table["scope"] == "slice", "slice"].unique().tolist() == [0, 1]


def test_every_column_is_described():
    assert list(REGION_TABLE_COLUMNS) == COLUMNS
    assert all(entry["Description"] for entry in REGION_TABLE_COLUMNS.values())
    share = strips()
    table = measure_regions(share, constant_maps(share), SPACING, SURE, SETTINGS)
    for name in ("scope", "region", "side", "metric"):
        assert set(table[name]) <= set(REGION_TABLE_COLUMNS[name]["Levels"])


def test_a_region_of_one_value_has_that_value():
    share = strips()
    table = measure_regions(share, constant_maps(share), SPACING, SURE, SETTINGS)
    for region in REGIONS:
        found = row(
            table, scope="slice", slice=1, region=region.tissue, side=region.side, metric="FA"
        )
        for name in ("mean", "median", "p25", "p75", "weighted_mean", "core_mean"):
            assert found[name] == pytest.approx(0.1 * region.label), name
        assert found["std"] == pytest.approx(0)
        assert found["n_voxels"] == 5
        assert found["volume_mm3"] == pytest.approx(5 * VOXEL_MM3)
        assert found["coverage"] == 1
        assert found["confidence"] == pytest.approx(0.8)
        assert pd.isna(found["flag"])


def test_groups_pool_their_members():
    share = strips()
    table = measure_regions(share, constant_maps(share), SPACING, SURE, SETTINGS)
    white = row(table, scope="cord", region="white_matter", side="left", metric="FA")
    assert white["mean"] == pytest.approx(np.mean([0.1, 0.3, 0.5]))
    assert white["n_voxels"] == 2 * 15
    cord = row(table, scope="cord", region="cord", side="both", metric="FA")
    assert cord["mean"] == pytest.approx(0.45)
    assert cord["confidence"] == pytest.approx(0.85)


def test_spread_is_that_of_the_voxels(rng):
    share = strips(1)
    maps = constant_maps(share)
    maps["FA"] = rng.uniform(0.2, 0.9, share.shape[:3])
    inside = maps["FA"][2:7, 0, 0]
    found = row(
        measure_regions(share, maps, SPACING, None, SETTINGS),
        scope="cord",
        region="lateral_column",
        side="left",
        metric="FA",
    )
    assert found["mean"] == pytest.approx(inside.mean())
    assert found["std"] == pytest.approx(inside.std(ddof=1))
    expected = np.percentile(inside, [25, 50, 75])
    assert found[["p25", "median", "p75"]].tolist() == pytest.approx(expected.tolist())
    assert np.isnan(found["confidence"])


def test_partial_voxels_count_by_their_share():
    share = np.zeros((6, 1, 1, N_CLASSES))
    share[:, 0, 0, 1] = 1.0, 0.8, 0.5, 0.4, 0.0, 0.0
    share[..., 0] = 1 - share[..., 1]
    maps = constant_maps(share)
    maps["FA"] = np.array([0.9, 0.7, 0.5, 0.3, 0.1, 0.1]).reshape(6, 1, 1)
    table = measure_regions(share.astype(np.float32), maps, SPACING, None, SETTINGS)
    found = row(table, scope="cord", region="lateral_column", side="left", metric="FA")
    assert found["n_voxels"] == 3
    assert found["mean"] == pytest.approx(0.7)
    assert found["core_mean"] == pytest.approx(0.8)
    weighted = (0.9 + 0.8 * 0.7 + 0.5 * 0.5 + 0.4 * 0.3) / 2.7
    assert found["weighted_mean"] == pytest.approx(weighted)
    assert found["volume_mm3"] == pytest.approx(2.7 * VOXEL_MM3)
    assert found["flag"] == "few_voxels"


def test_shares_of_a_group_are_summed_before_the_limit():
    share = np.zeros((5, 1, 1, N_CLASSES))
    share[:, 0, 0, [1, 2]] = 0.3
    share[..., 0] = 0.4
    table = measure_regions(share, constant_maps(share), SPACING, None, SETTINGS)
    wanted = {"scope": "cord", "region": "lateral_column", "metric": "FA"}
    assert row(table, side="left", **wanted)["flag"] == "empty"
    assert row(table, side="both", **wanted)["n_voxels"] == 5


def test_an_empty_region_is_missing_and_flagged_not_zero():
    share = strips()
    share[..., 0] += share[..., 5]
    share[..., 5] = 0
    table = measure_regions(share, constant_maps(share), SPACING, SURE, SETTINGS)
    empty = row(table, scope="cord", region="ventral_column", side="left", metric="MD")
    assert empty["flag"] == "empty"
    assert empty["n_voxels"] == 0
    numbers = ["mean", "std", "median", "p25", "p75", "weighted_mean", "core_mean", "volume_mm3"]
    assert empty[numbers].isna().all()


def test_a_slice_without_a_cord_is_missing_and_flagged():
    share = strips()
    share[:, :, 1] = 0
    share[:, :, 1, 0] = 1
    table = measure_regions(share, constant_maps(share), SPACING, SURE, SETTINGS)
    second = table[table["slice"] == 1]
    assert (second["flag"] == "no_cord").all()
    assert second[["mean", "weighted_mean", "volume_mm3", "confidence"]].isna().all(axis=None)
    pooled = row(table, scope="cord", region="cord", side="both", metric="FA")
    assert pooled["n_voxels"] == 40
    assert pooled["confidence"] == pytest.approx(0.9)


def test_a_slice_that_is_nowhere_half_cord_has_no_say():
    share = strips()
    share[:, :, 1, 1:] *= 0.4
    share[:, :, 1, 0] = 1 - share[:, :, 1, 1:].sum(axis=-1)
    maps = constant_maps(share)
    maps["FA"][..., 0], maps["FA"][..., 1] = 0.8, 0.2
    table = measure_regions(share, maps, SPACING, SURE, SETTINGS)
    assert (table.loc[table["slice"] == 1, "flag"] == "no_cord").all()
    pooled = row(table, scope="cord", region="cord", side="both", metric="FA")
    assert pooled["weighted_mean"] == pytest.approx(0.8)
    assert pooled["volume_mm3"] == pytest.approx(40 * VOXEL_MM3)


def test_a_run_without_any_cord_has_a_table_all_the_same():
    share = np.zeros((5, 5, 3, N_CLASSES))
    share[..., 0] = 1
    table = measure_regions(share, constant_maps(share), SPACING, None, SETTINGS)
    assert len(table) == 4 * len(REGION_GROUPS) * 4
    assert (table["flag"] == "no_cord").all()
    assert table["mean"].isna().all()


def test_voxels_without_a_value_are_left_out_and_counted():
    share = strips()
    maps = constant_maps(share)
    maps["FA"][2:4, 0, 0] = np.nan
    table = measure_regions(share, maps, SPACING, SURE, SETTINGS)
    found = row(table, scope="slice", slice=0, region="lateral_column", side="left", metric="FA")
    assert found["mean"] == pytest.approx(0.1)
    assert found["n_voxels"] == 3
    assert found["coverage"] == pytest.approx(0.6)
    assert found["flag"] == "few_voxels;partial_coverage"
    md = row(table, scope="slice", slice=0, region="lateral_column", side="left", metric="MD")
    assert md["coverage"] == 1


def test_zero_in_every_map_means_outside_the_tensor_mask():
    share = strips()
    maps = constant_maps(share)
    for values in maps.values():
        values[2:4, 0, 0] = 0
    table = measure_regions(share, maps, SPACING, SURE, SETTINGS)
    found = row(table, scope="slice", slice=0, region="lateral_column", side="left", metric="FA")
    assert found["mean"] == pytest.approx(0.1)
    assert found["coverage"] == pytest.approx(0.6)


def test_doubtful_values_are_flagged():
    share = strips()
    maps = constant_maps(share)
    maps["MD"][:, 2] = 2.9e-3
    table = measure_regions(share, maps, SPACING, np.array([0.9, 0.2]), SETTINGS)
    wanted = {"scope": "slice", "region": "dorsal_column", "side": "left", "metric": "MD"}
    assert row(table, slice=0, **wanted)["flag"] == "implausible"
    assert row(table, slice=1, **wanted)["flag"] == "implausible;low_confidence"


def test_the_cord_counts_each_slice_by_its_volume():
    share = strips()
    share[2:6, :, 1] = 0
    share[2:6, :, 1, 0] = 1
    maps = constant_maps(share)
    maps["FA"][..., 0], maps["FA"][..., 1] = 0.8, 0.2
    table = measure_regions(share, maps, SPACING, SURE, SETTINGS)
    found = row(table, scope="cord", region="cord", side="both", metric="FA")
    assert found["mean"] == pytest.approx((5 * 0.8 + 0.2) / 6)
    assert found["confidence"] == pytest.approx((5 * 0.9 + 0.8) / 6)


def test_levels_pool_their_slices():
    share = strips(4)
    maps = constant_maps(share)
    maps["FA"][:] = np.array([0.2, 0.4, 0.6, 0.8])
    level = np.array(["C4", "C4", "C3", ""])
    table = measure_regions(share, maps, SPACING, None, SETTINGS, notes=SliceNotes(level))
    levels = table[table["scope"] == "level"]
    assert levels["level"].unique().tolist() == ["C4", "C3"]
    assert levels["slice"].isna().all()
    wanted = {"region": "cord", "side": "both", "metric": "FA"}
    assert row(table, scope="level", level="C4", **wanted)["mean"] == pytest.approx(0.3)
    assert row(table, scope="slice", slice=2, **wanted)["level"] == "C3"
    assert pd.isna(row(table, scope="slice", slice=3, **wanted)["level"])
    assert pd.isna(row(table, scope="cord", **wanted)["level"])


def test_a_level_of_excluded_slices_alone_says_so():
    share, level = strips(3), np.array(["C4", "C4", "C3"])
    notes = SliceNotes(level, excluded=(2,))
    table = measure_regions(share, constant_maps(share), SPACING, None, SETTINGS, notes=notes)
    lost = table[(table["scope"] == "level") & (table["level"] == "C3")]
    assert (lost["flag"] == EXCLUDED).all()
    assert lost[["mean", "volume_mm3"]].isna().all(axis=None)
    others = table[(table["scope"] == "cord") | (table["level"] == "C4")]
    assert not others["flag"].astype(str).str.contains(EXCLUDED).any()


def test_the_arrays_are_not_changed():
    share = strips()
    maps = constant_maps(share)
    kept = share.copy(), {name: values.copy() for name, values in maps.items()}
    measure_regions(share, maps, SPACING, SURE, SETTINGS)
    np.testing.assert_array_equal(share, kept[0])
    for name in PLAUSIBLE:
        np.testing.assert_array_equal(maps[name], kept[1][name])


def test_the_uncertainty_of_a_mean_is_what_borders_move_it_by(rng):
    share = np.zeros((8, 8, 1, 9))
    share[..., 0] = 1
    share[2:6, 2:6, 0, 1], share[2:6, 2:6, 0, 0] = 1, 0
    ways = [np.roll(share, steps, axis=0) for steps in (1, -1)]
    values = rng.uniform(0.4, 0.6, (8, 8, 1))
    maps = {name: np.full((8, 8, 1), 1e-3) for name in ("MD", "AD", "RD")} | {"FA": values}
    table = measure_regions(share, maps, SPACING, None, SETTINGS, ways)
    left = (table["region"] == "lateral_column") & (table["side"] == "left")
    row = table[left & (table["scope"] == "slice")].set_index("metric").loc["FA"]
    change = [values[start : start + 4, 2:6].mean() - values[2:6, 2:6].mean() for start in (3, 1)]
    assert row["mean_uncertainty"] == pytest.approx(np.sqrt(np.square(change).mean()))
    unknown = measure_regions(share, maps, SPACING, None, SETTINGS)
    assert unknown["mean_uncertainty"].isna().all()
