"""The store's file: its tables, whose it is, which version of it, and what to do where it is damaged."""

import hashlib
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

from secondnature.types import UserError

SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)  # SQLite's own message may quote damaged bytes
# What makes the file ours, and which version of its tables it has: SQLite's application_id and user_version, which stand at
# these places of its first 100 bytes. The version counts up with each change of TABLES.
APPLICATION, VERSION = 0x53324E44, 2
MAGIC, VERSION_AT, APPLICATION_AT = b"SQLite format 3\0", 60, 68
# All have rowids: rows are appended, and the indexes stay small. No table has the columns of another, so that `salvage` knows
# whose a row is, whatever else is lost.
TABLES = """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,       -- a digest of all that decides the reply
    model INTEGER NOT NULL,         -- of `names`, as the two below
    decoding INTEGER NOT NULL,
    messages TEXT NOT NULL,         -- ids of `messages`, in their order, with commas between them
    text TEXT NOT NULL,
    finish TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL,
    logprob REAL,
    example INTEGER,                -- what it was first made for: of `names`
    system INTEGER,                 -- of `names`
    sample INTEGER
);
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, role TEXT NOT NULL, content TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS results (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL);
"""  # `results` of a user's own functions are read back from here, so that looking at a run needs none of its code
REPLY = "text, finish, prompt_tokens, completion_tokens, seconds, logprob"  # the columns of a Reply
OLD_COLUMNS = {
    "key",
    "model",
    "messages",
    "decoding",
    "text",
    "finish",
    "prompt_tokens",
    "completion_tokens",
    "seconds",
}
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH)

Row = Sequence[Any]


class NewCall(NamedTuple):
    """A call to be stored: `reply` has the columns of REPLY, `purpose` the example, system and sample that it is made for."""

    key: str
    model: str
    decoding: str
    messages: tuple[tuple[str, str], ...]  # (role, content)
    reply: Row
    purpose: tuple[str | None, str | None, int | None] = (None, None, None)


def insert(db: sqlite3.Connection, calls: Sequence[NewCall]) -> int:
    """Insert the calls that are not there, with the messages and names that they need; returns how many were not."""
    turns = {message_digest(*turn): turn for call in calls for turn in call.messages}
    names = {n for c in calls for n in (c.model, c.decoding, *c.purpose[:2]) if n is not None}
    db.executemany(
        "INSERT OR IGNORE INTO messages (digest, role, content) VALUES (?, ?, ?)",
        ((digest, *turn) for digest, turn in turns.items()),
    )
    db.executemany("INSERT OR IGNORE INTO names (name) VALUES (?)", ((name,) for name in names))
    numbers: dict[Any, int | None] = {None: None}
    for digest, turn in turns.items():
        numbers[turn] = db.execute("SELECT id FROM messages WHERE digest = ?", (digest,)).fetchone()[0]
    for name in names:
        numbers[name] = db.execute("SELECT id FROM names WHERE name = ?", (name,)).fetchone()[0]
    done = db.executemany(
        f"INSERT OR IGNORE INTO calls (key, model, decoding, messages, {REPLY}, example, system, sample) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (
                call.key,
                numbers[call.model],
                numbers[call.decoding],
                ",".join(str(numbers[turn]) for turn in call.messages),
                *call.reply,
                numbers[call.purpose[0]],
                numbers[call.purpose[1]],
                call.purpose[2],
            )
            for call in calls
        ),
    )
    return done.rowcount


def message_digest(role: str, content: str) -> bytes:
    return hashlib.sha256(f"{role}\n{content}".encode()).digest()[:16]


def conversation(db: sqlite3.Connection, numbers: str) -> list[tuple[str, str]]:
    """The messages with these ids, as (role, content). Raises ValueError for what are no ids."""
    found: list[tuple[str, str]] = []
    for number in numbers.split(","):
        row = db.execute("SELECT role, content FROM messages WHERE id = ?", (int(number),)).fetchone()
        found.append(("user", "(this message was lost)") if row is None else row)
    return found


# --- opening


def open_to_write(path: Path) -> sqlite3.Connection:
    """The store's connection that writes.

    Raises UserError where it is another program's file, which is then left as it is, or another version's, or damaged.
    """
    try:
        check(path)
        db = connect(path)
        if _pragmas(db) != (APPLICATION, VERSION):
            _create(db)  # before there is a log: the marks must stand in the file itself
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA wal_autocheckpoint=10000")  # pages: seldom, since keys touch pages at random
    except SQLITE_ERRORS as error:
        raise problem(path, error, "opened") from error
    return db


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, also while a run has the store open; text that is not UTF-8 is no error.

    Raises UserError as `open_to_write` does, and where nothing was stored yet.
    """
    try:
        check(path)
        uri = path.absolute().as_uri()
        db = connect(f"{uri}?mode=ro")
        try:
            names = columns(db)
        except sqlite3.OperationalError:
            db.close()
            if os.access(path.parent, os.W_OK):
                raise
            # Where nothing can be written nobody writes: then SQLite needs no files of its own beside the store.
            db = connect(f"{uri}?immutable=1")
            names = columns(db)
    except SQLITE_ERRORS as error:
        raise problem(path, error, "opened") from error
    if not names:
        db.close()
        raise UserError(f"the store {path} is empty: run `secondnature sample` on its run first")
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
    """Raises UserError for a file that is no store of this version. Nothing is written, not even a lock."""
    if str(path) == ":memory:" or not path.exists():
        return
    with path.open("rb") as file:
        head = file.read(100)
    if not head:
        return
    if not head.startswith(MAGIC):
        raise problem(path, "it does not begin as a SQLite file does", "opened")
    application, version = (int.from_bytes(head[at : at + 4]) for at in (APPLICATION_AT, VERSION_AT))
    if application == APPLICATION:
        _check_version(path, version)
        return
    if application == 0:  # maybe from before there were marks, or no table has come out of the log into the file yet
        found = _tables(path, "immutable=1")
        log = path.with_name(path.name + "-wal")
        if not found and log.exists() and log.stat().st_size:
            found = _tables(path, "mode=ro")
        if not found:
            return
        if len(found.get("calls", set()) & OLD_COLUMNS) >= len(OLD_COLUMNS) - 1:
            _check_version(path, 0)
    raise UserError(f"the store {path} is another program's file, and is left as it is: name another file in store")


def _check_version(path: Path, version: int) -> None:
    if version < VERSION:
        raise UserError(
            f"the store {path} was written by an older secondnature: `secondnature salvage {quote(str(path))}` converts it, "
            "and keeps the old one beside it; then run the same command again"
        )
    if version > VERSION:
        raise UserError(
            f"the store {path} is of version {version}, and this secondnature knows versions up to {VERSION}: update it, or "
            "name another file in store"
        )


def _tables(path: Path, mode: str) -> dict[str, set[str]]:
    """The tables in a file, and their columns."""
    with closing(connect(f"{path.absolute().as_uri()}?{mode}")) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: columns(db, name) for name in names}


def columns(db: sqlite3.Connection, table: str = "calls") -> set[str]:
    return {name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,))}


def _pragmas(db: sqlite3.Connection) -> tuple[int, int]:
    return tuple(db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))


def _create(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        for table in TABLES.split(";"):
            db.execute(table)
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
