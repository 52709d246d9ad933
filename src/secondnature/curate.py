"""From the store to the training set: votes on every training prompt, kept answers, reasons for the rest."""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from secondnature.answers import composed
from secondnature.consistency import VoteResult, verify
from secondnature.context import RunContext, run_async
from secondnature.files import read_rows, rewriting, to_line
from secondnature.run import Run
from secondnature.sampling import Model, System, draw, in_order
from secondnature.train import TrainingExample
from secondnature.types import Example, Row, Sample, UserError
from secondnature.verify.vote import agreement

REPLY = 500  # characters of a reply in discarded.jsonl


def tokens_saved(tokens: int, samples: int, fixed_n: int) -> int:
    """What the samples that early stopping left undrawn, of `fixed_n`, would have taken: as much each as those drawn."""
    return round(tokens / samples * (fixed_n - samples)) if samples else 0


@dataclass
class Seen:
    """What came of the votes so far."""

    kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])
    samples: int = 0
    fixed_n: int = 0
    tokens: int = 0

    def add(self, voted: VoteResult) -> None:
        samples = voted.all_samples
        self.samples += len(samples)
        self.fixed_n += voted.fixed_n
        self.tokens += sum(sample.completion_tokens for sample in samples)
        if voted.outcome.reason is None:
            self.kept += 1
        else:
            self.reasons[voted.outcome.reason] += 1

    def notes(self) -> list[str]:
        """For a display: what is kept and what is not, and what early stopping saved."""
        discarded = f"{self.kept:,} kept, {self.reasons.total():,} discarded"
        if self.reasons:
            [(reason, number)] = self.reasons.most_common(1)
            discarded += f" ({number:,} {reason})"
        if (undrawn := self.fixed_n - self.samples) == 0:
            return [discarded]
        saved = tokens_saved(self.tokens, self.samples, self.fixed_n)
        return [discarded, f"early stopping saved {undrawn:,} samples, {saved:,} tokens"]


async def draw_votes(context: RunContext, model: Model, system: System, title: str) -> AsyncGenerator[VoteResult, None]:
    """The vote on every training prompt, in order, one after the other: they are never all in memory."""
    examples = (row.example for row in context.resolved.train)
    seen = Seen()

    async def vote_on(example: Example) -> VoteResult:
        voted = await verify(model, system, example, context.resolved.verifier)
        seen.add(voted)
        bar.advance(notes=seen.notes())
        return voted

    with context.stage(title, len(context.resolved.train), model) as bar:
        async with aclosing(in_order(examples, vote_on, model.width)) as votes:
            async for voted in votes:
                yield voted


def votes_of(context: RunContext) -> AsyncGenerator[VoteResult, None]:
    """The training prompts' votes, from the store alone. Raises UserError where sampling is not finished."""
    return draw_votes(context, context.offline(), context.resolved.system2, "read the votes")


async def write_votes(context: RunContext) -> tuple[int, int]:
    """Write `curated.jsonl` and `discarded.jsonl`; returns how many prompts were kept, and discarded."""
    kept = discarded = 0
    with rewriting(context.run.curated) as curated, rewriting(context.run.discarded) as rejected:
        async for voted in votes_of(context):
            if voted.outcome.key is not None:
                curated.write(to_line(curated_row(context, voted)))
                kept += 1
            else:
                rejected.write(to_line(discarded_row(context, voted)))
                discarded += 1
    return kept, discarded


def winner_of(context: RunContext, voted: VoteResult) -> tuple[str, str]:
    """The text and the answer of the first sample that gave the winning answer: which one that is does not depend on when
    drawing stopped. An object that no sample gave as a whole is put together from the fields as they were written."""
    assert voted.outcome.key is not None
    key = context.resolved.kind.normalize
    for sample in voted.samples:
        if sample.answer is not None and key(sample.answer) == voted.outcome.key:
            return sample.text.strip(), sample.answer
    if not context.resolved.kind.by_field:
        return voted.outcome.key, voted.outcome.key
    text = composed(voted.outcome.key, [sample.answer for sample in voted.samples if sample.answer is not None])
    return text, text


def discarded_row(context: RunContext, voted: VoteResult) -> dict[str, Any]:
    """A line of `discarded.jsonl`, with what the samples said, to see at a glance why."""
    prompt = [message.as_dict() for message in voted.example.messages]
    replies = [shortened(said(sample)) for sample in voted.samples]
    return {**_counts(context, voted), "reason": voted.outcome.reason, "prompt": prompt, "replies": replies}


def said(sample: Sample) -> str:
    """A sample's final text; of one without an answer the model's last reply, since a technique may return nothing then."""
    return sample.trace[-1].reply.text if sample.answer is None and sample.trace else sample.text


def shortened(text: str, length: int = REPLY) -> str:
    """The beginning and the end of a text of more than `length` characters: an answer stands at the end."""
    text = text.strip()
    return text if len(text) <= length else f"{text[: length // 2]} ... {text[-length // 2 :]}"


def _counts(context: RunContext, voted: VoteResult) -> dict[str, Any]:
    votes: dict[str, int] = {}
    written: dict[str, str] = {}
    for sample in voted.samples:
        if sample.answer is not None:
            name = written.setdefault(context.resolved.kind.normalize(sample.answer), sample.answer)
            votes[name] = votes.get(name, 0) + 1
    counts: dict[str, Any] = {
        "id": voted.example.id,
        "votes": votes,
        "n": len(voted.samples),
        "agreement": round(
            agreement(context.resolved.verifier.ballots(voted.samples), context.resolved.verifier.rule), 4
        ),
        "stopped_early": voted.stopped_early,
    }
    for failure in ("unparsable", "truncated"):
        if number := sum(s.failure == failure for s in voted.samples):
            counts[failure] = number
    if voted.variants:
        counts["perturbed"] = [variant.outcome.key or variant.outcome.reason for variant in voted.variants]
    return counts


def curated_row(context: RunContext, voted: VoteResult) -> dict[str, Any]:
    """A line of `curated.jsonl`."""
    text, answer = winner_of(context, voted)
    counts = _counts(context, voted)
    return {
        "id": counts.pop("id"),
        "prompt": [message.as_dict() for message in context.resolved.student_prompt(voted.example)],
        "completion": [{"role": "assistant", "content": text}],
        "answer": answer,
        **counts,
    }


async def examples_of(context: RunContext, votes: AsyncIterable[VoteResult]) -> list[TrainingExample]:
    """What the student learns from the kept votes: System 1's prompt, and the final output of the winning sample."""
    return [
        TrainingExample(context.resolved.student_prompt(voted.example), winner_of(context, voted)[0])
        async for voted in votes
        if voted.outcome.key is not None
    ]


def kept_examples(context: RunContext) -> list[TrainingExample]:
    return run_async(examples_of(context, votes_of(context)))


def unfiltered_examples(context: RunContext, model: Model, number: int) -> list[TrainingExample]:
    """System 2 unfiltered: the first sample of each of `number` prompts, spread evenly. Raises MissingCall offline."""
    resolved = context.resolved
    rows = [resolved.train[i * len(resolved.train) // number] for i in range(number)]

    async def first_sample(row: Row) -> TrainingExample:
        sample = await draw(model, resolved.system2, row.example, 0, resolved.kind)
        return TrainingExample(context.resolved.student_prompt(row.example), sample.text.strip())

    async def drawn() -> list[TrainingExample]:
        return [pair async for pair in in_order(rows, first_sample, model.width) if pair.completion]

    return run_async(drawn())


def system1_examples(context: RunContext, model: Model, number: int) -> list[TrainingExample]:
    """What System 1 agrees with itself about, `number` prompts at most. Raises MissingCall offline."""
    return run_async(examples_of(context, draw_votes(context, model, context.resolved.system1, "sample System 1")))[
        :number
    ]


def kept_rows(run: Run) -> Iterator[dict[str, Any]]:
    """The rows of curated.jsonl, read as they are asked for. Raises UserError for one that is damaged."""
    return _rows(run, run.curated, KEPT)


def discarded_rows(run: Run) -> Iterator[dict[str, Any]]:
    """The same of discarded.jsonl."""
    return _rows(run, run.discarded, DISCARDED)


def _rows(run: Run, path: Path, form: Mapping[str, Callable[[Any], bool]]) -> Iterator[dict[str, Any]]:
    mend = f"`secondnature verify {run.folder}` writes it anew"
    for number, row in enumerate(read_rows(path, mend), 1):
        for name, fits in form.items():
            if name not in row or not fits(row[name]):
                raise UserError(f"{path}, line {number}: {name!r} is not what was written there: {mend}")
        yield row


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_turns(value: Any) -> bool:
    turns = cast("list[Any]", value) if isinstance(value, list) else []
    return bool(turns) and all(map(_is_turn, turns))


def _is_turn(value: Any) -> bool:
    turn = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    return set(turn) == {"role", "content"} and all(map(_is_text, turn.values()))


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 2**31


def _are_votes(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_count, cast("dict[str, Any]", value).values()))


# What a row holds at least.
DISCARDED = {"id": _is_text, "reason": _is_text, "n": _is_count, "agreement": _is_share, "votes": _are_votes}
KEPT = {
    "id": _is_text,
    "prompt": _are_turns,
    "completion": _are_turns,
    "answer": _is_text,
    "n": _is_count,
    "agreement": _is_share,
}
