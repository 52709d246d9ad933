"""The durable log of every model call. Resuming is a look-up in it; everything after sampling is a function of it."""

import asyncio
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from secondnature.types import Call, Decoding, Message, Reply, Request, UserError

SCHEMA = """
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
"""  # with rowids: replies are appended, and the index of keys stays small; without, each reply would rewrite a random page
# What a user's own functions made of replies: it is read back from here, so that looking at a run needs none of its code.
MADE = "CREATE TABLE IF NOT EXISTS made (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)"

REPLY = "text, finish, prompt_tokens, completion_tokens, seconds, logprob"  # the columns of a Reply

_encode = json.JSONEncoder(ensure_ascii=False).encode


class Store:
    """A SQLite file in WAL mode with `synchronous=FULL`: a reply that `put` returned survives a kill and a power cut.

    A thread writes, so that nothing waits for the disk but the replies themselves; those that come while it writes share
    the next transaction.
    """

    def __init__(self, path: Path, *, read_only: bool = False):
        """Raises UserError where it cannot be opened; one that is read only must be there."""
        self.path = path
        self._buffer: list[tuple[str | int | float | None, ...]] = []
        self._made: list[tuple[str, str]] = []
        self._next: asyncio.Task[bool] | None = None  # writes what is in the buffer
        self._last: asyncio.Task[bool] | None = None  # writes now, unless it is the next or done
        try:
            if read_only:
                self._db = self._reading = connect_to_read(path)
                return
            self._db = _connect(path)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA wal_autocheckpoint=10000")  # pages: seldom, since keys touch pages at random
            self._db.execute(SCHEMA)
            self._db.execute(MADE)
            if "logprob" not in (row[1] for row in self._db.execute("PRAGMA table_info(calls)")):
                self._db.execute("ALTER TABLE calls ADD COLUMN logprob REAL")  # a store from before there were any
            self._reading = self._db if str(path) == ":memory:" else _connect(path)  # never waits for the writing one
        except sqlite3.Error as error:
            raise UserError(f"the store {path} cannot be opened ({error})") from error

    def get(self, key: str) -> Reply | None:
        """The stored reply of a call, or None."""
        row = self._reading.execute(f"SELECT {REPLY} FROM calls WHERE key = ?", (key,)).fetchone()
        return Reply(*row) if row is not None else None

    async def put(self, key: str, model: str, request: Request, reply: Reply) -> Reply:
        """Store a reply; returns, once it is on disk, the one that stays: another run that shares the store may be faster.

        Raises UserError where it cannot be written (a full disk, a read-only file).
        """
        self._buffer.append(
            (
                key,
                model,
                _encode([message.as_dict() for message in request.messages]),
                _encode(decoding_dict(request.decoding)),
                reply.text,
                reply.finish,
                reply.prompt_tokens,
                reply.completion_tokens,
                reply.seconds,
                reply.logprob,
            )
        )
        return reply if await self._flushed() else self.get(key) or reply

    def call(self, key: str) -> Call | None:
        """A stored call as a trace shows it, or None."""
        row = self._reading.execute(f"SELECT messages, {REPLY} FROM calls WHERE key = ?", (key,)).fetchone()
        return Call(key, _messages(row[0]), Reply(*row[1:])) if row is not None else None

    def made(self, key: str) -> Any:
        """What was kept under this key by `keep`; None where nothing was."""
        try:
            row = self._reading.execute("SELECT value FROM made WHERE key = ?", (key,)).fetchone()
        except sqlite3.OperationalError:  # a store from before there was the table, opened for reading alone
            return None
        return json.loads(row[0]) if row is not None else None

    async def keep(self, key: str, value: object) -> None:
        """Keep what an own function made, as JSON, instead of what is there; on disk once this returns."""
        self._made.append((key, _encode(value)))
        await self._flushed()

    async def _flushed(self) -> bool:
        """Wait until what is in the buffers is on disk; whether all calls in them were new."""
        if self._next is None or self._next.done():
            self._next = self._last = asyncio.create_task(self._flush(self._last))
        return await asyncio.shield(self._next)

    async def _flush(self, before: "asyncio.Task[bool] | None") -> bool:
        """Write the buffer once the transaction `before` has ended; whether all in it was new."""
        if before is not None and not before.done():
            await asyncio.wait([before])
        buffer, self._buffer = self._buffer, []
        made, self._made = self._made, []
        self._next = None
        return await asyncio.to_thread(self._write, buffer, made)

    def _write(self, buffer: list[tuple[str | int | float | None, ...]], made: list[tuple[str, str]]) -> bool:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            done = self._db.executemany("INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", buffer)
            self._db.executemany("INSERT OR REPLACE INTO made VALUES (?, ?)", made)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise UserError(
                f"the store {self.path} cannot be written ({error}): what was stored before is safe; "
                "put that right and run the same command again"
            ) from error
        return done.rowcount == len(buffer)

    def __len__(self) -> int:
        return int(self._reading.execute("SELECT COUNT(*) FROM calls").fetchone()[0])

    def tokens(self) -> tuple[int, int]:
        """The prompt tokens and the completion tokens of all calls."""
        return self._reading.execute(
            "SELECT COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0) FROM calls"
        ).fetchone()

    def calls(self) -> Iterator[tuple[str, list[Message], Reply]]:
        """Every call by key: (key, messages, reply)."""
        rows = self._reading.execute(f"SELECT key, messages, {REPLY} FROM calls ORDER BY key")
        for key, messages, *reply in rows:
            yield key, [*_messages(messages)], Reply(*reply)

    def totals_after(self, rowid: int) -> tuple[int, int, int, int]:
        """Of the calls stored after the one in row `rowid`: the last row, how many, their prompt and completion tokens."""
        return self._reading.execute(
            "SELECT COALESCE(MAX(rowid), 0), COUNT(*), COALESCE(SUM(prompt_tokens), 0), "
            "COALESCE(SUM(completion_tokens), 0) FROM calls WHERE rowid > ?",
            (rowid,),
        ).fetchone()

    def version(self) -> int:
        """A number that is another one once somebody else has stored a reply."""
        return int(self._reading.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        self._reading.close()
        self._db.close()


def _messages(stored: str) -> tuple[Message, ...]:
    return tuple(Message(turn["role"], turn["content"]) for turn in json.loads(stored))


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, also while a run has the store open; text that is not UTF-8 is no error."""
    uri = path.absolute().as_uri()
    db = sqlite3.connect(f"{uri}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
    try:
        db.execute("SELECT 1 FROM calls LIMIT 1")
    except sqlite3.OperationalError:
        db.close()
        if os.access(path.parent, os.W_OK):
            raise
        # Where nothing can be written nobody writes: then SQLite needs no files of its own beside the store.
        db = sqlite3.connect(f"{uri}?immutable=1", uri=True, isolation_level=None, check_same_thread=False)
        db.execute("SELECT 1 FROM calls LIMIT 1")
    db.text_factory = _decode
    return db


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def decoding_dict(decoding: Decoding) -> dict[str, float | int]:
    """What of the sampling parameters decides a reply: a greedy one does not depend on top-p."""
    if decoding.temperature == 0:
        return {"temperature": 0.0, "max_tokens": decoding.max_tokens}
    return {"temperature": decoding.temperature, "top_p": decoding.top_p, "max_tokens": decoding.max_tokens}
