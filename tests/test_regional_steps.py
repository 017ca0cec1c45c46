"""The steps that unmix know what the series has been through: interpolation, and denoising."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scsnet_bids.arrays import FloatArray
from scsnet_bids.derivatives import read_table, write_table
from scsnet_bids.gradients import write_gradients
from scsnet_bids.images import Image, read_image, write_image
from scsnet_bids.interfaces import TransferRegions, UnmixRegions
from scsnet_bids.outlier_table import OUTLIER_COLUMNS, tabulate_slices
from scsnet_bids.phantom import Phantom, PhantomSettings, simulate
from scsnet_bids.regional import measure_regions
from scsnet_bids.regions import N_CLASSES, REGIONS
from scsnet_bids.settings import (
    B0,
    B0_AND_DWI,
    INPUTS,
    GradientSettings,
    RegionalSettings,
    Sharpness,
    UnmixingSettings,
)
from scsnet_bids.shift_table import tabulate_shifts
from scsnet_bids.slices import PlaneGrid, slices_to_volume, volume_to_slices
from scsnet_bids.unmixing.noise import NoiseLevel, interpolation_gain
from scsnet_bids.unmixing.region_tensor import METRICS
from scsnet_bids.unmixing.sharpening import Borders, PlacedRegions, sharpen_probability
from scsnet_bids.unmixing.table import tabulate_noise, tabulate_own_noise

SMALL = PhantomSettings(b0_to_dwi_mm=0, slices=2, matrix=(48, 40), directions=12, b0_volumes=2)
SETTINGS, UNMOVED = UnmixingSettings(), Borders.unmoved(SMALL.slices)
SHARPNESS = SETTINGS.sharpness(B0)
FA_AND_MD = np.array([[0.7, 0.9e-3]] * 6 + [[0.45, 0.8e-3]] * 2)
"""Of the columns and of gray matter."""


def signals(phantom: Phantom) -> FloatArray:
    """(9, n) of fluid, and of regions whose fibres run along the cord."""
    fa, md = FA_AND_MD.T
    spread = md * fa / np.sqrt(3 - 2 * fa**2)
    across, along = md - spread, md + 2 * spread
    bvals, height2 = phantom.gradients.bvals, phantom.gradients.bvecs[:, 2] ** 2
    decay = np.exp(-bvals * (across[:, None] * (1 - height2) + along[:, None] * height2))
    return np.concatenate([[2500 * np.exp(-3e-3 * bvals)], 1000 * decay])


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return simulate(SMALL, 4)


@pytest.fixture(scope="module")
def regions(phantom: Phantom) -> PlacedRegions:
    """True regions, as soft as a network's, in a series that was corrected."""
    share = phantom.region_share
    right = np.stack([volume_to_slices(share[..., c]) for c in range(N_CLASSES)], axis=1)
    soft = sharpen_probability(right, Sharpness(*(1 / factor for factor in SHARPNESS)))
    plane = PlaneGrid.of_image(phantom.grid)
    still_mm = np.zeros((SMALL.slices, 2))
    return PlacedRegions(soft, plane, phantom.grid, still_mm, SHARPNESS, -phantom.motion_mm)


@pytest.fixture(scope="module")
def inputs(
    phantom: Phantom, regions: PlacedRegions, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Files of a series that shows the regions as its interpolation does, and of what is known.

    ``drawn_dwi`` shows them on the network's own pixels, on which the outline is sought.
    """
    folder, grid = tmp_path_factory.mktemp("inputs"), phantom.grid
    probability = Image(slices_to_volume(regions.probability), regions.plane.on_image(grid))
    seen = {"dwi": regions.refined(), "drawn_dwi": regions.cropped()}
    images = {
        name: Image(part.sharpened(UNMOVED).seen_shares() @ signals(phantom), grid)
        for name, part in seen.items()
    }
    without_air = np.where(phantom.region_share[..., :1] < 1, phantom.series, 0)
    images |= {"raw_dwi": Image(without_air, grid), "region_probability": probability}
    paths = {name: write_image(folder / f"{name}.nii.gz", i) for name, i in images.items()}
    paths |= {name: folder / f"dwi.{name}" for name in ("bval", "bvec")}
    write_gradients(paths["bval"], paths["bvec"], phantom.gradients, grid)
    counted = dict.fromkeys(
        OUTLIER_COLUMNS.keys() - {"volume", "slice"}, np.ones(phantom.lost.shape)
    )
    tables = {
        "outliers": tabulate_slices(counted),
        "orig_to_dwi": tabulate_shifts(regions.moved_mm),
        "dwiref_to_dwi": tabulate_shifts(regions.b0_to_dwi_mm),
    }
    paths |= {name: write_table(folder / f"{name}.tsv", t) for name, t in tables.items()}
    settings = {"gradient_settings": GradientSettings(), "unmixing_settings": SETTINGS}
    settings["segmented_from"] = B0
    return {name: str(path) for name, path in paths.items()} | settings


def run(step: type[Any], folder: Path, inputs: dict[str, Any]) -> Any:
    """Run a step in a folder on those of the inputs that it takes."""
    names = step.input_spec().copyable_trait_names()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return step(**{name: inputs[name] for name in names if name in inputs}).run().outputs


def transfer(
    regions: PlacedRegions, inputs: dict[str, Any], folder: Path, noise: float, removed: float
) -> Any:
    """Bring the regions to a series, with the noise about its tensors."""
    own = {}
    for name, level in {"noise": noise, "removed_noise": removed}.items():
        image = Image(np.full(regions.grid.shape, level), regions.grid)
        own[name] = str(write_image(folder / f"{name}.nii.gz", image))
    return run(TransferRegions, folder, inputs | own)


def unmix(
    regions: PlacedRegions, inputs: dict[str, Any], folder: Path, own_noise: float = 0.0
) -> Any:
    """Unmix with borders that lie where they were drawn, at a noise of 3."""
    share, grid = regions.refined().sharpened(UNMOVED).shares(), regions.grid
    nothing = {name: np.zeros(grid.shape) for name in METRICS}
    plain = measure_regions(share, nothing, grid.spacing_mm, None, RegionalSettings())
    borders = pd.DataFrame(vars(UNMOVED)).rename_axis("slice").reset_index()
    noise = tabulate_noise(NoiseLevel(3.0, "tensor_residual", "no_background"))
    own_noises = tabulate_own_noise(np.full((grid.shape[2], len(REGIONS)), own_noise))
    tables = {
        "plain_table": plain,
        "border_table": borders,
        "noise_table": noise,
        "own_noise": own_noises,
    }
    paths = {name: write_table(folder / f"{name}.tsv", table) for name, table in tables.items()}
    own = {name: str(path) for name, path in paths.items()}
    return run(UnmixRegions, folder, inputs | own)


def test_the_outline_is_sought_as_the_interpolated_series_shows_it(regions, inputs, tmp_path):
    drawn = inputs | {"dwi": inputs["drawn_dwi"]}
    found = transfer(regions, drawn, tmp_path, noise=0.1, removed=0.0)
    borders = read_table(Path(found.border_table))
    np.testing.assert_allclose(borders["withdrawal"], 0, atol=0.1)
    assert read_image(Path(found.region_share)).data.min() >= 0


def test_regions_have_steeper_borders_where_the_network_saw_the_mean_dwi(regions, inputs, tmp_path):
    own_part = {}
    for seen in INPUTS:
        given = inputs | {"segmented_from": seen}
        found = transfer(regions, given, tmp_path, noise=0.1, removed=0.0)
        share = read_image(Path(found.region_share)).data[..., 1:]
        own_part[seen] = share.max(axis=-1).sum() / share.sum()
    assert own_part[B0_AND_DWI] > own_part[B0] + 0.001


def test_values_are_unmixed_by_what_the_interpolated_series_shows(regions, inputs, tmp_path):
    found = unmix(regions, inputs, tmp_path)
    table = read_table(Path(found.region_table)).query("scope == 'slice'")
    for region, true in zip(REGIONS, FA_AND_MD, strict=True):
        for metric, value in zip(("FA", "MD"), true, strict=True):
            cell = {"region": region.tissue, "side": region.side, "metric": metric}
            rows = table[(table[list(cell)] == pd.Series(cell)).all(axis=1)]
            np.testing.assert_allclose(rows["unmixed"], [value] * SMALL.slices, rtol=0.002)


def test_own_noise_of_the_b0_volumes_is_taken_out_of_the_values(regions, inputs, tmp_path):
    """A hundredth of the b=0 signal, 1000, is a hundredth in b * MD."""
    changed = {}
    for name, own_noise in {"none": 0.0, "some": 10.0}.items():
        found = unmix(regions, inputs, tmp_path, own_noise)
        table = read_table(Path(found.region_table)).query("scope == 'cord' and metric == 'MD'")
        changed[name] = table["unmixed"].to_numpy(float)
    lowered = changed["none"] - changed["some"]
    np.testing.assert_allclose(lowered, 0.01 / 800, rtol=0.15)


def test_borders_in_doubt_are_moved_as_the_interpolated_series_shows_them(
    phantom, regions, inputs, tmp_path
):
    """Motion that was corrected adds 5 % to the uncertainty here, and else would add 60 %."""
    areas = regions.refined().sharpened(UNMOVED).shares() @ signals(phantom)
    unmoved = tabulate_shifts(np.zeros_like(regions.moved_mm))
    still = {
        "dwi": write_image(tmp_path / "still_dwi.nii.gz", Image(areas, phantom.grid)),
        "orig_to_dwi": write_table(tmp_path / "unmoved.tsv", unmoved),
    }
    mean = []
    for given in (inputs, inputs | {name: str(path) for name, path in still.items()}):
        found = unmix(regions, given, tmp_path)
        table = read_table(Path(found.region_table)).query("scope == 'slice' and metric == 'FA'")
        single = (table["side"] != "both") & ~table["region"].isin(["white_matter", "cord"])
        mean.append(table.loc[single, "unmixed_uncertainty"].mean())
    assert mean[0] == pytest.approx(mean[1], rel=0.2)


def test_of_removed_noise_counts_what_interpolation_would_have_left(regions, inputs, tmp_path):
    """Of noise 5, 4 was removed, and 3 is left, less what interpolation took."""
    gain = interpolation_gain(regions.moved_mm / np.array(regions.grid.spacing_mm[:2]))
    found = transfer(regions, inputs, tmp_path, noise=3 * gain, removed=4.0)
    row = read_table(Path(found.noise_table)).iloc[0]
    assert gain < 0.9
    assert row["noise_source"] == "tensor_residual"
    freedom = SMALL.directions + SMALL.b0_volumes - 7
    typical = np.sqrt(stats.chi2.median(freedom) / freedom)  # of voxels with so few volumes
    assert row["noise_sigma"] == pytest.approx(5 / typical, rel=0.01)
