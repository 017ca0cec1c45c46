"""The numbers of a page: as a table has them, and rounded for reading."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scsnet_bids.figures import SHOWN_AS
from scsnet_bids.regions import REGIONS, Side, Tissue
from scsnet_bids.report.record import RunRecord
from scsnet_bids.report.wording import explain_flags
from scsnet_bids.unmixing.table import UNMIXED_FLAGS
from scsnet_bids.vertebrae import level_rank

HEADLINE = (*map(str, Tissue), "white_matter", "cord")
UNMIXED = ("unmixed", "unmixed_uncertainty")
FLATTEST = {
    "compressed_fa": "White matter FA there",
    "c2c3_fa": "White matter FA at C2-C3",
    "compressed_fa_ratio": "Ratio of both",
}


@dataclass(frozen=True)
class Number:
    """A number of a table, and how it is shown.

    Attributes
    ----------
    exact : as the table has it
    shown : rounded for reading
    """

    exact: str
    shown: str


def describe_glance(record: RunRecord) -> dict[str, Any]:
    """Collect the numbers that a reader wants to see first.

    Parameters
    ----------
    record : complete

    Returns
    -------
    dict with ``facts`` (name, value and its error, None without one) and ``slice``, the number of
    the flattest slice, None if there is none
    """
    row = record.cells("quality").iloc[0].to_dict()
    cord = record.cells("regions")
    cord = cord[(cord["scope"] == "cord") & (cord["side"] == str(Side.BOTH))]
    white = cord[cord["region"] == "white_matter"].set_index("metric")
    facts = []
    for metric, (factor, label) in SHOWN_AS.items():
        pair = [round_number(str(white.loc[metric, c]), factor) for c in UNMIXED]
        facts.append((f"White matter, whole cord: {label}", *pair))
    if row.get("compressed_slice", "n/a") == "n/a":
        return {"facts": facts, "slice": None}
    return {"facts": [*facts, *_at_flattest(row)], "slice": int(row["compressed_slice"])}


def _at_flattest(row: Mapping[Any, str]) -> Iterator[tuple[str, Number, Number | None]]:
    """Yield what the quality row says of the flattest slice."""
    level = "" if row["compressed_level"] == "n/a" else f", {row['compressed_level']}"
    name = f"Flattest (slice {row['compressed_slice']}{level}): compression ratio"
    yield name, round_number(row["compressed_compression_ratio"], digits=2), None
    for column, words in FLATTEST.items():
        if row.get(column, "n/a") != "n/a":
            yield words, round_number(row[column]), round_number(row[f"{column}_uncertainty"])


def list_headline(record: RunRecord) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table of the whole cord: name, colours and values."""
    cells = record.cells("regions")
    cord = cells[cells["scope"] == "cord"]
    rows = {(r["region"], r["side"], r["metric"]): r for r in cord.to_dict("records")}
    colors = {(str(r.tissue), str(r.side)): r.color for r in REGIONS}
    for region in HEADLINE:
        values = [
            _value(rows[region, str(side), metric], factor)
            for metric, (factor, _) in SHOWN_AS.items()
            for side in (Side.LEFT, Side.RIGHT, Side.BOTH)
        ]
        sides = (str(Side.LEFT), str(Side.RIGHT))
        yield {
            "name": region.replace("_", " "),
            "colors": [colors[region, side] for side in sides if (region, side) in colors],
            "values": values,
        }


def list_levels(record: RunRecord) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table of levels, from head to foot; nothing where none is known."""
    cells = record.cells("regions")
    shape = record.cells("shape")
    for level in sorted(set(cells.loc[cells["scope"] == "level", "level"]), key=level_rank):
        own = cells[(cells["scope"] == "level") & (cells["level"] == level)]
        rows = {(r["region"], r["side"], r["metric"]): r for r in own.to_dict("records")}
        sides = (str(Side.LEFT), str(Side.RIGHT))
        yield {
            "name": level,
            "slices": _spans(map(int, shape.loc[shape["level"] == level, "slice"])),
            "columns": [
                [(side, _value(rows[str(t), side, "FA"])) for side in sides] for t in Tissue
            ]
            + [
                [("both", _value(rows["white_matter", "both", metric], factor))]
                for metric, (factor, _) in SHOWN_AS.items()
            ],
        }


def _spans(numbers: Iterable[int]) -> str:
    """Write numbers with their ranges: 0-2, 5."""
    parts: list[list[int]] = []
    for n in sorted(numbers):
        if parts and n == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], n]
        else:
            parts.append([n])
    return ", ".join("-".join(map(str, part)) for part in parts)


def _value(row: Mapping[Any, Any], factor: float = 1.0) -> dict[str, Any]:
    """Unmixed value, uncertainty and plain mean of a row."""
    return {
        "value": round_number(row["unmixed"], factor),
        "uncertainty": round_number(row["unmixed_uncertainty"], factor),
        "plain": round_number(row["mean"], factor),
        "flag": explain_flags(row["unmixed_flag"], UNMIXED_FLAGS),
    }


def round_number(text: str, factor: float = 1.0, digits: int = 3) -> Number:
    """Round a number of a table; what is missing stays n/a."""
    try:
        value = float(text) * factor
    except ValueError:
        return Number(text, text)
    return Number(text, f"{value:.{digits}f}" if math.isfinite(value) else "n/a")
