"""Verifying without labels: the model's own choice, changed prompts, weighted votes; what is drawn, and why it ends."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from scripted import Scripted
from secondnature.answers import KINDS, AnswerKind
from secondnature.perturb import Variant
from secondnature.sampling import Model, System
from secondnature.store import Store
from secondnature.types import Ask, Decoding, Example, Message, Reply, Request, UserError
from secondnature.verifier import Verifier, VoteResult, verify
from secondnature.vote import Outcome, Rule, to_key

EXAMPLE = Example("e1", (Message("user", "Which is better?"),))
FREE = AnswerKind("free", "any text", lambda example, text: text or None, str, "any text")
YES_NO = KINDS["yes_no"]


async def once(example: Example, ask: Ask) -> str:
    return await ask(example.messages)


def decided(engine: Scripted, verifier: Verifier, example: Example = EXAMPLE) -> VoteResult:
    model = Model(Store(Path(":memory:")), engine.identity, engine)
    return asyncio.run(verify(model, System(once, Decoding(0.7, 0.9, 16)), example, verifier))


def universal(n: int = 4) -> Verifier:
    return Verifier(Rule(n, 0.5), FREE, universal="{prompt}|{n}|{responses}")


def shown(request: Request) -> list[str]:
    """The responses that a choosing call shows, in order."""
    return request.messages[-1].content.partition("|4|")[2].split("\n\n")


def choosing(texts: Sequence[str], choose: Callable[[list[str]], str]) -> Scripted:
    samples = iter(texts)

    def answer(request: Request) -> str:
        return choose(shown(request)) if request.seed is None else next(samples)

    return Scripted(answer)


TEXTS = ["It is red.", "Red it is.", "Blue.", "It is red, I think."]


def place(responses: list[str], text: str) -> str:
    return next(head for head, _, body in (r.partition("\n") for r in responses) if body == text)


def test_the_model_chooses_among_all_n_and_is_asked_again_in_another_order() -> None:
    engine = choosing(TEXTS, lambda responses: place(responses, "Red it is."))
    voted = decided(engine, universal())
    assert voted.outcome == Outcome("Red it is.", None)
    assert [len(voted.samples), len(voted.checks)] == [4, 2]
    orders = [shown(request) for request in engine.asked if request.seed is None]
    assert orders[0] != orders[1]
    assert all(sorted(r.partition("\n")[2] for r in order) == sorted(TEXTS) for order in orders)
    assert len(voted.calls) == 6


def test_a_choice_that_depends_on_the_order_is_none() -> None:
    voted = decided(choosing(TEXTS, lambda responses: "Response 1"), universal())
    assert voted.outcome == Outcome(None, "the order decides")


@pytest.mark.parametrize("said", ["I cannot choose.", "Response 9", "1 or 2", "0", "Response 1.5"])
def test_what_names_no_response_is_no_choice(said: str) -> None:
    assert decided(choosing(TEXTS, lambda responses: said), universal()).outcome == Outcome(None, "no choice")


def test_where_all_samples_say_the_same_nothing_is_asked() -> None:
    engine = choosing(["Red."] * 4, lambda responses: "never asked")
    assert decided(engine, universal()).outcome == Outcome("Red.", None)
    assert len(engine.asked) == 4


def test_too_few_readable_responses_are_no_ground_for_a_choice() -> None:
    engine = choosing(["Red.", "", "", ""], lambda responses: "never asked")
    assert decided(engine, universal()).outcome == Outcome(None, "unparsable")
    assert len(engine.asked) == 4


def turned(answer_back: Callable[[str], str] = lambda answer: answer) -> dict[str, object]:
    async def turn(example: Example, ask: Ask) -> Variant:
        return Variant(replace(example, messages=(Message("user", "turned"),)), answer_back)

    return {"turn": turn}


def perturbed(n: int, perturb: dict[str, object]) -> Verifier:
    return Verifier(Rule(n, 0.75), YES_NO, perturb=perturb)  # type: ignore[arg-type]


def opposite(answer: str) -> str:
    return {"yes": "no", "no": "yes"}[answer]


def by_prompt(original: str, changed: str) -> Scripted:
    return Scripted(lambda request: changed if request.messages[-1].content == "turned" else original)


def test_the_changed_prompt_must_give_the_same_answer_mapped_back() -> None:
    assert decided(by_prompt("yes", "yes"), perturbed(4, turned())).outcome == Outcome("yes", None)
    assert decided(by_prompt("yes", "no"), perturbed(4, turned(opposite))).outcome == Outcome("yes", None)
    for engine, verifier in [
        (by_prompt("yes", "no"), perturbed(4, turned())),
        (by_prompt("yes", "yes"), perturbed(4, turned(opposite))),
        (by_prompt("yes", "who knows"), perturbed(4, turned())),  # a failure of the changed prompt is disagreement
    ]:
        voted = decided(engine, verifier)
        assert voted.outcome == Outcome(None, "turn: another answer")


def test_both_votes_stop_early_and_are_counted() -> None:
    voted = decided(by_prompt("yes", "yes"), perturbed(4, turned()))
    assert len(voted.samples) == 3
    assert len(voted.all_samples) == len(voted.calls) == 6


def test_a_prompt_that_is_discarded_already_is_not_changed() -> None:
    engine = by_prompt("who knows", "yes")
    assert decided(engine, perturbed(4, turned())).outcome == Outcome(None, "unparsable")
    assert all(request.messages == EXAMPLE.messages for request in engine.asked)


def test_a_prompt_that_cannot_be_changed_is_discarded_and_says_so() -> None:
    async def impossible(example: Example, ask: Ask) -> None:
        return None

    voted = decided(by_prompt("yes", "yes"), perturbed(2, {"turn": impossible}))
    assert voted.outcome == Outcome(None, "turn: not possible")


def test_a_change_that_asks_the_model_is_counted_and_its_own_error_is_one_line() -> None:
    async def reworded(example: Example, ask: Ask) -> Variant:
        return Variant(replace(example, messages=(Message("user", await ask("reword")),)), str)

    voted = decided(by_prompt("yes", "yes"), perturbed(2, {"reword": reworded}))
    assert voted.outcome == Outcome("yes", None)
    assert len(voted.checks) == 1

    async def broken(example: Example, ask: Ask) -> Variant:
        return {}["missing"]

    with pytest.raises(UserError, match=r"verify.perturb: broken failed on e1: KeyError.*test_consistency.py:\d+"):
        decided(by_prompt("yes", "yes"), perturbed(2, {"broken": broken}))


def test_votes_are_weighed_by_the_geometric_mean_of_all_their_tokens_probabilities() -> None:
    def two_sure_ones() -> Scripted:
        sure = iter([True, True, False, False, False])

        def answer(request: Request) -> Reply:
            assert request.logprobs
            word, probability = ("yes", 0.9) if next(sure) else ("no", 0.2)
            return Reply(word, "stop", 3, 2, 0.5, math.log(probability))

        return Scripted(answer)

    voted = decided(two_sure_ones(), Verifier(Rule(5, 0.6), YES_NO, weighted=True))
    assert voted.outcome == Outcome("yes", None)
    assert [s.confidence for s in voted.samples][:3] == pytest.approx([0.9, 0.9, 0.2])
    even = decided(two_sure_ones(), Verifier(Rule(5, 0.6), YES_NO, weighted=True, full_n=True))
    assert len(even.samples) == 5
    assert even.outcome == voted.outcome


def test_without_log_probabilities_votes_cannot_be_weighed() -> None:
    with pytest.raises(UserError, match="no log-probabilities"):
        decided(by_prompt("yes", "yes"), Verifier(Rule(2, 0.5), YES_NO, weighted=True))


def test_objects_are_voted_on_by_field() -> None:
    def read(example: Example, text: str) -> str | None:
        return text

    values = [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 3, "b": 2}]
    objects = map(to_key, values)
    engine = Scripted(lambda request: next(objects))
    voted = decided(
        engine, Verifier(Rule(3, 0.6, by_field=True), AnswerKind("json", "an object", read, str, "an object"))
    )
    assert voted.outcome == Outcome(to_key({"a": 1, "b": 2}), None)
