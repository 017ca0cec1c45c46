"""Series whose motion is to be found: phantoms, of which the truth is known, and real ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.errors import EmptySelectionError
from scsnet_bids.evaluation.truth import read_on
from scsnet_bids.gradients import Gradients, b0_volumes, read_gradients
from scsnet_bids.images import Grid, read_image
from scsnet_bids.phantom import Phantom, PhantomSettings, simulate
from scsnet_bids.regions import label_shares
from scsnet_bids.settings import GradientSettings
from scsnet_bids.slices import PlaneGrid, centre_of_slices

MOTIONS_MM = (0.0, 0.3, 0.8, 1.5)
SNRS = (7.0, 12.0, 25.0)
TROUBLES: tuple[dict[str, Any], ...] = (
    {"directions": 60},
    {"eddy_mm": 1.0},
    {"lost_slices": 0.1},
)
"""What else may be other than usual in a series."""
STEADY = PhantomSettings(b0_to_dwi_mm=0.0)
FEW_SLICES = replace(STEADY, slices=6, matrix=(64, 48))
MASK_ENDING = "_label-SC_mask.nii.gz"


@dataclass(frozen=True, eq=False)
class Series:
    """A diffusion series to correct.

    Attributes
    ----------
    data : (i, j, k, n) float32 array in inner order
    gradients : of its n volumes
    grid : where its voxels lie
    centre_mm : (k, 2) cord centre (left, posterior) from the first voxel, where somebody knows it;
        for methods that cannot look for the cord themselves
    """

    data: npt.NDArray[np.float32]
    gradients: Gradients
    grid: Grid
    centre_mm: FloatArray

    @property
    def is_b0(self) -> BoolArray:
        """(n,) which volumes count as b=0."""
        return b0_volumes(self.gradients.bvals, GradientSettings().b0_max)


@dataclass(frozen=True, eq=False)
class Truth:
    """What is true about a simulated series.

    Attributes
    ----------
    shift_mm : (n, k, 2) float array, what undoes the motion at the cord's centre
    lost : (n, k) bool array, slices that lost their signal
    region_share : (i, j, k, 9) float array where nothing moved, background first
    still : the same person without motion and lost slices, with the same noise
    tissue_fa : (8,) float array, FA of each region's tissue
    """

    shift_mm: FloatArray
    lost: BoolArray
    region_share: FloatArray
    still: npt.NDArray[np.float32]
    tissue_fa: FloatArray


@dataclass(frozen=True, eq=False)
class Case:
    """A series with what is known about it.

    Attributes
    ----------
    series : to correct
    cord_mask : (i, j, k) bool array, where the cord lies on average
    truth : None for a real series
    """

    series: Series
    cord_mask: BoolArray
    truth: Truth | None


def list_phantoms(effort: str) -> dict[str, PhantomSettings]:
    """List the phantoms of the comparison of methods.

    Parameters
    ----------
    effort : ``quick`` for two small ones

    Returns
    -------
    dict of settings by name
    """
    if effort == "quick":
        small = replace(STEADY, slices=5, directions=12, b0_volumes=3, matrix=(48, 48), snr=12.0)
        return _named([replace(small, motion_mm=mm) for mm in (0.0, 0.8)])
    usual = replace(FEW_SLICES, motion_mm=0.8, snr=12.0)
    moving = [replace(usual, motion_mm=mm) for mm in MOTIONS_MM]
    others = [replace(usual, **change) for change in ({"snr": 7.0}, *TROUBLES)]
    return _named([*moving, *others])


def list_grid() -> dict[str, PhantomSettings]:
    """List the phantoms of the grid: every motion at every SNR, usual and with each trouble.

    Returns
    -------
    dict of settings by name
    """
    return _named(
        [
            replace(FEW_SLICES, motion_mm=mm, snr=snr, **trouble)
            for trouble, snr, mm in product(({}, *TROUBLES), SNRS, MOTIONS_MM)
        ]
    )


def make_phantom(settings: PhantomSettings, seed: int) -> Case:
    """Simulate a person, once moving and once still.

    Parameters
    ----------
    settings : what is scanned, and how well
    seed : determines the person

    Returns
    -------
    Case
    """
    phantom = simulate(settings, (seed, 1))
    still = simulate(replace(settings, motion_mm=0.0, lost_slices=0.0, eddy_mm=0.0), (seed, 1))
    mask = label_shares(np.asarray(phantom.region_share, float)) > 0
    centre_mm = centre_of_slices(mask, phantom.grid.spacing_mm)
    truth = Truth(
        -_displacement_mm(phantom, centre_mm),
        phantom.lost,
        phantom.region_share,
        still.series,
        np.array([part.fa for part in phantom.tissue]),
    )
    return Case(Series(phantom.series, phantom.gradients, phantom.grid, centre_mm), mask, truth)


def find_real(data: Path, masks: Path) -> dict[str, tuple[Path, Path]]:
    """List the series of a dataset that have a mask of the cord.

    Parameters
    ----------
    data : BIDS dataset
    masks : folder with ``sub-*/[ses-*/]dwi/*_label-SC_mask.nii.gz`` on the grids of the series

    Returns
    -------
    dict of series and mask by name

    Raises
    ------
    EmptySelectionError
        If no series has a mask.
    """
    found = {}
    for mask in sorted(masks.glob(f"sub-*/**/*{MASK_ENDING}")):
        name = mask.name.removesuffix(MASK_ENDING)
        for series in data.glob(f"sub-*/**/{name}_dwi.nii*"):
            found[name] = (series, mask)
    if not found:
        raise EmptySelectionError(
            f"Real series need masks of the cord: {masks} has no sub-*/dwi/*{MASK_ENDING} with the "
            f"name of a series of {data}. Give another folder with --cord-masks."
        )
    return found


def read_real(path: Path, mask_path: Path) -> Case:
    """Read a real series with its mask.

    Parameters
    ----------
    path : series, its gradients beside it
    mask_path : cord, on the grid of the series

    Returns
    -------
    Case

    Raises
    ------
    ScsnetError
        If a file cannot be used, or the mask lies on another grid.
    """
    image = read_image(path)
    stem = path.with_name(path.name.split(".")[0])
    bval, bvec = (stem.with_suffix(end) for end in (".bval", ".bvec"))
    gradients = read_gradients(bval, bvec, image.grid, image.data.shape[3], path)
    mask = read_on(mask_path, image.grid) > 0.5
    centre_mm = centre_of_slices(mask, image.grid.spacing_mm)
    return Case(Series(image.data, gradients, image.grid, centre_mm), mask, None)


def _named(phantoms: list[PhantomSettings]) -> dict[str, PhantomSettings]:
    """Name phantoms by what sets them apart."""
    return {_name(one): one for one in phantoms}


def _name(settings: PhantomSettings) -> str:
    """Say what a phantom is like."""
    words = [f"{settings.motion_mm:g} mm", f"SNR {settings.snr:g}", f"{settings.directions} dir"]
    if settings.lost_slices:
        words.append(f"{100 * settings.lost_slices:g} % lost")
    if settings.eddy_mm:
        words.append("eddy")
    return ", ".join(words)


def _displacement_mm(phantom: Phantom, centre_mm: FloatArray) -> FloatArray:
    """(n, k, 2) how far the centre of the cord lies from where it lies without motion."""
    plane = PlaneGrid.of_image(phantom.grid)
    left, posterior = (centre_mm[:, axis] - plane.positions_mm(axis).mean() for axis in (0, 1))
    terms = np.stack([np.ones_like(left), posterior, left])  # as Phantom describes its eddy terms
    seen = phantom.motion_mm.copy()
    seen[..., 1] += phantom.eddy @ terms
    return np.asarray(seen)
