"""Word problems of grade-school arithmetic, generated; for the sort of question that GSM8K (arXiv 2110.14168) asks."""

from typing import Annotated

from pydantic import Field

from secondnature.answers import KINDS
from secondnature.tasks.base import Size, Task
from secondnature.tasks.draws import draw, generated
from secondnature.tasks.problems import problem
from secondnature.types import Example, Message, Row


def task(*, steps: Annotated[int, Field(ge=2, le=8)] = 3, train: Size = 400, dev: Size = 60, test: Size = 200) -> Task:
    """Word problems of 2 to `steps` steps with whole numbers, about the people of train, dev or test."""

    def row(part: str, number: int, key: str) -> Row:
        key = f"arithmetic/{steps}/{key}"
        made = problem(part, 2 + draw(steps - 1, key, "steps"), key)
        example = Example(f"{part}-{number}", (Message("user", made.question),), {"question": made.question})
        return Row(example, str(made.answer), group=example.id, slices=(f"steps={len(made.steps)}",))

    sizes = {"train": train, "dev": dev, "test": test}
    return Task("arithmetic", KINDS["number"], lambda: generated(sizes, row))
