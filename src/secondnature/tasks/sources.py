"""Where a user's rows come from. What is no JSON Lines file is converted to one, once, and read like any other."""

import csv
import hashlib
import json
import os
import re
import tempfile
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from secondnature.tasks.columns import Columns
from secondnature.tasks.tables import Dataset, Table, load_dataset, parquet
from secondnature.types import UserError

JSON_LINES = (".jsonl", ".json")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
ENDINGS = (*JSON_LINES, *DELIMITERS, ".parquet")
FORM = "1"  # of the converted files: another number has all sources converted again
LONGEST_CELL = 2**31 - 1  # csv's own limit is 128 KiB


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
        table, unit = partial(parquet, source), "row"
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
    loaded = load_dataset(source)
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
