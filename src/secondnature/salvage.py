"""Saving what can be read of a damaged store, or of an older version's, into a new one."""

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, nullcontext, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from secondnature.store_file import (
    SQLITE_ERRORS,
    NewCall,
    Row,
    columns,
    connect,
    insert,
    is_reply,
    message_digest,
    open_to_write,
)
from secondnature.types import UserError

LEAF = b"\r"  # how a page begins that holds rows of a table


def salvage(path: Path) -> tuple[int, Path]:
    """Put all that can be read of a damaged or an older store into a new one in its place.

    Returns how many calls that are, and where the old one is now. Raises UserError where nothing can be read, or a run is
    using it: then it is left as it is.
    """
    if not path.is_file():
        raise UserError(f"there is no store {path}")
    lock = path.parent / ".lock"  # of the run, where the store is in its folder
    try:
        with FileLock(lock).acquire(timeout=0) if lock.exists() else nullcontext():
            return _salvage(path)
    except Timeout:
        raise UserError(f"{path.parent} is in use by another process: wait for it") from None


def _salvage(path: Path) -> tuple[int, Path]:
    log = path.with_name(path.name + "-wal")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".salvage-") as name:
        copy, fresh = Path(name) / "copy", Path(name) / "fresh"
        shutil.copyfile(path, copy)
        if log.exists():
            shutil.copyfile(log, Path(name) / "copy-wal")
        with closing(open_to_write(fresh)) as db:
            db.execute("PRAGMA journal_mode=DELETE")
            if not _opens(copy):
                _mend_first_page(copy, fresh)
            try:
                db.execute("BEGIN")
                for row in _rows(copy):
                    _save(db, row)
                db.execute("COMMIT")
            except SQLITE_ERRORS as error:
                raise UserError(f"what can be read of {path} cannot be written beside it ({error})") from error
            saved = int(db.execute("SELECT COUNT(*) FROM calls").fetchone()[0])
        if not saved:
            raise UserError(f"nothing can be read of {path}: it is left as it is; move it away to begin with a new one")
        old = next(free for n in range(1, 10**6) if not (free := path.with_name(f"{path.name}.old{n}")).exists())
        path.rename(old)
        if log.exists():
            log.rename(old.with_name(old.name + "-wal"))
        path.with_name(path.name + "-shm").unlink(missing_ok=True)
        fresh.rename(path)
    return saved, old


def _save(db: sqlite3.Connection, row: Row) -> None:
    """Insert a row that was read as one of `calls` into the table that it is of; none where it is damaged."""
    row = (*row, *[None] * (14 - len(row)))
    number, key, *rest = row
    if isinstance(number, str):  # of an older version: there the key was the first column
        if (call := _old_call(row)) is not None:
            insert(db, [call])
        elif isinstance(key, str) and set(rest) == {None}:
            db.execute("INSERT OR IGNORE INTO results (key, value) VALUES (?, ?)", (number, key))
    elif isinstance(key, bytes):
        role, content = rest[:2]
        if isinstance(role, str) and isinstance(content, str) and message_digest(role, content) == key:
            db.execute("INSERT OR IGNORE INTO messages VALUES (?, ?, ?, ?)", (number, key, role, content))
    elif isinstance(key, str) and isinstance(number, int):
        if set(rest) == {None}:
            db.execute("INSERT OR IGNORE INTO names VALUES (?, ?)", (number, key))
        elif isinstance(rest[0], str) and set(rest[1:]) == {None}:
            db.execute("INSERT OR IGNORE INTO results VALUES (?, ?, ?)", (number, key, rest[0]))
        elif (
            is_reply(row[5:11]) and all(isinstance(n, int | None) for n in (*row[2:4], *row[11:])) and _are_ids(row[4])
        ):
            db.execute(f"INSERT OR IGNORE INTO calls VALUES ({', '.join('?' * len(row))})", row)


def _are_ids(text: object) -> bool:
    return isinstance(text, str) and all(number.isdecimal() for number in text.split(","))


def _old_call(row: Row) -> NewCall | None:
    key, model, messages, decoding, *reply = row[:10]
    try:
        turns, drawn = json.loads(messages), json.loads(decoding)
        told = tuple((str(turn["role"]), str(turn["content"])) for turn in turns)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not (isinstance(model, str) and isinstance(drawn, dict) and told and is_reply(reply)):
        return None
    return NewCall(key, model, decoding, told, reply)


def _opens(path: Path) -> bool:
    """Whether SQLite finds the table of calls."""
    try:
        with closing(connect(path)) as db:
            return bool(columns(db))
    except SQLITE_ERRORS:
        return False


def _mend_first_page(copy: Path, fresh: Path) -> None:
    """Give a damaged file the first page of a new one, which says where its tables begin: it is the same in all."""
    page = bytearray(fresh.read_bytes()[:4096])
    page[28:32] = (copy.stat().st_size // len(page)).to_bytes(4)
    page[32:40] = bytes(8)  # no free pages
    if copy.with_name(copy.name + "-wal").exists():
        page[18:20] = b"\2\2"  # read with its log
    with copy.open("r+b") as file:
        file.write(page)


def _rows(copy: Path) -> Iterator[Row]:
    """The rows on every page that can be read: each page is read as if it were the whole table of calls."""
    with closing(connect(copy)) as db, suppress(*SQLITE_ERRORS):
        db.execute("PRAGMA journal_mode=DELETE")  # all that is in the log goes into the file
    if not _opens(copy):
        return
    with closing(connect(copy)) as db:
        root = int(db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'calls'").fetchone()[0]) - 1
        size = int(db.execute("PRAGMA page_size").fetchone()[0])
    with copy.open("r+b") as file:
        pages = file.seek(0, os.SEEK_END) // size
        for number in (root, *(n for n in range(1, pages) if n != root)):
            file.seek(number * size)
            page = file.read(size)
            if page[:1] != LEAF:
                continue
            file.seek(root * size)
            file.write(page)
            file.flush()
            with closing(connect(f"{copy.absolute().as_uri()}?immutable=1")) as db:
                db.text_factory = _text_or_none
                found: list[int] = []
                with suppress(*SQLITE_ERRORS):
                    for (rowid,) in db.execute("SELECT rowid FROM calls NOT INDEXED"):
                        found.append(rowid)
                for rowid in found:
                    with suppress(*SQLITE_ERRORS):
                        yield from db.execute("SELECT * FROM calls NOT INDEXED WHERE rowid = ?", (rowid,))


def _text_or_none(text: bytes) -> str | None:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None
