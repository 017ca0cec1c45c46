"""FSL's programs: which are installed, and how one is run.

With ``flirt`` this is the only user of fslpy, which finds FSL by ``FSLDIR``.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scsnet_bids.errors import MissingToolError, ScsnetError
from scsnet_bids.files import write_text


def find_program(names: Sequence[str]) -> str:
    """Name the first program that FSL has.

    Parameters
    ----------
    names : of programs that do the same, the best one first

    Returns
    -------
    str

    Raises
    ------
    MissingToolError
        If FSL is not installed, or has none of them.
    """
    found = [program for name in names for program in find_programs(name)]
    if found:
        return found[0]
    folder = _program_folder()
    where = "FSLDIR is not set" if folder is None else f"{folder} does not hold it"
    raise MissingToolError(
        "FSL must be installed for --motion fsl and --distortion fsl, with "
        f"{' or '.join(names)}: {where}. Install FSL and set FSLDIR to its folder, or leave these "
        "options out."
    )


def find_programs(pattern: str) -> list[str]:
    """Name FSL's programs of a name, or that match a pattern.

    Parameters
    ----------
    pattern : such as ``eddy_cuda*``

    Returns
    -------
    list of str, the newest version last; empty if there is none
    """
    folder = _program_folder()
    found = [] if folder is None else folder.glob(pattern)
    names = [path.name for path in found if os.access(path, os.X_OK)]
    return sorted(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def run_program(wrapper: str, program: str, folder: Path, **words: Any) -> None:
    """Run a program of FSL with the command line that fslpy's wrapper composes.

    Parameters
    ----------
    wrapper : function of fslpy's that knows the command line
    program : that is run, for those that FSL installs under several names
    folder : to run in; the command line and all that the program says are kept there
    words : arguments of the wrapper

    Raises
    ------
    ScsnetError
        If the program fails.
    """
    from fsl import wrappers
    from fsl.utils.run import runfsl

    compose = inspect.unwrap(getattr(wrappers, wrapper))
    spelled = {name: str(word) if isinstance(word, Path) else word for name, word in words.items()}
    command = [program, *compose(**spelled)[1:]]
    write_text(folder / f"{wrapper}_command.txt", "\n".join(command) + "\n")
    log = folder / f"{wrapper}.log"
    surroundings = {"env": os.environ | {"FSLOUTPUTTYPE": "NIFTI_GZ"}, "cwd": str(folder)}
    with log.open("w", encoding="utf-8") as stream:
        kept = {"tee": False, "stdout": stream, "stderr": stream}
        *said, code = runfsl(command, stderr=True, exitcode=True, log=kept, **surroundings)
    if code != 0:
        lines = "\n".join(said).split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "nothing")
        raise ScsnetError(
            f"FSL's {program} must succeed: it ended with code {code} and said last: "
            f"{last.strip()!r}. See {log} for all of it."
        )


def _program_folder() -> Path | None:
    """Folder of FSL's programs; None if FSL is not installed."""
    from fsl.utils.platform import platform

    return Path(platform.fsldir) / "bin" if platform.fsldir else None
