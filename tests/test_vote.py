"""Votes: what is kept, why the rest is not, and that stopping early changes nothing."""

from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secondnature.verify.vote import Ballot, Outcome, decide, fewest_to_decide, votes_needed

UNREADABLE = Ballot(None, "unreadable")
CUT_OFF = Ballot(None, "cut off")
OF = {".": UNREADABLE, "-": CUT_OFF}


def ballots(text: str) -> list[Ballot]:
    """One ballot a letter: "." is unreadable, "-" cut off."""
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
        ("a...", 4, 2, Outcome(None, "unreadable")),
        ("a-..", 4, 3, Outcome(None, "unreadable")),
        ("a--.", 4, 3, Outcome(None, "cut off")),  # they alone would have been too many
        ("a---", 4, 2, Outcome(None, "cut off")),
        ("--", 4, 3, Outcome(None, "cut off")),
        ("a.", 2, 2, Outcome(None, "unreadable")),
        ("aab-", 4, 3, Outcome(None, "low agreement")),
        ("....", 4, 1, Outcome(None, "unreadable")),
        ("aaa.", 4, 3, Outcome("a", None)),
        ("", 4, 1, None),
        ("a", 1, 1, Outcome("a", None)),
        ("-", 1, 1, Outcome(None, "cut off")),
    ],
)
def test_decide(cast: str, n: int, needed: int, outcome: Outcome | None) -> None:
    assert decide(ballots(cast), n, needed) == outcome


def test_unreadable_samples_count_against_the_majority() -> None:
    assert decide(ballots("aaa....."), 8, votes_needed(8, 0.5)) == Outcome(None, "unreadable")


ANY = st.sampled_from([Ballot("a"), Ballot("b"), Ballot("c"), UNREADABLE, CUT_OFF])


@settings(max_examples=600, deadline=None)
@given(cast=st.lists(ANY, min_size=1, max_size=12), share=st.floats(0, 1, exclude_min=True))
def test_stopping_early_is_exact_and_draws_no_sample_too_many(cast: list[Ballot], share: float) -> None:
    n, needed = len(cast), votes_needed(len(cast), share)
    drawn = 0
    while (outcome := decide(cast[:drawn], n, needed)) is None:
        drawn += fewest_to_decide(cast[:drawn], n, needed)
    full = decide(cast, n, needed)
    assert full is not None
    assert outcome.key == full.key
    assert (outcome.reason is None) == (full.reason is None)
    assert drawn <= n
    for fewer in range(drawn):
        assert decide(cast[:fewer], n, needed) is None, "it was certain before the last sample was drawn"


def shortest(cast: Sequence[Ballot], n: int, needed: int) -> int:
    """The same as `fewest_to_decide`, by trying everything."""
    for more in range(1, n - len(cast)):
        for rest in product([Ballot("a"), Ballot("b"), Ballot("new"), UNREADABLE], repeat=more):
            if decide([*cast, *rest], n, needed) is not None:
                return more
    return n - len(cast)


def test_fewest_to_decide_is_the_fewest_over_all_ways_to_go_on() -> None:
    compared = 0
    for n in range(1, 6):
        for needed, length in product(range(1, n + 1), range(n)):
            for cast in product([Ballot("a"), Ballot("b"), UNREADABLE], repeat=length):
                if decide(cast, n, needed) is None:
                    compared += 1
                    assert fewest_to_decide(cast, n, needed) == shortest(cast, n, needed), (cast, n, needed)
    assert compared > 100
