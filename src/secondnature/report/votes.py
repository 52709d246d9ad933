"""What the report counts of the votes, from the curated files and the labels, and the prompts that it shows in full."""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from secondnature.context import RunContext
from secondnature.curate import replayed, tokens_saved
from secondnature.curated import Curation, discarded_rows, kept_rows
from secondnature.report.show import shown_vote, spread
from secondnature.report.shown import PromptVotes, ShownVote
from secondnature.tasks import AnswerKind
from secondnature.types import UserError
from secondnature.vote import votes_needed

NEAREST = 20  # prompts shown because a vote or two would have decided otherwise


@dataclass
class Tally:
    """How all prompts voted. Its size does not grow with the number of prompts."""

    curation: Curation
    votes: Counter[PromptVotes] = field(default_factory=Counter[PromptVotes])
    shown: Sequence[ShownVote] = ()  # the `nearest` to the threshold first, then evenly spread ones
    nearest: int = 0
    labelled: bool = True
    right: int = 0
    right_samples: int = 0
    read_samples: int = 0  # without those of perturbed prompts

    def add(self, row: dict[str, Any], kind: AnswerKind, label: str | None, n: int) -> PromptVotes:
        """Count a row of the curated files, of at most `n` samples; its label is only compared with the answers."""
        counted: Counter[str] = Counter(row["votes"])
        [(first, leading), (_, second)] = [*counted.most_common(2), ("", 0), ("", 0)][:2]
        reason, right = row.get("reason"), None
        if label is None:
            self.labelled = False
        else:
            gold = kind.normalize(label)
            right = leading > 0 and kind.normalize(first) == gold
            self.right += reason is None and kind.normalize(row["answer"]) == gold
            self.read_samples += row["n"]
            self.right_samples += sum(number for said, number in counted.items() if kind.normalize(said) == gold)
        votes = PromptVotes(leading, row["n"], n, reason is None, reason, leading - second, right)
        self.votes[votes] += 1
        return votes

    @property
    def kept(self) -> int:
        return self.curation.kept

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

    def as_dict(self) -> dict[str, Any]:
        """`curation` of `report.json`; the precision of labels is for diagnosis, nothing depended on it."""
        found = self.curation
        return {
            "prompts": found.prompts,
            "samples": found.samples,
            "samples_fixed_n": found.samples_fixed_n,
            "tokens_saved_by_early_stopping": tokens_saved(found.tokens, found.samples, found.samples_fixed_n),
            "kept": found.kept,
            "discarded": dict(found.discarded),
            "calls": found.calls_distinct,
            "calls_reused": found.calls - found.calls_distinct,
            "tokens_prompt": found.tokens_prompt,
            "tokens_completion": found.tokens_completion,
            "thresholds": self.thresholds() or None,
            "label_precision": round(self.right / self.kept, 4) if self.labelled and self.kept else None,
            "label_precision_single": (
                round(self.right_samples / self.read_samples, 4) if self.labelled and self.read_samples else None
            ),
        }


def tally_votes(context: RunContext, curation: Curation) -> Tally:
    """Read the curated files once, and replay the votes that are shown. Raises MissingCall where a call is not there."""
    run, resolved = context.run, context.resolved
    tally, rule = Tally(curation), resolved.verifier.rule
    needed = votes_needed(rule.n, rule.min_agreement)
    nearest: list[tuple[int, int]] = []  # (distance, row)
    rows = heapq.merge(kept_rows(run), discarded_rows(run), key=itemgetter("row"))
    labels = enumerate(resolved.train)
    place, trained = next(labels)
    for row in rows:
        while trained is not None and place < row["row"]:
            place, trained = next(labels, (place + 1, None))
        if trained is None or place != row["row"]:
            raise UserError(
                f"{run.curated}: there is no training prompt {row['row']}: `secondnature verify` writes it anew"
            )
        votes = tally.add(row, resolved.kind, trained.label, rule.n)
        nearest.append((distance(votes, needed), place))
        if len(nearest) > 2 * NEAREST:
            nearest = sorted(nearest)[:NEAREST]
    near = [place for _, place in sorted(nearest)[:NEAREST]]
    places = [*near, *(place for place in spread(len(resolved.train)) if place not in near)]
    tally.shown = [shown_vote(voted) for voted in replayed(context, places)]
    tally.nearest = len(near)
    return tally


def distance(votes: PromptVotes, needed: int) -> int:
    """How many votes more than one would have had to be different for another outcome."""
    left = votes.n - votes.drawn
    if votes.kept:
        return max(0, min(votes.leading - needed, votes.lead - left - 1))
    return max(0, needed - votes.leading - left - 1)
