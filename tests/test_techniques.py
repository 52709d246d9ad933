"""Techniques with a scripted `ask`: no model is needed to see what they say to one."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from secondnature.techniques import TECHNIQUES, load_technique, option_value
from secondnature.techniques.bsm import criteria_in, scores_in, verdict_in
from secondnature.types import Example, Message, UserError

EXAMPLE = Example("1", (Message("system", "Be brief."), Message("user", "I think it is Oslo. Capital of Peru?")))
DEMONSTRATION = {"prompt": "p", "rewritten": "r", "rephrased": "q", "answer": "a", "reasoning": "w, so a"}
SYSTEM = EXAMPLE.messages[0]
PLAIN = {"answer": "{rewritten}"}  # without the form of the answer
EARLIER = (Message("user", "Where is Peru?"), Message("assistant", "In Asia, I say."))
LONG = Example("2", (SYSTEM, *EARLIER, Message("user", "What is its capital?")))


def run(
    technique: Callable[..., Coroutine[Any, Any, str]], *replies: str, example: Example = EXAMPLE
) -> tuple[str, list[list[Message]]]:
    """The technique's output on an example, and what it asked, when these are the replies."""
    asked: list[list[Message]] = []
    script = iter(replies)

    async def ask(prompt: str | Sequence[Message], /) -> str:
        asked.append([Message("user", prompt)] if isinstance(prompt, str) else list(prompt))
        return next(script)

    return asyncio.run(technique(example, ask)), asked


def test_direct_asks_the_prompt_as_it_is() -> None:
    output, asked = run(load_technique("direct", {}), "Lima")
    assert output == "Lima"
    assert asked == [list(EXAMPLE.messages)]


def test_direct_takes_an_instruction_and_worked_examples() -> None:
    _, [asked] = run(load_technique("direct", {"instruction": "Ignore.", "demonstrations": [DEMONSTRATION]}), "Lima")
    shown = [Message("system", "Be brief.\n\nIgnore."), Message("user", "p"), Message("assistant", "a")]
    assert asked == [*shown, EXAMPLE.messages[-1]]


def test_think_asks_with_thinking_on_and_nothing_else_does() -> None:
    thought: list[bool] = []

    async def ask(prompt: str | Sequence[Message], /, *, thinking: bool = False) -> str:
        thought.append(thinking)
        assert list(prompt) == list(EXAMPLE.messages)
        return "Lima"

    assert asyncio.run(load_technique("think", {"answer": "{prompt}"})(EXAMPLE, ask)) == "Lima"
    assert asyncio.run(load_technique("direct", {})(EXAMPLE, ask)) == "Lima"
    assert thought == [True, False]


def test_s2a_answers_the_rewritten_prompt_alone() -> None:
    output, (first, second) = run(load_technique("s2a", PLAIN), "Capital of Peru?", "Lima")
    assert output == "Lima"
    assert first[0] == SYSTEM
    assert EXAMPLE.text in first[1].content
    assert second == [Message("system", "Be brief."), Message("user", "Capital of Peru?")]


def test_s2a_shows_demonstrations_as_turns_and_can_keep_the_original() -> None:
    options = {"demonstrations": [DEMONSTRATION], "keep_original": True, **PLAIN}
    _, (first, second) = run(load_technique("s2a", options), "Capital of Peru?", "Lima")
    assert first == [SYSTEM, Message("user", "p"), Message("assistant", "r"), EXAMPLE.messages[-1]]
    assert second[-1].content == f"{EXAMPLE.text}\n\nCapital of Peru?"


def test_s2a_rewrites_all_turns_into_one_and_answers_that_alone() -> None:
    _, (first, second) = run(load_technique("s2a", PLAIN), "What is the capital of Peru?", "Lima", example=LONG)
    assert first[0] == SYSTEM
    assert "User: Where is Peru?\n\nAssistant: In Asia, I say.\n\nUser: What is its capital?" in first[1].content
    assert second == [SYSTEM, Message("user", "What is the capital of Peru?")]


def test_s2a_that_keeps_the_original_keeps_its_earlier_turns() -> None:
    _, (_, second) = run(
        load_technique("s2a", {"keep_original": True, **PLAIN}), "Capital of Peru?", "Lima", example=LONG
    )
    assert second == [*LONG.messages[:-1], Message("user", "What is its capital?\n\nCapital of Peru?")]


@pytest.mark.parametrize(
    ("name", "options"),
    [("cot", {}), ("rar", {"steps": 1}), ("rar", {"steps": 2}), ("direct", {"instruction": "x"}), ("direct", {})],
)
@pytest.mark.parametrize("demonstrations", [[], [DEMONSTRATION]])
def test_every_call_keeps_the_conversation_and_has_one_system_message(
    name: str, options: dict[str, Any], demonstrations: list[dict[str, str]]
) -> None:
    _, asked = run(load_technique(name, {**options, "demonstrations": demonstrations}), "a", "b", example=LONG)
    for messages in asked:
        assert [message.role for message in messages].index("system") == 0
        assert sum(message.role == "system" for message in messages) == 1
        assert messages[0].content.startswith("Be brief.")
        assert tuple(messages[-3:-1]) == EARLIER
        assert len(messages) == 4 + 2 * len(demonstrations)


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
        ('The answer is "The answer is: Lima', "Lima"),
        ("The answer is: Lima, the capital, says the map\n", "Lima, the capital, says the map"),
        ("The answer is: <answer>", ""),
        ("The answer is: x < 3 or x > 5", "x < 3 or x > 5"),
        ("The answer is: $42", "$42"),
        ("## Final Answer\n\n42 pens", "42 pens"),
        ("**Final answer**\n42", "42"),
        ("2 + 2 = 4\n#### 4", "4"),
        ("#### Step 1\nAdd.\n#### Step 2\nCarry.", ""),
        ("So it is \\boxed{42}.", "42"),
        ("The answer is: $\\boxed{\\frac{\\sqrt{2}}{2}}$", "\\frac{\\sqrt{2}}{2}"),
        ("\\boxed{3}, no: the answer is: \\boxed{\\text{Lima}}", "Lima"),
        ("\\boxed{3}. No. The answer is: 4", "4"),
        ("It is \\boxed{4", ""),
    ],
)
def test_reasoning_that_speaks_of_an_answer_is_not_the_answer(reply: str, output: str) -> None:
    assert run(load_technique("cot", {}), reply)[0] == output


def test_few_shot_cot_shows_the_reasoning_as_turns() -> None:
    output, [asked] = run(load_technique("cot", {"demonstrations": [DEMONSTRATION]}), "So the answer is Lima.")
    assert output == "Lima."
    assert asked[:3] == [SYSTEM, Message("user", "p"), Message("assistant", "w, so a")]
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


def test_rar_shows_worked_examples_of_both_its_steps() -> None:
    _, (first, second) = run(load_technique("rar", {"demonstrations": [DEMONSTRATION]}), "Which city?", "Lima")
    assert first[1:] == [Message("user", "p"), Message("assistant", "q"), EXAMPLE.messages[-1]]
    assert second[2] == Message("assistant", "a")
    assert second[1].content == second[3].content.replace(EXAMPLE.text, "p").replace("Which city?", "q")
    _, [only] = run(load_technique("rar", {"steps": 1, "demonstrations": [DEMONSTRATION]}), "x")
    assert only[2] == Message("assistant", "q\nThe answer is: a")


def test_rar_has_one_or_two_steps() -> None:
    with pytest.raises(UserError, match="1 or 2 steps, not 3"):
        run(load_technique("rar", {"steps": 3}))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("cot", {"think": "{prmpt} Think."}, r"think: \{prmpt\} is no placeholder \(did you mean 'prompt'\?\)"),
        ("cot", {"think": "Think."}, r"think: there is no \{prompt\} in it"),
        ("cot", {"think": "{prompt} {}"}, r"think: \{\} is no placeholder"),
        ("cot", {"think": "{prompt} as {'a': 1}"}, "think: .* is no placeholder.*a brace that is meant as one"),
        ("cot", {"think": "{prompt} }"}, "think: .*a brace that is meant as one"),
        ("cot", {"think": "{prompt.text}"}, "think: "),
        ("cot", {"think": "{prompt:>9q}"}, "think: "),
        ("cot", {"think": "{prompt!z}"}, "think: "),
        ("rar", {"steps": 1, "one_step": "x"}, r"one_step: there is no \{prompt\}"),
        ("rar", {"rephrase": "x"}, r"rephrase: there is no \{prompt\}"),
        ("rar", {"respond": "{prompt}"}, r"respond: there is no \{rephrased\}"),
        ("rar", {"respond": "{rephrased} {x}", "demonstrations": [DEMONSTRATION]}, r"respond: \{x\} is no placeholder"),
        ("s2a", {"rewrite": "x"}, r"rewrite: there is no \{prompt\}"),
        ("s2a", {"answer": "{prompt}"}, r"answer: there is no \{rewritten\}"),
    ],
)
def test_a_prompt_with_a_wrong_placeholder_is_one_line(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=f"technique.{said}") as error:
        run(load_technique(name, options), "a", "b")
    assert "\n" not in str(error.value)


def test_braces_in_prompts_and_replies_stay() -> None:
    example = Example("3", (Message("user", "What is {x} in {prompt} }{?"),))
    options = {"rewrite": "{{json}} {prompt}", "answer": "{{}} {rewritten}"}
    _, (first, second) = run(load_technique("s2a", options), "{rewritten} }{", "b", example=example)
    assert first[-1].content == "{json} What is {x} in {prompt} }{?"
    assert second[-1].content == "{} {rewritten} }{"


def test_a_demonstration_without_a_needed_field_is_named() -> None:
    with pytest.raises(UserError, match=r"number 1 of the demonstrations has no 'rewritten'"):
        run(load_technique("s2a", {"demonstrations": [{"prompt": "p"}]}), "x", "y")


def test_one_of_your_own_by_file_and_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "async def twice(example, ask, *, word='again'):\n    await ask(example.messages)\n    return await ask(word)\n"
    )

    def loaded(name: str, options: dict[str, Any]) -> Any:
        technique: Any = load_technique(f"{tmp_path}/mine.py:{name}", options)
        technique.load()
        return technique

    output, asked = run(loaded("twice", {"word": "once more"}), "a", "b")
    assert output == "b"
    assert asked[1] == [Message("user", "once more")]
    with pytest.raises(UserError, match="did you mean 'word'"):
        loaded("twice", {"wrod": 1})
    with pytest.raises(UserError, match="no async function 'thrice'"):
        loaded("thrice", {})


def test_unknown_names_and_options_name_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'direct'"):
        load_technique("dierct", {})
    with pytest.raises(UserError, match="did you mean 'keep_original'"):
        load_technique("s2a", {"keep_orignal": True})


def test_every_technique_cites_its_source() -> None:
    for name, function in TECHNIQUES.items():
        assert "arXiv" in (function.__doc__ or "") or name == "direct", name


# Branch-Solve-Merge

JUDGED = Example(
    "4",
    (SYSTEM, Message("user", "Which is better?")),
    {"question": "Capital of {Peru}?", "answer_a": "Lima {x}", "answer_b": "Cusco"},
)


def judge(answers: Callable[[str], str], **options: Any) -> tuple[str, list[str]]:
    """The verdict on JUDGED and the last turns of the calls, where `answers` says what is replied to one."""
    asked: list[str] = []

    async def ask(prompt: str | Sequence[Message], /) -> str:
        assert not isinstance(prompt, str)
        assert prompt[0] == SYSTEM
        asked.append(prompt[-1].content)
        return answers(prompt[-1].content)

    return asyncio.run(load_technique("bsm", options)(JUDGED, ask)), asked


def in_turn(criteria: str, scores: Callable[[str, bool], str]) -> Callable[[str], str]:
    """Replies: the criteria, then scores by (prompt, whether Lima is A)."""

    def answers(prompt: str) -> str:
        return scores(prompt, "Answer A: Lima" in prompt) if "Cusco" in prompt else criteria

    return answers


def test_bsm_adds_up_the_scores_of_both_orders() -> None:
    answers = in_turn("1. Right\n2. Short", lambda _, lima_first: "A: 5\nB: 2" if lima_first else "A: 2\nB: 5")
    verdict, asked = judge(answers)
    assert verdict == "A"
    assert len(asked) == 1 + 2 * 2
    assert "Cusco" not in asked[0]
    assert "Capital of {Peru}?" in asked[0]
    assert [("Right" in text, "Answer A: Lima {x}" in text) for text in asked[1:]] == [
        (True, True), (False, True), (True, False), (False, False),
    ]  # fmt: skip


def test_a_judge_who_prefers_a_place_finds_a_tie() -> None:
    answers = in_turn("Right", lambda *_: "A: 5\nB: 2")
    assert judge(answers)[0] == "tie"
    verdict, asked = judge(answers, both_orders=False)
    assert verdict == "A"
    assert len(asked) == 2


def test_equal_sums_are_a_tie_and_one_unreadable_score_leaves_no_verdict() -> None:
    assert judge(in_turn("Right\nShort", lambda text, _: "A: 5, B: 2" if "Right" in text else "A: 1, B: 4"))[0] == "tie"
    unparsable = in_turn("Right\nShort", lambda text, first: "A: 5, B: 2" if "Right" in text or first else "A is fine")
    assert judge(unparsable)[0] == ""
    assert judge(in_turn("", lambda *_: "A: 5, B: 2"))[0] == ""


def test_bsm_can_merge_by_a_call() -> None:
    def answers(prompt: str) -> str:
        if "Weigh" in prompt:
            assert "Right: A 4, B 3.5" in prompt
            return "**Answer B** is better" if "Answer A: Lima" in prompt else "The verdict is: A"
        return "A: 4\nB: 3.5"

    verdict, asked = judge(answers, criteria=["Right"], merge="call")
    assert verdict == "B"
    assert len(asked) == 4
    with pytest.raises(UserError, match="by sum or by call, not by 'vote'"):
        judge(answers, merge="vote")


def test_bsm_shows_worked_examples_of_branch_and_solve() -> None:
    fields = {
        "question": "q",
        "answer_a": "a",
        "answer_b": "b",
        "criterion": "c",
        "scores": "A: 1\nB: 2",
        "criteria": "c\nd",
    }
    options = {"branch_demonstrations": [fields], "solve_demonstrations": [fields], "both_orders": False}
    _, (branch, solve, _) = run(load_technique("bsm", options), "c\nd", "A: 1, B: 2", "A: 1, B: 2", example=JUDGED)
    assert branch[2] == Message("assistant", "c\nd")
    assert branch[1].content == branch[3].content.replace("Capital of {Peru}?", "q")
    assert solve[2] == Message("assistant", "A: 1\nB: 2")
    with pytest.raises(UserError, match="number 1 of the demonstrations has no 'scores'"):
        run(load_technique("bsm", {"solve_demonstrations": [{**fields, "scores": ""}]}), "c", example=JUDGED)


def test_an_options_value_is_the_given_one_or_its_default() -> None:
    assert option_value(load_technique("bsm", {}), "both_orders") is True
    assert option_value(load_technique("bsm", {"both_orders": False}), "both_orders") is False
    assert option_value(load_technique("cot", {}), "both_orders") is None


def test_bsm_says_what_it_needs() -> None:
    with pytest.raises(UserError, match="1 has no 'question'"):
        run(load_technique("bsm", {}))
    with pytest.raises(UserError, match=r"technique.solve: there is no \{criterion\}"):
        judge(in_turn("Right", lambda *_: ""), solve="{question} {answer_a} {answer_b}")


def test_bsm_asks_all_its_calls_to_the_end_before_it_fails() -> None:
    ended: list[str] = []

    async def ask(prompt: str | Sequence[Message], /) -> str:
        text = prompt[-1].content if not isinstance(prompt, str) else prompt
        if "fails" in text:
            raise LookupError("fails")
        await asyncio.sleep(0.01)
        ended.append(text)
        return "A: 1, B: 2"

    with pytest.raises(LookupError):
        asyncio.run(load_technique("bsm", {"criteria": ["fails", "slow"]})(JUDGED, ask))
    assert len(ended) == 2


@pytest.mark.parametrize(
    ("reply", "criteria"),
    [
        ("Accuracy\nClarity", ["Accuracy", "Clarity"]),
        ("Some criteria:\n\n1. Accuracy: is it so?\n2. **Clarity**\n\nI hope this helps!", ["Accuracy: is it so?", "Clarity"]),
        ("1. **Accuracy:**\n   - Is it right?\n   - Is it true?\n2) Clarity", ["Accuracy", "Clarity"]),
        ("A. Accuracy\nB. Clarity", ["Accuracy", "Clarity"]),
        ("- Accuracy\n* Clarity\n• Accuracy", ["Accuracy", "Clarity"]),
        ("**1. Accuracy**\n**2. Clarity**", ["Accuracy", "Clarity"]),
        ("a\nb\nc\nd\ne\nf", ["a", "b", "c", "d", "e"]),
        ("", []),
        ("Criteria:", []),
    ],
)  # fmt: skip
def test_criteria_are_read_as_small_models_write_them(reply: str, criteria: list[str]) -> None:
    assert criteria_in(reply) == criteria


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        ("A: 4\nB: 2", (4, 2)),
        ("A: 4/5, B: 2/5", (4, 2)),
        ("A: 4 out of 5\nB: 2 out of 5.", (4, 2)),
        ("Response A: 4\nResponse B: 2", (4, 2)),
        ("**Answer A:** **4**\n**Answer B:** **2**", (4, 2)),
        ("Score for A: 4. Score for B: 2.", (4, 2)),
        ("Answer A gets a score of 4, answer B is 2", (4, 2)),
        ("A = 4; B = 2", (4, 2)),
        ("A (4), B (2)", (4, 2)),
        ("A - 4\nB \u2013 2", (4, 2)),
        ('{"A": 4, "B": 2}', (4, 2)),
        ("A:\n4\nB:\n2", (4, 2)),
        ("B: 2\nA: 4", (4, 2)),
        ("4, 2", (4, 2)),
        ("4/5\n2/5", (4, 2)),
        ("A: 4.5\nB: 2", (4.5, 2)),
        ("A good answer. A: 4\nB: 2\nSo A: 4", (4, 2)),
        ("A: 4", None),
        ("A: 4\nB: six", None),
        ("A: 4\nB: 7", None),
        ("A: 0\nB: 4", None),
        ("A: 4/10\nB: 2/10", None),
        ("A: 40%\nB: 20%", None),
        ("A: 4\nB: 2\nA: 3", None),
        ("A score of 4 is right for B", None),
        ("A has 4 errors, B has 2 errors", None),
        ("4/5", None),
        ("Plan A4, B2", None),
        ("", None),
    ],
)
def test_scores_are_read_as_small_models_write_them_or_not_at_all(
    reply: str, scores: tuple[float, float] | None
) -> None:
    assert scores_in(reply) == scores


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("A", "A"), ("**B**", "B"), ("Tie.", "tie"), ("Answer B is better.", "B"), ("[[A]]", "A"), ("A is better than B", ""),
        ("A good answer is B", "B"), ("", ""), ("Neither", ""), ("A or B", ""), ("The answer is: A\nA tie is out", "A"),
    ],
)  # fmt: skip
def test_a_merging_call_names_one_verdict(reply: str, verdict: str) -> None:
    assert verdict_in(reply) == verdict
