"""Options of a command line made from the declarations of settings, defaults and units included."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scsnet_bids.errors import UsageError
from scsnet_bids.files import read_text
from scsnet_bids.setting_values import change_settings, read_toml
from scsnet_bids.settings import Declared, Stages, list_settings


def add_setting_options(group: argparse._ArgumentGroup, settings: Stages) -> None:
    """Declare the settings that have an option.

    Parameters
    ----------
    group : where in the help they appear
    settings : frozen dataclass of stages
    """
    for known in list_settings(type(settings)):
        if known.option:
            group.add_argument(
                known.option, dest=_place(known), help=_explain(known), **_kind(known)
            )


def take_settings(given: dict[str, Any], file: Path | None, settings: Stages) -> Stages:
    """Take the settings out of what a command line gave; an option wins over the file.

    Parameters
    ----------
    given : parsed words by name; those of settings are removed
    file : TOML with settings, or None
    settings : to start from

    Returns
    -------
    Settings of the same kind

    Raises
    ------
    UsageError
        If the file cannot be read, or a setting cannot have its value.
    """
    changes = {
        (known.stage, known.name): value
        for known in list_settings(type(settings))
        if known.option and (value := given.pop(_place(known))) is not None
    }
    if file is not None:
        settings = _read_settings(file, settings)
    return change_settings(settings, changes)


def _place(known: Declared) -> str:
    """Name the value of a setting's option."""
    return f"{known.stage}.{known.name}"


def _kind(known: Declared) -> dict[str, Any]:
    """Say how the value of a setting is written on the command line."""
    word = "PATH" if known.is_path else "NAME"
    if isinstance(known.default, bool):
        return {"action": argparse.BooleanOptionalAction}
    if isinstance(known.default, tuple):
        return {"nargs": "+", "metavar": word}
    if known.choices:
        return {"choices": known.choices}
    kind = type(known.default)
    return {"type": kind, "metavar": word if kind is str else "NUMBER"}


def _explain(known: Declared) -> str:
    """Write the help of a setting, with its default and unit."""
    default = known.default
    if isinstance(default, bool):
        word = "yes" if default else "no"
    elif isinstance(default, (str, tuple)):
        word = default if isinstance(default, str) else " ".join(default)
    else:
        word = f"{default:g}"
    unit = "" if known.unit == "1" else f" {known.unit}"
    return f"{known.text.rstrip('.')} (default: {word or 'none'}{unit})"


def _read_settings(path: Path, settings: Stages) -> Stages:
    """Change settings by a file."""
    try:
        text = read_text(path.expanduser())
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"The settings file must be readable: {path} is not ({error}).") from error
    try:
        return read_toml(text, settings)
    except UsageError as error:
        raise UsageError(f"{error} The settings file is {path}.") from error
