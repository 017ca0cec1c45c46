"""Tables that people write and hand in: every cell a word, none of them trusted."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pandas as pd

from scsnet_bids.errors import UsageError
from scsnet_bids.files import read_text


def read_word_table(path: Path, columns: Sequence[str], kind: str, wanted: str) -> pd.DataFrame:
    """Read a table with tabs between its columns.

    Parameters
    ----------
    path : of the table
    columns : that it must have
    kind : what it holds, such as ``marks``, for messages
    wanted : what the option that names it must name, for messages

    Returns
    -------
    DataFrame of str, without blanks around the words

    Raises
    ------
    UsageError
        If it cannot be read, or a column is missing.
    """
    try:
        table = pd.read_csv(StringIO(read_text(path)), sep="\t", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{wanted}: {path} cannot be read ({error}). Correct the path.") from error
    if not set(columns) <= set(table):
        raise UsageError(
            f"A table of {kind} must have the columns {' and '.join(columns)}, with tabs between "
            f"them: {path} has {', '.join(map(str, table.columns)) or 'none'}. Correct it."
        )
    stripped: pd.DataFrame = table.apply(lambda column: column.str.strip())
    return stripped
