"""What a recipe would cost, before it is paid: counted, and where a look was made, measured."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from secondnature.context import run_async
from secondnature.engines.fake import FakeEngine
from secondnature.recipe import Recipe
from secondnature.resolve import Resolved
from secondnature.sampling import Model, draw
from secondnature.store import Store
from secondnature.trust import missing
from secondnature.types import Example, Sample
from secondnature.user_code import UserFunction

COUNTED = 32  # prompts whose calls are counted with a stand-in
EARLY_STOPPING = 0.75  # the share of N samples usually drawn at N = 8 and agreement 0.75
TOKENS_PER_WORD = 1.4
# What the stand-in says: five points, for techniques that branch, and scores, for those that judge.
STAND_IN = "\n".join([*(f"{i}. point {i}" for i in range(1, 6)), "A: 3, B: 3"])
ANSWER_TOKENS = 8  # of a System 1 answer that was not measured
# An H100's dense bf16 rate, and the shares of it that reading prompts, drawing tokens in large batches and training reach.
GPU_FLOPS, READING, DRAWING, TRAINING = 989e12, 0.4, 0.1, 0.3
LEAST_HOURS = 0.01  # of a GPU, that are worth a line


@dataclass(frozen=True, slots=True)
class Cost:
    """What one sample of System 2 takes: calls, tokens generated, prompt tokens; `rate` in tokens/s where measured."""

    calls: float
    generated: float
    read: float
    rate: float | None
    source: str


def plan(recipe: Recipe, resolved: Resolved, cost: Cost) -> Iterator[tuple[str, str]]:
    """What a run takes, as (name, figures): prompts, samples, calls, tokens, and time or GPU-hours and money where known."""
    prompts, n, tested = len(resolved.train), recipe.sampling.n, len(resolved.held_out)
    changes = len(recipe.verify.perturb)
    most = prompts * n * (1 + changes)
    exact = recipe.sampling.full_n or recipe.verify.universal or n == 1
    expected = most if exact else round(most * EARLY_STOPPING)
    saved = "" if most == expected else "; early stopping saves the difference"
    each = f"{n} a prompt" + (f" and {n} of each changed prompt" if changes else "")
    answers = tested * (4 + recipe.evaluate.voted + len(resolved.baselines)) + 2 * len(resolved.general)
    drawn, read = expected * cost.generated, expected * cost.read
    yield "prompts", f"{prompts} to train on, {tested} to test"
    yield "samples", f"about {expected:,}, at most {most:,} ({each}{saved})"
    yield "calls", f"about {expected * cost.calls:,.0f} ({cost.calls:.1f} a sample)"
    yield "tokens", f"about {drawn:,.0f} generated, {read:,.0f} of prompts"
    if (prices := recipe.engine.prices) is not None:
        yield "money", f"about {(read * prices[0] + drawn * prices[1]) / 1e6:,.2f} for sampling, at the recipe's prices"
    if cost.rate is not None:
        yield (
            "sampling time",
            f"at most about {drawn / cost.rate / 60:.0f} min, at the {cost.rate:,.0f} tokens/s of so few prompts",
        )
    yield "training", f"at most {prompts} examples, {recipe.train.num_train_epochs:g} epochs; its time is not estimated"
    yield "evaluation", f"about {answers:,} answers"
    if cost.rate is None and (parameters := parameters_in(recipe.model)) is not None:
        tested_drawn, tested_read = 2 * tested * cost.generated, 2 * tested * cost.read
        length = cost.read / max(1.0, cost.calls) + ANSWER_TOKENS
        flops = {
            "sampling": 2 * (drawn / DRAWING + read / READING),
            # the adapter's gradients alone: no weight's own
            "training": 4 * prompts * recipe.train.num_train_epochs * length / TRAINING,
            "evaluation": 2 * (tested_drawn / DRAWING + tested_read / READING),
        }
        hours = {name: parameters * context / GPU_FLOPS / 3600 for name, context in flops.items()}
        if sum(hours.values()) >= LEAST_HOURS:
            listed = ", ".join(f"{name} {value:.2g}" for name, value in hours.items())
            yield (
                "GPU-hours",
                f"about {sum(hours.values()):.2g} of an H100 ({listed}), for {parameters / 1e9:g}B parameters; assumed: "
                f"{GPU_FLOPS / 1e12:.0f} TFLOP/s in bf16, of which {READING:.0%} reading, {DRAWING:.0%} drawing, "
                f"{TRAINING:.0%} training",
            )
    yield "from", cost.source


def parameters_in(model: str) -> float | None:
    """The number of parameters that a model's name gives, as in Llama-3.1-8B-Instruct."""
    found = re.findall(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([bBmM])(?![A-Za-z0-9])", model)
    return float(found[-1][0]) * {"b": 1e9, "m": 1e6}[found[-1][1].lower()] if found else None


def _words_read(resolved: Resolved) -> float:
    """Prompt tokens of one call that asks the prompt alone."""
    rows = resolved.train[:COUNTED]
    words = sum(len(message.content.split()) for row in rows for message in row.example.messages)
    return words / max(1, len(rows)) * TOKENS_PER_WORD


def counted_cost(recipe: Recipe, resolved: Resolved) -> Cost:
    """The calls of a sample, counted with a stand-in for the model; its tokens are assumed.

    A technique of one's own is run for it, unless the user's yes to that is missing: then one call is assumed.
    """
    if isinstance(resolved.system2.technique, UserFunction):
        if missing(recipe):
            source = (
                f"one call a sample and half of max_tokens assumed: {recipe.technique.name} is not run without --trust"
            )
            return Cost(1, recipe.sampling.max_tokens / 2, _words_read(resolved), None, source)
        resolved.system2.technique.load()
    rows = resolved.train[:: max(1, len(resolved.train) // COUNTED)][:COUNTED]

    def read_any(_: Example, text: str) -> str:
        return text

    kind = replace(resolved.kind, read=read_any, ending=str)  # all can be read, so nothing is asked for twice
    engine = FakeEngine(recipe.model, STAND_IN)
    model = Model(Store(Path(":memory:")), engine.identity, engine)

    async def drawn() -> list[Sample]:
        return await asyncio.gather(*(draw(model, resolved.system2, row.example, 0, kind) for row in rows))

    samples = run_async(drawn())
    calls = sum(len(s.trace) for s in samples) / len(samples)
    read = sum(s.prompt_tokens for s in samples) / len(samples) * TOKENS_PER_WORD
    source = "calls counted with a stand-in for the model, half of max_tokens assumed for each; `secondnature look` measures them"
    return Cost(calls, calls * recipe.sampling.max_tokens / 2, read, None, source)
