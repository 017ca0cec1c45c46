"""The words of the command line: which there are, what they mean, and how they read in the help.

Options that set a setting are made from its declaration in ``settings.py``, defaults and units
included.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from scsnet_bids import __version__
from scsnet_bids.setting_options import add_setting_options
from scsnet_bids.settings import Settings

LEVELS = ("participant", "group")

DESCRIPTION = """\
FA and MD of eight regions of the cervical spinal cord, from a BIDS dataset of diffusion MRI.

participant  corrects motion, segments the cord and its regions on the b=0 image (SCS-Net),
             fits the tensor and writes the region table of every run
group        gathers the tables of all participants; needs the output folder alone

Research software, not a medical device."""

EPILOG = """\
examples:
  scsnet-bids /data /out participant --dry-run
  scsnet-bids /data /out participant --participant-label 01 02 -w /scratch/work
  scsnet-bids /data /out participant group --nprocs 4 --mem 12G

The same command again goes on where the last one ended and reuses what is done.

exit codes:
  0 done                     1 some run failed         2 wrong usage
  16 not a BIDS dataset      17 unknown level           18 the filters chose nothing
  65 unusable image or gradients                        66 no diffusion series
  73 output not writable, or in use by another job      127 a tool is missing
  129, 130, 143 stopped by a closed terminal, Ctrl-C or a scheduler
  137 killed, as for want of memory"""


class _Parser(argparse.ArgumentParser):
    """A parser that explains the one mistake everybody makes."""

    def error(self, message: str) -> NoReturn:
        if "are required" in message:
            message += (
                ". Give the input folder, the output folder and the level first, options after "
                "them: scsnet-bids /data /out participant --participant-label 01"
            )
        super().error(message)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help that names the value once, after all spellings of an option."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=96)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}".rstrip()


def make_parser() -> argparse.ArgumentParser:
    """Declare all words."""
    parser = _Parser(
        prog="scsnet-bids",
        usage="scsnet-bids BIDS_DIR OUTPUT_DIR LEVEL [LEVEL] [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=_Help,
        allow_abbrev=False,
        add_help=False,
    )
    folders = parser.add_argument_group("folders and level")
    folders.add_argument("bids_dir", type=Path, help="BIDS dataset; nothing is written into it")
    folders.add_argument("output_dir", type=Path, help="folder for the results")
    folders.add_argument("level", nargs="+", metavar="LEVEL", help=", ".join(LEVELS) + ", or both")
    _add_selection(parser.add_argument_group("which series"))
    computing = parser.add_argument_group("how to run")
    _add_computing(computing)
    _add_plugin(computing)
    _add_group_level(parser.add_argument_group("group level"))
    _add_settings(parser.add_argument_group("settings"))
    _add_others(parser.add_argument_group("other"))
    return parser


def _add_selection(group: argparse._ArgumentGroup) -> None:
    """Declare the options that choose series."""
    for names, text in {
        ("--participant-label",): "participants to process, with or without 'sub-' (default: all)",
        ("--exclude-participant-label",): "participants to leave out",
        ("--session-label", "--session-id"): "sessions to process, with or without 'ses-' "
        "(default: all)",
    }.items():
        group.add_argument(
            *names,
            nargs="+",
            action=Labels,
            default=[],
            metavar="LABEL",
            help=f"{text}; blanks or commas between them",
        )
    group.add_argument(
        "--bids-filter-file",
        type=Path,
        metavar="FILE",
        help='JSON file of the series to process, such as {"dwi": {"acquisition": "axial", '
        '"run": [1, 2]}}; null is "has none", "*" is "has any"',
    )
    group.add_argument(
        "--skip-bids-validation",
        "--skip-bids-validator",
        action=_Accepted,
        help="accepted for scripts: no general BIDS validator is run anyway; images and gradients "
        "are always checked",
    )


def _add_computing(group: argparse._ArgumentGroup) -> None:
    """Declare the options that say with what and how far to run."""
    only = group.add_mutually_exclusive_group()
    only.add_argument(
        "--dry-run", action="store_true", help="show the plan with every fault, and write nothing"
    )
    only.add_argument(
        "--reports-only",
        action="store_true",
        help="write the pages of the participants and the text to cite again, from the output "
        "folder alone; nothing is computed",
    )
    only.add_argument(
        "--boilerplate-only",
        action="store_true",
        help="write the text to cite, of what would be run, into OUTPUT_DIR/logs; nothing is "
        "computed",
    )
    group.add_argument(
        "-w",
        "--work-dir",
        type=Path,
        default=Path("work"),
        metavar="DIR",
        help="folder for intermediate results, best on a fast local disk; the same command with "
        "the same folder resumes (default: work)",
    )
    group.add_argument(
        "--clean-workdir",
        action="store_true",
        help="remove the intermediate results if every run has succeeded",
    )
    group.add_argument(
        "--nprocs",
        "--nthreads",
        "--n-cpus",
        type=positive_integer,
        metavar="N",
        help="processors in all (default: those of the job, at most one per run and as far as "
        "memory suffices)",
    )
    group.add_argument(
        "--omp-nthreads",
        type=positive_integer,
        default=1,
        metavar="N",
        help="threads of one step; another number may change the last digits (default: 1)",
    )
    group.add_argument(
        "--mem",
        metavar="SIZE",
        help="memory in all, with its unit: 16G, 1.5GB, 16000M (default: that of the job)",
    )
    group.add_argument(
        "--stop-on-first-crash",
        action="store_true",
        help="start no other step once one has failed (default: finish the other runs)",
    )


def _add_plugin(group: argparse._ArgumentGroup) -> None:
    """Declare how Nipype may be told to run."""
    group.add_argument(
        "--use-plugin",
        type=Path,
        metavar="FILE",
        help="YAML or JSON with Nipype's plugin (MultiProc, Linear or SLURM) and plugin_args; "
        "--nprocs and --mem win over it (default: MultiProc with a guard against lost workers)",
    )
    group.add_argument("--sloppy", action="store_true", help=argparse.SUPPRESS)


def _add_group_level(group: argparse._ArgumentGroup) -> None:
    """Declare what the group level can be asked for."""
    group.add_argument(
        "--controls",
        metavar="COLUMN==VALUE",
        help='the people whom others are compared with, by participants.tsv: "group==control" '
        "(default: nobody, and no z-scores)",
    )


def _add_settings(group: argparse._ArgumentGroup) -> None:
    """Declare the settings that have an option, and the file that can hold all."""
    add_setting_options(group, Settings())
    group.add_argument(
        "--config-file",
        type=Path,
        metavar="TOML",
        help="all settings, in the form that every run writes into OUTPUT_DIR/logs; an option on "
        "the command line wins over the file",
    )


def _add_others(group: argparse._ArgumentGroup) -> None:
    """Declare what remains."""
    group.add_argument("-h", "--help", action="help", help="show this help")
    group.add_argument(
        "--version",
        action="version",
        version=f"scsnet-bids {__version__}",
        help="show the version",
    )
    group.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="say more: -v what Nipype does, -vv why it does it",
    )
    for name, value, text in (
        ("--notrack", "", "nothing is ever sent anywhere"),
        ("--random-seed", "N", "nothing here is random, the same input gives the same tables"),
        ("--bids-database-dir", "DIR", "the index is made in seconds and kept in memory"),
        ("--bids-database-wipe", "", "there is no index on disk"),
    ):
        group.add_argument(
            name, action=_Accepted, metavar=value, help=f"accepted for scripts: {text}"
        )


class Labels(argparse.Action):
    """Labels of one option or several, with blanks or commas between them."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add the labels to those of the options before."""
        words = [word for value in values for word in value.replace(",", " ").split()]
        # No label is no wish for all: a script's variable may be empty by mistake.
        if not words:
            raise argparse.ArgumentError(self, f"a label is needed, not {' '.join(values)!r}")
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), *words])


class _Accepted(argparse.Action):
    """An option that changes nothing, and leaves no trace."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, metavar: str = "", **words: Any
    ) -> None:
        n_values = 1 if metavar else 0
        super().__init__(
            option_strings, argparse.SUPPRESS, nargs=n_values, metavar=metavar or None, **words
        )

    def __call__(self, *_: object, **__: object) -> None:
        """Do nothing."""


def positive_integer(word: str) -> int:
    """Read a number of one or more, such as that of processors."""
    if not (word.isdecimal() and int(word) > 0):
        raise argparse.ArgumentTypeError(f"a whole number of 1 or more is needed, not {word!r}")
    return int(word)
