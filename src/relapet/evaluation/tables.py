"""Tables as files: which columns one has, how it is written, and how a table of someone else is checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from relapet.errors import InputError
from relapet.files import atomic_path
from relapet.settings import shortened

NOT_AVAILABLE = "n/a"
"""How BIDS writes a missing value in a TSV."""
_MOST = 1e12
"""Beyond any measurement; squares of such numbers would overflow in sums."""


@dataclass(frozen=True)
class TableSpec:
    """One table that an analysis writes: its file, what a row is, and what each column holds."""

    name: str
    """Stem of the file: ``voi`` is voi.tsv."""
    rows: str
    """What there is a row for."""
    columns: Mapping[str, str]
    """In order; a table may lack some of them, but has no others."""

    def check(self, table: pd.DataFrame) -> None:
        """Raise ValueError where a table has other columns than these, or has them in another order."""
        columns = [str(column) for column in table.columns]
        wanted = [column for column in self.columns if column in columns]
        if columns != wanted:
            raise ValueError(
                f"{self.name}.tsv has the columns {', '.join(columns)}; documented are: {', '.join(self.columns)}."
            )


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table by column, as summaries hold them."""
    return [{str(column): value for column, value in row.items()} for row in table.to_dict("records")]


def read_table(
    path: Path, numbers: Sequence[str] = (), mend: str = "correct it", **options: Any
) -> pd.DataFrame:
    """A tab-separated table; raises InputError where it is none, or where a column of ``numbers`` holds words.

    ``numbers`` are names of columns, or patterns as of the shell; one that is not there is not missed.
    """
    try:
        table: pd.DataFrame = pd.read_csv(path, sep="\t", na_values=[NOT_AVAILABLE], **options)
    except (OSError, ValueError, RecursionError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise InputError(f"{path} is not a readable tab-separated table ({reason}); {mend}.") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise InputError(f"{path} has rows with more cells than its header; {mend}.")
    for column in table.columns:
        if any(fnmatch(str(column), name) for name in numbers):
            table[column] = as_numbers(path, table[column], mend)
    return table


def as_numbers(path: Path, column: pd.Series, mend: str) -> pd.Series:
    """A column of a table as numbers; raises InputError for words, and for numbers that no measurement gives."""
    try:
        numbers = pd.to_numeric(column).astype(np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        words = [value for value in column.dropna() if pd.isna(pd.to_numeric(value, errors="coerce"))]
        some = f", such as {shortened(str(words[0]))}" if words else ""
        raise InputError(f"The column {column.name} of {path} holds words{some}; {mend}.") from error
    beyond = numbers[np.isfinite(numbers) & (numbers.abs() > _MOST)]
    if len(beyond):
        raise InputError(f"The column {column.name} of {path} holds {beyond.iloc[0]:g}; {mend}.")
    return numbers


def require_columns(path: Path, table: pd.DataFrame, columns: list[str]) -> None:
    """Raise InputError naming the first column that a table lacks."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InputError(f"{path} lacks the column {missing[0]} (tab-separated); add it.")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a TSV, atomically; missing values are n/a."""
    with atomic_path(path) as temporary:
        table.replace("", NOT_AVAILABLE).to_csv(
            temporary, sep="\t", index=False, na_rep=NOT_AVAILABLE, float_format="%.8g"
        )


def plain(content: Any) -> Any:
    """The same content as strict JSON can hold it: NaN as null, infinity as the string inf."""
    if isinstance(content, dict):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(value) for value in content]
    if isinstance(content, np.generic):
        content = content.item()
    if isinstance(content, float) and not math.isfinite(content):
        return None if math.isnan(content) else ("inf" if content > 0 else "-inf")
    return content
