"""Every error that a user can meet, and the exit code it ends the command with.

::

    ScsnetError                 1   some run failed
    ├── SkippedSeries           0   a series beside the diffusion series, nothing to process
    ├── UsageError              2   the command line asks for something impossible
    ├── InvalidDatasetError    16   the input is not a BIDS dataset
    ├── UnknownLevelError      17   the level is none that the app knows
    ├── EmptySelectionError    18   the filters chose nothing
    ├── InputDataError         65   a run's image, gradients or geometry cannot be used
    │   ├── ImageError
    │   └── GradientError
    ├── NoDwiError             66   the dataset holds no diffusion series
    ├── OutputError            73   the output or work directory cannot be written
    │   └── BusyError               another job is writing there
    ├── MissingToolError      127   a tool that was asked for is not installed
    ├── WeightsError            1   the network's weights are missing or fail their checksum
    └── WiringError             1   a workflow graph has a loose end (a fault of ours)

A message says what must hold, what was found, in which file, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable

MOST_LISTED = 8
ONLY_B0 = (
    "Every volume has b=0, so there is nothing to fit. Such a series serves to correct the "
    "distortion of one whose phase is encoded the other way round."
)
"""Why a series is skipped."""


class ScsnetError(Exception):
    """Root of every error this package raises on purpose."""

    exit_code: int = 1


class SkippedSeries(ScsnetError):  # noqa: N818 (it is a reason, not a fault)
    """A series holds no diffusion weighting; it is listed, and is no fault."""

    exit_code = 0


class UsageError(ScsnetError):
    """The command line asks for something that cannot be done."""

    exit_code = 2


class InvalidDatasetError(ScsnetError):
    """The input folder is not a BIDS dataset."""

    exit_code = 16


class UnknownLevelError(ScsnetError):
    """The level of analysis is neither ``participant`` nor ``group``."""

    exit_code = 17


class EmptySelectionError(ScsnetError):
    """The chosen participants, sessions or filters match no run."""

    exit_code = 18


class InputDataError(ScsnetError):
    """A run cannot be processed because of what its files hold."""

    exit_code = 65


class ImageError(InputDataError):
    """An image is damaged, has the wrong shape or an unusable geometry."""


class GradientError(InputDataError):
    """b-values or b-vectors are missing, damaged or do not fit the image."""


class NoDwiError(ScsnetError):
    """The dataset has no diffusion series at all."""

    exit_code = 66


class OutputError(ScsnetError):
    """The output or the work directory cannot be written."""

    exit_code = 73


class BusyError(OutputError):
    """Another job is processing the same run into the same folder."""


class MissingToolError(ScsnetError):
    """An external tool that was asked for is not installed."""

    exit_code = 127


class WeightsError(ScsnetError):
    """The network's weights are missing, damaged or of another architecture."""


class WiringError(ScsnetError):
    """A workflow graph connects fields that nobody declared, reads or feeds."""


def listed(items: Iterable[object]) -> str:
    r"""Join items for a sentence, at most eight of them; control characters are shown as codes.

    >>> listed(["a\n", 0.50, *range(7)])
    'a\\n, 0.5, 0, 1, 2, 3, 4, 5, ...'
    """
    words = [f"{x:g}" if isinstance(x, float) else str(x) for x in items]
    shown = ["".join(c if c.isprintable() else ascii(c)[1:-1] for c in word) for word in words]
    return ", ".join(shown[:MOST_LISTED] + ["..."] * (len(shown) > MOST_LISTED))
