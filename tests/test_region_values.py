"""The comparison of ways to measure a region, and the drawn cords that it can take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from scsnet_bids.benchmark.region_values import (
    CORE,
    DRAWN,
    LINEAR,
    LOW_SNR,
    PLAIN,
    UNMIXED,
    USUAL_SCHEME,
    Condition,
    describe_errors,
    list_conditions,
    measure_maps,
    measure_true,
)
from scsnet_bids.images import read_image
from scsnet_bids.phantom import TINY, DrawnCord, PhantomSettings, simulate, write_dataset
from scsnet_bids.regions import N_CLASSES, REGIONS, Tissue

STILL = replace(TINY, snr=np.inf, motion_mm=0, b0_to_dwi_mm=0)


def draw_cord(half_width_mm: float, half_depth_mm: float = 4.0) -> DrawnCord:
    """An ellipse with a gray cross in it, as wide as asked for, on pixels of 0.5 mm."""
    y, x = np.meshgrid(*[(np.arange(48) - 23.5) / 2] * 2, indexing="ij")
    cord = (x / half_width_mm) ** 2 + (y / half_depth_mm) ** 2 < 1
    gray = cord & (np.minimum(abs(x), abs(y)) < 0.9) & (np.maximum(abs(x), abs(y)) < 3)
    dorsal, ventral = (cord & ~gray & (abs(x) < 2) & (side * y > 0) for side in (1, -1))
    lateral = cord & ~gray & ~dorsal & ~ventral
    return DrawnCord(np.stack([lateral, dorsal, ventral, gray])[None].astype(float), 0.5)


def test_a_phantom_takes_the_drawn_shape_and_area():
    wide, narrow = (draw_cord(half_width) for half_width in (7.0, 4.5))
    shares = [simulate(STILL, 3, cord).region_share for cord in (wide, narrow)]
    areas = [share[..., 1:].sum(axis=(0, 1)).mean(axis=0) for share in shares]
    assert areas[0].sum() / areas[1].sum() == pytest.approx(7.0 / 4.5, rel=0.03)
    drawn = wide.tissue_share[0].sum(axis=(1, 2))
    for tissue, part in zip(Tissue, drawn / drawn.sum(), strict=True):
        both = [n for n, region in enumerate(REGIONS) if region.tissue is tissue]
        assert areas[0][both].sum() / areas[0].sum() == pytest.approx(part, abs=0.02)


def test_the_left_of_a_drawing_is_the_patients_left():
    labels = draw_cord(6.0).label_points(np.array([4.0, -4.0]), np.zeros(2), level=5.0)
    assert [REGIONS[label - 1].name for label in labels] == [
        "left_lateral_column",
        "right_lateral_column",
    ]


def test_levels_run_through_the_drawn_slices_from_the_head_downward():
    wide, narrow = draw_cord(7.0).tissue_share, draw_cord(5.0).tissue_share
    cord, place = DrawnCord(np.concatenate([wide, narrow]), 0.5), np.array([6.0])
    inside = [cord.label_points(place, np.zeros(1), level)[0] > 0 for level in (2.0, 7.0)]
    assert inside == [True, False]


def test_people_of_a_dataset_take_the_drawn_cords_in_turn(tmp_path):
    write_dataset(tmp_path / "data", TINY, 2, 0, drawn=[draw_cord(7.0), draw_cord(4.5)])
    shares = sorted(tmp_path.glob("data/derivatives/**/*_probseg.nii.gz"))
    areas = [1 - read_image(path).data[..., 0] for path in shares]
    assert areas[0].sum() > 1.4 * areas[1].sum()


def test_drawn_cords_are_a_condition_of_every_length():
    for effort in ("quick", "default", "full"):
        assert any(condition.is_drawn for condition in list_conditions(effort))


def test_linear_unmixing_returns_the_values_that_a_map_was_mixed_from():
    share = simulate(STILL, 3).region_share
    values = np.linspace(0.1, 0.9, N_CLASSES)
    mixed = share @ values
    measured = measure_maps({"fa": mixed, "md": 2 * mixed}, share)
    unmixed = measured[LINEAR]
    np.testing.assert_allclose(unmixed, np.outer(values[1:], [1, 2]), atol=1e-4)
    off = {way: np.abs(measured[way][:, 0] - values[1:]).mean() for way in (CORE, PLAIN)}
    assert off[CORE] < off[PLAIN]


def test_without_noise_unmixed_signals_are_nearest_to_the_tissue(monkeypatch):
    monkeypatch.setattr(Condition, "settings", lambda *_: replace(STILL, directions=15, snr=200))
    measured = list(measure_true(Condition("healthy", USUAL_SCHEME, LOW_SNR), 1))
    error = {way: np.nanmean(np.abs(values / truth - 1)[:, 0]) for way, values, truth in measured}
    assert error[UNMIXED] < 0.5 * error[PLAIN]
    assert error[UNMIXED] < 0.05


def test_a_condition_changes_what_its_name_says():
    assert Condition("drawn, compressed", "6+60", 10.0).settings(0.9) == PhantomSettings(
        snr=10.0, motion_mm=0.9, compression=0.4, b0_volumes=6, directions=60
    )


def test_the_part_of_a_lesion_that_is_seen_is_that_of_the_true_loss():
    rows = [
        {"shares": "true", "cord": cord, "scheme": USUAL_SCHEME, "snr": LOW_SNR, "way": "ours"}
        | {"tissue": "lateral_column", "run": 0, "FA": fa, "FA true": true, "MD": 1.0}
        | {"FA error %": 0.0, "MD error %": 0.0, "MD true": 1.0}
        for cord, fa, true in (
            ("healthy", 0.70, 0.80),
            ("lesion", 0.50, 0.40),
            (DRAWN, 0.80, 0.80),
            ("drawn, lesion", 0.40, 0.40),
        )
    ]
    text = describe_errors(pd.DataFrame(rows))[-1]
    assert "healthy cord, true shares" in text
    assert text.splitlines()[-1].replace(" ", "") == "|ours|50|100|"
