"""What the user can put right is said in one line, with exit code 2, and never as a traceback."""

import contextlib
import errno
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Finished
from secondnature.types import UserError

pytestmark = pytest.mark.usefixtures("trusting")

Cli = Callable[..., Finished]
Recipes = Callable[..., Path]


def refused(done: Finished, *words: str) -> None:
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line, line
    assert "Traceback" not in done.stdout + done.stderr


def rows(*changes: dict[str, Any]) -> str:
    """Three good rows with changes to the first ones; None removes a column."""
    good = [{"id": f"i{n}", "prompt": f"Is it {n}?", "answer": "yes", "kind": "a", "group": f"g{n}"} for n in range(3)]
    changed = [{**row, **change} for row, change in zip(good, [*changes, {}, {}, {}], strict=False)]
    return "".join(json.dumps({k: v for k, v in row.items() if v is not None}) + "\n" for row in changed)


# --- data

TURN = {"role": "user", "content": "Is it?"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (rows({"prompt": None, "promt": "x"}), ["row 1", "no column 'prompt'", "did you mean 'promt'"]),
        (rows({}, {"kind": None, "kidn": "x"}), ["row 2", "no column 'kind'", "did you mean 'kidn'"]),
        (rows() + '{"prompt": "x", }\n', ["row 4", "broken JSON"]),
        (rows() + "\n\n{\n", ["row 6", "broken JSON"]),
        (rows() + "[1]\n", ["row 4", "must be a JSON object", "list"]),
        (rows({}, {}, {"id": "i0"}), ["row 3", "'i0'", "already", "row 1"]),
        (rows({"prompt": " \n"}), ["row 1", "prompt is empty"]),
        (rows({}, {"prompt": []}), ["row 2", "a text or a list of messages"]),
        (rows({"prompt": 7}), ["row 1", "a text or a list of messages"]),
        (
            rows({"prompt": [{"role": "usr", "content": "x"}]}),
            ["row 1", "unknown role 'usr'", "system, user, assistant"],
        ),
        (rows({"prompt": [{"role": ["user"], "content": "x"}]}), ["row 1", "unknown role"]),
        (rows({"prompt": [TURN, {"role": "assistant", "content": "No."}]}), ["row 1", "last message", "user's"]),
        (rows({"prompt": [{"content": "x"}]}), ["row 1", "role and a content"]),
        (rows({"prompt": ["x"]}), ["row 1", "role and a content"]),
        (rows({"prompt": [{"role": "user", "content": ""}]}), ["row 1", "content", "not empty"]),
        (rows({"prompt": [{"role": "user", "content": [{"type": "text"}]}]}), ["row 1", "content"]),
        (rows({}, {"answer": "perhaps"}), ["row 2", "'answer'", "'perhaps'", "yes_no"]),
        (rows({"answer": 1}), ["row 1", "'answer'", "'1'"]),
        (rows({"prompt": "word " * 5000}), ["row 1", "5000 tokens", "context of 4096", "sampling.max_tokens"]),
        (rows({"id": None, "group": None, "prompt": "half \ud800"}), ["row 1", "surrogate"]),
        ("", ["train.jsonl", "no rows"]),
        ("\n \n", ["train.jsonl", "no rows"]),
    ],
)
def test_a_bad_row_is_named(content: str, words: list[str], recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    file = recipe()
    (tmp_path / "train.jsonl").write_text(content)
    refused(cli("distill", file, "--out", tmp_path / "run", "--quiet"), "train.jsonl", *words)


def test_a_test_prompt_that_is_too_long_is_found_before_anything_is_drawn(
    recipe: Recipes, cli: Cli, tmp_path: Path
) -> None:
    file = recipe()
    (tmp_path / "test.jsonl").write_text(rows({}, {"prompt": "word " * 4000}))
    run = tmp_path / "run"
    refused(cli("sample", run, "--recipe", file, "--quiet"), "test.jsonl, row 2", "4000 tokens")


def test_text_that_is_not_utf_8_is_named(recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    file = recipe()
    (tmp_path / "train.jsonl").write_bytes('{"prompt": "São?"}\n'.encode("latin-1"))
    refused(cli("distill", file, "--out", tmp_path / "run", "--quiet"), "train.jsonl", "not UTF-8")
    file.write_bytes("model: São".encode("latin-1"))
    refused(cli("distill", file, "--out", tmp_path / "run", "--quiet"), "recipe.yaml", "not UTF-8")


# --- recipes


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"data": {"train": "missing.jsonl"}}, ["there is no file", "missing.jsonl"]),
        ({"data": {"train": "."}}, ["there is no file"]),
        ({"data": {"train": "train.jsonl", "tst": "test.jsonl"}}, ["'data.tst'", "did you mean 'test'"]),
        ({"technique": {"name": "s2b"}}, ["technique", "'s2b'", "did you mean 's2a'", "secondnature techniques"]),
        ({"technique": {"name": "cot", "thnk": "x"}}, ["cot", "'thnk'", "did you mean 'think'"]),
        ({"technique": {"name": "mine.py:f"}}, ["there is no file", "mine.py"]),
        ({"technique": {"nam": "cot"}}, ["'technique.name' is missing"]),
        ({"technique": "cot"}, ["technique", "not 'cot'"]),
        ({"technique": None}, ["'technique' is missing"]),
        (
            {"technique": {"name": "bsm"}, "verify": {"perturb": ["swap"]}},
            ["verify.perturb", "bsm asks both orders itself", "both_orders: false"],
        ),
        ({"technique": {"name": "s2a", "demonstrations": [{"prompt": "x"}]}}, ["demonstrations", "'rewritten'"]),
        ({"evaluate": {"baselines": {"b": {"name": "dirct"}}}}, ["'dirct'", "did you mean 'direct'"]),
        ({"answer": {"kind": "yesno"}}, ["'yesno'", "did you mean 'yes_no'"]),
        ({"answer": {"kind": "label"}}, ["label needs its labels"]),
        ({"answer": {"kind": "label", "labels": ["a", "A"]}}, ["repeated label"]),
        ({"answer": {"kind": "yes_no", "labels": ["a", "b"]}}, ["labels belong to the kind label"]),
        ({"answer": {"kind": "label", "labels": [True, False]}}, ["answer.labels.0", "string"]),
        ({"answer": None}, ["data needs answer"]),
        ({"data": None, "task": "biased_capital"}, ["'biased_capital'", "did you mean 'biased_capitals'"]),
        ({"data": None}, ["give task", "or data"]),
        ({"data": {"test": "x.jsonl"}}, ["'data.train' is missing"]),
        ({"modle": "x"}, ["unknown key 'modle'", "did you mean 'model'"]),
        ({"sampling": {"temprature": 1}}, ["unknown key 'sampling.temprature'", "did you mean 'temperature'"]),
        ({"sampling": {"n": "many"}}, ["sampling.n", "integer", "'many'"]),
        ({"sampling": {"n": 0}}, ["sampling.n", "greater than or equal to 1"]),
        ({"sampling": [1]}, ["sampling", "dictionary"]),
        ({"sampling": {"temperature": 0}}, ["temperature 0", "n: 1"]),
        ({"verify": {"min_agreement": 75}}, ["verify.min_agreement", "less than or equal to 1"]),
        ({"engine": {"kind": "vlm"}}, ["engine.kind", "'vlm'"]),
        ({"evaluate": {"headline": "kind=odd number"}}, ["headline", "did you mean 'kind=odd'", "kind=even"]),
        ({"store": "missing/calls.sqlite"}, ["store", "cannot be opened"]),
    ],
)
def test_a_bad_recipe_says_what_is_meant(
    sections: dict[str, Any], words: list[str], recipe: Recipes, cli: Cli, tmp_path: Path
) -> None:
    refused(cli("distill", recipe(**sections), "--out", tmp_path / "run", "--quiet"), *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: [", ["line 2", "broken YAML"]),
        ("- a", ["mapping of keys"]),
        ("", ["mapping of keys"]),
        ("x", ["mapping"]),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(text: str, words: list[str], cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text + "\n")
    refused(cli("distill", file, "--out", tmp_path / "run"), "recipe.yaml", *words)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sampling.n", ["--set takes key=value", "'sampling.n'"]),
        ("sampling.m=4", ["unknown key 'sampling.m'"]),
        ("model.name=x", ["'model' is not a section"]),
        ("sampling.n=[", ["not YAML"]),
        ("sampling.n=four", ["sampling.n", "'four'"]),
        ("=4", ["unknown key"]),
    ],
)
def test_a_bad_override_is_named(override: str, words: list[str], recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    refused(cli("distill", recipe(), "--out", tmp_path / "run", "--set", override), *words)


def test_a_recipe_that_is_not_there_or_is_a_folder_is_refused(cli: Cli, tmp_path: Path) -> None:
    refused(cli("distill", tmp_path / "none.yaml", "--out", tmp_path / "run"), "there is no recipe", "none.yaml")
    refused(cli("distill", tmp_path, "--out", tmp_path / "run"), "is a folder")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("async def f(example, ask): return 'yes'", ["no async function 'g'"]),
        ("def g(example, ask): return 'yes'", ["no async function 'g'"]),
        ("import no_such_module", ["does not import", "no_such_module"]),
        ("async def g(example, ask): return 1 / 0", ["failed on", "ZeroDivisionError", "mine.py:1"]),
        ("async def g(example, ask): await ask('x')", ["returned no text"]),
        (
            "async def g(example, ask):\n    return await ask([{'role': 'usr', 'content': 'x'}])",
            ["failed on", "a message is", "system, user, assistant", "'usr'", "mine.py:2"],
        ),
        ("async def g(example, ask): return await ask(['x'])", ["a message is", "not 'x'", "mine.py:1"]),
        ("async def g(example, ask): return await ask([])", ["a text or a list of messages", "mine.py:1"]),
        ("async def g(example, ask): return await ask({'role': 'user', 'content': 'x'})", ["a list of messages"]),
        ("async def g(example, ask): return await ask(None)", ["a text or a list of messages", "not None"]),
    ],
)
def test_a_bad_technique_of_ones_own_is_the_users_to_mend(
    source: str, words: list[str], recipe: Recipes, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(source + "\n")
    done = cli("distill", recipe(technique={"name": "mine.py:g"}), "--out", tmp_path / "run", "--quiet")
    refused(done, "technique", *words)


def test_a_technique_of_ones_own_is_tried_before_anything_is_drawn(recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("async def g(example, ask): return 1 / 0\n")
    run = tmp_path / "run"
    technique = recipe(technique={"name": "mine.py:g"})
    refused(cli("evaluate", run, "--recipe", technique, "--quiet"), "ZeroDivisionError", "mine.py:1")
    assert stored(run) == 0, "nothing was asked of System 1"
    baseline = recipe(evaluate={"baselines": {"mine": {"name": "mine.py:g"}}})
    refused(cli("sample", run, "--recipe", baseline, "--quiet"), "ZeroDivisionError", "mine.py:1")
    assert stored(run) == 0, "nothing was sampled"


def test_what_the_try_asks_serves_the_run(recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("async def g(example, ask): return await ask('So? ' + example.text)\n")
    for name, technique in (("own", {"name": "mine.py:g"}), ("builtin", {"name": "direct", "instruction": "So?"})):
        file = recipe(technique=technique, sampling={"n": 2, "full_n": True})
        assert cli("sample", tmp_path / name, "--recipe", file, "--quiet").returncode == 0
    assert stored(tmp_path / "own") == stored(tmp_path / "builtin") == 24


def stored(run: Path) -> int:
    with contextlib.closing(sqlite3.connect(run / "calls.sqlite")) as db:
        return int(db.execute("SELECT COUNT(*) FROM calls").fetchone()[0])


# --- models


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("bundled:smollm", "no embedded model is called 'smollm'; there is smollm2-135m"),
        ("gpt", "'gpt' is neither a folder, a .gguf file, a hub id"),
        ("missing.gguf", "there is no file .*missing.gguf"),
        ("empty", "has no config.json"),
        ("./a/b", "is neither a folder"),
    ],
)
def test_a_model_that_is_not_there_is_named(model: str, words: str, tmp_path: Path) -> None:
    from secondnature.engines.models import locate

    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=words):
        locate(model, tmp_path)


# --- folders


def test_a_recipe_that_cannot_be_used_does_not_become_the_runs(recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert cli("sample", run, "--recipe", recipe(), "--quiet").returncode == 0
    refused(cli("sample", run, "--set", "technique.name=s2b", "--quiet"), "s2b")
    again = cli("verify", run)
    assert again.returncode == 0
    assert "recipe changed" not in again.stderr


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        (("sample", "R", "--out", "X"), "secondnature sample X --recipe R"),
        (("evaluate", "R"), "secondnature evaluate RUN --recipe R"),
        (("sample", "X", "--recipe", "R", "--out", "Y"), "secondnature sample Y --recipe R"),
        (("verify", "R", "--set", "verify.min_agreement=1"), "secondnature distill R --out RUN"),
        (("train", "R"), "secondnature distill R --out RUN"),
    ],
)
def test_a_recipe_in_a_runs_place_gets_the_right_command(
    arguments: tuple[str, ...], right: str, recipe: Recipes, cli: Cli
) -> None:
    file = str(recipe())
    refused(cli(*(file if word == "R" else word for word in arguments)), right.replace("R ", f"{file} ").replace(
        "--recipe R", f"--recipe {file}"
    ))  # fmt: skip


def test_a_folder_that_is_no_run_is_left_alone(recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("x")
    refused(cli("distill", recipe(), "--out", full), "not empty and not a run")
    assert [path.name for path in full.iterdir()] == ["thesis.tex"]
    refused(cli("distill", recipe(), "--out", full / "thesis.tex"), "is not a folder")
    refused(cli("distill", recipe(), "--out", full / "thesis.tex" / "run"), "thesis.tex", "go on with")


@pytest.mark.parametrize("stage", ["sample", "verify", "train", "evaluate", "report"])
def test_a_stage_needs_a_run(stage: str, cli: Cli, tmp_path: Path) -> None:
    refused(cli(stage, tmp_path / "run"), "is not a run", "secondnature distill RECIPE --out")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", ["verify", "train", "evaluate"])
def test_a_stage_before_its_turn_says_which_to_run(stage: str, recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    file = recipe()
    refused(cli("sample", run, "--recipe", file, "--set", "technique.name=s2b", "--quiet"), "s2b")
    cli("sample", run, "--recipe", file, "--set", "sampling.max_tokens=5000", "--quiet")
    refused(cli(stage, run, "--quiet"), "secondnature sample" if stage != "evaluate" else "max_tokens")


def test_a_runs_recipe_broken_by_hand_is_named(recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert cli("sample", run, "--recipe", recipe(), "--quiet").returncode == 0
    (run / "recipe.yaml").write_text("model: [\n")
    refused(cli("verify", run), "recipe.yaml", "broken YAML")


@pytest.mark.parametrize("content", [b"{", b"", b"[1]", b'{"model": "S\xe3o"}'])
def test_a_file_of_a_run_damaged_by_hand_is_named(content: bytes, recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    easy = recipe(verify={"min_agreement": 0.1})
    assert cli("distill", easy, "--out", run, "--quiet").returncode == 0
    (run / "adapter").mkdir()
    (run / "adapter" / "training.json").write_bytes(content)
    refused(cli("evaluate", run, "--quiet"), "training.json", f"remove {run / 'adapter'}", "secondnature train")
    refused(cli("report", run, "--quiet"), "training.json", f"remove {run / 'adapter'}")
    (run / "run.json").write_bytes(content)
    refused(cli("verify", run, "--quiet"), "run.json", "remove it", "secondnature sample")
    (run / "run.json").unlink()
    assert cli("sample", run, "--quiet").returncode == 0
    assert cli("verify", run, "--quiet").returncode == 0
    (run / "report.json").write_bytes(content)  # is only ever written
    (run / "adapter" / "training.json").unlink()
    assert cli("report", run, "--quiet").returncode == 0
    assert json.loads((run / "report.json").read_text())["verdict"]


def test_a_full_disk_says_what_to_do(
    recipe: Recipes, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert cli("sample", run, "--recipe", recipe(), "--quiet").returncode == 0

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        refused(cli("verify", run, "--quiet"), "No space left on device", f"go on with: secondnature verify {run}")
    assert not (run / "curated.jsonl").exists(), "no half file is left in its place"
    assert cli("verify", run, "--quiet").returncode == 0


def test_as_a_process_too_an_error_is_one_line(recipe: Recipes, secondnature: Cli, tmp_path: Path) -> None:
    refused(secondnature("distill", recipe(modle="x"), "--out", tmp_path / "run"), "did you mean 'model'")


@pytest.mark.parametrize("base", ["no/such/folder", "C:/models", "gone.gguf", "bundled:gone"])
def test_a_base_that_cannot_be_trained_is_refused_before_a_sample_is_drawn(
    base: str, recipe: Recipes, cli: Cli, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    refused(cli("distill", recipe(train={"base": base}), "--out", run, "--quiet"), "train.base: ")
    with contextlib.closing(sqlite3.connect(run / "calls.sqlite")) as store:
        assert store.execute("SELECT COUNT(*) FROM calls").fetchone() == (0,)
