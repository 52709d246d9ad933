"""Self-consistency (Wang et al., 2022, arXiv 2203.11171): keep the answer that a clear majority of samples gives.

Samples count in index order. Drawing may stop as soon as the outcome (kept with this answer, or discarded) can no longer
change: that is exact, not an approximation, so the kept set is the one that all N samples would give.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Failure = Literal["cut off", "unreadable"]
Reason = Literal["cut off", "unreadable", "tie", "low agreement"]


@dataclass(frozen=True, slots=True)
class Ballot:
    """What one sample says: the key of its answer, or why it has none."""

    key: str | None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Kept with the answer `key`, or discarded for a `reason`."""

    key: str | None
    reason: Reason | None


def votes_needed(n: int, min_agreement: float) -> int:
    """How many of `n` samples must give the same answer; at least one."""
    return max(1, math.ceil(min_agreement * n - 1e-9))


def decide(ballots: Sequence[Ballot], n: int, needed: int) -> Outcome | None:
    """The outcome of the first `ballots` of `n`, or None while the others could still change it."""
    left = n - len(ballots)
    ranked = Counter(b.key for b in ballots if b.key is not None).most_common()
    first = ranked[0][1] if ranked else 0
    second = ranked[1][1] if len(ranked) > 1 else 0
    if first >= needed and second + left < first:
        return Outcome(ranked[0][0], None)
    if first + left < needed:
        return Outcome(None, _reason(ballots, n, needed, tie=False))
    if left == 0:
        return Outcome(None, _reason(ballots, n, needed, tie=first == second))
    return None


def _reason(ballots: Sequence[Ballot], n: int, needed: int, *, tie: bool) -> Reason:
    if tie:
        return "tie"
    failures = Counter(b.failure for b in ballots if b.failure is not None)
    if failures["cut off"] > n - needed:
        return "cut off"
    return "unreadable" if failures.total() > n - needed else "low agreement"


def fewest_to_decide(ballots: Sequence[Ballot], n: int, needed: int) -> int:
    """How many more samples the outcome takes at the least: drawing that many at once wastes none.

    The soonest end is reached where all of them join the leading answer, or where none of them can be read.
    """
    leading = Counter(b.key for b in ballots if b.key is not None).most_common(1)
    joins = Ballot(leading[0][0] if leading else "")
    fails = Ballot(None, "unreadable")
    for more in range(1, n - len(ballots)):
        if any(decide([*ballots, *[ballot] * more], n, needed) for ballot in (joins, fails)):
            return more
    return n - len(ballots)
