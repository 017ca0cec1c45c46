"""What the command line asks for, its words and its settings file read and checked.

Every option may be spelled with dashes or underscores.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scsnet_bids.errors import UnknownLevelError, UsageError
from scsnet_bids.parser import LEVELS, make_parser
from scsnet_bids.plugin_files import PluginChoice, read_plugin_file
from scsnet_bids.resources import parse_memory
from scsnet_bids.setting_options import take_settings
from scsnet_bids.setting_values import change_settings
from scsnet_bids.settings import B0, SegmentationSettings, Settings, list_settings

SLOPPY = {("motion", "method"): "none", ("alignment", "enabled"): False}
"""What a quick run that only tests the command leaves out; the methods text says so."""


@dataclass(frozen=True)
class Options:
    """What the command line asks for.

    Attributes
    ----------
    bids_dir, output_dir, work_dir : absolute
    levels : in the order in which they run
    participant_label, exclude_participant_label, session_label : empty where not given
    reports_only : pages of the participants alone, from the output folder
    boilerplate_only : the text to cite alone
    nprocs : processors in all; None leaves it to the job's limits
    omp_nthreads : threads of one step
    mem_gb : memory in all, GB; None leaves it to the job's limits
    controls : who the group level compares others with, ``column==value``; None for nobody
    plugin : how Nipype runs the steps
    settings : those of the settings file, changed by the command line
    command : the words that were given, to be kept beside the results
    """

    bids_dir: Path
    output_dir: Path
    levels: tuple[str, ...]
    participant_label: list[str]
    exclude_participant_label: list[str]
    session_label: list[str]
    bids_filter_file: Path | None
    work_dir: Path
    clean_workdir: bool
    nprocs: int | None
    omp_nthreads: int
    mem_gb: float | None
    stop_on_first_crash: bool
    dry_run: bool
    reports_only: bool
    boilerplate_only: bool
    verbose: int
    controls: str | None
    plugin: PluginChoice
    settings: Settings
    command: str


def parse_options(words: Sequence[str]) -> Options:
    """Read the command line, and the settings file that it may name.

    Parameters
    ----------
    words : those after the program's name

    Returns
    -------
    Options

    Raises
    ------
    UsageError
        If an option cannot have its value or its level, or the settings file cannot be used.
    UnknownLevelError
        If a level does not exist.
    SystemExit
        If the words cannot be understood, or ask for help.
    """
    _refuse_other_encodings(words)
    given = vars(make_parser().parse_args([_with_dashes(word) for word in words]))
    levels = given.pop("level")
    _refuse_unknown_levels(levels)
    _refuse_group_level(levels, given)
    settings = take_settings(given, given.pop("config_file"), Settings())
    settings = _with_absolute_paths(settings)
    if given.pop("sloppy"):
        settings = change_settings(settings, SLOPPY)
    mem, plugin_file = given.pop("mem"), given.pop("use_plugin")
    for name in ("bids_dir", "output_dir", "work_dir"):
        given[name] = _resolve(given[name])
    return Options(
        levels=tuple(level for level in LEVELS if level in levels),
        mem_gb=None if mem is None else parse_memory(mem),
        settings=settings,
        plugin=read_plugin_file(plugin_file) if plugin_file else PluginChoice(),
        command=shlex.join(["scsnet-bids", *words]),
        **given,
    )


def refuse_absent_weights(settings: SegmentationSettings) -> None:
    """Make sure that the weights that are named, and will be used, are there.

    Parameters
    ----------
    settings : how regions are segmented

    Raises
    ------
    UsageError
        If they are not.
    """
    second = "" if settings.input == B0 else settings.dwi_weights
    for option, place in (("--weights", settings.weights), ("--dwi-weights", second)):
        if place and not Path(place).is_file():
            raise UsageError(
                f"Weights must be a file: {option} names {place}, which is none. Correct the path."
            )


def _with_absolute_paths(settings: Settings) -> Settings:
    """Name files and folders from the root, since the steps run in folders of their own."""
    changes: dict[tuple[str, str], Any] = {}
    for known in list_settings():
        if known.is_path:
            given = getattr(getattr(settings, known.stage), known.name)
            absolute = _absolute_dataset if known.option == "--derivatives" else _absolute
            changes[known.stage, known.name] = (
                tuple(map(absolute, given)) if isinstance(given, tuple) else absolute(given)
            )
    return change_settings(settings, changes)


def _absolute(place: str) -> str:
    """Make a path absolute; none stays none."""
    return str(_resolve(Path(place))) if place else ""


def _resolve(path: Path) -> Path:
    """Follow a path from the root, its links and ``~`` replaced."""
    try:
        return path.expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise UsageError(f"A path must lead somewhere: {path} does not ({error}).") from error


def _absolute_dataset(word: str) -> str:
    """Make the folder of ``DIR`` or ``NAME=DIR`` absolute."""
    name = re.match(r"(?:[A-Za-z0-9]+=)?", word)[0]  # type: ignore[index]
    return name + _absolute(word.removeprefix(name))


def _with_dashes(word: str) -> str:
    """Spell an option with dashes; its value stays as it is."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def _refuse_other_encodings(words: Sequence[str]) -> None:
    """Raise for a name that could not be written down with the results."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"Names of files and folders must be UTF-8: found {word!a}. Rename it."
            ) from error


def _refuse_unknown_levels(levels: Sequence[str]) -> None:
    """Raise for a level that does not exist."""
    unknown = [level for level in levels if level not in LEVELS]
    if unknown:
        raise UnknownLevelError(
            f"The level must be one of {', '.join(LEVELS)}: found {unknown[0]!r}. The order is "
            "scsnet-bids BIDS_DIR OUTPUT_DIR LEVEL."
        )


def _refuse_group_level(levels: Sequence[str], given: Mapping[str, Any]) -> None:
    """Raise for the group level beside an option that promises that nothing is computed."""
    for name in ("dry_run", "boilerplate_only"):
        if given[name] and "group" in levels:
            raise UsageError(
                "The group level always writes its tables: "
                f"--{name.replace('_', '-')} is for the participant level alone. Leave one out."
            )
