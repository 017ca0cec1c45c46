"""The verdict on a run: pass, look or fail, with every reason.

The limits themselves are those of the quality row (:mod:`scsnet_bids.quality`) and of the tables;
here stands what follows from exceeding one, and why. What is not known counts as doubt: a flag
that has no rule, or a figure that is missing, makes a run one to look at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd

from scsnet_bids import cord_shape, quality
from scsnet_bids.compression import COMPRESSION_COLUMNS
from scsnet_bids.report.wording import name_figure
from scsnet_bids.slice_marks import EXCLUDED
from scsnet_bids.unmixing import noise
from scsnet_bids.unmixing.table import UNMIXED_FLAGS


class Verdict(IntEnum):
    """What to make of a run; the larger the worse."""

    PASS = 0
    LOOK = 1
    FAIL = 2

    def __str__(self) -> str:
        return self.name.lower()


MEANINGS: dict[Verdict, str] = {
    Verdict.PASS: "No automatic check found a reason for doubt. The checks cannot see a border "
    "that lies wrong inside the cord: look at the slices before you use a number.",
    Verdict.LOOK: "Some values may be wrong. Look at the slices and decide.",
    Verdict.FAIL: "Do not use these numbers.",
}


@dataclass(frozen=True)
class Reason:
    """Why a run has its verdict.

    Attributes
    ----------
    verdict : what this reason alone would make of the run
    found : what was found
    why : why that matters
    """

    verdict: Verdict
    found: str
    why: str


RULES: dict[str, tuple[Verdict, str]] = {
    "no_cord": (Verdict.FAIL, "Without a cord there is nothing to measure."),
    "no_contrast": (
        Verdict.FAIL,
        "White matter is more anisotropic than gray matter in every cord, also a diseased one: "
        "the regions or the tensor must be wrong.",
    ),
    "odd_directions": (
        Verdict.FAIL,
        "White matter diffuses along the cord. Flipped or swapped b-vectors turn the directions, "
        "and then FA and AD are wrong everywhere.",
    ),
    "cord_gap": (
        Verdict.LOOK,
        "A cord has no holes: the slices between were missed, or those around are no cord.",
    ),
    "implausible_shape": (
        Verdict.LOOK,
        "A cord this small, this large or cut off by the edge of the image is most likely "
        "something else.",
    ),
    "low_snr": (
        Verdict.LOOK,
        "Below a ratio of 4 the noise floor raises weak signals: diffusivities come out too low "
        "and FA is biased.",
    ),
    "large_motion": (
        Verdict.LOOK,
        "So large a displacement brings other tissue into the slice, which moving the picture "
        "back in its plane cannot undo.",
    ),
    "many_untrusted": (
        Verdict.LOOK,
        "In many slices the cord was too faint to measure its motion, as where signal was lost or "
        "the b-value is high; their position was borrowed from the other slices.",
    ),
    "signal_lost": (
        Verdict.LOOK,
        "What was found lost does not count, so values rest on fewer volumes; but so much of it "
        "speaks of swallowing or pulsation all through, and of losses too slight to be found.",
    ),
    "slice_lost": (
        Verdict.LOOK,
        "Fewer than half of the slice's volumes are left: its values are noisier by 1.4 or more, "
        "and which part of its volumes is the good one is no longer sure.",
    ),
    "misaligned": (
        Verdict.LOOK,
        "So large a displacement between b=0 and weighted volumes was taken out as far as it was "
        "found; a region that lies a voxel off measures its neighbours: look at the FA map.",
    ),
    "unaligned": (
        Verdict.FAIL,
        "The cord of the B0 image was not found in the mean DWI, so that the regions may lie "
        "beside the cord.",
    ),
    "many_non_positive": (
        Verdict.LOOK,
        "Where noise makes eigenvalues negative, they are cut at 0 and FA comes out too high.",
    ),
    "unknown": (
        Verdict.LOOK,
        "Without a noise level the noise floor stays in the unmixed values.",
    ),
    "not_rayleigh": (
        Verdict.LOOK,
        "The noise floor that was taken out of the unmixed values is not that of these images.",
    ),
    "uneven": (
        Verdict.LOOK,
        "The noise level then comes from the tensor fit. What made air unlike the cord may have "
        "changed the noise floor too.",
    ),
    "no_background": (
        Verdict.PASS,
        "The noise level then comes from the tensor fit, as in most scans of the cord; it may be "
        "somewhat too high.",
    ),
    "signed": (Verdict.PASS, "Such images have no noise floor, and none was taken out."),
    "low_confidence": (
        Verdict.LOOK,
        "The network itself expects a poor overlap with the true cord in these slices, or a mask "
        "that was given lies elsewhere than the cord that it found.",
    ),
    "narrow": (
        Verdict.LOOK,
        "A compression at this level alone does that, and so does signal that is lost in front of "
        "or behind the cord, where the outline then follows what is left: look at b=0.",
    ),
    "outline_at_limit": (
        Verdict.LOOK,
        "In so many slices the signals ask for a cord much larger or smaller than the network "
        "drew: one of the two is wrong.",
    ),
    "unexplained": (
        Verdict.LOOK,
        "Signal is lost within the cord, as beside discs or metal, or the outline is wrong. There "
        "are no unmixed values then, and plain means are wrong as well.",
    ),
    "slice_without_cord": (
        Verdict.LOOK,
        "The field may end beyond the cord, or the network missed it there.",
    ),
    EXCLUDED: (Verdict.PASS, "The reader's word stands above the automatic checks."),
    "missing_value": (Verdict.LOOK, "What was not measured cannot speak for the run."),
    "missing_picture": (Verdict.LOOK, "What cannot be seen cannot be judged."),
    "unmeasured_region": (
        Verdict.LOOK,
        "The regions are too thin for the voxels there; plain means remain, with their partial "
        "volume.",
    ),
}
"""What follows from each flag. Pass means that the reason is worth knowing and no more."""

MAY_BE_MISSING = frozenset(
    {
        *("flag", "noise_flag", "untrusted_share", "b0_to_dwi_untrusted_share"),
        *COMPRESSION_COLUMNS,
    }
)
LEAST_MEASURED = 0.5
"""Share of the slices with a cord that a region needs an unmixed FA in."""


def judge_run(
    quality_row: pd.DataFrame, shape: pd.DataFrame, regions: pd.DataFrame
) -> list[Reason]:
    """List the reasons for and against trusting a run, the worst first.

    Parameters
    ----------
    quality_row : quality table, one row
    shape : shape table
    regions : region table

    Returns
    -------
    list of Reason; empty if there is none
    """
    row = quality_row.iloc[0]
    reasons = [
        *_flag_reasons(row),
        *_missing_reasons(row),
        *_shape_reasons(shape),
        *_unexplained_reasons(regions),
        *_region_reasons(regions),
    ]
    return sorted(reasons, key=lambda reason: -reason.verdict)


def overall_verdict(reasons: list[Reason]) -> Verdict:
    """Take the worst of several reasons; pass if there is none."""
    return max((reason.verdict for reason in reasons), default=Verdict.PASS)


def reason_for(name: str, found: str) -> Reason:
    """Make a reason of a flag; one without a rule is a reason to look."""
    verdict, why = RULES.get(name, (Verdict.LOOK, "This program does not know what it means."))
    return Reason(verdict, found, why)


def _flag_reasons(row: pd.Series[Any]) -> Iterator[Reason]:
    """Reasons that the quality row states."""
    for column, known in (("flag", quality.FLAGS), ("noise_flag", noise.FLAGS)):
        for name in _split(row.get(column)):
            yield reason_for(name, _with_value(known.get(name, _unknown(name)), row))
    if (n := row.get("outline_at_limit", 0)) > 0:
        slices = "1 slice" if n == 1 else f"{n:g} slices"
        found = f"in {slices} the outline of the cord would have moved farther than it may"
        yield reason_for("outline_at_limit", found)


def _with_value(sentence: str, row: pd.Series[Any]) -> str:
    """Name the figure of a sentence that begins with the name of its column, and add its value."""
    column, _, rest = sentence.partition(" ")
    value = row.get(column)
    if not isinstance(value, Number):
        return sentence
    return f"{name_figure(column)} {rest} (found {value:.3g})"


def _unknown(flag: str) -> str:
    """Name a flag that has no words."""
    return f"flag {flag.replace('_', ' ')}"


def _missing_reasons(row: pd.Series[Any]) -> Iterator[Reason]:
    """Figures of the quality row that were not measured."""
    missing = [str(c) for c in row.index if pd.isna(row[c]) and c not in MAY_BE_MISSING]
    if missing:
        yield reason_for("missing_value", f"not measured: {', '.join(map(name_figure, missing))}")


def _shape_reasons(shape: pd.DataFrame) -> Iterator[Reason]:
    """Slices that the shape table flags; what the quality row already says is left out."""
    flags = {int(k): _split(flag) for k, flag in zip(shape["slice"], shape["flag"], strict=True)}
    # What a reader has left out is no doubt any more, whatever else is wrong with it.
    flags = {k: [EXCLUDED] if EXCLUDED in names else names for k, names in flags.items()}
    none_found = all("no_cord" in names for names in flags.values())
    told = {"cut_off", "implausible", *(["no_cord"] if none_found else [])}
    for name in dict.fromkeys(name for names in flags.values() for name in names):
        if name not in told:
            slices = ", ".join(str(k) for k, names in flags.items() if name in names)
            sentence = cord_shape.FLAGS.get(name, _unknown(name))
            rule = "slice_without_cord" if name == "no_cord" else name
            yield reason_for(rule, f"slice {slices}: {sentence}")


def _unexplained_reasons(regions: pd.DataFrame) -> Iterator[Reason]:
    """Slices whose signal the regions do not explain."""
    if "unmixed_flag" not in regions:
        return
    flagged = np.flatnonzero(regions["unmixed_flag"].to_numpy(dtype=object) == "unexplained")
    rows = regions.iloc[flagged]
    slices = sorted({int(k) for k in rows.loc[rows["scope"] == "slice", "slice"]})
    if slices:
        names = ", ".join(map(str, slices))
        yield reason_for("unexplained", f"slice {names}: {UNMIXED_FLAGS['unexplained']}")


def _region_reasons(regions: pd.DataFrame) -> Iterator[Reason]:
    """Regions that have an unmixed value in few of the slices that hold a cord."""
    # Arrays, not frames: the group page judges thousands of runs.
    scope, metric, sides, names_of_regions = (
        regions[name].to_numpy(dtype=object) for name in ("scope", "metric", "side", "region")
    )
    chosen = (scope == "slice") & (metric == "FA") & ((sides == "left") | (sides == "right"))
    chosen &= regions["volume_mm3"].notna().to_numpy()
    if "unmixed_flag" in regions:
        flags = regions["unmixed_flag"].to_numpy(dtype=object)[chosen]
        chosen[np.flatnonzero(chosen)[[EXCLUDED in str(flag) for flag in flags]]] = False
    measured: dict[tuple[str, str], list[bool]] = {}
    values = regions["unmixed"].notna().to_numpy()[chosen]
    for key, value in zip(
        zip(sides[chosen], names_of_regions[chosen], strict=True), values, strict=True
    ):
        measured.setdefault(key, []).append(bool(value))
    names = [
        f"{side} {region} ({sum(found) / len(found):.0%})".replace("_", " ")
        for (side, region), found in sorted(measured.items())
        if sum(found) < LEAST_MEASURED * len(found)
    ]
    if names:
        found = f"unmixed values in less than {LEAST_MEASURED:.0%} of the slices: "
        yield reason_for("unmeasured_region", found + ", ".join(names))


def _split(flags: Any) -> list[str]:
    """Take a joined flag apart."""
    return [] if pd.isna(flags) else str(flags).split(";")
