"""What a recipe would cost, before it is paid: a few prompts are tried, nothing is stored."""

import asyncio
import re
import time
from dataclasses import dataclass
from pathlib import Path

from secondnature.engines import open_engine
from secondnature.engines.base import Engine
from secondnature.engines.endpoint import is_endpoint
from secondnature.engines.fake import FakeEngine
from secondnature.progress import Display
from secondnature.recipe import Recipe
from secondnature.sampling import Model, draw
from secondnature.setup import Setup, check_lengths, prepare
from secondnature.store import Store
from secondnature.types import Sample
from secondnature.work import run_async

TRIED = 32
EARLY_STOPPING = 0.75  # the share of N samples usually drawn at N = 8 and agreement 0.75
TOKENS_PER_WORD = 1.4
STAND_IN = "\n".join(
    f"{i}. point {i}" for i in range(1, 6)
)  # what a stand-in says: five points, for techniques that branch
ANSWER_TOKENS = 8  # of a System 1 answer that was not measured
# An H100's dense bf16 rate, and the shares of it that reading prompts, drawing tokens in large batches and training reach.
GPU_FLOPS, READING, DRAWING, TRAINING = 989e12, 0.4, 0.1, 0.3


@dataclass(frozen=True, slots=True)
class Cost:
    """What one sample of System 2 takes: calls, tokens generated, prompt tokens; `rate` in tokens/s where measured."""

    calls: float
    generated: float
    read: float
    rate: float | None
    said: str


def print_plan(recipe: Recipe) -> None:
    """Print prompts, calls, tokens and time to expect, from one sample of up to TRIED training prompts.

    Where the model's weights are not on this machine nothing is fetched: the technique's calls are counted with a stand-in,
    and tokens are assumed.
    """
    display = Display()
    setup = prepare(recipe, display.say)
    cost = _measured(recipe, setup) if _is_here(recipe.model) else _assumed(recipe, setup)
    prompts, n, tested = len(setup.train), recipe.sampling.n, len(setup.held_out)
    changes = len(recipe.verify.perturb)
    most = prompts * n * (1 + changes)
    exact = recipe.sampling.full_n or recipe.verify.universal or n == 1
    expected = most if exact else round(most * EARLY_STOPPING)
    saved = "" if most == expected else "; early stopping saves the difference"
    each = f"{n} a prompt" + (f" and {n} of each changed prompt" if changes else "")
    answers = tested * (4 + recipe.evaluate.voted + len(setup.baselines)) + 2 * len(setup.general)
    drawn, read = expected * cost.generated, expected * cost.read
    print(f"prompts          {prompts} to train on, {tested} to test")
    print(f"samples          about {expected:,}, at most {most:,} ({each}{saved})")
    print(f"calls            about {expected * cost.calls:,.0f} ({cost.calls:.1f} a sample)")
    print(f"tokens           about {drawn:,.0f} generated, {read:,.0f} of prompts")
    if cost.rate is not None:
        print(f"sampling time    about {drawn / cost.rate / 60:.1f} min at {cost.rate:,.0f} tokens/s")
    print(
        f"training         at most {prompts} examples, {recipe.train.num_train_epochs:g} epochs; its time is not estimated"
    )
    print(f"evaluation       about {answers:,} answers")
    if cost.rate is None and (parameters := parameters_in(recipe.model)) is not None:
        tested_drawn, tested_read = 2 * tested * cost.generated, 2 * tested * cost.read
        epochs = recipe.train.num_train_epochs
        length = cost.read / max(1.0, cost.calls) + ANSWER_TOKENS
        flops = {
            "sampling": 2 * (drawn / DRAWING + read / READING),
            "training": 4 * prompts * epochs * length / TRAINING,  # the adapter's gradients alone: no weight's own
            "evaluation": 2 * (tested_drawn / DRAWING + tested_read / READING),
        }
        hours = {name: parameters * work / GPU_FLOPS / 3600 for name, work in flops.items()}
        listed = ", ".join(f"{name} {value:.2g}" for name, value in hours.items())
        print(
            f"GPU-hours        about {sum(hours.values()):.2g} of an H100 ({listed}), for {parameters / 1e9:g}B parameters"
        )
        print(
            f"                 assumed: {GPU_FLOPS / 1e12:.0f} TFLOP/s in bf16, of which {READING:.0%} reading, "
            f"{DRAWING:.0%} drawing, {TRAINING:.0%} training"
        )
    print(f"({cost.said}; nothing was stored)")


def parameters_in(model: str) -> float | None:
    """The number of parameters that a model's name gives, as in Llama-3.1-8B-Instruct."""
    found = re.findall(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([bBmM])(?![A-Za-z0-9])", model)
    return float(found[-1][0]) * {"b": 1e9, "m": 1e6}[found[-1][1].lower()] if found else None


def _is_here(model: str) -> bool:
    if is_endpoint(model):
        return True
    from secondnature.engines.models import needs_fetching

    return not needs_fetching(model)


def _measured(recipe: Recipe, setup: Setup) -> Cost:
    engine = open_engine(
        recipe.model, recipe.engine.kind, recipe.engine.dtype, recipe.engine.device, recipe.engine.http()
    )
    try:
        check_lengths(setup, engine, recipe.sampling.max_tokens)
        started = time.monotonic()
        samples = _tried(setup, engine)
        seconds = time.monotonic() - started
    finally:
        engine.close()
    rate = sum(s.completion_tokens for s in samples) / seconds
    said = f"measured on {len(samples)} prompts in {seconds:.1f} s"
    return Cost(
        sum(len(s.trace) for s in samples) / len(samples),
        sum(s.completion_tokens for s in samples) / len(samples),
        sum(s.prompt_tokens for s in samples) / len(samples),
        rate,
        said,
    )


def _assumed(recipe: Recipe, setup: Setup) -> Cost:
    samples = _tried(setup, FakeEngine(recipe.model, STAND_IN))
    calls = sum(len(s.trace) for s in samples) / len(samples)
    read = sum(s.prompt_tokens for s in samples) / len(samples) * TOKENS_PER_WORD
    said = (
        f"the weights of {recipe.model} are not on this machine: calls are counted with a stand-in that lists five points, and "
        "each is taken to generate half of max_tokens"
    )
    return Cost(calls, calls * recipe.sampling.max_tokens / 2, read, None, said)


def _tried(setup: Setup, engine: Engine) -> list[Sample]:
    rows = setup.train[:: max(1, len(setup.train) // TRIED)][:TRIED]
    model = Model(Store(Path(":memory:")), engine.identity, engine)

    async def tried() -> list[Sample]:
        return await asyncio.gather(*(draw(model, setup.system2, row.example, 0, setup.kind) for row in rows))

    return run_async(tried())
