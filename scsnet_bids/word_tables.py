"""Tables that people write and hand in: every cell a word, none of them trusted."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from scsnet_bids.errors import UsageError
from scsnet_bids.files import read_text

QUOTED = r'(?m)(?<![^\t\n])"([^"\t\r\n]*)"(?![^\t\r\n])'
"""A cell between quotes, as R and spreadsheets write it; elsewhere a quote is a letter."""


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
        table = read_rows(read_text(path), str).fillna("")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{wanted}: {path} cannot be read ({error}). Correct the path or the table."
        ) from error
    if not set(columns) <= set(table):
        raise UsageError(
            f"A table of {kind} must have the columns {' and '.join(columns)}, with tabs between "
            f"them: {path} has {', '.join(map(str, table.columns)) or 'none'}. Correct it."
        )
    stripped: pd.DataFrame = table.apply(lambda column: column.str.strip())
    return stripped


def read_rows(text: str, dtype: Any, missing: Sequence[str] = ("",)) -> pd.DataFrame:
    """Read rows with tabs between their cells; empty cells beyond the heading do no harm.

    BIDS knows no quoting: a lone quote, as of inches, is part of its cell.

    Parameters
    ----------
    text : heading and rows
    dtype : of all columns, or by column, as ``pandas.read_csv`` takes it
    missing : words that stand for a missing value

    Returns
    -------
    DataFrame

    Raises
    ------
    ValueError
        If it is no table, or a row is longer than the heading. The message is part of a sentence.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            # Without index_col=False cells of longer rows would move by one column.
            return pd.read_csv(
                StringIO(re.sub(QUOTED, r"\1", text)),
                sep="\t",
                dtype=dtype,
                na_values=list(missing),
                keep_default_na=False,
                index_col=False,
                quoting=csv.QUOTE_NONE,
            )
        except pd.errors.ParserWarning as error:
            raise ValueError("its rows have more cells than its heading") from error
