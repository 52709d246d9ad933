"""The durable log of every model call. Resuming is a look-up in it; everything after sampling is a function of it."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from secondnature.store_file import (
    REPLY,
    SQLITE_ERRORS,
    NewCall,
    connect,
    conversation,
    insert,
    is_reply,
    open_to_read,
    open_to_write,
    problem,
)
from secondnature.types import Call, Decoding, Message, Reply, Request

_encode = json.JSONEncoder(ensure_ascii=False).encode


class Store:
    """A SQLite file in WAL mode with `synchronous=FULL`: a reply that `put` returned survives a kill and a power cut.

    A thread writes, so that nothing waits for the disk but the replies themselves; those that come while it writes share
    the next transaction.
    """

    def __init__(self, path: Path, *, read_only: bool = False):
        """Raises UserError where it cannot be opened, or is no store; one that is read only must be there."""
        self.path = path
        self._calls: list[NewCall] = []
        self._results: list[tuple[str, str]] = []
        self._next: asyncio.Task[bool] | None = None  # writes what is in the buffers
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
        except SQLITE_ERRORS as error:
            raise problem(self.path, error, "read") from error

    def _reply(self, row: Sequence[Any]) -> Reply:
        if not is_reply(row):
            raise problem(self.path, "a row holds no reply", "read")
        return Reply(*row)

    async def put(
        self,
        key: str,
        model: str,
        request: Request,
        reply: Reply,
        purpose: tuple[str | None, str | None, int | None] = (None, None, None),
    ) -> Reply:
        """Store a reply; returns, once it is on disk, the one that stays: another run that shares the store may be faster.

        `purpose` is the example, the system and the sample that the call was made for; it is no part of the key. Raises
        UserError where the store cannot be written (a full disk, a read-only file).
        """
        turns = tuple((message.role, message.content) for message in request.messages)
        columns = tuple(getattr(reply, name) for name in REPLY.split(", "))
        self._calls.append(NewCall(key, model, _encode(decoding_dict(request.decoding)), turns, columns, purpose))
        return reply if await self._flushed() else self.get(key) or reply

    def call(self, key: str) -> Call | None:
        """A stored call as a trace shows it, or None."""
        row = self._row(f"SELECT messages, {REPLY} FROM calls WHERE key = ?", key)
        return None if row is None else Call(key, self._messages(row[0]), self._reply(row[1:]))

    def _messages(self, numbers: str) -> tuple[Message, ...]:
        try:
            return tuple(Message(role, content) for role, content in conversation(self._reading, numbers))  # type: ignore[arg-type]
        except (sqlite3.Error, ValueError) as error:
            raise problem(self.path, error, "read") from error

    def result(self, key: str) -> Any:
        """What was stored under this key by `put_result`; None where nothing was."""
        row = self._row("SELECT value FROM results WHERE key = ?", key)
        return None if row is None else json.loads(row[0])

    async def put_result(self, key: str, value: object) -> None:
        """Store what a user's own function made, as JSON, instead of what is there; on disk once this returns."""
        self._results.append((key, _encode(value)))
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
        calls, self._calls = self._calls, []
        results, self._results = self._results, []
        self._next = None
        return await asyncio.to_thread(self._write, calls, results)

    def _write(self, calls: list[NewCall], results: list[tuple[str, str]]) -> bool:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            inserted = insert(self._db, calls)
            self._db.executemany(
                "INSERT INTO results (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                results,
            )
            self._db.execute("COMMIT")
        except SQLITE_ERRORS as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise problem(self.path, error, "written") from error
        return inserted == len(calls)

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
                yield key, [*self._messages(messages)], self._reply(reply)
        except SQLITE_ERRORS as error:
            raise problem(self.path, error, "read") from error

    def version(self) -> int:
        """A number that is another one once somebody else has stored a reply."""
        return self._row("PRAGMA data_version")[0]

    def close(self) -> None:
        self._reading.close()
        self._db.close()


def decoding_dict(decoding: Decoding) -> dict[str, float | int]:
    """What of the sampling parameters decides a reply: a greedy one does not depend on top-p."""
    if decoding.temperature == 0:
        return {"temperature": 0.0, "max_tokens": decoding.max_tokens}
    return {"temperature": decoding.temperature, "top_p": decoding.top_p, "max_tokens": decoding.max_tokens}
