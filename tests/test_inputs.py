"""Comparing what the network can see."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from scsnet_bids.evaluation.command import main
from scsnet_bids.evaluation.inputs import describe_inputs
from scsnet_bids.network.weights import load_network
from scsnet_bids.training import inputs, trials
from scsnet_bids.training.explained_fa import explain_series
from scsnet_bids.training.inputs import INPUTS, compare_inputs


@pytest.fixture
def few_slices(toy_atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    """Score on one batch, of an atlas that ships with the tests."""
    monkeypatch.setattr(inputs, "read_atlas", lambda _: toy_atlas)
    monkeypatch.setattr(inputs, "TEST_BATCHES", 1)
    monkeypatch.setattr(trials, "STATISTICS_BATCHES", 1)


@pytest.mark.usefixtures("few_slices")
def test_every_input_is_scored_in_every_region_and_only_once(tmp_path: Path):
    path = tmp_path / "inputs.tsv"
    table = compare_inputs(Path("toy"), path, 1)
    assert table.groupby("input", sort=False).size().to_dict() == dict.fromkeys(INPUTS, 8)
    assert table["fa_error_percent"].gt(0).all()
    assert table["recall"].between(0, 1).all()
    written = path.read_bytes()
    pd.testing.assert_frame_equal(compare_inputs(Path("toy"), path, 1), table)
    assert path.read_bytes() == written
    assert len(compare_inputs(Path("toy"), path, 2)) == len(table)


@pytest.mark.usefixtures("few_slices")
def test_the_command_prints_a_row_per_input_and_the_shipped_networks(
    phantom_run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["toy", str(phantom_run["out"]), "--inputs", "--iterations", "1"]
    assert main([*words, "--tsv", str(tmp_path / "inputs.tsv")]) == 0
    printed = capsys.readouterr().out
    for name in INPUTS:
        assert printed.count(f"| {name} ") >= 2
    real = printed.split("FA within real cords")[1]
    assert "b0+dwi, shipped" in real
    assert "FA " not in real.replace("white minus gray FA", "").replace("FA explained", "")


def test_the_regions_of_the_shipped_network_explain_fa_in_a_phantom(phantom_run):
    rows = pd.DataFrame(explain_series(load_network("cpu"), ["b0"], phantom_run["out"]))
    assert rows["half"].tolist() == [0, 1]
    assert (rows["explained_percent"] > 5).all()
    assert (rows["white_minus_gray"] > 0.05).all()
    assert rows["gray_percent"].between(10, 35).all()


def test_a_table_is_written_with_errors_of_both_sides():
    rows = [
        {"input": "B0", "region": region, "side": side, "precision": 0.5, "recall": 0.25}
        | {"dice": 1 / 3, "fa_error_percent": error}
        for region, errors in (("gray_matter", (1.0, 2.0)), ("dorsal_column", (3.0, 4.0)))
        for side, error in zip(("left", "right"), errors, strict=True)
    ]
    text = describe_inputs(pd.DataFrame(rows))
    assert "| B0    | 1.0 / 2.0          | 3.0 / 4.0            | 2.5  |" in text
    assert "0.50 / 0.25 / 0.33" in text
    assert "real" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--masks", "m"], "goes with"),
        (["--participant-label", "01"], "goes with"),
        (["--iterations", "0"], "1 or more: found 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(words, said, capsys):
    assert main(["toy", "--inputs", *words]) == 2
    assert said in capsys.readouterr().err
