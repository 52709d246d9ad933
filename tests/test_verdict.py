"""Every way a verdict can come out, and how often it is wrong in simulated runs whose truth is known."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from verdicts import Thrifty, World, ships, thrifty

from secondnature.evaluate.decide import Findings, decide
from secondnature.evaluate.measure import Measured
from secondnature.evaluate.score import Answers
from secondnature.evaluate.statistics import Comparison, Saving, compare, compare_tokens
from secondnature.evaluate.verdict import Distilled, with_labels, without_labels
from secondnature.types import Example, Message, Row

MARGIN = 0.05


def than(ahead: int, behind: int, n: int = 300) -> Comparison:
    """A comparison of n prompts, of which the first is right alone on `ahead`, and the second alone on `behind`."""
    first = [1.0] * ahead + [0.0] * behind + [1.0] * (n - ahead - behind)
    second = [0.0] * ahead + [1.0] * behind + [1.0] * (n - ahead - behind)
    return compare(first, second, [str(i) for i in range(n)], MARGIN)


LIFT = than(90, 10)
SAVES, NOT_HALF = Saving(2.5, 72.0, (0.02, 0.1)), Saving(30.0, 72.0, (0.3, 0.6))


def distilled(
    to_system1: Comparison, to_system2: Comparison, saves: Saving | None = None, to_constant: Comparison = LIFT
) -> Distilled:
    return Distilled(to_system1, to_system2, to_constant, saves)


@pytest.mark.parametrize(
    ("lift", "over_system1", "to_system2", "verdict", "words"),
    [
        (than(10, 60), None, None, "keep-system1", "does not beat"),
        (than(20, 30), LIFT, than(5, 5), "keep-system1", "does not beat"),
        (than(0, 0), None, None, "keep-system1", "does not beat"),
        (
            than(0, 0, 20),
            None,
            None,
            "inconclusive",
            "20 independent groups of test prompts are too few to say, it takes at least 59",
        ),
        (than(30, 30, 100), None, None, "inconclusive", "may or may not beat System 1: +0.000"),
        (than(4, 2), LIFT, than(5, 5), "keep-system1", "thinking gains too little"),
        (than(40, 28), LIFT, than(5, 5), "inconclusive", "may or may not beat System 1"),
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
    compared = None
    if over_system1 is not None and to_system2 is not None:
        compared = distilled(over_system1, to_system2)
    decided, reason = with_labels(lift, compared)
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
    decided, reason = without_labels(distilled(over_floor, to_ceiling), 0.8)
    assert decided == verdict
    assert "No labels" in reason
    assert "invisible" in reason


TIE, OPEN, WORSE = than(5, 5), than(22, 22, 60), than(5, 60)
TIMES = "2.5 generated tokens an answer instead of System 1's 72.0, 29 times fewer (95% interval: at least 10 times)"


@pytest.mark.parametrize(
    ("lift", "compared", "verdict", "words"),
    [
        (TIE, distilled(TIE, TIE, SAVES), "ship", "within 0.05 of System 1, +0.000 (95%"),
        (TIE, distilled(TIE, TIE, SAVES), "ship", TIMES),
        (LIFT, distilled(TIE, TIE, SAVES), "ship", TIMES),
        (TIE, distilled(TIE, TIE, NOT_HALF), "keep-system1", "does not beat"),
        (TIE, distilled(TIE, TIE, None), "keep-system1", "does not beat"),
        (TIE, distilled(TIE, TIE, SAVES, TIE), "inconclusive", "Whether it is as good as System 1 is open"),
        (TIE, distilled(WORSE, WORSE, SAVES), "keep-system1", "does not beat"),
        (TIE, distilled(OPEN, OPEN, SAVES), "inconclusive", f"What the distilled model saves is certain: {TIMES}"),
        (than(24, 14, 60), distilled(OPEN, than(14, 24, 60), SAVES), "inconclusive", "is as good as System 1 is open: +0.000"),
        (than(24, 14, 60), distilled(TIE, than(14, 24, 60), SAVES), "inconclusive", "the distilled model is as good as System 1"),
        (LIFT, distilled(TIE, WORSE, SAVES), "keep-system2", f"for {TIMES}."),
        (LIFT, distilled(LIFT, WORSE, SAVES), "route", f"It takes {TIMES}."),
        (LIFT, distilled(WORSE, WORSE, SAVES), "keep-system2", "not above System 1: -0.183"),
    ],
)  # fmt: skip
def test_the_same_accuracy_for_a_thirtieth_of_the_tokens_is_a_result(
    lift: Comparison, compared: Distilled, verdict: str, words: str
) -> None:
    decided, reason = with_labels(lift, compared)
    assert decided == verdict, reason
    assert words in reason


def test_without_labels_what_is_saved_counts_where_system_1_answers_as_system_2_does() -> None:
    verdict, reason = without_labels(distilled(TIE, TIE, SAVES), 0.9)
    assert verdict == "ship"
    assert TIMES in reason
    assert "No labels" in reason
    for compared in (distilled(TIE, TIE, NOT_HALF), distilled(TIE, TIE, SAVES, TIE), distilled(TIE, OPEN, SAVES)):
        assert without_labels(compared, 0.9)[0] == "inconclusive"
    assert without_labels(distilled(TIE, TIE, SAVES), 0.4)[0] == "inconclusive"


def test_what_is_saved_is_tested_against_the_longest_answer_that_there_can_be() -> None:
    few, many = ([str(i) for i in range(n)] for n in (20, 200))
    for groups, most, shown in ((many, 128, True), (many, 4096, False), (few, 512, False)):
        saves = compare_tokens([3] * len(groups), [40] * len(groups), groups, most)
        assert saves is not None
        assert saves.mean / saves.other == 0.075
        assert saves.shown is shown, "20 prompts say little of an answer in twenty that runs on"
    assert compare_tokens([3], [0], ["a"], 10) is None
    whole = compare_tokens([3, 3, 100], [40, 40, 40], ["a", "a", "b"], 128)
    assert whole is not None
    assert whole.ci[0] < 0.883 < whole.ci[1]


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


@pytest.mark.parametrize(
    "world",
    [
        Thrifty(67, "two", alike=0.5, lost=0.15, won=0.1),
        Thrifty(67, "one", alike=0, lost=0.05, won=0),
        Thrifty(150, "heavy", alike=1, lost=0.3, won=0.25),
        Thrifty(67, "two", alike=0.5, lost=0.02, won=0.02, spent=0.5),  # as good, and just half is saved
    ],
    ids=lambda w: f"{w.groups}-{w.sizes}-{w.alike}-{w.lost}-{w.won}-{w.spent:.2f}",
)
def test_as_good_as_system_1_for_half_the_tokens_is_wrong_at_most_as_often_as_stated(world: Thrifty) -> None:
    shipped, same = thrifty(world, 1000)
    assert shipped <= 62
    assert same <= 62 or world.lost == world.won, "there it is true"


def test_what_is_as_good_as_system_1_and_far_cheaper_is_shipped_where_there_are_prompts_enough() -> None:
    assert thrifty(Thrifty(400, "one", alike=0, lost=0.03, won=0.03), 100)[0] >= 80


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
    found = decide(runs, gold, None, MARGIN, 128)
    assert found.verdict == "ship"
    assert [(t.name, t.kind, t.decided) for t in found.tests] == [
        ("system2 - system1", "superiority", True),
        ("distilled - system1", "superiority", True),
        ("distilled - system2", "non-inferiority", True),
    ]
    assert all(t.p <= 0.05 and t.n == t.groups == 120 for t in found.tests)
    assert found.power is not None
    assert found.power.groups == 120
    assert [caveat.kind for caveat in found.caveats] == ["constant"]  # the label is "yes" everywhere


def caveats(found: Findings) -> str:
    return "\n".join(caveat.text for caveat in found.caveats)


def test_what_to_mind_is_said() -> None:
    runs, gold = measured(system1=0.2, system2=0.6, distilled=0.6, control_system1_self=0.6, baseline_be_short=0.6)
    runs.answers["system1"] = Answers([None] * 60 + ["yes"] * 24 + ["no"] * 36, [20] * 120, [5] * 120, [])
    runs.answers["distilled"] = Answers(runs.answers["distilled"].keys, [10] * 120, [5] * 120, [])
    said = caveats(decide(runs, gold, None, MARGIN, 128))
    assert "50% of the answers of System 1 cannot be read" in said
    assert "generates as many tokens as System 2" in said
    assert "System 1's own answers is not shown to do worse" in said
    assert "System 1, be short, which takes no training, is not shown to do worse" in said


def test_a_group_that_holds_much_of_the_prompts_is_said() -> None:
    runs, gold = measured(system1=0.2, system2=0.6, distilled=0.6)
    rows = [Row(r.example, r.label, "all" if i < 60 else r.group) for i, r in enumerate(runs.rows)]
    runs.rows = rows
    assert "One group holds 50% of the test prompts" in caveats(decide(runs, gold, None, MARGIN, 128))


def unlabelled(
    system1: Sequence[str], system2: Sequence[str], again: Sequence[str], distilled: Sequence[str]
) -> Findings:
    rows = [Row(Example(str(i), (Message("user", "?"),)), None, str(i)) for i in range(len(system1))]
    found = Measured(rows, again=list(again))
    for name, keys in (("system1", system1), ("system2", system2), ("distilled", distilled)):
        found.answers[name] = Answers(keys, [10 if name == "system2" else 2] * len(keys), [5] * len(keys), [])
    return decide(found, [None] * len(rows), None, MARGIN, 128)


def test_a_model_that_always_says_what_system_2_says_most_often_is_not_shipped() -> None:
    draw = random.Random(1)
    system2 = ["a" if draw.random() < 0.8 else "b" for _ in range(300)]
    again = [key if draw.random() < 0.8 else "c" for key in system2]
    system1 = [draw.choice("ab") for _ in range(300)]
    constant = unlabelled(system1, system2, again, ["a"] * 300)
    assert constant.verdict == "inconclusive"
    assert "the same answer to every prompt (the floor)" in constant.tests[0].question
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


def test_a_system_2_that_cannot_be_read_is_not_measured_with_labels_and_without() -> None:
    runs, gold = measured(system1=0.2, system2=0.6, distilled=0.6)
    runs.again = [*runs.answers["system2"].keys]
    slow = runs.answers["system2"]
    for unread, cut, words in (
        (30, 20, "most of those were truncated at 128 tokens"),
        (96, 10, "do not have the form"),
    ):
        keys = [None] * unread + [*slow.keys[unread:]]
        runs.answers["system2"] = Answers(keys, slow.completion_tokens, [5] * 120, [], [i < cut for i in range(120)])
        for labels in (gold, [None] * 120):
            found = decide(runs, labels, None, MARGIN, 128)
            assert found.verdict == "inconclusive"
            assert found.reason.startswith(f"{unread / 120:.0%} of System 2's answers cannot be read")
            assert words in found.reason
            assert not any("System 2 cannot be read" in caveat.text for caveat in found.caveats), "it is the reason"
    runs.answers["system2"] = Answers([None] * 24 + [*slow.keys[24:]], slow.completion_tokens, [5] * 120, [])
    found = decide(runs, gold, None, MARGIN, 128)
    assert "cannot be read, so" not in found.reason, "a fifth is not over a fifth"
    assert "20% of the answers of System 2 cannot be read" in caveats(found)


def test_what_system_1_does_not_say_readably_counts_against_it() -> None:
    runs, gold = measured(system1=0.0, system2=0.6, distilled=0.6)
    runs.answers["system1"] = Answers([None] * 120, [20] * 120, [5] * 120, [], [i < 60 for i in range(120)])
    found = decide(runs, gold, None, MARGIN, 128)
    assert found.verdict == "ship"
    assert (
        "100% of the answers of System 1 cannot be read (50% were truncated) and count as wrong, as they would in use"
        in caveats(found)
    )
    runs.again = [*runs.answers["system2"].keys]
    assert "(50% were truncated) and agree with nothing" in caveats(decide(runs, [None] * 120, None, MARGIN, 128))


def test_what_is_shipped_for_its_cost_says_so_and_asks_for_the_plain_way() -> None:
    runs, _ = measured(n=400)
    gold = [str(i) if i % 5 < 2 else "maybe" for i in range(400)]
    given = [str(i) if i % 5 < 2 else "no" for i in range(400)]
    for name, tokens in (("system1", 72), ("system2", 97), ("distilled", 2)):
        runs.answers[name] = Answers(given, [tokens] * 400, [5] * 400, [])
    always = decide(runs, gold, None, MARGIN, 128)
    assert always.verdict == "inconclusive", "always to say maybe is right more often"
    gold = [str(i) if i % 5 < 2 else f"maybe {i}" for i in range(400)]
    found = decide(runs, gold, None, MARGIN, 128)
    assert found.verdict == "ship"
    assert "instead of System 1's 72.0, 36 times fewer" in found.reason
    assert found.saving is not None
    assert (found.saving.than, found.saving.decided) == ("System 1", True)
    assert [t.name for t in found.tests][-2:] == ["distilled - system1", "distilled - constant"]
    assert "add one to evaluate.baselines" in caveats(found)
    runs.answers["baseline_at_once"] = runs.answers["distilled"]
    said = caveats(decide(runs, gold, None, MARGIN, 128))
    assert "System 1, at once, which takes no training, is not shown to do worse" in said
    assert "add one to" not in said
    runs.answers["system2"] = Answers(runs.answers["system2"].keys, [3] * 400, [5] * 400, [])
    dear = decide(runs, gold, None, MARGIN, 128)
    assert (dear.verdict, dear.saving.than if dear.saving else "") == ("keep-system1", "System 2")


def test_a_system_that_always_says_the_same_is_named_and_so_is_a_distilled_model_that_beats_no_constant() -> None:
    labels = ["yes" if i % 5 else "no" for i in range(120)]
    rows = [Row(Example(str(i), (Message("user", "?"),)), label, str(i)) for i, label in enumerate(labels)]
    always, other = ["yes"] * 118 + ["no"] * 2, ["no" if i % 3 else "yes" for i in range(120)]
    found = Measured(rows)
    for name, keys in (("system1", other), ("system2", labels), ("distilled", always)):
        found.answers[name] = Answers(keys, [10] * 120, [5] * 120, [])
    decided = decide(found, labels, None, MARGIN, 128)
    assert decided.constant is not None
    assert (decided.constant.answer, decided.constant.share) == ("yes", 0.8)
    said = {caveat.kind: caveat.text for caveat in decided.caveats}
    assert (
        said["one-answer"]
        == "The distilled model gives one answer, 'yes', to 98% of the test prompts, whatever they ask."
    )
    assert said["constant"].startswith(
        "One answer to every prompt, 'yes', would be right on 80%: the distilled model is not"
    )
    found.answers["distilled"] = found.answers["system2"]
    assert not {"one-answer", "constant"} & {caveat.kind for caveat in decide(found, labels, None, MARGIN, 128).caveats}
    found.answers["distilled"], found.again = Answers(always, [10] * 120, [5] * 120, []), list(labels)
    unlabelled = decide(found, [None] * 120, None, MARGIN, 128)
    assert "would agree with System 2 on 80%" in caveats(unlabelled)
    found.answers["distilled"] = Answers(["\x1b[31myes"] * 120, [10] * 120, [5] * 120, [])
    assert "\x1b" not in caveats(decide(found, labels, None, MARGIN, 128))
    assert decide(Measured(rows[:0]), [], None, MARGIN, 128).constant is None
