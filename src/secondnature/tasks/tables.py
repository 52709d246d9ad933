# pyright: basic
# (pyarrow and datasets are not typed)
"""Tables of rows: Parquet files and Hugging Face datasets, read in batches."""

import datetime
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secondnature.types import UserError

BATCH = 256  # rows that are held at a time
NEEDED = "pip install 'secondnature[data]'"


@dataclass(frozen=True)
class Dataset:
    """A Hugging Face dataset, in the words of `datasets.load_dataset`."""

    path: str
    split: str
    name: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        return " ".join(part for part in (self.path, self.name, self.split) if part)


@dataclass(frozen=True)
class Table:
    """Rows that are read in order, as often as asked for, with some of their columns."""

    columns: Sequence[str]
    rows: Callable[[Sequence[str]], Iterator[Mapping[str, object]]]


@dataclass(frozen=True)
class Loaded:
    """A dataset's rows; `fingerprint` changes with its content, `version` says what was loaded."""

    table: Table
    fingerprint: str
    version: str


def parquet(path: Path) -> Table:
    """The rows of a Parquet file. Raises UserError where it is none."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UserError(f"{path}: reading Parquet needs {error.name}: {NEEDED}") from None
    try:
        with ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file ({_one_line(error)})") from None
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{path}: the column {twice!r} is there twice")

    def batches(read: Sequence[str]) -> Iterator[Any]:
        with ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            yield from file.iter_batches(BATCH, columns=list(read))

    return Table(names, lambda read: _rows(batches(read), str(path), {}))


def load_dataset(source: Dataset) -> Loaded:
    """A dataset from the hub, its cache or a folder. Raises UserError where it cannot be had."""
    try:
        import datasets
        import huggingface_hub
    except ImportError as error:
        raise UserError(f"data: a Hugging Face dataset needs {error.name}: {NEEDED}") from None
    datasets.disable_progress_bars()  # the run's own progress is shown there
    datasets.logging.set_verbosity_error()
    huggingface_hub.logging.set_verbosity_error()
    try:
        found = datasets.load_dataset(source.path, source.name, split=source.split, revision=source.revision)
    except Exception as error:
        # The loader raises its own, the hub's, pyarrow's and Python's: all are about what the recipe names.
        raise UserError(
            f"data: the dataset {source} cannot be loaded ({_one_line(error.__cause__ or error)})"
        ) from error
    assert isinstance(found, datasets.Dataset)
    classes = {name: kind for name, kind in found.features.items() if isinstance(kind, datasets.ClassLabel)}

    def rows(read: Sequence[str]) -> Iterator[Mapping[str, object]]:
        # As Arrow tables, so that no image or sound is decoded.
        tables = found.select_columns(list(read)).with_format("arrow").iter(BATCH)
        return _rows(tables, str(source), classes)

    fingerprint = found._fingerprint
    commits = {folder for file in found.cache_files for folder in re.findall(r"\b[0-9a-f]{40}\b", file["filename"])}
    version = ", ".join([*(f"revision {commit}" for commit in sorted(commits)), f"fingerprint {fingerprint}"])
    return Loaded(Table(found.column_names, rows), fingerprint, version)


def _rows(batches: Iterator[Any], where: str, classes: Mapping[str, Any]) -> Iterator[Mapping[str, object]]:
    """The rows of record batches, as JSON holds them; the numbers of `classes` by their names."""
    from pyarrow import ArrowException

    number = 0

    def value(name: str, cell: Any) -> object:
        if name in classes and cell is not None:  # a negative number is how datasets write that there is none
            return classes[name].int2str(cell) if cell >= 0 else None
        return _plain(cell, f"{where}, row {number + 1}: the column {name!r}")

    try:
        for batch in batches:
            for row in batch.to_pylist():
                yield {name: value(name, cell) for name, cell in row.items()}
                number += 1
    except (ArrowException, ValueError, OSError) as error:
        raise UserError(f"{where}: broken after row {number} ({_one_line(error)})") from None


def _plain(value: object, what: str) -> object:
    """A value as JSON has it: a date or a time as text in ISO 8601, bytes as the text that they are, NaN as null."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return None if math.isnan(value) else value
        case dict():
            return {str(key): _plain(item, what) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item, what) for item in value]
        case datetime.date() | datetime.time():
            return value.isoformat()
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise UserError(f"{what} holds bytes that are no UTF-8 text") from None
        case _:
            return str(value)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
