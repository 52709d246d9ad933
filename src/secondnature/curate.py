"""From the store to the training set: votes on every training prompt, kept answers, reasons for the rest."""

import sqlite3
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from typing import Any

from secondnature.answers import composed
from secondnature.context import RunContext, run_async
from secondnature.curated import Curation, examples_digest, settings_digest, stored, training_examples, write_curation
from secondnature.curated import unedited as is_unedited
from secondnature.files import file_digest, rewriting, to_line
from secondnature.sampling import Model, System, draw, in_order
from secondnature.train import TrainingExample
from secondnature.types import Call, Example, Row, Sample
from secondnature.verifier import VoteResult, verify
from secondnature.vote import agreement

REPLY = 500  # characters of a reply in discarded.jsonl


def tokens_saved(tokens: int, samples: int, fixed_n: int) -> int:
    """An estimate of what the samples that early stopping saved, of `fixed_n`, would have taken: as much each as the others."""
    return round(tokens / samples * (fixed_n - samples)) if samples else 0


@dataclass
class Totals:
    """The totals of the votes so far."""

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
        if (saved := self.fixed_n - self.samples) == 0:
            return [discarded]
        tokens = tokens_saved(self.tokens, self.samples, self.fixed_n)
        return [discarded, f"early stopping saved {saved:,} samples, {tokens:,} tokens"]


async def vote_on(context: RunContext, model: Model, system: System, title: str) -> AsyncGenerator[VoteResult, None]:
    """The vote on every training prompt, in order, one after the other: they are never all in memory."""
    examples = (row.example for row in context.resolved.train)
    totals = Totals()

    async def one(example: Example) -> VoteResult:
        voted = await verify(model, system, example, context.resolved.verifier)
        totals.add(voted)
        bar.advance(notes=totals.notes())
        return voted

    with context.stage(title, len(context.resolved.train), model) as bar:
        async with aclosing(in_order(examples, one, model.width)) as votes:
            async for voted in votes:
                yield voted


def replayed(context: RunContext, rows: Iterable[int]) -> list[VoteResult]:
    """The votes on some training prompts, in full, from the store. Raises MissingCall where a call is not there."""
    model, resolved = context.offline(), context.resolved

    async def votes() -> list[VoteResult]:
        return [await verify(model, resolved.system2, resolved.train[i].example, resolved.verifier) for i in rows]

    return run_async(votes())


def write_curation_files(context: RunContext) -> Curation:
    """Write `curated.jsonl`, `discarded.jsonl` and `curation.json`: the one place where all votes are replayed.

    A `curated.jsonl` that was edited is kept as `curated.edited.jsonl`. Raises MissingCall where sampling is not finished.
    """
    run, before = context.run, stored(context.run)
    if before is not None and run.curated.exists() and (before.edited or not is_unedited(run, before)):
        aside = run.curated.with_name("curated.edited.jsonl")
        aside.write_bytes(run.curated.read_bytes())
        context.display.say(f"verify: {run.curated} was edited: that is now {aside}")
    totals, calls = Totals(), 0

    async def write_all(paid: _DistinctCalls) -> None:
        nonlocal calls
        with rewriting(run.curated) as curated, rewriting(run.discarded) as discarded:
            votes = vote_on(context, context.offline(), context.resolved.system2, "read the votes")
            row = 0
            async for voted in votes:
                if voted.outcome.key is not None:
                    curated.write(to_line(curated_row(context, row, voted)))
                else:
                    discarded.write(to_line(discarded_row(context, row, voted)))
                totals.add(voted)
                paid.add(voted.calls)
                calls += len(voted.calls)
                row += 1
            run.curation.unlink(missing_ok=True)  # a kill from here on leaves files that nothing vouches for

    with closing(_DistinctCalls()) as paid:
        run_async(write_all(paid))
        distinct, prompt_tokens, completion_tokens = paid.totals()
    curation = Curation(
        settings=settings_digest(context),
        examples=examples_digest(training_examples(run)),
        curated_sha256=file_digest(run.curated),
        discarded_sha256=file_digest(run.discarded),
        prompts=totals.kept + totals.reasons.total(),
        kept=totals.kept,
        discarded=dict(totals.reasons.most_common()),
        samples=totals.samples,
        samples_fixed_n=totals.fixed_n,
        tokens=totals.tokens,
        calls=calls,
        calls_distinct=distinct,
        tokens_prompt=prompt_tokens,
        tokens_completion=completion_tokens,
    )
    write_curation(run, curation)
    return curation


class _DistinctCalls:
    """Counts each call once: in a temporary database, which goes to the disk where it grows large."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("PRAGMA cache_size=-32000")
        self._db.execute("CREATE TABLE calls (key INTEGER PRIMARY KEY, prompt INTEGER, completion INTEGER)")
        self._db.execute("BEGIN")

    def add(self, calls: Iterable[Call]) -> None:
        # 64 bits of a key, as SQLite's signed integers
        rows = [(int(c.key[:16], 16) - 2**63, c.reply.prompt_tokens, c.reply.completion_tokens) for c in calls]
        self._db.executemany("INSERT OR IGNORE INTO calls VALUES (?, ?, ?)", rows)

    def totals(self) -> tuple[int, int, int]:
        """(calls, their prompt tokens, their completion tokens)."""
        [row] = self._db.execute("SELECT COUNT(*), COALESCE(SUM(prompt), 0), COALESCE(SUM(completion), 0) FROM calls")
        return row

    def close(self) -> None:
        self._db.close()


# --- the rows


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


def curated_row(context: RunContext, row: int, voted: VoteResult) -> dict[str, Any]:
    """A line of `curated.jsonl`."""
    text, answer = winner_of(context, voted)
    return {
        "id": voted.example.id,
        "prompt": [message.as_dict() for message in context.resolved.student_prompt(voted.example)],
        "completion": [{"role": "assistant", "content": text}],
        "answer": answer,
        **_counts(context, row, voted),
    }


def discarded_row(context: RunContext, row: int, voted: VoteResult) -> dict[str, Any]:
    """A line of `discarded.jsonl`, with what the samples said, to see at a glance why."""
    return {
        "id": voted.example.id,
        "reason": voted.outcome.reason,
        "prompt": [message.as_dict() for message in voted.example.messages],
        "replies": [shortened(final_text(sample)) for sample in voted.samples],
        **_counts(context, row, voted),
    }


def final_text(sample: Sample) -> str:
    """A sample's final text; of one without an answer the model's last reply, since a technique may return nothing then."""
    return sample.trace[-1].reply.text if sample.answer is None and sample.trace else sample.text


def shortened(text: str, length: int = REPLY) -> str:
    """The beginning and the end of a text of more than `length` characters: an answer stands at the end."""
    text = text.strip()
    return text if len(text) <= length else f"{text[: length // 2]} ... {text[-length // 2 :]}"


def _counts(context: RunContext, row: int, voted: VoteResult) -> dict[str, Any]:
    verifier, normalize = context.resolved.verifier, context.resolved.kind.normalize
    votes: dict[str, int] = {}
    written: dict[str, str] = {}  # each answer as the first sample wrote it
    for sample in voted.samples:
        if sample.answer is not None:
            name = written.setdefault(normalize(sample.answer), sample.answer)
            votes[name] = votes.get(name, 0) + 1
    counts: dict[str, Any] = {
        "row": row,
        "votes": votes,
        "n": len(voted.samples),
        "agreement": round(agreement(verifier.ballots(voted.samples), verifier.rule), 4),
        "stopped_early": voted.stopped_early,
    }
    for failure in ("unparsable", "truncated"):
        if number := sum(s.failure == failure for s in voted.samples):
            counts[failure] = number
    if voted.variants:
        counts["perturbed"] = [variant.outcome.key or variant.outcome.reason for variant in voted.variants]
    return counts


# --- the training sets of the controls


def unfiltered_examples(context: RunContext, number: int) -> list[TrainingExample]:
    """System 2 unfiltered: the first sample of each of `number` prompts, spread evenly."""
    model, resolved = context.online(), context.resolved
    rows = [resolved.train[i * len(resolved.train) // number] for i in range(number)]

    async def first_sample(row: Row) -> TrainingExample:
        sample = await draw(model, resolved.system2, row.example, 0, resolved.kind)
        return TrainingExample(resolved.student_prompt(row.example), sample.text.strip())

    async def samples() -> list[TrainingExample]:
        return [example async for example in in_order(rows, first_sample, model.width) if example.completion]

    return run_async(samples())


def system1_examples(context: RunContext, number: int) -> list[TrainingExample]:
    """What System 1 agrees with itself about, `number` prompts at most."""
    votes = vote_on(context, context.online(), context.resolved.system1, "sample System 1")
    return run_async(_kept(context, votes))[:number]


async def _kept(context: RunContext, votes: AsyncIterable[VoteResult]) -> list[TrainingExample]:
    """System 1's prompt, and the final output of the winning sample, of each kept prompt."""
    return [
        TrainingExample(context.resolved.student_prompt(voted.example), winner_of(context, voted)[0])
        async for voted in votes
        if voted.outcome.key is not None
    ]
