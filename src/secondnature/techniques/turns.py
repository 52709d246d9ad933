"""Worked examples as turns of a conversation: small models follow an example where they do not follow an instruction."""

from collections.abc import Mapping, Sequence

from secondnature.types import Message, UserError


def demonstrated(demonstrations: Sequence[Mapping[str, str]], given: str, shown: str) -> list[Message]:
    """A user and an assistant turn for each demonstration, from its fields `given` and `shown`."""
    turns: list[Message] = []
    for number, demonstration in enumerate(demonstrations, 1):
        for name in (given, shown):
            if not str(demonstration.get(name, "")).strip():
                raise UserError(f"technique.demonstrations: number {number} has no {name!r}")
        turns += [Message("user", str(demonstration[given])), Message("assistant", str(demonstration[shown]))]
    return turns
