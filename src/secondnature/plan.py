"""What a recipe would cost, before it is paid: a few prompts are tried, nothing is stored."""

import itertools
import time

from secondnature.progress import Display
from secondnature.recipe import Recipe
from secondnature.sampling import Model, draw
from secondnature.setup import check_lengths, prepare
from secondnature.store import Store
from secondnature.types import Sample
from secondnature.work import run_async

TRIED = 32
EARLY_STOPPING = 0.75  # the share of N samples usually drawn at N = 8 and agreement 0.75


def print_plan(recipe: Recipe) -> None:
    """Print prompts, calls, tokens and time to expect, from one sample of up to TRIED training prompts."""
    from pathlib import Path

    from secondnature.engines import open_engine

    display = Display()
    setup = prepare(recipe, display.say)
    engine = open_engine(
        recipe.model, recipe.engine.kind, recipe.engine.dtype, recipe.engine.device, recipe.engine.http()
    )
    check_lengths(itertools.chain(setup.train, setup.held_out), engine, recipe.sampling.max_tokens)
    model = Model(Store(Path(":memory:")), engine.identity, engine)
    rows = setup.train[:: max(1, len(setup.train) // TRIED)][:TRIED]

    async def tried() -> list[Sample]:
        import asyncio

        return await asyncio.gather(*(draw(model, setup.system2, row.example, 0, setup.kind.read) for row in rows))

    started = time.monotonic()
    samples = run_async(tried())
    seconds = time.monotonic() - started
    engine.close()
    calls = sum(len(s.trace) for s in samples) / len(samples)
    generated = sum(s.completion_tokens for s in samples) / len(samples)
    read = sum(s.prompt_tokens for s in samples) / len(samples)
    prompts, n = len(setup.train), recipe.sampling.n
    most = prompts * n
    expected = most if recipe.sampling.full_n or n == 1 else round(most * EARLY_STOPPING)
    rate = sum(s.completion_tokens for s in samples) / seconds
    print(f"prompts          {prompts} to train on, {len(setup.held_out)} to test")
    print(f"samples          about {expected:,}, at most {most:,} ({n} a prompt; early stopping saves the difference)")
    print(f"calls            about {expected * calls:,.0f} ({calls:.1f} a sample)")
    print(f"tokens           about {expected * generated:,.0f} generated, {expected * read:,.0f} of prompts")
    print(f"sampling time    about {expected * generated / rate / 60:.1f} min at {rate:,.0f} tokens/s")
    print(
        f"training         at most {prompts} examples, {recipe.train.num_train_epochs:g} epochs; its time is not estimated"
    )
    print(
        f"evaluation       about {len(setup.held_out) * (4 + recipe.evaluate.voted + len(setup.baselines)):,} answers"
    )
    print(f"(measured on {len(rows)} prompts in {seconds:.1f} s; nothing was stored)")
