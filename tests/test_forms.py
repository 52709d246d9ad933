"""How the form of an answer is asked for, and how answers are found at the end of a reply that reasons."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from scripted import Scripted
from secondnature import stages
from secondnature.answers import KINDS, AnswerKind, json_object, label
from secondnature.context import open_context
from secondnature.progress import Display
from secondnature.recipe_file import load_recipe
from secondnature.run import open_run
from secondnature.sampling import Model, System, draw
from secondnature.store import Store
from secondnature.tasks import TASKS, load_task
from secondnature.techniques import load_technique
from secondnature.types import Decoding, Example, Message, Request, UserError

EXAMPLE = Example("1", (Message("user", "Is Ann lying?"),))
ALL_KINDS = [*KINDS.values(), label(["refund", "late delivery"]), json_object(["city", "name"])]
PAIR = {"question": "q", "answer_a": "one", "answer_b": "two"}


def asked_by(
    technique: str, options: Mapping[str, Any], *replies: str, kind: AnswerKind, example: Example = EXAMPLE
) -> tuple[str, list[list[Message]]]:
    """The output of a technique for an answer of a kind, and what it asked, when these are the replies."""
    asked: list[list[Message]] = []
    script = iter(replies)

    async def ask(prompt: str | Sequence[Message], /, *, thinking: bool = False) -> str:
        asked.append([Message("user", prompt)] if isinstance(prompt, str) else list(prompt))
        return next(script)

    return asyncio.run(load_technique(technique, options)(kind.formed(example), ask)), asked


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
def test_every_technique_asks_for_the_form_of_the_answer_and_shows_no_placeholder(kind: AnswerKind) -> None:
    example = kind.formed(EXAMPLE)
    assert example.form is not None
    for technique, options in [("cot", {}), ("rar", {}), ("rar", {"steps": 1}), ("s2a", {}), ("think", {})]:
        _, asked = asked_by(technique, options, *["x"] * 4, kind=kind)
        texts = [messages[-1].content for messages in asked]
        assert any(str(example.form) in text for text in texts), technique
        assert not any("<" in text for text in texts)


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
def test_the_prompts_own_words_repeated_are_no_answer(kind: AnswerKind) -> None:
    example = kind.formed(EXAMPLE)
    assert example.form is not None
    assert example.form.conclusion(f"The answer is: {example.form}") == ""
    assert example.form.conclusion(f"The answer is: {str(example.form).capitalize()}.") == ""


@pytest.mark.parametrize(
    "task", sorted(TASKS.keys() - {"biased_qa", "pairwise_judging"})
)  # these have no prompts without a file
def test_built_in_tasks_have_a_form(task: str, tmp_path: Any) -> None:
    made = load_task(task, {}, tmp_path)
    row = made.parts().test[0]
    form = made.answer.formed(row.example).form
    assert form is not None
    assert form.conclusion(f"So.\nThe answer is: {row.label}") == row.label
    assert form.conclusion(f"The answer is: {form}") == ""


def test_the_form_names_labels_fields_and_letters() -> None:
    choices = Example("1", EXAMPLE.messages, {"choices": "A) Lima\nB) Quito\nC) Oslo"})
    assert str(label(["refund", "late"]).formed(EXAMPLE).form) == "one of these labels: refund, late"
    assert str(json_object(["city", "n"]).formed(EXAMPLE).form) == 'one JSON object with the fields "city", "n"'
    assert str(KINDS["choice"].formed(choices).form) == "the letter of one option: A, B or C"
    assert str(KINDS["choice"].formed(EXAMPLE).form) == "the letter of one option"


def test_a_users_own_prompt_may_name_the_form_or_leave_it_out() -> None:
    own = {"think": "{prompt} Think. End with: the answer is {form}."}
    _, [[asked]] = asked_by("cot", own, "The answer is yes", kind=KINDS["yes_no"])
    assert asked.content == "Is Ann lying? Think. End with: the answer is yes or no."
    _, [[asked]] = asked_by("cot", {"think": "Think. {prompt}"}, "The answer is yes", kind=KINDS["yes_no"])
    assert asked.content == "Think. Is Ann lying?"
    _, [asked] = asked_by("direct", {"instruction": 'Say {form}, no {"json": 1}.'}, "yes", kind=KINDS["yes_no"])
    assert asked[0] == Message("system", 'Say yes or no, no {"json": 1}.')


def test_what_cannot_be_read_is_asked_for_once_more_and_not_guessed() -> None:
    reply = "Ann says that Bo lies, and Bo does not. Therefore Ann is lying."
    output, asked = asked_by("cot", {}, reply, "Yes", kind=KINDS["yes_no"])
    assert output == "Yes"
    assert asked[1][:2] == [*asked[0], Message("assistant", reply)]
    assert "yes or no" in asked[1][2].content


@pytest.mark.parametrize(
    ("technique", "replies"),
    [("cot", ["Hm.", "no"]), ("rar", ["q?", "Hm.", "no"]), ("s2a", ["q?", "Hm.", "no"]), ("think", ["Hm.", "no"])],
)
def test_extraction_can_be_turned_off_or_always_on(technique: str, replies: list[str]) -> None:
    kind = KINDS["yes_no"]
    assert asked_by(technique, {}, *replies, kind=kind)[0] == "no"
    output, asked = asked_by(technique, {"extract": "never"}, *replies, kind=kind)
    assert len(asked) == len(replies) - 1
    assert kind.extract(EXAMPLE, output) is None
    readable = [*replies[:-2], "The answer is: no", "no"]
    assert len(asked_by(technique, {}, *readable, kind=kind)[1]) == len(readable) - 1
    assert len(asked_by(technique, {"extract": "always"}, *readable, kind=kind)[1]) == len(readable)
    with pytest.raises(UserError, match="technique.extract: one of unparsable, always, never, not 'no'"):
        asked_by(technique, {"extract": "no"}, *replies, kind=kind)


def test_the_extraction_is_a_call_like_any_other_and_counted_in_the_cost(tmp_path: Any) -> None:
    def reply(request: Request) -> str:
        return "no" if len(request.messages) == 3 else "He says so, but she does not."

    model = Model(Store(tmp_path / "calls.sqlite"), {"weights": "w"}, Scripted(reply))
    system = System(load_technique("cot", {}), Decoding(0.7, 0.95, 64))
    sample = asyncio.run(draw(model, system, EXAMPLE, 0, KINDS["yes_no"]))
    assert (sample.answer, sample.failure, len(sample.trace)) == ("no", None, 2)
    assert sample.completion_tokens == sum(call.reply.completion_tokens for call in sample.trace)


OBJECT = '{"city": "Graz", "name": "Ann"}'
PRETTY = '{\n  "city": "Graz",\n  "name": "Ann"\n}'


@pytest.mark.parametrize(
    ("reply", "output"),
    [
        (f"She is Ann.\nThe answer is:\n{PRETTY}", PRETTY),
        (f"She is Ann.\nThe answer is:\n```json\n{PRETTY}\n```\nHope this helps!", PRETTY),
        (f"The answer is: {OBJECT}", OBJECT),
        (OBJECT, OBJECT),
        (f"```json\n{PRETTY}\n```", PRETTY),
        (
            f'First guess: {{"city": "Rome", "name": "Ann"}}. No: she writes from Graz.\n\n```json\n{PRETTY}\n```',
            PRETTY,
        ),
        (f'{{"city": "Rome", "name": "Ann"}} or {OBJECT}, I cannot tell', ""),
        ('The answer is: {"city": "Graz"}', ""),  # a field is missing
        ('The answer is: {"city": "Graz", "name": "Ann"', ""),
        ("She is Ann, from Graz.", ""),
    ],
)
def test_an_object_is_found_over_several_lines_fenced_or_bare(reply: str, output: str) -> None:
    kind = json_object(["city", "name"])
    assert asked_by("cot", {"extract": "never"}, reply, kind=kind)[0] == output


def test_free_text_is_all_that_follows_the_reasoning() -> None:
    reply = "Polite means please.\nThe answer is:\n\nDear Ann,\n\nplease come.\n"
    assert asked_by("cot", {}, reply, kind=KINDS["free_text"])[0] == "Dear Ann,\n\nplease come."


def test_a_judges_unreadable_scores_are_asked_for_once_more() -> None:
    example = replace(EXAMPLE, fields=PAIR)
    options = {"criteria": ["clear"], "both_orders": False}
    replies = ["Both are fine, the first a little more so.", "A: 4, B: 3"]
    output, asked = asked_by("bsm", options, *replies, kind=KINDS["verdict"], example=example)
    assert output == "A"
    assert asked[1][-2] == Message("assistant", replies[0])
    assert asked_by("bsm", {**options, "extract": "never"}, *replies, kind=KINDS["verdict"], example=example)[0] == ""
    merge = {**options, "merge": "call"}
    replies = ["A: 4, B: 3", "One is better.", "B"]
    assert asked_by("bsm", merge, *replies, kind=KINDS["verdict"], example=example)[0] == "B"


@pytest.mark.parametrize(
    ("replies", "completion"),
    [
        (['{"Name": "Dr. Ada LOVELACE",  "City": "London"}'] * 3, '{"Name": "Dr. Ada LOVELACE",  "City": "London"}'),
        (
            [
                '{"Name": "Ada", "City": "London"}',
                '{"Name": "Ada", "City": "Rome"}',
                '{"Name": "Eve", "City": "London"}',
            ],
            '{"Name": "Ada", "City": "London"}',
        ),
        (
            [
                '{"Name": "Eve", "City": "London", "n": 2}',
                '{"Name": "Ada", "City": "Rome", "n": 2.0}',
                '{"Name": "Ada", "City": "London", "n": 3}',
            ],
            '{"Name": "Ada", "City": "London", "n": 2}',
        ),
    ],
)
def test_objects_are_learnt_as_the_model_wrote_them(
    replies: list[str], completion: str, recipe: Any, jsonl: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = iter([*replies, *replies])
    monkeypatch.setattr("secondnature.context.open_engine", lambda *_: Scripted(lambda request: next(script, "{}")))
    jsonl("orders.jsonl", [{"prompt": "Who?", "answer": '{"Name": "ada", "City": "london"}'}])
    jsonl("others.jsonl", [{"prompt": "Where?", "answer": '{"Name": "bo", "City": "oslo"}'}])
    file = recipe(
        data={"train": "orders.jsonl", "dev": "others.jsonl", "test": "others.jsonl"},
        answer={"kind": "json"},
        technique={"name": "direct"},
        sampling={"n": 3, "full_n": True},
        verify={"min_agreement": 0.5},
    )
    with open_run(tmp_path / "run", load_recipe(file)) as run, open_context(run, Display(quiet=True)) as context:
        stages.sample(context)
        stages.verify(context)
        [row] = [json.loads(line) for line in run.curated.read_text().splitlines()]
    assert row["completion"] == [{"role": "assistant", "content": completion}]
