"""The words of ``scsnet-bids-slurm`` before ``--``, and how they read in the help."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from scsnet_bids import __version__
from scsnet_bids.parser import Labels, positive_integer

EPILOG = """\
Words after -- go to scsnet-bids as they are:
  scsnet-bids-slurm /data /out --submit -- --b0-threshold 60

examples:
  scsnet-bids-slurm /data /out --partition short --at-a-time 50
  scsnet-bids-slurm /data /out --image scsnet-bids.sif --setup "module load apptainer" --submit
  scsnet-bids-slurm /data /out --only-failed --mem 8G --submit

docs/cluster.md explains the files in OUTPUT_DIR/logs/slurm, and shows the same without this
command."""


def make_slurm_parser() -> argparse.ArgumentParser:
    """Describe the words before ``--``; what they mean together is up to ``slurm``."""
    parser = argparse.ArgumentParser(
        prog="scsnet-bids-slurm",
        usage="scsnet-bids-slurm BIDS_DIR OUTPUT_DIR [options] [-- options of scsnet-bids]",
        description="Write an array job for SLURM, and submit it if asked to.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{parser.prog} {__version__}")
    parser.add_argument("bids_dir", type=Path, help="BIDS dataset")
    parser.add_argument("output_dir", type=Path, help="folder for the results")
    parser.add_argument("--submit", action="store_true", help="submit it, not only write it")
    _add_choice(parser.add_argument_group("which tasks"))
    _add_limits(parser.add_argument_group("what a task may use"))
    _add_place(parser.add_argument_group("how a task runs"))
    return parser


def _add_choice(group: argparse._ArgumentGroup) -> None:
    """Declare the options that choose tasks."""
    for name in ("participant", "session"):
        group.add_argument(
            f"--{name}-label",
            nargs="+",
            action=Labels,
            default=[],
            metavar="LABEL",
            help=f"{name}s (default: all)",
        )
    group.add_argument(
        "--by",
        choices=("participant", "session"),
        default="participant",
        help="what one task processes (default: participant)",
    )
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--only-failed",
        action="store_true",
        help="the tasks that OUTPUT_DIR/logs/slurm/failed.tsv lists",
    )
    which.add_argument("--again", action="store_true", help="also tasks whose tables are complete")


def _add_limits(group: argparse._ArgumentGroup) -> None:
    """Declare the options that the scheduler gets."""
    group.add_argument("--mem", default="3G", metavar="SIZE", help="memory (default: 3G)")
    group.add_argument(
        "--cpus", type=positive_integer, default=1, metavar="N", help="processors (default: 1)"
    )
    group.add_argument("--time", default="00:30:00", help="time limit (default: 00:30:00)")
    group.add_argument("--partition", metavar="NAME", help="partition")
    group.add_argument("--account", metavar="NAME", help="account to charge")
    group.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="WORDS",
        help="one more option of sbatch, such as --sbatch=--qos=low; may be repeated",
    )
    group.add_argument(
        "--at-a-time", type=positive_integer, metavar="N", help="tasks that run at the same time"
    )


def _add_place(group: argparse._ArgumentGroup) -> None:
    """Declare the options that say how the app is called."""
    how = group.add_mutually_exclusive_group()
    how.add_argument("--image", type=Path, metavar="SIF", help="Apptainer image to run")
    how.add_argument(
        "--command",
        type=shlex.split,
        metavar="WORDS",
        help="words that start the app (default: scsnet-bids of this installation)",
    )
    group.add_argument(
        "--setup",
        action="append",
        default=[],
        metavar="LINE",
        help="line to run first, such as 'module load apptainer'; may be repeated",
    )
    group.add_argument(
        "-w",
        "--work-dir",
        type=Path,
        metavar="DIR",
        help="shared folder for intermediate results, which is kept (default: the node's own "
        "disk, $SLURM_TMPDIR, $TMPDIR or /tmp, cleared at the end)",
    )
