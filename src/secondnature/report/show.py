"""What of a run the page shows: every vote as a count, and some prompts in full."""

from collections import Counter
from collections.abc import Sequence

from secondnature.consistency import Voted
from secondnature.evaluate.measure import Measured
from secondnature.report.shown import PromptVotes, ShownAnswer, ShownSample, ShownVote, SystemAnswer
from secondnature.tasks import AnswerKind
from secondnature.types import Message, Sample
from secondnature.work import Work

SHOWN = 120  # prompts shown in full of each kind; a page of all rows would be slow


def spread(total: int) -> list[int]:
    """Which of `total` prompts are shown in full: evenly spread ones."""
    number = min(SHOWN, total)
    return [i * total // number for i in range(number)]


def prompt_votes(voted: Voted, kind: AnswerKind, label: str | None) -> PromptVotes:
    """How the samples of a prompt voted; its label only tells whether the leading answer is right."""
    keys = Counter(kind.key(s.answer) for s in voted.samples if s.answer is not None)
    [(first, leading), (_, second)] = [*keys.most_common(2), ("", 0), ("", 0)][:2]
    right = None if label is None else bool(keys) and first == kind.key(label)
    kept = voted.outcome.key is not None
    return PromptVotes(leading, len(voted.samples), voted.n, kept, voted.outcome.reason, leading - second, right)


def shown_vote(voted: Voted) -> ShownVote:
    """A prompt with its samples, in full."""
    return ShownVote(
        voted.example.id,
        _text(voted.example.messages),
        voted.outcome.key or voted.outcome.reason or "",
        voted.outcome.key is not None,
        [ShownSample(s.index, _steps(s), s.answer, s.failure) for s in voted.samples],
    )


def shown_answers(work: Work, measured: Measured) -> list[ShownAnswer]:
    """Evenly spread test prompts with what each system said to them."""
    key = work.setup.kind.key
    shown: list[ShownAnswer] = []
    for i in spread(len(measured.rows)):
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
