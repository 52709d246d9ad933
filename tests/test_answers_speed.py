"""No text that a model may write makes a reader slow: what it takes grows as the text does."""

import time

import pytest

from secondnature.answers import KINDS, AnswerKind, after_reasoning, json_object, label
from secondnature.techniques import bsm
from secondnature.types import Example, Message

EXAMPLE = Example("i", (Message("user", "Is it 3? What is the capital of Peru?"),), {"choices": "A) Lima\nB) Quito"})
UNITS = [
    *("\n", " ", "\t", "#", "*", '"', "'", "(", "[[", "{", "}{", "\\boxed{", "a", "1", "1,", "1.", ",", "-", "_", "**"),
    *("# \n", "* ", "\" '", "answer ", "answer is ", "the answer to ", "answer to a ", "#### ", "<a>", "<answer "),
    *("not good ", "not a ", "is the ", "is more ", "if ", "A is very ", "neither a b ", "verdict is ", "option "),
    *("5-10 ", "1 ", "1=1 ", "x 10^", "1/", "\\frac{1}", "\\sqrt{", "\\text{a}", '{"a":', "[1,", "What is it? "),
    *("Lima is ", "A: 3 ", "1. a\n", "<think>"),
]
KIND: dict[str, AnswerKind] = {**KINDS, "label": label(["good", "bad", "not supported"]), "fields": json_object(["a"])}


def seconds(kind: AnswerKind, text: str) -> float:
    started = time.process_time()
    kind.extract(EXAMPLE, text)
    form = kind.formed(EXAMPLE).form
    assert form is not None
    form.conclusion(text)
    return time.process_time() - started


@pytest.mark.parametrize("name", KIND)
def test_a_reader_takes_a_moment_whatever_a_model_writes(name: str) -> None:
    for unit in UNITS:
        text = (unit * (100_000 // len(unit) + 1))[:100_000] + "x"
        took = seconds(KIND[name], text)
        assert took < 1.0, (unit, took)  # a busy machine is allowed for; it was minutes


@pytest.mark.parametrize("unit", ["1 ", "12 and ", "1/3 or ", "1,", "(1+"])
def test_a_prompt_full_of_numbers_is_read_once_and_quickly(unit: str) -> None:
    example = Example("i", (Message("user", f"Of 12 dogs {unit * (100_000 // len(unit))} were 12?"),), {})
    started = time.process_time()
    for reply in ("The answer is: it is 3 of 12 dogs", "The answer is: so 3, not 12"):
        assert KINDS["number"].extract(example, reply) == "3"
    assert time.process_time() - started < 0.5


def test_so_do_the_readers_of_a_judges_reply() -> None:
    for unit in UNITS:
        text = unit * (100_000 // len(unit))
        for read in (bsm.criteria_in, bsm.scores_in, bsm.verdict_in, after_reasoning):
            started = time.process_time()
            read(text)
            assert time.process_time() - started < 1.0, (unit, read)


def test_what_is_cut_for_speed_holds_no_answer() -> None:
    blank = "\n" * 5000
    assert KINDS["number"].extract(EXAMPLE, f"Let me see.{blank}It is 41.{blank}The answer is: 42{blank}") == "42"
    assert KINDS["number"].extract(EXAMPLE, "So it goes. " * 5000 + "It is 12") == "12"
    assert KINDS["number"].extract(EXAMPLE, "7" * 9000) is None, "no part of a number is one"
    assert KINDS["yes_no"].extract(EXAMPLE, "----" * 500 + "\nThe answer is: no") == "no"
    assert KINDS["short_text"].extract(EXAMPLE, "answer? " * 500 + "The answer is: Lima") == "Lima"
    assert KIND["label"].extract(EXAMPLE, "not good, " * 3000 + "it is bad") == "bad"
    assert after_reasoning(f"I think.{blank}#### 42{blank}") == "42"
    assert after_reasoning(f"## Final answer{blank}Lima") == "Lima"
