"""Whether a diffusion scheme determines a tensor, and if not, why."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scsnet_bids.arrays import FloatArray
from scsnet_bids.errors import GradientError, listed
from scsnet_bids.gradients import (
    Gradients,
    b0_volumes,
    list_numbers,
    list_shells,
    weighted_volumes,
)
from scsnet_bids.settings import GradientSettings

MIN_DIRECTIONS = 6
SAME_DIRECTION_DEG = 2.0
MAX_CONDITION = 50.0
"""Directions spread evenly have 1.6; directions in one plane have no bound."""


def check_gradients(gradients: Gradients, image_path: Path, settings: GradientSettings) -> None:
    """Make sure that a tensor can be fitted.

    Parameters
    ----------
    gradients : of all volumes
    image_path : the series, for messages
    settings : limits

    Raises
    ------
    GradientError
        If there is no b=0 volume or no other, if a weighted volume has no direction, or if the
        tensor's shells hold fewer than six directions or directions that leave it undetermined.
    """
    is_b0 = b0_volumes(gradients.bvals, settings.b0_max)
    shells = listed(list_shells(gradients.bvals, settings.b0_max))
    if not is_b0.any():
        raise GradientError(
            f"A tensor needs a volume with b <= {settings.b0_max:g}: {image_path} has {shells}. "
            "Raise --b0-threshold if its lowest shell is meant as b=0; otherwise the series cannot "
            "be used."
        )
    if is_b0.all():
        raise GradientError(
            f"A tensor needs diffusion-weighted volumes, b > {settings.b0_max:g} s/mm2: the "
            f"largest b-value of {image_path} is {gradients.bvals.max():g}. Lower --b0-threshold "
            "if it is too high, or multiply the bval file by 1000 if it is in ms/um2; otherwise "
            "the series cannot be used."
        )
    undirected = ~is_b0 & ~gradients.bvecs.any(axis=1)
    if undirected.any():
        raise GradientError(
            "A diffusion-weighted volume needs a b-vector: in the gradients of "
            f"{image_path} it is zero or not a number for {list_numbers(undirected)}. "
            "Remove averaged (trace) volumes from the series, or correct the file."
        )
    weighted = weighted_volumes(gradients.bvals, settings)
    _check_spread(gradients.bvecs[weighted], shells, image_path, settings)


def count_directions(bvecs: FloatArray) -> int:
    """Count directions; opposite vectors and those within two degrees are one.

    Parameters
    ----------
    bvecs : (n, 3) unit vectors

    Returns
    -------
    int

    Examples
    --------
    >>> count_directions(np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0]]))
    2
    """
    same = np.abs(bvecs @ bvecs.T) > np.cos(np.deg2rad(SAME_DIRECTION_DEG))
    return int((~np.tril(same, -1).any(axis=1)).sum())


def _check_spread(
    bvecs: FloatArray, shells: str, image_path: Path, settings: GradientSettings
) -> None:
    """Make sure that directions are enough, and far enough apart, for six tensor elements."""
    n_directions = count_directions(bvecs)
    if n_directions < MIN_DIRECTIONS:
        raise GradientError(
            f"A tensor needs {MIN_DIRECTIONS} different directions with b <= "
            f"{settings.tensor_b_max:g}: {image_path} has {n_directions} there; its shells are "
            f"{shells}. Raise --tensor-b-max if it cuts off a shell; otherwise the series "
            "cannot be used."
        )
    condition = _tensor_condition(bvecs)
    if condition > MAX_CONDITION:
        raise GradientError(
            f"A tensor needs directions spread over the sphere: those of {image_path} leave it "
            f"undetermined (condition number {condition:.0f}, at most {MAX_CONDITION:g} is "
            "usable). Check that the b-vectors belong to this series."
        )


def _tensor_condition(bvecs: FloatArray) -> float:
    """Condition number of the (n, 6) system that six tensor elements are solved from."""
    x, y, z = bvecs.T
    root2 = np.sqrt(2)
    return float(
        np.linalg.cond(
            np.stack([x * x, y * y, z * z, root2 * x * y, root2 * x * z, root2 * y * z], axis=1)
        )
    )
