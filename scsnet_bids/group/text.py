"""The methods text of a group analysis, with its references."""

from __future__ import annotations

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
    measured = set(analysis.values["participant_id"])
    words = {
        "version": __version__,
        "n_runs": str(regions["run"].nunique()),
        "n_participants": str(regions["participant_id"].nunique()),
        "n_unusable": str(len(analysis.unusable)),
        "n_excluded": str(len(analysis.tables.excluded)),
        "n_tests": str(0 if analysis.differences is None else len(analysis.differences)),
        "expression": controls.expression if controls else "",
        "n_controls": str(len(controls.members & measured) if controls else 0),
        "covariates": "".join(f", {name}" for name in covariates),
        "covariates_of_norm": f" of {' and '.join(covariates)}" if covariates else "",
    }
    cases = {
        "marks": "given" if len(analysis.tables.excluded) else "absent",
        "sessions": "several" if len(analysis.changes) else "single",
        "controls": "named" if controls else "absent",
    }
    return cite_works(fill_stages(("group",), words, cases))
