"""Differences between the controls and other groups: size, interval, probability, effect size.

One linear model per cell: group, age and sex. Its standard errors allow groups of different spread
(HC3 [mackinnon1985]_); how few people they rest on, as where one group is small, is told by
Satterthwaite's degrees of freedom [imbens2016]_. Hedges' g is the difference by the spread within
groups, corrected for few people; its interval comes from the noncentral t distribution and holds 0
exactly where that of the difference does. Probabilities are corrected by Benjamini and Hochberg's
procedure [benjamini1995]_ over all cells of the same comparison and scope.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.group.people import DECISIVE, Controls, Covariates
from scsnet_bids.group.values import CELL, NO_SPREAD, first_sessions, spread_cells

FEWEST_OF_A_GROUP = 5
CONFIDENCE = 0.95

DIFFERENCE_COLUMNS: dict[str, dict[str, Any]] = {
    "group": {"Description": "Value of the column that --controls names; compared with them."},
    "n_group": {"Description": "People of the group with a value and all covariates."},
    "n_controls": {"Description": "Controls with a value and all covariates."},
    "mean_group": {"Description": "Mean of the group, not adjusted."},
    "mean_controls": {"Description": "Mean of the controls, not adjusted."},
    "difference": {
        "Description": "Group minus controls at the same age and sex, in the unit of the metric."
    },
    "difference_low": {"Description": "Lower end of its 95 % confidence interval."},
    "difference_high": {"Description": "Upper end of its 95 % confidence interval."},
    "p": {
        "Description": "Two-sided probability of such a difference without a true one (HC3, "
        "t with Satterthwaite's degrees of freedom)."
    },
    "q": {
        "Description": "p corrected for multiple comparisons by Benjamini and Hochberg's procedure "
        "over all rows of the same group and scope: false discovery rate."
    },
    "hedges_g": {
        "Description": "Difference by the standard deviation within groups, not adjusted for age "
        "and sex; corrected for few people."
    },
    "hedges_g_low": {"Description": "Lower end of its 95 % confidence interval."},
    "hedges_g_high": {"Description": "Upper end of its 95 % confidence interval."},
    "covariates": {"Description": "What the model considers besides the group; n/a if nothing."},
}


def compare_groups(
    values: pd.DataFrame, controls: Controls, covariates: Covariates
) -> pd.DataFrame:
    """Compare every other group with the controls, cell by cell, by everybody's first session.

    Parameters
    ----------
    values : as :func:`scsnet_bids.group.values.tabulate_values` gives them
    controls : the reference, and who the others are
    covariates : of everybody

    Returns
    -------
    DataFrame with the columns of ``CELL`` and of ``DIFFERENCE_COLUMNS``; groups and cells with
    fewer than five people on either side are left out
    """
    found = spread_cells(first_sessions(values), "value")
    people = found.index.get_level_values("participant_id")
    reference = people.isin(list(controls.members))
    rows: list[dict[str, Any]] = []
    for name, members in controls.others.items():
        chosen = reference | people.isin(list(members))
        is_group = people[chosen].isin(list(members)).astype(float)
        design = np.column_stack([is_group, covariates.design(people[chosen])])
        for cell, column in zip(found.columns, found.to_numpy(float)[chosen].T, strict=True):
            if result := _compare(column, design):
                rows.append({"group": name, **dict(zip(CELL, cell, strict=True)), **result})
    table = pd.DataFrame(rows, columns=["group", *CELL, *list(DIFFERENCE_COLUMNS)[1:]])
    table["q"] = table.groupby(["group", "scope"])["p"].transform(_adjust) if rows else table["p"]
    table["covariates"] = "+".join(covariates.names) or None
    return table[["group", *CELL, *list(DIFFERENCE_COLUMNS)[1:]]]


def _adjust(p: pd.Series[float]) -> pd.Series[float]:
    """Correct probabilities by Benjamini and Hochberg's procedure."""
    return pd.Series(stats.false_discovery_control(p.to_numpy(float)), p.index)


def _compare(value: FloatArray, design: FloatArray) -> Mapping[str, float]:
    """Compare one cell; empty if too few people have a value, or if none differ."""
    complete = np.isfinite(value) & np.isfinite(design).all(axis=1)
    y, x = value[complete], design[complete]
    is_group = x[:, 0] > 0
    counts = int(is_group.sum()), int((~is_group).sum())
    if min(counts) < FEWEST_OF_A_GROUP or np.linalg.matrix_rank(x) < x.shape[1]:
        return {}
    difference, error, freedom, rest = _fit(y, x)
    if np.abs(rest).max() <= NO_SPREAD * np.abs(y).max() or not error > 0:
        return {}
    half = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * error
    within, pooled = _spread_within(y, is_group)
    low, high = _interval_of_t(difference / error, freedom) * error / within
    correction = float(np.exp(special.gammaln(pooled / 2) - special.gammaln((pooled - 1) / 2)))
    correction /= np.sqrt(pooled / 2)
    return {
        "n_group": counts[0],
        "n_controls": counts[1],
        "mean_group": y[is_group].mean(),
        "mean_controls": y[~is_group].mean(),
        "difference": difference,
        "difference_low": difference - half,
        "difference_high": difference + half,
        "p": 2 * stats.t.sf(abs(difference / error), freedom),
        "hedges_g": correction * difference / within,
        "hedges_g_low": correction * low,
        "hedges_g_high": correction * high,
    }


def _fit(y: FloatArray, x: FloatArray) -> tuple[float, float, float, FloatArray]:
    """First coefficient of a linear model, its HC3 error, their freedom, and what is not explained.

    The squared error is a sum of squared residuals, weighted: ``y' B y``. Its degrees of freedom
    are those of the chi-square distribution of the same mean and variance, where all spread alike.
    """
    inverse = np.linalg.inv(x.T @ x)
    leaves = np.eye(len(y)) - x @ inverse @ x.T  # what the model leaves of values
    rest = leaves @ y
    own = 1 - np.diag(leaves)
    say = (inverse @ x.T)[0] / np.where(own < DECISIVE, 1 - own, np.inf)
    shared = (say[:, None] * leaves * say) ** 2
    mean, variance = (say**2 * (1 - own)).sum(), shared.sum()
    error = np.sqrt((say**2 * rest**2).sum())
    return float((inverse @ x.T @ y)[0]), float(error), float(mean**2 / variance), rest


def _spread_within(y: FloatArray, is_group: BoolArray) -> tuple[float, int]:
    """Pooled standard deviation within the two groups, and its degrees of freedom."""
    squares = sum(((part - part.mean()) ** 2).sum() for part in (y[is_group], y[~is_group]))
    return float(np.sqrt(squares / (len(y) - 2))), len(y) - 2


def _interval_of_t(t: float, freedom: float) -> FloatArray:
    """(2,) noncentralities between which a t statistic is to be expected."""
    tails = np.array([1 + CONFIDENCE, 1 - CONFIDENCE]) / 2
    return np.asarray(special.nctdtrinc(freedom, tails, t))
