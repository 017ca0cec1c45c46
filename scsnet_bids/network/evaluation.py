"""Compare an output folder with the truth of a phantom dataset, or with cord masks of reference.

    scsnet-bids-evaluate DATA OUT
    scsnet-bids-evaluate DATA OUT --reference DATA/derivatives/masks

The truth lies in ``DATA/derivatives/phantom`` under the names of our own outputs. Its regions are
moved by what our motion correction has moved the weighted volumes on average, slice by slice: the
maps lie there, and where a reference lies is no error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from scsnet_bids.confounds import shifts_from_table
from scsnet_bids.derivatives import read_table, write_table
from scsnet_bids.errors import EmptySelectionError, ImageError, InputDataError, ScsnetError
from scsnet_bids.gradients import b0_volumes
from scsnet_bids.images import Grid, read_image
from scsnet_bids.network import scores
from scsnet_bids.settings import GradientSettings

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]

TRUTH_ENDING = "_seg-SCSNet_probseg.nii.gz"
MASK_ENDING = "_label-SC_mask.nii.gz"
MOTION_ENDING = "_from-orig_to-dwiref_mode-image_desc-slicewise_xfm.tsv"
B0_TO_DWI_ENDING = "_from-dwiref_to-dwi_mode-image_desc-slicewise_xfm.tsv"
TISSUE_ENDING = "_desc-tissue_scalarstats.tsv"
REGION_TABLE_ENDING = "_model-tensor_seg-SCSNet_scalarstats.tsv"
COLUMNS = ["run", "group", "score", "region", "side", "value"]


class Score(NamedTuple):
    """One figure: what was scored, and where it is about one region, which."""

    group: str
    score: str
    value: float
    region: str = "cord"
    side: str = "both"


class RunFiles(NamedTuple):
    """Where the truth and the result of a run lie, less the ending of the names."""

    prefix: str
    truth: Path
    result: Path

    def true(self, ending: str) -> Path:
        """Name a file of the truth."""
        return self.truth / (self.prefix + ending)

    def ours(self, ending: str) -> Path:
        """Name a file of the result."""
        return self.result / (self.prefix + ending)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : words after the program's name; those of the process by default

    Returns
    -------
    int, exit code: 1 if a run could not be compared
    """
    options = _parse(arguments)
    try:
        table, faults = evaluate(options.data, options.out, options.reference)
        if options.tsv is not None:
            write_table(options.tsv, table)
    except ScsnetError as error:
        print(f"scsnet-bids-evaluate: {error}", file=sys.stderr)
        return error.exit_code
    print(describe_scores(table))
    for fault in faults:
        print(f"not compared: {fault}", file=sys.stderr)
    return 1 if faults else 0


def evaluate(data: Path, out: Path, reference: Path | None) -> tuple[pd.DataFrame, list[str]]:
    """Compare every run that has a truth, or a reference mask, with our output.

    Parameters
    ----------
    data : dataset with ``derivatives/phantom``
    out : our output folder
    reference : derivatives folder with cord masks; None leaves that comparison out

    Returns
    -------
    DataFrame with the columns run, group, score, region, side, value; and one sentence for every
    run that could not be compared

    Raises
    ------
    EmptySelectionError
        If there is neither a truth nor a reference mask.
    """
    tasks: list[tuple[RunFiles, Callable[[RunFiles], Iterator[Score]]]] = [
        (files, score_run) for files in _find(data / "derivatives" / "phantom", out, TRUTH_ENDING)
    ]
    if reference is not None:
        tasks += [(files, score_cord) for files in _find(reference, out, MASK_ENDING)]
    if not tasks:
        raise EmptySelectionError(
            f"A comparison needs truth: {data}/derivatives/phantom has no *{TRUTH_ENDING}"
            + (f", and {reference} no *{MASK_ENDING}" if reference else "")
            + ". Make a dataset with scsnet-bids-phantom, or give a folder of masks."
        )
    rows, faults = [], []
    for files, score in tasks:
        try:
            rows += [
                (files.prefix, s.group, s.score, s.region, s.side, s.value) for s in score(files)
            ]
        except (ScsnetError, OSError, KeyError) as error:
            faults.append(f"{files.prefix}: {error}")
    return pd.DataFrame(rows, columns=COLUMNS), faults


def score_run(files: RunFiles) -> Iterator[Score]:
    """Score motion, cord, regions and region values of a run of a phantom.

    Parameters
    ----------
    files : of the run

    Yields
    ------
    Score
    """
    motion = _score_motion(files)
    yield from _tell_motion(files, motion)
    truth = read_image(files.true(TRUTH_ENDING))
    offset_mm = motion["dwi"].offset_mm
    share = scores.shift_slices(np.asarray(truth.data, float), offset_mm, truth.grid.spacing_mm)
    true_label = scores.label_truth(share)
    label = _read_on(files.ours("_seg-SCSNet_dseg.nii.gz"), truth.grid).astype(int)
    yield from _tell_cord(label > 0, true_label > 0, truth.grid)
    fa = _read_on(files.ours("_model-tensor_param-fa_dwimap.nii.gz"), truth.grid)
    for found in scores.score_regions(fa, label, true_label):
        place = {"region": str(found.region.tissue), "side": str(found.region.side)}
        yield Score("region", "dice", found.dice, **place)
        yield Score("region", "FA error of slices %", 100 * found.error_of_slices, **place)
        yield Score("region", "FA error pooled %", 100 * found.error_pooled, **place)
        yield Score("region", "slices missed %", 100 * found.slices_missed, **place)
    tissue = read_table(files.true(TISSUE_ENDING))
    yield from _tell_bias(read_table(files.ours(REGION_TABLE_ENDING)), tissue)


def score_cord(files: RunFiles) -> Iterator[Score]:
    """Score the cord of a run against a mask of reference.

    Parameters
    ----------
    files : of the run

    Yields
    ------
    Score
    """
    reference = read_image(files.true(MASK_ENDING))
    truth = np.asarray(reference.data, float) > 0.5
    cord = _read_on(files.ours(MASK_ENDING), reference.grid) > 0.5
    for score in _tell_cord(cord, truth, reference.grid):
        yield score._replace(group="reference")


def describe_scores(table: pd.DataFrame) -> str:
    """Write the scores as text: per region the means over runs, all else per run.

    Parameters
    ----------
    table : as :func:`evaluate` returns it

    Returns
    -------
    text of several lines
    """
    parts = []
    for group, rows in table.groupby("group", sort=False):
        of_regions = rows["region"].nunique() > 1
        index = ["region", "side"] if of_regions else ["run"]
        wide = rows.pivot_table(index=index, columns="score", values="value", sort=False)
        # Biases of either sign must not cancel.
        mean = wide.abs().mean().to_frame().T
        mean.index = pd.Index([("mean size", "")] if of_regions else ["mean size"])
        title = f"{group}, mean of {rows['run'].nunique()} runs" if of_regions else str(group)
        parts.append(f"{title}\n{pd.concat([wide, mean]).round(3).to_string()}\n")
    return "\n".join(parts)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scsnet-bids-evaluate",
        description="Compare an output folder of scsnet-bids with the truth of a phantom dataset.",
    )
    parser.add_argument("data", type=Path, help="dataset made by scsnet-bids-phantom")
    parser.add_argument("out", type=Path, help="output folder of scsnet-bids for that dataset")
    parser.add_argument("--tsv", type=Path, metavar="FILE", help="also write all scores here")
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="DIR",
        help=f"BIDS derivatives with *{MASK_ENDING} to compare the cord with",
    )
    return parser.parse_args(arguments)


def _find(truth: Path, out: Path, ending: str) -> list[RunFiles]:
    """List the runs that have a file with this ending in a derivatives folder."""
    return [
        RunFiles(path.name.removesuffix(ending), path.parent, out / path.parent.relative_to(truth))
        for path in sorted(truth.glob(f"sub-*/**/*{ending}"))
    ]


def _read_on(path: Path, grid: Grid) -> FloatArray:
    """Read an image that must lie on a grid."""
    image = read_image(path)
    if not image.grid.matches(grid):
        raise ImageError(
            f"Result and truth need one grid: {path} has {image.grid.shape} voxels, the truth "
            f"{grid.shape}, or they lie elsewhere. Compare outputs of the same dataset."
        )
    return np.asarray(image.data, dtype=float)


def _score_motion(files: RunFiles) -> dict[str, scores.MotionScore]:
    """Compare the displacements of both kinds of volume."""
    estimated, true = (
        shifts_from_table(read_table(name(MOTION_ENDING))) for name in (files.ours, files.true)
    )
    bvals = np.loadtxt(files.ours("_desc-preproc_dwi.bval"), ndmin=1)
    if not estimated.shape == true.shape == (bvals.size, *true.shape[1:]):
        raise InputDataError(
            "Result and truth need the same volumes and slices: "
            f"{files.ours(MOTION_ENDING)} has {estimated.shape[:2]}, the truth {true.shape[:2]}, "
            f"and there are {bvals.size} b-values. Compare outputs of the same dataset."
        )
    is_b0 = b0_volumes(bvals, GradientSettings().b0_max)
    kinds = {"b0": is_b0, "dwi": ~is_b0}
    return {
        kind: scores.score_motion(estimated[chosen], true[chosen]) for kind, chosen in kinds.items()
    }


def _tell_motion(files: RunFiles, motion: dict[str, scores.MotionScore]) -> Iterator[Score]:
    """Yield the errors of the motion and of the displacement from B0 to DWI."""
    for kind, found in motion.items():
        yield Score("motion", f"{kind} error mm", found.error_mm)
        yield Score("motion", f"{kind} true mm", found.true_mm)
    estimated, true = (
        shifts_from_table(read_table(name(B0_TO_DWI_ENDING))) for name in (files.ours, files.true)
    )
    # Our B0 image and our maps have moved by their offsets, and the cord in them.
    between = true + motion["dwi"].offset_mm - motion["b0"].offset_mm
    yield Score("motion", "B0 to DWI error mm", scores.rms_length(estimated - between))
    yield Score("motion", "B0 to DWI true mm", scores.rms_length(between))


def _tell_cord(cord: BoolArray, truth: BoolArray, grid: Grid) -> Iterator[Score]:
    """Yield the overlap of the cord in the slices where the truth has one."""
    overlap = scores.dice_of_slices(cord, truth)[truth.any(axis=(0, 1))]
    yield Score("cord", "dice mean", float(overlap.mean()))
    yield Score("cord", "dice min", float(overlap.min()))
    yield Score("cord", "area ratio", float(cord.sum() / truth.sum()))
    yield Score("cord", "islands mm2", scores.island_area_mm2(cord, truth, grid.spacing_mm))


def _tell_bias(table: pd.DataFrame, tissue: pd.DataFrame) -> Iterator[Score]:
    """Yield how far the region values of the whole cord lie from those of the tissue."""
    cord = table[table["scope"] == "cord"]
    for true in tissue.itertuples(index=False):
        rows = cord[(cord["region"] == true.region) & (cord["side"] == true.side)]
        for metric in ("FA", "MD"):
            row = rows[rows["metric"] == metric].iloc[0]
            for column in ("mean", "core_mean"):
                bias = 100 * (row[column] / getattr(true, metric) - 1)
                yield Score(
                    "bias", f"{metric} {column} %", float(bias), str(true.region), str(true.side)
                )
