"""How unusual each person is among the controls: z-scores and percentiles, for age and sex.

For every cell a linear model explains the controls' values by age and sex. A person is compared
with its prediction by the t statistic of a single new observation [crawford1998]_, which knows that
mean and spread come from few controls; a control is compared with the other controls. The
percentile is that of the t distribution, and z is the normal score of the same percentile, so that
z has the same meaning with 10 controls as with 1000.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from scsnet_bids.arrays import FloatArray
from scsnet_bids.group.people import DECISIVE, Controls, Covariates
from scsnet_bids.group.values import CELL, PERSON, first_sessions, spread_cells

FEWEST_FREEDOM = 8
"""Controls beyond the number of coefficients; with fewer the spread is hardly known."""

NORM_COLUMNS: dict[str, dict[str, Any]] = {
    "value": {"Description": "Unmixed value, mean over the runs of the session."},
    "uncertainty": {"Description": "Its standard error."},
    "expected": {
        "Description": "Value that the controls lead to expect at this person's age and sex."
    },
    "z": {
        "Description": "Normal score of the percentile: below 0 is below the controls. It rests "
        "on a t statistic, which takes the number of controls into account; the spread of the "
        "controls holds their own measurement error. A control is compared with the others.",
        "Units": "1",
    },
    "z_uncertainty": {
        "Description": "What the value's standard error makes of z.",
        "Units": "1",
    },
    "percentile": {"Description": "Share of controls expected below the value.", "Units": "%"},
    "n_controls": {
        "Description": "Controls behind the comparison; below "
        f"{FEWEST_FREEDOM} more than coefficients there is none."
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
    ``NORM_COLUMNS``, one row per row of ``values``
    """
    found = spread_cells(values, "value")
    uncertainty = spread_cells(values, "uncertainty").to_numpy(float)
    people = found.index.get_level_values("participant_id")
    first = set(map(tuple, first_sessions(values)[PERSON].drop_duplicates().to_numpy()))
    is_reference = np.array([key in first for key in found.index])
    is_reference &= people.isin(list(controls.members))
    design = covariates.design(people)
    scored = [
        _score_cell(column, error, design, is_reference)
        for column, error in zip(found.to_numpy(float).T, uncertainty.T, strict=True)
    ]
    parts = {
        name: pd.DataFrame(np.array([s[n] for s in scored]).T, found.index, found.columns)
        for n, name in enumerate(("expected", "z", "z_uncertainty", "percentile", "n_controls"))
    }
    table = values.set_index([*PERSON, *CELL])
    for name, part in parts.items():
        table[name] = part.stack(CELL, future_stack=True).reindex(table.index)
    table["n_controls"] = table["n_controls"].astype(int)
    table["covariates"] = "+".join(covariates.names) or None
    return table.reset_index()


def _score_cell(
    value: FloatArray, error: FloatArray, design: FloatArray, is_reference: npt.NDArray[np.bool_]
) -> tuple[FloatArray, ...]:
    """(n,) expected value, z, its error, percentile and number of controls of everybody."""
    complete = np.isfinite(value) & np.isfinite(design).all(axis=1)
    norm = is_reference & complete
    freedom = int(norm.sum()) - design.shape[1]
    nothing = np.full(len(value), np.nan)
    count = np.full(len(value), float(norm.sum()))
    x, y = design[norm], value[norm]
    if freedom < FEWEST_FREEDOM or np.linalg.matrix_rank(x) < x.shape[1]:
        return nothing, nothing, nothing, nothing, count
    covariance = np.linalg.inv(x.T @ x)
    expected = design @ (covariance @ x.T @ y)
    rest = value - expected
    squares = float((rest[norm] ** 2).sum())
    leverage = np.einsum("ni,ij,nj->n", design, covariance, design)
    # A new person; and a control against the others, by the formulas of deleted residuals. The
    # only one of a sex cannot be compared with others.
    scale = np.sqrt(squares / freedom * (1 + leverage))
    left = np.where(leverage[norm] < DECISIVE, 1 - leverage[norm], np.nan)
    others = (squares - rest[norm] ** 2 / left) / (freedom - 1)
    scale[norm] = np.sqrt(others * left)
    freedoms = np.where(norm, freedom - 1, freedom)
    t = rest / scale
    below = stats.t.cdf(t, freedoms)
    z = np.sign(t) * -stats.norm.ppf(stats.t.sf(np.abs(t), freedoms))
    # A control's own value also moves what the others are compared with, and its own residual.
    moved = error * np.where(norm, 1 - leverage, 1.0) / scale
    slope = stats.t.pdf(t, freedoms) / stats.norm.pdf(z)
    return expected, z, slope * moved, 100 * below, count
