"""Rows of several regions or slices are means by volume, and say what they lack."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scsnet_bids.regional import NO_NOTES, SliceNotes, measure_regions
from scsnet_bids.regions import N_CLASSES
from scsnet_bids.settings import RegionalSettings
from scsnet_bids.slice_marks import EXCLUDED
from scsnet_bids.unmixing.region_tensor import METRICS
from scsnet_bids.unmixing.signals import UnmixedValues
from scsnet_bids.unmixing.table import add_unmixed, combine_values, summarise_borders

N_SLICES = 3
CERTAIN = np.zeros((2, N_SLICES, 8, 4))


def add(
    unmixed: UnmixedValues, change: np.ndarray = CERTAIN, notes: SliceNotes = NO_NOTES
) -> pd.DataFrame:
    """Add values to the table of a cord of eight regions of five voxels each."""
    share = np.zeros((5, 9, N_SLICES, N_CLASSES))
    for label in range(N_CLASSES):
        share[:, label, :, label] = 1
    maps = {metric: np.full(share.shape[:3], 1e-3) for metric in METRICS}
    table = measure_regions(share, maps, (1, 1, 5), None, RegionalSettings(), notes=notes)
    return add_unmixed(table, unmixed, change)


@pytest.fixture
def unmixed() -> UnmixedValues:
    """FA 0.5, 0.6 and 0.7 in the slices, diffusivities of 1e-3, errors of 0.02 of each."""
    value = np.full((N_SLICES, 8, 4), 1e-3)
    value[..., 0] = np.array([0.5, 0.6, 0.7])[:, None]
    covariance = np.eye(8) * 0.02**2
    covariance = np.broadcast_to(covariance, (N_SLICES, 4, 8, 8)).copy()
    volume, known = np.full((N_SLICES, 8), 5.0), np.ones(N_SLICES, dtype=bool)
    unexplained, influence = np.full(N_SLICES, 0.02), np.zeros((N_SLICES, 8, 4, 6))
    return UnmixedValues(value, covariance, volume, known, unexplained, ~known, influence)


def fa_of(table: pd.DataFrame, **wanted: object) -> pd.Series:
    wanted = {"region": "cord", "side": "both", "metric": "FA"} | wanted
    (found,) = np.flatnonzero((table[list(wanted)] == pd.Series(wanted)).all(axis=1))
    return table.iloc[found]


def test_an_excluded_slice_enters_neither_its_level_nor_the_cord(unmixed) -> None:
    level = np.array(["C5", "C5", "C4"])
    table = add(unmixed, notes=SliceNotes(level, excluded=(1, 2)))
    assert fa_of(table, scope="slice", slice=1)["unmixed"] == pytest.approx(0.6)
    assert fa_of(table, scope="slice", slice=1)["unmixed_flag"] == EXCLUDED
    assert fa_of(table, scope="level", level="C5")["unmixed"] == pytest.approx(0.5)
    assert fa_of(table, scope="cord")["unmixed"] == pytest.approx(0.5)
    assert fa_of(table, scope="level", level="C4")["unmixed_flag"] == EXCLUDED


def test_a_slice_that_its_regions_do_not_explain_says_so_and_enters_no_mean(unmixed) -> None:
    unmixed.value[1], unmixed.rejected[1] = np.nan, True
    table = add(unmixed)
    assert fa_of(table, scope="slice", slice=1)["unmixed_flag"] == "unexplained"
    assert fa_of(table, scope="cord")["unmixed"] == pytest.approx(0.6)
    assert fa_of(table, scope="cord")["unmixed_flag"] == "partial"
    unmixed.value[0], unmixed.rejected[0] = np.nan, True
    assert fa_of(add(unmixed), scope="cord")["unmixed_flag"] == "unexplained"


def test_an_impossible_slice_does_not_decide_the_mean(unmixed) -> None:
    unmixed.value[1, :, METRICS.index("MD")] = 16e-3
    table = add(unmixed)
    own = fa_of(table, scope="slice", slice=1, metric="MD")
    assert pd.isna(own["unmixed"])
    assert own["unmixed_flag"] == "implausible"
    wanted = {"scope": "slice", "slice": 1, "metric": "MD", "side": "left"}
    alone = fa_of(table, region="gray_matter", **wanted)
    assert alone["unmixed"] == pytest.approx(16e-3)
    assert "implausible" in alone["unmixed_flag"]
    whole = fa_of(table, scope="cord", metric="MD")
    assert whole["unmixed"] == pytest.approx(1e-3)
    assert "partial" in whole["unmixed_flag"]


def test_noise_averages_out_over_regions_and_slices(unmixed) -> None:
    found = fa_of(add(unmixed), scope="cord")
    assert found["unmixed_uncertainty"] == pytest.approx(0.02 / np.sqrt(8 * N_SLICES))


def test_a_border_of_a_slice_without_a_value_has_no_say(unmixed) -> None:
    change = np.full((2, N_SLICES, 8, 4), 0.03)
    unmixed.value[0], change[:, 0] = np.nan, np.nan
    found = fa_of(add(unmixed, change), scope="cord")
    assert found["unmixed"] == pytest.approx(0.65)
    assert found["unmixed_uncertainty"] == pytest.approx(np.hypot(0.03, 0.02 / 4))


@pytest.mark.parametrize(
    ("determined", "reason"),
    [([True, False, False], "not_separable"), ([False, False, False], "few_volumes")],
)
def test_volumes_are_too_few_where_they_are_in_all_slices(unmixed, determined, reason) -> None:
    unmixed.value[:], unmixed.determined[:] = np.nan, determined
    assert fa_of(add(unmixed), scope="cord")["unmixed_flag"] == reason


@pytest.mark.parametrize(
    ("part", "flag"), [(0.96, None), (0.94, "partial"), (0.51, "partial"), (0.49, "reason")]
)
def test_a_mean_needs_half_of_the_volume_and_says_if_some_is_missing(part, flag) -> None:
    volume = np.array([part, 1 - part])
    mean, deviation, found = combine_values(np.array([0.6, np.nan]), volume, 0.01, "FA", "reason")
    assert found == flag
    expected = (np.nan, np.nan) if flag == "reason" else (0.6, 0.01)
    assert (mean, deviation) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("value", "deviation", "flag"),
    [
        (0.6, 0.149, None),
        (0.6, 0.151, "uncertain"),
        (0.6, np.nan, "uncertain"),
        (0.04, 0.001, "implausible"),
        (0.99, 0.001, "implausible"),
    ],
)
def test_doubtful_means_are_flagged(value, deviation, flag) -> None:
    found = combine_values(np.array([value]), np.ones(1), deviation, "FA", "reason")
    assert found[2] == flag


def test_borders_are_summed_up_over_the_slices() -> None:
    borders = pd.DataFrame(
        {
            "area_ratio": [0.9, 1.3, 1.0, np.nan],
            "gray_ratio": [1.1, 0.8, 0.7, np.nan],
            "at_limit": [1, 0, 1, 0],
        }
    )
    assert summarise_borders(borders).iloc[0].to_dict() == {
        "outline_area_ratio": 1.0,
        "outline_area_ratio_min": 0.9,
        "outline_area_ratio_max": 1.3,
        "outline_at_limit": 2,
        "gray_area_ratio": 0.8,
    }
