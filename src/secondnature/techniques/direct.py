"""System 1: the prompt as it is, answered at once."""

from collections.abc import Mapping, Sequence

from secondnature.techniques.turns import demonstrated
from secondnature.types import Ask, Example, Message


async def direct(
    example: Example, ask: Ask, *, instruction: str = "", demonstrations: Sequence[Mapping[str, str]] = ()
) -> str:
    """Answer at once, after an optional system `instruction` and `demonstrations` (`prompt`, `answer`)."""
    system = [Message("system", instruction)] if instruction else []
    return await ask([*system, *demonstrated(demonstrations, "prompt", "answer"), *example.messages])
