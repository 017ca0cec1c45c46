"""How well the group level finds a known drop of FA, and how rarely it finds one that is not there.

    python tests/benchmarks/cohort.py [--draws 400] [--templates OUT]

Cohorts of 20 controls and 20 patients, and of 50 and 5; the patients' FA is 15 % lower in the
lateral columns of one level. The cohorts are simulated from tables, not from images. Mean values,
volumes and standard errors of the regions at each level come from the region tables of a few
phantoms that went through the whole app (or of the folder OUT, with levels). Every person has the
template's values times a factor of their own (4 %), a factor of each region and level (4 %), and an
error of measurement as large as the app states. So this measures the statistics, not the images.

Counted per drawn cohort: whether the cell with the smallest probability is that region at that
level; whether both sides are found after correction; how often the 95 % interval of the lateral
column's difference covers the truth; and, without any drop, how often anything at all is found
after correction (at most 5 % of cohorts), and how many probabilities fall below 0.05.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cohorts import Template, draw_person

from scsnet_bids import phantom
from scsnet_bids.cli import main as run_app
from scsnet_bids.group.collect import collect_group
from scsnet_bids.group.differences import compare_groups
from scsnet_bids.group.norms import score_people
from scsnet_bids.group.people import Controls, Covariates
from scsnet_bids.group.values import CELL, tabulate_values
from scsnet_bids.regions import REGIONS, Side, Tissue

SIZES = ((20, 20), (50, 5))
DROP, SLICES, PHANTOMS = 0.15, 12, 3
METRICS = ("FA", "MD")
SIGNIFICANT = 0.05
LATERAL = str(Tissue.LATERAL_COLUMN)


class Outcome(NamedTuple):
    """What was found in a cohort: each a number from 0 to 1."""

    first_is_right: float
    both_sides_found: float
    interval_covers: float
    g_interval_holds_0: float
    anything_found: float
    p_below: float
    patients_z: float
    controls_beyond_2: float


def make_templates(folder: Path) -> Path:
    """Process a few small healthy phantoms, their true levels given as a table."""
    data, out = folder / "data", folder / "out"
    words = ["--participants", str(PHANTOMS), "--tiny", "--slices", str(SLICES), "--seed", "7"]
    assert phantom.main([str(data), *words]) == 0
    rows = [("participant_id", "slice", "level")]
    settings = phantom.PhantomSettings(directions=12, b0_volumes=2, slices=SLICES, matrix=(48, 40))
    for n in range(1, PHANTOMS + 1):
        level = np.floor(phantom.simulate(settings, (7, n)).level + 0.5).astype(int)
        rows += [(f"sub-{n:02d}", k, number) for k, number in enumerate(level)]
    table = folder / "levels.tsv"
    table.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    words = [str(data), str(out), "participant", "-w", str(folder / "work")]
    assert run_app([*words, "--levels", str(table)]) == 0
    return out


def read_template(out_dir: Path) -> Template:
    """Average the region tables of an output folder, over the levels that everybody has."""
    rows = collect_group(out_dir).scalarstats
    rows = rows[(rows["scope"] == "level") & (rows["side"] != str(Side.BOTH))]
    n_runs = rows["run"].nunique()
    known = rows.dropna(subset="unmixed").groupby("level")["run"].nunique()
    levels = tuple(sorted(known.index[known == n_runs], reverse=True))
    places = pd.MultiIndex.from_product(
        [levels, [r.name for r in REGIONS], METRICS], names=["level", "name", "metric"]
    )
    rows = rows.assign(name=rows["side"] + "_" + rows["region"])
    means = rows.groupby(["level", "name", "metric"])[
        ["unmixed", "unmixed_uncertainty", "volume_mm3"]
    ].mean()
    cells = means.reindex(places).to_numpy(float).reshape(len(levels), len(REGIONS), 2, 3)
    return Template(cells[..., 0], cells[..., 1], cells[:, :, 0, 2], levels, METRICS)


def draw_cohort(
    template: Template,
    groups: tuple[list[str], list[str]],
    drop: dict[tuple[str, str], float],
    seed: int,
) -> pd.DataFrame:
    """Draw the values of controls and patients."""
    rng = np.random.default_rng(seed)
    tables = []
    for people, lost in zip(groups, ({}, drop), strict=True):
        for name in people:
            table = draw_person(template, rng, lost)
            tables.append(table.assign(participant_id=name, session="", run=name))
    return tabulate_values(pd.concat(tables).replace("n/a", None))


def judge(
    template: Template, level: str, sizes: tuple[int, int], drop: float, seed: int
) -> Outcome:
    """Draw a cohort and see what the group level finds in it."""
    names, patients = (
        [f"sub-{kind}{n:02d}" for n in range(size)] for kind, size in zip("cp", sizes, strict=True)
    )
    values = draw_cohort(template, (names, patients), {(level, LATERAL): drop}, seed)
    controls = Controls("group==control", frozenset(names), {"patient": frozenset(patients)})
    nobody = Covariates((), pd.DataFrame(index=[*names, *patients]))
    rows = compare_groups(values, controls, nobody)
    of_levels = rows[rows["scope"] == "level"]
    here = of_levels[(of_levels["level"] == level) & (of_levels["region"] == LATERAL)]
    here = here[(here["metric"] == "FA") & (here["side"] != str(Side.BOTH))]
    first = of_levels.loc[of_levels["p"].idxmin()]
    place = template.levels.index(level)
    lateral = [n for n, r in enumerate(REGIONS) if str(r.tissue) == LATERAL]
    true = {
        str(REGIONS[n].side): -drop * template.value[place, n, METRICS.index("FA")] for n in lateral
    }
    truth = here["side"].map(true)
    covers = (here["difference_low"] <= truth) & (truth <= here["difference_high"])
    cell = dict(zip(CELL, ("level", level, LATERAL, "left", "FA"), strict=True))
    chosen = values[(values[list(cell)] == pd.Series(cell)).all(axis=1)]
    own = score_people(chosen, controls, nobody)
    is_patient = own["participant_id"].isin(patients)
    return Outcome(
        float((first["level"], first["region"], first["metric"]) == (level, LATERAL, "FA")),
        float((here["q"] < SIGNIFICANT).all()),
        float(covers.mean()),
        float(((here["hedges_g_low"] <= 0) & (here["hedges_g_high"] >= 0)).mean()),
        float((rows["q"] < SIGNIFICANT).any()),
        float((rows["p"] < SIGNIFICANT).mean()),
        float(own["z"][is_patient].mean()),
        float((own["z"][~is_patient].abs() > 1.96).mean()),
    )


def main() -> None:
    """Print both experiments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--templates", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        template = read_template(arguments.templates or make_templates(Path(folder)))
    level = "C5" if "C5" in template.levels else template.levels[0]
    print(f"levels {', '.join(template.levels)}; drop at {level}; {arguments.draws} cohorts each")
    relative = np.median(template.error / template.value, axis=(0, 1))
    print(f"stated relative error, median of the cells: FA {relative[0]:.3f}, MD {relative[1]:.3f}")
    for sizes, (name, drop) in product(SIZES, (("drop of 15 %", DROP), ("no drop", 0.0))):
        found = [judge(template, level, sizes, drop, seed) for seed in range(arguments.draws)]
        print(f"\n{sizes[0]} controls, {sizes[1]} patients, {name}")
        for field, mean, error in zip(
            Outcome._fields,
            np.mean(found, axis=0),
            np.std(found, axis=0) / np.sqrt(len(found)),
            strict=True,
        ):
            print(f"  {field:20s} {mean:7.3f} +- {error:.3f}")


if __name__ == "__main__":
    main()
