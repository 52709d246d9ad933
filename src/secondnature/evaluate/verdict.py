"""The verdict: ship, route, keep-system2, keep-system1 or inconclusive, each with its reason in one sentence.

The rules, on the headline slice, each test at the 5% level (`docs/evaluating.md`):

1. ship: that the distilled model is worse than System 2 by the margin or more is ruled out, and it is worth having. Either
   System 2 beats System 1, and so does the distilled model. Or the distilled model is as good as System 1 and cheaper: that it
   is worse by the margin or more is ruled out, it beats the one answer that is right most often, and that it saves less than
   half of the generated tokens is ruled out too (of System 1's or System 2's, whichever are fewer; at the 2.5% level).
2. System 2 is not shown to beat System 1: keep-system1 where a gain of the margin or more is ruled out; else inconclusive. A
   distilled model that saves half of the tokens and may be as good leaves it inconclusive.
3. It is shown to be worse than System 2 by more than the margin: route where it beats System 1 (answer fast, fall back on
   System 2), else keep-system2.
4. inconclusive in between: there are too few groups to tell.

All of a way to ship must hold at once, so that a wrong `ship` is no likelier than the least likely of them.

Without labels, agreement with System 2 stands in for accuracy. Its ceiling is System 2's agreement with itself in another
draw; its floor is System 1's agreement, or that of the one answer that System 2 gives most often, whichever is higher. Where
System 2 gives the same answer again less often than REPEATS, agreement with it cannot tell, and nothing is shipped.

With labels and without: where more than UNPARSABLE of System 2's answers cannot be read, it is inconclusive (`decide`).
"""

from dataclasses import dataclass

from secondnature.evaluate.statistics import LEAST_TO_BEAT, Comparison, Saving, groups_needed
from secondnature.report.model import Decision

REPEATS = 0.5
UNPARSABLE = 0.2
NO_LABELS = "No labels: this is agreement with System 2, whose consistent errors are invisible here."


@dataclass(frozen=True, slots=True)
class Distilled:
    """What the distilled model is compared with: System 1 (or, without labels, the floor), System 2 (or the ceiling), and one
    answer to every prompt, the commonest; and what it `saves` of the tokens of the system called `than`.
    """

    to_system1: Comparison
    to_system2: Comparison
    to_constant: Comparison
    saves: Saving | None
    than: str = "System 1"

    @property
    def cheaper(self) -> bool:
        return self.saves is not None and self.saves.shown

    @property
    def holds(self) -> bool:
        """As good as System 1, where that is worth something: a model that always says the same is not taken for it."""
        return self.to_system1.non_inferior and self.to_constant.superior

    @property
    def spends(self) -> str:
        return "" if self.saves is None else self.saves.against(self.than)


def with_labels(lift: Comparison, distilled: Distilled | None) -> tuple[Decision, str]:
    """`lift` compares System 2 with System 1."""
    if distilled is None:
        return _without_distilled(lift)
    own, slow = distilled.to_system1, distilled.to_system2
    if slow.non_inferior and lift.superior and own.superior:
        return "ship", f"The distilled model is within {slow.margin:g} of System 2: {slow}; over System 1: {own}."
    if slow.non_inferior and distilled.holds and distilled.cheaper:
        return (
            "ship",
            f"The distilled model is within {own.margin:g} of System 1, {own}, and of System 2, {slow}, for "
            f"{distilled.spends}.",
        )
    thrift = _thrift(distilled, "is as good as System 1")
    if not lift.superior:
        verdict, reason = _without_distilled(lift)
        if thrift:
            return "inconclusive", f"{reason}{thrift} Against System 2 it has {slow}."
        return verdict, reason
    if slow.inferior:
        if own.superior:
            return "route", f"The distilled model beats System 1 by {own} but falls short of System 2: {slow}.{thrift}"
        return (
            "keep-system2",
            f"The distilled model falls short of System 2, {slow}, and is not above System 1: {own}.{thrift}",
        )
    if slow.non_inferior:
        return (
            "inconclusive",
            f"The distilled model is within {slow.margin:g} of System 2, {slow}, but may not beat System 1: {own}; "
            f"{_more(own, LEAST_TO_BEAT)}.{thrift}",
        )
    meanwhile = "; until then, route" if own.superior else ""
    return (
        "inconclusive",
        f"The distilled model may or may not be within {slow.margin:g} of System 2: {slow}; over System 1: {own}; "
        f"{_more(slow, groups_needed(slow.margin))}{meanwhile}.{thrift}",
    )


def _without_distilled(lift: Comparison) -> tuple[Decision, str]:
    """What System 2 and System 1 alone say."""
    if lift.superior:
        return "keep-system2", f"System 2 beats System 1 by {lift}, but nothing was distilled."
    if lift.below_margin:
        return (
            "keep-system1",
            f"System 2 does not beat System 1 by {lift.margin:g} or more on this mix: {lift}; thinking gains too little here.",
        )
    least = LEAST_TO_BEAT if lift.value > 0 else groups_needed(lift.margin)
    return "inconclusive", f"System 2 may or may not beat System 1: {lift}; {_more(lift, least)}."


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
    if ceiling.non_inferior and floor.superior:
        return (
            "ship",
            f"It answers as System 2 does, within {ceiling.margin:g} of System 2's agreement with itself: {ceiling}; over the "
            f"floor: {floor}. {NO_LABELS}",
        )
    if ceiling.non_inferior and distilled.holds and distilled.cheaper:
        return (
            "ship",
            f"It answers as System 2 does, within {ceiling.margin:g} of System 2's agreement with itself, {ceiling}, and of "
            f"System 1's agreement, {floor}, for {distilled.spends}. {NO_LABELS}",
        )
    thrift = _thrift(distilled, "agrees with System 2 as often as System 1 does")
    if floor.superior:
        return (
            "route",
            f"It answers as System 2 does more often than the floor, by {floor}, but is not shown to do so as often as System 2 "
            f"itself: {ceiling}. {NO_LABELS}",
        )
    if ceiling.inferior:
        return (
            "keep-system2",
            f"It does not answer as System 2 does: {ceiling} against System 2 itself.{thrift} {NO_LABELS}",
        )
    return (
        "inconclusive",
        f"It may or may not answer as System 2 does: {ceiling} against System 2 itself, over the floor: {floor}; "
        f"{_more(ceiling, groups_needed(ceiling.margin))}.{thrift} {NO_LABELS}",
    )


def _thrift(distilled: Distilled, claim: str) -> str:
    """What the distilled model saves; nothing where it may save less than half, or is shown to be worse than System 1."""
    own = distilled.to_system1
    if not distilled.cheaper or own.inferior:
        return ""
    if own.superior:
        return f" It takes {distilled.spends}."
    if distilled.holds:
        return f" But the distilled model {claim}, within {own.margin:g}, {own}, for {distilled.spends}."
    return f" What the distilled model saves is certain: {distilled.spends}. Whether it {claim} is open: {own}."


def _more(open_question: Comparison, least: int | None) -> str:
    """What would settle it; with fewer than `least` groups no outcome can."""
    if least is not None and open_question.groups < least:
        return (
            f"{open_question.groups} independent groups of test prompts are too few to say, it takes at least {least}"
        )
    return "more test prompts would tell"
