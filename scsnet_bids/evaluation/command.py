"""Measure how good the results are: ``scsnet-bids-evaluate``.

    scsnet-bids-evaluate DATA OUT
    scsnet-bids-evaluate DATA OUT --reference DIR
    scsnet-bids-evaluate DATA --masks DIR [--rescan]
    scsnet-bids-evaluate PAM50 [OUT] --inputs

The first compares an output folder with the truth of a phantom dataset, which lies in
``DATA/derivatives/phantom``. The second compares it with manual cord masks and manual regions. The
third runs the network alone on every image that has a manual mask. The fourth trains the network
briefly on B0, FA, mean DWI and combinations of them, and says what each is worth.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd

from scsnet_bids import __version__
from scsnet_bids.console import prepare_console
from scsnet_bids.derivatives import read_table, write_table
from scsnet_bids.errors import EmptySelectionError, ScsnetError, UsageError
from scsnet_bids.evaluation.scores import Score, score_cord, score_regions, tell_regions
from scsnet_bids.evaluation.tables import COLUMNS, describe_scores
from scsnet_bids.evaluation.truth import (
    FA_ENDING,
    LABEL_ENDING,
    SHARE_ENDING,
    find_truth,
    read_mask,
    read_on,
    score_run,
)
from scsnet_bids.images import read_image
from scsnet_bids.manual_masks import (
    CORD,
    EIGHT,
    ManualMask,
    find_masks,
    match_file,
    read_labels,
)

MASK_ENDING = "_label-SC_mask.nii.gz"
MANUAL, NETWORK = "against manual masks", "network alone"

Task = tuple[str, str, Callable[[], Iterator[Score]]]
"""Run, condition, and what scores it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : words after the program's name; those of the process by default

    Returns
    -------
    int, exit code: 1 if a run could not be compared
    """
    prepare_console()
    options = _parse(arguments)
    try:
        if options.inputs:
            print(_compare_inputs(options))
            return 0
        table, faults = carry_out(_plan(options))
        print(describe_scores(table))
        if options.tsv is not None:
            write_table(options.tsv, table)
    except ScsnetError as error:
        print(f"scsnet-bids-evaluate: {error}", file=sys.stderr)
        return error.exit_code
    for fault in faults:
        print(f"not compared: {fault}", file=sys.stderr)
    return 1 if faults else 0


def carry_out(tasks: Sequence[Task]) -> tuple[pd.DataFrame, list[str]]:
    """Score every run that can be scored.

    Parameters
    ----------
    tasks : what to score

    Returns
    -------
    DataFrame with the columns run, condition, group, score, region, side, value; and one sentence
    for every run that could not be compared
    """
    rows, faults = [], []
    for run, condition, score in tasks:
        try:
            rows += [(run, condition, s.group, s.score, s.region, s.side, s.value) for s in score()]
        except KeyError as error:
            faults.append(f"{run}: a table lacks the column {error}.")
        except (ScsnetError, OSError) as error:
            faults.append(f"{run}: {error}")
    return pd.DataFrame(rows, columns=COLUMNS), faults


def compare_outputs(data: Path, out: Path, reference: Path | None = None) -> list[Task]:
    """List what can be compared with an output folder.

    Parameters
    ----------
    data : dataset with ``derivatives/phantom``
    out : our output folder
    reference : derivatives folder with manual masks; None leaves that comparison out

    Returns
    -------
    list of Task

    Raises
    ------
    EmptySelectionError
        If there is neither a truth nor a manual mask.
    """
    truth = data / "derivatives" / "phantom"
    conditions = _read_conditions(data)
    tasks: list[Task] = [
        (f.prefix, conditions.get(f.prefix.split("_")[0], "phantoms"), partial(score_run, f))
        for f in find_truth(truth, out)
    ]
    if reference is not None:
        tasks += [
            (mask.prefix, MANUAL, partial(score_against_manual, mask, reference, out))
            for mask in find_masks(reference)
            if mask.shows in (CORD, EIGHT)
        ]
    if not tasks:
        raise EmptySelectionError(
            f"A comparison needs truth: {truth} has no *{SHARE_ENDING}. Make a dataset with "
            "scsnet-bids-phantom, or give a folder of manual masks with --reference."
        )
    return tasks


def compare_network(
    data: Path, masks: Path, participants: Sequence[str], weights: Path | None, *, rescan: bool
) -> list[Task]:
    """List the images on which the network alone can be compared with manual masks.

    Parameters
    ----------
    data : dataset with the images
    masks : derivatives folder with manual masks of cord and gray matter
    participants : labels; empty takes all
    weights : of another network than the one that ships
    rescan : whether to compare the areas in several runs of one image, too

    Returns
    -------
    list of Task
    """
    from scsnet_bids.evaluation.network_scores import compare_runs, score_masks
    from scsnet_bids.network.weights import SHIPPED, load_network

    network = load_network("auto", weights or SHIPPED)
    found = [mask for mask in find_masks(masks, participants) if mask.shows != EIGHT]
    tasks: list[Task] = []
    for _, of_image in groupby(found, lambda mask: (mask.folder, mask.entities, mask.suffix)):
        group = list(of_image)
        run = group[0].prefix
        tasks.append((run, NETWORK, partial(score_masks, group, data, network)))
        if rescan:
            tasks.append((run, NETWORK, partial(compare_runs, group[0], data, network)))
    return tasks


def score_against_manual(mask: ManualMask, reference: Path, out: Path) -> Iterator[Score]:
    """Score an output against a manual mask, in the slices that were drawn.

    Parameters
    ----------
    mask : of the cord or the eight regions
    reference : folder of the masks
    out : our output folder

    Yields
    ------
    Score
    """
    labels = match_file(mask, [out], [LABEL_ENDING.removeprefix("_").removesuffix(".nii.gz")])
    image = read_image(labels)
    ours, spacing_mm = np.asarray(image.data, dtype=int), image.grid.spacing_mm
    drawn = read_mask(mask.path, image.grid)
    if mask.shows == CORD:
        yield from score_cord("reference", ours > 0, drawn, spacing_mm)
        return
    truth, slices = read_labels(mask, reference), drawn.any(axis=(0, 1))
    fa = read_on(labels.with_name(labels.name.replace(LABEL_ENDING, FA_ENDING)), image.grid)
    found = score_regions(fa[..., slices], ours[..., slices], truth[..., slices], spacing_mm)
    yield from tell_regions(found)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scsnet-bids-evaluate",
        description="Measure how good the results are: outputs against the truth of a phantom "
        "dataset or against manual masks, or the network alone against manual masks.",
    )
    parser.add_argument("--version", action="version", version=f"{parser.prog} {__version__}")
    parser.add_argument("data", type=Path, help="BIDS dataset (with --inputs: PAM50 folder)")
    parser.add_argument("out", type=Path, nargs="?", help="output folder of scsnet-bids for it")
    parser.add_argument("--tsv", type=Path, metavar="FILE", help="also write all scores here")
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="DIR",
        help="compare OUT with manual masks in DTI space: *_label-SC_mask.nii.gz (cord) and "
        "*_dseg.nii.gz (eight regions, labels 1 to 8 as in our *_seg-SCSNet_dseg.tsv)",
    )
    parser.add_argument(
        "--masks",
        type=Path,
        metavar="DIR",
        help="instead of OUT: run the network alone on the images of DATA that have manual masks "
        "of the cord (*_seg-manual.nii.gz or *_label-SC_mask.nii.gz) and perhaps of the gray "
        "matter (*_gmseg-manual.nii.gz or *_label-GM_mask.nii.gz)",
    )
    parser.add_argument(
        "--rescan", action="store_true", help="with --masks: areas in other runs of an image, too"
    )
    parser.add_argument(
        "--participant-label",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="with --masks: these participants only",
    )
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="with --masks: other weights (.pt)"
    )
    parser.add_argument(
        "--inputs",
        action="store_true",
        help="train the network briefly on B0, FA, mean DWI and combinations, on synthetic slices "
        "from the PAM50 folder DATA, and compare them; with OUT also on its real series. Rows "
        "that --tsv holds already are not computed again",
    )
    parser.add_argument(
        "--iterations", type=int, default=1200, metavar="N", help="with --inputs: steps (1200)"
    )
    return parser.parse_args(arguments)


def _plan(options: argparse.Namespace) -> list[Task]:
    """List what the command line asks to be scored."""
    if (options.out is None) == (options.masks is None):
        raise UsageError(
            "Give either an output folder to judge (DATA OUT) or manual masks to try the network "
            "alone on (DATA --masks DIR)."
        )
    if options.masks is not None and options.reference is not None:
        raise UsageError("--reference judges an output folder: leave it out with --masks.")
    if options.masks is None and (options.rescan or options.participant_label or options.weights):
        raise UsageError(
            "--rescan, --participant-label and --weights are of the network alone: give them with "
            "--masks, or leave them out."
        )
    if options.out is not None:
        return compare_outputs(options.data, options.out, options.reference)
    return compare_network(
        options.data,
        options.masks,
        options.participant_label,
        options.weights,
        rescan=options.rescan,
    )


def _compare_inputs(options: argparse.Namespace) -> str:
    """Compare what the network can see."""
    from scsnet_bids.evaluation.inputs import describe_inputs
    from scsnet_bids.training.inputs import compare_inputs

    others = ("masks", "reference", "rescan", "weights", "participant_label")
    if any(getattr(options, name) for name in others):
        raise UsageError("--inputs goes with DATA, OUT, --tsv and --iterations alone.")
    if options.iterations < 1:
        raise UsageError(f"--iterations must be 1 or more: found {options.iterations}.")
    with tempfile.TemporaryDirectory() as folder:
        path = options.tsv or Path(folder) / "inputs.tsv"
        return describe_inputs(compare_inputs(options.data, path, options.iterations, options.out))


def _read_conditions(data: Path) -> dict[str, str]:
    """Tell which participants of a phantom dataset are compressed, if it says so."""
    path = data / "participants.tsv"
    people = read_table(path) if path.exists() else pd.DataFrame()
    if "compression" not in people:
        return {}
    words = np.where(people["compression"] > 0, "compressed phantoms", "healthy phantoms")
    return dict(zip(people["participant_id"], words, strict=True))
