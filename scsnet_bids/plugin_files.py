"""A file that says how Nipype runs the steps, as other BIDS Apps take it.

JSON, or YAML where PyYAML is installed::

    plugin: SLURM
    plugin_args:
      sbatch_args: --partition short --time 00:30:00
      max_jobs: 50
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scsnet_bids.errors import MissingToolError, UsageError
from scsnet_bids.files import read_text

MULTIPROC, LINEAR, SLURM = "MultiProc", "Linear", "SLURM"
SYNONYMS = {"LegacyMultiProc": MULTIPROC}


def _is_count(value: object) -> bool:
    """Tell whether a value is a whole number of 1 or more."""
    return type(value) is int and value >= 1


def _is_amount(value: object) -> bool:
    """Tell whether a value is a positive number."""
    return type(value) in (int, float) and 0 < value < float("inf")  # type: ignore[operator]


def _is_word(value: object) -> bool:
    """Tell whether a value is text."""
    return isinstance(value, str)


def _is_anything(_: object) -> bool:
    """Take what other apps' files have, and what changes nothing here."""
    return True


ARGUMENTS: Mapping[str, Mapping[str, Callable[[object], bool]]] = {
    LINEAR: {},
    MULTIPROC: {
        "n_procs": _is_count,
        "memory_gb": _is_amount,
        "maxtasksperchild": _is_anything,
        "raise_insufficient": _is_anything,
    },
    SLURM: {"sbatch_args": _is_word, "template": _is_word, "max_jobs": _is_count},
}
"""What each plugin can be told, and whether a value will do."""


@dataclass(frozen=True)
class PluginChoice:
    """How the steps are run.

    Attributes
    ----------
    name : ``MultiProc`` (the default), ``Linear`` or ``SLURM``
    arguments : what it is told
    """

    name: str = MULTIPROC
    arguments: Mapping[str, Any] = field(default_factory=dict)


def read_plugin_file(path: Path) -> PluginChoice:
    """Read how the steps are to be run.

    Parameters
    ----------
    path : JSON or YAML with ``plugin`` and ``plugin_args``

    Returns
    -------
    PluginChoice

    Raises
    ------
    UsageError
        If it cannot be read, or asks for what there is not.
    MissingToolError
        If it is YAML and there is no PyYAML.
    """
    content = _read(path)
    unknown = sorted(map(str, set(content) - {"plugin", "plugin_args"}))
    if unknown:
        raise UsageError(
            f"A plugin file may hold plugin and plugin_args: {path} has {', '.join(unknown)}. "
            "Remove what is unknown."
        )
    name, arguments = content.get("plugin", MULTIPROC), content.get("plugin_args") or {}
    name = SYNONYMS.get(str(name), name)
    if not isinstance(name, str) or name not in ARGUMENTS or not isinstance(arguments, dict):
        raise UsageError(
            f"The plugin must be one of {', '.join(ARGUMENTS)}, and plugin_args a list of names "
            f"and values: {path} has {name!r}. Other schedulers: one job per participant, see "
            "docs/cluster.md."
        )
    for key, value in arguments.items():
        known = ARGUMENTS[name]
        if key not in known or not known[key](value):
            raise UsageError(
                f"{name} can be told {', '.join(known) or 'nothing'}: {path} says {key}: "
                f"{value!r}. Correct it."
            )
    return PluginChoice(name, arguments)


def _read(path: Path) -> dict[Any, Any]:
    """Read a JSON or YAML object."""
    try:
        text = read_text(path.expanduser())
        content = json.loads(text) if path.suffix == ".json" else _read_yaml(text, path)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"A plugin file must be JSON or YAML: {path} is not ({error}). Correct it."
        ) from error
    if not isinstance(content, dict):
        raise UsageError(f"A plugin file must name a plugin: {path} holds {content!r:.40}.")
    return content


def _read_yaml(text: str, path: Path) -> Any:
    """Read YAML, of plain values only."""
    try:
        import yaml
    except ImportError as error:
        raise MissingToolError(
            f"YAML is read by PyYAML, which is not installed: pip install pyyaml, or write {path} "
            "as JSON."
        ) from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
