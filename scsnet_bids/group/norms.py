"""How unusual each person is among the controls: z-scores and percentiles, for age and sex.

For every cell a linear model explains the controls' values by age and sex. A person is compared
with its prediction by the t statistic of a single new observation [crawford1998]_, which knows that
mean and spread come from few controls; a control is compared with the other controls, in every
session. The percentile is that of the t distribution, and z is the normal score of the same
percentile, so that z has the same meaning with 10 controls as with 1000.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.group.people import DECISIVE, Controls, Covariates
from scsnet_bids.group.values import CELL, NO_SPREAD, PERSON, first_sessions, spread_cells

FEWEST_FREEDOM = 8
"""Controls beyond the number of coefficients; with fewer the spread is hardly known."""
SMALLEST = 1e-300
"""Probabilities below it have no normal score in double precision."""

NORM_COLUMNS: dict[str, dict[str, Any]] = {
    "value": {"Description": "Unmixed value, mean over the runs of the session."},
    "uncertainty": {"Description": "Its standard error."},
    "expected": {
        "Description": "Value that the controls lead to expect at this person's age and sex; for a "
        "control, the other controls."
    },
    "z": {
        "Description": "Normal score of the percentile: below 0 is below the controls. It rests "
        "on a t statistic, which takes the number of controls into account; the spread of the "
        "controls holds their own measurement error. A control is compared with the others, in "
        "every session.",
        "Units": "1",
    },
    "z_uncertainty": {
        "Description": "What the value's standard error makes of z.",
        "Units": "1",
    },
    "percentile": {"Description": "Share of controls expected below the value.", "Units": "%"},
    "n_controls": {
        "Description": "Controls behind the comparison, without the person. It needs "
        f"{FEWEST_FREEDOM} controls more than the model has coefficients."
    },
    "covariates": {"Description": "What the model considers besides a constant; n/a if nothing."},
}


def score_people(values: pd.DataFrame, controls: Controls, covariates: Covariates) -> pd.DataFrame:
    """Compare everybody with the controls, cell by cell.

    Parameters
    ----------
    values : as :func:`scsnet_bids.group.values.tabulate_values` gives them
    controls : the reference; their first sessions are taken
    covariates : of everybody

    Returns
    -------
    DataFrame with ``participant_id``, ``session``, the columns of ``CELL`` and of
    ``NORM_COLUMNS``, one row per value
    """
    found = spread_cells(values, "value")
    uncertainty = spread_cells(values, "uncertainty").to_numpy(float)
    people = found.index.get_level_values("participant_id")
    first = set(map(tuple, first_sessions(values)[PERSON].drop_duplicates().to_numpy()))
    is_reference = np.array([key in first for key in found.index], dtype=bool)
    is_reference &= people.isin(list(controls.members))
    own = _rows_of_controls(people, is_reference)
    design = covariates.design(people)
    names = ("expected", "z", "z_uncertainty", "percentile", "n_controls")
    scored = np.empty((len(names), *found.shape))
    for n, (column, error) in enumerate(zip(found.to_numpy(float).T, uncertainty.T, strict=True)):
        scored[:, :, n] = _score_cell(column, error, design, is_reference, own)
    parts = {
        name: pd.DataFrame(part, found.index, found.columns)
        for name, part in zip(names, scored, strict=True)
    }
    table = values.set_index([*PERSON, *CELL])
    for name, part in parts.items():
        table[name] = part.stack(CELL, future_stack=True).reindex(table.index)
    table["n_controls"] = table["n_controls"].astype(int)
    table["covariates"] = "+".join(covariates.names) or None
    return table[table["value"].notna()].reset_index()


def _rows_of_controls(people: pd.Index, is_reference: BoolArray) -> npt.NDArray[np.intp]:
    """(n,) row by which everybody is among the controls, in whatever session; -1 of nobody."""
    rows = {people[row]: row for row in np.flatnonzero(is_reference).tolist()}
    return np.array([rows.get(person, -1) for person in people], dtype=np.intp)


def _score_cell(
    value: FloatArray,
    error: FloatArray,
    design: FloatArray,
    is_reference: BoolArray,
    own: npt.NDArray[np.intp],
) -> tuple[FloatArray, ...]:
    """(n,) expected value, z, its error, percentile and number of controls of everybody."""
    complete = np.isfinite(value) & np.isfinite(design).all(axis=1)
    norm = is_reference & complete
    is_control = norm[own] & (own >= 0)
    freedom = int(norm.sum()) - design.shape[1]
    nothing = np.full(len(value), np.nan)
    count = norm.sum() - is_control.astype(float)
    x, y = design[norm], value[norm]
    if freedom < FEWEST_FREEDOM or np.linalg.matrix_rank(x) < x.shape[1]:
        return nothing, nothing, nothing, nothing, count
    covariance = np.linalg.inv(x.T @ x)
    expected = design @ (covariance @ x.T @ y)
    rest = value - expected
    squares = float((rest[norm] ** 2).sum())
    if squares <= freedom * (NO_SPREAD * np.abs(y).max()) ** 2:
        return nothing, nothing, nothing, nothing, count
    leverage = np.einsum("ni,ij,nj->n", design, covariance, design)
    # A control is taken out of those that it is compared with, by the formulas of deleted
    # residuals. The only one of a sex cannot be compared with others.
    without = np.where(is_control, own, 0)
    left = np.where(leverage[without] < DECISIVE, 1 - leverage[without], np.nan)
    shared = np.einsum("ni,ij,nj->n", design, covariance, design[without])
    gone = np.where(is_control, rest[without], 0.0)
    expected = expected - np.where(is_control, shared * gone / left, 0.0)
    leverage = leverage + np.where(is_control, shared**2 / left, 0.0)
    squares_left = squares - np.where(is_control, gone**2 / left, 0.0)
    freedoms = freedom - is_control.astype(float)
    scale = np.sqrt(squares_left / freedoms * (1 + leverage))
    t = (value - expected) / scale
    below = stats.t.cdf(t, freedoms)
    z = np.sign(t) * stats.norm.isf(np.maximum(stats.t.sf(np.abs(t), freedoms), SMALLEST))
    slope = stats.t.pdf(t, freedoms) / stats.norm.pdf(z)
    return expected, z, slope * error / scale, 100 * below, count
