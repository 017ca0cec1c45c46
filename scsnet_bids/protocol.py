"""How a series was acquired, and what other tools had done with it: from its files, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scsnet_bids.gradient_checks import count_directions
from scsnet_bids.gradients import b0_volumes, list_shells, read_gradients
from scsnet_bids.images import read_grid
from scsnet_bids.prior_results import find_taken, prior_uri
from scsnet_bids.runs import DwiRun
from scsnet_bids.settings import Settings

KINDS = {"series": "series", "cord_mask": "cord", "levels": "levels"}
"""Words for what ``find_taken`` finds."""


@dataclass(frozen=True, order=True)
class ShellFacts:
    """Volumes of about the same b-value.

    Attributes
    ----------
    b_value : s/mm2, 0 for b=0
    n_volumes : how many there are
    n_directions : different directions among them, 0 for b=0
    """

    b_value: int
    n_volumes: int
    n_directions: int

    def __str__(self) -> str:
        volumes = f"{self.n_volumes} volume{'' if self.n_volumes == 1 else 's'}"
        if not self.b_value:
            return f"{volumes} of b=0"
        return f"{volumes} of b={self.b_value} s/mm2 in {self.n_directions} directions"


@dataclass(frozen=True, order=True)
class Protocol:
    """What was acquired in a series.

    Attributes
    ----------
    shape : voxels toward the patient's left, back and head
    spacing_mm : voxel size
    shells : lowest b-value first
    taken : what was taken from other tools (series, cord, levels) and from which dataset
    has_levels : whether the vertebral level of any slice is known
    excluded : slices that a reader failed
    distortion : how it was corrected: auto, fsl or none
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    shells: tuple[ShellFacts, ...]
    taken: tuple[tuple[str, str], ...] = ()
    has_levels: bool = field(default=False, compare=False)
    excluded: tuple[int, ...] = field(default=(), compare=False)
    distortion: str = field(default="none", compare=False)

    def __str__(self) -> str:
        x, y, z = self.spacing_mm
        slices = f"{self.shape[2]} slice{'' if self.shape[2] == 1 else 's'}"
        return f"{slices} of {x:.2f} x {y:.2f} x {z:.2f} mm voxels, {listed(self.shells)}"


def read_protocol(run: DwiRun, settings: Settings) -> Protocol:
    """Read how a run was acquired, and what is taken from other tools for it, before it runs.

    Parameters
    ----------
    run : good run
    settings : of the run

    Returns
    -------
    Protocol

    Raises
    ------
    InputDataError
        If its files cannot be read.
    """
    grid, n_volumes = read_grid(run.image)
    gradients = read_gradients(run.bval, run.bvec, grid, n_volumes, run.image)
    columns = np.column_stack([gradients.bvals, gradients.bvecs])
    table = pd.DataFrame(columns, columns=["bval", "grad_x", "grad_y", "grad_z"])
    x, y, z = (round(size, 3) for size in grid.spacing_mm)
    taken = tuple(
        (KINDS[kind], prior_uri(path, settings.derivatives.folders).split(":")[1])
        for kind, path in find_taken(run, settings).items()
    )
    shells = describe_shells(table, settings.gradients.b0_max)
    return Protocol(grid.shape, (x, y, z), shells, taken)


def describe_shells(confounds: pd.DataFrame, b0_max: float) -> tuple[ShellFacts, ...]:
    """Count volumes and directions of every shell of a series.

    Parameters
    ----------
    confounds : table of the series, one row per volume
    b0_max : s/mm2; volumes up to here are b=0

    Returns
    -------
    tuple of ShellFacts, lowest b-value first
    """
    bvals = confounds["bval"].to_numpy(float)
    bvecs = confounds[["grad_x", "grad_y", "grad_z"]].to_numpy(float)
    shells = list_shells(bvals, b0_max)
    weighted = [shell.b_value for shell in shells if shell.b_value]
    if not weighted:
        return tuple(ShellFacts(0, shell.n_volumes, 0) for shell in shells)
    distance = np.abs(bvals[:, None] - np.array(weighted))
    member = np.where(b0_volumes(bvals, b0_max), 0, np.array(weighted)[distance.argmin(axis=1)])
    return tuple(
        ShellFacts(
            shell.b_value,
            shell.n_volumes,
            count_directions(bvecs[member == shell.b_value]) if shell.b_value else 0,
        )
        for shell in shells
    )


def listed(items: Sequence[object]) -> str:
    """Join items with commas and a final ``and``."""
    *first, last = map(str, items)
    return f"{', '.join(first)} and {last}" if first else last
