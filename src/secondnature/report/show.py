"""What of a run the page shows: every vote as a count, and some prompts in full."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

from secondnature.evaluate.measure import Measured
from secondnature.report.page import Page, PromptVotes, ShownAnswer, ShownSample, ShownVote, SystemAnswer
from secondnature.sampling import Voted
from secondnature.types import Message, Sample
from secondnature.work import Work

Item = TypeVar("Item")
SHOWN = 120  # prompts shown in full of each kind; a page of all rows would be slow


def page(work: Work, report: dict[str, Any], votes: Sequence[Voted] | None, measured: Measured) -> Page:
    """The page's content: evenly spread prompts, kept and discarded and tested."""
    votes = votes or []
    return Page(
        report=report,
        votes=[_votes(work, voted) for voted in votes],
        curated=[_shown(voted) for voted in _spread(votes)],
        tested=_tested(work, measured),
        shown_of=len(votes),
        tested_of=len(measured.rows),
        run=str(work.run.folder),
    )


def _spread(items: Sequence[Item]) -> list[Item]:
    number = min(SHOWN, len(items))
    return [items[i * len(items) // number] for i in range(number)]


def _votes(work: Work, voted: Voted) -> PromptVotes:
    keys = Counter(work.setup.kind.key(s.answer) for s in voted.samples if s.answer is not None)
    leading = max(keys.values(), default=0)
    return PromptVotes(leading, len(voted.samples), voted.n, voted.outcome.key is not None, voted.outcome.reason)


def _shown(voted: Voted) -> ShownVote:
    return ShownVote(
        voted.example.id,
        _text(voted.example.messages),
        voted.outcome.key or voted.outcome.reason or "",
        voted.outcome.key is not None,
        [ShownSample(s.index, _steps(s), s.answer, s.failure) for s in voted.samples],
    )


def _tested(work: Work, measured: Measured) -> list[ShownAnswer]:
    key = work.setup.kind.key
    shown: list[ShownAnswer] = []
    for i in _spread(range(len(measured.rows))):
        row = measured.rows[i]
        gold = None if row.answer is None else key(row.answer)
        systems = {
            name: SystemAnswer(
                samples[i].text,
                _steps(samples[i])[:-1],
                samples[i].answer,
                None if gold is None else measured.answers[name].keys[i] == gold,
            )
            for name, samples in measured.samples.items()
        }
        shown.append(ShownAnswer(row.example.id, _text(row.example.messages), row.answer, row.slices, systems))
    return shown


def _steps(sample: Sample) -> list[str]:
    return [call.reply.text for call in sample.trace]


def _text(messages: Sequence[Message]) -> str:
    if len(messages) == 1:
        return messages[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in messages)
