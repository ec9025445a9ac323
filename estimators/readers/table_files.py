"""CSV and Parquet files as columns: the header first, then only the columns that are needed."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from estimators.readers.columns import (
    EMPTY_NUMBERS,
    Column,
    array_column,
    factorize,
    listing,
    text_column,
    words_column,
)
from theory._exceptions import PanelError

# With more distinct texts in a block a column is no set of labels, and its dictionary saves nothing.
_DICTIONARY = 2000


class TableFile:
    """A CSV or Parquet file that was opened: its column names now, its columns on demand.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_parquet = path.suffix.lower() in {".parquet", ".pq"}
        self.delimiter = ","
        self.names = self._parquet_names() if self.is_parquet else self._csv_names()
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise PanelError(f"{path.name} has more than one column called {listing(twice)}; rename them.")

    def _csv_names(self) -> list[str]:
        try:
            with _open_text(self.path) as stream:
                header = stream.readline()
        except (OSError, UnicodeDecodeError, EOFError) as error:
            raise _unreadable(self.path, error) from error
        if not header.strip():
            raise PanelError(f"{self.path.name} is empty; the first line must name the columns.")
        counts = {mark: header.count(mark) for mark in (",", ";", "\t")}
        self.delimiter = max(counts, key=lambda mark: counts[mark])
        return next(csv.reader(io.StringIO(header), delimiter=self.delimiter))

    def _parquet_names(self) -> list[str]:
        if find_spec("pyarrow") is None:
            raise PanelError(
                f"reading {self.path.name} needs pyarrow: pip install 'consilience[report]', or save it as "
                "CSV."
            )
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return list(pq.read_schema(self.path).names)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(self.path, error) from error

    def columns(self, wanted: Sequence[str], *, one_kind: Sequence[str] = ()) -> dict[str, Column]:
        """Read some columns.

        Parameters
        ----------
        wanted : sequence of str
            Names of columns that exist.
        one_kind : sequence of str
            Those among them that share their labels: if one of them holds text, all of a CSV are read as
            text, so that 01 in one column and 01 in another stay the same label.

        Returns
        -------
        dict of str to Column
            All of one length.
        """
        if not self.is_parquet and find_spec("pyarrow") is None:
            columns = self._columns_by_pandas(wanted, one_kind)
        else:
            columns = self._columns_by_arrow(wanted, one_kind)
        if not columns or not len(next(iter(columns.values())).values):
            raise PanelError(f"{self.path.name} has no rows below its header.")
        return columns

    def _columns_by_arrow(self, wanted: Sequence[str], one_kind: Sequence[str]) -> dict[str, Column]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            if self.is_parquet:
                table = pq.read_table(self.path, columns=list(wanted))
            else:
                table = self._read_csv(wanted, text=())
                odd = [name for name in wanted if not _plain(table.column(name).type)]
                if any(not _is_number(table.column(name).type) for name in one_kind):
                    odd += [name for name in one_kind if _is_number(table.column(name).type)]
                if odd:
                    again = self._read_csv(odd, text=odd)
                    for name in odd:
                        table = table.set_column(table.column_names.index(name), name, again.column(name))
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(self.path, error) from error
        columns = {}
        for name in wanted:
            columns[name] = _from_arrow(table.column(name))
            # Give each column's memory back as soon as it is converted: the table may hold 10^6 x 50 cells.
            table = table.drop_columns([name])
        return columns

    def _read_csv(self, wanted: Sequence[str], *, text: Sequence[str]) -> Any:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        return arrow_csv.read_csv(
            self.path,
            parse_options=arrow_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(wanted),
                column_types={name: pa.string() for name in text},
                null_values=list(EMPTY_NUMBERS),
                strings_can_be_null=False,
                auto_dict_encode=True,
                auto_dict_max_cardinality=_DICTIONARY,
            ),
        )

    def _columns_by_pandas(self, wanted: Sequence[str], one_kind: Sequence[str]) -> dict[str, Column]:
        import pandas as pd

        try:
            frame = pd.read_csv(
                self.path, sep=self.delimiter, usecols=list(wanted), dtype=str, keep_default_na=False,
                encoding="utf-8-sig",
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise _unreadable(self.path, error) from error
        columns = {name: words_column(frame[name]) for name in wanted}
        if any(columns[name].is_text for name in one_kind):
            columns |= {name: text_column(*factorize(frame[name].to_numpy(object))) for name in one_kind}
        return columns


def _open_text(path: Path) -> io.TextIOBase:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _unreadable(path: Path, error: Exception) -> PanelError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return PanelError(f"{path.name} cannot be read: {reason}")


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    checks = (types.is_integer, types.is_floating, types.is_null, types.is_decimal)
    return any(check(kind) for check in checks)


def _plain(kind: Any) -> bool:
    """Whether a type inferred from CSV keeps what was written; dates and booleans do not."""
    import pyarrow as pa

    return _is_number(kind) or pa.types.is_string(kind) or pa.types.is_dictionary(kind)


def _from_arrow(chunks: Any) -> Column:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = chunks.type
    if pa.types.is_null(kind):
        return array_column(np.full(len(chunks), np.nan))
    if pa.types.is_boolean(kind):
        chunks = pc.if_else(chunks, "True", "False")
    elif pa.types.is_decimal(kind):
        chunks = chunks.cast(pa.float64())
    elif pa.types.is_dictionary(kind) and _is_number(kind.value_type):
        chunks = pc.cast(chunks, kind.value_type)
    if _is_number(chunks.type):
        empty = np.zeros(len(chunks), dtype=bool)
        if chunks.null_count:
            empty = chunks.is_null().to_numpy()
            chunks = chunks.fill_null(0)
        values = chunks.to_numpy()
        kind_out = np.int64 if values.dtype.kind in "iu" else np.float64
        if values.dtype == np.uint64 and len(values) and values.max() > np.iinfo(np.int64).max:
            kind_out = np.float64
        values = values.astype(kind_out, copy=False)
        return Column(values, None, empty | np.isnan(values) if values.dtype.kind == "f" else empty)
    if not pa.types.is_dictionary(chunks.type):
        chunks = chunks.cast(pa.string()).dictionary_encode()
    whole = chunks.unify_dictionaries().combine_chunks()
    parts = whole.chunks if isinstance(whole, pa.ChunkedArray) else [whole]
    codes = np.concatenate([part.indices.fill_null(-1).to_numpy(zero_copy_only=False) for part in parts])
    return text_column(codes, parts[0].dictionary.to_pylist())
