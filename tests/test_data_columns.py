"""What is made of a row's columns: templates, a system message, nested columns, labels."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from conftest import Finished
from secondnature.answers import KINDS
from secondnature.recipe_file import load_recipe
from secondnature.tasks.columns import Columns, read_row, template_columns
from secondnature.types import Message, Row, UserError

Write = Callable[[str, Iterable[Mapping[str, Any]]], Path]


def row(values: Mapping[str, Any], kind: str = "short_text", **columns: Any) -> Row:
    return read_row(json.dumps(values).encode(), "x.jsonl, row 1", Columns(**columns), KINDS[kind])


def refused(values: Mapping[str, Any], **columns: Any) -> str:
    with pytest.raises(UserError) as caught:
        row(values, **columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_template_makes_the_prompt_and_can_make_it_again() -> None:
    template = 'Which is better, as JSON {{"best": ...}}?\n{question}\nA: {answer_a}\nB: {answer_b}\n{question}'
    values = {"question": "Why {so}?", "answer_a": "Because.", "answer_b": 7, "topic": "x", "prompt": "not this"}
    example = row(values, template=template, fields=["topic"]).example
    assert example.text == 'Which is better, as JSON {"best": ...}?\nWhy {so}?\nA: Because.\nB: 7\nWhy {so}?'
    assert example.template == template
    assert dict(example.fields) == {"question": "Why {so}?", "answer_a": "Because.", "answer_b": "7", "topic": "x"}
    assert example.text == example.template.format(**example.fields)
    swapped = {**example.fields, "answer_a": example["answer_b"], "answer_b": example["answer_a"]}
    assert "A: 7\nB: Because." in example.template.format(**swapped)


def test_a_column_name_in_a_template_may_have_spaces() -> None:
    assert row({"Question text": "Is it?"}, template="Q: {Question text}").example.text == "Q: Is it?"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["Lima", "Quito"], "A) Lima\nB) Quito"),
        ([1, 2.5], "A) 1\nB) 2.5"),
        ([], ""),
        (None, ""),
        ([["a"], ["b"]], '[["a"], ["b"]]'),
        ({"São": 1}, '{"São": 1}'),
        (3, "3"),
        (True, "True"),
    ],
)
def test_columns_that_are_no_texts_are_shown_as_texts(value: object, text: str) -> None:
    example = row({"q": "Which?", "x": value}, template="{q}\n{x}").example
    assert (example["x"], example.text) == (text, f"Which?\n{text}")


def test_more_choices_than_letters_is_an_error() -> None:
    assert refused({"q": list(range(27))}, template="{q}") == (
        "x.jsonl, row 1: the column 'q' has 27 items, more than there are letters for"
    )
    assert row({"q": list(range(26))}, template="{q}").example.text.endswith("Z) 25")


def test_a_template_whose_columns_are_all_empty_is_an_error() -> None:
    assert "row 1: the prompt is empty: nothing is in q, hint" in refused(
        {"q": " ", "hint": None}, template="Say: {q} {hint}"
    )
    assert row({"q": "a", "hint": None}, template="Say: {q}{hint}").example.text == "Say: a"


def test_a_column_that_the_template_names_and_the_row_has_not_is_named() -> None:
    error = refused({"question": "a", "other": "b"}, template="{quesion}")
    assert error == "x.jsonl, row 1: no column 'quesion' (did you mean 'question'?); there are: question, other"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("no field", "no column is named"),
        ("{{question}}", "no column is named"),
        ("{question", "expected '}' before end of string (a brace that is no field is doubled: {{ or }})"),
        ("question}", "Single '}' encountered"),
        ("{}", "not {}"),
        ("{0}", "not {0}"),
        ("{a.b!r}", "not {a.b!r}"),
        ("{a.b[0]}", "not {a.b[0]}"),
        ("{a[0]}", "not {a[0]}"),
        ("{a!r}", "not {a!r}"),
        ("{a:>9}", "not {a:>9}"),
        ("{a:{b}}", "not {a:{b}}"),
        ('{"answer": {a}}', "a column's name"),
        (" ", "data.template is empty"),
    ],
)
def test_a_template_that_is_none_is_an_error_of_the_recipe(
    template: str, words: str, recipe: Callable[..., Path]
) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(recipe(data={"train": "train.jsonl", "template": template}))
    assert "data.template" in str(caught.value)
    assert words in str(caught.value)


def test_nested_columns_in_a_template_are_fields_with_underscores() -> None:
    values = {"q": {"text": "Where {is} it?"}, "answers": {"text": ["Lima", "Quito"]}, "meta.id": 7}
    template = "{{x}} {q.text}\n{answers.text}\n{answers.text.1} {meta.id}"
    example = row(values, template=template, fields=["answers.text"]).example
    assert example.text == "{x} Where {is} it?\nA) Lima\nB) Quito\nQuito 7"
    assert example.text == example.template.format(**example.fields)
    assert (example["answers_text"], example["answers_text_1"], example["meta_id"]) == (
        "A) Lima\nB) Quito",
        "Quito",
        "7",
    )
    assert example["answers.text"] == example["answers_text"], "as data.fields names it"


def test_a_nested_column_of_a_template_that_is_missing_is_named() -> None:
    assert refused({"answers": {"txt": "a"}}, template="{answers.text}").startswith(
        "x.jsonl, row 1: no column 'answers.text'"
    )
    assert "row 1: the prompt is empty: nothing is in q.text" in refused({"q": {"text": None}}, template="{q.text}")


@pytest.mark.parametrize("columns", [{"template": "{a.b} {a_b}"}, {"template": "{a.b}", "fields": ["a_b"]}])
def test_two_columns_that_would_be_one_field_are_an_error(columns: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"'a\.b' and 'a_b' would both be the field 'a_b'"):
        Columns(**columns)


def test_a_templates_columns_are_each_named_once() -> None:
    assert template_columns("{b} {a} {{c}} {b}") == ("b", "a")


def test_a_system_message_comes_before_a_template_a_text_and_a_conversation() -> None:
    system = Message("system", "Be {brief}.")
    assert row({"q": "a"}, template="{q}?", system=system.content).example.messages == (system, Message("user", "a?"))
    assert row({"prompt": "a"}, system=system.content).example.messages == (system, Message("user", "a"))
    turns = [{"role": r, "content": c} for r, c in (("user", "a"), ("assistant", "b"), ("user", "c"))]
    assert [m.content for m in row({"prompt": turns}, system=system.content).example.messages] == [
        system.content,
        *"abc",
    ]


def test_two_system_messages_are_an_error_and_an_empty_one_too(recipe: Callable[..., Path]) -> None:
    turns = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    assert "row 1: the prompt has a system message of its own" in refused({"prompt": turns}, system="Be brief.")
    with pytest.raises(UserError, match=r"data\.system is empty"):
        load_recipe(recipe(data={"train": "train.jsonl", "system": " "}))


def test_nested_columns_are_named_by_dots_and_a_dotted_name_of_its_own_comes_first() -> None:
    values = {
        "question": {"text": "Where?", "lang": "en"},
        "answers": {"text": ["Lima", "Quito"]},
        "meta.id": "dotted",
        "meta": {"id": "nested", "doc": 7},
    }
    read = row(
        values,
        prompt="question.text",
        answer="answers.text.0",
        id="meta.id",
        group="meta.doc",
        slices=["question.lang"],
        fields=["answers.text"],
    )
    assert read.example.text == "Where?"
    assert (read.label, read.example.id, read.group, read.slices) == ("Lima", "dotted", "7", ("question.lang=en",))
    assert dict(read.example.fields) == {"answers.text": "A) Lima\nB) Quito"}


def test_a_nested_column_that_is_not_there_is_an_error_only_where_it_must_be() -> None:
    values = {"prompt": "a", "meta": None, "answers": {"text": []}}
    read = row(values, answer="answers.text.0", id="meta.id", group="meta.doc.x")
    assert (read.label, read.example.id) == (None, "")
    assert "no column 'meta.id'" in refused(values, slices=["meta.id"])
    assert "no column 'answers.text.0'" in refused(values, prompt="answers.text.0")


@pytest.mark.parametrize(
    ("kind", "value", "answer"),
    [
        ("number", "She has 3 + 15 = 18 eggs.\n#### 18", "18"),
        ("choice", "B", "B"),
        ("choice", "(c)", "C"),
        ("number", 2, "2"),
        ("yes_no", True, "yes"),
        ("yes_no", "", None),
        ("yes_no", " \n", None),
        ("yes_no", None, None),
    ],
)
def test_a_label_is_read_by_the_answer_kind_and_an_empty_one_is_none(
    kind: str, value: object, answer: str | None
) -> None:
    assert row({"prompt": "a", "answer": value}, kind).label == answer


def test_an_empty_id_or_group_is_none() -> None:
    read = row({"prompt": "a", "id": "", "group": ""})
    assert read.group == row({"prompt": "a"}).group
    assert read.example.id == ""
    assert row({"prompt": "a", "id": 0, "group": 0}).group == "0"


def test_json_nested_without_end_is_named() -> None:
    with pytest.raises(UserError, match=r"row 1: broken JSON .nested too deeply"):
        read_row(b'{"prompt": ' + b"[" * 500_000, "x.jsonl, row 1", Columns(), KINDS["yes_no"])


def test_a_run_on_a_template_asks_what_it_makes(
    recipe: Callable[..., Path], cli: Callable[..., Finished], tmp_path: Path
) -> None:
    file = recipe(
        data={
            "train": "train.jsonl",
            "test": "test.jsonl",
            "template": "Of the kind {kind}? {prompt}",
            "system": "Be brief.",
        },
        sampling={"n": 2, "max_tokens": 16},
        technique={"name": "direct"},
        verify={"min_agreement": 0.1},
    )
    run = tmp_path / "run"
    assert cli("sample", run, "--recipe", file, "--quiet").returncode == 0
    assert cli("verify", run, "--quiet").returncode == 0
    prompts = [json.loads(line)["prompt"] for line in (run / "curated.jsonl").read_text().splitlines()]
    assert prompts
    assert all(p[0] == {"role": "system", "content": "Be brief."} for p in prompts), prompts[0]
    assert all(p[1]["content"].startswith("Of the kind ") for p in prompts)
