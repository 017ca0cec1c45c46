"""The tables of all participants, gathered from an output folder alone.

Neither the images nor the input dataset are needed. A run that lacks a table, or whose table
cannot be read, is left out of it and named with the reason; it never stops the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from scsnet_bids.derivatives import sidecar_path, write_sidecar, write_table
from scsnet_bids.errors import EmptySelectionError
from scsnet_bids.levels import SHAPE_COLUMNS
from scsnet_bids.quality import QUALITY_COLUMNS
from scsnet_bids.regional import REGION_TABLE_COLUMNS
from scsnet_bids.unmixed_table import NOISE_COLUMNS, UNMIXED_COLUMNS

TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "scalarstats": (
        r"(_model-[a-zA-Z0-9]+)?_seg-SCSNet_scalarstats\.tsv",
        ("scope", "region", "side", "metric", "mean", "flag"),
    ),
    "shape": (r"_desc-shape_scalarstats\.tsv", ("slice", "area_mm2")),
    "quality": (r"_desc-image_qc\.tsv", ("flag",)),
}
"""How the name of each table ends, and the columns that it must have."""

COLUMN_TYPES: dict[str, type] = dict.fromkeys(
    ("scope", "level", "region", "side", "metric", "flag"), str
) | dict.fromkeys(("slice", "mean", "area_mm2"), float)

RUN_COLUMNS: dict[str, dict[str, Any]] = {
    "participant_id": {"Description": "Participant."},
    "session": {"Description": "Session; n/a for a dataset without sessions."},
    "run": {"Description": "The source entities that name the run."},
}
"""The columns that every group table begins with; the others are those of the run's tables."""


GAP_COLUMNS: dict[str, dict[str, Any]] = {
    "participant_id": RUN_COLUMNS["participant_id"],
    "run": {"Description": "The source entities that name the run; n/a if none is known."},
    "reason": {"Description": "What is missing, and why as far as it is known."},
}


@dataclass(frozen=True, eq=False)
class GroupTables:
    """Tables of all runs, each beginning with the columns of ``RUN_COLUMNS``.

    Attributes
    ----------
    scalarstats : the region tables, long form
    wide : one row per run: mean of every metric in every region of the whole cord
    shape : the shape tables, one row per slice
    quality : the quality tables, one row per run
    gaps : participant_id, run (nan if none is known) and reason of everything that is missing
    """

    scalarstats: pd.DataFrame
    wide: pd.DataFrame
    shape: pd.DataFrame
    quality: pd.DataFrame
    gaps: pd.DataFrame


class _Found(NamedTuple):
    """A table of a run: which kind, whose, and where it lies."""

    kind: str
    participant: str
    run: str
    path: Path


def collect_group(out_dir: Path) -> GroupTables:
    """Gather the tables of all participants.

    Parameters
    ----------
    out_dir : output folder of the participant level

    Returns
    -------
    GroupTables, participants and runs in the order of their names

    Raises
    ------
    EmptySelectionError
        If the folder holds no region table that can be read.
    """
    folders = sorted(path for path in out_dir.glob("sub-*") if path.is_dir())
    found = [table for folder in folders for table in _find_tables(folder)]
    parts: dict[str, list[pd.DataFrame]] = {kind: [] for kind in TABLES}
    gaps = _missing(folders, found)
    for table in found:
        try:
            parts[table.kind].append(_read_table(table))
        except (OSError, ValueError, TypeError) as error:
            gaps.append((table.participant, table.run, f"{table.path} cannot be used: {error}"))
    if not parts["scalarstats"]:
        raise EmptySelectionError(
            "The group level needs region tables, sub-*/[ses-*/]dwi/"
            f"*_seg-SCSNet_scalarstats.tsv: {out_dir} has none that can be read among "
            f"{len(folders)} participant folders. Run the participant level with this output "
            "folder first."
        )
    joined = {kind: _join(tables) for kind, tables in parts.items()}
    return GroupTables(
        **joined,
        wide=_widen(joined["scalarstats"]),
        gaps=pd.DataFrame(sorted(gaps), columns=["participant_id", "run", "reason"]).replace(
            "", None
        ),
    )


def write_group(out_dir: Path, tables: GroupTables) -> list[Path]:
    """Write the group tables and what their columns mean.

    Parameters
    ----------
    out_dir : output folder
    tables : to write

    Returns
    -------
    list of the tables' paths

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    described: dict[str, tuple[pd.DataFrame, Mapping[str, Any]]] = {
        "scalarstats": (tables.scalarstats, RUN_COLUMNS | REGION_TABLE_COLUMNS | UNMIXED_COLUMNS),
        "wide_scalarstats": (tables.wide, describe_wide(tables.wide)),
        "shape_scalarstats": (tables.shape, RUN_COLUMNS | SHAPE_COLUMNS),
        "qc": (tables.quality, RUN_COLUMNS | QUALITY_COLUMNS | NOISE_COLUMNS),
        "missing": (tables.gaps, GAP_COLUMNS),
    }
    paths = []
    for name, (table, columns) in described.items():
        paths.append(write_table(out_dir / f"group_{name}.tsv", table))
        write_sidecar(sidecar_path(paths[-1]), columns)
    return paths


def describe_wide(wide: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Describe the columns of the wide table for its JSON sidecar.

    Parameters
    ----------
    wide : as in :class:`GroupTables`

    Returns
    -------
    dict by column, each with a Description and, where there is one, a unit
    """
    described = dict(RUN_COLUMNS)
    for column in wide.columns.drop(list(RUN_COLUMNS)):
        metric, _, place = str(column).partition("_")
        described[column] = {
            "Description": f"Mean {metric} over the voxels inside the region in all slices with "
            f"a cord ({place.replace('_', ' ')}). Biased by partial volume.",
            "Units": "1" if metric == "FA" else "mm2/s",
        }
    described["flag"] = {
        "Description": "Reasons for doubt about any value of the row, joined by semicolons; n/a "
        "if there is none. The long table says which value each concerns."
    }
    return described


def _find_tables(folder: Path) -> Iterator[_Found]:
    """Yield the tables of a participant's folder, in the order of their names."""
    for path in sorted([*folder.glob("dwi/*.tsv"), *folder.glob("ses-*/dwi/*.tsv")]):
        for kind, (ending, _) in TABLES.items():
            match = re.fullmatch(rf"(?P<run>sub-.+?){ending}", path.name)
            if match:
                yield _Found(kind, folder.name, match["run"], path)


def _missing(folders: list[Path], found: list[_Found]) -> list[tuple[str, str, str]]:
    """(participant, run, reason) of every participant and run that lacks a table."""
    have = {(table.participant, table.run, table.kind) for table in found}
    runs = sorted({(participant, run) for participant, run, _ in have})
    empty = {folder.name for folder in folders} - {participant for participant, _ in runs}
    gaps = [(name, "", "no table: the participant's runs failed or are not done") for name in empty]
    gaps += [
        (participant, run, f"no {kind} table: the run failed or is not done")
        for participant, run in runs
        for kind in TABLES
        if (participant, run, kind) not in have
    ]
    return gaps


def _read_table(table: _Found) -> pd.DataFrame:
    """Read a run's table, its run named in the first columns; ValueError says what is wrong."""
    content = pd.read_csv(
        table.path,
        sep="\t",
        keep_default_na=False,
        na_values=["n/a"],
        dtype=COLUMN_TYPES,
    )
    absent = [name for name in TABLES[table.kind][1] if name not in content]
    if absent:
        raise ValueError(f"it lacks the columns {', '.join(absent)}")
    if content.empty:
        raise ValueError("it has no rows")
    if "slice" in content:
        content["slice"] = content["slice"].astype("Int64")
    session = re.search(r"_(ses-[a-zA-Z0-9]+)", table.run)
    names = (table.participant, session[1] if session else "", table.run)
    for place, (column, name) in enumerate(zip(RUN_COLUMNS, names, strict=True)):
        content.insert(place, column, name)
    return content


def _join(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Put tables below each other; without any, only the first columns remain."""
    if not tables:
        return pd.DataFrame(columns=list(RUN_COLUMNS))
    joined = pd.concat(tables, ignore_index=True)
    joined["session"] = joined["session"].where(joined["session"] != "")
    return joined


def _widen(scalarstats: pd.DataFrame) -> pd.DataFrame:
    """Make one row per run: the plain means of the whole cord, and their flags."""
    runs = scalarstats[list(RUN_COLUMNS)].drop_duplicates("run").set_index("run", drop=False)
    cord = scalarstats[scalarstats["scope"] == "cord"]
    column = cord["metric"] + "_" + cord["side"] + "_" + cord["region"]
    cells = cord.assign(column=column).drop_duplicates(["run", "column"])
    means = cells.pivot(index="run", columns="column", values="mean")
    flags = cells.dropna(subset="flag").groupby("run")["flag"].agg(_unite_flags)
    wide = runs.join(means[list(dict.fromkeys(column))]).join(flags)
    return wide.reset_index(drop=True)


def _unite_flags(flags: pd.Series[str]) -> str:
    """Join the different words of several flags."""
    return ";".join(dict.fromkeys(word for flag in flags for word in flag.split(";")))
