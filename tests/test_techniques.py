"""Techniques with a scripted `ask`: no model is needed to see what they say to one."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from secondnature.techniques import TECHNIQUES, load_technique
from secondnature.types import Example, Message, UserError

EXAMPLE = Example("1", (Message("system", "Be brief."), Message("user", "I think it is Oslo. Capital of Peru?")))
DEMONSTRATION = {"prompt": "p", "rewritten": "r", "answer": "a", "reasoning": "w, so a"}


def run(technique: Callable[..., Coroutine[Any, Any, str]], *replies: str) -> tuple[str, list[list[Message]]]:
    """The technique's output on EXAMPLE, and what it asked, when these are the replies."""
    asked: list[list[Message]] = []
    script = iter(replies)

    async def ask(prompt: str | Sequence[Message], /) -> str:
        asked.append([Message("user", prompt)] if isinstance(prompt, str) else list(prompt))
        return next(script)

    return asyncio.run(technique(EXAMPLE, ask)), asked


def test_direct_asks_the_prompt_as_it_is() -> None:
    output, asked = run(load_technique("direct", {}), "Lima")
    assert output == "Lima"
    assert asked == [list(EXAMPLE.messages)]


def test_direct_takes_an_instruction_and_worked_examples() -> None:
    _, [asked] = run(load_technique("direct", {"instruction": "Ignore.", "demonstrations": [DEMONSTRATION]}), "Lima")
    shown = [Message("system", "Ignore."), Message("user", "p"), Message("assistant", "a")]
    assert asked == [*shown, *EXAMPLE.messages]


def test_s2a_answers_the_rewritten_prompt_alone() -> None:
    output, (first, second) = run(load_technique("s2a", {}), "Capital of Peru?", "Lima")
    assert output == "Lima"
    assert EXAMPLE.text in first[0].content
    assert second == [Message("system", "Be brief."), Message("user", "Capital of Peru?")]


def test_s2a_shows_demonstrations_as_turns_and_can_keep_the_original() -> None:
    options = {"demonstrations": [DEMONSTRATION], "keep_original": True}
    _, (first, second) = run(load_technique("s2a", options), "Capital of Peru?", "Lima")
    assert first == [Message("user", "p"), Message("assistant", "r"), Message("user", EXAMPLE.text)]
    assert second[-1].content == f"{EXAMPLE.text}\n\nCapital of Peru?"


def test_cot_drops_the_reasoning() -> None:
    output, [asked] = run(load_technique("cot", {}), "Peru is in South America.\n**The answer is: Lima**\n")
    assert output == "Lima"
    assert asked[-1].content.startswith(EXAMPLE.text)


def test_cot_without_an_answer_line_gives_nothing_to_read() -> None:
    assert run(load_technique("cot", {}), "Peru is in South America, and")[0] == ""


@pytest.mark.parametrize(
    ("reply", "output"),
    [
        ("The answer is: Lima\nThis answers the question.", "Lima"),
        ("To answer this, think of Peru's history", ""),
        ("**Answer:** Lima", "Lima"),
        ("The answer is:\nLima", "Lima"),
        ("The answer is:", ""),
        ("The answer is: Cusco. No.\nSo the final answer is **Lima**", "Lima"),
    ],
)
def test_reasoning_that_speaks_of_an_answer_is_not_the_answer(reply: str, output: str) -> None:
    assert run(load_technique("cot", {}), reply)[0] == output


def test_few_shot_cot_shows_the_reasoning_as_turns() -> None:
    output, [asked] = run(load_technique("cot", {"demonstrations": [DEMONSTRATION]}), "So the answer is Lima.")
    assert output == "Lima."
    assert asked[:2] == [Message("user", "p"), Message("assistant", "w, so a")]
    assert asked[-1].content == EXAMPLE.text


def test_rar_in_two_steps_answers_both_questions_together() -> None:
    output, (first, second) = run(load_technique("rar", {}), "Which city is the capital of Peru?", "Lima")
    assert output == "Lima"
    assert EXAMPLE.text in first[-1].content
    assert EXAMPLE.text in second[-1].content
    assert "Which city is the capital of Peru?" in second[-1].content


def test_rar_in_one_step_drops_the_rephrasing() -> None:
    output, [_] = run(load_technique("rar", {"steps": 1}), "Which city is it?\nThe answer is: Lima")
    assert output == "Lima"


def test_a_demonstration_without_a_needed_field_is_named() -> None:
    with pytest.raises(UserError, match=r"number 1 has no 'rewritten'"):
        run(load_technique("s2a", {"demonstrations": [{"prompt": "p"}]}), "x", "y")


def test_one_of_your_own_by_file_and_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "async def twice(example, ask, *, word='again'):\n    await ask(example.messages)\n    return await ask(word)\n"
    )
    output, asked = run(load_technique("mine.py:twice", {"word": "once more"}, tmp_path), "a", "b")
    assert output == "b"
    assert asked[1] == [Message("user", "once more")]
    with pytest.raises(UserError, match="did you mean 'word'"):
        load_technique("mine.py:twice", {"wrod": 1}, tmp_path)
    with pytest.raises(UserError, match="no async function 'thrice'"):
        load_technique("mine.py:thrice", {}, tmp_path)


def test_unknown_names_and_options_name_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'direct'"):
        load_technique("dierct", {})
    with pytest.raises(UserError, match="did you mean 'keep_original'"):
        load_technique("s2a", {"keep_orignal": True})


def test_every_technique_cites_its_source() -> None:
    for name, function in TECHNIQUES.items():
        assert "arXiv" in (function.__doc__ or "") or name == "direct", name
