"""Write `docs/flags.md`: every reason for doubt that the tables state, in the words of the code.

    python docs/write_flags.py

A test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scsnet_bids import cord_shape, quality, regional
from scsnet_bids.report.verdict import RULES
from scsnet_bids.unmixing import noise, table

FILE = Path(__file__).with_name("flags.md")
HEAD = """# Flags

What the columns `flag`, `unmixed_flag` and `noise_flag` of the [tables](outputs.md) can say, joined
by semicolons. `n/a` is no doubt. The JSON file beside each table says the same. Flags of the
quality row and of the shape table decide the verdict on the page of a run (the column on the
right); those of the region table speak of their own row: read them before you use it.
"""
PARTS: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("Region table, `unmixed_flag`", "of the unmixed value", table.UNMIXED_FLAGS),
    ("Region table, `flag`", "of the plain means", regional.FLAGS),
    ("Shape table, `flag`", "of a slice", cord_shape.FLAGS),
    ("Quality row, `flag`", "of the run", quality.FLAGS),
    ("Quality row, `noise_flag`", "of the noise level", noise.FLAGS),
)
WITHOUT_VERDICT = ("unmixed", "plain")


def write_flags() -> str:
    """Make the page."""
    parts = [HEAD]
    for title, meaning, flags in PARTS:
        judged = not any(word in meaning for word in WITHOUT_VERDICT)
        columns = ["flag", "meaning", *(["verdict"] if judged else [])]
        rows = [
            [f"`{name}`", sentence, *([_verdict(name, flags)] if judged else [])]
            for name, sentence in flags.items()
        ]
        lines = [columns, ["---"] * len(columns), *rows]
        drawn = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        parts.append(f"## {title}\n\nReason for doubt {meaning}:\n\n{drawn}\n")
    return "\n".join(parts)


def _verdict(name: str, flags: Mapping[str, str]) -> str:
    """Verdict that a flag leads to."""
    of_a_slice = flags is cord_shape.FLAGS
    if of_a_slice and name in cord_shape.DOUBTFUL_SHAPE.split("|"):
        name = "implausible_shape"
    if of_a_slice and name == "no_cord":
        name = "slice_without_cord"
    return str(RULES[name][0])


if __name__ == "__main__":
    FILE.write_text(write_flags(), encoding="utf-8")
