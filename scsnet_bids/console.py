"""What a command says: to whoever listens, in letters that can be shown."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Outlet(io.FileIO):
    """A standard stream that nobody need read: its reader may have gone, its disk may be full."""

    def write(self, words: ReadableBuffer) -> int:
        """Write as far as that is possible."""
        rest = memoryview(words).cast("B")
        n_words = rest.nbytes
        with contextlib.suppress(OSError):
            while rest:
                rest = rest[super().write(rest) :]
        return n_words


def prepare_console() -> None:
    """Let no work be lost because a word cannot be said.

    A standard stream that is absent, or replaced as in tests, stays as it is.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and stream is getattr(sys, f"__{name}__"):
            # A buffer between them would say a word again that an interruption comes upon.
            outlet: Any = _Outlet(stream.fileno(), "w", closefd=False)
            # A letter that the encoding lacks is shown as its code.
            words = io.TextIOWrapper(
                outlet, stream.encoding, errors="backslashreplace", write_through=True
            )
            setattr(sys, name, words)
