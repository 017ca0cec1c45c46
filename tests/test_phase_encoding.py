from __future__ import annotations

import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, ornt_transform

from scsnet_bids.images import Grid
from scsnet_bids.runs import phase_encoding


def stored_as(codes: str) -> Grid:
    storage = ornt_transform(axcodes2ornt("LPS"), axcodes2ornt(tuple(codes)))
    return Grid((4, 5, 6), np.diag([-1.0, -1.0, 1.0, 1.0]), storage)


@pytest.mark.parametrize(
    ("codes", "direction", "expected"),
    [
        ("LPS", "j", (1, 1)),
        ("LPS", "j-", (1, -1)),
        ("LAS", "j", (1, -1)),
        ("RAS", "i", (0, -1)),
        ("RAS", "i-", (0, 1)),
        ("PLS", "i", (1, 1)),
        ("ALS", "i", (1, -1)),
        ("SLA", "k-", (1, 1)),
    ],
)
def test_the_axis_of_the_file_becomes_the_inner_axis_with_its_sign(
    codes: str, direction: str, expected: tuple[int, int]
) -> None:
    assert phase_encoding({"PhaseEncodingDirection": direction}, stored_as(codes)) == expected


@pytest.mark.parametrize("metadata", [{}, {"PhaseEncodingDirection": "k"}, {"Other": "j"}])
def test_what_is_not_said_is_posterior_of_unknown_sign(metadata: dict[str, str]) -> None:
    assert phase_encoding(metadata, stored_as("LAS")) == (1, 0)


def test_an_axis_without_a_direction_has_no_sign() -> None:
    assert phase_encoding({"PhaseEncodingAxis": "i"}, stored_as("RAS")) == (0, 0)
