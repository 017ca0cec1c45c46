"""The most compressed slice is found where it is, and a healthy cord has none that stands out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scsnet_bids.compression import (
    COMPRESSION_COLUMNS,
    STANDS_OUT,
    find_most_compressed,
    tabulate_compression,
)
from scsnet_bids.cord_shape import measure_shape
from scsnet_bids.phantom import PhantomSettings, simulate
from scsnet_bids.slice_marks import EXCLUDED

SMOOTH = np.linspace(0.56, 0.66, 15)


def shape_table(ratio: np.ndarray, level: list[str] | None = None) -> pd.DataFrame:
    flag = [None if np.isfinite(r) else "no_cord" for r in ratio]
    levels = [None] * len(ratio) if level is None else level
    columns = {"slice": range(len(ratio)), "level": levels, "compression_ratio": ratio}
    return pd.DataFrame(columns | {"flag": flag})


def region_table(values: dict[tuple[str, object], float]) -> pd.DataFrame:
    """White matter of some slices and levels, for both metrics."""
    rows = [
        {
            "scope": scope,
            "slice": place if scope == "slice" else np.nan,
            "level": place if scope == "level" else np.nan,
            "region": "white_matter",
            "side": "both",
            "metric": metric,
            "volume_mm3": 30.0 if place == "C3" else 10.0,
            "unmixed": value * factor,
            "unmixed_uncertainty": 0.1 * value * factor,
        }
        for (scope, place), value in values.items()
        for metric, factor in (("FA", 1.0), ("MD", 1e-3))
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("drop", [0.2, 0.4])
def test_a_compressed_phantom_has_its_slice_found(drop):
    phantom = simulate(PhantomSettings(directions=6, b0_volumes=1, compression=drop), 5)
    share = 1 - phantom.region_share[..., 0].astype(float)
    shape = measure_shape(share, phantom.grid.spacing_mm, None, 0.75)
    found = find_most_compressed(shape)
    assert found is not None
    assert abs(phantom.level[found.slice] - 5.5) * 16 <= phantom.grid.spacing_mm[2]
    assert found.deviation < STANDS_OUT


def test_healthy_phantoms_have_none_that_stands_out():
    rng = np.random.default_rng(1)
    deviations = []
    for _ in range(200):
        ratio = SMOOTH * np.exp(rng.normal(0, 0.05, len(SMOOTH)))
        found = find_most_compressed(shape_table(ratio))
        assert found is not None
        deviations.append(found.deviation)
    assert np.mean(np.array(deviations) <= STANDS_OUT) < 0.01


def test_three_compressed_slices_do_not_hide_each_other():
    ratio = SMOOTH.copy()
    ratio[5:8] *= [0.8, 0.6, 0.75]
    found = find_most_compressed(shape_table(ratio))
    assert found is not None
    assert (found.slice, found.deviation < STANDS_OUT) == (6, True)


@pytest.mark.parametrize("missing", [slice(0), slice(2, 8)])
def test_a_steady_change_along_the_neck_does_not_stand_out(missing):
    ratio = np.geomspace(0.4, 0.8, 15)
    ratio[missing] = np.nan
    found = find_most_compressed(shape_table(ratio))
    assert found is not None
    assert found.slice == 0
    assert found.deviation == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("n", "known"), [(4, False), (5, True)])
def test_five_slices_tell_how_far_one_stands_out(n, known):
    found = find_most_compressed(shape_table(np.full(n, 0.6)))
    assert found is not None
    assert np.isfinite(found.deviation) == known


def test_too_few_slices_tell_the_flattest_and_no_more():
    row = tabulate_compression(
        shape_table(np.array([0.6, 0.3, 0.6, np.nan])), region_table({("slice", 9): 0.4})
    )
    assert row["compressed_slice"].tolist() == [1]
    assert row[["compressed_deviation", "compressed_stands_out"]].isna().all(axis=None)


@pytest.mark.parametrize("flag", ["cut_off;low_confidence", "implausible", EXCLUDED])
def test_a_doubtful_slice_does_not_count_and_no_cord_gives_no_numbers(flag):
    shape = shape_table(np.array([0.6, 0.3, 0.5, 0.6, 0.6]))
    shape.loc[1, "flag"] = flag
    found = find_most_compressed(shape)
    assert found is not None
    assert (found.slice, np.isnan(found.deviation)) == (2, True)
    row = tabulate_compression(shape_table(np.full(6, np.nan)), region_table({("slice", 9): 0.4}))
    assert row.isna().all(axis=None)
    assert row.columns.tolist() == list(COMPRESSION_COLUMNS)


def test_values_are_compared_with_c2_and_c3_by_volume():
    levels = ["C5"] * 5 + ["C4"] * 4 + ["C3"] * 4 + ["C2"] * 2
    shape = shape_table(np.where(np.arange(15) == 3, 0.3, SMOOTH), levels)
    regions = region_table({("slice", 3): 0.4, ("level", "C3"): 0.7, ("level", "C2"): 0.9})
    row = tabulate_compression(shape, regions).iloc[0]
    assert (row["compressed_slice"], row["compressed_level"]) == (3, "C5")
    assert row["compressed_stands_out"] == 1
    assert row["compressed_fa"] == pytest.approx(0.4)
    assert row["c2c3_fa"] == pytest.approx(0.75)
    assert row["c2c3_fa_uncertainty"] == pytest.approx(np.hypot(0.75 * 0.07, 0.25 * 0.09))
    assert row["compressed_fa_ratio"] == pytest.approx(0.4 / 0.75)
    relative = np.hypot(0.1, row["c2c3_fa_uncertainty"] / 0.75)
    assert row["compressed_fa_ratio_uncertainty"] == pytest.approx(0.4 / 0.75 * relative)
    assert row["c2c3_md"] == pytest.approx(0.75e-3)


@pytest.mark.parametrize("level", ["C2-C3", "C2/C3"])
def test_a_disc_between_c2_and_c3_is_a_reference_too(level):
    shape = shape_table(np.where(np.arange(15) == 3, 0.3, SMOOTH))
    regions = region_table({("slice", 3): 0.4, ("level", level): 0.8})
    assert tabulate_compression(shape, regions).iloc[0]["c2c3_fa"] == pytest.approx(0.8)


def test_without_levels_or_at_c2_there_is_no_ratio():
    shape = shape_table(np.where(np.arange(15) == 3, 0.3, SMOOTH))
    regions = region_table({("slice", 3): 0.4})
    row = tabulate_compression(shape, regions).iloc[0]
    assert row["compressed_fa"] == pytest.approx(0.4)
    assert pd.isna(row["compressed_level"])
    assert row[["c2c3_fa", "compressed_fa_ratio", "compressed_fa_ratio_uncertainty"]].isna().all()
    high = shape.assign(level="C2")
    regions = region_table({("slice", 3): 0.4, ("level", "C2"): 0.9})
    assert pd.isna(tabulate_compression(high, regions).iloc[0]["compressed_fa_ratio"])


def test_a_value_of_zero_has_a_ratio_of_zero_and_its_error():
    shape = shape_table(np.where(np.arange(15) == 3, 0.3, SMOOTH))
    regions = region_table({("slice", 3): 0.0, ("level", "C3"): 0.8})
    regions["unmixed_uncertainty"] = 0.04
    row = tabulate_compression(shape, regions).iloc[0]
    assert row["compressed_fa_ratio"] == 0
    assert row["compressed_fa_ratio_uncertainty"] == pytest.approx(0.05)


def test_every_column_is_described():
    assert all(entry["Description"] for entry in COMPRESSION_COLUMNS.values())
