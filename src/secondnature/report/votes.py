"""All votes in one pass: what the report counts of them, and the prompts that it shows in full."""

import contextlib
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from secondnature.curate import votes_of
from secondnature.report.page import PromptVotes, ShownVote
from secondnature.report.show import prompt_votes, shown_vote, spread
from secondnature.sampling import Voted
from secondnature.tasks import AnswerKind
from secondnature.types import Call
from secondnature.work import Work


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
    shown: list[ShownVote] = field(default_factory=list[ShownVote])
    distinct: tuple[int, int, int] = (0, 0, 0)  # calls paid for, their prompt tokens, their completion tokens
    labelled: bool = True
    right: int = 0
    right_samples: int = 0

    @property
    def kept(self) -> int:
        return self.outcomes[None]

    @property
    def discarded(self) -> dict[str, int]:
        """How many prompts were discarded for each reason, the commonest first."""
        return {reason: number for reason, number in self.outcomes.most_common() if reason is not None}

    def add(self, voted: Voted, label: str | None, kind: AnswerKind) -> None:
        """Count one prompt's vote."""
        self.prompts += 1
        self.samples += len(voted.samples)
        self.samples_fixed_n += voted.n
        self.tokens += sum(sample.completion_tokens for sample in voted.samples)
        self.calls += sum(len(sample.trace) for sample in voted.samples)
        self.outcomes[voted.outcome.reason] += 1
        self.votes[prompt_votes(voted, kind)] += 1
        if label is None:
            self.labelled = False
        else:
            gold = kind.key(label)
            self.right += voted.outcome.key == gold
            self.right_samples += sum(s.answer is not None and kind.key(s.answer) == gold for s in voted.samples)

    def as_dict(self) -> dict[str, Any]:
        """`curation` of `report.json`; the precision of labels is for diagnosis, nothing depended on it."""
        paid, prompt_tokens, completion_tokens = self.distinct
        undrawn = self.samples_fixed_n - self.samples
        return {
            "prompts": self.prompts,
            "samples": self.samples,
            "samples_fixed_n": self.samples_fixed_n,
            "tokens_saved_by_early_stopping": round(self.tokens / self.samples * undrawn) if self.samples else 0,
            "kept": self.kept,
            "discarded": self.discarded,
            "calls": paid,
            "calls_reused": self.calls - paid,
            "tokens_prompt": prompt_tokens,
            "tokens_completion": completion_tokens,
            "label_precision": round(self.right / self.kept, 4) if self.labelled and self.kept else None,
            "label_precision_single": (
                round(self.right_samples / self.samples, 4) if self.labelled and self.samples else None
            ),
        }


async def tally_votes(work: Work) -> Tally:
    """Go through the votes once. Raises MissingCall where sampling is not finished."""
    tally, train = Tally(), work.setup.train
    shown = set(spread(len(train)))
    rows = iter(train)
    with contextlib.closing(_Calls()) as paid:
        async for voted in votes_of(work):
            if tally.prompts in shown:
                tally.shown.append(shown_vote(voted))
            tally.add(voted, next(rows).answer, work.setup.kind)
            paid.add([call for sample in voted.samples for call in sample.trace])
        tally.distinct = paid.totals()
    return tally


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
