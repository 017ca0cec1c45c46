"""How a run was acquired, before anything has been computed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scsnet_bids.gradients import read_gradients
from scsnet_bids.images import read_grid
from scsnet_bids.methods import Protocol, describe_shells
from scsnet_bids.prior_results import find_taken, prior_uri
from scsnet_bids.runs import DwiRun
from scsnet_bids.settings import Settings

KINDS = {"series": "series", "cord_mask": "cord", "levels": "levels"}


def read_protocol(run: DwiRun, settings: Settings) -> Protocol:
    """Read how a run was acquired, and what is taken from other tools for it.

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
