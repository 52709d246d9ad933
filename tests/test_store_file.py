"""The store's file: another program's is left alone, versions are known, and damage costs no call that can be read."""

import asyncio
import contextlib
import json
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Finished
from secondnature import store_file
from secondnature.salvage import salvage
from secondnature.store import Store
from secondnature.store_file import APPLICATION, VERSION, open_to_read
from secondnature.types import Decoding, Message, Reply, Request, UserError

ASKED = Request((Message("user", "São Tomé?"),), Decoding(0.7, 0.9, 16), 7)
PAGE = 4096
OLD = """CREATE TABLE calls (key TEXT PRIMARY KEY NOT NULL, model TEXT NOT NULL, messages TEXT NOT NULL, decoding TEXT NOT NULL,
text TEXT NOT NULL, finish TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
seconds REAL NOT NULL)"""


def filled(path: Path, number: int = 300, words: int = 40) -> dict[str, Reply]:
    """A store with replies, closed; by their keys."""
    replies = {f"{n:064x}": Reply(f"{n} yes " * words, "stop", 12, 3, 0.25) for n in range(number)}
    store = Store(path)

    async def put_all() -> None:
        await asyncio.gather(*(store.put(key, "m", ASKED, reply) for key, reply in replies.items()))

    asyncio.run(put_all())
    store.close()
    return replies


def sql(path: Path, *statements: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        return [db.execute(statement).fetchall() for statement in statements][-1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.sqlite"


# --- whose it is, and which version


def test_a_store_says_what_it_is_in_its_first_bytes(path: Path) -> None:
    store = Store(path)  # open: nothing may be in the log alone
    head = path.read_bytes()[:100]
    assert int.from_bytes(head[60:64]) == VERSION
    assert int.from_bytes(head[68:72]) == APPLICATION
    store.close()


@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize("table", ["places (url TEXT)", "calls (number TEXT, seconds REAL)"])
@pytest.mark.parametrize("mark", [0, 7])
def test_another_programs_file_is_refused_and_not_touched(path: Path, table: str, wal: bool, mark: int) -> None:
    sql(
        path,
        f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}",
        f"CREATE TABLE {table}",
        f"PRAGMA application_id={mark}",
    )
    before, beside = path.read_bytes(), sorted(path.parent.iterdir())
    for open_it in (Store, open_to_read):
        with pytest.raises(UserError, match="another program's file"):
            open_it(path)
    with pytest.raises(UserError):
        salvage(path)
    assert path.read_bytes() == before
    assert sorted(path.parent.iterdir()) == beside


def test_a_newer_store_is_refused_and_not_touched(path: Path) -> None:
    filled(path)
    sql(path, f"PRAGMA user_version={VERSION + 1}", "PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    for open_it in (Store, open_to_read):
        with pytest.raises(UserError, match=f"is of version {VERSION + 1}.*up to {VERSION}: update it"):
            open_it(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize("version", [0, 1])
def test_an_older_store_is_refused_and_converted_without_a_loss(path: Path, wal: bool, version: int) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "São Tomé?"}]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
        db.execute(OLD)
        if version:
            db.execute(f"PRAGMA application_id={APPLICATION}")
            db.execute("PRAGMA user_version=1")
            db.execute("ALTER TABLE calls ADD COLUMN logprob REAL")
            db.execute("CREATE TABLE made (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)")
            db.execute("INSERT INTO made VALUES ('own', '[1]')")
        last = (-0.5,) if version else ()
        rows = [(f"{n:064x}", "m", json.dumps(turns), "{}", f"{n} yes", "stop", 1, 2, 0.5, *last) for n in range(200)]
        db.executemany(f"INSERT INTO calls VALUES ({', '.join('?' * len(rows[0]))})", rows)
        for open_it in (Store, open_to_read):  # while another has it open, so that what it wrote is in the log alone
            with pytest.raises(UserError, match=f"an older secondnature: `secondnature salvage {path}` converts it"):
                open_it(path)
        if wal:
            shutil.copy(path, path.with_name("copy"))
            shutil.copy(f"{path}-wal", path.with_name("copy-wal"))
    place = path.with_name("copy") if wal else path
    before = place.read_bytes()
    saved, old = salvage(place)
    assert saved == 200
    assert old.read_bytes() == before
    store = Store(place)
    assert [(key, reply) for key, _, reply in store.calls()] == [(row[0], Reply(*row[4:])) for row in rows]
    assert next(store.calls())[1] == [Message("system", "Be brief."), Message("user", "São Tomé?")]
    assert store.result("own") == ([1] if version else None)
    store.close()
    open_to_read(place).close()


def test_many_may_open_a_new_store_at_once(path: Path) -> None:
    script = f"from pathlib import Path\nfrom secondnature.store import Store\nStore(Path({str(path)!r})).close()"
    started = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    assert [process.wait(60) for process in started] == [0] * 4


def test_a_store_is_salvaged_by_a_relative_path_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = filled(path)
    monkeypatch.chdir(path.parent)
    assert salvage(Path(path.name))[0] == len(replies)


def test_a_column_that_was_renamed_is_damage(path: Path) -> None:
    replies = filled(path)
    sql(path, "ALTER TABLE calls RENAME COLUMN text TO words")
    with pytest.raises(UserError, match="secondnature salvage"):
        Store(path).get(f"{7:064x}")
    assert salvage(path)[0] == len(replies)
    assert {key: reply for key, _, reply in Store(path).calls()} == replies


# --- damage


@pytest.mark.parametrize("damage", ["zeros", "noise", "one bit"])
def test_a_damaged_page_is_said_and_costs_only_what_stood_there(path: Path, damage: str) -> None:
    replies = filled(path, 120)
    whole, noise = path.read_bytes(), random.Random(7)
    for number in range(len(whole) // PAGE):
        content = bytearray(whole)
        start = number * PAGE
        if damage == "one bit":
            content[start + 3] ^= 1  # of the number of cells
        else:
            content[start : start + PAGE] = bytes(PAGE) if damage == "zeros" else noise.randbytes(PAGE)
        path.write_bytes(content)
        try:
            store = Store(path)
            for key, reply in replies.items():
                assert store.get(key) in (reply, None)
        except UserError as error:
            said = str(error)
            assert "damaged" in said
            assert f"`secondnature salvage {path}`" in said
        saved, damaged = salvage(path)
        assert damaged.read_bytes() == content
        assert saved >= len(replies) - PAGE // 300, (number, saved)
        store = Store(path)
        found = {key: reply for key, _, reply in store.calls()}
        assert found.items() <= replies.items()
        assert len(found) == saved
        store.close()
        damaged.unlink()


def test_what_is_in_the_log_alone_is_saved_too(path: Path) -> None:
    open_one = Store(path)
    asyncio.run(open_one.put("late", "m", ASKED, Reply("yes", "stop", 1, 2, 0.5)))
    place = path.parent / "copied"
    place.mkdir()
    for file in path.parent.glob("calls.sqlite*"):
        shutil.copy(file, place)
    copied = place / "calls.sqlite"
    copied.write_bytes(bytes(PAGE) + copied.read_bytes()[PAGE:])
    assert salvage(copied)[0] == 1
    assert Store(copied).get("late") == Reply("yes", "stop", 1, 2, 0.5)


@pytest.mark.parametrize(
    "change",
    [
        "prompt_tokens = 'many'",
        "completion_tokens = x'00'",
        "text = CAST(x'ff41' AS TEXT)",
        "text = x'00'",
        "finish = 'perhaps'",
        "seconds = 'long'",
        "logprob = 'low'",
    ],
)
def test_a_row_that_holds_no_reply_is_damage(path: Path, change: str) -> None:
    replies = filled(path, 5)
    sql(path, f"UPDATE calls SET {change} WHERE rowid = 2")
    with pytest.raises(UserError, match="damaged.*secondnature salvage"):
        Store(path).get(f"{1:064x}")
    with pytest.raises(UserError, match="damaged"):
        list(Store(path).calls())
    assert salvage(path)[0] == len(replies) - 1
    assert Store(path).get(f"{1:064x}") is None


def test_a_store_is_saved_by_a_relative_path_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = filled(path, 5)
    monkeypatch.chdir(path.parent)
    assert salvage(Path(path.name))[0] == len(replies)


def test_nothing_is_put_in_the_place_of_what_cannot_be_read(path: Path) -> None:
    path.write_bytes(b"this is no database " * 1000)
    with pytest.raises(UserError, match="nothing can be read"):
        salvage(path)
    assert path.read_bytes() == b"this is no database " * 1000
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with pytest.raises(UserError, match="there is no store"):
        salvage(path.parent / "other")


def test_a_run_goes_on_after_its_store_was_saved(
    recipe: Callable[..., Path], cli: Callable[..., Finished], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert cli("distill", recipe(prompts=40), "--out", run, "--quiet").returncode == 0
    kept, stored = (run / "curated.jsonl").read_text(), len(Store(run / "calls.sqlite"))
    sql(run / "calls.sqlite", "PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray((run / "calls.sqlite").read_bytes())
    pages = range(5, len(content) // PAGE)
    leaf = next(n for n in pages if content[n * PAGE] == 13 and b"stop" in content[n * PAGE : (n + 1) * PAGE])
    content[leaf * PAGE : (leaf + 1) * PAGE] = bytes(PAGE)
    (run / "calls.sqlite").write_bytes(content)
    done = cli("verify", run, "--quiet")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert f"secondnature salvage {run / 'calls.sqlite'}" in line
    saved = cli("salvage", run)
    assert saved.returncode == 0
    assert "calls.sqlite.old1" in saved.stdout
    assert 0 < stored - len(Store(run / "calls.sqlite")) <= 40
    assert cli("distill", recipe(prompts=40), "--out", run, "--quiet").returncode == 0
    assert (run / "curated.jsonl").read_text() == kept


# --- the view


def test_a_page_says_that_the_store_is_damaged(
    recipe: Callable[..., Path], cli: Callable[..., Finished], tmp_path: Path
) -> None:
    client = pytest.importorskip("starlette.testclient")
    from secondnature.view.app import make_app
    from secondnature.view.run_view import RunView

    run = tmp_path / "run"
    assert cli("distill", recipe(prompts=40), "--out", run, "--quiet").returncode == 0
    sql(run / "calls.sqlite", "PRAGMA wal_checkpoint(TRUNCATE)")
    whole = (run / "calls.sqlite").read_bytes()
    pages = client.TestClient(make_app([RunView(run)], loopback=False))
    paths = ("", "status", "train", "train/0", "train/39", "test", "test/0", "calls", "calls/1", "calls/9", "calls/200")
    said = 0
    for number in [*range(0, len(whole) // PAGE, 2), -1]:
        content = bytearray(whole)
        if number >= 0:
            content[number * PAGE : (number + 1) * PAGE] = bytes(PAGE)
        (run / "calls.sqlite").write_bytes(content)
        if number < 0:
            sql(run / "calls.sqlite", "UPDATE calls SET prompt_tokens = 'many', text = x'00ff'")
        for path in paths:
            answer = pages.get(f"/1/{path}")
            assert answer.status_code in (200, 409, 404)
            if answer.status_code == 409:
                said += 1
                assert "is damaged" in answer.text
                assert "secondnature salvage" in answer.text
    assert said > 10
    assert pages.get(f"/1/train/{'9' * 5000}").status_code == 404
    assert pages.get(f"/{'9' * 5000}/").status_code == 404
    assert store_file.check(run / "recipe.yaml.none") is None
