"""The store: what was put is there, after a kill and on a full disk too."""

import asyncio
import contextlib
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Finished
from secondnature.store import Store
from secondnature.types import Call, Decoding, Message, Reply, Request, UserError

ASKED = Request((Message("system", "Be brief."), Message("user", "São Tomé? 東京")), Decoding(0.7, 0.9, 16), 7)


def reply(text: str) -> Reply:
    return Reply(text, "stop", 12, 3, 0.25)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.sqlite"


def test_what_was_put_is_found_again_in_a_new_process_of_the_store(path: Path) -> None:
    given = Reply("naïve\nyes \u2028", "length", 12, 3, 0.25)
    store = Store(path)
    asyncio.run(store.put("k", "m", ASKED, given))
    assert store.get("other") is None
    store.close()
    again = Store(path)
    assert again.get("k") == given
    assert list(again.calls()) == [("k", list(ASKED.messages), given)]


def test_many_replies_of_one_moment_are_all_stored_in_one_transaction(path: Path) -> None:
    store = Store(path)
    statements: list[str] = []
    store._db.set_trace_callback(statements.append)

    async def put_all() -> None:
        await asyncio.gather(*(store.put(f"k{i:03}", "m", ASKED, reply(str(i))) for i in range(200)))

    asyncio.run(put_all())
    assert statements.count("COMMIT") == 1
    assert len(store) == 200
    assert [found.text for _, _, found in store.calls()] == [str(i) for i in range(200)]


def test_a_message_is_stored_once_however_many_calls_have_it(path: Path) -> None:
    store = Store(path)
    shown = Message("system", "An example. " * 1000)
    asked = [Request((shown, Message("user", f"Question {i % 10}")), Decoding(0.7), i) for i in range(100)]

    async def put_all() -> None:
        puts = (store.put(f"k{i:03}", "m", request, reply("yes"), ("e1", "cot", i)) for i, request in enumerate(asked))
        await asyncio.gather(*puts)

    asyncio.run(put_all())
    assert [messages for _, messages, _ in store.calls()] == [[*request.messages] for request in asked]
    assert store.call("k007") == Call("k007", asked[7].messages, reply("yes"))
    store.close()
    assert path.stat().st_size < 100_000
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT COUNT(*) FROM messages").fetchone() == (11,)
        purpose = (
            "SELECT e.name, s.name, sample FROM calls JOIN names e ON e.id = example JOIN names s ON s.id = system"
        )
        assert db.execute(f"{purpose} WHERE key = 'k042'").fetchone() == ("e1", "cot", 42)


def test_a_store_knows_the_tokens_of_its_calls(path: Path) -> None:
    store = Store(path)
    assert store.tokens() == (0, 0)
    for key in ("a", "b"):
        asyncio.run(store.put(key, "m", ASKED, reply("yes")))
    assert store.tokens() == (24, 6)


def test_the_first_reply_to_a_call_stays_whoever_stored_it(path: Path) -> None:
    store, other = Store(path), Store(path)
    assert asyncio.run(store.put("k", "m", ASKED, reply("first"))) == reply("first")
    assert asyncio.run(store.put("k", "m", ASKED, reply("second"))) == reply("first")
    assert asyncio.run(other.put("k", "m", ASKED, reply("third"))) == reply("first")
    assert store.get("k") == reply("first")
    assert len(store) == 1


def test_replies_that_come_while_others_are_written_share_the_next_transaction(path: Path) -> None:
    store = Store(path)
    statements: list[str] = []
    store._db.set_trace_callback(statements.append)
    write, writing, go_on = store._write, threading.Event(), threading.Event()

    def slow(*buffers: Any) -> bool:
        writing.set()
        assert go_on.wait(10)
        return write(*buffers)

    store._write = slow  # type: ignore[method-assign]

    async def put_all() -> None:
        first = asyncio.create_task(store.put("k", "m", ASKED, reply("0")))
        await asyncio.to_thread(writing.wait, 10)
        rest = [asyncio.create_task(store.put(f"k{i}", "m", ASKED, reply(str(i)))) for i in range(50)]
        await asyncio.sleep(0.01)
        assert store.get("k") is None, "reading does not wait for writing"
        go_on.set()
        await asyncio.gather(first, *rest)

    asyncio.run(put_all())
    assert statements.count("COMMIT") == 2
    assert len(store) == 51


def test_a_large_store_opens_at_once_and_answers_quickly(path: Path) -> None:
    store = Store(path)

    async def put_all() -> None:
        await asyncio.gather(*(store.put(f"{i:064x}", "m" * 200, ASKED, reply("yes" * 50)) for i in range(20_000)))

    asyncio.run(put_all())
    store.close()
    started = time.process_time()
    again = Store(path)
    assert time.process_time() - started < 0.5
    started = time.process_time()
    assert all(again.get(f"{i:064x}") for i in range(0, 20_000, 4))
    assert 5000 / (time.process_time() - started) > 5000, "look-ups a second; a busy machine is allowed for"


def test_a_stored_reply_outlives_a_kill(path: Path) -> None:
    script = f"""
import asyncio, os, signal
from pathlib import Path
from secondnature.store import Store
from secondnature.types import Decoding, Message, Reply, Request
async def main():
    store = Store(Path({str(path)!r}))
    for i in range(50):
        await store.put(f"k{{i}}", "m", Request((Message("user", "x"),), Decoding(), None), Reply("yes", "stop", 1, 1, 0.1))
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    store = Store(path)
    assert len(store) == 50
    assert store.get("k49") == Reply("yes", "stop", 1, 1, 0.1)


def test_a_full_store_says_so_keeps_what_it_has_and_goes_on_when_there_is_room(path: Path) -> None:
    store = Store(path)
    asyncio.run(store.put("before", "m", ASKED, reply("yes")))
    store._db.execute("PRAGMA max_page_count = 12")

    async def put_large() -> None:
        await asyncio.gather(*(store.put(f"k{i}", "m", ASKED, reply("x" * 9000)) for i in range(5)))

    with pytest.raises(UserError, match="cannot be written .*full.*: what was stored before is safe; put that right"):
        asyncio.run(put_large())
    assert store.get("before") == reply("yes")
    assert len(store) == 1, "a transaction is stored whole or not at all"
    store._db.execute("PRAGMA max_page_count = 1000")
    asyncio.run(put_large())
    assert len(store) == 6


def test_a_run_that_fills_the_disk_ends_in_one_line_and_is_resumed(
    recipe: Callable[..., Path], secondnature: Callable[..., Finished], tmp_path: Path
) -> None:
    def small_files() -> None:  # writing past the limit fails, as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))

    command = ("distill", recipe(prompts=60), "--out", tmp_path / "run", "--quiet")
    full = secondnature(*command, preexec_fn=small_files)
    assert full.returncode == 2, full.stderr
    [line] = full.stderr.splitlines()
    assert line.startswith("error: the store")
    assert "run the same command again" in line
    stored = len(Store(tmp_path / "run" / "calls.sqlite"))
    assert stored > 0
    assert secondnature(*command).returncode == 0
    assert len(Store(tmp_path / "run" / "calls.sqlite")) > stored


@pytest.mark.parametrize("content", [b"this is no database " * 100, b"\x00\xff" * 4096])
def test_a_file_that_is_no_store_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be opened"):
        Store(path)
    assert path.read_bytes() == content


def test_a_folder_that_is_not_there_is_refused(path: Path) -> None:
    with pytest.raises(UserError, match="cannot be opened"):
        Store(path.parent / "missing" / "calls.sqlite")
