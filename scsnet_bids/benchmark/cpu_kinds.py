"""Say what kind of work processor time goes to, from a profile.

Arithmetic is what numpy, scipy, torch and DIPY do, and the modules of this package that call them
on arrays. The rest is what surrounds it. A function written in C counts to whoever called it,
unless its name tells.
"""

from __future__ import annotations

import cProfile
import pstats
from collections import defaultdict
from typing import Any

KINDS: dict[str, tuple[str, ...]] = {
    "imports": ("importlib", "marshal", "_imp.", "zipimport", "<module>", "builtins.compile"),
    "packing": ("gzip", "zlib"),
    "pictures": ("matplotlib", "contourpy", "/PIL/", "fontTools", "cycler", "/figures/"),
    "graph": ("nipype", "networkx", "traits", "hashlib", "/workflows/", "/interfaces/", "pickle"),
    "tables and pages": ("pandas", "jinja2", "/json/", "/report/", "csv", "tomli", "markupsafe"),
    "files": ("nibabel", "posix.", "_io.", "pathlib", "shutil", "/os.py", "posixpath", "/bids/"),
    "arithmetic": ("numpy", "scipy", "torch", "dipy", "/scsnet_bids/"),
}
"""Words in a function's file or name; the first kind that has one takes it."""
OTHER = "other"
COUNTED = {
    "images read": ("images.py", "read_image"),
    "images written": ("images.py", "_write"),
    "weights loaded": ("serialization.py", "load"),
    "files packed or unpacked": ("gzip.py", "__init__"),
    "files hashed by the graph": ("filemanip.py", "hash_infile"),
}
"""What should not happen more often than it must: file and function."""

Place = tuple[str, int, str]


def cpu_by_kind(profile: cProfile.Profile) -> dict[str, float]:
    """Add up the processor time of a profile by kind of work.

    Parameters
    ----------
    profile : made with processor time

    Returns
    -------
    dict of seconds, with every kind of ``KINDS`` and ``other``
    """
    total: defaultdict[str, float] = defaultdict(float, dict.fromkeys([*KINDS, OTHER], 0.0))
    for place, (_, _, own_s, _, callers) in _stats(profile).items():
        kind = _kind_of(place)
        if kind != OTHER or not callers:
            total[kind] += own_s
            continue
        for caller, (_, _, for_caller_s, _) in callers.items():
            total[_kind_of(caller)] += for_caller_s
    return dict(total)


def count_calls(profile: cProfile.Profile) -> dict[str, float]:
    """Count what a profile saw of the calls in ``COUNTED``.

    Parameters
    ----------
    profile : any

    Returns
    -------
    dict of counts
    """
    counts = dict.fromkeys(COUNTED, 0.0)
    for (file, _, function), (_, calls, *_) in _stats(profile).items():
        for name, (ending, called) in COUNTED.items():
            if function == called and file.endswith(f"/{ending}"):
                counts[name] += calls
    return counts


def _stats(profile: cProfile.Profile) -> dict[Place, Any]:
    """Tell calls, own time, time in all and callers by place."""
    if not profile.getstats():
        return {}
    return dict(pstats.Stats(profile).stats)  # type: ignore[attr-defined]


def _kind_of(place: Place) -> str:
    """Kind of work of a function."""
    file, _, function = place
    text = f"{file}:{function}"
    return next((kind for kind, words in KINDS.items() if any(w in text for w in words)), OTHER)
