"""Jumps of the whole neck between volumes, farther than slices are searched for.

When a patient moves by a centimetre in the middle of a series, the mean of the volumes shows two
cords, and every slice matches one of them without having to move. So each volume as a whole, all
its slices together, is first matched with the volume of its kind that is most like the others, then
with the mean of what that brought together. Only displacements of whole coarse voxels are tried.
Fine structure is compared, so shading that stays with the coil does not count, and what leaves the
image counts as missing. A volume jumped if it matches much better far away than near by: an
ordinary series, or a volume without signal, has no jumps at all.

Where b=0 volumes and weighted volumes each fall into groups, edges tell which of the groups
belong together: they lie alike in both kinds. The position that most volumes share is the
reference.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from scsnet_bids.arrays import BoolArray, FloatArray, IntArray
from scsnet_bids.correction.slice_patches import smooth
from scsnet_bids.images import Grid

SMALLEST_MM, LARGEST_MM = 3.0, 25.0
"""Lengths of a jump; what is shorter is left to the search of each slice."""
COARSE_MM = 1.0
"""Smaller voxels are averaged up to this size."""
WIDTHS_MM = (1.0, 8.0)
"""Widths (SD) of the Gaussians that tell structure from noise and from shading."""
UNEXPLAINED = 0.9
"""A jump leaves less than this part of the variance that the best match near by leaves."""
ROUNDS = 4
TINY = 1e-9


def find_jumps(series: FloatArray, b0_mask: BoolArray, grid: Grid) -> IntArray:
    """Find by how many voxels whole volumes lie away from where most volumes lie.

    Parameters
    ----------
    series : (i, j, k, n) array in LPS order; what is not finite counts as 0
    b0_mask : (n,) bool array, which volumes are b=0
    grid : of the series

    Returns
    -------
    (n, 2) int array, voxels that must be added to a position (left, posterior) in a volume to get
    the position in the reference; 0 for all volumes of an ordinary series
    """
    factors = tuple(max(int(COARSE_MM // mm), 1) for mm in grid.spacing_mm[:2])
    spacing_mm = torch.tensor(grid.spacing_mm[:2]) * torch.tensor(factors)
    jumps = torch.zeros(series.shape[3], 2, dtype=torch.int64)
    kinds = [kind for kind in (b0_mask, ~b0_mask) if kind.any()]
    for kind in kinds:
        structure = _structure(_coarse(series, np.flatnonzero(kind), factors), spacing_mm)
        jumps[kind] = _jumps_of_kind(structure, spacing_mm)
    if not jumps.any():
        return np.zeros((len(jumps), 2), dtype=np.intp)
    if len(kinds) == 2:
        means = [
            _mean_at_rest(_coarse(series, np.flatnonzero(kind), factors), jumps[kind])
            for kind in kinds
        ]
        jumps[~b0_mask] += _between_kinds(means, jumps, b0_mask, spacing_mm)
    jumps = _from_most_common(jumps, b0_mask, spacing_mm)
    return np.asarray((jumps * torch.tensor(factors)).numpy(), dtype=np.intp)


def undo_jumps(series: FloatArray, jumps: IntArray) -> FloatArray:
    """Move volumes by whole voxels; the edge repeats.

    Parameters
    ----------
    series : (i, j, k, n) array
    jumps : (n, 2) int array, from :func:`find_jumps`

    Returns
    -------
    (i, j, k, n) array; the series itself if nothing jumped
    """
    if not jumps.any():
        return series
    moved = np.array(series)
    for volume in np.flatnonzero(jumps.any(axis=1)):
        i, j = (
            np.clip(np.arange(size) - jump, 0, size - 1)
            for size, jump in zip(series.shape, jumps[volume], strict=False)
        )
        moved[..., volume] = series[i[:, None], j, :, volume]
    return moved


def _coarse(series: FloatArray, volumes: IntArray, factors: tuple[int, ...]) -> Tensor:
    """(n, k, p, q) averages over blocks of voxels of some volumes."""
    size = [-(-voxels // factor) for voxels, factor in zip(series.shape, factors, strict=False)]
    coarse = torch.empty(len(volumes), series.shape[2], *size)
    for place, volume in enumerate(volumes):  # one at a time, which saves memory
        finite = np.nan_to_num(np.moveaxis(series[..., volume], 2, 0), posinf=0, neginf=0)
        whole = torch.from_numpy(np.ascontiguousarray(finite, dtype=np.float32))
        coarse[place] = torch.nn.functional.avg_pool2d(whole, factors, ceil_mode=True)
    return coarse


def _jumps_of_kind(structure: Tensor, spacing_mm: Tensor) -> Tensor:
    """(n, 2) jumps of volumes of one kind in coarse voxels."""
    flat = structure.flatten(1)
    jumps = torch.zeros(len(structure), 2, dtype=torch.int64)
    reference = structure[(flat @ flat.sum(dim=0)).argmax()]
    for repeated in range(ROUNDS):
        before, jumps = jumps, _jumps_from(structure, reference, spacing_mm)
        if repeated and torch.equal(jumps, before):
            break
        reference = _mean_at_rest(structure, jumps)
    return jumps


def _structure(images: Tensor, spacing_mm: Tensor) -> Tensor:
    """Take shading off (n, k, p, q) images, in place, and give each the norm 1, slices alike."""
    fine_mm, shading_mm = (mm / float(spacing_mm.mean()) for mm in WIDTHS_MM)
    for image in images:
        image.copy_(smooth(image, fine_mm) - smooth(image, shading_mm))
    of_slices = torch.stack([torch.linalg.vector_norm(image, dim=(1, 2)) for image in images])
    usual = torch.linalg.vector_norm(of_slices, dim=0)[:, None, None].clamp(min=TINY)
    for image in images:
        image.div_(usual)
        image.div_(torch.linalg.vector_norm(image).clamp(min=TINY))
    return images


def _jumps_from(structure: Tensor, reference: Tensor, spacing_mm: Tensor) -> Tensor:
    """(n, 2) jumps of volumes that match a reference much better far away than near by."""
    voxels, likeness = _likeness(structure, reference, spacing_mm)
    length_mm = (voxels * spacing_mm).norm(dim=-1)
    best = likeness.max(dim=-1)
    near_by = likeness.where(length_mm <= SMALLEST_MM / 2, -1.0).amax(dim=-1)
    left, left_near = (1 - value.clamp(min=0) ** 2 for value in (best.values, near_by))
    jumped = (length_mm[best.indices] > SMALLEST_MM) & (left < UNEXPLAINED * left_near)
    found: Tensor = voxels[best.indices] * jumped[:, None]
    return found


def _likeness(structure: Tensor, reference: Tensor, spacing_mm: Tensor) -> tuple[Tensor, Tensor]:
    """(m, 2) displacements in voxels, (n, m) correlation with a reference after each."""
    size = torch.tensor(reference.shape[-2:])
    reach = torch.minimum((LARGEST_MM / spacing_mm).long(), size - 1)
    padded = [next_fast_len(n, real=True) for n in (size + reach).tolist()]
    spectrum = torch.fft.rfft2(reference, s=padded)
    product = torch.stack(
        [(torch.fft.rfft2(one, s=padded).conj() * spectrum).sum(dim=0) for one in structure]
    )
    at_voxel = torch.fft.irfft2(product, s=padded)
    voxels = torch.cartesian_prod(*(torch.arange(-r, r + 1) for r in reach.tolist()))
    norm: Tensor = torch.linalg.vector_norm(reference).clamp(min=TINY)
    return voxels, at_voxel[:, voxels[:, 0], voxels[:, 1]] / norm


def _mean_at_rest(images: Tensor, jumps: Tensor) -> Tensor:
    """(k, p, q) mean of (n, k, p, q) images moved by jumps; the edge comes in at the other side."""
    total = torch.zeros_like(images[0])
    for image, jump in zip(images, jumps.tolist(), strict=True):
        total += torch.roll(image, jump, (-2, -1)) if any(jump) else image
    return total / len(images)


def _between_kinds(
    means: list[Tensor], jumps: Tensor, b0_mask: BoolArray, spacing_mm: Tensor
) -> Tensor:
    """(2,) what brings weighted volumes to b=0 volumes: nothing, or one of the jumps found."""
    is_b0 = torch.from_numpy(b0_mask)
    candidates = torch.cat([jumps[is_b0], -jumps[~is_b0], torch.zeros(1, 2, dtype=torch.int64)])
    reference, moving = (_structure(_edges(mean)[None], spacing_mm) for mean in means)
    voxels, likeness = _likeness(moving, reference[0], spacing_mm)
    tried = (voxels[:, None] == torch.unique(candidates, dim=0)).all(dim=-1).any(dim=-1)
    return voxels[likeness[0].where(tried, -2.0).argmax()]


def _edges(images: Tensor) -> Tensor:
    """Steepness of (k, p, q) images."""
    along_p, along_q = torch.gradient(images, dim=(-2, -1))
    return torch.hypot(along_p, along_q)


def _from_most_common(jumps: Tensor, b0_mask: BoolArray, spacing_mm: Tensor) -> Tensor:
    """Count jumps from the position of most volumes, or of the first b=0 if two are as common.

    Volumes near that position do not move, and the others move by what is typical of those that
    jumped alike: so b=0 and weighted volumes stay as they are to each other.
    """
    close = ((jumps[:, None] - jumps) * spacing_mm).norm(dim=-1) <= SMALLEST_MM
    company = close.sum(dim=-1)
    first_b0 = int(np.argmax(b0_mask))
    most = first_b0 if company[first_b0] == company.max() else int(company.argmax())
    for kind in torch.from_numpy(np.stack([b0_mask, ~b0_mask])):
        there = kind & close[most]
        place = jumps[there].median(dim=0).values if there.any() else jumps[most]
        jumps = torch.where(kind[:, None], jumps - place, jumps)
    typical = torch.stack([jumps[alike].median(dim=0).values for alike in close])
    return torch.where(close[most][:, None], 0, typical)
