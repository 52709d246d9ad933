"""System 1: the prompt as it is, answered at once."""

from collections.abc import Mapping, Sequence

from secondnature.techniques.turns import conversation, demonstrated
from secondnature.types import Ask, Example


async def direct(
    example: Example, ask: Ask, *, instruction: str = "", demonstrations: Sequence[Mapping[str, str]] = ()
) -> str:
    """Answer at once, after an optional system `instruction` and `demonstrations` (`prompt`, `answer`)."""
    if not instruction and not demonstrations:
        return await ask(example.messages)
    shown = demonstrated(demonstrations, "{prompt}", "{answer}")
    return await ask(conversation(example, example.text, shown, instruction))
