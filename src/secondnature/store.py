"""The durable log of every model call. Resuming is a look-up in it; everything after sampling is a function of it."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from secondnature.store_file import connect, is_reply, open_to_read, open_to_write, problem
from secondnature.types import Call, Decoding, Message, Reply, Request

REPLY = "text, finish, prompt_tokens, completion_tokens, seconds, logprob"  # the columns of a Reply

_encode = json.JSONEncoder(ensure_ascii=False).encode


class Store:
    """A SQLite file in WAL mode with `synchronous=FULL`: a reply that `put` returned survives a kill and a power cut.

    A thread writes, so that nothing waits for the disk but the replies themselves; those that come while it writes share
    the next transaction.
    """

    def __init__(self, path: Path, *, read_only: bool = False):
        """Raises UserError where it cannot be opened, or is no store; one that is read only must be there."""
        self.path = path
        self._buffer: list[tuple[str | int | float | None, ...]] = []
        self._made: list[tuple[str, str]] = []
        self._has_made = False  # unknown yet, or a store from before there was the table, opened for reading alone
        self._next: asyncio.Task[bool] | None = None  # writes what is in the buffer
        self._last: asyncio.Task[bool] | None = None  # writes now, unless it is the next or done
        if read_only:
            self._db = self._reading = open_to_read(path)
        else:
            self._db = open_to_write(path)
            self._reading = self._db if str(path) == ":memory:" else connect(path)  # never waits for the writing one

    def get(self, key: str) -> Reply | None:
        """The stored reply of a call, or None. Raises UserError where the store is damaged, as all that reads does."""
        row = self._row(f"SELECT {REPLY} FROM calls WHERE key = ?", key)
        return None if row is None else self._reply(row)

    def _row(self, sql: str, *values: object) -> Any:
        try:
            return self._reading.execute(sql, values).fetchone()
        except sqlite3.Error as error:
            raise problem(self.path, error, "read") from error

    def _reply(self, row: Sequence[Any]) -> Reply:
        if not is_reply(row):
            raise problem(self.path, "a row holds no reply", "read")
        return Reply(*row)

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
        row = self._row(f"SELECT messages, {REPLY} FROM calls WHERE key = ?", key)
        return None if row is None else Call(key, _messages(row[0]), self._reply(row[1:]))

    def made(self, key: str) -> Any:
        """What was kept under this key by `keep`; None where nothing was."""
        if not self._has_made:
            self._has_made = self._row("SELECT 1 FROM sqlite_master WHERE name = 'made'") is not None
        row = self._row("SELECT value FROM made WHERE key = ?", key) if self._has_made else None
        return None if row is None else json.loads(row[0])

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
            raise problem(self.path, error, "written") from error
        return done.rowcount == len(buffer)

    def __len__(self) -> int:
        return self._row("SELECT COUNT(*) FROM calls")[0]

    def tokens(self) -> tuple[int, int]:
        """The prompt tokens and the completion tokens of all calls."""
        sums = "COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0)"
        prompt, completion = self._row(f"SELECT {sums} FROM calls")
        return int(prompt), int(completion)

    def calls(self) -> Iterator[tuple[str, list[Message], Reply]]:
        """Every call by key: (key, messages, reply)."""
        try:
            for key, messages, *reply in self._reading.execute(
                f"SELECT key, messages, {REPLY} FROM calls ORDER BY key"
            ):
                yield key, [*_messages(messages)], self._reply(reply)
        except (sqlite3.Error, ValueError, TypeError, LookupError) as error:
            raise problem(self.path, error, "read") from error

    def totals_after(self, rowid: int) -> tuple[int, int, int, int]:
        """Of the calls stored after the one in row `rowid`: the last row, how many, their prompt and completion tokens."""
        last, calls, prompt, completion = self._row(
            "SELECT COALESCE(MAX(rowid), 0), COUNT(*), COALESCE(SUM(prompt_tokens), 0), "
            "COALESCE(SUM(completion_tokens), 0) FROM calls WHERE rowid > ?",
            rowid,
        )
        return last, calls, int(prompt), int(completion)

    def version(self) -> int:
        """A number that is another one once somebody else has stored a reply."""
        return self._row("PRAGMA data_version")[0]

    def close(self) -> None:
        self._reading.close()
        self._db.close()


def _messages(stored: str) -> tuple[Message, ...]:
    return tuple(Message(turn["role"], turn["content"]) for turn in json.loads(stored))


def decoding_dict(decoding: Decoding) -> dict[str, float | int]:
    """What of the sampling parameters decides a reply: a greedy one does not depend on top-p."""
    if decoding.temperature == 0:
        return {"temperature": 0.0, "max_tokens": decoding.max_tokens}
    return {"temperature": decoding.temperature, "top_p": decoding.top_p, "max_tokens": decoding.max_tokens}
