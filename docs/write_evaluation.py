"""Measure everything that the documents state, and write it into them: ``make evaluate``.

    python docs/write_evaluation.py FOLDER [--gray DATA LABEL ...] [--epi DATA MASKS]
        [--cord DATA OUT OUT_DWI MASKS]

FOLDER holds ``data``, a phantom dataset, and what the app made of it: ``out`` from B0 alone, and
``out-dwi`` from B0 and mean DWI, as OUT and OUT_DWI hold it for real scans. All that
``scsnet-bids-evaluate`` prints goes to ``docs/evaluation.md``, and a summary into the README
between two marks. No number is typed by hand.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from pathlib import Path

import pandas as pd

from scsnet_bids.derivatives import read_table
from scsnet_bids.evaluation.command import main as evaluate
from scsnet_bids.evaluation.tables import markdown_table, with_spread, write_number
from scsnet_bids.network.weights import read_record, shipped_weights
from scsnet_bids.regions import Side, Tissue
from scsnet_bids.settings import B0_AND_DWI

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- Figures from here on are written by `make evaluate`. -->"
END = "<!-- End of these figures. -->"
FROM_DWI = "segmented from B0 and mean DWI (`--segment-from b0+dwi`)"
DEVELOPMENT = (
    "Whole app against outlines of the mean DWI of real scans. These are development data, and the "
    "app fits its outline to the series that these outlines were taken from, so only the network "
    "alone is evidence of segmentation"
)
PHANTOM_ROWS = {
    "error of region-mean FA, mean of slices": "FA error of slices %",
    "the same, whole cord": "FA error pooled %",
    "Dice of the region": "Dice",
    "bias of FA, plain mean": "FA plain bias %",
    "bias of FA, unmixed": "FA unmixed bias %",
    "bias of MD, unmixed": "MD unmixed bias %",
    "slices whose 90 % interval holds the truth, FA": "FA in 90 %",
    "the same, plain mean FA on the same map": "FA mean in 90 %",
    "slices without an unmixed value": "FA n/a %",
}
DWI_ROWS = {
    "error of region-mean FA, from b0+dwi": "FA error of slices %",
    "Dice of the region, from b0+dwi": "Dice",
}
"""What is told of segmentation from B0 and mean DWI beside it."""
SIDES = (Side.LEFT, Side.RIGHT)
HEADER = """# Evaluation

Written by `make evaluate`; see `scsnet-bids-evaluate --help`. Weights {version}, SHA-256 {sha256};
for B0 and mean DWI together {dwi[version]}, SHA-256 {dwi[sha256]}.
Values after ± are standard deviations over runs.
"""


def main() -> None:
    """Run the comparisons and write both documents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gray", nargs="+", metavar=("DATA", "LABEL"), default=[])
    parser.add_argument("--epi", nargs=2, metavar=("DATA", "MASKS"), default=[])
    parser.add_argument("--cord", nargs=4, metavar=("DATA", "OUT", "OUT_DWI", "MASKS"), default=[])
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "evaluation.md")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    options = parser.parse_args()
    sections, tables, of_dwi = [], [], []
    for title, words in _commands(options):
        text, table = _run(words, options.folder / "scores.tsv")
        shown = " ".join(Path(w).name if "/" in w else w for w in words)
        sections.append(f"## {title}\n\n    scsnet-bids-evaluate {shown}\n\n{text}")
        (of_dwi if FROM_DWI in title else tables).append(table)
    header = HEADER.format(**read_record(), dwi=read_record(shipped_weights(B0_AND_DWI)))
    options.docs.write_text("\n".join([header, *sections]), encoding="utf-8")
    readme = options.readme.read_text(encoding="utf-8")
    summary = summarise(*(pd.concat(x, ignore_index=True) for x in (tables, of_dwi)))
    options.readme.write_text(replace_block(readme, summary), encoding="utf-8")


def summarise(scores: pd.DataFrame, of_dwi: pd.DataFrame) -> str:
    """Write the README's figures from all scores; from B0 alone, and from B0 and mean DWI."""
    parts = []
    for condition in ("healthy phantoms", "compressed phantoms"):
        chosen = scores[scores["condition"] == condition]
        if len(chosen):
            beside = of_dwi[of_dwi["condition"] == condition]
            parts.append(_summarise_phantoms(condition, chosen, beside))
    for group, title in (
        ("network", "Network alone against manual masks of real scans"),
        ("reference", DEVELOPMENT),
    ):
        chosen = scores[scores["group"] == group]
        if len(chosen):
            wide = chosen.pivot_table(index="run", columns="score", values="value", sort=False)
            cells = {name: [write_number(str(name), x) for x in wide[name]] for name in wide}
            table = pd.DataFrame(cells, wide.index).drop(columns=["islands mm2"])
            parts.append(f"{title}:\n\n{markdown_table(table)}")
    parts.append("Every score with its spread: [evaluation](docs/evaluation.md).")
    return "\n\n".join(parts)


def replace_block(readme: str, figures: str) -> str:
    """Put figures between the two marks of a document."""
    before, found, rest = readme.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not (found and closed):
        raise SystemExit(f"The README needs the marks {BEGIN!r} and {END!r}.")
    return f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}"


def _commands(options: argparse.Namespace) -> list[tuple[str, list[str]]]:
    """List titles and command lines."""
    data, out = str(options.folder / "data"), str(options.folder / "out")
    commands = [
        ("Phantoms that nothing was tuned on", [data, out]),
        (f"The same phantoms, {FROM_DWI}", [data, f"{out}-dwi"]),
    ]
    if options.gray:
        images, *labels = options.gray
        masks = f"{images}/derivatives/labels"
        words = [images, "--masks", masks, "--rescan", "--participant-label", *labels]
        commands.append(("Real T2*-weighted scans whose people no training has seen", words))
    if options.epi:
        images, masks = options.epi
        title = "A real gradient-echo EPI, the mean of a functional series"
        commands.append((title, [images, "--masks", masks]))
    if options.cord:
        images, out, out_dwi, masks = options.cord
        commands += [
            ("Two real series (development data), network alone", [out, "--masks", masks]),
            ("Two real series (development data), whole app", [images, out, "--reference", masks]),
            (f"The same series, {FROM_DWI}", [images, out_dwi, "--reference", masks]),
        ]
    return commands


def _run(words: list[str], tsv: Path) -> tuple[str, pd.DataFrame]:
    """Run a comparison; what it printed, and its table."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = evaluate([*words, "--tsv", str(tsv)])
    if code:
        raise SystemExit(f"scsnet-bids-evaluate {' '.join(words)} ended with {code}")
    return printed.getvalue(), read_table(tsv)


def _summarise_phantoms(condition: str, scores: pd.DataFrame, of_dwi: pd.DataFrame) -> str:
    """Write a table of the regions, left / right, and a sentence about cord and motion."""
    rows = _rows_of_regions(PHANTOM_ROWS, scores) | _rows_of_regions(DWI_ROWS, of_dwi)
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("left / right")
    cord, cord_dwi = (
        {n: with_spread(str(n), v) for n, v in x.groupby("score")["value"]}
        for x in (scores, of_dwi)
    )
    return (
        f"{condition.capitalize()}, n = {scores['run'].nunique()}:\n\n{markdown_table(table)}\n\n"
        f"Cord: Dice {cord['cord Dice']}, lowest slice {cord['lowest slice']} (from b0+dwi "
        f"{cord_dwi['cord Dice']} and {cord_dwi['lowest slice']}), slices lost "
        f"{cord['slices lost %']} %. Motion: error {cord['dwi error mm']} mm RMS in "
        f"diffusion-weighted and {cord['b0 error mm']} mm in b=0 volumes."
    )


def _rows_of_regions(named: dict[str, str], scores: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Write scores of the tissues, left / right, by the titles of their rows."""
    rows = {}
    for title, name in named.items():
        of_score = scores[scores["score"] == name].groupby(["region", "side"])["value"].mean()
        if of_score.empty:
            continue
        unit, decimals = (" %", 1) if "%" in name else ("", 2)
        sided = {
            tissue: [f"{of_score[str(tissue), str(side)]:.{decimals}f}" for side in SIDES]
            for tissue in Tissue
        }
        rows[title] = {t.replace("_", " "): " / ".join(pair) + unit for t, pair in sided.items()}
    return rows


if __name__ == "__main__":
    main()
