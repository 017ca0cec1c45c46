"""Who the participants are, by ``participants.tsv`` of the output folder, and who the controls."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scsnet_bids.arrays import FloatArray
from scsnet_bids.errors import InputDataError, UsageError
from scsnet_bids.files import read_json, read_text
from scsnet_bids.word_tables import read_rows

FILE = "participants.tsv"
NO_HEADING = re.compile(r"\s*|Unnamed: \d+")
"""What a column is called that has no name."""
PUBLISHED = {"session": "session_id", "run": "run_id"}
"""What files call these columns. Sidecars in the root of a dataset speak of all files below: one
that describes a column ``run`` would take the place of their entity run for those who read them."""
SEXES = {"m": 0.0, "male": 0.0, "f": 1.0, "female": 1.0}
GIVEN = 0.8
"""Share of the controls that must have a covariate for it to be used."""
FEWEST_OF_A_SEX = 2
DECISIVE = 1 - 1e-8
"""Leverage from which somebody is fitted exactly whatever the value, as the only woman is: what is
left of such a value tells nothing."""


@dataclass(frozen=True)
class Controls:
    """The people that others are compared with.

    Attributes
    ----------
    expression : as it was given, such as ``group==control``
    members : their names
    others : names of everybody else who has a value in the column, by that value
    """

    expression: str
    members: frozenset[str]
    others: dict[str, frozenset[str]]

    @property
    def groups(self) -> dict[str, frozenset[str]]:
        """Names of everybody by group, the controls first."""
        # Another group may be called so: then the controls go by the expression that chose them.
        name = self.expression if "controls" in self.others else "controls"
        return {name: self.members, **self.others}


@dataclass(frozen=True, eq=False)
class Covariates:
    """What a person's values depend on besides the group.

    Attributes
    ----------
    names : such as ``("age", "sex")``; empty if none is given often enough
    table : one row per participant, one column per name, numbers; nan where not given
    """

    names: tuple[str, ...]
    table: pd.DataFrame

    def design(self, people: Iterable[str]) -> FloatArray:
        """Write a constant and the covariates of people as the rows of a matrix."""
        rows = self.table.reindex(list(people))[list(self.names)].to_numpy(float)
        return np.column_stack([np.ones(len(rows)), rows])


def read_people(out_dir: Path) -> pd.DataFrame:
    """Read the participants of an output folder.

    Parameters
    ----------
    out_dir : output folder

    Returns
    -------
    DataFrame with ``participant_id`` (``sub-...``) first; without rows if there is no such file

    Raises
    ------
    InputDataError
        If the file cannot be read, is no table, or has somebody in two rows or a row of nobody.
    """
    path = out_dir / FILE
    if not path.exists() and not path.is_symlink():
        return pd.DataFrame({"participant_id": pd.Series(dtype=str)})
    try:
        # Words as they stand, without blanks: 01 and True are names of groups as well.
        table = read_rows(read_text(path), str, ("n/a", ""))
        # Spreadsheets leave columns without a heading, and lines of tabs.
        headed = [name for name in table if not NO_HEADING.fullmatch(str(name))]
        table = pd.DataFrame({name: table[name].str.strip() for name in headed}).replace("", None)
        table = table.dropna(how="all")
        names = table.pop("participant_id")
    except OSError as error:
        raise InputDataError(
            f"The table of participants must be readable: {path} is not ({error}). Correct that, "
            "or remove it."
        ) from error
    except (ValueError, KeyError) as error:
        raise InputDataError(
            f"A table of participants needs the column participant_id, and tabs between columns: "
            f"{path} cannot be used ({error}). Correct or remove it."
        ) from error
    if names.isna().any():
        raise InputDataError(
            f"Every participant has a name: {path} has a row without participant_id. Correct it."
        )
    names = "sub-" + names.str.removeprefix("sub-")
    twice = names[names.duplicated()]
    if len(twice):
        raise InputDataError(
            f"Every participant has one row: {path} has several of {twice.iloc[0]}. Correct it."
        )
    table.insert(0, "participant_id", names)
    return table


def add_people(table: pd.DataFrame, people: pd.DataFrame, after: int) -> pd.DataFrame:
    """Add what is known about the participants to a table.

    Parameters
    ----------
    table : with the column ``participant_id``
    people : as :func:`read_people` gives them
    after : the new columns follow this many

    Returns
    -------
    DataFrame; a column that the table has already gets the prefix ``participant_``
    """
    own = people.set_index("participant_id")
    taken = {*table, *PUBLISHED.values()}
    own.columns = pd.Index([f"participant_{c}" if c in taken else str(c) for c in own.columns])
    joined = table.join(own, on="participant_id")
    order = [*table.columns[:after], *own.columns, *table.columns[after:]]
    return joined[order]


def describe_people(out_dir: Path, people: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Describe the columns of ``participants.tsv``, in the words of its JSON file if it has one."""
    try:
        told = read_json(out_dir / "participants.json")
    except (OSError, ValueError):
        told = {}
    return {
        str(name): told[name]
        if isinstance(told.get(name), dict)
        else {"Description": f"Column {name} of {FILE}."}
        for name in people.columns[1:]
    }


def choose_controls(expression: str, people: pd.DataFrame) -> Controls:
    """Find the controls that an expression names.

    Parameters
    ----------
    expression : ``column==value``
    people : as :func:`read_people` gives them

    Returns
    -------
    Controls

    Raises
    ------
    UsageError
        If it is not like that, or names a column or value that does not exist.
    """
    column, sign, value = (word.strip() for word in expression.partition("=="))
    value = value.strip("'\"")
    if not (column and sign and value):
        raise UsageError(
            f'--controls must look like "group==control": found {expression!r}. The column and '
            f"the value are those of {FILE}."
        )
    if column not in people or column == "participant_id":
        known = ", ".join(map(str, people.columns[1:])) or "none"
        raise UsageError(
            f"--controls must name a column of {FILE} in the output folder: found {column!r}; "
            f"there are {known}. Copy the file there, or correct the name."
        )
    words = people[column].map(_word)
    alike = sorted({word for word in words if word.casefold() == _word(value).casefold()})
    if len(alike) > 1:
        raise UsageError(
            f"--controls must tell the controls: the column {column} of {FILE} has "
            f"{' and '.join(alike)}. Spell them alike."
        )
    members = people["participant_id"][words == _word(value)]
    if members.empty:
        raise UsageError(
            f"--controls must choose somebody: nobody has {value!r} in the column {column}; values "
            f"are {', '.join(sorted(set(words) - {''}))}. Correct it."
        )
    rest = people["participant_id"][(words != "") & (words != _word(value))]
    others = {str(name): frozenset(own) for name, own in rest.groupby(words)}
    return Controls(expression, frozenset(members), others)


def choose_covariates(people: pd.DataFrame, controls: Iterable[str]) -> Covariates:
    """Take age and sex where enough of the controls have them, and where they differ.

    Parameters
    ----------
    people : as :func:`read_people` gives them
    controls : names of those whose values are to be explained

    Returns
    -------
    Covariates
    """
    own = people.set_index("participant_id")
    table = pd.DataFrame(index=own.index)
    names = []
    for name, number in (("age", _age), ("sex", _sex)):
        column = next((c for c in own.columns if str(c).lower() == name), None)
        if column is None:
            continue
        table[name] = own[column].map(number).astype(float)
        among = table[name].reindex(list(controls))
        counts = among.value_counts()
        varies = len(counts) > 1 and (name != "sex" or counts.min() >= FEWEST_OF_A_SEX)
        if varies and among.notna().mean() >= GIVEN:
            names.append(name)
    return Covariates(tuple(names), table)


def _word(value: Any) -> str:
    """Write a value so that 1, 1.0 and "1" are the same; empty if it is missing."""
    if pd.isna(value):
        return ""
    try:
        return f"{float(value):g}"
    except (TypeError, ValueError):
        return str(value)


def _age(value: Any) -> float:
    """Read an age in years; ``89+`` and the like cannot be used."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _sex(value: Any) -> float:
    """Read a sex as 0 or 1."""
    return SEXES.get(str(value).strip().lower(), float("nan"))
