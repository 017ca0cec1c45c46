"""Motion and gradient of every volume as a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from scsnet_bids.gradients import Gradients
from scsnet_bids.shift_table import shifts_from_table

CONFOUND_COLUMNS: dict[str, dict[str, Any]] = {
    "framewise_displacement": {
        "Description": (
            "Mean over slices of the length of the change of the in-plane displacement since the "
            "volume before; n/a for the first volume. Translation only."
        ),
        "Units": "mm",
    },
    "displacement_mean": {
        "Description": "Mean over slices of the length of the in-plane displacement.",
        "Units": "mm",
    },
    "displacement_max": {
        "Description": "Largest length over slices of the in-plane displacement.",
        "Units": "mm",
    },
    "trans_left": {
        "Description": "Mean over slices of the displacement toward the patient's left.",
        "Units": "mm",
    },
    "trans_posterior": {
        "Description": "Mean over slices of the displacement toward the patient's back.",
        "Units": "mm",
    },
    "untrusted_fraction": {
        "Description": "Share of slices whose displacement was borrowed from their neighbours; "
        "n/a where none was estimated.",
        "Units": "1",
    },
    "last_step": {
        "Description": (
            "Largest change of a slice's displacement in the last round of the estimate: small "
            "if it has settled; n/a where the estimate does not tell."
        ),
        "Units": "mm",
    },
    "eddy_scale": {
        "Description": (
            "Scale about the cord along the phase-encode axis by eddy currents, as far as it "
            "follows the gradient; 0 where the series shows none, n/a where it was not estimated."
        ),
        "Units": "mm/mm",
    },
    "eddy_shear": {
        "Description": (
            "Displacement along the phase-encode axis by eddy currents per mm across it, from the "
            "cord, as far as it follows the gradient; 0 or n/a as for the scale."
        ),
        "Units": "mm/mm",
    },
    "bval": {"Description": "b-value.", "Units": "s/mm2"},
    "grad_x": {"Description": "Gradient direction toward the patient's right (scanner RAS+)."},
    "grad_y": {"Description": "Gradient direction toward the patient's front (scanner RAS+)."},
    "grad_z": {"Description": "Gradient direction toward the patient's head (scanner RAS+)."},
}


def tabulate_confounds(
    shifts: pd.DataFrame, by_volume: pd.DataFrame, gradients: Gradients
) -> pd.DataFrame:
    """Summarise motion and gradient of every volume.

    Parameters
    ----------
    shifts : displacement per volume and slice, as
        :func:`scsnet_bids.shift_table.tabulate_shifts` writes it
    by_volume : one row per volume with what else its estimate tells: ``last_step``
        in mm, ``eddy_scale``, ``eddy_shear``; what is not there is n/a
    gradients : of the n volumes

    Returns
    -------
    DataFrame with one row per volume and the columns of ``CONFOUND_COLUMNS``
    """
    shift_mm = shifts_from_table(shifts)
    length = np.linalg.norm(shift_mm, axis=-1)
    change = np.linalg.norm(np.diff(shift_mm, axis=0), axis=-1).mean(axis=-1)
    columns = {
        "framewise_displacement": np.concatenate([[np.nan], change]),
        "displacement_mean": length.mean(axis=-1),
        "displacement_max": length.max(axis=-1),
        "trans_left": shift_mm[..., 0].mean(axis=-1),
        "trans_posterior": shift_mm[..., 1].mean(axis=-1),
        "untrusted_fraction": 1 - shifts.groupby("volume")["trusted"].mean().to_numpy(),
        **by_volume,
        "bval": gradients.bvals,
        "grad_x": gradients.bvecs[:, 0],
        "grad_y": gradients.bvecs[:, 1],
        "grad_z": gradients.bvecs[:, 2],
    }
    return pd.DataFrame(columns).reindex(columns=list(CONFOUND_COLUMNS))
