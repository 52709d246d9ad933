"""What a task is: prompts in three parts, and how their answers are read and compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from secondnature.answers import AnswerKind
from secondnature.types import Splits

Size = Annotated[int, Field(ge=1, le=1_000_000)]  # of a part, in rows


@dataclass(frozen=True, slots=True)
class Task:
    """Prompts plus how answers are read; `source` says where its facts come from, with their licence.

    `notices` say what a user should know about how files were split.
    """

    name: str
    answer: AnswerKind
    parts: Callable[[], Splits]
    source: str = ""
    notices: Sequence[str] = ()
