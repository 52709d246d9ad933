"""All votes in one pass: what the report counts of them, and the prompts that it shows in full."""

import contextlib
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from secondnature.consistency import VoteResult
from secondnature.context import RunContext
from secondnature.curate import tokens_saved, votes_of
from secondnature.report.show import prompt_votes, shown_vote, spread
from secondnature.report.shown import PromptVotes, ShownVote
from secondnature.tasks import AnswerKind
from secondnature.types import Call
from secondnature.verify.vote import votes_needed

NEAREST = 20  # prompts shown because a vote or two would have decided otherwise


@dataclass
class Tally:
    """What there is to say of the votes. Its size does not grow with the number of prompts."""

    prompts: int = 0
    samples: int = 0
    samples_fixed_n: int = 0
    tokens: int = 0  # of all samples, those of reused calls too
    calls: int = 0
    outcomes: Counter[str | None] = field(default_factory=Counter[str | None])  # by reason; None: kept
    votes: Counter[PromptVotes] = field(default_factory=Counter[PromptVotes])
    shown: list[ShownVote] = field(default_factory=list[ShownVote])  # evenly spread
    nearest: list[tuple[int, int, ShownVote]] = field(default_factory=list[tuple[int, int, ShownVote]])  # to the line
    distinct: tuple[int, int, int] = (0, 0, 0)  # calls paid for, their prompt tokens, their completion tokens
    labelled: bool = True
    right: int = 0
    right_samples: int = 0
    own_samples: int = 0  # without those of changed prompts

    @property
    def kept(self) -> int:
        return self.outcomes[None]

    def thresholds(self) -> list[dict[str, Any]]:
        """What each number of votes needed would keep, and with labels how many of those are right.

        Empty where a vote was stopped early: the votes that it lacks are not known.
        """
        if not self.votes or any(v.drawn < v.n for v in self.votes):
            return []
        lines: list[dict[str, Any]] = []
        for needed in range(1, max(v.n for v in self.votes) + 1):
            kept = {v: number for v, number in self.votes.items() if v.leading >= needed and v.lead > 0}
            number = sum(kept.values())
            right = sum(number for v, number in kept.items() if v.right)
            precision = round(right / number, 4) if number and self.labelled else None
            lines.append({"votes": needed, "kept": number, "label_precision": precision})
        return lines

    @property
    def discarded(self) -> dict[str, int]:
        """How many prompts were discarded for each reason, the commonest first."""
        return {reason: number for reason, number in self.outcomes.most_common() if reason is not None}

    def add(self, voted: VoteResult, label: str | None, kind: AnswerKind) -> PromptVotes:
        """Count one prompt's vote, on the prompt and its changes."""
        self.prompts += 1
        self.samples += len(voted.all_samples)
        self.samples_fixed_n += voted.fixed_n
        self.tokens += sum(sample.completion_tokens for sample in voted.all_samples)
        self.calls += len(voted.calls)
        self.outcomes[voted.outcome.reason] += 1
        votes = prompt_votes(voted, kind, label)
        self.votes[votes] += 1
        if label is None:
            self.labelled = False
        else:
            gold = kind.normalize(label)
            self.right += voted.outcome.key == gold
            self.own_samples += len(voted.samples)
            self.right_samples += sum(s.answer is not None and kind.normalize(s.answer) == gold for s in voted.samples)
        return votes

    def as_dict(self) -> dict[str, Any]:
        """`curation` of `report.json`; the precision of labels is for diagnosis, nothing depended on it."""
        paid, prompt_tokens, completion_tokens = self.distinct
        return {
            "prompts": self.prompts,
            "samples": self.samples,
            "samples_fixed_n": self.samples_fixed_n,
            "tokens_saved_by_early_stopping": tokens_saved(self.tokens, self.samples, self.samples_fixed_n),
            "kept": self.kept,
            "discarded": self.discarded,
            "calls": paid,
            "calls_reused": self.calls - paid,
            "tokens_prompt": prompt_tokens,
            "tokens_completion": completion_tokens,
            "thresholds": self.thresholds() or None,
            "label_precision": round(self.right / self.kept, 4) if self.labelled and self.kept else None,
            "label_precision_single": (
                round(self.right_samples / self.own_samples, 4) if self.labelled and self.own_samples else None
            ),
        }


async def tally_votes(context: RunContext) -> Tally:
    """Go through the votes once. Raises MissingCall where sampling is not finished."""
    tally, train = Tally(), context.resolved.train
    shown = set(spread(len(train)))
    rows, rule = iter(train), context.resolved.verifier.rule
    needed = votes_needed(rule.n, rule.min_agreement)
    with contextlib.closing(_Calls()) as paid:
        async for voted in votes_of(context):
            number = tally.prompts
            votes = tally.add(voted, next(rows).label, context.resolved.kind)
            if number in shown:
                tally.shown.append(shown_vote(voted))
            tally.nearest.append((from_line(votes, needed), number, shown_vote(voted)))
            if len(tally.nearest) > 2 * NEAREST:
                tally.nearest = _first(tally.nearest)
            paid.add(voted.calls)
        tally.nearest = _first(tally.nearest)
        tally.distinct = paid.totals()
    return tally


def _first(nearest: list[tuple[int, int, ShownVote]]) -> list[tuple[int, int, ShownVote]]:
    return sorted(nearest, key=lambda near: near[:2])[:NEAREST]


def from_line(votes: PromptVotes, needed: int) -> int:
    """How many votes would have had to fall otherwise for another outcome, beyond one."""
    left = votes.n - votes.drawn
    if votes.kept:
        return max(0, min(votes.leading - needed, votes.lead - left - 1))
    return max(0, needed - votes.leading - left - 1)


class _Calls:
    """Counts each call once: in a temporary database, which goes to the disk where it grows large."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("PRAGMA cache_size=-32000")
        self._db.execute("CREATE TABLE calls (key INTEGER PRIMARY KEY, prompt INTEGER, completion INTEGER)")
        self._db.execute("BEGIN")

    def add(self, calls: list[Call]) -> None:
        rows = [(_number(c.key), c.reply.prompt_tokens, c.reply.completion_tokens) for c in calls]
        self._db.executemany("INSERT OR IGNORE INTO calls VALUES (?, ?, ?)", rows)

    def totals(self) -> tuple[int, int, int]:
        """(calls, their prompt tokens, their completion tokens)."""
        [row] = self._db.execute("SELECT COUNT(*), COALESCE(SUM(prompt), 0), COALESCE(SUM(completion), 0) FROM calls")
        return row

    def close(self) -> None:
        self._db.close()


def _number(key: str) -> int:
    """64 bits of a key, as SQLite's signed integers."""
    return int(key[:16], 16) - 2**63
