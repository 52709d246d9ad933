"""Chain of Thought: reason first, answer after it."""

from collections.abc import Mapping, Sequence

from secondnature.techniques.turns import after_reasoning, demonstrated
from secondnature.types import Ask, Example, Message

THINK = "{prompt}\n\nThink it through step by step. Then end with a line of the form:\nThe answer is: <answer>"


async def chain_of_thought(
    example: Example, ask: Ask, *, think: str = THINK, demonstrations: Sequence[Mapping[str, str]] = ()
) -> str:
    """Chain of Thought, one call, zero-shot (Kojima et al., 2022, arXiv 2205.11916) or few-shot (Wei et al., 2022,
    arXiv 2201.11903) with `demonstrations` (`prompt`, `reasoning`, which ends with "The answer is: ...")."""
    turns = demonstrated(demonstrations, "prompt", "reasoning")
    text = example.text if demonstrations else think.format(prompt=example.text)
    return after_reasoning(await ask([*turns, *example.messages[:-1], Message("user", text)]))
