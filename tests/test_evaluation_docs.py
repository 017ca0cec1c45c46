"""The figures of the README are those of the evaluation, and nothing else of it is touched."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from scsnet_bids.evaluation.tables import COLUMNS
from scsnet_bids.regions import REGIONS

SCRIPT = Path(__file__).parents[1] / "docs" / "write_evaluation.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_evaluation", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scores(script: ModuleType) -> pd.DataFrame:
    """Two healthy runs; what a score measures tells its value."""
    rows = []
    for run, offset in (("sub-01", 0.0), ("sub-02", 2.0)):
        for number, name in enumerate(script.PHANTOM_ROWS.values()):
            for region in REGIONS:
                value = 10 * number + region.label + offset
                place = (str(region.tissue), str(region.side))
                rows.append((run, "healthy phantoms", "region", name, *place, value))
        for name in ("cord Dice", "lowest slice", "slices lost %", "dwi error mm", "b0 error mm"):
            rows.append((run, "healthy phantoms", "cord", name, "cord", "both", 0.5 + offset))
    rows.append(("sub-03", "network alone", "network", "gray Dice", "cord", "both", 0.77))
    rows.append(("sub-03", "network alone", "network", "islands mm2", "cord", "both", 0.0))
    return pd.DataFrame(rows, columns=COLUMNS)


def test_every_figure_of_the_summary_is_a_mean_of_the_scores(script):
    of_dwi = scores(script)
    of_dwi["value"] += 0.5
    summary = script.summarise(scores(script), of_dwi)
    assert "Healthy phantoms, n = 2" in summary
    assert "Compressed" not in summary
    lines = [x for x in summary.splitlines() if x.startswith("| error of region-mean FA")]
    alone, both = ([cell.strip() for cell in x.strip("|").split("|")] for x in lines)
    assert alone[1:] == ["2.0 / 3.0 %", "4.0 / 5.0 %", "6.0 / 7.0 %", "8.0 / 9.0 %"]
    assert both[0].endswith("from b0+dwi")
    assert both[1:] == ["2.5 / 3.5 %", "4.5 / 5.5 %", "6.5 / 7.5 %", "8.5 / 9.5 %"]
    assert "Dice 1.500 ± 1.414" in summary
    assert "(from b0+dwi 2.000 ± 1.414" in summary
    assert "| sub-03 | 0.770     |" in summary


def test_only_what_lies_between_the_marks_is_replaced(script):
    readme = f"before\n{script.BEGIN}\nold\n{script.END}\nafter\n"
    replaced = script.replace_block(readme, "new")
    assert replaced == f"before\n{script.BEGIN}\n\nnew\n\n{script.END}\nafter\n"
    assert script.replace_block(replaced, "new") == replaced
    with pytest.raises(SystemExit, match="needs the marks"):
        script.replace_block("no marks", "new")


def test_the_readme_has_the_marks(script):
    readme = (SCRIPT.parents[1] / "README.md").read_text(encoding="utf-8")
    assert readme.index(script.BEGIN) < readme.index(script.END)
