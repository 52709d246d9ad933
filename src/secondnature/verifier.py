"""What the model agrees with itself about: a vote over samples, its own choice among them, the same answer to a changed
prompt. No label is in sight: what is kept is self-consistent, not known to be true."""

import asyncio
import hashlib
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from secondnature.answers import AnswerKind
from secondnature.perturb import Perturbation, Variant, unchanged
from secondnature.sampling import Model, RecordedAsk, System, Truncated, draw, made_by
from secondnature.types import Call, Example, Message, Sample, UserError
from secondnature.user_code import UserFunction, error_text
from secondnature.vote import Ballot, Outcome, Rule, decide, samples_to_decide, votes_needed

CHOOSE = (
    "Someone was asked this:\n\n{prompt}\n\nHere are {n} responses to it:\n\n{responses}\n\n"
    "Which response says what most of the others say too? Reply with its number alone."
)
ORDERS = 2  # in which the responses are shown: a choice that depends on the order is none


@dataclass(frozen=True)
class Verifier:
    """How N samples of a prompt become *kept with this answer* or *discarded for this reason*.

    `universal` is the prompt with which the model chooses among the samples, or None for a vote. `perturb` are the changes
    of the prompt, by name, that must leave the answer as it is.
    """

    rule: Rule
    kind: AnswerKind
    full_n: bool = False
    weighted: bool = False
    universal: str | None = None
    perturb: Mapping[str, Perturbation] = field(default_factory=dict[str, Perturbation])

    def ballots(self, samples: Sequence[Sample]) -> list[Ballot]:
        return [self._ballot(sample) for sample in samples]

    def _ballot(self, sample: Sample) -> Ballot:
        if sample.answer is None:
            return Ballot(None, sample.failure)
        weight = sample.confidence if self.weighted else 1.0
        if weight is None:
            raise UserError("verify.weighted: the model gives no log-probabilities to weigh the votes by")
        return Ballot(self.kind.normalize(sample.answer), None, weight)


@dataclass(frozen=True, slots=True)
class VoteResult:
    """The samples drawn for one prompt and what was decided: of the changed prompts, `variants` has the votes, and `checks`
    the calls that changed or chose."""

    example: Example
    samples: tuple[Sample, ...]
    outcome: Outcome
    n: int
    variants: tuple["VoteResult", ...] = ()
    checks: tuple[Call, ...] = ()

    @property
    def stopped_early(self) -> bool:
        return len(self.samples) < self.n

    @property
    def fixed_n(self) -> int:
        """How many samples the same votes take without early stopping: n for the prompt, and for each changed one asked."""
        return self.n * (1 + len(self.variants))

    @property
    def all_samples(self) -> list[Sample]:
        """Those of the changed prompts too."""
        return [*self.samples, *(sample for variant in self.variants for sample in variant.samples)]

    @property
    def calls(self) -> list[Call]:
        """Every call that the decision took."""
        return [*(call for sample in self.all_samples for call in sample.trace), *self.checks]


async def verify(model: Model, system: System, example: Example, verifier: Verifier) -> VoteResult:
    """Draw samples of the prompt and decide. With changed prompts each of them is voted on like the first, in turn, until
    one of them says something else."""
    system = replace(system, logprobs=verifier.weighted)
    voted = await _vote(model, system, example, verifier, verifier.kind)
    if verifier.universal is not None:
        voted = await _choose(model, system, voted, verifier, verifier.universal)
    for name, perturb in verifier.perturb.items():
        if voted.outcome.key is None:
            break
        voted = await _check(model, system, voted, verifier, name, perturb)
    return voted


async def _vote(model: Model, system: System, example: Example, verifier: Verifier, kind: AnswerKind) -> VoteResult:
    """Draw samples in index order until the vote's outcome can no longer change; all N where all are needed."""
    rule = verifier.rule
    all_n = verifier.full_n or verifier.universal is not None
    samples: list[Sample] = []
    while True:
        ballots = verifier.ballots(samples)
        outcome = decide(ballots, rule)
        if outcome is not None and (len(samples) == rule.n or not all_n):
            return VoteResult(example, tuple(samples), outcome, rule.n)
        more = rule.n - len(samples) if all_n else samples_to_decide(ballots, rule)
        wave = range(len(samples), len(samples) + more)
        samples += await asyncio.gather(*(draw(model, system, example, i, kind) for i in wave))


async def _choose(model: Model, system: System, voted: VoteResult, verifier: Verifier, prompt: str) -> VoteResult:
    """Universal self-consistency (Chen et al., 2023, arXiv 2311.17311): the model picks the response that agrees most with
    the others; it must pick the same one whatever the order. Too few readable responses are discarded as in a vote."""
    readable = [sample for sample in voted.samples if sample.answer is not None]
    if len(readable) < votes_needed(verifier.rule.n, verifier.rule.min_agreement):
        truncated = sum(sample.failure == "truncated" for sample in voted.samples)
        reason = "truncated" if 2 * truncated > voted.n - len(readable) else "unparsable"
        return replace(voted, outcome=Outcome(None, reason))
    keys = [verifier.kind.normalize(sample.answer) for sample in readable if sample.answer is not None]
    if len(set(keys)) == 1:
        return replace(voted, outcome=Outcome(keys[0], None))
    ask = RecordedAsk(model, system.greedy(), 0, voted.example.id)

    async def pick(order: int) -> str | None:
        places = _shuffled(len(readable), voted.example, order)
        responses = "\n\n".join(f"Response {n}:\n{readable[i].text.strip()}" for n, i in enumerate(places, 1))
        text = prompt.format(prompt=voted.example.text, n=len(places), responses=responses)
        try:
            number = _number_in(await ask(text), len(places))
        except Truncated:
            number = None
        return None if number is None else keys[places[number - 1]]

    picks = await asyncio.gather(*(pick(order) for order in range(ORDERS)))
    if None in picks:
        outcome = Outcome(None, "no choice")
    elif len(set(picks)) > 1:
        outcome = Outcome(None, "the order decides")
    else:
        outcome = Outcome(picks[0], None)
    return replace(voted, outcome=outcome, checks=tuple(ask.trace))


def _shuffled(n: int, example: Example, order: int) -> list[int]:
    """The numbers below n in an order that the prompt decides; in another order none is in the same place."""
    seed = hashlib.sha256(example.text.encode()).digest()
    places = random.Random(seed).sample(range(n), n)
    turn = order * n // ORDERS
    return places[turn:] + places[:turn]


def _number_in(text: str, most: int) -> int | None:
    """The one number from 1 to `most` that the text names."""
    found = {int(number) for number in re.findall(r"(?<![\d.])\d{1,4}(?![\d.]*\d)", text)}
    return found.pop() if len(found) == 1 and max(found) <= most and min(found) >= 1 else None


async def vary(ask: RecordedAsk, example: Example, name: str, perturb: Perturbation) -> Variant | None:
    """The changed prompt, or None where this one cannot be changed so."""
    what = f"verify.perturb: {name}"
    try:
        variant = await made_by(perturb, example, ask, what, _as_json, _from_json)
    except Truncated:
        return None
    if not isinstance(variant, Variant | None):  # pyright: ignore[reportUnnecessaryIsInstance]  # a user's own may give anything
        raise UserError(f"{what} gave a {type(variant).__name__} on {example.id}: it should give a Variant, or None")
    if variant is None or not isinstance(perturb, UserFunction):
        return variant
    return replace(variant, back=_kept_back(perturb, variant, ask.model, what))


def _as_json(variant: Variant | None) -> object:
    if not isinstance(variant, Variant):
        return None
    changed = variant.example
    turns = [turn.as_dict() for turn in changed.messages]
    return {"id": changed.id, "messages": turns, "fields": dict(changed.fields), "template": changed.template}


def _from_json(stored: Mapping[str, Any] | None) -> Variant | None:
    if stored is None:
        return None
    turns = tuple(Message(turn["role"], turn["content"]) for turn in stored["messages"])
    return Variant(Example(stored["id"], turns, stored["fields"], stored["template"]), unchanged)


def _kept_back(perturb: UserFunction, variant: Variant, model: Model, what: str) -> Callable[[str], str]:
    """The variant's `back`, whose results are kept as what the perturbation makes is."""

    def back(answer: str) -> str:
        content = json.dumps([perturb.digest, perturb.attribute, _as_json(variant), answer])
        key = hashlib.sha256(content.encode()).hexdigest()
        if model.engine is None:
            return model.made(key)
        try:
            original = variant.back(answer)
        except Exception as error:
            said = f"{type(error).__name__}: {error_text(error)}"
            raise UserError(f"{what}: back failed on {answer!r:.80}: {said}") from error
        if not isinstance(original, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # a user's own may give anything
            raise UserError(f"{what}: back gave a {type(original).__name__} on {answer!r:.80}, not a text")
        model.keep(key, original)
        return original

    return back


def extract_back(kind: AnswerKind, variant: Variant) -> AnswerKind:
    """The kind, reading what an answer to the changed prompt says about the original."""

    def extract(example: Example, text: str) -> str | None:
        answer = kind.extract(example, text)
        return None if answer is None else variant.back(answer)

    return replace(kind, extract=extract)


async def _check(
    model: Model, system: System, voted: VoteResult, verifier: Verifier, name: str, perturb: Perturbation
) -> VoteResult:
    """Vote on a changed prompt: anything but the same answer, mapped back, counts as disagreement."""
    ask = RecordedAsk(model, system, 0, voted.example.id)
    variant = await vary(ask, voted.example, name, perturb)
    checks = (*voted.checks, *ask.trace)
    if variant is None:
        return replace(voted, outcome=Outcome(None, f"{name}: not possible"), checks=checks)
    again = await _vote(model, system, variant.example, verifier, extract_back(verifier.kind, variant))
    same = again.outcome.key == voted.outcome.key
    outcome = voted.outcome if same else Outcome(None, f"{name}: another answer")
    return replace(voted, outcome=outcome, variants=(*voted.variants, again), checks=checks)
