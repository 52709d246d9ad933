"""All tasks: their options, their splits and draws, and that each reads its own answers."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import Finished
from made import (
    examples,
    gold,
    is_split_by_group,
    load_task,
    pairs,
    questions,
    reads_its_own_answers,
)
from secondnature.recipe import Recipe
from secondnature.recipe_file import load_recipe, parse_recipe
from secondnature.resolve import prepare
from secondnature.tasks import TASKS, option_names
from secondnature.types import UserError

Write = Callable[[str, Iterable[Mapping[str, Any]]], Path]
GENERATED: list[tuple[str, dict[str, Any]]] = [
    ("biased_capitals", {}),
    ("last_letters", {}),
    ("last_letters", {"words": 4, "train": 50}),
    ("coin_flip", {}),
    ("coin_flip", {"flips": 7, "start": "either", "test": 101}),
    ("multiple_choice", {}),
]


@pytest.mark.parametrize(("name", "options"), GENERATED)
def test_a_generated_task_reads_its_own_answers_and_is_split_by_group(name: str, options: dict[str, Any]) -> None:
    task = load_task(name, options)
    reads_its_own_answers(task)
    is_split_by_group(task.parts())


def test_every_task_is_tested_here() -> None:
    assert {name for name, _ in GENERATED} | {"biased_qa", "pairwise_judging"} == {*TASKS}


@pytest.mark.parametrize(
    ("name", "options"), [*GENERATED, ("biased_qa", {}), ("biased_qa", {"as_choices": True}), ("pairwise_judging", {})]
)
def test_a_template_makes_the_last_turn(name: str, options: dict[str, Any], jsonl: Write) -> None:
    if name == "biased_qa":
        options = {**options, "data": str(jsonl("q.jsonl", questions())), "columns": {"choices": "choices"}}
    elif name == "pairwise_judging":
        options = {"data": str(jsonl("p.jsonl", pairs()))}
    rows = examples(load_task(name, options).parts())
    with_template = [example for example in rows if example.template]
    assert bool(with_template) == (name in ("biased_qa", "multiple_choice", "pairwise_judging"))
    for example in with_template:
        assert example.template.format(**example.fields) == example.text


def test_sizes_are_as_asked_for_and_no_prompt_comes_twice() -> None:
    for name in ("last_letters", "coin_flip"):
        parts = load_task(name, {"train": 31, "dev": 7, "test": 13}).parts()
        assert (len(parts.train), len(parts.dev), len(parts.test)) == (31, 7, 13)
        assert len({example.text for example in examples(parts)}) == 51


def test_more_rows_leave_the_first_ones_as_they_are() -> None:
    for name in ("last_letters", "coin_flip"):
        few, many = load_task(name, {"train": 20}).parts(), load_task(name, {"train": 60}).parts()
        assert list(many.train[:20]) == list(few.train)
        assert list(many.test) == list(few.test)


def test_tasks_are_the_same_in_every_process(jsonl: Write) -> None:
    file = str(jsonl("q.jsonl", questions()))
    script = (
        "from hashlib import sha256; from pathlib import Path; from secondnature.tasks import load_task\n"
        "names = ['last_letters', 'coin_flip', 'multiple_choice']\n"
        f"tasks = [load_task(n, {{}}, Path()) for n in names] + [load_task('biased_qa', {{'data': {file!r}}}, Path())]\n"
        "parts = [t.parts() for t in tasks]\n"
        "print(sha256(repr([[list(p.train), list(p.dev), list(p.test)] for p in parts]).encode()).hexdigest())"
    )
    environments = [{**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed} for seed in "12"]
    runs = [subprocess.run([sys.executable, "-c", script], env=e, capture_output=True, text=True) for e in environments]
    assert runs[0].stdout == runs[1].stdout != "", runs[0].stderr


# --- options


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("last_letter", {}, ["'last_letter'", "did you mean 'last_letters'", "secondnature tasks"]),
        ("last_letters", {"wrods": 2}, ["no option 'wrods'", "did you mean 'words'"]),
        ("last_letters", {"words": 1}, ["task.words", "greater than or equal to 2", "not 1"]),
        ("last_letters", {"words": "two"}, ["task.words", "integer", "'two'"]),
        ("last_letters", {"dev": 5000}, ["task.dev", "ask for fewer"]),
        ("coin_flip", {"start": "edge"}, ["task.start", "'heads', 'tails' or 'either'", "'edge'"]),
        ("coin_flip", {"flips": 21}, ["task.flips", "less than or equal to 20"]),
        ("biased_capitals", {"train": 9}, ["biased_capitals has no option 'train'"]),
        ("biased_qa", {}, ["biased_qa needs data"]),
        ("biased_qa", {"data": "missing.jsonl"}, ["there is no file", "missing.jsonl"]),
        ("biased_qa", {"data": {"trian": "x"}}, ["task.data", "'trian'", "did you mean 'train'"]),
        ("biased_qa", {"data": {"test": "x"}}, ["task.data", "train is missing"]),
        ("biased_qa", {"data": 7}, ["task.data", "7"]),
        ("biased_qa", {"data": "x", "opinion": "wrong"}, ["task.opinion", "suggest_wrong", "'wrong'"]),
        ("biased_qa", {"data": "x", "columns": {"promt": "q"}}, ["task.columns", "'promt'", "did you mean 'prompt'"]),
        ("multiple_choice", {"template": "{question}"}, ["task.template", "{question}, {choices}"]),
        ("multiple_choice", {"template": "{question} {"}, ["task.template", "written twice"]),
        ("pairwise_judging", {}, ["pairwise_judging needs data"]),
    ],
)
def test_a_wrong_option_is_named(name: str, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_task(name, options).parts()
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tasks_options_are_its_keyword_only_parameters() -> None:
    assert option_names("last_letters") == ["words", "train", "dev", "test"]
    assert option_names("biased_capitals") == []


def recipe(folder: Path, task: object, *sets: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(
        yaml.safe_dump({"model": "fake", "engine": {"kind": "fake"}, "technique": {"name": "cot"}, "task": task})
    )
    return load_recipe(path, sets)


def test_a_recipe_names_a_task_or_gives_its_options_too(tmp_path: Path) -> None:
    assert recipe(tmp_path, "last_letters") == recipe(tmp_path, {"name": "last_letters"})
    resolved = prepare(recipe(tmp_path, {"name": "last_letters", "words": 3, "train": 5}))
    assert len(resolved.train) == 5
    assert {len(gold(row)) for row in resolved.train} == {3}
    overridden = prepare(recipe(tmp_path, "last_letters", "task.words=4"))
    assert {len(gold(row)) for row in overridden.held_out} == {4}


def test_paths_in_a_tasks_options_start_at_the_recipes_folder_and_the_split_is_said(
    tmp_path: Path, jsonl: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    jsonl("q.jsonl", questions())
    jsonl("t.jsonl", questions()[:20])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    said: list[str] = []
    one = recipe(tmp_path, {"name": "multiple_choice", "data": "q.jsonl"})
    assert len(prepare(one, said.append).train) > 60
    assert [line.split()[1] for line in said] == ["test", "dev"]
    two = recipe(tmp_path, {"name": "multiple_choice", "data": {"train": "q.jsonl", "test": "t.jsonl"}})
    assert len(prepare(two).held_out) == 20
    assert two.task is not None
    assert two.task.options["data"]["test"] == str(tmp_path.resolve() / "t.jsonl")


def test_the_command_lists_every_task_with_its_options(cli: Callable[..., Finished]) -> None:
    done = cli("tasks")
    assert done.returncode == 0
    for name in TASKS:
        assert name in done.stdout
    assert "words, train, dev, test" in done.stdout


def test_a_whole_run_on_a_task_from_a_file(tmp_path: Path, jsonl: Write, cli: Callable[..., Finished]) -> None:
    jsonl("q.jsonl", questions())
    recipe(tmp_path, {"name": "multiple_choice", "data": "q.jsonl"})
    done = cli("sample", tmp_path / "run", "--recipe", tmp_path / "recipe.yaml", "--limit", "4")
    assert done.returncode == 0, done.stderr
    assert "kept for test" in done.stdout + done.stderr


def test_the_recipe_of_a_run_is_read_back_with_the_tasks_options(tmp_path: Path) -> None:
    resolved = recipe(tmp_path, {"name": "last_letters", "words": 3})
    assert Recipe.model_validate(json.loads(json.dumps(resolved.model_dump()))) == resolved


def test_beside_a_task_data_replaces_single_parts(tmp_path: Path) -> None:
    task = {"name": "coin_flip", "train": 20, "dev": 4, "test": 4}
    alone = prepare(parse_recipe({"model": "m", "task": task, "technique": {"name": "direct"}}))
    asked = [alone.train[3].example.text, "A coin is heads up. Nobody flips it. Is it still heads up?"]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"prompt": text, "answer": "Yes"}) + "\n" for text in asked))
    said: list[str] = []
    mixed = {"model": "m", "task": task, "data": {"test": str(file)}, "technique": {"name": "direct"}}
    both = prepare(parse_recipe(mixed), said.append)
    assert [row.example.text for row in both.held_out] == asked
    assert [row.label for row in both.held_out] == ["yes", "yes"]
    assert [row.example.id for row in both.train] == [row.example.id for i, row in enumerate(alone.train) if i != 3]
    assert said == ["1 training rows are left out: their prompt, or its group, is in dev or test"]


def test_beside_a_task_no_group_of_the_own_test_rows_is_trained_on(tmp_path: Path) -> None:
    task = {"name": "biased_capitals"}
    alone = prepare(parse_recipe({"model": "m", "task": task, "technique": {"name": "direct"}}))
    mine = [{"prompt": f"Question {i}?", "answer": "x", "group": alone.train[i].group} for i in range(5)]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in mine))
    mixed = {"model": "m", "task": task, "data": {"test": str(file)}, "technique": {"name": "direct"}}
    both = prepare(parse_recipe(mixed))
    assert not {row.group for row in both.train} & {row.group for row in both.held_out}
    assert 0 < len(both.train) < len(alone.train)
    every = [{"prompt": f"Q {row.example.id}?", "answer": "x", "group": row.group} for row in alone.train]
    file.write_text("".join(json.dumps(row) + "\n" for row in every))
    with pytest.raises(UserError, match="no training row is left"):
        prepare(parse_recipe(mixed))
