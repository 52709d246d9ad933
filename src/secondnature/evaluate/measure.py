"""Every system's answers to the test prompts, drawn into the store or read back from it."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from secondnature.adapters import Adapter
from secondnature.evaluate.score import Answers, members
from secondnature.sampling import MissingCall, Model, System, draw, in_order
from secondnature.types import Row, Sample
from secondnature.work import Work

MOST_VOTES = 32
DESCRIPTIONS = {
    "system1": "the prompt as it is",
    "system2": "the technique",
    "distilled": "the prompt as it is, with the adapter",
    "control_unfiltered": "System 2 distilled without the filter",
    "control_system1_self": "System 1 distilled from its own filtered answers",
}


@dataclass
class Measured:
    """What was measured: for each system its answers, and for the greedy ones the samples that they were read from.

    `again` is an independent draw of System 2, whose agreement with System 2 is the ceiling.
    """

    rows: Sequence[Row]
    answers: dict[str, Answers] = field(default_factory=dict[str, Answers])
    samples: dict[str, list[Sample]] = field(default_factory=dict[str, list[Sample]])
    again: list[str | None] | None = None


async def measure(work: Work, model: Model, adapters: Mapping[str, Adapter]) -> Measured:
    """Greedy answers of all systems to all test rows; System 1 voted; System 2 once more; latencies one at a time.

    With a model that has no engine, systems that are not wholly in the store are left out.
    """
    setup, options = work.setup, work.run.recipe.evaluate
    rows = setup.held_out
    measured = Measured(rows)
    systems = {"system1": setup.system1, "system2": setup.system2}
    systems |= {f"baseline_{name}": system for name, system in setup.baselines.items()}
    systems |= {name: replace(setup.system1, adapter=adapter.name) for name, adapter in adapters.items()}
    headline = members(rows, options.headline)
    timed = [rows[i] for i in headline[: options.latency_prompts]]
    for name, system in systems.items():
        greedy = system.greedy()
        try:
            samples = await _answer(work, model, greedy, rows, 0, f"evaluate {name}")
            latencies = [
                (await draw(model, replace(greedy, purpose="latency"), r.example, 0, setup.kind.read)).seconds
                for r in timed
            ]
        except MissingCall:
            continue
        measured.samples[name] = samples
        measured.answers[name] = Answers.of(
            samples, setup.kind.key, latencies, DESCRIPTIONS.get(name, "System 1, another way")
        )
    if {"system1", "system2"} <= measured.samples.keys():
        try:
            again = await _answer(work, model, setup.system2, rows, 0, "evaluate System 2 again")
            measured.again = [None if s.answer is None else setup.kind.key(s.answer) for s in again]
            if options.voted:
                votes = _affordable_votes(measured.samples, headline)
                measured.answers["system1_voted"] = await _voted(work, model, rows, votes)
        except MissingCall:
            pass
    return measured


async def _answer(
    work: Work, model: Model, system: System, rows: Sequence[Row], index: int, title: str
) -> list[Sample]:
    async def answer(row: Row) -> Sample:
        sample = await draw(model, system, row.example, index, work.setup.kind.read)
        bar.advance()
        return sample

    with work.stage(title, len(rows), model) as bar:
        return [sample async for sample in in_order(rows, answer, model.width)]


def _affordable_votes(samples: Mapping[str, Sequence[Sample]], chosen: Sequence[int]) -> int:
    """How many samples of System 1 cost as many tokens as one answer of System 2, prompts counted too."""
    cost = {
        name: sum(samples[name][i].prompt_tokens + samples[name][i].completion_tokens for i in chosen)
        for name in ("system1", "system2")
    }
    return max(1, min(MOST_VOTES, round(cost["system2"] / max(1, cost["system1"]))))


async def _voted(work: Work, model: Model, rows: Sequence[Row], votes: int) -> Answers:
    """The commonest answer of `votes` samples of System 1; of equally common ones, the first drawn."""
    setup = work.setup

    async def samples_of(row: Row) -> list[Sample]:
        drawn = (draw(model, setup.system1, row.example, i, setup.kind.read) for i in range(votes))
        samples = await asyncio.gather(*drawn)
        bar.advance()
        return samples

    keys: list[str | None] = []
    costs: list[tuple[int, int]] = []
    with work.stage(f"evaluate System 1, {votes} votes", len(rows), model) as bar:
        async for samples in in_order(rows, samples_of, model.width):
            ballot = Counter(setup.kind.key(s.answer) for s in samples if s.answer is not None)
            keys.append(ballot.most_common(1)[0][0] if ballot else None)
            costs.append((sum(s.completion_tokens for s in samples), sum(s.prompt_tokens for s in samples)))
    description = "the commonest of as many System 1 samples as System 2's tokens pay for, prompts counted"
    return Answers(keys, [c for c, _ in costs], [p for _, p in costs], [], votes=votes, description=description)
