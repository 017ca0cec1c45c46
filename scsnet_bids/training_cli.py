"""The command ``scsnet-bids-train``: train SCS-Net on synthetic slices, labelled ones, or both."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scsnet_bids import __version__
from scsnet_bids.errors import ScsnetError, UsageError
from scsnet_bids.setting_options import add_setting_options, take_settings

if TYPE_CHECKING:
    from scsnet_bids.training.settings import TrainingSettings
    from scsnet_bids.training.state import TrainingState

EPILOG = """\
examples:
  scsnet-bids-train --atlas PAM50 --iterations 12000 --out scsnet.pt
  scsnet-bids-train --labels /data/derivatives/manual --images /data --atlas PAM50 \\
      --start shipped --iterations 3000 --out ours.pt
  scsnet-bids-train --config-file ours.toml --out again.pt

Beside the weights it writes, under the same name: .json (record and checksum), .toml (all
settings), _curve.tsv and _curve.svg (progress), _state.pt (to go on with --resume).
docs/training.md says what to expect."""
PROGRESS = ("step", "seconds", "loss")
"""Columns of the curve that are no scores."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console script.

    Parameters
    ----------
    arguments : command line without the name of the program; default: that of the process

    Returns
    -------
    int, exit code
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    given = vars(_parser().parse_args(words))
    try:
        settings = _settings(given)
        from scsnet_bids.training.trainer import train

        command = shlex.join(["scsnet-bids-train", *words])
        _follow(train(settings, given["out"], command, resume=given["resume"]), given["out"])
    except ScsnetError as error:
        print(f"scsnet-bids-train: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    from scsnet_bids.training.settings import TrainingSettings

    parser = argparse.ArgumentParser(
        prog="scsnet-bids-train",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{parser.prog} {__version__}")
    parser.add_argument("--out", type=_weights_path, required=True, help="weights to write (.pt)")
    parser.add_argument(
        "--resume", action="store_true", help="go on where this training was stopped"
    )
    parser.add_argument(
        "--config-file",
        type=Path,
        metavar="TOML",
        help="all settings, in the form that every training writes; an option wins over the file",
    )
    add_setting_options(parser.add_argument_group("settings"), TrainingSettings())
    return parser


def _weights_path(word: str) -> Path:
    """Read the name of the weights."""
    if not word.endswith(".pt"):
        raise argparse.ArgumentTypeError(f"a name that ends in .pt is needed, not {word!r}")
    return Path(word)


def _settings(given: dict[str, object]) -> TrainingSettings:
    """Take the settings from file and options; of two lengths the one on the command line wins."""
    from scsnet_bids.training.settings import TrainingSettings

    by_the_clock = given["schedule.minutes"] is not None
    if by_the_clock and given["schedule.iterations"] is not None:
        raise UsageError("A training has one length: give --minutes or --iterations.")
    if by_the_clock:
        given["schedule.iterations"] = 0
    file = given.pop("config_file")
    return take_settings(given, file, TrainingSettings())  # type: ignore[arg-type]


def _follow(states: Iterable[TrainingState], out: Path) -> None:
    """Print progress and draw its curves as they come."""
    import pandas as pd

    from scsnet_bids.figures.training import draw_training
    from scsnet_bids.files import write_text

    for state in states:
        row = state.curve[-1]
        scores = [f"{name} {value:g}" for name, value in row.items() if name not in PROGRESS]
        print(f"{state.elapsed_s:6.0f} s  step {state.step:6d}  loss {state.loss:.4f}", flush=True)
        if scores:
            drawn = draw_training(pd.DataFrame(state.curve))
            write_text(out.with_name(f"{out.stem}_curve.svg"), drawn)
            print(f"held out: {', '.join(scores)}", flush=True)
