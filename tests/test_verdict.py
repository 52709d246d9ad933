"""Every way a verdict can come out, and how often it is wrong in simulated runs whose truth is known."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from verdicts import World, ships

from secondnature.evaluate.decide import Findings, decide
from secondnature.evaluate.measure import Measured
from secondnature.evaluate.score import Answers
from secondnature.evaluate.statistics import Comparison, compare
from secondnature.evaluate.verdict import Distilled, with_labels, without_labels
from secondnature.types import Example, Message, Row

MARGIN = 0.05


def than(ahead: int, behind: int, n: int = 300) -> Comparison:
    """A comparison of n prompts, of which the first is right alone on `ahead`, and the second alone on `behind`."""
    first = [1.0] * ahead + [0.0] * behind + [1.0] * (n - ahead - behind)
    second = [0.0] * ahead + [1.0] * behind + [1.0] * (n - ahead - behind)
    return compare(first, second, [str(i) for i in range(n)], MARGIN)


LIFT = than(90, 10)


@pytest.mark.parametrize(
    ("lift", "over_system1", "to_system2", "verdict", "words"),
    [
        (than(10, 60), None, None, "keep-system1", "nothing to distil"),
        (than(20, 30), LIFT, than(5, 5), "keep-system1", "does not beat"),
        (than(0, 0), None, None, "keep-system1", "does not beat"),
        (than(4, 2), LIFT, than(5, 5), "keep-system1", "too little to distil"),
        (than(40, 28), LIFT, than(5, 5), "inconclusive", "may not beat System 1"),
        (than(3, 0, 5), None, None, "inconclusive", "at least 6"),
        (LIFT, None, None, "keep-system2", "nothing was distilled"),
        (LIFT, LIFT, than(5, 5), "ship", "within 0.05"),
        (LIFT, LIFT, than(60, 20), "ship", "within 0.05"),
        (LIFT, LIFT, than(5, 60), "route", "falls short"),
        (LIFT, than(12, 10), than(5, 60), "keep-system2", "not above System 1"),
        (LIFT, than(10, 60), than(5, 90), "keep-system2", "not above System 1"),
        (LIFT, LIFT, than(20, 32), "inconclusive", "until then, route"),
        (LIFT, than(12, 10), than(20, 32), "inconclusive", "more test prompts"),
        (LIFT, than(12, 10), than(5, 5), "inconclusive", "may not beat System 1"),
        (than(30, 0, 40), than(30, 0, 40), than(0, 0, 40), "inconclusive", "it takes at least 59"),
    ],
)
def test_the_verdict_with_labels(
    lift: Comparison, over_system1: Comparison | None, to_system2: Comparison | None, verdict: str, words: str
) -> None:
    distilled = None
    if over_system1 is not None and to_system2 is not None:
        distilled = Distilled(over_system1, to_system2)
    decided, reason = with_labels(lift, distilled)
    assert decided == verdict
    assert words in reason


@pytest.mark.parametrize(
    ("over_floor", "to_ceiling", "verdict"),
    [
        (LIFT, than(5, 5), "ship"),
        (LIFT, than(5, 60), "route"),
        (LIFT, than(20, 32), "route"),
        (than(12, 10), than(5, 5), "inconclusive"),
        (than(12, 10), than(5, 60), "keep-system2"),
        (than(12, 10), than(20, 32), "inconclusive"),
    ],
)
def test_the_verdict_without_labels(over_floor: Comparison, to_ceiling: Comparison, verdict: str) -> None:
    decided, reason = without_labels(Distilled(over_floor, to_ceiling), 0.8)
    assert decided == verdict
    assert "No labels" in reason
    assert "invisible" in reason


def test_without_a_ceiling_there_is_no_verdict_without_labels() -> None:
    decided, reason = without_labels(None, 0.0)
    assert decided == "inconclusive"
    assert "was not measured" in reason


# --- simulated runs: each world's truth is that the distilled model is as much worse as the margin allows, or that there is
# nothing to distil. At a level of 5%, 1,000 runs have 50 wrong verdicts at most, and hardly ever more than 62.


@pytest.mark.parametrize(
    "world",
    [
        World(67, "two", alike=0.5, lost=0.15, won=0.1),
        World(67, "one", alike=0, lost=0.05, won=0),  # rare losses, which few prompts may never show
        World(67, "geometric", alike=1, lost=0.3, won=0.25),
        World(67, "heavy", alike=1, lost=0.05, won=0),  # some groups are far larger than others
        World(400, "two", alike=1, lost=0.15, won=0.1),
        World(150, "two", alike=0.5, lost=0.02, won=0.02, right=0.3, fast=0.3),  # System 2 is no better than System 1
        World(
            150, "two", alike=0.5, lost=0.05, won=0.01, right=0.34, fast=0.3
        ),  # within the margin, but no better than that
    ],
    ids=lambda w: f"{w.groups}-{w.sizes}-{w.alike}-{w.lost}-{w.won}-{w.fast}",
)
def test_at_the_margin_and_where_there_is_nothing_to_distil_ship_is_wrong_at_most_as_often_as_stated(
    world: World,
) -> None:
    assert ships(world, 1000) <= 62


def test_without_labels_ship_is_wrong_no_more_often() -> None:
    assert ships(World(67, "two", alike=0.5, lost=0.15, won=0.1), 1000, labels=False) <= 62


def test_an_ordinary_bootstrap_would_be_wrong_far_more_often() -> None:
    from verdicts import plain_bootstrap_ships

    draw, world = np.random.default_rng(1), World(67, "heavy", alike=1, lost=0.05, won=0)
    wrong = 0
    for _ in range(300):
        groups, _, slow, own = world.draw(draw)
        wrong += plain_bootstrap_ships(groups, slow, own, draw)
    assert wrong > 300 * 0.15


def test_what_is_as_good_as_system_2_is_shipped_where_there_are_prompts_enough() -> None:
    assert ships(World(400, "two", alike=0.5, lost=0.05, won=0.05), 100) >= 90


# --- from measured answers to findings


def measured(n: int = 120, size: int = 1, **rates: float) -> tuple[Measured, list[str | None]]:
    """Answers of systems that are right at these rates, on the same prompts first; and the labels."""
    rows = [Row(Example(str(i), (Message("user", "?"),)), "yes", f"g{i // size}") for i in range(n)]
    found = Measured(rows)
    for name, rate in rates.items():
        keys = ["yes" if i < rate * n else "no" for i in range(n)]
        found.answers[name] = Answers(keys, [10 if name == "system2" else 2] * n, [5] * n, [])
    return found, ["yes"] * n


def test_the_tests_behind_a_verdict_are_told_with_their_numbers() -> None:
    runs, gold = measured(system1=0.2, system2=0.6, distilled=0.6)
    found = decide(runs, gold, None, MARGIN)
    assert found.verdict == "ship"
    assert [(t["name"], t["kind"], t["decided"]) for t in found.tests] == [
        ("system2 - system1", "superiority", True),
        ("distilled - system1", "superiority", True),
        ("distilled - system2", "non-inferiority", True),
    ]
    assert all(t["p"] <= 0.05 and t["n"] == t["groups"] == 120 for t in found.tests)
    assert found.power is not None
    assert found.power["groups"] == 120
    assert found.caveats == []


def caveats(found: Findings) -> str:
    return "\n".join(found.caveats)


def test_what_to_mind_is_said() -> None:
    runs, gold = measured(system1=0.2, system2=0.6, distilled=0.6, control_system1_self=0.6, baseline_be_short=0.6)
    runs.answers["system1"] = Answers([None] * 60 + ["yes"] * 24 + ["no"] * 36, [20] * 120, [5] * 120, [])
    runs.answers["distilled"] = Answers(runs.answers["distilled"].keys, [10] * 120, [5] * 120, [])
    said = caveats(decide(runs, gold, None, MARGIN))
    assert "50% of the answers of System 1 cannot be read" in said
    assert "generates as many tokens as System 2" in said
    assert "System 1's own answers is not shown to do worse" in said
    assert "System 1, be short, which takes no training, is not shown to do worse" in said


def test_a_group_that_holds_much_of_the_prompts_is_said() -> None:
    runs, gold = measured(system1=0.2, system2=0.6, distilled=0.6)
    rows = [Row(r.example, r.answer, "all" if i < 60 else r.group) for i, r in enumerate(runs.rows)]
    runs.rows = rows
    assert "One group holds 50% of the test prompts" in caveats(decide(runs, gold, None, MARGIN))


def unlabelled(
    system1: Sequence[str], system2: Sequence[str], again: Sequence[str], distilled: Sequence[str]
) -> Findings:
    rows = [Row(Example(str(i), (Message("user", "?"),)), None, str(i)) for i in range(len(system1))]
    found = Measured(rows, again=list(again))
    for name, keys in (("system1", system1), ("system2", system2), ("distilled", distilled)):
        found.answers[name] = Answers(keys, [10 if name == "system2" else 2] * len(keys), [5] * len(keys), [])
    return decide(found, [None] * len(rows), None, MARGIN)


def test_a_model_that_always_says_what_system_2_says_most_often_is_not_shipped() -> None:
    draw = random.Random(1)
    system2 = ["a" if draw.random() < 0.8 else "b" for _ in range(300)]
    again = [key if draw.random() < 0.8 else "c" for key in system2]
    system1 = [draw.choice("ab") for _ in range(300)]
    constant = unlabelled(system1, system2, again, ["a"] * 300)
    assert constant.verdict == "inconclusive"
    assert "the same answer to every prompt (the floor)" in constant.tests[0]["question"]
    imitating = unlabelled(system1, system2, again, [key if draw.random() < 0.97 else "c" for key in system2])
    assert imitating.verdict == "ship"
    assert "answers as System 2 does" in imitating.reason


def test_where_system_2_does_not_repeat_itself_agreement_with_it_ships_nothing() -> None:
    draw = random.Random(2)
    system2 = [draw.choice("abcdef") for _ in range(200)]
    again = [key if draw.random() < 0.3 else "x" for key in system2]
    found = unlabelled([draw.choice("abcdef") for _ in range(200)], system2, again, system2)
    assert found.verdict == "inconclusive"
    assert "the same answer again for only" in found.reason
