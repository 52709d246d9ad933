"""The durable log of every model call. Resuming is a look-up in it; everything after sampling is a function of it."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from secondnature.types import Decoding, Message, Reply, Request, UserError

SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    messages TEXT NOT NULL,
    decoding TEXT NOT NULL,
    text TEXT NOT NULL,
    finish TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL
) WITHOUT ROWID
"""


class Store:
    """A SQLite file in WAL mode with `synchronous=FULL`: a reply that `put` returned survives a kill and a power cut."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(SCHEMA)
        except sqlite3.Error as error:
            raise UserError(f"the store {path} cannot be opened ({error})") from error
        self._buffer: list[tuple[str | int | float, ...]] = []
        self._written: asyncio.Future[None] | None = None

    def get(self, key: str) -> Reply | None:
        """The stored reply of a call, or None."""
        row = self._db.execute(
            "SELECT text, finish, prompt_tokens, completion_tokens, seconds FROM calls WHERE key = ?", (key,)
        ).fetchone()
        return Reply(*row) if row is not None else None

    async def put(self, key: str, model: str, request: Request, reply: Reply) -> None:
        """Store a reply; returns once it is on disk. Replies that arrive together share one transaction.

        Raises UserError where it cannot be written (a full disk, a read-only file).
        """
        self._buffer.append(
            (
                key,
                model,
                json.dumps([message.as_dict() for message in request.messages], ensure_ascii=False),
                json.dumps(decoding_dict(request.decoding)),
                reply.text,
                reply.finish,
                reply.prompt_tokens,
                reply.completion_tokens,
                reply.seconds,
            )
        )
        if self._written is None:
            loop = asyncio.get_running_loop()
            self._written = loop.create_future()
            loop.call_soon(self._flush)
        await asyncio.shield(self._written)

    def _flush(self) -> None:
        buffer, self._buffer = self._buffer, []
        written, self._written = self._written, None
        assert written is not None
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", buffer)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            written.set_exception(
                UserError(
                    f"the store {self.path} cannot be written ({error}): what was stored before is safe; "
                    "put that right and run the same command again"
                )
            )
            return
        written.set_result(None)

    def __len__(self) -> int:
        return int(self._db.execute("SELECT COUNT(*) FROM calls").fetchone()[0])

    def calls(self) -> Iterator[tuple[str, list[Message], Reply]]:
        """Every call by key: (key, messages, reply)."""
        rows = self._db.execute(
            "SELECT key, messages, text, finish, prompt_tokens, completion_tokens, seconds FROM calls ORDER BY key"
        )
        for key, messages, *reply in rows:
            yield key, [Message(m["role"], m["content"]) for m in json.loads(messages)], Reply(*reply)

    def close(self) -> None:
        self._db.close()


def decoding_dict(decoding: Decoding) -> dict[str, float | int]:
    """What of the sampling parameters decides a reply: a greedy one does not depend on top-p."""
    if decoding.temperature == 0:
        return {"temperature": 0.0, "max_tokens": decoding.max_tokens}
    return {"temperature": decoding.temperature, "top_p": decoding.top_p, "max_tokens": decoding.max_tokens}
