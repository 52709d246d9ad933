"""Labels that are the numbers of choices: which choice is meant is told by the whole file, and gold answers score 1."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import pytest

from secondnature.recipe_file import parse_recipe
from secondnature.resolve import Resolved, prepare
from secondnature.tasks import load_task
from secondnature.tasks.base import Task
from secondnature.types import Row, UserError

Write = Callable[[str, Iterable[Mapping[str, Any]]], Path]
RIGHT = "quartz"
OTHERS = ("basalt", "gneiss", "marble")


def rows(first: int, *, number: int = 40, places: Iterable[int] = range(4)) -> list[dict[str, Any]]:
    """Questions whose answer is the right choice's number, counted from `first`."""
    drawn = [*places]
    made: list[dict[str, Any]] = []
    for n in range(number):
        place = drawn[n % len(drawn)]
        choices = [*OTHERS[:place], RIGHT, *OTHERS[place:]]
        made.append({"prompt": f"What is stone {n} made of?", "choices": choices, "answer": place + first})
    return made


def scores_one(task: Task) -> None:
    parts = task.parts()
    for row in (*parts.train, *parts.dev, *parts.test):
        assert row.label is not None
        assert task.answer.extract(row.example, row.label) == row.label
        assert right(row) == RIGHT


def right(row: Row) -> str:
    """The choice that the label is the letter of."""
    lines = dict(line.split(") ", 1) for line in row.example["choices"].splitlines())
    return lines[row.label or ""]


def of_task(jsonl: Write, data: list[dict[str, Any]], **columns: Any) -> Task:
    return load_task("multiple_choice", {"data": str(jsonl("q.jsonl", data)), "columns": columns}, Path())


def of_data(jsonl: Write, data: list[dict[str, Any]], say: Callable[[str], None] = print, **keys: Any) -> Resolved:
    section = {"train": str(jsonl("q.jsonl", data)), "template": "{prompt}\n{choices}", **keys}
    content = {"model": "m", "data": section, "answer": {"kind": "choice"}, "technique": {"name": "direct"}}
    return prepare(parse_recipe(content), say)


@pytest.mark.parametrize("first", [0, 1])
def test_the_file_tells_where_numbers_begin_and_gold_scores_one(first: int, jsonl: Write) -> None:
    task = of_task(jsonl, rows(first))
    scores_one(task)
    assert f"numbers of choices, from {first}" in task.notices[-1]
    said: list[str] = []
    resolved = of_data(jsonl, rows(first), said.append)
    assert len([line for line in said if f"numbers of choices, from {first}" in line]) == 1
    assert {row.label for row in resolved.train} == {*"ABCD"}
    for row in (*resolved.train, *resolved.held_out):
        assert right(row) == RIGHT
        assert resolved.kind.extract(row.example, row.label or "") == row.label


def test_with_an_opinion_too(jsonl: Write) -> None:
    file = str(jsonl("q.jsonl", rows(0)))
    task = load_task("biased_qa", {"data": file, "columns": {"choices": "choices"}}, Path())
    assert {row.label for row in task.parts().test} == {RIGHT}
    assert "from 0" in task.notices[-1]


def test_numbers_as_texts_of_a_table_are_read_alike(tmp_path: Path) -> None:
    lines = [f'{row["prompt"]},"{chr(10).join(row["choices"])}",{row["answer"]}' for row in rows(1)]
    (tmp_path / "q.csv").write_text("\n".join(["prompt,choices,answer", *lines]) + "\n")
    scores_one(load_task("multiple_choice", {"data": str(tmp_path / "q.csv")}, tmp_path / "cache"))


@pytest.mark.parametrize("first", [0, 1])
def test_where_nothing_tells_the_option_is_named_and_decides(first: int, jsonl: Write) -> None:
    unclear = rows(0, places=[1, 2])
    with pytest.raises(
        UserError, match=r"q\.jsonl, row \d+: the answer '\d' .*set count_from in task.columns to 0 or 1"
    ):
        of_task(jsonl, unclear)
    with pytest.raises(UserError, match=r"q\.jsonl, row 1: the answer '1' .*set data.count_from to 0 or 1"):
        of_data(jsonl, unclear)
    data = rows(first, places=[1, 2])
    scores_one(of_task(jsonl, data, count_from=first))
    assert {right(row) for row in of_data(jsonl, data, count_from=first).train} == {RIGHT}


def test_choices_that_are_those_numbers_themselves_stay_what_they_are(jsonl: Write) -> None:
    data = [{"prompt": f"How many {n}?", "choices": [1, 2, 3], "answer": 1 + n % 3} for n in range(40)]
    task = of_task(jsonl, data)
    asked = {row["prompt"]: str(row["answer"]) for row in data}
    for row in task.parts().train:
        assert right(row) == asked[row.example["question"]]
    assert not any("numbers of choices" in line for line in task.notices)
    assert [right(row) for row in of_data(jsonl, data).train][:1] == [str(data[0]["answer"])]


def test_a_choice_that_looks_like_a_number_does_not_mislead_where_the_others_tell(jsonl: Write) -> None:
    odd = {"prompt": "How many sides has a hexagon?", "choices": ["3", "4", "2", "6"], "answer": 3}
    parts = of_task(jsonl, [*rows(0), odd]).parts()
    [row] = [r for r in (*parts.train, *parts.dev, *parts.test) if "hexagon" in r.example.text]
    assert right(row) == "6"


@pytest.mark.parametrize("bad", [4, -1, "x", 7])
def test_a_number_that_no_choice_has_is_named(bad: object, jsonl: Write) -> None:
    data = [*rows(0), {**rows(0)[0], "prompt": "And this?", "answer": bad}]
    with pytest.raises(UserError, match=r"q\.jsonl, row \d+: the answer .* is not among the choices"):
        of_task(jsonl, data)
    with pytest.raises(UserError, match=r"q\.jsonl, row \d+: the 'answer' .* cannot be read as choice"):
        of_data(jsonl, data)


@pytest.mark.parametrize("labels", ["ABCD", "1234", "DCBA"])
def test_a_record_of_texts_and_labels_is_read_by_its_labels(labels: str, jsonl: Write) -> None:
    data = [
        {**row, "choices": {"text": row["choices"], "label": [*labels]}, "answer": labels[row["answer"]]}
        for row in rows(0)
    ]
    task = of_task(jsonl, data)
    scores_one(task)
    assert {row.label for row in task.parts().train} == {*ascii_uppercase[:4]}
    assert not any("numbers of choices" in line for line in task.notices)


def test_labels_that_do_not_fit_the_choices_are_named(jsonl: Write) -> None:
    data = [{**row, "choices": {"text": row["choices"], "label": ["A", "B"]}} for row in rows(0)]
    with pytest.raises(UserError, match="4 choices need as many labels"):
        of_task(jsonl, data)


def test_a_wrong_start_is_refused(jsonl: Write) -> None:
    with pytest.raises(UserError, match="count_from: .* from 0 or from 1, not from 2"):
        of_task(jsonl, rows(0), count_from=2)
    with pytest.raises(UserError, match=r"data\.count_from"):
        of_data(jsonl, rows(0), count_from=2)
