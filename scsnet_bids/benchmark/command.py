"""The command ``scsnet-bids-benchmark``: speed and quality beside other tools, on this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from scsnet_bids import __version__
from scsnet_bids.errors import ScsnetError, UsageError
from scsnet_bids.files import write_text

REPEATS = {"quick": 1, "default": 1, "full": 3}
PEOPLE = 4
"""People whose values are measured, for each repeat; one differs from the next by 1 to 3 %."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console script.

    Parameters
    ----------
    arguments : command line without the name of the program; default: that of the process

    Returns
    -------
    int, exit code
    """
    options = _parser().parse_args(arguments)
    chosen = list(BENCHMARKS) if options.benchmark == "all" else [options.benchmark]
    try:
        if (options.data is None) != (options.cord_masks is None):
            raise UsageError("Real series need both, --data and --cord-masks.")
        for name in chosen:
            text = BENCHMARKS[name](options)
            write_text(options.out / f"{name}.md", f"{text}\n")
            print(f"# {name}\n\n{text}\n", flush=True)
    except ScsnetError as error:
        print(f"scsnet-bids-benchmark: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="scsnet-bids-benchmark",
        description="Measure speed and quality beside other tools, on this machine.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{parser.prog} {__version__}")
    parser.add_argument("benchmark", choices=[*BENCHMARKS, "all"])
    parser.add_argument("--out", type=Path, default=Path("benchmark"), help="folder for the tables")
    length = parser.add_mutually_exclusive_group()
    for effort, words in (("quick", "a small part"), ("full", "everything, repeated: hours")):
        length.add_argument(
            f"--{effort}",
            dest="effort",
            action="store_const",
            const=effort,
            default="default",
            help=words,
        )
    parser.add_argument("--repeats", type=int, metavar="N", help="runs of everything")
    parser.add_argument("--data", type=Path, metavar="DS", help="dataset with real series as well")
    parser.add_argument("--cord-masks", type=Path, metavar="DIR", help="cord masks of DATA")
    parser.add_argument("--shapes", type=Path, metavar="DIR", help="manual cord masks for shapes")
    parser.add_argument(
        "--held-out", nargs="+", default=[], metavar="LABEL", help="take theirs only"
    )
    return parser


def _motion(options: argparse.Namespace) -> str:
    """Compare ways to correct motion."""
    from scsnet_bids.benchmark.motion import compare_motion

    real = None if options.data is None else (options.data, options.cord_masks)
    return compare_motion(options.out, options.effort, _repeats(options), real)


def _motion_grid(options: argparse.Namespace) -> str:
    """Hold our correction of motion against the best other over many phantoms."""
    from scsnet_bids.benchmark.motion_grid import compare_on_grid

    return compare_on_grid(options.out, options.effort, options.repeats or 1)


def _motion_growth(options: argparse.Namespace) -> str:
    """Let the series grow whose motion is corrected."""
    from scsnet_bids.benchmark.motion_growth import measure_motion_growth

    return measure_motion_growth(options.out, options.effort, _repeats(options))


def _pipeline(options: argparse.Namespace) -> str:
    """Measure the whole app."""
    from scsnet_bids.benchmark.pipeline import measure_pipeline

    return measure_pipeline(options.out, options.effort, _repeats(options), options.data)


def _growth(options: argparse.Namespace) -> str:
    """Let series and their number grow."""
    from scsnet_bids.benchmark.growth import measure_growth

    return measure_growth(options.out, options.effort, _repeats(options))


def _values(options: argparse.Namespace) -> str:
    """Compare ways to measure a region."""
    from scsnet_bids.benchmark.drawn_cords import read_drawn_cords
    from scsnet_bids.benchmark.region_values import compare_values

    shapes = options.shapes
    drawn = [] if shapes is None else read_drawn_cords(shapes, options.held_out)
    return compare_values(options.out, options.effort, PEOPLE * _repeats(options), drawn)


def _repeats(options: argparse.Namespace) -> int:
    """Tell how often everything runs."""
    return options.repeats or REPEATS[options.effort]


BENCHMARKS: dict[str, Callable[[argparse.Namespace], str]] = {
    "pipeline": _pipeline,
    "growth": _growth,
    "motion-growth": _motion_growth,
    "motion": _motion,
    "values": _values,
    "motion-grid": _motion_grid,
}


if __name__ == "__main__":
    sys.exit(main())
