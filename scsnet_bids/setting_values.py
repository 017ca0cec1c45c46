"""Settings with the values that people give: changed, checked, read from TOML and written to it.

>>> settings_from_toml(settings_to_toml(Settings())) == Settings()
True
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import tomli_w

from scsnet_bids.errors import UsageError
from scsnet_bids.settings import Declared, Settings, Stages, list_settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_KINDS: Mapping[type, str] = {
    bool: "true or false",
    float: "a number",
    int: "a whole number",
    str: "a word",
    tuple: "a list of words",
}


def settings_to_toml(settings: DataclassInstance) -> str:
    """Write settings as TOML, one table per stage, every setting explained.

    Like :func:`read_toml` and :func:`change_settings` it takes ``Settings``, or any other frozen
    dataclass of stages whose settings are declared by :func:`setting`.
    """
    lines: list[str] = []
    for known in list_settings(type(settings)):
        if f"[{known.stage}]" not in lines:
            lines += ["", f"[{known.stage}]"]
        unit = "" if known.unit == "1" else f" ({known.unit})"
        value = getattr(getattr(settings, known.stage), known.name)
        choices = f" ({', '.join(known.choices)})" if known.choices else ""
        lines += [f"# {known.text}{unit}{choices}", tomli_w.dumps({known.name: value}).rstrip()]
    return "\n".join(lines[1:]) + "\n"


def settings_from_toml(text: str) -> Settings:
    """Read the settings of the app from TOML; what is not given keeps its default."""
    return read_toml(text, Settings())


def read_toml(text: str, settings: Stages) -> Stages:
    """Change settings by TOML.

    Parameters
    ----------
    text : TOML with one table per stage
    settings : to start from; what is not given stays

    Returns
    -------
    Settings of the same kind

    Raises
    ------
    UsageError
        If the text is not TOML, names a stage or a setting that does not exist, or gives one a
        value that it cannot have.
    """
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"Settings must be TOML: {error}.") from error
    loose = [name for name, values in given.items() if not isinstance(values, dict)]
    if loose:
        example = fields(type(settings))[0].name
        raise UsageError(
            f"Settings lie in a table such as [{example}]: {', '.join(loose)} does not."
        )
    return change_settings(
        settings,
        {(stage, name): value for stage, part in given.items() for name, value in part.items()},
    )


def change_settings(settings: Stages, changes: Mapping[tuple[str, str], Any]) -> Stages:
    """Change some settings.

    Parameters
    ----------
    settings : to start from
    changes : new values by stage and name

    Returns
    -------
    Settings of the same kind

    Raises
    ------
    UsageError
        If a stage or setting does not exist, or cannot have the value.

    >>> change_settings(Settings(), {("gradients", "b0_max"): 10}).gradients.b0_max
    10.0
    """
    known = {
        (declared.stage, declared.name): declared for declared in list_settings(type(settings))
    }
    stages = [f.name for f in fields(type(settings))]
    _refuse_unknown({stage for stage, _ in changes}, stages, "stage")
    for stage in {stage for stage, _ in changes}:
        given = {name for part, name in changes if part == stage}
        _refuse_unknown(given, [name for part, name in known if part == stage], f"[{stage}] name")
    for place, value in changes.items():
        part = replace(getattr(settings, place[0]), **{place[1]: _checked(known[place], value)})
        settings = replace(settings, **{place[0]: part})
    return settings


def _checked(known: Declared, value: Any) -> Any:
    """Return a value in the type of its setting, or say why it cannot be."""
    kind = type(known.default)
    if kind is float and type(value) is int:
        value = float(value)
    if kind is tuple and isinstance(value, list) and all(type(x) is str for x in value):
        value = tuple(value)
    if type(value) is not kind:
        raise UsageError(
            f"{known.name} in [{known.stage}] must be {_KINDS[kind]}, such as {known.default!r}: "
            f"found {value!r}."
        )
    if kind is float and not (math.isfinite(value) and value >= 0):
        raise UsageError(f"{known.name} in [{known.stage}] must be 0 or more: found {value:g}.")
    if known.choices and value not in known.choices:
        raise UsageError(
            f"{known.name} in [{known.stage}] must be one of {', '.join(known.choices)}: found "
            f"{value!r}."
        )
    return value


def _refuse_unknown(given: set[str], known: list[str], kind: str) -> None:
    """Raise for a name that no setting has."""
    unknown = sorted(given - set(known))
    if unknown:
        raise UsageError(
            f"Every {kind} must be known: found {', '.join(unknown)}; known are {', '.join(known)}."
        )
