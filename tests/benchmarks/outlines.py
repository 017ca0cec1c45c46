"""How large the network draws a cord, how large the app, and where people draw its edge.

    python tests/benchmarks/outlines.py GM_CHALLENGE [PHANTOMS OUT ...]

On phantoms without noise and motion: area that the network draws, relative to the truth. On the
T2*-weighted scans: how far outside the manual mask the signal is half way between cord and fluid,
along rays that reach fluid at least 1.3 times as bright as the cord, and by how much a mask with
its edge there would be larger. Of the outputs OUT of the app on a dataset of phantoms: the areas of
cord and gray matter after the outline was fitted to the moving, noisy series.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scsnet_bids.arrays import FloatArray
from scsnet_bids.derivatives import read_table
from scsnet_bids.evaluation.network_scores import segment_image
from scsnet_bids.images import Image, read_image
from scsnet_bids.manual_masks import CORD, find_masks
from scsnet_bids.network.weights import load_network
from scsnet_bids.phantom import PhantomSettings, simulate
from scsnet_bids.regions import REGIONS, Tissue
from scsnet_bids.slices import volume_to_slices
from scsnet_bids.unmixing.transfer import transfer_regions

SEED, PEOPLE = 900, 3
TISSUES = {
    "cord": [region.label for region in REGIONS],
    "gray matter": [region.label for region in REGIONS if region.tissue is Tissue.GRAY_MATTER],
}
FINE = 4
RAYS = 24
STEP_MM = 0.1
STEPS_MM = np.arange(-1.6, 2.6, STEP_MM)
IN_CORD = STEPS_MM < -0.9
NEAR_FLUID = (STEPS_MM > 0.0) & (STEPS_MM < 2.0)
BRIGHTER = 1.3
LEAST_RAYS = 6
LEAST_VOXELS = 50


def main(images: Path, dataset: Path | None = None, *outs: Path) -> None:
    """Print the figures."""
    drawn = np.concatenate([phantom_areas(person) for person in range(PEOPLE)])
    print(f"still phantoms without noise, network alone: {_describe(drawn)}")
    for out in outs if dataset else ():
        for tissue, labels in TISSUES.items():
            ratio = fitted_areas(dataset, out, labels)
            print(f"phantoms, whole app, {out.name}, {tissue}: {_describe(ratio)}")
        grown = np.median([read_table(p)["gray_area_ratio"] for p in out.rglob("*_qc.tsv")])
        print(f"phantoms, whole app, {out.name}, gray matter grew to {grown:.2f} of the network's")
    offset, area = np.array(list(edge_offsets(images))).T
    low, middle, high = np.quantile(offset, (0.25, 0.5, 0.75))
    grown = np.median((1 + offset / np.sqrt(area / np.pi)) ** 2)
    print(
        f"T2*: edge {middle:.2f} mm outside the masks (quartiles {low:.2f} to {high:.2f}), area "
        f"{grown:.2f} of theirs ({offset.size} slices)"
    )


def phantom_areas(person: int) -> FloatArray:
    """(k,) area that the network draws on a still phantom without noise, relative to the truth."""
    still = PhantomSettings(directions=6, b0_volumes=3, snr=np.inf, motion_mm=0, b0_to_dwi_mm=0)
    phantom = simulate(still, (SEED, person))
    b0 = phantom.series[..., phantom.gradients.bvals == 0].mean(axis=-1)
    found = segment_image(Image(b0, phantom.grid), load_network("cpu"))
    nowhere = np.zeros((phantom.grid.shape[2], 2))
    drawn = 1 - transfer_regions(found.probability, found.plane, phantom.grid, nowhere)[..., 0]
    true = 1 - phantom.region_share[..., 0]
    area, true_area = (x.sum(axis=(0, 1)) for x in (drawn >= 0.5, true >= 0.5))
    return np.asarray((area / true_area)[::2])


def fitted_areas(dataset: Path, out: Path, labels: list[int]) -> FloatArray:
    """(n,) area of regions in every slice that the app has left, relative to the truth."""
    truth, ratios = dataset / "derivatives" / "phantom", []
    for path in sorted(truth.glob("sub-*/**/*_seg-SCSNet_probseg.nii.gz")):
        shares = [read_image(p).data for p in (out / path.relative_to(truth), path)]
        area, true_area = (share[..., labels].sum(axis=(0, 1, 3)) for share in shares)
        ratios.append((area / true_area)[area > 0])
    return np.concatenate(ratios)


def _describe(ratio: FloatArray) -> str:
    """Write the median and the quartiles of areas relative to the truth."""
    low, middle, high = np.quantile(ratio, (0.25, 0.5, 0.75))
    return (
        f"area {middle:.2f} of the truth (quartiles {low:.2f} to {high:.2f}, {ratio.size} slices)"
    )


def edge_offsets(images: Path) -> Iterator[tuple[float, float]]:
    """Yield, for each slice of each scan, the median offset of its edge and the mask's area."""
    folder = images / "derivatives" / "labels"
    for mask in find_masks(folder):
        path = images / mask.folder / f"{mask.prefix}_{mask.suffix}.nii.gz"
        if mask.shows != CORD or not path.exists():
            continue
        image = read_image(path)
        pixel_mm = image.grid.spacing_mm[0]
        drawn = volume_to_slices(np.asarray(read_image(mask.path).data) > 0)
        for slice_, inside in zip(volume_to_slices(image.data), drawn, strict=True):
            if inside.sum() >= LEAST_VOXELS:
                offsets = list(_ray_offsets(slice_, inside, pixel_mm))
                if len(offsets) >= LEAST_RAYS:
                    yield float(np.median(offsets)), float(inside.sum() * pixel_mm**2)


def _ray_offsets(image: FloatArray, inside: FloatArray, pixel_mm: float) -> Iterator[float]:
    """Yield how far outside a mask the half level lies, along every ray that reaches fluid."""
    rows, columns = (slice(*_around(axis)) for axis in np.nonzero(inside))
    signal = ndimage.zoom(np.asarray(image[rows, columns], dtype=float), FINE, order=3)
    mask = ndimage.zoom(inside[rows, columns].astype(float), FINE, order=1) > 0.5
    outward = ndimage.distance_transform_edt(~mask) - ndimage.distance_transform_edt(mask)
    outward_mm = (outward + np.where(mask, 0.5, -0.5)) * pixel_mm / FINE
    row, column = (axis - axis[mask].mean() for axis in np.indices(mask.shape))
    ray = ((np.arctan2(row, column) + np.pi) / (2 * np.pi) * RAYS).astype(int) % RAYS
    step = np.digitize(outward_mm, STEPS_MM) - 1
    seen = (step >= 0) & (step < STEPS_MM.size - 1)
    for number in range(RAYS):
        chosen = seen & (ray == number)
        level = ndimage.median(signal, np.where(chosen, step, -1), np.arange(STEPS_MM.size))
        cord = np.median(level[IN_CORD])
        fluid = level[NEAR_FLUID].max()
        if fluid > BRIGHTER * cord:
            yield float(STEPS_MM[np.argmax(level > (cord + fluid) / 2)]) + STEP_MM / 2


def _around(place: npt.NDArray[np.intp]) -> tuple[int, int]:
    """First and last pixel of a window around the mask along an axis."""
    return max(int(place.min()) - 12, 0), int(place.max()) + 13


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
