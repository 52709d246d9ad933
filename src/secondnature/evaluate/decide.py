"""From what was measured to the verdict: the comparisons behind it, what would settle it, and what to mind."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from secondnature.evaluate.measure import Measured
from secondnature.evaluate.score import agreements, members, rounded
from secondnature.evaluate.statistics import Comparison, compare, groups_needed
from secondnature.evaluate.verdict import Distilled, with_labels, without_labels

LOPSIDED = 0.2  # the share of rows in one group from which on it decides a lot
UNREADABLE = 0.1
Keys = Mapping[str, Sequence[str | None]]


@dataclass
class Findings:
    """The verdict with its `reason`; `tests` and `power` for report.json; `caveats`, a sentence each."""

    verdict: str
    reason: str
    tests: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    power: dict[str, Any] | None = None
    caveats: list[str] = field(default_factory=list[str])


def decide(
    measured: Measured, gold: Sequence[str | None], headline: str | None, margin: float, distilled: str = "distilled"
) -> Findings:
    """Judge the system `distilled` on the rows of the headline slice. `gold` are the labels' keys.

    Where System 1 or System 2 was not measured it is inconclusive.
    """
    if not {"system1", "system2"} <= measured.answers.keys():
        missing = "There are no test prompts." if not measured.rows else "The systems are not evaluated yet."
        return Findings("inconclusive", missing)
    chosen = members(measured.rows, headline)
    groups = [measured.rows[i].group for i in chosen]
    keys = {name: [answers.keys[i] for i in chosen] for name, answers in measured.answers.items()}
    again = None if measured.again is None else [measured.again[i] for i in chosen]
    labels = [gold[i] for i in chosen]
    judge = _by_labels if all(label is not None for label in labels) else _by_agreement
    found = judge(keys, labels, again, groups, margin, distilled)
    found.caveats += _caveats(measured, keys, again, groups, chosen, distilled)
    return found


def _by_labels(
    keys: Keys, labels: Sequence[str | None], again: object, groups: Sequence[str], margin: float, own: str
) -> Findings:
    right = {name: agreements(given, labels) for name, given in keys.items()}
    lift = compare(right["system2"], right["system1"], groups, margin)
    tests = [_test("system2 - system1", "Does System 2 beat System 1?", lift, lift.higher)]
    distilled = None
    if own in right:
        distilled = Distilled(*(compare(right[own], right[name], groups, margin) for name in ("system1", "system2")))
        tests += _tests_of(own, "system1", "System 1", "system2", "System 2", distilled)
    verdict, reason = with_labels(lift, distilled)
    caveats: list[str] = []
    for name, given in right.items() if verdict in ("ship", "route") else ():
        if name.startswith(("baseline_", "control_")):
            over = compare(right[own], given, groups, margin)
            if not over.higher:
                caveats.append(f"{_called(name)} is not shown to do worse than the distilled model: {over}.")
    power = _power(distilled.to_system2 if distilled else lift)
    return Findings(verdict, reason, tests, power, caveats)


def _by_agreement(
    keys: Keys, labels: object, again: Sequence[str | None] | None, groups: Sequence[str], margin: float, own: str
) -> Findings:
    if own not in keys:
        return Findings(
            "inconclusive", "Nothing is distilled, and without labels nothing tells System 1 from System 2."
        )
    reference = keys["system2"]
    agree = {name: agreements(given, reference) for name, given in keys.items()}
    if again is None:
        return Findings(*without_labels(None, 0.0))
    ceiling = agreements(again, reference)
    given = Counter(key for key in reference if key is not None)
    constant = agreements([given.most_common(1)[0][0] if given else None] * len(reference), reference)
    floor, named = agree["system1"], "System 1"
    if sum(constant) > sum(floor):
        floor, named = constant, "the same answer to every prompt"
    distilled = Distilled(compare(agree[own], floor, groups, margin), compare(agree[own], ceiling, groups, margin))
    verdict, reason = without_labels(distilled, sum(ceiling) / len(ceiling))
    tests = _tests_of(own, "floor", f"{named} (the floor)", "ceiling", "System 2 itself (the ceiling)", distilled)
    return Findings(verdict, reason, tests, _power(distilled.to_system2))


def _called(name: str) -> str:
    """A control or a baseline in a sentence."""
    known = {
        "control_system1_self": "The control distilled from System 1's own answers",
        "control_unfiltered": "The control distilled without the filter",
    }
    return known.get(name) or f"System 1, {name.removeprefix('baseline_').replace('_', ' ')}, which takes no training,"


def _tests_of(
    own: str, low: str, low_name: str, high: str, high_name: str, distilled: Distilled
) -> list[dict[str, Any]]:
    over, under = distilled.to_system1, distilled.to_system2
    return [
        _test(f"{own} - {low}", f"Does the distilled model beat {low_name}?", over, over.higher),
        _test(f"{own} - {high}", f"Is it within {under.margin:g} of {high_name}?", under, under.not_worse, within=True),
    ]


def _test(name: str, question: str, found: Comparison, decided: bool, *, within: bool = False) -> dict[str, Any]:
    """An entry of `tests` in report.json."""
    return {
        "name": name,
        "question": question,
        "kind": "non-inferiority" if within else "superiority",
        "margin": found.margin if within else 0.0,
        "n": found.n,
        "groups": found.groups,
        "difference": round(found.value, 4),
        "ci": rounded(found.ci),
        "p": round(found.p_worse if within else found.p, 4),
        "decided": decided,
    }


def _power(open_question: Comparison) -> dict[str, Any]:
    """What so many groups can find, from how much the two systems' difference varies between groups."""
    detectable, margin = open_question.detectable, open_question.margin
    needed = groups_needed(margin, open_question.spread)
    sentence = f"With {open_question.groups} groups a difference of less than {detectable:.2f} is easily missed"
    if needed is not None and needed > open_question.groups:
        sentence += f"; to show that two equal systems are within {margin:g} takes about {needed:,}"
    return {
        "groups": open_question.groups,
        "detectable": round(detectable, 4),
        "needed": needed,
        "sentence": sentence + ".",
    }


def _caveats(
    measured: Measured,
    keys: Keys,
    again: object,
    groups: Sequence[str],
    chosen: Sequence[int],
    own: str,
) -> list[str]:
    """What holds with labels and without."""
    found: list[str] = []
    largest = max(Counter(groups).values()) / len(groups)
    if len(set(groups)) > 1 and largest > LOPSIDED:
        found.append(
            f"One group holds {largest:.0%} of the test prompts: it decides a lot, and counts as one observation."
        )
    unreadable = {name: sum(key is None for key in given) / len(given) for name, given in keys.items()}
    for name, called in (("system1", "System 1"), ("system2", "System 2"), (own, "the distilled model")):
        if unreadable.get(name, 0.0) > UNREADABLE:
            found.append(
                f"{unreadable[name]:.0%} of the answers of {called} cannot be read and count as wrong: "
                "part of a difference may be form."
            )
    tokens = {name: sum(measured.answers[name].completion_tokens[i] for i in chosen) for name in measured.answers}
    if own in tokens and tokens[own] >= tokens["system2"]:
        found.append("The distilled model generates as many tokens as System 2: nothing is saved.")
    return found
