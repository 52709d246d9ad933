"""System 1: the prompt answered at once."""

from collections.abc import Mapping, Sequence

from secondnature.techniques.turns import conversation, demonstrated, form_of
from secondnature.types import Ask, Example, Message


async def direct(
    example: Example, ask: Ask, *, instruction: str = "", demonstrations: Sequence[Mapping[str, str]] = ()
) -> str:
    """Answer at once, after an optional system `instruction` (it may hold {form}) and `demonstrations` (`prompt`, `answer`)."""
    return await ask(direct_prompt(example, instruction, demonstrations))


def direct_prompt(
    example: Example, instruction: str = "", demonstrations: Sequence[Mapping[str, str]] = ()
) -> tuple[Message, ...]:
    """The conversation that `direct` asks: the example's own, with the instruction and the worked examples before it."""
    if not instruction and not demonstrations:
        return example.messages
    shown = demonstrated(demonstrations, "{prompt}", "{answer}")
    return tuple(conversation(example, example.text, shown, instruction.replace("{form}", form_of(example))))
