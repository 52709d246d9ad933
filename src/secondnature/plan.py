"""What a recipe would cost, before it is paid: counted, and measured where a look was taken."""

import asyncio
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

COUNTED = 32  # prompts whose calls are counted with a stand-in for the model
EARLY_STOPPING = 0.75  # the share of N samples usually drawn at N = 8 and agreement 0.75
TOKENS_PER_WORD = 1.4
# The stand-in's reply: five points, for techniques that branch, and scores, for those that judge.
STAND_IN = "\n".join([*(f"{i}. point {i}" for i in range(1, 6)), "A: 3, B: 3"])


@dataclass(frozen=True, slots=True)
class Cost:
    """What one System 2 sample takes: calls, generated tokens, prompt tokens; `rate` in tokens/s where measured."""

    calls: float
    generated: float
    read: float
    rate: float | None
    source: str


def plan(recipe: Recipe, resolved: Resolved, cost: Cost) -> Iterator[tuple[str, str]]:
    """What a run takes, as (name, figures): prompts, samples, calls, tokens; time and money where their rates are known."""
    prompts, n, tested = len(resolved.train), recipe.sampling.n, len(resolved.held_out)
    changes = len(recipe.verify.perturb)
    most = prompts * n * (1 + changes)
    exact = recipe.sampling.full_n or recipe.verify.universal or n == 1
    expected = most if exact else round(most * EARLY_STOPPING)
    saved = "" if most == expected else "; early stopping saves the difference"
    each = f"{n} a prompt" + (f" and {n} of each changed prompt" if changes else "")
    answers = tested * (4 + recipe.evaluate.voted + len(resolved.baselines)) + 2 * len(resolved.general)
    generated, read = expected * cost.generated, expected * cost.read
    yield "prompts", f"{prompts} to train on, {tested} to test"
    yield "samples", f"about {expected:,}, at most {most:,} ({each}{saved})"
    yield "calls", f"about {expected * cost.calls:,.0f} ({cost.calls:.1f} a sample)"
    yield "tokens", f"about {generated:,.0f} generated, {read:,.0f} of prompts"
    if (prices := recipe.engine.prices) is not None:
        money = (read * prices[0] + generated * prices[1]) / 1e6
        yield "money", f"about {money:,.2f} for sampling, at the recipe's prices"
    if cost.rate is not None:
        minutes = generated / cost.rate / 60
        yield "sampling time", f"at most about {minutes:.0f} min, at the {cost.rate:,.0f} tokens/s of so few prompts"
    yield "training", f"at most {prompts} examples, {recipe.train.num_train_epochs:g} epochs; its time is not estimated"
    yield "evaluation", f"about {answers:,} answers"
    yield "from", cost.source


def counted_cost(recipe: Recipe, resolved: Resolved) -> Cost:
    """The calls of a sample, counted with a stand-in for the model; its tokens are assumed.

    A user's own technique is run for it, unless it is not trusted yet: then one call is assumed.
    """
    assumed = recipe.sampling.max_tokens / 2
    if isinstance(resolved.system2.technique, UserFunction):
        if missing(recipe):
            rows = resolved.train[:COUNTED]
            words = sum(len(message.content.split()) for row in rows for message in row.example.messages)
            name = recipe.technique.name
            source = f"one call a sample and half of max_tokens assumed: {name} is not run without --trust"
            return Cost(1, assumed, words / max(1, len(rows)) * TOKENS_PER_WORD, None, source)
        resolved.system2.technique.load()
    rows = resolved.train[:: max(1, len(resolved.train) // COUNTED)][:COUNTED]

    def extract_all(_: Example, text: str) -> str:
        return text

    kind = replace(resolved.kind, extract=extract_all, ending=str)  # nothing is unparsable and asked for twice
    engine = FakeEngine(recipe.model, STAND_IN)
    model = Model(Store(Path(":memory:")), engine.identity, engine)

    async def drawn() -> list[Sample]:
        return await asyncio.gather(*(draw(model, resolved.system2, row.example, 0, kind) for row in rows))

    samples = run_async(drawn())
    calls = sum(len(s.trace) for s in samples) / len(samples)
    read = sum(s.prompt_tokens for s in samples) / len(samples) * TOKENS_PER_WORD
    source = "calls counted with a stand-in for the model, half of max_tokens assumed for each; `secondnature look` measures them"
    return Cost(calls, calls * assumed, read, None, source)
