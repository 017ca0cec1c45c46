"""The methods text of a group analysis, with its references."""

from __future__ import annotations

import pandas as pd

from scsnet_bids import __version__
from scsnet_bids.group.tables import GroupAnalysis
from scsnet_bids.methods_text import MethodsText, cite_works, fill_stages

CITATION = "CITATION_group"
"""Name of its files in ``logs``; those of the participant level are other ones."""


def describe_analysis(analysis: GroupAnalysis) -> MethodsText:
    """Write the methods of a group analysis.

    Parameters
    ----------
    analysis : what was compared

    Returns
    -------
    MethodsText
    """
    regions, controls = analysis.tables.scalarstats, analysis.controls
    covariates = analysis.covariates.names if analysis.covariates else ()
    words = {
        "version": __version__,
        "n_runs": str(regions["run"].nunique()),
        "n_participants": str(regions["participant_id"].nunique()),
        "n_unusable": str(len(analysis.unusable)),
        "n_excluded": str(len(analysis.tables.excluded)),
        "n_tests": _count_tests(analysis.differences),
        "expression": controls.expression if controls else "",
        "n_controls": str(len(controls.members & analysis.measured) if controls else 0),
        "covariates": "".join(f", {name}" for name in covariates),
        "covariates_of_norm": f" of {' and '.join(covariates)}" if covariates else "",
    }
    cases = {
        "marks": "given" if len(analysis.tables.excluded) else "absent",
        "sessions": "several" if len(analysis.changes) else "single",
        "controls": "named" if controls else "absent",
    }
    return cite_works(fill_stages(("group",), words, cases))


def _count_tests(differences: pd.DataFrame | None) -> str:
    """Say how many comparisons each correction is made for: of a group's levels, of its cord."""
    if differences is None or differences.empty:
        return "no"
    sizes = differences.groupby(["scope", "group"], sort=False).size()
    words = []
    for scope, own in sizes.groupby("scope", sort=False):
        least, most = own.min(), own.max()
        number = f"{least}" if least == most else f"{least} to {most}"
        words.append(f"{number} ({'levels' if scope == 'level' else 'whole cord'})")
    return " and ".join(words)
