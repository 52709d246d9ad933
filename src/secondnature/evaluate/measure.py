"""Every system's answers to the test prompts, drawn into the store or read back from it."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from secondnature.adapters import Adapter
from secondnature.context import RunContext
from secondnature.evaluate.answers import answers
from secondnature.evaluate.score import Answers, members
from secondnature.evaluate.stability import Changes, measure_changes
from secondnature.recipe import System1
from secondnature.sampling import MissingCall, Model, System, draw, in_order
from secondnature.systems import MATCHED_VOTE, SystemId
from secondnature.types import Row, Sample

MOST_VOTES = 32
LEAST_TIMED = 3  # prompts of each system, however long they take
MAIN = ("system1", "system2", "distilled")


@dataclass
class Measured:
    """What was measured: for each system its answers, and for the greedy ones the samples that they were read from.

    `again` is an independent draw of System 2, whose agreement with System 2 is the ceiling. `changes` says by perturbation
    and system how answers change.
    """

    rows: Sequence[Row]
    answers: dict[str, Answers] = field(default_factory=dict[str, Answers])
    samples: dict[str, list[Sample]] = field(default_factory=dict[str, list[Sample]])
    again: list[str | None] | None = None
    changes: dict[str, dict[str, Changes]] = field(default_factory=dict[str, dict[str, Changes]])

    def reference(self, name: str) -> Sequence[str | None] | None:
        """What the system's agreement with System 2 is measured against: System 2's greedy answers; its own are compared with
        those of its second draw."""
        if "system2" not in self.answers:
            return None
        return self.again if name == "system2" else self.answers["system2"].keys


def _how_asked(system1: System1) -> str:
    """What the recipe adds to the prompt where a fast answer is asked for."""
    parts = [f"the instruction {system1.instruction!r}"] if system1.instruction else []
    if number := len(system1.demonstrations):
        parts.append(f"{number} worked example{'s' if number > 1 else ''}")
    return f", after {' and '.join(parts)}" if parts else " as it is"


async def measure(context: RunContext, model: Model, adapters: Mapping[str, Adapter]) -> Measured:
    """Latencies one at a time; greedy answers of all systems to all test rows; what was asked for in votes and changed
    prompts; System 2 once more.

    With a model that has no engine, what is not wholly in the store is left out.
    """
    resolved, options = context.resolved, context.run.recipe.evaluate
    rows = resolved.held_out
    measured = Measured(rows)
    systems = {"system1": resolved.system1, "system2": resolved.system2}
    systems |= {f"baseline_{name}": system for name, system in resolved.baselines.items()}
    systems |= {name: replace(resolved.system1, adapter=adapter.name) for name, adapter in adapters.items()}
    headline = members(rows, options.headline)
    timed = [rows[i] for i in headline[: options.latency_prompts]]
    latencies = await _latencies(context, model, systems, timed, options.latency_seconds)
    for name, system in systems.items():
        with contextlib.suppress(MissingCall):
            samples = await _answer(context, model, system.greedy(), rows, name, SystemId.parse(name).noun)
            asked = _how_asked(context.run.recipe.system1)
            description = SystemId.parse(name).description.replace("{asked}", asked)
            measured.samples[name] = samples
            measured.answers[name] = Answers.of(samples, resolved.kind.normalize, latencies.get(name, []), description)
    main = {name: systems[name] for name in MAIN if name in measured.answers}
    if {"system1", "system2"} <= main.keys():
        with contextlib.suppress(MissingCall):
            title = "System 2 a second time, to compare it with itself"
            again = await _answer(context, model, resolved.system2, rows, "System 2 again", title)
            measured.again = [None if s.answer is None else resolved.kind.normalize(s.answer) for s in again]
        if options.voted:
            votes = _affordable_votes(measured.samples, headline)
            with contextlib.suppress(MissingCall):
                description = MATCHED_VOTE.description
                title = f"System 1, {_samples(votes)} for the tokens of System 2"
                voted = await _voted(context, model, resolved.system1, rows, votes, title)
                measured.answers["system1_voted"] = replace(voted, description=description)
    for name, system in main.items():
        decoding = replace(system.decoding, temperature=options.temperature or system.decoding.temperature)
        for k in options.votes:
            with contextlib.suppress(MissingCall):
                title = f"{SystemId.parse(name).noun}, {_samples(k)} a prompt"
                voted = await _voted(context, model, replace(system, decoding=decoding), rows, k, title)
                measured.answers[f"{name}_voted_{k}"] = voted
        for change, perturb in resolved.stability.items():
            with contextlib.suppress(MissingCall):
                changes = await measure_changes(
                    context, model, system.greedy(), measured.samples[name], change, perturb
                )
                measured.changes.setdefault(change, {})[name] = changes
    return measured


def _samples(number: int) -> str:
    return "one sample" if number == 1 else f"{number} samples"


async def _latencies(
    context: RunContext, model: Model, systems: Mapping[str, System], rows: Sequence[Row], budget: float
) -> dict[str, list[float]]:
    """Each system's seconds an answer, one prompt at a time, before any test prompt was read and with no cache of prompts.

    A system that took `budget` seconds is not timed further, once LEAST_TIMED prompts were: the times are in the store, so
    that the same ones count in every report. A system whose times are not all there is left out where there is no engine.
    """
    found: dict[str, list[float]] = {}
    with context.stage("evaluate, one prompt at a time", len(systems) * len(rows), model) as bar:
        for name, system in systems.items():
            with contextlib.suppress(MissingCall):
                seconds: list[float] = []
                for row in rows:
                    if len(seconds) >= LEAST_TIMED and sum(seconds) >= budget:
                        bar.advance(len(rows) - len(seconds))
                        break
                    cold = replace(system.greedy(), cold=True)
                    seconds.append((await draw(model, cold, row.example, 0, context.resolved.kind)).seconds)
                    bar.advance()
                found[name] = seconds
    return found


async def _answer(
    context: RunContext, model: Model, system: System, rows: Sequence[Row], name: str, title: str
) -> list[Sample]:
    before, started = model.drawn.calls, time.monotonic()
    examples = [row.example for row in rows]
    samples = await answers(context, model, system, examples, context.resolved.kind, f"evaluate {title}")
    if (drawn := model.drawn.calls - before) > 0:
        whole = drawn == len({call.key for sample in samples for call in sample.trace})
        _note_speed(context, name, samples, time.monotonic() - started if whole else None)
    return samples


def _note_speed(context: RunContext, name: str, samples: Sequence[Sample], seconds: float | None) -> None:
    """Keep how fast a system answers with as many prompts at once as the engine takes; unknown where the store had some."""
    speeds = dict(context.run.state.get("throughput", {}))
    speeds.pop(name, None)
    if seconds:
        tokens = sum(sample.completion_tokens for sample in samples)
        speeds[name] = {
            "answers_per_second": round(len(samples) / seconds, 3),
            "tokens_per_second": round(tokens / seconds, 1),
        }
    context.run.note(throughput=speeds)


def _affordable_votes(samples: Mapping[str, Sequence[Sample]], chosen: Sequence[int]) -> int:
    """How many samples of System 1 cost as many tokens as one answer of System 2, prompts counted too."""
    cost = {
        name: sum(samples[name][i].prompt_tokens + samples[name][i].completion_tokens for i in chosen)
        for name in ("system1", "system2")
    }
    return max(1, min(MOST_VOTES, round(cost["system2"] / max(1, cost["system1"]))))


async def _voted(
    context: RunContext, model: Model, system: System, rows: Sequence[Row], votes: int, title: str
) -> Answers:
    """The majority vote over `votes` samples; of equally frequent answers, the first one sampled."""
    kind = context.resolved.kind

    async def samples_of(row: Row) -> list[Sample]:
        samples = await asyncio.gather(*(draw(model, system, row.example, i, kind) for i in range(votes)))
        bar.advance()
        return samples

    keys: list[str | None] = []
    costs: list[tuple[int, int]] = []
    with context.stage(f"evaluate {title}", len(rows), model) as bar:
        async for samples in in_order(rows, samples_of, model.width):
            ballot = Counter(kind.normalize(s.answer) for s in samples if s.answer is not None)
            keys.append(ballot.most_common(1)[0][0] if ballot else None)
            costs.append((sum(s.completion_tokens for s in samples), sum(s.prompt_tokens for s in samples)))
    description = "one sample" if votes == 1 else f"majority vote over {_samples(votes)}"
    return Answers(keys, [c for c, _ in costs], [p for _, p in costs], [], votes=votes, description=description)
