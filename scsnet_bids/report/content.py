"""What a page says about a run: its record turned into words, numbers and pictures.

Every number comes from a table of the run. Where it is rounded for reading, the page also carries
it as the table has it.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from scsnet_bids import cord_shape
from scsnet_bids.compression import STANDS_OUT
from scsnet_bids.report.numbers import (
    Number,
    describe_glance,
    list_headline,
    list_levels,
    round_number,
)
from scsnet_bids.report.record import TABLES, RunRecord
from scsnet_bids.report.verdict import judge_run, overall_verdict, reason_for
from scsnet_bids.report.wording import PICTURES, explain_flags, name_picture
from scsnet_bids.slice_marks import EXCLUDED
from scsnet_bids.unmixing.noise import SOURCES

CARD = {"b0regions": "b=0", "dwiregions": "mean DWI", "faregions": "FA"}
MOTION = {
    "uncorrected": ("corrected", "Mean of the weighted volumes, with the edge of the cord"),
    "uncorrectedlines": (
        "correctedlines",
        "One line through the cord from front (top) to back, volume by volume: motion shows as "
        "waves",
    ),
}
PLOTS = {
    "faprofile": (
        "FA along the slices",
        "Unmixed FA of the four tissues in every slice, left as a full line with dots and right "
        "as a dashed line with triangles. Bands are 95 % intervals; hollow marks "
        "are flagged values. Excluded slices are left out.",
    ),
    "mdprofile": (
        "MD along the slices",
        "Unmixed MD of the four tissues in every slice, drawn like FA.",
    ),
    "asymmetry": (
        "Asymmetry of FA",
        "(left - right) / (left + right) of the unmixed FA in every slice, with 95 % "
        "intervals. Above 0 the left side has more.",
    ),
    "shape": (
        "Shape of the cord",
        "Area, diameters and compression ratio in every slice; hollow marks are flagged slices, "
        "the dotted line is the flattest slice.",
    ),
}
DIRECTIONS, DISPLACEMENT, CARPET = "directions", "displacement", "carpet"
SCANNER = {
    "Manufacturer": "Scanner",
    "ManufacturersModelName": "Model",
    "MagneticFieldStrength": "Field (T)",
    "RepetitionTime": "Repetition time (s)",
    "EchoTime": "Echo time (s)",
    "PhaseEncodingDirection": "Phase encoding",
}


def describe_run(record: RunRecord, b0_max: float) -> dict[str, Any]:
    """Collect everything that the page says about a run.

    Parameters
    ----------
    record : complete
    b0_max : s/mm2; volumes up to here are b=0

    Returns
    -------
    dict for the template
    """
    tables, glance = record.tables, describe_glance(record)
    missing = [name_picture(name) for name in PICTURES if not record.figure(name)]
    reasons = [*judge_run(tables["quality"], tables["shape"], tables["regions"])]
    if missing:
        reasons.append(reason_for("missing_picture", f"no picture: {', '.join(missing)}"))
    return {
        "name": record.name,
        "verdict": overall_verdict(reasons),
        "reasons": sorted(reasons, key=lambda reason: -reason.verdict),
        "glance": glance | {"pictures": _pictures_of(record, glance["slice"])},
        "headline": list(list_headline(record)),
        "levels": list(list_levels(record)),
        "facts": list(_facts(record, b0_max)),
        "compressed": describe_compression(tables["quality"].iloc[0]),
        "slices": list(_cards(record)),
        "motion": list(_motion(record)),
        "directions": list(
            _tiles(record, DIRECTIONS, "FA in the colours of its direction").items()
        ),
        "displacement": _embedded(record, DISPLACEMENT),
        "carpet": _embedded(record, CARPET),
        "plots": [
            {"title": title, "caption": text, "source": _embedded(record, name)}
            for name, (title, text) in PLOTS.items()
            if record.figure(name)
        ],
        "tables": [_table(record, name) for name in TABLES],
    }


def describe_compression(row: Mapping[str, Any] | pd.Series[Any]) -> str:
    """Name the slice in which the cord is flattest, and how far it stands out.

    Parameters
    ----------
    row : quality row, numbers as numbers

    Returns
    -------
    str, one or two sentences
    """
    if pd.isna(row.get("compressed_slice")):
        return "No plausible cord was found, so there is no compression to speak of."
    level = "" if pd.isna(row["compressed_level"]) else f" ({row['compressed_level']})"
    found = (
        f"The cord is flattest in slice {int(row['compressed_slice'])}{level}: compression ratio "
        f"{row['compressed_compression_ratio']:.2f}"
    )
    deviation = row["compressed_deviation"]
    if pd.isna(deviation):
        return f"{found}. There are too few slices to tell whether it stands out."
    judged = "stands out from" if row["compressed_stands_out"] else "does not stand out from"
    return (
        f"{found}. It {judged} a smooth course along the cord ({deviation:.1f} robust standard "
        f"deviations, limit {STANDS_OUT:g})."
    )


def _facts(record: RunRecord, b0_max: float) -> Iterator[tuple[str, Number | str, str]]:
    """Yield name, value and unit of what was acquired and how good it is."""
    protocol, row = record.protocol(b0_max), record.cells("quality").iloc[0]
    x, y, z = protocol.spacing_mm
    yield "Gradients", "; ".join(map(str, protocol.shells)), ""
    yield "Voxels (left x back x head)", f"{x:.2f} x {y:.2f} x {z:.2f}", "mm"
    yield "Matrix", " x ".join(map(str, protocol.shape)), ""
    yield "Slices with a cord", f"{row['n_slices_with_cord']} of {row['n_slices']}", ""
    yield "Signal-to-noise ratio (b=0, one volume)", round_number(row["snr_b0"], digits=1), ""
    yield "Noise level", round_number(row["noise_sigma"], digits=1), ""
    yield "Noise read from", SOURCES.get(row["noise_source"], row["noise_source"]), ""
    yield "Displacement, mean", round_number(row["displacement_mean_mm"], digits=2), "mm"
    yield "Displacement, largest", round_number(row["displacement_max_mm"], digits=2), "mm"
    yield (
        "Displacements borrowed from neighbours",
        round_number(row["untrusted_share"], 100, 1),
        "%",
    )
    if "lost_share" in row:
        yield (
            "Slices of volumes that lost their signal",
            round_number(row["lost_share"], 100, 1),
            "%",
        )
    yield "B0 to DWI, largest", round_number(row["b0_to_dwi_max_mm"], digits=2), "mm"
    if "direction_angle_rad" in row:
        degrees = round_number(row["direction_angle_rad"], 180 / math.pi, 0)
        yield "Direction of white matter to the cord's axis", degrees, "°"
    if record.distortion["Description"]:
        yield "Distortion", record.distortion["Description"], ""
    for kind, uri in record.taken.items():
        yield f"Taken from another tool: {kind}", uri, ""
    for key, name in SCANNER.items():
        if key in record.metadata:
            yield name, str(record.metadata[key]), ""


def _cards(record: RunRecord) -> Iterator[dict[str, Any]]:
    """Yield number, flag and pictures of every slice, the highest first."""
    sheets = {title: _tiles(record, name, title) for name, title in CARD.items()}
    shape = record.cells("shape").set_index("slice")
    flattest = record.cells("quality").iloc[0].get("compressed_slice", "")
    for k in sorted(map(int, shape.index), reverse=True):
        flag, level = (str(shape.loc[str(k), name]) for name in ("flag", "level"))
        yield {
            "number": k,
            "level": "" if level == "n/a" else level,
            "excluded": EXCLUDED in flag,
            "flattest": flattest == str(k),
            "flag": "" if flag == "n/a" else flag.replace(";", ", ").replace("_", " "),
            "doubt": explain_flags(flag, cord_shape.FLAGS),
            "pictures": [(title, tiles[k]) for title, tiles in sheets.items() if k in tiles],
        }


def _pictures_of(record: RunRecord, number: int | None) -> list[tuple[str, str]]:
    """Take one slice out of the sheets of regions, each with its title."""
    found = ((title, _tiles(record, name, title)) for name, title in CARD.items())
    return [(title, tiles[number]) for title, tiles in found if number in tiles]


def _motion(record: RunRecord) -> Iterator[dict[str, Any]]:
    """Yield the pictures before and after motion correction, slice by slice."""
    for before, (after, title) in MOTION.items():
        first = _tiles(record, before, "before motion correction")
        second = _tiles(record, after, "after motion correction")
        pairs = [(k, tile, second[k]) for k, tile in first.items() if k in second]
        if pairs:
            yield {"title": title, "pairs": pairs}


def _tiles(record: RunRecord, desc: str, title: str) -> dict[int, str]:
    """Take a sheet apart into its slices, each with words for those who cannot see it."""
    tiles = re.findall(
        r'<svg class="tile" data-slice="(\d+)"[^>]*?(viewBox="[^"]*"[^>]*>.*?</svg>)',
        record.figure(desc),
        flags=re.DOTALL,
    )
    return {
        int(k): f'<svg class="tile" role="img" aria-label="slice {k}, {title}" {rest}'
        for k, rest in tiles
    }


def _embedded(record: RunRecord, desc: str) -> str:
    """Read a picture as a data URI; empty if there is none."""
    data = base64.b64encode(record.figure(desc).encode()).decode()
    return f"data:image/svg+xml;base64,{data}" if data else ""


def _table(record: RunRecord, name: str) -> dict[str, Any]:
    """Describe a table: the words of its cells, and what its columns mean."""
    cells, meaning = record.cells(name), record.columns(name)
    path = record.table_path(name)
    return {
        "title": TABLES[name][1],
        "file": path.name,
        "link": path.relative_to(record.out_dir).as_posix(),
        "columns": [(c, meaning.get(c, {}).get("Description", "")) for c in cells.columns],
        "rows": cells.to_numpy().tolist(),
        "units": {c: meaning.get(c, {}).get("Units", "") for c in cells.columns},
    }
