"""The verdict: ship, route, keep-system2, keep-system1 or inconclusive, each with its reason in one sentence.

First rules, on 95% intervals of paired differences on the headline slice:

1. System 2 must beat System 1, else there is nothing to distil (keep-system1; inconclusive where the interval is open).
2. The distilled model may be worse than System 2 by less than the margin: ship.
3. Worse by more, but above System 1: route (answer fast, fall back on System 2). Not above System 1: keep-system2.
4. Too few groups to tell: inconclusive.

Without labels, agreement with System 2 stands in for accuracy: its ceiling is System 2's agreement with itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Decision = Literal["ship", "route", "keep-system2", "keep-system1", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference of two systems with its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.3f} (95% interval {self.low:+.3f} to {self.high:+.3f})"


def with_labels(system2: Difference, distilled: Mapping[str, Difference] | None, margin: float) -> tuple[Decision, str]:
    """`system2` is System 2 - System 1; `distilled` has the distilled model minus "system1" and minus "system2"."""
    if system2.high <= 0 or system2.value <= 0:
        return "keep-system1", f"System 2 does not beat System 1 on this mix: {system2}; there is nothing to distil."
    if system2.low <= 0:
        return "inconclusive", f"System 2 may not beat System 1: {system2}; more test prompts would tell."
    if distilled is None:
        return "keep-system2", f"System 2 beats System 1 by {system2}, but nothing was distilled."
    to_system1, to_system2 = distilled["system1"], distilled["system2"]
    if to_system2.low > -margin:
        return (
            "ship",
            f"The distilled model is within {margin:g} of System 2: {to_system2}; over System 1: {to_system1}.",
        )
    if to_system2.high < -margin:
        if to_system1.low > 0:
            return (
                "route",
                f"The distilled model beats System 1 by {to_system1} but falls short of System 2: {to_system2}.",
            )
        return "keep-system2", f"The distilled model falls short of System 2, {to_system2}, and is not above System 1."
    return (
        "inconclusive",
        f"The distilled model may or may not be within {margin:g} of System 2: {to_system2}; over System 1: "
        f"{to_system1}; more test prompts would tell.",
    )


def without_labels(to_floor: Difference, to_ceiling: Difference | None, margin: float) -> tuple[Decision, str]:
    """`to_floor` is the agreement with System 2 of the distilled model minus System 1's; `to_ceiling` minus System 2's own."""
    note = "No labels: this is agreement with System 2, whose consistent errors are invisible here."
    if to_ceiling is None:
        return "inconclusive", f"System 2's agreement with itself was not measured. {note}"
    if to_ceiling.low > -margin:
        return (
            "ship",
            f"It answers as System 2 does, within {margin:g} of System 2's agreement with itself: {to_ceiling}. {note}",
        )
    if to_floor.low > 0:
        return (
            "route",
            f"It answers as System 2 does more often than System 1, by {to_floor}, but not as System 2 itself. {note}",
        )
    if to_ceiling.high < -margin:
        return "keep-system2", f"It does not answer as System 2 does: {to_ceiling} against System 2 itself. {note}"
    return "inconclusive", f"Too few test prompts to tell: {to_ceiling} against System 2 itself. {note}"
