"""What a task is: prompts in three parts, and how their answers are read; and the draws that generated prompts come from.

Draws are digests, not a random generator's: the same on every Python version and in every process.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, TypeVar

from pydantic import Field

from secondnature.answers import AnswerKind
from secondnature.types import Row, Splits, UserError

T = TypeVar("T")
Size = Annotated[int, Field(ge=1, le=1_000_000)]  # of a part, in rows
TRIES = 1000  # for a prompt that is not there yet


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


def draw(n: int, *key: str) -> int:
    """A number below n, always the same for the same key."""
    return int.from_bytes(sha256("/".join(key).encode()).digest()[:8]) % n


def pick(items: Sequence[T], *key: str) -> T:
    """One of the items."""
    return items[draw(len(items), *key)]


def shuffled(items: Sequence[T], *key: str) -> list[T]:
    """The items in an order that `key` decides."""
    order = sorted(range(len(items)), key=lambda index: draw(2**64, *key, str(index)))
    return [items[index] for index in order]


def fair(number: int, *key: str) -> bool:
    """True for just one of the numbers 0 and 1, of 2 and 3, and so on: half of any even number of rows."""
    return draw(2, *key, str(number // 2)) == number % 2


def generated(sizes: Mapping[str, int], make: Callable[[str, int, str], Row]) -> Splits:
    """As many rows as `sizes` says for train, dev and test, from `make(part, number, key)`, with no prompt twice in a part.

    `key` seeds a row; another key is tried where the prompt is already there. Raises UserError where there are
    not so many.
    """
    parts: dict[str, list[Row]] = {}
    for part, size in sizes.items():
        rows, seen = list[Row](), set[str]()
        for number in range(size):
            tries = (make(part, number, f"{part}-{number}-{n}") for n in range(TRIES))
            row = next((row for row in tries if row.example.text not in seen), None)
            if row is None:
                raise UserError(
                    f"task.{part}: there are no {size} different prompts, only about {number}: ask for fewer"
                )
            rows.append(row)
            seen.add(row.example.text)
        parts[part] = rows
    return Splits(parts["train"], parts["dev"], parts["test"])
