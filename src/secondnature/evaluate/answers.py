"""A system's answers to some examples, drawn into the store or read back from it."""

from collections.abc import Sequence

from secondnature.answers import AnswerKind
from secondnature.context import RunContext
from secondnature.sampling import Model, System, draw, in_order
from secondnature.types import Example, Sample


async def answers(
    context: RunContext, model: Model, system: System, examples: Sequence[Example], kind: AnswerKind, title: str
) -> list[Sample]:
    """One sample an example, in order. Raises MissingCall where the model has no engine and the store not all."""

    async def answer(example: Example) -> Sample:
        sample = await draw(model, system, example, 0, kind)
        bar.advance()
        return sample

    with context.stage(title, len(examples), model) as bar:
        return [sample async for sample in in_order(examples, answer, model.width)]
