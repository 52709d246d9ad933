"""The controls that a result needs, trained on as many examples and steps as the distilled model."""

from secondnature.adapters import train_adapter, training_summary
from secondnature.curate import draw_votes, pairs_of
from secondnature.sampling import draw, in_order
from secondnature.train import Pair
from secondnature.types import Row, Sample
from secondnature.work import Work, run_async


def train_controls(work: Work, examples: int) -> None:
    """System 2 distilled unfiltered (each prompt's first sample), and System 1 distilled from its own filtered answers."""
    steps = training_summary(work.run.adapter).get("steps")
    setup = work.setup
    rows = [setup.train[i * len(setup.train) // examples] for i in range(examples)]

    async def first_samples() -> list[Pair]:
        model = work.online()

        async def first_sample(row: Row) -> tuple[Row, Sample]:
            return row, await draw(model, setup.system2, row.example, 0, setup.kind.read)

        drawn = in_order(rows, first_sample, model.width)
        return [Pair(r.example.messages, text) async for r, sample in drawn if (text := sample.text.strip())]

    unfiltered = run_async(first_samples())
    train_adapter(work, unfiltered, work.run.folder / "control_unfiltered", "train control: unfiltered", steps)

    votes = draw_votes(work, work.online(), setup.system1, "sample System 1")
    own = run_async(pairs_of(work, votes))[:examples]
    if not own:
        work.display.say("train control: System 1 agrees with itself about nothing")
        return
    train_adapter(work, own, work.run.folder / "control_system1_self", "train control: System 1 self", steps)
