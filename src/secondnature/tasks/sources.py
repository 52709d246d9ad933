# pyright: basic
# (pyarrow and datasets are not typed)
"""Where a user's rows come from: JSON Lines, CSV, Parquet and Hugging Face datasets.

What is not JSON Lines is converted to it once, in batches, and read like any other.
"""

import csv
import datetime
import hashlib
import json
import math
import os
import re
import tempfile
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from secondnature.tasks.columns import Columns
from secondnature.types import UserError

JSON_LINES = (".jsonl", ".json")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
ENDINGS = (*JSON_LINES, *DELIMITERS, ".parquet")
FORM = "1"  # of the converted files: another number has all sources converted again
LONGEST_CELL = 2**31 - 1  # csv's own limit is 128 KiB
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


@dataclass(frozen=True)
class Lines:
    """A JSON Lines file, and what the user knows it as; `cells` where its columns were cells of text.

    `version` says what exactly was read, where the source's name alone does not.
    """

    path: Path
    name: str
    unit: str = "row"
    cells: bool = False
    version: str = ""

    def where(self, number: int) -> str:
        """Line `number`, counted from 0, as messages name it."""
        return f"{self.name}, {self.unit} {number + 1}"


def as_lines(
    source: Path | Dataset, columns: Columns, cache: Path, notice: Callable[[str], None] = lambda line: None
) -> Lines:
    """A source's rows as JSON Lines, in the folder `cache` where they had to be converted.

    Only columns that are read are converted, and only where the same content has not been before. Raises UserError for
    what is not there or cannot be read, with the file and the row.
    """
    if isinstance(source, Dataset):
        return _dataset(source, columns, cache, notice)
    ending = source.suffix.lower()
    if not source.is_file():
        raise UserError(f"data: there is no file {source}{_meant(source)}")
    if ending not in ENDINGS:
        raise UserError(f"data: {source} ends in none of {', '.join(ENDINGS)}, which say how a file is read")
    if ending in JSON_LINES:
        return Lines(source, str(source))
    before = _digest(source)
    if ending in DELIMITERS:
        table, unit = partial(_delimited, source, DELIMITERS[ending]), "record"
    else:
        table, unit = partial(_parquet, source), "row"
    target, is_new = _converted(f"{ending}:{before}", source.stem, str(source), table, columns, cache, notice)
    if is_new and _digest(source) != before:
        target.unlink(missing_ok=True)
        raise UserError(f"{source}: changed while it was being read: run the same command again")
    return Lines(target, str(source), unit, ending in DELIMITERS)


def _meant(path: Path) -> str:
    """The end of an error about a file that is not there: it may be the name of a dataset, or the folder of one."""
    if path.suffix.lower() in ENDINGS:
        return ""
    name = path if path.is_dir() else path.name if path.parent.is_dir() else f"{path.parent.name}/{path.name}"
    return f"; a Hugging Face dataset, on the hub or in a folder, is {{path: {name}, split: train}}"


def _dataset(source: Dataset, columns: Columns, cache: Path, notice: Callable[[str], None]) -> Lines:
    name = str(source)
    notice(f"{name}: loading the dataset")  # which may take long, or try a hub that is out of reach for a while
    loaded = _load_dataset(source)
    target, _ = _converted(
        f"dataset:{loaded.fingerprint}", Path(source.path).name, name, lambda: loaded.table, columns, cache, notice
    )
    return Lines(target, name, version=f"{name}, {loaded.version}")


def _converted(
    content: str,
    stem: str,
    where: str,
    table: Callable[[], Table],
    columns: Columns,
    cache: Path,
    notice: Callable[[str], None],
) -> tuple[Path, bool]:
    """The file for a content, and whether it had to be written: whole or not at all, by any number of processes."""
    asked = [*columns.needed, columns.answer, columns.group, columns.id]
    key = hashlib.sha256(json.dumps([FORM, content, sorted(set(asked))]).encode()).hexdigest()[:16]
    readable = re.sub(r"[^\w.-]", "_", stem)[:60]
    target = cache / "data" / f"{readable}-{key}.jsonl"
    if target.exists():
        return target, False
    opened = table()
    read = columns.among(opened.columns, where)
    notice(f"{where}: converting to JSON Lines, once")
    _write(target, opened.rows(read))
    return target, True


def _write(target: Path, rows: Iterable[Mapping[str, object]]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, suffix=".partial")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- CSV


def _delimited(path: Path, delimiter: str) -> Table:
    """A file of cells, as csv.DictReader reads it; columns without a name are left out."""
    header = next(_records(path, delimiter), None)
    if header is None:
        raise UserError(f"{path}: empty: its first line must name the columns")
    names = [name for name in header if name]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{path}, header: the column {twice!r} is there twice")

    def rows(read: Sequence[str]) -> Iterator[Mapping[str, str]]:
        places = [(name, header.index(name)) for name in read]
        records = _records(path, delimiter)
        next(records)
        for number, cells in enumerate(records, 1):
            if len(cells) != len(header):
                few = "few" if len(cells) < len(header) else "many"
                raise UserError(
                    f"{path}, record {number}: too {few} cells: {len(cells)}, where the header has {len(header)}"
                )
            yield {name: cells[place] for name, place in places}

    return Table(names, rows)


def _records(path: Path, delimiter: str) -> Iterator[list[str]]:
    """The header and the records after it. Strict: a quotation mark left open would swallow the rest of the file."""
    csv.field_size_limit(LONGEST_CELL)
    with path.open("rb") as file:
        reader = csv.reader(_text_lines(path, file), delimiter=delimiter, strict=True)
        number = -1
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                reason = "a quotation mark is never closed" if "end of data" in str(error) else error
                where = f"record {number + 1}" if number >= 0 else "header"
                raise UserError(f"{path}, {where} (from line {line}): broken ({reason})") from None
            if cells is None:
                return
            if cells:  # not a blank line
                number += 1
                yield cells


def _text_lines(path: Path, lines: Iterable[bytes]) -> Iterator[str]:
    """The lines as text, each decoded alone so that a bad one can be named."""
    for number, line in enumerate(lines, 1):
        if b"\0" in line:
            raise UserError(f"{path}, line {number}: a NUL byte: the file is damaged, or not saved as UTF-8")
        try:
            yield (line.removeprefix(BOM_UTF8) if number == 1 else line).decode()
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}, line {number}: not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8"
            ) from None


# --- Parquet and Hugging Face datasets


def _parquet(path: Path) -> Table:
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


def _load_dataset(source: Dataset) -> Loaded:
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
