"""A coin that some people turn over: which side is up? The symbolic task of Wei et al. (2022, arXiv 2201.11903)."""

import re
from typing import Annotated, Literal

from pydantic import Field

from secondnature.answers import KINDS, AnswerKind
from secondnature.tasks.base import Size, Task
from secondnature.tasks.draws import draw, fair, generated, pick
from secondnature.tasks.names import some_names
from secondnature.types import Example, Message, Row

STARTS = ("A coin lies on a table, {side} up.", "There is a coin that shows {side}.", "At first, a coin has {side} up.")
# What somebody does who turns the coin over, and who does not.
DEEDS = (
    ("{name} turns it over.", "{name} leaves it as it is."),
    ("Then {name} flips it to its other side.", "Then {name} looks at it and does nothing."),
    ("{name} turns the coin upside down.", "{name} does not touch the coin."),
)
QUESTIONS = (
    "Is {side} still up? Answer yes or no.",
    "Does the coin show {side} at the end? Answer with yes or no.",
    "Yes or no: after all this, is it {side} that is up?",
)

_SIDE = re.compile(r"\b(heads|tails)\b", re.IGNORECASE)
_STATED = re.compile(
    r"\b(?:coin|it|side)\b[^.?!\n]{0,30}?\b(?:is|was|shows|lies|lands|ends up|remains|stays|(?:will|would) (?:still )?be)"
    r"(?P<not>\s+no longer|\s+not|n't)?(?:\s+(?:still|now|then|again|currently|facing|showing|on|the|a))*\s+"
    r"(?P<side>heads|tails)\b(?! or\b)",
    re.IGNORECASE,
)


def read(example: Example, text: str) -> str | None:
    """Yes or no; where the reply has neither, what it last says of the coin, such as "The coin is still heads up"."""
    if (answer := KINDS["yes_no"].extract(example, text)) is not None:
        return answer
    asked, stated = _SIDE.findall(example.text), list(_STATED.finditer(text))
    if not asked or not stated:
        return None
    same = stated[-1]["side"].lower() == asked[-1].lower()
    return "yes" if same != bool(stated[-1]["not"]) else "no"


ANSWER = AnswerKind(
    "yes_no", "yes or no, or which side of the coin is up", read, KINDS["yes_no"].normalize, "yes or no"
)


def task(
    *,
    flips: Annotated[int, Field(ge=1, le=20)] = 2,
    start: Literal["heads", "tails", "either"] = "heads",
    train: Size = 400,
    dev: Size = 60,
    test: Size = 200,
) -> Task:
    """Follow a coin that each of `flips` people turns over or not; as many answers are yes as no."""

    def row(part: str, number: int, key: str) -> Row:
        key = f"coin_flip/{flips}/{key}"
        still = fair(number, "coin_flip", part)
        names = some_names(part, flips, key)
        turns = [draw(2, key, name) == 1 for name in names[1:]]
        turns.append((sum(turns) % 2 == 0) != still)  # the last one turns it where that makes the answer right
        side = pick(("heads", "tails"), key, "side") if start == "either" else start
        turned, left = pick(DEEDS, key, "deeds")
        deeds = [(turned if turn else left).format(name=name) for name, turn in zip(names, turns, strict=True)]
        sentences = [pick(STARTS, key, "start"), *deeds, pick(QUESTIONS, key, "question")]
        text = " ".join(sentences).format(side=side)
        example = Example(f"{part}-{number}", (Message("user", text),), {"names": " ".join(names)})
        return Row(example, "yes" if still else "no", group=" ".join(names))

    sizes = {"train": train, "dev": dev, "test": test}
    return Task("coin_flip", ANSWER, lambda: generated(sizes, row))
