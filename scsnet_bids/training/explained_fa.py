"""How well regions explain FA within real cords, where nobody knows the regions.

The better they are drawn, the more of the differences of FA within the cord they explain, and the
further gray matter lies below white. The images come from one half of the volumes of a corrected
series and FA from the other, so that no noise is common to both, and the same of the halves
exchanged. The cord is the app's, the same for all networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from scsnet_bids.arrays import FloatArray
from scsnet_bids.gradients import b0_volumes, read_gradients
from scsnet_bids.images import Grid, read_image
from scsnet_bids.network.field import resample_image
from scsnet_bids.network.model import CROP_PIXELS, PIXEL_MM, standardise
from scsnet_bids.regions import REGIONS, Tissue
from scsnet_bids.settings import GradientSettings
from scsnet_bids.slices import PlaneGrid, interpolate_linearly, volume_to_slices
from scsnet_bids.tensor import fit_tensor

WELL_INSIDE = 0.75
"""Share of the cord mask from which a pixel of a real slice counts."""


def explain_series(network: nn.Module, channels: Sequence[str], out: Path) -> list[dict[str, Any]]:
    """Tell how well the regions in real cords explain FA.

    Parameters
    ----------
    network : in evaluation mode
    channels : images that it sees, of ``b0`` and ``dwi``
    out : folder that the app wrote

    Returns
    -------
    list of rows, one per series and half
    """
    rows = []
    for path in sorted(out.glob("sub-*/**/*_desc-preproc_dwi.nii.gz")):
        name = path.name.removesuffix("_desc-preproc_dwi.nii.gz")
        cord = read_image(path.with_name(f"{name}_label-SC_mask.nii.gz")).data > 0
        for half, (images, fa, grid) in enumerate(_halves(path)):
            found = _explain(network, [images[channel] for channel in channels], fa, cord, grid)
            rows.append({"run": name, "half": half} | found)
    return rows


def _halves(path: Path) -> Iterator[tuple[dict[str, FloatArray], FloatArray, Grid]]:
    """Yield b=0 and mean DWI of one half of a corrected series, and FA of the other, both ways."""
    image = read_image(path)
    stem, series = str(path).removesuffix(".nii.gz"), np.asarray(image.data, dtype=float)
    files = Path(f"{stem}.bval"), Path(f"{stem}.bvec")
    gradients = read_gradients(*files, image.grid, series.shape[3], path)
    is_b0 = b0_volumes(gradients.bvals, GradientSettings().b0_max)
    first = np.zeros(len(is_b0), dtype=bool)
    for kind in (is_b0, ~is_b0):
        first[np.flatnonzero(kind)[::2]] = True
    for half in (first, ~first):
        means = {"b0": is_b0, "dwi": ~is_b0}
        images = {name: series[..., kind & half].mean(axis=3) for name, kind in means.items()}
        maps = fit_tensor(series[..., ~half], gradients.select(~half), None, GradientSettings())
        yield images, np.asarray(maps.fa), image.grid


@torch.inference_mode()
def _explain(
    network: nn.Module,
    images: list[FloatArray],
    fa: FloatArray,
    cord: npt.NDArray[np.bool_],
    grid: Grid,
) -> dict[str, float]:
    """Share of the variance of FA in the cord between the tissues, and FA of white minus gray."""
    values, tissues = [], []
    for k in np.flatnonzero(cord.any(axis=(0, 1))):
        here = slice(k, k + 1)
        centre = [float(x.mean()) for x in np.nonzero(cord[..., k]) * np.array(_row(grid))]
        plane = PlaneGrid.centred((centre[0], centre[1]), (CROP_PIXELS, CROP_PIXELS), PIXEL_MM)
        fields = [resample_image(image[..., here], grid, plane) for image in images]
        pairs = [(torch.from_numpy(f.slices), torch.from_numpy(f.inside)) for f in fields]
        channels = torch.stack([standardise(*pair) for pair in pairs], dim=1)
        largest = network(channels)[0, 1:].argmax(dim=0).numpy()  # region, never background
        # Where there is no FA, far from any cord, 0 will do: nan would spread.
        at = [volume_to_slices(np.nan_to_num(x[..., here].astype(float))) for x in (cord, fa)]
        share, fa_here = (interpolate_linearly(x, PlaneGrid.of_image(grid), plane)[0] for x in at)
        inside = share >= WELL_INSIDE
        values.append(fa_here[inside])
        tissues.append(np.array([str(region.tissue) for region in REGIONS])[largest[inside]])
    table = pd.DataFrame({"fa": np.concatenate(values), "tissue": np.concatenate(tissues)})
    mean = table.groupby("tissue")["fa"].transform("mean")
    is_gray = table["tissue"] == str(Tissue.GRAY_MATTER)
    return {
        "explained_percent": float(100 * mean.var() / table["fa"].var()),
        "white_minus_gray": float(table["fa"][~is_gray].mean() - table["fa"][is_gray].mean()),
        "gray_percent": float(100 * is_gray.mean()),
    }


def _row(grid: Grid) -> list[list[float]]:
    """Voxel size within a slice, as a column."""
    return [[size] for size in grid.spacing_mm[:2]]
