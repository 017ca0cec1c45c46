"""What is told of the motion of a volume is that of all its slices."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scsnet_bids.confounds import CONFOUND_COLUMNS, tabulate_confounds
from scsnet_bids.gradients import Gradients
from scsnet_bids.shift_table import tabulate_shifts

GRADIENTS = Gradients(np.array([0.0, 800, 800]), np.array([[0, 0, 0], [0.6, 0, 0.8], [0, 1, 0]]))
SHIFT_MM = np.array([[[0.3, 0.4], [0, 0]], [[0.3, 0.4], [-0.6, 0.8]], [[0, 0], [-0.6, 0]]])
TRUSTED = np.array([[True, True], [True, False], [False, False]])


@pytest.fixture(scope="module")
def table():
    by_volume = pd.DataFrame({"last_step": [0.1, 0.2, 0.3]})
    return tabulate_confounds(tabulate_shifts(SHIFT_MM, TRUSTED), by_volume, GRADIENTS)


def test_framewise_displacement_is_the_mean_change_of_the_slices(table):
    assert np.isnan(table["framewise_displacement"][0])
    np.testing.assert_allclose(table["framewise_displacement"][1:], [0.5, 0.65])


def test_displacement_is_the_mean_and_the_largest_of_the_slices(table):
    np.testing.assert_allclose(table["displacement_mean"], [0.25, 0.75, 0.3])
    np.testing.assert_allclose(table["displacement_max"], [0.5, 1.0, 0.6])


def test_directions_keep_their_sign(table):
    np.testing.assert_allclose(table["trans_left"], [0.15, -0.15, -0.3])
    np.testing.assert_allclose(table["trans_posterior"], [0.2, 0.6, 0.0])
    np.testing.assert_allclose(table[["grad_x", "grad_y", "grad_z"]], GRADIENTS.bvecs)


def test_what_was_borrowed_and_what_was_not_estimated_is_told(table):
    assert table.columns.tolist() == list(CONFOUND_COLUMNS)
    np.testing.assert_allclose(table["untrusted_fraction"], [0, 0.5, 1])
    assert table["last_step"].tolist() == [0.1, 0.2, 0.3]
    assert table["eddy_scale"].isna().all()
