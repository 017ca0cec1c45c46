"""A synthetic cervical cord dataset with known truth: for the demo, the tests and benchmarks.

``anatomy`` (or ``drawn``) and ``surroundings`` say what a neck looks like, ``scene`` draws one,
``signals`` gives its tissues their diffusion, ``movement`` and ``distortion`` displace it,
``acquisition`` is the scanner, ``simulation`` puts it all together, and ``dataset`` writes
participants as BIDS.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from scsnet_bids import __version__
from scsnet_bids.errors import ScsnetError
from scsnet_bids.phantom.dataset import write_dataset
from scsnet_bids.phantom.drawn import DrawnCord
from scsnet_bids.phantom.settings import LIMITS, PhantomSettings
from scsnet_bids.phantom.signals import RegionTensor
from scsnet_bids.phantom.simulation import Phantom, simulate

__all__ = [
    "DrawnCord",
    "Phantom",
    "PhantomSettings",
    "RegionTensor",
    "main",
    "simulate",
    "write_dataset",
]

TINY = PhantomSettings(directions=12, b0_volumes=2, slices=4, matrix=(48, 40))
"""The smallest series that the whole app can process."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``scsnet-bids-phantom``.

    Parameters
    ----------
    argv : arguments; those of the command line if None

    Returns
    -------
    exit code of ``errors.py``, 0 if all went well
    """
    arguments = vars(_parser().parse_args(argv))
    out, tiny = arguments.pop("out"), arguments.pop("tiny")
    participants, seed = arguments.pop("participants"), arguments.pop("seed")
    compressed = arguments.pop("compressed")
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        settings = replace(TINY if tiny else PhantomSettings(), **given)
        write_dataset(out, settings, participants, seed, compressed)
    except ScsnetError as error:
        print(f"scsnet-bids-phantom: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    """Offer the settings that have limits as options."""
    parser = argparse.ArgumentParser(
        prog="scsnet-bids-phantom",
        description="Write a synthetic cervical cord diffusion dataset (BIDS) with known truth.",
    )
    parser.add_argument("--version", action="version", version=f"{parser.prog} {__version__}")
    parser.add_argument("out", type=Path, help="Folder to write; new, empty or an older phantom.")
    parser.add_argument(
        "--participants", type=int, default=2, help="How many participants (default 2)."
    )
    parser.add_argument(
        "--compressed",
        type=int,
        metavar="N",
        help="How many of them, the last, have the compression (default all).",
    )
    parser.add_argument("--seed", type=int, default=0, help="Determines all of it (default 0).")
    parser.add_argument("--tiny", action="store_true", help="Few small slices, for quick tests.")
    for field in fields(PhantomSettings):
        if field.name in LIMITS:
            unit = "" if field.metadata["unit"] == "1" else f" {field.metadata['unit']}"
            parser.add_argument(
                f"--{field.name.replace('_', '-')}",
                type=type(field.default),
                metavar="N",
                help=f"{field.metadata['text']} (default {field.default}{unit})",
            )
    return parser
