"""The diagnosis of a run: what each threshold would keep, how much of it is right, and the prompts nearest to the line."""

from collections import Counter
from dataclasses import replace

import pytest

from reports import report
from secondnature.answers import KINDS
from secondnature.curated import Curation
from secondnature.report.page import render
from secondnature.report.shown import Page, PromptVotes
from secondnature.report.votes import Tally, distance
from secondnature.vote import Ballot, Rule, decide

KIND = KINDS["yes_no"]
RULE = Rule(4, 0.75)


def tally(*cases: tuple[str, str | None]) -> Tally:
    """Of prompts with their labels: y, n or . (unparsable) a sample; fewer than four were stopped early."""
    kept = 0
    found = Tally(Curation("", "", "", "", len(cases), 0, {}, 0, 0, 0, 0, 0, 0, 0))
    for answers, label in cases:
        said = [{"y": "yes", "n": "no"}.get(answer) for answer in answers]
        outcome = decide([Ballot(answer, None if answer else "unparsable") for answer in said], RULE)
        assert outcome is not None
        kept += outcome.key is not None
        row = {"n": len(answers), "votes": Counter(answer for answer in said if answer), "answer": outcome.key}
        found.add(row if outcome.key else {**row, "reason": outcome.reason}, KIND, label, RULE.n)
    return replace(found, curation=replace(found.curation, kept=kept))


def test_what_each_threshold_would_keep_and_how_much_of_it_is_right() -> None:
    found = tally(("yyyy", "yes"), ("yyyn", "no"), ("yynn", "yes"), ("n...", "no"))
    assert found.thresholds() == [
        {"votes": 1, "kept": 3, "label_precision": 0.6667},  # the tie is kept by no threshold
        {"votes": 2, "kept": 2, "label_precision": 0.5},
        {"votes": 3, "kept": 2, "label_precision": 0.5},
        {"votes": 4, "kept": 1, "label_precision": 1.0},
    ]


def test_without_labels_there_is_a_yield_and_no_precision() -> None:
    assert tally(("yyyy", None), ("yyyn", None)).thresholds()[3] == {"votes": 4, "kept": 1, "label_precision": None}


def test_votes_that_were_stopped_early_have_no_threshold_curve() -> None:
    assert tally(("yyyy", "yes"), ("yyy", "yes")).thresholds() == []


@pytest.mark.parametrize(
    ("votes", "away"),
    [
        (PromptVotes(3, 4, 4, True, None, 2), 0),  # one vote less and it is out
        (PromptVotes(4, 4, 4, True, None, 4), 1),
        (PromptVotes(3, 3, 4, True, None, 3), 0),
        (PromptVotes(2, 4, 4, False, "low agreement", 1), 0),
        (PromptVotes(1, 4, 4, False, "unparsable", 1), 1),
        (PromptVotes(0, 2, 4, False, "unparsable", 0), 0),  # the two not drawn could have brought it to two
    ],
)
def test_how_far_from_the_line_a_vote_was(votes: PromptVotes, away: int) -> None:
    assert distance(votes, 3) == away


def test_the_page_shows_the_curve() -> None:
    found = tally(("yyyy", "yes"), ("yyyn", "no"))
    page = render(Page(report(curation=found.as_dict()), found.votes))
    assert "What each threshold would keep" in page
    assert "4 votes: 1 kept, 100.0% of them right" in page
    early = tally(("yyy", "yes"))
    assert "What each threshold would keep" not in render(Page(report(curation=early.as_dict()), early.votes))
