"""The controls that a result needs, trained on as many examples and steps as the distilled model."""

import asyncio

from secondnature.adapters import train_adapter, training_summary
from secondnature.curate import draw_votes, pairs_of
from secondnature.sampling import draw
from secondnature.train import Pair
from secondnature.work import Work, run_async


def train_controls(work: Work, examples: int) -> None:
    """System 2 distilled unfiltered (each prompt's first sample), and System 1 distilled from its own filtered answers."""
    steps = training_summary(work.run.adapter).get("steps")
    setup = work.setup
    rows = [setup.train[i * len(setup.train) // examples] for i in range(examples)]

    async def first_samples() -> list[Pair]:
        model = work.online()
        samples = await asyncio.gather(*(draw(model, setup.system2, row.example, 0, setup.kind.read) for row in rows))
        return [Pair(r.example.messages, text) for r, s in zip(rows, samples, strict=True) if (text := s.text.strip())]

    unfiltered = run_async(first_samples())
    train_adapter(work, unfiltered, work.run.folder / "control_unfiltered", "train control: unfiltered", steps)

    votes = run_async(draw_votes(work, work.online(), setup.system1, "sample System 1"))
    own = pairs_of(work, votes)[:examples]
    if not own:
        work.display.say("train control: System 1 agrees with itself about nothing")
        return
    train_adapter(work, own, work.run.folder / "control_system1_self", "train control: System 1 self", steps)
