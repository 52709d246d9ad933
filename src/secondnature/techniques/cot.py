"""Chain of Thought: reason first, answer after it."""

from collections.abc import Mapping, Sequence

from secondnature.techniques.turns import after_reasoning, conversation, demonstrated, fill
from secondnature.types import Ask, Example

THINK = "{prompt}\n\nThink it through step by step. Then end with a line of the form:\nThe answer is: <answer>"


async def chain_of_thought(
    example: Example, ask: Ask, *, think: str = THINK, demonstrations: Sequence[Mapping[str, str]] = ()
) -> str:
    """Chain of Thought, one call, zero-shot (Kojima et al., 2022, arXiv 2205.11916) or few-shot (Wei et al., 2022,
    arXiv 2201.11903).

    `demonstrations` (`prompt`, and `reasoning`, which ends with "The answer is: ...") take the place of the instruction.
    """
    shown = demonstrated(demonstrations, "{prompt}", "{reasoning}")
    text = example.text if shown else fill("think", think, prompt=example.text)
    return after_reasoning(await ask(conversation(example, text, shown)))
