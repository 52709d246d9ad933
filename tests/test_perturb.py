"""Perturbations: the prompt changes, the right answer must not; no model is needed to see it."""

import asyncio
import hashlib
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from secondnature.perturb import PERTURBATIONS, Variant, load_perturbation
from secondnature.perturb.base import moved
from secondnature.perturb.reword import SHOWN, says_the_same
from secondnature.types import Example, Message, UserError
from secondnature.user_code import UserFunction

ENGLISH = Path(__file__).parent.parent / "examples" / "perturbations" / "english.py"
JUDGE = "Question: {question}\nA: {answer_a}\nB: {answer_b}\nWhich is better? Reply {{A}}, {{B}} or tie."


def prompt(text: str, *before: Message, **fields: str) -> Example:
    return Example("one", (*before, Message("user", text)), fields)


def made(template: str, **fields: str) -> Example:
    return Example("one", (Message("user", template.format(**fields)),), fields, template)


def perturbed(name: str, example: Example, reply: str = "") -> Variant | None:
    async def ask(asked: str | Sequence[Message], /) -> str:
        assert reply, "a perturbation by rule asks no model"
        return reply

    perturbation = load_perturbation(name if name in PERTURBATIONS else f"{ENGLISH}:{name}")
    if isinstance(perturbation, UserFunction):
        perturbation.load()
    variant = asyncio.run(perturbation(example, ask))
    if variant is not None:
        assert variant.example.id == example.id
        assert variant.example != example
        if example.template:
            assert variant.example.text == variant.example.template.format(**variant.example.fields)
    return variant


def some(name: str, example: Example, reply: str = "") -> Variant:
    variant = perturbed(name, example, reply)
    assert variant is not None
    return variant


# swap


@pytest.mark.parametrize(
    ("a", "b"),
    [("Lima", "Cusco"), ("{answer_b}", "{0} {x!r} }{"), ("Li", "Lima"), ("A: B", "B: A"), ("né", "ne\u0301")],
)
def test_swap_exchanges_the_answers_whatever_is_in_them(a: str, b: str) -> None:
    variant = some("swap", made(JUDGE, question="Capital of {Peru}?", answer_a=a, answer_b=b))
    assert variant.example.text == JUDGE.format(question="Capital of {Peru}?", answer_a=b, answer_b=a)
    assert (variant.example["answer_a"], variant.example["answer_b"]) == (b, a)


@pytest.mark.parametrize(
    ("answer", "meant"),
    [
        ("A", "B"), ("B", "A"), ("b", "a"), ("tie", "tie"), ("Tie", "tie"), ("[[A]]", "[[B]]"), ("Answer B.", "Answer A."),
        ("first", "second"), ("the Second", "the First"), ("1", "2"), ("12", "12"), ("equal", "equal"), ("", ""),
    ],
)  # fmt: skip
def test_swap_maps_the_verdict_back(answer: str, meant: str) -> None:
    back = some("swap", made(JUDGE, question="q", answer_a="x", answer_b="y")).back
    assert back(answer).casefold() == meant.casefold()
    assert back(back(answer)) == answer


def test_swap_leaves_equal_answers_only_the_tie() -> None:
    example = made(JUDGE, question="q", answer_a="x", answer_b="x")

    async def ask(asked: str | Sequence[Message], /) -> str:
        raise AssertionError

    variant = asyncio.run(PERTURBATIONS["swap"](example, ask))
    assert variant is not None
    assert variant.example == example
    assert variant.back("A") != "A"
    assert variant.back("tie") == "tie"


@pytest.mark.parametrize(
    "example",
    [
        prompt("Which is better?"),
        prompt("Which is better, x or y?", answer_a="x", answer_b="y"),
        made("Judge {answer_a}.", answer_a="x", answer_b="y"),
        made("Judge {answer_a}.", answer_a="x"),
    ],
)
def test_swap_says_what_it_needs(example: Example) -> None:
    with pytest.raises(UserError, match=r"swap .*answer_.*template"):
        perturbed("swap", example)


# shuffle

CAPITAL = "What is the capital of Peru?\n"


def options_of(text: str, mark: str = ") ") -> dict[str, str]:
    return dict(line.strip(" (").split(mark, 1) for line in text.splitlines() if mark in line)


@pytest.mark.parametrize("form", ["{}) {}", "({}) {}", "{}. {}", "  - {}: {}", "**{})** {}", "[{}] {}"])
@pytest.mark.parametrize(
    "end", ["", "\nAnswer with the letter only.", "\nAnswer:", "\n\nAnswer A, B or C.", "\nReply A-C.\nA:"]
)
def test_shuffle_moves_every_option_and_maps_letters_back(form: str, end: str) -> None:
    texts = dict(zip("ABC", ("Lima", "Oslo {x}", "Rome"), strict=True))
    variant = some("shuffle", prompt(CAPITAL + "\n".join(form.format(*item) for item in texts.items()) + end))
    text = variant.example.text
    for letter, option in texts.items():
        [there] = [c for c in "ABC" if form.format(c, option) in text.splitlines()]
        assert there != letter
        assert variant.back(there) == letter
        assert variant.back(f"({there})") == f"({letter})"
        assert variant.back(f"{there.lower()}) {option}") == f"{letter.lower()}) {option}"
    assert text.startswith(CAPITAL)
    assert text.endswith(end)
    assert variant.back("Lima") == "Lima"
    assert variant.back("D") == "D"


def test_shuffle_changes_the_field_that_the_options_are_in() -> None:
    choices = "A) Lima {really}\nB) Oslo\nC) Rome\nD) Riga"
    variant = some("shuffle", made("{question}\n{choices}\nAnswer:", question="Capital of Peru?", choices=choices))
    assert sorted(options_of(variant.example["choices"]).values()) == ["Lima {really}", "Oslo", "Riga", "Rome"]
    assert variant.example["question"] == "Capital of Peru?"


def test_shuffle_changes_the_template_where_the_options_are_fields() -> None:
    template = "{question}\nA) {a}\nB) {b}\nAnswer {{A}} or {{B}}."
    variant = some("shuffle", made(template, question="Capital of Peru?", a="Lima", b="Oslo"))
    assert options_of(variant.example.text) == {"A": "Oslo", "B": "Lima"}
    assert variant.example["a"] == "Lima"
    assert variant.back("A") == "B"


def test_shuffle_changes_a_field_without_a_template_too() -> None:
    variant = some("shuffle", prompt(CAPITAL + "A) Lima\nB) Oslo", choices="A) Lima\nB) Oslo"))
    assert variant.example["choices"] == "A) Oslo\nB) Lima"


def test_shuffle_keeps_none_of_the_above_last() -> None:
    variant = some("shuffle", prompt(CAPITAL + "A) Oslo\nB) Rome\nC) None of the above"))
    assert options_of(variant.example.text) == {"A": "Rome", "B": "Oslo", "C": "None of the above"}
    assert variant.back("C") == "C"


@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of Peru?",
        CAPITAL + "A) Lima",
        CAPITAL + "A) Lima\nC) Oslo",
        CAPITAL + "B) Lima\nC) Oslo",
        CAPITAL + "A) Lima\nB) lima\nC) Oslo",
        CAPITAL + "A) Lima\nin Peru\nB) Oslo",
        CAPITAL + "A) Lima\nB) Oslo\n   in Norway",
        CAPITAL + "A) Lima\nB) Oslo\nC) Both A and B",
        CAPITAL + "A) Lima\nB) Oslo\nC) Same as B",
        CAPITAL + "A) All of these\nB) Oslo\nC) Rome",
        CAPITAL + "A) Oslo\nB) None of the above",
        CAPITAL + "A) Lima\nB) Oslo\nI think it is (B).",
        "It is not option A, is it?\nA) Lima\nB) Oslo",
        "Example:\nA) Lima\nB) Oslo\n\nNow you:\nA) Rome\nB) Riga",
    ],
)
def test_shuffle_leaves_alone_what_it_might_break(text: str) -> None:
    assert perturbed("shuffle", prompt(text)) is None


def test_an_article_is_no_option() -> None:
    assert perturbed("shuffle", prompt("A man asks: which is a city?\nA) Lima\nB) Peru")) is not None


@pytest.mark.parametrize("count", [2, 3, 4, 10, 26])
def test_nothing_stays_in_its_place(count: int) -> None:
    orders = {tuple(moved(count, hashlib.sha256(bytes([n])).digest())) for n in range(200)}
    for order in orders:
        assert sorted(order) == list(range(count))
        assert all(place != source for place, source in enumerate(order))
    assert len(orders) == {2: 1, 3: 2, 4: 6}.get(count, 200)


# rename and reorder: a file of the user's own, in examples/


LISTS = runpy.run_path(str(ENGLISH))
SHE, HE = LISTS["SHE"], LISTS["HE"]


def names_in(text: str) -> set[str]:
    return {word for word in text.replace("'s", " ").replace(".", " ").replace(",", " ").split() if word in {*SHE, *HE}}


def test_rename_is_consistent_and_maps_answers_back() -> None:
    text = "Anna gives Tom's dog to Ann. Ann thanks Anna and Tom, who is not Tommy. Who has Anna's dog?"
    variant = some("rename", prompt(text))
    new = variant.example.text
    assert not names_in(new) & {"Anna", "Ann", "Tom"}
    assert "Ann" in new.split()  # not in the list of names, so it stays, also where another name begins with it
    assert "Tommy" in new
    assert variant.back(new) == text
    first = new.split()[0]
    assert variant.back(first.lower()) == "anna"
    assert variant.back(f"**{first.upper()}'S** dog") == "**ANNA'S** dog"
    assert first in SHE


def test_rename_goes_through_all_turns_fields_and_the_template() -> None:
    before = (
        Message("system", "You help Elena."),
        Message("user", "Hello, I am Elena."),
        Message("assistant", "Hello, Elena!"),
    )
    template = "Elena asks: {question} {{Elena}}"
    question = "Is {Omar} older than Elena?"
    example = Example(
        "one", (*before, Message("user", template.format(question=question))), {"question": question}, template
    )
    variant = some("rename", example)
    for turn in variant.example.messages:
        assert "Elena" not in turn.content
        assert "Omar" not in turn.content
    assert "Omar" not in variant.example["question"]
    assert [variant.back(turn.content) for turn in variant.example.messages] == [
        turn.content for turn in example.messages
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Will May buy a rose in April? Mark it.",
        "Who was Marie Curie married to?",
        "When did Queen Elizabeth reign?",
        "Was Leonardo da Vinci a painter?",
        "And was it Aunt Maria?",
        "Write to anna@x.org, Anna.",
        "Anna called ANNA.",
        "Annas Hund bellt. Wem gehört er, Anna?",
        "Is Zoe\u0301 here?",
        "Anna-Maria is one name.",
        "The Danube and Adamant are no people.",
        "What is 2 + 2?",
    ],
)
def test_rename_leaves_alone_what_may_be_no_name_or_a_known_one(text: str) -> None:
    assert perturbed("rename", prompt(text)) is None


# reorder


def test_reorder_lets_facts_change_places() -> None:
    facts = ["Omar has 3 red pens.", "Lena has {5} blue pens.", "Mr. Ito has 2 pens."]
    variant = some("reorder", prompt(f"{facts[0]} {facts[1]}  {facts[2]} How many pens are there in all?"))
    text = variant.example.text
    assert text.endswith(" How many pens are there in all?")
    assert variant.back("A") == "A"
    assert all(fact in text for fact in (facts[0], facts[2]))
    assert not text.startswith(facts[0])


@pytest.mark.parametrize(
    "text",
    [
        "Omar has 3 pens. How many has he?",
        "Omar has 3 pens. Lena has 5. How many is that?",
        "Omar has 3 pens. Lena has 5 pens. How many does she have?",
        "Omar has 3 pens. He has 2 caps. Who has a cap?",
        "Omar buys 3 pens. Omar eats 2 plums. What has Omar?",
        "Omar has given away 3 pens. Lena has taken 2 pens. What is left?",
        "There was a box. The box was red. Lena was sad. Was the box red?",
        "Omar was in the garden. Then Lena was in the house. Who came first?",
        'Omar said: "Lena has 3 pens. Ito has 2 pens." What did he say?',
        "- Omar has 3 pens. Lena has 2 pens.\nHow many pens are there?",
        "Omar has 3 pens.\nLena has 2 pens.\nHow many pens are there?",
        "Omar has 3 pens. Lena has 2 pens.",
        "Is it so? Why is it so? Who is it?",
        "",
    ],
)
def test_reorder_leaves_alone_what_may_depend_on_its_order(text: str) -> None:
    assert perturbed("reorder", prompt(text)) is None


def test_reorder_keeps_the_first_where_others_point_back() -> None:
    text = "Lena is a nurse. Omar is a cook. Ito is a clerk. Mina is a judge. She has two cats. Who has cats?"
    variant = some("reorder", prompt(text))
    assert (
        variant.example.text
        == "Lena is a nurse. Ito is a clerk. Omar is a cook. Mina is a judge. She has two cats. Who has cats?"
    )


def test_reorder_does_not_touch_the_answers_of_a_judges_prompt() -> None:
    answer = "Omar has 3 pens. Lena has 5 pens. Ito has a cat."
    assert perturbed("reorder", made(JUDGE, question="Who has pens?", answer_a=answer, answer_b="Nobody.")) is None


# reword


@pytest.mark.parametrize(
    "reply",
    [
        "How many pens do Omar's 3 boxes of 12 hold?",
        '"How many pens do Omar\'s 3 boxes of 12 hold?"',
        "Here is the text in other words:\n\nHow many pens do Omar's 3 boxes of 12 hold?",
        "Reworded question: How many pens do Omar's three boxes of 12 hold?",
    ],
)
def test_reword_takes_the_models_words(reply: str) -> None:
    variant = some("reword", prompt("There are 3 boxes of 12 pens at Omar's. How many pens is that?"), reply)
    assert variant.example.text.replace("three", "3") == "How many pens do Omar's 3 boxes of 12 hold?"
    assert variant.back("36") == "36"


def test_reword_changes_the_question_only() -> None:
    example = made("{question}\n{opinion}", question="Capital of {Peru}?", opinion="I say Oslo.")
    variant = some("reword", example, "Which city is the capital of {Peru}?")
    assert variant.example.text == "Which city is the capital of {Peru}?\nI say Oslo."
    variant = some("reword", prompt(CAPITAL + "A) Lima\nB) Oslo"), "Which city is the capital of Peru?")
    assert variant.example.text == "Which city is the capital of Peru?\nA) Lima\nB) Oslo"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Add 3 and 12. What is it?", "What are 3 and 2, added?"),
        ("Add 3 and 3. What is it?", "What is 3 added to itself?"),
        ("Add three and 12. What is it?", "What is the sum with 12?"),
        ('Reverse "ab c". What is it?', 'What is "abc" in reverse?'),
        ("What is the capital of Peru?", "what is the Capital of Peru ?"),
        ("What is the capital of Peru?", "Lima."),
        ("What is the capital of Peru?", "Which city is the capital?"),
        ("Does Omar know Lena?", "Does she know Omar?"),
        ("What is the capital of Peru?", "What is the capital of Peru? It is Lima."),
        ("Is it so?", "Is it so, if one says it in quite other words that ask for the same?"),
        ("A coin is heads up. Omar flips it. Is it still heads up?", "Is it heads up?"),
    ],
)
def test_reword_sees_what_was_lost(old: str, new: str) -> None:
    assert not says_the_same(old, new)
    assert perturbed("reword", prompt(old), new) is None


def test_reword_shows_the_model_how_and_not_what_was_said_before() -> None:
    asked: list[Message] = []

    async def ask(prompt: str | Sequence[Message], /) -> str:
        asked.extend(prompt)  # type: ignore[arg-type]
        return "no"

    example = prompt("Which city is {it}?", Message("system", "Answer yes or no."))
    assert asyncio.run(PERTURBATIONS["reword"](example, ask)) is None
    assert [turn.role for turn in asked] == ["user", "assistant"] * 3 + ["user"]
    assert asked[-1].content.endswith("Which city is {it}?")
    assert all(says_the_same(given, reworded) for given, reworded in SHOWN)


def test_reword_may_write_numbers_otherwise() -> None:
    assert says_the_same("Is 1,000 more than two?", "Is 2 smaller than 1000?")


# loading


def test_one_of_your_own_and_unknown_ones(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("async def never(example, ask):\n    return None\n")
    function: Any = load_perturbation(f"{tmp_path}/mine.py:never")
    function.load()
    assert asyncio.run(function(prompt("x"), None)) is None
    other: Any = load_perturbation(f"{tmp_path}/mine.py:ever")
    with pytest.raises(UserError, match="no async function 'ever'"):
        other.load()
    with pytest.raises(UserError, match="did you mean 'shuffle'"):
        load_perturbation("shufle")


def test_what_is_drawn_is_the_same_in_every_process() -> None:
    script = (
        "import asyncio\nfrom secondnature.types import *\nfrom secondnature.perturb import load_perturbation\n"
        "e = Example('1', (Message('user', 'Does Anna know?\\nA) x\\nB) y\\nC) z\\nD) w\\nE) v'),))\n"
        f"rename = load_perturbation('{ENGLISH}:rename')\nrename.load()\n"
        "print([asyncio.run(p(e, None)).example.text for p in (load_perturbation('shuffle'), rename)])"
    )
    said = set[str]()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        said.add(
            subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env).stdout
        )
    assert said == {
        "['Does Anna know?\\nA) y\\nB) z\\nC) v\\nD) x\\nE) w', 'Does Wanjiru know?\\nA) x\\nB) y\\nC) z\\nD) w\\nE) v']\n"
    }
