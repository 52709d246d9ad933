"""Tasks over a user's files: pairs to judge, and questions with choices."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from made import (
    WITH_CHOICES,
    examples,
    gold,
    is_split_by_group,
    load_task,
    pairs,
    questions,
    reads_its_own_answers,
    rows_of,
)
from secondnature.types import Message, UserError

Write = Callable[[str, Iterable[Mapping[str, Any]]], Path]


# --- judging


def test_pairs_of_a_file_are_judged_with_ties(jsonl: Write) -> None:
    file = str(jsonl("p.jsonl", pairs()))
    task = load_task("pairwise_judging", {"data": file, "template": "{question}|{answer_a}|{answer_b}"})
    reads_its_own_answers(task)
    is_split_by_group(task.parts())
    rows = rows_of(task.parts())
    assert {row.label for row in rows} == {"A", "B", "tie"}
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
    assert [row.label for row in rows_of(renamed)] == [row.label for row in rows_of(plain)]


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
        places = Counter(row.label for row in rows)
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
    assert {row.label for row in rows} == {"A"}


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


@pytest.mark.parametrize("name", ["multiple_choice", "pairwise_judging"])
def test_prompts_of_a_file_do_not_depend_on_its_labels(name: str, jsonl: Write) -> None:
    rows = pairs() if name == "pairwise_judging" else questions()

    def wrong(row: dict[str, Any]) -> str:
        return next(v for v in row.get("choices", ("A", "B")) if v != row["answer"])

    before = load_task(name, {"data": str(jsonl("a.jsonl", rows))}).parts()
    after = load_task(name, {"data": str(jsonl("b.jsonl", [{**row, "answer": wrong(row)} for row in rows]))}).parts()
    bare = load_task(name, {"data": str(jsonl("c.jsonl", [{**row, "answer": None} for row in rows]))}).parts()
    assert examples(before) == examples(after) == examples(bare)
    assert all(a.label != b.label for a, b in zip(rows_of(before), rows_of(after), strict=True))
    assert {row.label for row in rows_of(bare)} == {None}


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
