"""What a task is: prompts in three parts, and how their answers are read and compared."""

from collections.abc import Callable
from dataclasses import dataclass

from secondnature.tasks.answers import AnswerKind
from secondnature.types import Parts


@dataclass(frozen=True, slots=True)
class Task:
    """Prompts plus how answers are read; `source` says where its facts come from, with their licence."""

    name: str
    description: str
    answer: AnswerKind
    parts: Callable[[], Parts]
    source: str = ""
