"""A slice says where it lies no more surely than the noise in it and in its reference allows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy import ndimage

from scsnet_bids.correction.interpolation import sample_moved_with_slopes
from scsnet_bids.correction.slice_matching import Reference, match_slices
from scsnet_bids.correction.slice_patches import (
    REFERENCE_SMOOTHING_VOXELS,
    SlicePatches,
    cut_patches,
    smooth,
)
from scsnet_bids.images import Grid

N, SLICES, SIZE = 60, 4, 48
SPACING_MM = 0.9
GRID = Grid((SIZE, SIZE, SLICES), np.diag([-SPACING_MM, -SPACING_MM, 5.0, 1.0]), "LAS")
CENTRE_MM = np.full((SLICES, 2), (SIZE - 1) / 2 * SPACING_MM)
MOVED_MM = torch.tensor([0.3, -0.2], dtype=torch.float64)
NOISE, SHARE = 0.25, 0.125
"""Of a slice, and the part of its variance that a reference has."""
RADIUS_MM = 11.0
STILL = torch.zeros(N, SLICES, 2, dtype=torch.float64)


class Scan(NamedTuple):
    """Slices that moved, and references at rest without and with noise."""

    seen: SlicePatches
    clean: Reference
    noisy: Reference
    noisy_but_believed: Reference


def cord(moved_mm: np.ndarray) -> np.ndarray:
    """(i, j, k, n) bright ellipses, all moved by as much."""
    left, posterior = np.meshgrid(*[np.arange(SIZE) * SPACING_MM] * 2, indexing="ij")
    off = [
        axis - CENTRE_MM[0, 0] + mm for axis, mm in zip((left, posterior), moved_mm, strict=True)
    ]
    disc = 1 / (1 + np.exp((np.hypot(off[0], 1.3 * off[1]) - 6) / 0.5))
    return np.tile(disc[:, :, None, None], (1, 1, SLICES, N))


@pytest.fixture
def scan(rng: np.random.Generator) -> Scan:
    # The reference is as noisy as the mean of a few volumes.
    series = [cord(MOVED_MM.numpy()), cord(np.zeros(2)), cord(np.zeros(2))]
    series[0] = series[0] + rng.normal(0, NOISE, series[0].shape)
    series[2] = series[2] + rng.normal(0, NOISE * np.sqrt(SHARE), series[2].shape)
    patches = cut_patches(np.concatenate(series, axis=-1), CENTRE_MM, GRID, 18.0)
    parts = [patches.of_volumes(np.arange(N) + N * part) for part in range(3)]
    clean, noisy = (smooth(part.intensity, REFERENCE_SMOOTHING_VOXELS) for part in parts[1:])
    none = torch.zeros(N, SLICES)
    steepness = match_slices(parts[0], Reference(clean, none), STILL, RADIUS_MM).steepness
    references = ((clean, none), (noisy, SHARE * steepness), (noisy, none))
    return Scan(parts[0], *(Reference(*reference) for reference in references))


def measured(scan: Scan, reference: Reference) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, k, 2) displacements that slices measure, and (n, k, 2, 2) what they say they know."""
    said = match_slices(scan.seen, reference, STILL, RADIUS_MM).measurement
    return torch.linalg.solve(said.information, said.weighted_mm[..., None])[
        ..., 0
    ], said.information


def off(found_mm: torch.Tensor, information: torch.Tensor) -> float:
    """Mean square of the error in units of what the slices say; 1 if they are right."""
    error = found_mm - MOVED_MM
    return float(torch.einsum("nki,nkij,nkj->nk", error, information, error).mean() / 2)


def test_a_reference_without_noise_is_matched_without_bias(scan: Scan) -> None:
    found_mm, information = measured(scan, scan.clean)
    np.testing.assert_allclose(found_mm.mean(dim=(0, 1)), MOVED_MM, atol=0.02)
    assert 0.8 < off(found_mm, information) < 1.4


def test_noise_of_the_reference_neither_shortens_a_step_nor_makes_it_surer(scan: Scan) -> None:
    found_mm, information = measured(scan, scan.noisy)
    without_noise_mm, _ = measured(scan, scan.clean)
    np.testing.assert_allclose(
        found_mm.mean(dim=(0, 1)), without_noise_mm.mean(dim=(0, 1)), atol=0.03
    )
    assert 0.8 < off(found_mm, information) < 1.4


def test_noise_that_is_not_known_would_pass_for_edges(scan: Scan) -> None:
    found_mm, information = measured(scan, scan.noisy_but_believed)
    assert (found_mm.mean(dim=(0, 1)).abs() < 0.9 * MOVED_MM.abs()).all()
    surer = (
        information.diagonal(dim1=-2, dim2=-1).mean()
        / measured(scan, scan.clean)[1].diagonal(dim1=-2, dim2=-1).mean()
    )
    assert surer > 1.1


def test_noise_in_the_bright_cord_alone_counts_where_its_edges_are(
    rng: np.random.Generator,
) -> None:
    clean = cord(np.zeros(2))
    even = clean + rng.normal(0, 0.1, clean.shape)
    uneven = clean + rng.normal(0, 1, clean.shape) * np.where(clean > 0.1, 0.2, 0.02)
    window = np.hypot(*(np.indices(clean.shape[:2]) - (SIZE - 1) / 2)) * SPACING_MM < RADIUS_MM
    known = []
    for series in (even, uneven):
        patches = cut_patches(np.concatenate([series, clean], axis=-1), CENTRE_MM, GRID, 18.0)
        reference = smooth(patches.intensity[N:], REFERENCE_SMOOTHING_VOXELS)
        match = match_slices(
            patches.of_volumes(np.arange(N)),
            Reference(reference, torch.zeros(N, SLICES)),
            STILL,
            RADIUS_MM,
        )
        known.append(match)
    # Both have as much noise in the window as a whole, if the second is a little quieter.
    told = [float(match.noise_variance.mean()) for match in known]
    noise = [float(((s - clean) ** 2)[window].mean()) for s in (even, uneven)]
    assert told[1] / noise[1] > 1.4 * told[0] / noise[0]


@pytest.mark.parametrize("width_voxels", [0.0, 1.0])
def test_noise_is_as_steep_as_its_neighbours_are_apart(
    rng: np.random.Generator, width_voxels: float
) -> None:
    """White noise and smooth noise, as scanners that interpolate give."""
    clean = cord(np.zeros(2))
    noise = ndimage.gaussian_filter(rng.normal(0, 0.1, clean.shape), [width_voxels] * 2 + [0, 0])
    noise *= 0.2 / noise.std()
    both = np.concatenate([clean + noise, clean], axis=-1)
    patches = cut_patches(both, CENTRE_MM, GRID, 18.0)
    seen, alone = (patches.of_volumes(np.arange(N) + N * part) for part in range(2))
    reference = Reference(
        smooth(alone.intensity, REFERENCE_SMOOTHING_VOXELS), torch.zeros(N, SLICES)
    )
    told = match_slices(seen, reference, STILL, RADIUS_MM).steepness.mean()
    left = smooth(seen.intensity - alone.intensity, REFERENCE_SMOOTHING_VOXELS)
    slopes = sample_moved_with_slopes(left, torch.zeros(2))[1:]
    window = seen.window(STILL[:1].float(), RADIUS_MM)
    true = sum(float((window * slope**2).sum() / (window.sum() * N)) for slope in slopes) / 2
    assert float(told) == pytest.approx(true, rel=0.1)
