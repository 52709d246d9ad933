"""Recipes and run folders of others: their code runs, and a key leaves, only after a yes."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import secondnature as sn
from conftest import Finished
from faulty_server import FaultyServer, running
from secondnature import trust
from secondnature.recipe_file import load_recipe
from secondnature.types import UserError
from secondnature.user_code import UserFunction
from secondnature.view.run_view import RunView

Cli = Callable[..., Finished]
Recipes = Callable[..., Path]
SECRET = "not-for-you-0123456789"
OWN = """
from secondnature.perturb import Variant

async def think(example, ask):
    return (await ask(example.text + " Think.")) + "\\nThe answer is: yes"

async def plain(example, ask):
    return await ask(example.text)

async def same(example, ask):
    return Variant(example, lambda answer: answer)
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "mine.py"


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """A file that is there once the code of `mine` was run."""
    return tmp_path / "ran"


@pytest.fixture
def own(mine: Path, ran: Path, recipe: Recipes) -> Path:
    """A recipe that names Python wherever a recipe may."""
    mine.write_text(f"open({str(ran)!r}, 'w').close()\n{OWN}")
    return recipe(
        prompts=6,
        technique={"name": "mine.py:think"},
        verify={"perturb": ["mine.py:same"]},
        evaluate={
            "baselines": {"b": {"name": "mine.py:plain"}},
            "perturb": ["mine.py:same"],
            "latency_prompts": 1,
            "regression": False,
        },
    )


def refused(done: Finished, *words: str) -> None:
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


def test_python_in_a_recipe_runs_after_a_yes_that_is_remembered_until_it_changes(
    own: Path, mine: Path, ran: Path, cli: Cli, tmp_path: Path
) -> None:
    for command in ("distill", "look"):
        refused(cli(command, own, "--out", tmp_path / "run", "--quiet"), f"run the Python file {mine}", "--trust")
    for command in ("sample", "evaluate"):
        refused(cli(command, tmp_path / "run", "--recipe", own, "--quiet"), f"run the Python file {mine}", "--trust")
    planned = cli("distill", own, "--out", tmp_path / "run", "--dry-run")
    assert (planned.returncode, "is not run without --trust" in planned.stdout) == (0, True)
    assert not ran.exists(), "nothing has run so far"
    assert cli("look", own, "--out", tmp_path / "run", "--trust", "--quiet").returncode == 0
    assert ran.exists()
    assert cli("distill", own, "--out", tmp_path / "run", "--quiet").returncode == 0, "remembered"
    assert "1.0 a sample" in cli("distill", own, "--out", tmp_path / "run", "--dry-run").stdout
    mine.write_text(mine.read_text() + "# another file now\n")
    refused(cli("sample", tmp_path / "run", "--quiet"), "--trust")


def test_from_python_too(own: Path, ran: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trust=True"):
        sn.distill(own, tmp_path / "run", quiet=True)
    assert not ran.exists()
    run = sn.distill(own, tmp_path / "run", quiet=True, trust=True)
    assert run.verdict == "inconclusive"
    assert ran.exists()


@pytest.mark.parametrize("then", ["gone", "evil"])
def test_a_run_of_somebody_else_is_looked_at_without_its_code(
    then: str, own: Path, mine: Path, ran: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert cli("distill", own, "--out", run, "--trust", "--quiet").returncode == 0
    kept, report = (run / "curated.jsonl").read_bytes(), json.loads((run / "report.json").read_text())
    assert report["systems"]["system2"]["n"] == 8
    assert report["systems"]["system2"]["stability"]
    ran.unlink()
    monkeypatch.setenv("SECONDNATURE_CONFIG", str(tmp_path / "nobody"))
    if then == "evil":
        mine.write_text(f"open({str(ran)!r}, 'w').close()\n")
    else:
        mine.unlink()
    for command in ("verify", "report"):
        done = cli(command, run, "--quiet")
        if then == "evil":  # it is another file than the one that the run's replies belong to
            assert (done.returncode, "sampling is not finished" in done.stderr) == (2, True) or command == "report"
        else:
            assert done.returncode == 0, done.stderr
    assert cli("export", run, "--dataset-only", "--out", tmp_path / "out").returncode == 0
    view = RunView(run)
    view.train_list("", "", "", 1)
    view.all_answers()
    assert not ran.exists()
    if then != "evil":
        assert (run / "curated.jsonl").read_bytes() == kept
        again = json.loads((run / "report.json").read_text())
        for key in ("systems", "curation", "verdict"):
            assert again[key] == report[key]
        refused(cli("evaluate", run, "--set", "evaluate.votes=[2]", "--quiet"), "mine.py")


def test_benchmark_tasks_of_ones_own_are_code_too(recipe: Recipes, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "t.yaml").write_text("task: t\nprocess_docs: !function evil.f\n")
    file = recipe(evaluate={"lm_eval": {"tasks": ["t"], "include_path": "tasks"}, "latency_prompts": 0})
    refused(cli("sample", tmp_path / "run", "--recipe", file, "--quiet"), "benchmark tasks", str(tmp_path / "tasks"))
    assert cli("sample", tmp_path / "run", "--recipe", file, "--trust", "--quiet").returncode == 0
    (tmp_path / "tasks" / "evil.py").write_text("f = 1\n")
    refused(cli("sample", tmp_path / "run", "--quiet"), "benchmark tasks")


# --- keys


@pytest.fixture
def serve() -> Iterator[Callable[..., FaultyServer]]:
    with ExitStack() as stack:

        def start(key: str | None = None) -> FaultyServer:
            return stack.enter_context(running(FaultyServer(key=key)))

        yield start


def at(server: FaultyServer, recipe: Recipes, **engine: Any) -> Path:
    return recipe(prompts=2, held_out=2, model=f"{server.url}#small", engine=engine or None)


@pytest.mark.parametrize("command", [("distill", "--dry-run"), ("distill",), ("distill", "--trust"), ("look",)])
def test_a_recipe_does_not_choose_what_of_the_environment_is_sent(
    command: tuple[str, ...], serve: Callable[..., FaultyServer], recipe: Recipes, cli: Cli, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    server = serve()
    done = cli(
        command[0], at(server, recipe, api_key_env="AWS_SECRET_ACCESS_KEY"), "--out", tmp_path / "run", *command[1:]
    )
    if "--dry-run" not in command:
        refused(done, "a recipe alone may not name this variable", server.url.removesuffix("/v1"), "SECONDNATURE_KEYS")
    assert server.heads == [], "nothing was asked"


def test_a_key_goes_to_its_own_host_and_elsewhere_after_a_yes(
    serve: Callable[..., FaultyServer], recipe: Recipes, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, other = serve(), serve()
    monkeypatch.setenv("GROQ_API_KEY", SECRET)
    named = at(server, recipe, api_key_env="GROQ_API_KEY")
    refused(cli("sample", tmp_path / "a", "--recipe", named, "--quiet"), "GROQ_API_KEY", server.url.removesuffix("/v1"))
    assert server.heads == []
    assert cli("sample", tmp_path / "a", "--recipe", named, "--quiet", "--trust").returncode == 0
    assert all(SECRET in head for head in server.heads)
    refused(
        cli("sample", tmp_path / "a", "--set", f"model={other.url}#small", "--quiet"), other.url.removesuffix("/v1")
    )
    assert other.heads == []
    own = recipe(model="https://api.groq.com/openai/v1#m", engine={"api_key_env": "GROQ_API_KEY"})
    assert trust.missing(load_recipe(own)) == []


def test_the_usual_key_stays_here_until_a_yes(
    serve: Callable[..., FaultyServer], recipe: Recipes, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    server, locked = serve(), serve(key=SECRET)
    done = cli("sample", tmp_path / "run", "--recipe", at(server, recipe))
    assert done.returncode == 0
    assert "OPENAI_API_KEY is not sent" in done.stderr
    assert server.heads
    assert not any(SECRET in head for head in server.heads)
    file = at(locked, recipe)
    refused(cli("sample", tmp_path / "other", "--recipe", file, "--quiet"), "HTTP 401", "--trust")
    assert cli("sample", tmp_path / "other", "--recipe", file, "--quiet", "--trust").returncode == 0


def test_a_file_that_changes_after_the_yes_does_not_run(mine: Path, ran: Path) -> None:
    mine.write_text("async def f(example, ask): ...\n")
    function = UserFunction("technique", f"{mine}:f")
    mine.write_text(f"open({str(ran)!r}, 'w').close()\n")
    with pytest.raises(UserError, match="has changed since"):
        function.load()
    assert not ran.exists()
