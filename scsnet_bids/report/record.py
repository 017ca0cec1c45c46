"""What a run has left in the output folder, read back for its page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from scsnet_bids.derivatives import read_table, read_words, sidecar_path
from scsnet_bids.errors import InputDataError, listed
from scsnet_bids.images import read_grid
from scsnet_bids.protocol import Protocol, describe_shells
from scsnet_bids.slice_marks import EXCLUDED

TABLES: dict[str, tuple[str, str]] = {
    "regions": ("model-tensor_seg-SCSNet_scalarstats", "Region table"),
    "shape": ("desc-shape_scalarstats", "Shape of the cord"),
    "quality": ("desc-image_qc", "Quality"),
    "confounds": ("desc-confounds_timeseries", "Motion and gradient of every volume"),
}
"""How the name of each table ends, and its title."""
NEEDED: dict[str, tuple[str, ...]] = {
    "regions": ("scope", "region", "side", "metric"),
    "shape": ("slice",),
}
"""The columns without which a table says nothing."""
OWN = ("bids:raw:", "bids::")
"""How the sources begin that are no other tool's."""


@dataclass(frozen=True)
class RunRecord:
    """The files of a run in the output folder.

    Attributes
    ----------
    out_dir : output folder
    name : of the run, such as ``sub-01_ses-pre_run-1``
    """

    out_dir: Path
    name: str

    @property
    def folder(self) -> Path:
        """Folder of the participant or of the session."""
        parts = [p for p in self.name.split("_") if p.startswith(("sub-", "ses-"))]
        return self.out_dir.joinpath(*parts)

    @property
    def is_complete(self) -> bool:
        """Tell whether every table is there."""
        return all(self.table_path(name).is_file() for name in TABLES)

    def table_path(self, name: str) -> Path:
        """Name the file of a table."""
        return self.folder / "dwi" / f"{self.name}_{TABLES[name][0]}.tsv"

    @property
    def mask_path(self) -> Path:
        """Name the file of the cord's mask."""
        return self.folder / "dwi" / f"{self.name}_label-SC_mask.nii.gz"

    def figure_path(self, desc: str) -> Path:
        """Name the file of a picture."""
        return self.folder / "figures" / f"{self.name}_desc-{desc}_dwi.svg"

    def figure(self, desc: str) -> str:
        """Read a picture; empty if there is none."""
        path = self.figure_path(desc)
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def cells(self, name: str) -> pd.DataFrame:
        """Read a table as the words that its file holds; InputDataError if it holds none."""
        path, needed = self.table_path(name), NEEDED.get(name, ())
        cells = read_words(path)
        if cells.empty or not set(needed) <= set(cells):
            columns = f", and the columns {', '.join(needed)}" if needed else ""
            raise InputDataError(
                f"A page needs tables with rows{columns}: {path} has {len(cells)} rows with the "
                f"columns {listed(cells)}. Run the participant level again."
            )
        return cells

    def columns(self, name: str) -> dict[str, dict[str, Any]]:
        """Read what the columns of a table mean; empty if that is not told."""
        return _read_object(sidecar_path(self.table_path(name)))

    @cached_property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """The tables, as numbers."""
        return {name: read_table(self.table_path(name)) for name in TABLES}

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What the sidecar of the corrected series says."""
        return _read_object(self.folder / "dwi" / f"{self.name}_desc-preproc_dwi.json")

    @property
    def distortion(self) -> dict[str, str]:
        """How distortion was corrected (``Method``), and with what or why not (``Description``)."""
        said = self.metadata.get("DistortionCorrection")
        return {"Method": "none", "Description": "", **(said if isinstance(said, dict) else {})}

    @property
    def taken(self) -> dict[str, str]:
        """Where what was taken from other tools came from: ``series``, ``cord``, ``levels``."""
        level = self.columns("regions").get("level", {})
        sources = {
            "series": self.metadata.get("Sources"),
            "cord": _read_object(sidecar_path(self.mask_path)).get("Sources"),
            "levels": level.get("Sources") if isinstance(level, dict) else None,
        }
        foreign = {
            kind: [uri for uri in uris if not str(uri).startswith(OWN)]
            for kind, uris in sources.items()
            if isinstance(uris, list)
        }
        return {kind: str(uris[0]) for kind, uris in foreign.items() if uris}

    def protocol(self, b0_max: float) -> Protocol:
        """Read how the series was acquired.

        Parameters
        ----------
        b0_max : s/mm2; volumes up to here are b=0

        Returns
        -------
        Protocol

        Raises
        ------
        InputDataError
            If a table, or the mask of the cord, which has the same voxels, cannot be read.
        """
        grid, _ = read_grid(self.mask_path)
        spacing = grid.spacing_mm
        rounded = (round(spacing[0], 3), round(spacing[1], 3), round(spacing[2], 3))
        # Two of the tables: the methods text of a group asks this of hundreds of runs.
        confounds, shape = (read_table(self.table_path(name)) for name in ("confounds", "shape"))
        shells = describe_shells(confounds, b0_max)
        # bids:<dataset>:<path>
        taken = tuple((kind, uri.split(":")[1]) for kind, uri in self.taken.items())
        failed = shape.loc[shape["flag"].astype(str).str.contains(EXCLUDED), "slice"]
        has_levels = bool(shape["level"].notna().any())
        excluded = tuple(map(int, failed))
        how = self.distortion["Method"]
        return Protocol(grid.shape, rounded, shells, taken, has_levels, excluded, how)


def find_records(out_dir: Path, participant: str) -> list[RunRecord]:
    """Find the runs of a participant that have all their tables, in the order of their names.

    Parameters
    ----------
    out_dir : output folder
    participant : such as ``sub-01``

    Returns
    -------
    list of RunRecord
    """
    ending = f"_{TABLES['quality'][0]}.tsv"
    folder = out_dir / participant
    paths = [*folder.glob(f"dwi/*{ending}"), *folder.glob(f"ses-*/dwi/*{ending}")]
    records = [RunRecord(out_dir, path.name.removesuffix(ending)) for path in paths]
    return sorted((r for r in records if r.is_complete), key=lambda record: _natural(record.name))


def _read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if the file holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _natural(name: str) -> list[tuple[int, str]]:
    """Order names by the numbers in them."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
