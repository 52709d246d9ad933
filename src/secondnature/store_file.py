"""The store's file: whose it is, which version of it, what to do where it is damaged, and saving what can be read of it."""

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from shlex import quote

from filelock import FileLock, Timeout

from secondnature.types import UserError

# What makes the file ours, and which version of its tables it has: SQLite's application_id and user_version, which stand at
# these places of its first 100 bytes. The version counts up with each change of TABLES or COLUMNS.
APPLICATION, VERSION = 0x53324E44, 1
MAGIC, VERSION_AT, APPLICATION_AT = b"SQLite format 3\0", 60, 68
LEAF = b"\r"  # how a page begins that holds rows of a table
TABLES = {
    "calls": """
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY NOT NULL,
    model TEXT NOT NULL,
    messages TEXT NOT NULL,
    decoding TEXT NOT NULL,
    text TEXT NOT NULL,
    finish TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL,
    logprob REAL
)
""",  # with rowids: replies are appended, and the index of keys stays small; without, each reply would rewrite a random page
    # what a user's own functions made of replies: it is read back from here, so that looking at a run needs none of its code
    "made": "CREATE TABLE IF NOT EXISTS made (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)",
}
COLUMNS = [("calls", "logprob", "REAL")]  # those that came later than their table
FIRST = {"key", "model", "messages", "decoding", "text", "finish", "prompt_tokens", "completion_tokens", "seconds"}
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH)

Row = Sequence[str | int | float | None]


def open_to_write(path: Path) -> sqlite3.Connection:
    """The store's connection that writes; one from an older version gets the tables and columns of this one.

    Raises UserError where it is another program's file, which is then left as it is, or a newer version's, or damaged.
    """
    try:
        check(path)
        db = connect(path)
        if _pragmas(db) != (APPLICATION, VERSION):
            _upgrade(db, path)  # before there is a log: the marks must stand in the file itself
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA wal_autocheckpoint=10000")  # pages: seldom, since keys touch pages at random
    except sqlite3.Error as error:
        raise problem(path, error, "opened") from error
    return db


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, also while a run has the store open; text that is not UTF-8 is no error.

    Raises UserError as `open_to_write` does, and for a store of an older version that cannot be read as it is.
    """
    try:
        check(path)
        uri = path.absolute().as_uri()
        db = connect(f"{uri}?mode=ro")
        try:
            names = _columns(db)
        except sqlite3.OperationalError:
            db.close()
            if os.access(path.parent, os.W_OK):
                raise
            # Where nothing can be written nobody writes: then SQLite needs no files of its own beside the store.
            db = connect(f"{uri}?immutable=1")
            names = _columns(db)
    except sqlite3.Error as error:
        raise problem(path, error, "opened") from error
    if {name for _, name, _ in COLUMNS} - names:
        db.close()
        raise UserError(f"the store {path} is an older version's: run any stage on its run once, which renews it")
    db.text_factory = _replaced
    return db


def _replaced(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def connect(path: Path | str) -> sqlite3.Connection:
    return sqlite3.connect(path, uri=isinstance(path, str), isolation_level=None, check_same_thread=False)


def problem(path: Path, error: Exception | str, done: str) -> UserError:
    """What to tell the user where the store could not be `done` (opened, read, written)."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None or code & 0xFF in DAMAGE:  # none: a text that is not UTF-8
        return UserError(
            f"the store {path} cannot be {done}: it is damaged ({error}): `secondnature salvage {quote(str(path))}` "
            "saves what can be read of it; then run the same command again"
        )
    return UserError(
        f"the store {path} cannot be {done} ({error}): what was stored before is safe; put that right and run the same "
        "command again"
    )


def check(path: Path) -> None:
    """Raises UserError for a file that is no store of this version or an older one. Nothing is written, not even a lock."""
    if str(path) == ":memory:" or not path.exists():
        return
    with path.open("rb") as file:
        head = file.read(100)
    if not head:
        return
    if not head.startswith(MAGIC):
        raise problem(path, "it does not begin as a SQLite file does", "opened")
    application, version = (int.from_bytes(head[at : at + 4]) for at in (APPLICATION_AT, VERSION_AT))
    _check_version(path, version if application == APPLICATION else 0)
    if application == APPLICATION:
        return
    if application == 0:  # as before there were marks; maybe no table has come out of the log into the file yet
        log = path.with_name(path.name + "-wal")
        found = _tables(path, "immutable=1")
        if not found and log.exists() and log.stat().st_size:
            found = _tables(path, "mode=ro")
        if not found or found.get("calls", set()) >= FIRST:
            return
        if len(found.get("calls", set()) & FIRST) >= len(FIRST) - 1:
            raise problem(path, f"a column is missing in it: {', '.join(FIRST - found['calls'])}", "opened")
    raise UserError(f"the store {path} is another program's file, and is left as it is: name another file in store")


def _check_version(path: Path, version: int) -> None:
    if version > VERSION:
        raise UserError(
            f"the store {path} is of version {version}, and this secondnature knows versions up to {VERSION}: update it, or "
            "name another file in store"
        )


def _tables(path: Path, mode: str) -> dict[str, set[str]]:
    """The tables in a file, and their columns."""
    with closing(connect(f"{path.absolute().as_uri()}?{mode}")) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: _columns(db, name) for name in names}


def _columns(db: sqlite3.Connection, table: str = "calls") -> set[str]:
    return {name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,))}


def _pragmas(db: sqlite3.Connection) -> tuple[int, int]:
    return tuple(db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))


def _upgrade(db: sqlite3.Connection, path: Path) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        _check_version(path, _pragmas(db)[1])
        for table in TABLES.values():
            db.execute(table)
        for table, name, kind in COLUMNS:
            if name not in _columns(db, table):
                db.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def is_reply(row: Row) -> bool:
    """Whether the columns of a reply hold what they should; SQLite lets anything stand in any of them."""
    text, finish, prompt_tokens, completion_tokens, seconds, logprob = row
    return (
        isinstance(text, str)
        and finish in ("stop", "length")
        and isinstance(prompt_tokens, int)
        and isinstance(completion_tokens, int)
        and isinstance(seconds, int | float)
        and (logprob is None or isinstance(logprob, int | float))
    )


# --- what can be saved


def salvage(path: Path) -> tuple[int, Path]:
    """Put all that can be read of a damaged store into a new one in its place.

    Returns how many calls that are, and where the damaged one is now. Raises UserError where nothing can be read, or a run
    is using it: then it is left as it is.
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
                for table in TABLES.keys() - {"calls"}:
                    _insert(db, table, _rows(copy, table))
                _insert(db, "calls", filter(_is_call, _calls(copy)))
                db.execute("COMMIT")
            except sqlite3.Error as error:
                raise UserError(f"what can be read of {path} cannot be written beside it ({error})") from error
            saved = int(db.execute("SELECT COUNT(*) FROM calls").fetchone()[0])
        if not saved:
            raise UserError(f"nothing can be read of {path}: it is left as it is; move it away to begin with a new one")
        damaged = next(
            free for n in range(1, 10**6) if not (free := path.with_name(f"{path.name}.damaged{n}")).exists()
        )
        path.rename(damaged)
        if log.exists():
            log.rename(damaged.with_name(damaged.name + "-wal"))
        path.with_name(path.name + "-shm").unlink(missing_ok=True)
        fresh.rename(path)
    return saved, damaged


def _insert(db: sqlite3.Connection, table: str, rows: Iterable[Row]) -> None:
    width = len(_columns(db, table))
    places = ", ".join("?" * width)
    db.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({places})", ((*row, None)[:width] for row in rows))


def _opens(path: Path) -> bool:
    """Whether SQLite finds the table of calls."""
    try:
        with closing(connect(path)) as db:
            return bool(_columns(db))
    except sqlite3.Error:
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


def _rows(path: Path, table: str) -> Iterator[Row]:
    """The rows of a table, up to the first that is damaged."""
    with closing(connect(path)) as db, suppress(sqlite3.Error):
        yield from db.execute(f"SELECT * FROM {table}")


def _calls(copy: Path) -> Iterator[Row]:
    """The rows on every page that can be read, whatever is damaged between them: each is read as if it were the table."""
    with closing(connect(copy)) as db, suppress(sqlite3.Error):
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
            with closing(connect(f"{copy.as_uri()}?immutable=1")) as db:
                db.text_factory = _text_or_none
                found: list[int] = []
                with suppress(sqlite3.Error):
                    for (rowid,) in db.execute("SELECT rowid FROM calls NOT INDEXED"):
                        found.append(rowid)
                for rowid in found:
                    with suppress(sqlite3.Error):
                        yield from db.execute("SELECT * FROM calls NOT INDEXED WHERE rowid = ?", (rowid,))


def _text_or_none(text: bytes) -> str | None:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None


def _is_call(row: Row) -> bool:
    try:
        key, model, messages, decoding, *reply = (*row, None)[:10]
        turns, drawn = json.loads(str(messages)), json.loads(str(decoding))
        return all(isinstance(text, str) for text in (key, model)) and bool(
            isinstance(drawn, dict) and [(turn["role"], turn["content"]) for turn in turns] and is_reply(reply)
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
