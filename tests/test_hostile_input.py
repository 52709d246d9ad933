"""What nobody means to write, and what somebody means to: it is refused in one short line, at once."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Finished
from secondnature.types import UserError
from secondnature.untrusted import LONGEST, brief, parse_json, path_of

Cli = Callable[..., Finished]
Recipes = Callable[..., Path]
DIGITS = "9" * 5000


def refused(done: Finished, *words: str) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    *notices, line = done.stderr.splitlines()
    assert not any(notice.startswith("error: ") or "converting" not in notice for notice in notices)
    assert line.startswith("error: ")
    assert len(line) <= LONGEST + len("error: ")
    for word in words:
        assert word in line, line
    return line


# --- recipes

LAUGHS = "\n".join(["x0: &x0 [a, b]", *(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 12))])
MERGED = "\n".join(
    ["x0: &x0 {a: 1}", *(f"x{n}: &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 10)}]}}" for n in range(1, 12))]
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("limit: 2001-99-99", ["limit", "'2001-99-99'"]),
        ("limit: 2001-01-01", ["limit", "'2001-01-01'"]),
        ("limit: !!int x", ["broken YAML", "tagged"]),
        ("limit: !!float ''", ["broken YAML", "tagged"]),
        ("limit: !!bool x", ["broken YAML", "tagged"]),
        ("limit: !!timestamp x", ["broken YAML", "tagged"]),
        ("limit: !!timestamp 2001-01-01", ["a date"]),
        ("limit: !!set {x}", ["a set"]),
        (f"limit: {DIGITS}", ["broken YAML", "thousands of digits"]),
        (f"limit: 0x{'f' * 5000}", ["more than 18 digits"]),
        ("limit: .inf", ["inf is a value of no key"]),
        ("model: " + "[" * 2000 + "]" * 2000, ["broken YAML", "nest"]),
        ("model: " + "[" * 400 + "]" * 400, ["nested"]),
        ("task: &t {data: *t}", ["nested more than"]),
        (LAUGHS + "\nmodel: *x11", ["more than 100,000 values"]),
        (MERGED, ["unknown key 'x0'", "more"]),
        (
            "system1: {demonstrations: [{promt: x, answer: y}]}",
            ["system1.demonstrations.0.promt", "did you mean 'prompt'"],
        ),
        ("1: x", ["the key 1 is no text"]),
        ("task: {name: x, data: {1: 2}}", ["the key 1 is no text"]),
        ("model: [" + "x, " * 30_000 + "]", ["model", "..."]),
        (f"{'m' * 1000}: x", ["unknown key", "..."]),
        ("# " + "x" * 10_000_000, ["larger than 1 MiB"]),
        ('model: "\\ud800"', ["recipe.yaml"]),
        ("store: ~nosuchuser/x\nlimit: 1", ["'~nosuchuser/x'", "no such user"]),
        ('store: "a\\0b"', ["NUL"]),
        (f"store: {'x' * 300}", ["too long"]),
        ("store: loop/x", ["a link that leads to itself"]),
        ("data: {train: ~nosuchuser/x.jsonl}", ["no such user"]),
        ("model: ~nosuchuser/x", ["no such user"]),
        ("verify: {universal: true, choose: '{x}'}", ["verify.choose", "{x} is no placeholder", "{responses}"]),
        ("verify: {universal: true, choose: '{'}", ["verify.choose"]),
        ("verify: {universal: true, choose: 'Which?'}", ["verify.choose", "no {responses}"]),
        ("verify: {universal: true, choose: '{responses.x}'}", ["verify.choose"]),
    ],
    ids=lambda value: value[:40].replace("\n", " ") if isinstance(value, str) else "",
)
def test_a_recipe_that_is_odd_is_refused_at_once(
    text: str, words: list[str], recipe: Recipes, cli: Cli, tmp_path: Path
) -> None:
    file = recipe()
    (tmp_path / "loop").symlink_to("loop")
    keys = {line.partition(":")[0] for line in text.splitlines()}
    kept = [line for line in _sections(file) if line.partition(":")[0] not in keys]
    file.write_text("\n".join([*kept, text]))
    started = time.process_time()
    refused(cli("distill", file, "--out", tmp_path / "run", "--dry-run"), *words)
    assert time.process_time() - started < 2


def _sections(file: Path) -> list[str]:
    """The sections of a recipe, each on a line of its own."""
    import yaml

    return [f"{key}: {json.dumps(value)}" for key, value in yaml.safe_load(file.read_text()).items()]


@pytest.mark.parametrize(
    "override",
    ["limit=2001-99-99", f"limit={DIGITS}", "limit=!!int x", f"model={'[' * 3000}", "task=&t {name: *t}", "=" * 9000],
)
def test_an_odd_override_is_refused(override: str, recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    refused(cli("distill", recipe(), "--out", tmp_path / "run", "--set", override, "--dry-run"))


def test_a_date_is_a_text_and_aliases_are_read(recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    file = recipe(answer=None)
    file.write_text(file.read_text() + "\nanswer: &a {kind: label, labels: [2001-01-01, &b 2001-01-02]}\n")
    (tmp_path / "train.jsonl").write_text('{"prompt": "When?", "answer": "2001-01-02", "kind": "x"}\n' * 40)
    (tmp_path / "test.jsonl").write_text('{"prompt": "And when?", "kind": "x"}\n')
    assert cli("distill", file, "--out", tmp_path / "run", "--dry-run").returncode == 0


@pytest.mark.parametrize("override", ["engine=sk-secret", "engine.api_key_env=[sk-secret]", "engine.kind.x=sk-secret"])
def test_a_key_in_the_wrong_place_is_not_repeated(override: str, recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    assert "sk-secret" not in refused(cli("distill", recipe(), "--out", tmp_path / "r", "--set", override), "engine")


# --- data


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (f'{{"prompt": "x", "kind": {DIGITS}}}', ["row 1", "4,300 digits"]),
        ('{"prompt": "x", "kind": "\\ud800"}', ["row 1", "surrogate"]),
    ],
)
def test_a_row_that_no_program_could_use_is_named(
    row: str, words: list[str], recipe: Recipes, cli: Cli, tmp_path: Path
) -> None:
    file = recipe()
    (tmp_path / "train.jsonl").write_text(row)
    refused(cli("distill", file, "--out", tmp_path / "run", "--dry-run"), *words)


def test_numbers_without_end_elsewhere_in_the_data(recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    file = recipe(data={"train": "a.csv", "test": "a.csv"}, answer={"kind": "choice"})
    (tmp_path / "a.csv").write_text(f'prompt,answer\n"[{{""role"": {DIGITS}}}]",\n')
    refused(cli("distill", file, "--out", tmp_path / "run", "--dry-run"), "record 1", "4,300 digits")
    (tmp_path / "a.csv").write_text(f"prompt,answer\nWhat?,{DIGITS}\n")
    refused(cli("distill", file, "--out", tmp_path / "run", "--dry-run"), "record 1")
    refused(cli("distill", file, "--out", tmp_path / "run", "--dry-run", "--set", "data.count_from=1"), "record 1")
    template = f"data.template='{{prompt.{DIGITS}}}'"
    refused(cli("distill", file, "--out", tmp_path / "run", "--dry-run", "--set", template), "no column")


def test_what_is_no_number_is_no_value() -> None:
    assert parse_json('{"a": NaN}') == {"a": None}
    for text, reason in (
        (DIGITS, "digits"),
        ("[" * 100_000, "deeply"),
        ('"\\uD800"', "surrogate"),
        ("{", "column 2"),
    ):
        with pytest.raises(ValueError, match=reason):
            parse_json(text)


# --- paths and files


def test_paths_that_can_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert path_of("not/there", tmp_path) == tmp_path / "not" / "there"
    for text in ("~nosuchuser/x", "a\0b", "x" * 300, "x/" * 3000, "loop", "loop/x", "half \ud800"):
        with pytest.raises(UserError, match="cannot be a path"):
            path_of(text, tmp_path)


def test_folders_where_files_should_be_and_links_to_nothing(recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    file = recipe()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    refused(cli("sample", tmp_path / "link", "--recipe", file, "--quiet"), "link")
    refused(cli("sample", tmp_path / ("x" * 300), "--recipe", file, "--quiet"), "too long")
    refused(cli("distill", "x" * 300, "--out", tmp_path / "run"), "too long")
    run = tmp_path / "run"
    assert cli("sample", run, "--recipe", file, "--quiet").returncode == 0
    for name in ("curated.jsonl", "discarded.jsonl", "run.json", "calls.sqlite"):
        (run / name).unlink(missing_ok=True)
        (run / name).mkdir()
        refused(cli("verify", run, "--quiet"), name)
        (run / name).rmdir()
        assert cli("sample", run, "--quiet").returncode == 0
    (run / "report.json").mkdir()
    refused(cli("report", run, "--quiet"), "report.json")


def test_what_a_run_notes_is_not_trusted(recipe: Recipes, cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert cli("distill", recipe(), "--out", run, "--quiet").returncode == 0
    good = json.loads((run / "run.json").read_text())
    changes: list[dict[str, Any]] = [{"seconds": {"sample": "x"}}, {"seconds": [1]}, {"model": "x"}]
    changes += [{"model": {"weights": ["x"]}}, {"throughput": {"system1": 3}}, {"own": 7}, {"drawn_by": [2]}]
    for change in changes:
        (run / "run.json").write_text(json.dumps({**good, **change}))
        for stage in ("sample", "report"):
            refused(cli(stage, run, "--quiet"), "run.json", next(iter(change)), "remove it")


# --- the command line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("distill",), ["RECIPE", "--help"]),
        (("distill", "x"), ["--out"]),
        (("distll",), ["'distll'", "'distill'"]),
        (("--nosuch",), ["--nosuch"]),
        (("distill", "x", "--out", "y", "--limit", "0"), ["--limit"]),
        (("view", "x", "--port", "70000"), ["--port"]),
        (("view", "x", "--port"), ["--port"]),
        (("techniques", "x"), ["extra"]),
        (("distill", "x" * 5000, "--out"), ["--out"]),
        (("distill", "a\udcffb", "--out", "y"), ["UTF-8"]),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line(arguments: tuple[str, ...], words: list[str], cli: Cli) -> None:
    refused(cli(*arguments), *words)


def test_no_command_shows_what_there_is(cli: Cli) -> None:
    assert "distill" in cli().stdout


def test_a_value_is_shown_in_part_and_quickly() -> None:
    laughs: Any = "ha"
    for _ in range(30):
        laughs = [laughs] * 9
    for value in (laughs, "x" * 10**6, {"x" * 9: laughs}, 10**6000, b"x" * 999):
        assert len(brief(value)) <= 80
    assert brief({"a": [1]}) == "{'a': [1]}"


def test_ctrl_c_is_no_traceback_from_the_first_moment_on() -> None:
    script = (
        "import sys, importlib.abc\nclass Stop(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop())\nfrom secondnature.__main__ import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr.split() == ["stopped"]
