"""The last letters of some names, put together: the symbolic task of Wei et al. (2022, arXiv 2201.11903)."""

from typing import Annotated

from pydantic import Field

from secondnature.answers import KINDS
from secondnature.tasks.base import Size, Task
from secondnature.tasks.draws import generated, pick
from secondnature.tasks.names import some_names
from secondnature.types import Example, Message, Row

WORDINGS = (
    'Which letters do the names in "{names}" end with? Write them one after another, as one word.',
    'Put together the last letter of each name in "{names}", keeping their order.',
    'Here is a list of names: "{names}". Write down the final letter of every one of them, with nothing in between.',
    'Look at the last letters of the names "{names}". What do they spell when joined from left to right?',
)


def task(*, words: Annotated[int, Field(ge=2, le=20)] = 2, train: Size = 400, dev: Size = 60, test: Size = 200) -> Task:
    """Put together the last letters of `words` names; no name of the test prompts is in a training prompt."""

    def row(part: str, number: int, key: str) -> Row:
        names = some_names(part, words, "last_letters", str(words), key)
        joined = " ".join(names)
        text = pick(WORDINGS, "last_letters", key, "wording").format(names=joined)
        example = Example(f"{part}-{number}", (Message("user", text),), {"names": joined})
        return Row(example, "".join(name[-1] for name in names), group=joined)

    sizes = {"train": train, "dev": dev, "test": test}
    return Task("last_letters", KINDS["letters"], lambda: generated(sizes, row))
