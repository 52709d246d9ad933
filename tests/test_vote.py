"""Votes: what is kept, why the rest is not, and that stopping early changes nothing."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondnature.vote import Ballot, Outcome, Rule, decide, samples_to_decide, to_key, votes_needed

UNPARSABLE = Ballot(None, "unparsable")
CUT_OFF = Ballot(None, "truncated")
OF = {".": UNPARSABLE, "-": CUT_OFF}


def ballots(text: str) -> list[Ballot]:
    """One ballot a letter: "." is unparsable, "-" truncated."""
    return [OF.get(letter) or Ballot(letter) for letter in text]


@pytest.mark.parametrize(
    ("n", "share", "needed"),
    [(8, 0.75, 6), (8, 0.76, 7), (8, 1.0, 8), (8, 0.01, 1), (1, 0.5, 1), (10, 0.7, 7), (5, 0.6, 3), (3, 2 / 3, 2)],
)
def test_votes_needed_is_the_share_rounded_up_without_floating_point_slips(n: int, share: float, needed: int) -> None:
    assert votes_needed(n, share) == needed


@pytest.mark.parametrize(
    ("cast", "n", "needed", "outcome"),
    [
        ("aaab", 4, 3, Outcome("a", None)),
        ("aaa", 4, 3, Outcome("a", None)),  # the fourth cannot change it
        ("aa", 4, 3, None),
        ("aab", 4, 3, None),
        ("ab", 4, 4, Outcome(None, "low agreement")),
        ("aabb", 4, 2, Outcome(None, "tie")),  # both reach the threshold: neither is kept
        ("aabb", 4, 1, Outcome(None, "tie")),
        ("abcd", 4, 1, Outcome(None, "tie")),
        ("aabc", 4, 2, Outcome("a", None)),
        ("aab", 4, 2, None),  # the fourth could make a tie
        ("a...", 4, 2, Outcome(None, "unparsable")),
        ("a-..", 4, 3, Outcome(None, "unparsable")),
        ("a--.", 4, 3, Outcome(None, "truncated")),  # they alone would have been too many
        ("a---", 4, 2, Outcome(None, "truncated")),
        ("--", 4, 3, Outcome(None, "truncated")),
        ("a.", 2, 2, Outcome(None, "unparsable")),
        ("aab-", 4, 3, Outcome(None, "low agreement")),
        ("....", 4, 1, Outcome(None, "unparsable")),
        ("aaa.", 4, 3, Outcome("a", None)),
        ("", 4, 1, None),
        ("a", 1, 1, Outcome("a", None)),
        ("-", 1, 1, Outcome(None, "truncated")),
    ],
)
def test_decide(cast: str, n: int, needed: int, outcome: Outcome | None) -> None:
    assert decide(ballots(cast), Rule(n, needed / n)) == outcome


def test_unreadable_samples_count_against_the_majority() -> None:
    assert decide(ballots("aaa....."), Rule(8, 0.5)) == Outcome(None, "unparsable")


ANY = st.sampled_from([Ballot("a"), Ballot("b"), Ballot("c"), UNPARSABLE, CUT_OFF])


@settings(max_examples=600, deadline=None)
@given(
    cast=st.lists(ANY, min_size=1, max_size=12),
    share=st.floats(0, 1, exclude_min=True),
    margin=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
)
def test_stopping_early_is_exact_and_draws_no_sample_too_many(cast: list[Ballot], share: float, margin: float) -> None:
    rule = Rule(len(cast), share, margin)
    drawn = 0
    while (outcome := decide(cast[:drawn], rule)) is None:
        drawn += samples_to_decide(cast[:drawn], rule)
    full = decide(cast, rule)
    assert full is not None
    assert outcome.key == full.key
    assert (outcome.reason is None) == (full.reason is None)
    assert drawn <= rule.n
    for fewer in range(drawn):
        assert decide(cast[:fewer], rule) is None, "it was certain before the last sample was drawn"


def shortest(cast: Sequence[Ballot], rule: Rule) -> int:
    """The same as `samples_to_decide`, by trying everything."""
    for more in range(1, rule.n - len(cast)):
        for rest in product([Ballot("a"), Ballot("b"), Ballot("new"), UNPARSABLE], repeat=more):
            if decide([*cast, *rest], rule) is not None:
                return more
    return rule.n - len(cast)


def test_samples_to_decide_is_the_fewest_over_all_ways_to_go_on() -> None:
    compared = 0
    for n in range(1, 6):
        for needed, length, margin in product(range(1, n + 1), range(n), (0.0, 0.5)):
            rule = Rule(n, needed / n, margin)
            for cast in product([Ballot("a"), Ballot("b"), UNPARSABLE], repeat=length):
                if decide(cast, rule) is None:
                    compared += 1
                    assert samples_to_decide(cast, rule) == shortest(cast, rule), (cast, rule)
    assert compared > 100


def test_the_margin_is_the_lead_over_the_second_answer_as_a_share_of_all_votes() -> None:
    assert decide(ballots("aaaaabbb"), Rule(8, 0.5, 0.25)) == Outcome("a", None)
    assert decide(ballots("aaaaabbb"), Rule(8, 0.5, 0.26)) == Outcome(None, "small margin")
    assert decide(ballots("aaaaa..."), Rule(8, 0.5, 0.26)) == Outcome("a", None)  # failures are no second answer
    assert decide(ballots("aaa....."), Rule(8, 0.25, 0.4)) == Outcome(None, "small margin")  # but count among the votes
    assert decide(ballots("aabb"), Rule(4, 0.5, 0.1)) == Outcome(None, "tie")


WEIGHTS = st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0])
WEIGHED = st.one_of(
    st.builds(lambda key, weight: Ballot(key, None, weight), st.sampled_from("abc"), WEIGHTS), st.just(UNPARSABLE)
)


@settings(max_examples=400, deadline=None)
@given(cast=st.lists(WEIGHED, min_size=1, max_size=10), share=st.floats(0.1, 1), margin=st.sampled_from([0.0, 0.3]))
def test_weighted_votes_stop_early_without_changing_the_outcome(
    cast: list[Ballot], share: float, margin: float
) -> None:
    rule = Rule(len(cast), share, margin)
    full = decide(cast, rule)
    assert full is not None
    for drawn in range(len(cast)):
        outcome = decide(cast[:drawn], rule)
        assert outcome is None or outcome.key == full.key


def test_a_confident_minority_outweighs_an_unsure_majority() -> None:
    sure, unsure = Ballot("a", None, 0.9), Ballot("b", None, 0.2)
    assert decide([sure, sure, unsure, unsure, unsure], Rule(5, 0.6)) == Outcome("a", None)
    assert decide([sure, sure, unsure, unsure, unsure, UNPARSABLE], Rule(6, 0.6)) != Outcome("a", None)


OBJECTS = st.one_of(
    st.fixed_dictionaries({}, optional={"x": st.sampled_from([1, 2]), "y": st.sampled_from(["p", "q"])}).map(
        lambda value: Ballot(to_key(value))
    ),
    st.just(UNPARSABLE),
)


@settings(max_examples=400, deadline=None)
@given(cast=st.lists(OBJECTS, min_size=1, max_size=8), share=st.floats(0.2, 1))
def test_objects_are_voted_on_field_by_field_and_stopping_early_changes_nothing(
    cast: list[Ballot], share: float
) -> None:
    rule = Rule(len(cast), share, by_field=True)
    full = decide(cast, rule)
    assert full is not None
    drawn = 0
    while (outcome := decide(cast[:drawn], rule)) is None:
        drawn += samples_to_decide(cast[:drawn], rule)
    assert outcome.key == full.key


def test_the_object_that_is_kept_may_be_no_samples_own() -> None:
    cast = [Ballot(to_key(value)) for value in ({"x": 1, "y": 1}, {"x": 1, "y": 2}, {"x": 3, "y": 2})]
    assert decide(cast, Rule(3, 0.6)) == Outcome(None, "low agreement")
    assert decide(cast, Rule(3, 0.6, by_field=True)) == Outcome(to_key({"x": 1, "y": 2}), None)
    without_y = [Ballot(to_key({"x": 1})), Ballot(to_key({"x": 1})), Ballot(to_key({"x": 1, "y": 2}))]
    assert decide(without_y, Rule(3, 0.6, by_field=True)) == Outcome(to_key({"x": 1}), None)
    one_off = [Ballot(to_key({"x": number})) for number in range(3)]
    assert decide(one_off, Rule(3, 0.6, by_field=True)) == Outcome(None, "low agreement")


def test_a_beta_posterior_stops_sooner_and_only_where_it_is_that_sure() -> None:
    exact, sure = Rule(20, 0.5), Rule(20, 0.5, beta=0.95)
    assert decide(ballots("aaaa"), exact) is None
    assert decide(ballots("aaaa"), sure) == Outcome("a", None)
    assert decide(ballots("aab"), sure) is None
    assert decide(ballots("abcdef"), sure) == Outcome(None, "low agreement")
    assert decide(ballots("a--------"), sure) == Outcome(None, "low agreement")


def test_a_beta_posterior_errs_about_as_often_as_it_says() -> None:
    """Shares drawn from the prior that it assumes: the outcomes that all samples would change are few."""
    chance = random.Random(0)
    rule, wrong, drawn = Rule(16, 0.6, beta=0.9), 0, 0
    for _ in range(400):
        share = chance.random()
        cast = [Ballot("a" if chance.random() < share else "b") for _ in range(rule.n)]
        stop = next(k for k in range(rule.n + 1) if decide(cast[:k], rule) is not None)
        drawn += stop
        stopped, full = decide(cast[:stop], rule), decide(cast, replace(rule, beta=None))
        assert stopped is not None
        assert full is not None
        wrong += stopped.key != full.key
    assert 0 < wrong / 400 < 0.1
    assert drawn / 400 < 12
