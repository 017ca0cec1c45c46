"""Compare ways to measure a region: how far FA and MD lie from those of its tissue.

With true shares, on still phantoms, only partial volume and noise are at work. With SCS-Net's own
shares the whole app runs on series with motion: misplaced borders come in as well. Cords that
people drew, if there are any, have shapes that no curve of the phantom and no training made.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scsnet_bids.arrays import FloatArray
from scsnet_bids.benchmark.children import app_command, map_at_once, run_child
from scsnet_bids.benchmark.figures_of_runs import keep, summarise
from scsnet_bids.benchmark.machine import describe_machine, machine_line
from scsnet_bids.derivatives import read_table
from scsnet_bids.evaluation.tables import markdown_table
from scsnet_bids.gradients import b0_volumes
from scsnet_bids.images import read_image
from scsnet_bids.phantom import DrawnCord, Phantom, PhantomSettings, simulate, write_dataset
from scsnet_bids.regions import N_CLASSES, REGIONS, Tissue
from scsnet_bids.resources import available_cpus
from scsnet_bids.settings import B0, B0_AND_DWI, Settings
from scsnet_bids.tensor import fit_tensor
from scsnet_bids.unmixing.noise import estimate_noise
from scsnet_bids.unmixing.signals import unmix_regions

SEED = 4100
"""Apart from the phantoms that constants were chosen on (501 to 503) and the published ones."""
SNRS = (5.0, 6.5, 10.0, 15.0, 25.0)
USUAL_SNR, LOW_SNR = 15.0, 6.5
SCHEMES: dict[str, dict[str, Any]] = {
    "5+30": {"b0_volumes": 5, "directions": 30},
    "6+60": {"b0_volumes": 6, "directions": 60},
    "4+12x4": {"b0_volumes": 4, "directions": 12, "averages": 4},
}
USUAL_SCHEME = "5+30"
CORDS: dict[str, dict[str, Any]] = {
    "healthy": {},
    "lesion": {"fa_drop": 0.3},
    "compressed": {"compression": 0.4},
    "drawn": {},
    "drawn, lesion": {"fa_drop": 0.3},
    "drawn, compressed": {"compression": 0.4},
}
DRAWN = "drawn"
WITHOUT_LESION = {"lesion": "healthy", "drawn, lesion": DRAWN}
"""The same people without their lesion."""
MOTION_MM = 0.9
PLAIN, CORE = "plain mean", "core mean"
LINEAR, UNMIXED = "linear unmixing of the map", "unmixed signals"
WAYS = (PLAIN, CORE, LINEAR, UNMIXED)
MAPS = ("fa", "md")
APP_SHARES = {"SCS-Net": B0, "SCS-Net (b0+dwi)": B0_AND_DWI}
"""What the app draws regions from."""
KEYS = ("shares", "cord", "scheme", "snr", "way")


@dataclass(frozen=True)
class Condition:
    """What is scanned, how, and how well."""

    cord: str
    scheme: str
    snr: float

    @property
    def is_drawn(self) -> bool:
        """Tell whether the cord's shape is one that somebody drew."""
        return self.cord.startswith(DRAWN)

    def settings(self, motion_mm: float) -> PhantomSettings:
        """Give the phantom's settings; without motion B0 and DWI coincide."""
        scanned = PhantomSettings(snr=self.snr, motion_mm=motion_mm)
        if not motion_mm:
            scanned = replace(scanned, b0_to_dwi_mm=0.0)
        return replace(scanned, **CORDS[self.cord], **SCHEMES[self.scheme])


def compare_values(out: Path, effort: str, people: int, drawn: Sequence[DrawnCord] = ()) -> str:
    """Run the comparison, and write its tables.

    Parameters
    ----------
    out : folder for ``values_runs.tsv``, ``values.tsv``, ``values_machine.json``
    effort : ``quick`` takes three conditions
    people : phantoms per condition
    drawn : cords that people drew, taken in turn; without, there are no such conditions

    Returns
    -------
    tables as text
    """
    conditions = [c for c in list_conditions(effort) if drawn or not c.is_drawn]
    rows = map_at_once(partial(_measure, people, drawn), conditions, available_cpus())
    runs, machine = pd.DataFrame(chain.from_iterable(rows)), describe_machine()
    summary = summarise(runs.drop(columns="run"), [*KEYS, "tissue"])
    keep(out, "values", {"_runs": runs, "": summary}, machine)
    return "\n\n".join([*describe_errors(runs), f"{people} people each. {machine_line(machine)}."])


def list_conditions(effort: str) -> list[Condition]:
    """List what to measure, one thing changed at a time."""
    if effort == "quick":
        usual = [Condition("healthy", USUAL_SCHEME, snr) for snr in (LOW_SNR, USUAL_SNR)]
        return [*usual, Condition(DRAWN, USUAL_SCHEME, LOW_SNR)]
    by_snr = [Condition("healthy", USUAL_SCHEME, snr) for snr in SNRS]
    by_scheme = [Condition("healthy", way, LOW_SNR) for way in SCHEMES if way != USUAL_SCHEME]
    others = [Condition(cord, USUAL_SCHEME, LOW_SNR) for cord in CORDS if cord != "healthy"]
    return by_snr + by_scheme + others


def _measure(
    people: int, drawn: Sequence[DrawnCord], condition: Condition
) -> list[dict[str, object]]:
    """Measure one condition with true shares and with the app's."""
    cords, rows = drawn if condition.is_drawn else (), []
    measured = {"true": list(measure_true(condition, people, cords))}
    measured |= measure_app(condition, people, cords)
    for shares, results in measured.items():
        for person, (way, values, truth) in enumerate(results):
            where = {"shares": shares, **vars(condition), "way": way, "run": person}
            rows += [where | row for row in _errors(values, truth)]
    print(f"{condition.cord}, {condition.scheme}, SNR {condition.snr:g}: done", flush=True)
    return rows


def measure_true(
    condition: Condition, people: int, drawn: Sequence[DrawnCord] = ()
) -> Iterator[tuple[str, FloatArray, FloatArray]]:
    """Measure still phantoms in their true regions.

    Yields
    ------
    way, (8, 2) FA and MD of the regions, and those of their tissue
    """
    settings = Settings()
    for person in range(people):
        own = drawn[person % len(drawn)] if drawn else None
        phantom = simulate(condition.settings(0.0), (SEED, person), own)
        maps = fit_tensor(phantom.series, phantom.gradients, None, settings.gradients)
        is_b0 = b0_volumes(phantom.gradients.bvals, settings.gradients.b0_max)
        cord = 1 - phantom.region_share[..., 0]
        noise = estimate_noise(phantom.series, is_b0, maps.noise, cord)
        unmixed = unmix_regions(
            phantom.series,
            phantom.region_share,
            phantom.gradients,
            noise.rician_sigma,
            settings.unmixing,
            settings.gradients,
        )
        values = measure_maps({m: getattr(maps, m) for m in MAPS}, phantom.region_share)
        values[UNMIXED] = _mean_by_volume(unmixed.value[..., :2], unmixed.volume)
        for way in WAYS:
            yield way, values[way], _tissue(phantom)


def measure_app(
    condition: Condition, people: int, drawn: Sequence[DrawnCord] = ()
) -> dict[str, list[tuple[str, FloatArray, FloatArray]]]:
    """Run the app on moving phantoms and read its tables and maps.

    Returns
    -------
    by what the regions were drawn from: way, (8, 2) FA and MD of the regions, and those of their
    tissue
    """
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        data, work = (Path(folder) / name for name in ("data", "work"))
        write_dataset(data, condition.settings(MOTION_MM), people, SEED, drawn=drawn)
        for shares, sees in APP_SHARES.items():
            out = Path(folder) / sees
            words = [str(data), str(out), "participant", "--work-dir", str(work), "--nprocs", "1"]
            command = app_command(*words, "--segment-from", sees)
            run_child(command, Path(folder) / "log")
            measured[shares] = list(_read_app(data, out))
    return measured


def _read_app(data: Path, out: Path) -> Iterator[tuple[str, FloatArray, FloatArray]]:
    """Yield way, values and truth of every run that the app has measured."""
    for path in sorted(out.glob("sub-*/**/*_seg-SCSNet_probseg.nii.gz")):
        start = str(path).removesuffix("_seg-SCSNet_probseg.nii.gz")
        maps = {
            m: read_image(Path(f"{start}_model-tensor_param-{m}_dwimap.nii.gz")).data for m in MAPS
        }
        values = measure_maps(maps, read_image(path).data)
        table = read_table(Path(f"{start}_model-tensor_seg-SCSNet_scalarstats.tsv"))
        values[UNMIXED] = _of_cord(table[table["scope"] == "cord"], "unmixed")
        truth_folder = data / "derivatives" / "phantom" / path.parent.relative_to(out)
        tissue = read_table(next(truth_folder.glob("*_desc-tissue_scalarstats.tsv")))
        for way in WAYS:
            yield way, values[way], _in_order(tissue)[["FA", "MD"]].to_numpy(float)


def measure_maps(maps: dict[str, FloatArray], share: FloatArray) -> dict[str, FloatArray]:
    """Measure maps in the regions in the ways that take them as they are.

    Linear unmixing is the idea of the extraction in SCT (Levy et al., NeuroImage 2015): the map
    of all slices is the sum of share times region value, solved by least squares.

    Parameters
    ----------
    maps : (i, j, k) arrays, FA and MD; nan where there is none
    share : (i, j, k, 9) float array in [0, 1], background first

    Returns
    -------
    dict of (8, 2) float arrays by way
    """
    stacked = np.stack([maps[m] for m in MAPS], axis=-1)
    known = np.isfinite(stacked).all(axis=-1) & (share[..., 1:].sum(axis=-1) > 0)
    values, design = stacked[known], np.asarray(share[known], dtype=float)
    limits = Settings().regional
    means = {
        way: np.stack([_mean(values[design[:, r] >= limit]) for r in range(1, N_CLASSES)])
        for way, limit in ((PLAIN, limits.inside_share), (CORE, limits.core_share))
    }
    solved = np.linalg.lstsq(design, values)[0][1:]
    return {**means, LINEAR: solved}


def describe_errors(runs: pd.DataFrame) -> list[str]:
    """Write the tables: bias and mean absolute error by condition, and what a lesion keeps.

    Parameters
    ----------
    runs : one row per person, way and tissue, errors in % of the truth

    Returns
    -------
    list of Markdown tables with a line above each
    """
    tables = []
    for shares, part in runs.groupby("shares", sort=False):
        for metric in ("FA", "MD"):
            table = _pivot(part, f"{metric} error %")
            tables.append(
                f"{metric}, {shares} shares, bias and mean absolute error in %:\n\n{table}"
            )
    kept = _kept_contrast(runs)
    return [*tables, kept] if kept else tables


def _pivot(runs: pd.DataFrame, column: str) -> str:
    """Write one table: conditions and ways down, tissues across, bias / mean absolute error."""
    named = runs.assign(
        condition=runs["cord"] + ", " + runs["scheme"] + ", SNR " + runs["snr"].map("{:g}".format)
    )
    groups = named.groupby(["condition", "way", "tissue"], sort=False)[column]
    table = groups.agg(lambda x: f"{x.mean():+.1f} / {x.abs().mean():.1f}").unstack()
    flat = table.reset_index()
    return markdown_table(flat.set_index("condition"))


def _kept_contrast(runs: pd.DataFrame) -> str:
    """Say what part of the loss of FA in a lesion each way still shows; empty if none was asked."""
    white = runs[(runs["tissue"] != str(Tissue.GRAY_MATTER)) & (runs["scheme"] == USUAL_SCHEME)]
    lesion = white[white["cord"].isin(WITHOUT_LESION)]
    if lesion.empty:
        return ""
    index = ["shares", "way", "tissue", "run", "cord", "snr"]
    lesion = lesion.assign(cord=lesion["cord"].map(WITHOUT_LESION))
    pairs = white.merge(lesion, on=index, suffixes=("", " lesion"))
    kept = (pairs["FA"] - pairs["FA lesion"]) / (pairs["FA true"] - pairs["FA true lesion"])
    column = pairs["cord"] + " cord, " + pairs["shares"] + " shares"
    table = (100 * kept).groupby([column.rename(None), pairs["way"]], sort=False).mean().unstack(0)
    shown = markdown_table(table.map("{:.0f}".format))
    return f"Part of a white-matter lesion's loss of FA that is seen, in %:\n\n{shown}"


def _errors(values: FloatArray, truth: FloatArray) -> Iterator[dict[str, object]]:
    """One row per tissue: values of both sides and their errors in %."""
    for tissue in Tissue:
        places = [n for n, region in enumerate(REGIONS) if region.tissue is tissue]
        row: dict[str, object] = {"tissue": str(tissue)}
        for m, metric in enumerate(("FA", "MD")):
            relative = 100 * (values[places, m] / truth[places, m] - 1)
            row[f"{metric} error %"] = _nanmean(relative)
            row[metric] = _nanmean(values[places, m])
            row[f"{metric} true"] = float(truth[places, m].mean())
        yield row


def _mean_by_volume(values: FloatArray, volume: FloatArray) -> FloatArray:
    """(8, 2) mean of (k, 8, 2) values of slices, weighted by (k, 8) volumes; nan left out."""
    weight = np.where(np.isfinite(values), volume[..., None], 0.0)
    return np.asarray((np.nan_to_num(values) * weight).sum(axis=0) / weight.sum(axis=0))


def _of_cord(table: pd.DataFrame, column: str) -> FloatArray:
    """(8, 2) FA and MD of a column of the rows of the whole cord."""
    return np.stack(
        [_in_order(table[table["metric"] == m])[column].to_numpy(float) for m in ("FA", "MD")],
        axis=1,
    )


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the eight regions in the order of their labels."""
    order = [(str(region.tissue), str(region.side)) for region in REGIONS]
    return table.set_index(["region", "side"]).loc[order]


def _tissue(phantom: Phantom) -> FloatArray:
    """(8, 2) FA and MD of the regions' mean tensors."""
    return np.array([[part.fa, part.md] for part in phantom.region_tensors])


def _mean(values: FloatArray) -> FloatArray:
    """(2,) mean over voxels; nan if there is none."""
    return values.mean(axis=0) if len(values) else np.full(values.shape[1], np.nan)


def _nanmean(values: FloatArray) -> float:
    """Mean of what is known; nan if nothing is."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
