"""The command line of the BIDS App: the only place that knows arguments and exit codes.

Heavy libraries are imported by the level that needs them, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from scsnet_bids import __version__
from scsnet_bids.errors import ScsnetError, UnknownLevelError, UsageError
from scsnet_bids.settings import Settings, settings_from_toml, settings_to_toml

if TYPE_CHECKING:
    from scsnet_bids.runs import DwiRun

INTERRUPTED = 130
"""What a shell reports for a program that was interrupted."""

DESCRIPTION = """\
FA and MD of eight regions of the cervical spinal cord, from a BIDS dataset of diffusion MRI.

participant  corrects motion, segments the cord and its regions on the b=0 image (SCS-Net),
             fits the tensor and writes the region table of every run
group        gathers the tables of all participants; needs the output folder alone

Research software, not a medical device."""

EPILOG = """\
example:
  scsnet-bids /data /out participant --participant-label 01 02
  scsnet-bids /data /out group

exit codes:
  0 done                     1 some run failed         2 wrong usage
  16 not a BIDS dataset      17 unknown level           18 the filters chose nothing
  65 unusable image or gradients                        66 no diffusion series
  73 output not writable     127 a tool is missing"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : words after the program's name; those of the process by default

    Returns
    -------
    int, exit code (see ``errors.py``)
    """
    # Nothing calls home, and every process computes with the same number of threads: results do
    # not depend on the machine.
    os.environ |= {"NO_ET": "1", "NIPYPE_NO_ET": "1"}
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    try:
        options = _parse(arguments)
        return LEVELS[options.level](options)
    except ScsnetError as error:
        print(f"scsnet-bids: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("scsnet-bids: interrupted. The same command goes on from here.", file=sys.stderr)
        return INTERRUPTED


class _Parser(argparse.ArgumentParser):
    """A parser that explains the one mistake everybody makes."""

    def error(self, message: str) -> NoReturn:
        if "are required" in message:
            message += (
                ". Give the input folder, the output folder and the level first, options after "
                "them: scsnet-bids /data /out participant --participant-label 01"
            )
        super().error(message)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = _Parser(
        prog="scsnet-bids",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bids_dir", type=Path, help="BIDS dataset; nothing is written into it")
    parser.add_argument("output_dir", type=Path, help="folder for the results")
    parser.add_argument("level", metavar="{participant,group}", help="what to do")
    parser.add_argument("--version", action="version", version=f"scsnet-bids {__version__}")
    parser.add_argument(
        "--participant-label",
        "--participant_label",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="participants to process, with or without 'sub-' (default: all)",
    )
    parser.add_argument(
        "--session-label",
        "--session_label",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="sessions to process, with or without 'ses-' (default: all)",
    )
    parser.add_argument(
        "--bids-filter-file",
        type=Path,
        metavar="JSON",
        help='series to process, such as {"dwi": {"acquisition": "axial", "run": [1, 2]}}',
    )
    parser.add_argument(
        "-w",
        "--work-dir",
        type=Path,
        default=Path("work"),
        metavar="DIR",
        help="folder for intermediate results, which let a repeated command resume (default: work)",
    )
    parser.add_argument(
        "--nprocs",
        type=_positive_integer,
        default=1,
        metavar="N",
        help="steps that run at the same time (default: 1)",
    )
    parser.add_argument(
        "--config-file",
        type=Path,
        metavar="TOML",
        help="settings, in the form that a run writes into OUTPUT_DIR/logs",
    )
    options = parser.parse_args(arguments)
    if options.level not in LEVELS:
        raise UnknownLevelError(
            f"The level must be one of {', '.join(LEVELS)}: found {options.level!r}. The order is "
            "scsnet-bids BIDS_DIR OUTPUT_DIR LEVEL."
        )
    options.bids_dir, options.output_dir, options.work_dir = (
        path.expanduser().resolve()
        for path in (options.bids_dir, options.output_dir, options.work_dir)
    )
    return options


def _positive_integer(word: str) -> int:
    """Read a number of processes."""
    try:
        number = int(word)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"a whole number of 1 or more is needed, not {word!r}")
    return number


def _read_settings(path: Path | None) -> Settings:
    """Read the settings file, or take the defaults."""
    if path is None:
        return Settings()
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"The settings file must be readable: {path} is not ({error}).") from error
    return settings_from_toml(text)


def _run_participants(options: argparse.Namespace) -> int:
    """Run the participant level and say what was done and where it lies."""
    from scsnet_bids import bids, dataset, runs, summary

    settings = _read_settings(options.config_file)
    filters = bids.read_filters(options.bids_filter_file) if options.bids_filter_file else None
    found = bids.find_runs(
        options.bids_dir, options.participant_label, options.session_label, filters
    )
    for folder in (options.output_dir, options.work_dir):
        dataset.check_output_folder(folder, options.bids_dir)
    good, faulty = runs.check_runs(found, settings.gradients)
    print(summary.describe_plan(good, faulty, settings.gradients), flush=True)
    dataset.write_dataset_files(options.output_dir, options.bids_dir)
    failures: dict[str, ScsnetError] = {run.prefix: error for run, error in faulty.items()}
    if good:
        failures |= _process(good, options, settings)
    print(summary.describe_result(found, failures, options.output_dir), flush=True)
    return summary.exit_code(failures.values())


def _process(
    good: Sequence[DwiRun], options: argparse.Namespace, settings: Settings
) -> dict[str, ScsnetError]:
    """Build, check and run the graph of all good runs; the settings go beside the results."""
    from scsnet_bids.files import write_text
    from scsnet_bids.workflows import base, execution, graph

    log_dir = options.output_dir / "logs"
    write_text(log_dir / "scsnet-bids.toml", settings_to_toml(settings))
    workflow = base.init_scsnet_wf(good, options.output_dir, settings)
    graph.check_graph(workflow)
    names = {base.run_graph_name(run): run.prefix for run in good}
    return execution.process_runs(workflow, names, options.work_dir, log_dir, options.nprocs)


def _run_group(options: argparse.Namespace) -> int:
    """Run the group level and say what was gathered, what is missing, and where it lies."""
    from scsnet_bids import group

    tables = group.collect_group(options.output_dir)
    for gap in tables.gaps.itertuples():
        print(f"Missing: {gap.participant_id}: {gap.reason}", file=sys.stderr)
    group.write_group(options.output_dir, tables)
    n_runs, n_participants = len(tables.wide), tables.wide["participant_id"].nunique()
    print(
        f"Done: {n_runs} runs of {n_participants} participants gathered. "
        f"Group tables: {options.output_dir / 'group_*.tsv'}"
    )
    return 0


LEVELS = {"participant": _run_participants, "group": _run_group}
