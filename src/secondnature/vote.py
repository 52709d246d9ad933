"""Self-consistency (Wang et al., 2022, arXiv 2203.11171): keep the answer that a clear majority of samples gives.

Samples count in index order. Drawing may stop as soon as the outcome (kept with this answer, or discarded) can no longer
change: that is exact, not an approximation, so the kept set is the one that all N samples would give. A vote may weigh
less than 1 (by the model's confidence); since none weighs more, stopping stays exact.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

Failure = Literal["truncated", "unparsable"]
EPSILON = 1e-9
LEADING, SECOND = "null", "[]"  # stand for answers that no sample has given yet; JSON, as the keys of fields are


@dataclass(frozen=True, slots=True)
class Ballot:
    """What one sample says: the key of its answer, or why it has none. `weight` is at most 1; a failure weighs 1."""

    key: str | None
    failure: Failure | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Kept with the answer `key`, or discarded for a `reason`."""

    key: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Rule:
    """When an answer is kept: `min_agreement` is the share of the votes that it needs, failures counted among them;
    `min_margin` the share by which it must lead the second. A tie keeps nothing.

    `beta` is a probability, or None for exact stopping: with it, drawing also stops once the outcome is that sure under a
    Beta posterior of the leading answer's share, as in Adaptive-Consistency (Aggarwal et al., 2023, arXiv 2305.11860). That
    may keep or discard what all N samples would not.

    With `by_field` a key is a JSON object, and each of its fields is voted on.
    """

    n: int
    min_agreement: float
    min_margin: float = 0.0
    beta: float | None = None
    by_field: bool = False


def votes_needed(n: int, min_agreement: float) -> int:
    """How many of `n` samples must give the same answer; at least one."""
    return max(1, math.ceil(min_agreement * n - EPSILON))


@dataclass(frozen=True, slots=True)
class Count:
    """The two leading answers with their weights, the weight of all ballots, and how many samples are not drawn."""

    leader: str
    runner_up: str
    first: float
    second: float
    total: float
    left: int

    @staticmethod
    def of(ballots: Sequence[Ballot], n: int) -> "Count":
        weights: dict[str, float] = {}
        for ballot in ballots:
            if ballot.key is not None:
                weights[ballot.key] = weights.get(ballot.key, 0.0) + ballot.weight
        ranked = sorted(weights.items(), key=lambda item: -item[1])  # stable: of equal ones, the first drawn
        (leader, first), (runner_up, second) = [*ranked, (LEADING, 0.0), (SECOND, 0.0)][:2]
        return Count(leader, runner_up, first, second, sum(ballot.weight for ballot in ballots), n - len(ballots))

    def kept(self, rule: Rule) -> bool:
        """Whether the leader is kept with the votes as they are."""
        needed = max(rule.min_agreement * self.total, EPSILON)
        ahead = self.first - self.second
        return self.first >= needed - EPSILON and ahead > EPSILON and ahead >= rule.min_margin * self.total - EPSILON

    def all_for_leader(self) -> "Count":
        """The samples not drawn all give the leading answer: no other outcome is better for any answer."""
        return replace(self, first=self.first + self.left, total=self.total + self.left, left=0)

    def all_against(self) -> "Count":
        """The samples not drawn all give the second answer: the worst for the leading one."""
        return replace(self, second=self.second + self.left, total=self.total + self.left, left=0)


def decide(ballots: Sequence[Ballot], rule: Rule) -> Outcome | None:
    """The outcome of the first `ballots` of `rule.n`, or None while the others could still change it."""
    return _decide_fields(ballots, rule) if rule.by_field else _decide(ballots, rule)


def _decide(ballots: Sequence[Ballot], rule: Rule) -> Outcome | None:
    count = Count.of(ballots, rule.n)
    if count.all_against().kept(rule):
        return Outcome(count.leader, None)
    if not count.all_for_leader().kept(rule):
        return Outcome(None, _reason(ballots, rule, count))
    if rule.beta is not None and ballots:
        chance = _chance_of_keeping(ballots, rule, count)
        if chance >= rule.beta:
            return Outcome(count.leader, None)
        if chance <= 1 - rule.beta:
            return Outcome(None, _reason(ballots, rule, count))
    return None


def _decide_fields(ballots: Sequence[Ballot], rule: Rule) -> Outcome | None:
    """Each field of the objects is voted on, and all must be kept. What is kept may be no single sample's answer."""
    fields = _by_field(ballots)
    if not fields:
        return _decide(ballots, rule)
    outcomes = {name: _decide(of_field, rule) for name, of_field in fields.items()}
    for outcome in outcomes.values():
        if outcome is not None and outcome.key is None:
            return outcome
    if None in outcomes.values():
        return None
    return Outcome(_object_of({name: outcome.key for name, outcome in outcomes.items() if outcome is not None}), None)


ABSENT = "absent"  # no JSON value is written so


def _by_field(ballots: Sequence[Ballot]) -> dict[str, list[Ballot]]:
    """What the ballots, whose keys are JSON objects, say of each field that is in any of them."""
    objects = [None if ballot.key is None else cast("dict[str, Any]", json.loads(ballot.key)) for ballot in ballots]
    names = sorted({name for value in objects if value is not None for name in value})

    def of(ballot: Ballot, value: dict[str, Any] | None, name: str) -> Ballot:
        if value is None:
            return ballot
        return replace(ballot, key=to_key(value[name]) if name in value else ABSENT)

    return {name: [of(b, value, name) for b, value in zip(ballots, objects, strict=True)] for name in names}


def _object_of(values: Mapping[str, str | None]) -> str:
    """The key of the object with these values, each written as JSON, of its fields."""
    return to_key({name: json.loads(v) for name, v in values.items() if v is not None and v != ABSENT})


def to_key(value: object) -> str:
    """A JSON value as text: the same for equal values, and for an object the same as its answer kind's key."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _leaders(ballots: Sequence[Ballot], rule: Rule) -> tuple[str, str]:
    """The keys of the two leading answers, field by field where the rule says so."""
    fields = {name: Count.of(of, rule.n) for name, of in _by_field(ballots).items()} if rule.by_field else {}
    if fields:
        leader = _object_of({name: count.leader for name, count in fields.items()})
        return leader, _object_of({name: count.runner_up for name, count in fields.items()})
    if rule.by_field:
        return "{}", "{}"
    count = Count.of(ballots, rule.n)
    return count.leader, count.runner_up


def agreement(ballots: Sequence[Ballot], rule: Rule) -> float:
    """The leading answer's share of the ballots cast; of an object's fields, the least share of a leading value."""
    fields = _by_field(ballots) if rule.by_field else {}
    counts = [Count.of(of, rule.n) for of in fields.values()] or [Count.of(ballots, rule.n)]
    return min(count.first / count.total if count.total else 0.0 for count in counts)


def _reason(ballots: Sequence[Ballot], rule: Rule, count: Count) -> str:
    """Why nothing is kept: what alone would have been enough, else how the votes fell."""
    n = count.total + count.left
    most = n - max(rule.min_agreement * n, 1.0) + EPSILON  # failures that leave room for a majority
    failures = Counter(ballot.failure for ballot in ballots if ballot.failure is not None)
    if failures["truncated"] > most:
        return "truncated"
    if failures.total() > most:
        return "unparsable"
    best = count.all_for_leader()
    if best.first < rule.min_agreement * best.total - EPSILON or best.kept(rule):  # the latter by a posterior alone
        return "low agreement"
    return "tie" if best.first - best.second <= EPSILON else "small margin"


def chance_of_keeping(ballots: Sequence[Ballot], rule: Rule) -> float:
    """The probability that the leading answer of the first `ballots` is kept after all N samples, by a uniform prior; of an
    object's fields, of the one that is least likely to be."""
    fields = list(_by_field(ballots).values()) if rule.by_field else []
    return min(_chance_of_keeping(of, rule, Count.of(of, rule.n)) for of in fields or [ballots])


def _chance_of_keeping(ballots: Sequence[Ballot], rule: Rule, count: Count) -> float:
    """The probability that the leading answer is kept after all N samples.

    Its share of the samples not drawn is Beta distributed, after a uniform prior; those that do not give it are taken to
    give the second answer, so that the margin is not overrated.
    """
    votes = sum(ballot.key == count.leader for ballot in ballots)
    others = len(ballots) - votes
    total, left = count.total + count.left, count.left
    ways = math.comb(len(ballots) + 1 + left, left)
    chance = 0.0
    for joined in range(left + 1):
        against = left - joined
        end = replace(count, first=count.first + joined, second=count.second + against, total=total, left=0)
        if end.kept(rule):
            chance += math.comb(votes + joined, joined) * math.comb(others + against, against) / ways
    return chance


def samples_to_decide(ballots: Sequence[Ballot], rule: Rule) -> int:
    """How many more samples the outcome takes at the least: drawing that many at once wastes none.

    The soonest end is reached where all of them join the leading answer, or the second one, or cannot be read.
    """
    leader, second = (Ballot(key) for key in _leaders(ballots, rule))
    fails = Ballot(None, "unparsable")

    def ends(more: int) -> Iterator[list[Ballot]]:
        yield [leader] * more
        for failing in range(more + 1) if rule.min_margin else (0, more):
            yield [second] * (more - failing) + [fails] * failing

    for more in range(1, rule.n - len(ballots)):
        if any(decide([*ballots, *end], rule) for end in ends(more)):
            return more
    return rule.n - len(ballots)
