"""The verdict: ship, route, keep-system2, keep-system1 or inconclusive, each with its reason in one sentence.

The rules, on the headline slice, each test at the 5% level (`docs/evaluating.md`):

1. System 2 must be shown to beat System 1, else there is nothing to distil: keep-system1 where it does not beat it, or where a
   gain of the margin or more is ruled out; else inconclusive.
2. ship: that the distilled model is worse than System 2 by the margin or more is ruled out, and it beats System 1.
3. It is shown to be worse by more than the margin: route where it beats System 1 (answer fast, fall back on System 2), else
   keep-system2.
4. inconclusive in between: there are too few groups to tell.

All of 1 and 2 must hold at once, so that a wrong `ship` is no likelier than the least likely of them.

Without labels, agreement with System 2 stands in for accuracy. Its ceiling is System 2's agreement with itself in another
draw; its floor is System 1's agreement, or that of the one answer that System 2 gives most often, whichever is higher. Where
System 2 gives the same answer again less often than REPEATS, agreement with it cannot tell, and nothing is shipped.
"""

from dataclasses import dataclass
from typing import Literal

from secondnature.evaluate.statistics import LEAST_TO_BEAT, Comparison, groups_needed

Decision = Literal["ship", "route", "keep-system2", "keep-system1", "inconclusive"]
REPEATS = 0.5
NO_LABELS = "No labels: this is agreement with System 2, whose consistent errors are invisible here."


@dataclass(frozen=True, slots=True)
class Distilled:
    """What the distilled model is compared with: System 1 (or, without labels, the floor) and System 2 (or the ceiling)."""

    to_system1: Comparison
    to_system2: Comparison


def with_labels(lift: Comparison, distilled: Distilled | None) -> tuple[Decision, str]:
    """`lift` compares System 2 with System 1."""
    if lift.value <= 0:
        return "keep-system1", f"System 2 does not beat System 1 on this mix: {lift}; there is nothing to distil."
    if not lift.higher:
        if lift.gains_little:
            return (
                "keep-system1",
                f"System 2 does not beat System 1 by {lift.margin:g} on this mix: {lift}; there is too little to distil.",
            )
        return "inconclusive", f"System 2 may not beat System 1: {lift}; {_more(lift, LEAST_TO_BEAT)}."
    if distilled is None:
        return "keep-system2", f"System 2 beats System 1 by {lift}, but nothing was distilled."
    own, slow = distilled.to_system1, distilled.to_system2
    if slow.not_worse and own.higher:
        return "ship", f"The distilled model is within {slow.margin:g} of System 2: {slow}; over System 1: {own}."
    if slow.falls_short:
        if own.higher:
            return "route", f"The distilled model beats System 1 by {own} but falls short of System 2: {slow}."
        return "keep-system2", f"The distilled model falls short of System 2, {slow}, and is not above System 1: {own}."
    if slow.not_worse:
        return (
            "inconclusive",
            f"The distilled model is within {slow.margin:g} of System 2, {slow}, but may not beat System 1: {own}; "
            f"{_more(own, LEAST_TO_BEAT)}.",
        )
    meanwhile = "; until then, route" if own.higher else ""
    return (
        "inconclusive",
        f"The distilled model may or may not be within {slow.margin:g} of System 2: {slow}; over System 1: {own}; "
        f"{_more(slow, groups_needed(slow.margin))}{meanwhile}.",
    )


def without_labels(distilled: Distilled | None, repeats: float) -> tuple[Decision, str]:
    """`distilled` compares agreements with System 2, which agrees with itself on the share `repeats` of the prompts.

    None where that was not measured.
    """
    if distilled is None:
        return "inconclusive", f"System 2's agreement with itself was not measured. {NO_LABELS}"
    floor, ceiling = distilled.to_system1, distilled.to_system2
    if repeats < REPEATS:
        return (
            "inconclusive",
            f"System 2 gives the same answer again for only {repeats:.0%} of the prompts, so agreement with it cannot tell: "
            "label some test prompts, or lower sampling.temperature. "
            f"It is {ceiling} against that, over the floor {floor}. {NO_LABELS}",
        )
    if ceiling.not_worse and floor.higher:
        return (
            "ship",
            f"It answers as System 2 does, within {ceiling.margin:g} of System 2's agreement with itself: {ceiling}; over the "
            f"floor: {floor}. {NO_LABELS}",
        )
    if floor.higher:
        return (
            "route",
            f"It answers as System 2 does more often than the floor, by {floor}, but is not shown to do so as often as System 2 "
            f"itself: {ceiling}. {NO_LABELS}",
        )
    if ceiling.falls_short:
        return "keep-system2", f"It does not answer as System 2 does: {ceiling} against System 2 itself. {NO_LABELS}"
    return (
        "inconclusive",
        f"It may or may not answer as System 2 does: {ceiling} against System 2 itself, over the floor: {floor}; "
        f"{_more(ceiling, groups_needed(ceiling.margin))}. {NO_LABELS}",
    )


def _more(open_question: Comparison, least: int | None) -> str:
    """What would settle it; with fewer than `least` groups no outcome can."""
    if least is not None and open_question.groups < least:
        return (
            f"{open_question.groups} independent groups of test prompts are too few to say, it takes at least {least}"
        )
    return "more test prompts would tell"
