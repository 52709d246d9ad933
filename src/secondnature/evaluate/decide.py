"""From what was measured to the verdict: the comparisons behind it, what would settle it, and what to mind."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from secondnature.evaluate.measure import Measured
from secondnature.evaluate.score import Answers, agreements, members, most_frequent, rounded
from secondnature.evaluate.statistics import Comparison, compare, compare_tokens, groups_needed
from secondnature.evaluate.verdict import UNPARSABLE, Distilled, with_labels, without_labels
from secondnature.report.model import Caveat, Constant, Decision, Power, Saving, Test
from secondnature.systems import SystemId
from secondnature.untrusted import brief

LOPSIDED = 0.2  # the share of rows in one group from which on it decides a lot
NOTABLE = 0.1  # the share of unparsable answers that is worth a word
ONE_ANSWER, FEW = 0.95, 5  # the share of prompts with the same answer that is worth a word, of so many prompts or more
Labels = Sequence[str | None]


@dataclass
class Findings:
    """The verdict with its `reason`; `tests`, `saving`, `power` and `constant` for report.json; `caveats`, a sentence each."""

    verdict: Decision
    reason: str
    tests: list[Test] = field(default_factory=list[Test])
    saving: Saving | None = None
    power: Power | None = None
    constant: Constant | None = None
    caveats: list[Caveat] = field(default_factory=list[Caveat])


@dataclass(frozen=True)
class Judged:
    """The rows that the verdict is about: by system its answers to them, and the rows' groups. The system `own` is judged.

    `again` is System 2's second draw; no call generates more than `max_tokens`.
    """

    answers: Mapping[str, Answers]
    again: Labels | None
    groups: Sequence[str]
    margin: float
    own: str
    max_tokens: int

    def compare(self, first: Sequence[float], second: Sequence[float]) -> Comparison:
        return compare(first, second, self.groups, self.margin)

    def compare_distilled(
        self, own: Sequence[float], floor: Sequence[float], ceiling: Sequence[float], constant: Sequence[float]
    ) -> Distilled:
        """The values of the system that is judged, of System 1 (or the floor), System 2 (or the ceiling), one answer to all."""
        tokens = {name: self.answers[name].completion_tokens for name in ("system1", "system2")}
        cheap = min(tokens, key=lambda name: sum(tokens[name]))
        saves = compare_tokens(self.answers[self.own].completion_tokens, tokens[cheap], self.groups, self.max_tokens)
        than = "System 1" if cheap == "system1" else "System 2"
        to_system1, to_system2, to_constant = (self.compare(own, other) for other in (floor, ceiling, constant))
        return Distilled(to_system1, to_system2, to_constant, saves, than)


def decide(
    measured: Measured,
    gold: Labels,
    headline: str | None,
    margin: float,
    max_tokens: int,
    distilled: str = "distilled",
) -> Findings:
    """Judge the system `distilled` on the rows of the headline slice. `gold` are the labels' keys.

    Where System 1 or System 2 was not measured, or too much of System 2 cannot be read, it is inconclusive.
    """
    if not {"system1", "system2"} <= measured.answers.keys():
        missing = "There are no test prompts." if not measured.rows else "The systems are not evaluated yet."
        return Findings("inconclusive", missing)
    chosen = members(measured.rows, headline)
    answers = {name: given.of_rows(chosen) for name, given in measured.answers.items()}
    again = None if measured.again is None else [measured.again[i] for i in chosen]
    rows = Judged(answers, again, [measured.rows[i].group for i in chosen], margin, distilled, max_tokens)
    labels = [gold[i] for i in chosen]
    labelled = all(label is not None for label in labels)
    found = _by_labels(rows, labels) if labelled else _by_agreement(rows)
    if answers["system2"].unparsable > UNPARSABLE:
        found.verdict, found.reason = "inconclusive", _unparsable(answers["system2"], max_tokens)
    key, share = most_frequent(labels if labelled else rows.answers["system2"].keys)
    found.constant = None if key is None else Constant(answer=key, share=round(share, 4))
    found.caveats += [*_caveats(rows, labelled), *_constant_caveats(rows, labels, labelled)]
    return found


def _unparsable(slow: Answers, max_tokens: int) -> str:
    """That System 2 was not measured, and what is to be mended."""
    cut, said = (
        sum(slow.truncated),
        f"{slow.unparsable:.0%} of System 2's answers cannot be read, so nothing here measures it",
    )
    if 2 * cut > sum(key is None for key in slow.keys):
        return f"{said}: most of those were truncated at {max_tokens} tokens (sampling.max_tokens)."
    return f"{said}: its replies do not have the form that the recipe's `answer` reads."


def _by_labels(rows: Judged, labels: Labels) -> Findings:
    right = {name: agreements(given.keys, labels) for name, given in rows.answers.items()}
    lift = rows.compare(right["system2"], right["system1"])
    tests = [_test("system2 - system1", "Does System 2 beat System 1?", lift, lift.superior)]
    distilled = None
    if rows.own in right:
        distilled = rows.compare_distilled(right[rows.own], right["system1"], right["system2"], _constant(labels))
        tests += _tests_of(rows.own, "system1", "System 1", "system2", "System 2", distilled)
    verdict, reason = with_labels(lift, distilled)
    caveats: list[Caveat] = []
    plain = False
    for name, given in right.items() if verdict in ("ship", "route") else ():
        if name.startswith(("baseline_", "control_")):
            plain = plain or name.startswith("baseline_")
            over = rows.compare(right[rows.own], given)
            if not over.superior:
                text = f"{_called(name)} is not shown to do worse than the distilled model: {over}."
                caveats.append(Caveat(kind="as-good", text=text))
    if verdict == "ship" and distilled is not None and not distilled.to_system1.superior and not plain:
        text = (
            "It is shipped for its cost, and whether an instruction to answer at once would do as well without training was "
            "not measured: add one to evaluate.baselines."
        )
        caveats.append(Caveat(kind="no-baseline", text=text))
    return Findings(
        verdict,
        reason,
        tests,
        _saving(distilled),
        _power(distilled.to_system2 if distilled else lift),
        caveats=caveats,
    )


def _by_agreement(rows: Judged) -> Findings:
    if rows.own not in rows.answers:
        return Findings(
            "inconclusive", "Nothing is distilled, and without labels nothing tells System 1 from System 2."
        )
    reference = rows.answers["system2"].keys
    if rows.again is None:
        return Findings(*without_labels(None, 0.0))
    own, floor = (agreements(rows.answers[name].keys, reference) for name in (rows.own, "system1"))
    ceiling, constant, named = agreements(rows.again, reference), _constant(reference), "System 1"
    if sum(constant) > sum(floor):
        floor, named = constant, "the same answer to every prompt"
    distilled = rows.compare_distilled(own, floor, ceiling, constant)
    verdict, reason = without_labels(distilled, sum(ceiling) / len(ceiling))
    tests = _tests_of(rows.own, "floor", f"{named} (the floor)", "ceiling", "System 2 itself (the ceiling)", distilled)
    return Findings(verdict, reason, tests, _saving(distilled), _power(distilled.to_system2))


def _constant_caveats(rows: Judged, labels: Labels, labelled: bool) -> list[Caveat]:
    """Where a system always says the same, and where the distilled model is not shown to beat one answer to every prompt."""
    found: list[Caveat] = []
    for name, called in (("system1", "System 1"), ("system2", "System 2"), (rows.own, "The distilled model")):
        given = rows.answers.get(name)
        key, share = (None, 0.0) if given is None else most_frequent(given.keys)
        if given is not None and key is not None and share >= ONE_ANSWER and len(given.keys) >= FEW:
            text = f"{called} gives one answer, {brief(key)}, to {share:.0%} of the test prompts, whatever they ask."
            found.append(Caveat(kind="one-answer", text=text))
    own, right = rows.answers.get(rows.own), labels if labelled else rows.answers["system2"].keys
    key, share = most_frequent(right)
    if own is None or key is None:
        return found
    over = rows.compare(agreements(own.keys, right), _constant(right))
    if not over.superior:
        does = f"would be right on {share:.0%}" if labelled else f"would agree with System 2 on {share:.0%}"
        text = f"One answer to every prompt, {brief(key)}, {does}: the distilled model is not shown to beat that, by {over}."
        found.append(Caveat(kind="constant", text=text))
    return found


def _constant(given: Labels) -> list[float]:
    """1.0 for each row whose answer is the one that is given most often."""
    return agreements([most_frequent(given)[0]] * len(given), given)


def _called(name: str) -> str:
    """A control or a baseline at the beginning of a sentence."""
    noun = SystemId.parse(name).noun
    return noun[0].upper() + noun[1:] + (", which takes no training," if name.startswith("baseline_") else "")


def _tests_of(own: str, low: str, low_name: str, high: str, high_name: str, distilled: Distilled) -> list[Test]:
    over, under, constant = distilled.to_system1, distilled.to_system2, distilled.to_constant
    tests = [
        _test(f"{own} - {low}", f"Does the distilled model beat {low_name}?", over, over.superior),
        _test(
            f"{own} - {high}", f"Is it within {under.margin:g} of {high_name}?", under, under.non_inferior, within=True
        ),
    ]
    if over.superior or not distilled.cheaper:
        return tests
    return [  # the other way to ship
        *tests,
        _test(f"{own} - {low}", f"Is it within {over.margin:g} of {low_name}?", over, over.non_inferior, within=True),
        _test(f"{own} - constant", "Does it beat the same answer to every prompt?", constant, constant.superior),
    ]


def _test(name: str, question: str, found: Comparison, decided: bool, *, within: bool = False) -> Test:
    """An entry of `tests` in report.json."""
    return Test(
        name=name,
        question=question,
        kind="non-inferiority" if within else "superiority",
        margin=found.margin if within else 0.0,
        n=found.n,
        groups=found.groups,
        difference=round(found.value, 4),
        ci=rounded(found.ci),
        p=round(found.p_noninferiority if within else found.p, 4),
        decided=decided,
    )


def _saving(distilled: Distilled | None) -> Saving | None:
    """`saving` of report.json: generated tokens an answer against those of the cheaper of System 1 and System 2."""
    if distilled is None or (saves := distilled.saves) is None:
        return None
    return Saving(
        than=distilled.than,
        tokens=round(saves.mean, 4),
        tokens_other=round(saves.other, 4),
        ratio=round(saves.mean / saves.other, 4),
        ci=rounded(saves.ci),
        decided=saves.shown,
    )


def _power(open_question: Comparison) -> Power:
    """What so many groups can find, from how much the two systems' difference varies between groups."""
    detectable, margin = open_question.minimum_detectable_difference, open_question.margin
    needed = groups_needed(margin, open_question.spread)
    sentence = f"With {open_question.groups} groups a difference of less than {detectable:.2f} is easily missed"
    if needed is not None and needed > open_question.groups:
        sentence += f"; to show that two equal systems are within {margin:g} takes about {needed:,}"
    return Power(
        groups=open_question.groups,
        minimum_detectable_difference=round(detectable, 4),
        needed=needed,
        sentence=sentence + ".",
    )


def _caveats(rows: Judged, labelled: bool) -> list[Caveat]:
    """What holds with labels and without."""
    found: list[Caveat] = []
    largest = max(Counter(rows.groups).values()) / len(rows.groups)
    if len(set(rows.groups)) > 1 and largest > LOPSIDED:
        text = f"One group holds {largest:.0%} of the test prompts: it decides a lot, and counts as one observation."
        found.append(Caveat(kind="large-group", text=text))
    count = "count as wrong, as they would in use" if labelled else "agree with nothing"
    for name, called in (("system1", "System 1"), ("system2", "System 2"), (rows.own, "the distilled model")):
        given = rows.answers.get(name)
        if given is None or given.unparsable <= NOTABLE or (name == "system2" and given.unparsable > UNPARSABLE):
            continue
        cut = sum(given.truncated) / len(given.keys)
        text = (
            f"{given.unparsable:.0%} of the answers of {called} cannot be read"
            + (f" ({cut:.0%} were truncated)" if cut else "")
            + f" and {count}: part of a difference may be form."
        )
        found.append(Caveat(kind="unparsable", text=text))
    own = rows.answers.get(rows.own)
    if own is not None and sum(own.completion_tokens) >= sum(rows.answers["system2"].completion_tokens):
        text = "The distilled model generates as many tokens as System 2: nothing is saved."
        found.append(Caveat(kind="no-saving", text=text))
    return found
