"""What techniques share: worked examples as turns, and the answer after the reasoning."""

import re
from collections.abc import Mapping, Sequence

from secondnature.types import Message, UserError

ANSWER_LINE = re.compile(r"\banswer\**\s*(?:is\b\s*+:?+|:)\s*(?P<answer>[^\n]+)", re.IGNORECASE)


def demonstrated(demonstrations: Sequence[Mapping[str, str]], given: str, shown: str) -> list[Message]:
    """A user and an assistant turn for each demonstration, from its fields `given` and `shown`.

    Small models follow an example where they do not follow an instruction. Raises UserError for a field that is missing.
    """
    turns: list[Message] = []
    for number, demonstration in enumerate(demonstrations, 1):
        for name in (given, shown):
            if not str(demonstration.get(name, "")).strip():
                raise UserError(f"technique.demonstrations: number {number} has no {name!r}")
        turns += [Message("user", str(demonstration[given])), Message("assistant", str(demonstration[shown]))]
    return turns


def after_reasoning(text: str) -> str:
    """What the last "The answer is: ..." says; nothing where there is no such line, so that reasoning is never a label."""
    found = list(ANSWER_LINE.finditer(text))
    return found[-1]["answer"].strip(" *") if found else ""
