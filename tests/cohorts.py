"""Output folders of simulated cohorts: region tables without images, for tests and benchmarks.

The tables are not measured. A person's true values are those of a template times the person's own
factor (common to all cells) and a factor of each of the eight regions at each level; what is
written is the truth plus measurement error of the stated size. Unions of regions, and the whole
cord, are means by volume of the regions at the levels, as in the app.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from scsnet_bids.regions import REGION_GROUPS, REGIONS

LEVELS = ("C3", "C4", "C5", "C6")
METRICS = ("FA", "MD")
VALUE = {"FA": 0.7, "MD": 0.9e-3}
PERSON_SD, CELL_SD, ERROR = 0.04, 0.04, 0.04
"""Relative: between persons, between cells of a person, and of the measurement."""

Drop = Mapping[tuple[str, str], float]
"""Share of FA that is lost, by level and tissue."""


@dataclass(frozen=True, eq=False)
class Template:
    """What healthy people have on average.

    Attributes
    ----------
    value : (level, region, metric) float array
    error : standard errors of the same
    volume : (level, region) float array
    levels, metrics : names of the first and last axis
    """

    value: np.ndarray
    error: np.ndarray
    volume: np.ndarray
    levels: tuple[str, ...] = LEVELS
    metrics: tuple[str, ...] = METRICS


def flat_template() -> Template:
    """Make a template with the same values everywhere."""
    shape = (len(LEVELS), len(REGIONS), len(METRICS))
    value = np.broadcast_to([VALUE[m] for m in METRICS], shape)
    volume = np.broadcast_to([60.0, 60, 40, 40, 30, 30, 25, 25], shape[:2])
    return Template(value, ERROR * value, volume)


def draw_person(
    template: Template, rng: np.random.Generator, drop: Drop | None = None, factor: float = 1.0
) -> pd.DataFrame:
    """Draw what is measured in a person: the rows of a region table, scopes level and cord.

    Parameters
    ----------
    template : of healthy people
    rng : source of the person's randomness
    drop : of FA
    factor : of all true FA
    """
    person = 1 + rng.normal(0, PERSON_SD, (1, 1, len(template.metrics)))
    true = template.value * person * (1 + rng.normal(0, CELL_SD, template.value.shape))
    fa = template.metrics.index("FA")
    true[..., fa] *= factor
    for (level, tissue), share in (drop or {}).items():
        lost = [n for n, region in enumerate(REGIONS) if str(region.tissue) == tissue]
        true[template.levels.index(level), lost, fa] *= 1 - share
    value = true + template.error * rng.normal(0, 1, true.shape)
    names, weight = _rows_of(template)
    flat = (len(weight[0]), len(template.metrics))
    means = weight @ value.reshape(flat)
    errors = np.sqrt(weight**2 @ template.error.reshape(flat) ** 2)
    volume = (weight > 0) @ template.volume.ravel()
    return names.assign(
        volume_mm3=volume.repeat(flat[1]),
        mean=means.ravel(),
        unmixed=means.ravel(),
        unmixed_uncertainty=errors.ravel(),
        unmixed_flag="n/a",
        flag="n/a",
    )


@lru_cache(maxsize=4)
def _rows_of(template: Template) -> tuple[pd.DataFrame, np.ndarray]:
    """Names of the rows, and (row, level x region) weights by volume that make their values."""
    n_levels = len(template.levels)
    scopes = [("level", name, np.eye(n_levels)[n]) for n, name in enumerate(template.levels)]
    names, weights = [], []
    for scope, level, chosen in [*scopes, ("cord", "n/a", np.ones(n_levels))]:
        for group in REGION_GROUPS:
            member = np.isin(np.arange(1, len(REGIONS) + 1), group.labels)
            volume = (chosen[:, None] * member * template.volume).ravel()
            weights.append(volume / volume.sum())
            names += [
                (scope, "n/a", level, group.region, str(group.side), metric)
                for metric in template.metrics
            ]
    columns = ["scope", "slice", "level", "region", "side", "metric"]
    return pd.DataFrame(names, columns=columns), np.array(weights)


def write_person(out_dir: Path, run: str, table: pd.DataFrame, **quality: object) -> None:
    """Write the tables of a run; the quality row has an SNR of about 8."""
    levels = [part for part in run.split("_") if part.startswith(("sub-", "ses-"))]
    folder = out_dir.joinpath(*levels, "dwi")
    folder.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, run))
    shape = pd.DataFrame({"slice": range(4), "level": LEVELS, "area_mm2": 80.0, "flag": "n/a"})
    snr = 8 + np.random.default_rng(seed).normal(0, 0.3)
    row = pd.DataFrame([{"snr_b0": snr, "flag": "n/a", "noise_flag": "n/a", **quality}])
    for name, content in (
        ("model-tensor_seg-SCSNet_scalarstats", table),
        ("desc-shape_scalarstats", shape),
        ("desc-image_qc", row),
    ):
        content.to_csv(folder / f"{run}_{name}.tsv", sep="\t", index=False, na_rep="n/a")


def write_cohort(
    out_dir: Path,
    n_controls: int,
    n_patients: int,
    drop: Drop,
    seed: int = 0,
    sessions: Sequence[str] = (),
) -> None:
    """Write controls and patients with their participants.tsv; ages 30 to 70, sexes alternating."""
    template, rng = flat_template(), np.random.default_rng(seed)
    people = []
    for n in range(n_controls + n_patients):
        name, is_patient = f"sub-{n + 1:03d}", n >= n_controls
        for session in sessions or [""]:
            run = f"{name}_ses-{session}" if session else name
            table = draw_person(template, rng, drop if is_patient else None)
            write_person(out_dir, run, table)
        group = "patient" if is_patient else "control"
        people.append((name, group, 30 + 7 * n % 40, "MF"[n // 3 % 2]))
    table = pd.DataFrame(people, columns=["participant_id", "group", "age", "sex"])
    table.to_csv(out_dir / "participants.tsv", sep="\t", index=False)
