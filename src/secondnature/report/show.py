"""What of a run the page shows: every vote as a count, and some prompts in full."""

from collections.abc import Sequence

from secondnature.context import RunContext
from secondnature.evaluate.measure import Measured
from secondnature.evaluate.score import members
from secondnature.evaluate.verdict import UNPARSABLE
from secondnature.report.model import Report
from secondnature.report.shown import ShownAnswer, ShownSample, ShownVote, SystemAnswer
from secondnature.systems import SYSTEM2
from secondnature.types import Message, Sample
from secondnature.verifier import VoteResult

SHOWN = 120  # prompts shown in full of each kind; a page of all rows would be slow


def spread(total: int) -> list[int]:
    """Which of `total` prompts are shown in full: evenly spread ones."""
    number = min(SHOWN, total)
    return [i * total // number for i in range(number)]


def shown_vote(voted: VoteResult) -> ShownVote:
    """A prompt with its samples, in full."""
    return ShownVote(
        voted.example.id,
        _text(voted.example.messages),
        voted.outcome.key or voted.outcome.reason or "",
        voted.outcome.key is not None,
        [ShownSample(s.index, _steps(s), s.answer, s.failure) for s in voted.samples],
    )


def shown_answers(context: RunContext, measured: Measured) -> list[ShownAnswer]:
    """Evenly spread test prompts with what each system said to them."""
    return [_shown(context, measured, i) for i in spread(len(measured.rows))]


def _shown(context: RunContext, measured: Measured, place: int) -> ShownAnswer:
    row = measured.rows[place]
    gold = None if row.label is None else context.resolved.kind.normalize(row.label)
    systems = {
        name: SystemAnswer(
            samples[place].text,
            _thoughts(samples[place]),
            samples[place].answer,
            None if gold is None else measured.answers[name].keys[place] == gold,
        )
        for name, samples in measured.samples.items()
    }
    return ShownAnswer(row.example.id, _text(row.example.messages), row.label, row.slices, systems)


KINDS = {
    (True, False): "{own} is right and System 1 wrong",
    (False, True): "{own} is wrong and System 1 right",
    (True, True): "both are right",
    (False, False): "both are wrong",
}


def before_and_after(context: RunContext, measured: Measured, report: Report) -> tuple[str, list[ShownAnswer]]:
    """Three test prompts of the headline slice for the top of the page, and a sentence on how they were chosen.

    Where the distilled model gains on System 1: three of those that it gained, else one of each commonest kind. Without labels
    "right" is what System 2 answered. Where too much of System 2 cannot be read: three such answers.
    """
    if not {"system1", "system2"} <= measured.samples.keys():
        return "", []
    rows, own = measured.rows, "distilled" if "distilled" in measured.samples else "system2"
    chosen, key = members(rows, report.headline), context.resolved.kind.normalize
    if (slow := report.of(SYSTEM2)) is not None and slow.unparsable > UNPARSABLE:
        unread = [i for i in chosen if measured.answers["system2"].keys[i] is None]
        how = f"{len(unread)} of {len(chosen)} System 2 answers cannot be read: these are evenly spread among them."
        return how, [_shown(context, measured, i) for i in _spread(unread, 3)]
    labelled = slow is not None and slow.accuracy is not None
    if not labelled and own == "system2":
        return "Evenly spread.", [_shown(context, measured, i) for i in _spread(chosen, 3)]
    kinds: dict[tuple[bool, bool], list[int]] = {kind: [] for kind in KINDS}
    for i in chosen:
        right = key(rows[i].label or "") if labelled else measured.answers["system2"].keys[i]
        mine, fast = (right is not None and measured.answers[n].keys[i] == right for n in (own, "system1"))
        kinds[mine, fast].append(i)
    name = "the distilled model" if own == "distilled" else "System 2"
    counted = [f"{KINDS[kind].format(own=name)} on {len(places)}" for kind, places in kinds.items()]
    how = f"Of {len(chosen)} test prompts {', '.join(counted)}." + (
        "" if labelled else " Right is what System 2 answers."
    )
    gained = kinds[True, False]
    if report.verdict in ("ship", "route") and len(gained) >= 3 and len(gained) > len(kinds[False, True]):
        return f"{how} These are three of the first kind, evenly spread.", [
            _shown(context, measured, i) for i in _spread(gained, 3)
        ]
    common = sorted((places for places in kinds.values() if places), key=len, reverse=True)[:3]
    return f"{how} These are one of each of the commonest kinds.", [
        _shown(context, measured, _spread(p, 1)[0]) for p in common
    ]


def _spread(places: Sequence[int], number: int) -> list[int]:
    """So many of `places`, evenly spread, from the middle of equal parts."""
    number = min(number, len(places))
    return [places[(2 * i + 1) * len(places) // (2 * number)] for i in range(number)]


def _steps(sample: Sample) -> list[str]:
    return [call.reply.text for call in sample.trace]


def _thoughts(sample: Sample) -> list[str]:
    """What was written on the way to the final output: the last reply too, where the output is only a part of it."""
    steps = _steps(sample)
    return steps[:-1] if steps and steps[-1].strip() == sample.text.strip() else steps


def _text(messages: Sequence[Message]) -> str:
    if len(messages) == 1:
        return messages[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in messages)
