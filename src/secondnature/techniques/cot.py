"""Chain of Thought: reason first, answer after it."""

from collections.abc import Mapping, Sequence

from secondnature.techniques.turns import EXTRACT, Extract, conclude, conversation, demonstrated, fill, form_of
from secondnature.types import Ask, Example

THINK = '{prompt}\n\nThink it through step by step. End with "The answer is:" followed by {form}.'


async def chain_of_thought(
    example: Example,
    ask: Ask,
    *,
    think: str = THINK,
    demonstrations: Sequence[Mapping[str, str]] = (),
    extract: Extract = "unparsable",
    extract_prompt: str = EXTRACT,
) -> str:
    """Chain of Thought, one call, zero-shot (Kojima et al., 2022, arXiv 2205.11916) or few-shot (Wei et al., 2022,
    arXiv 2201.11903).

    `think` holds {prompt} and may hold {form}, what the answer should look like. `demonstrations` (`prompt`, and `reasoning`,
    which ends with "The answer is: ...") take the place of the instruction. Where no answer can be read in the reply, one more
    call extracts it: `extract` is unparsable, always or never.
    """
    shown = demonstrated(demonstrations, "{prompt}", "{reasoning}")
    text = (
        example.text if shown else fill("think", think, may_miss=["form"], prompt=example.text, form=form_of(example))
    )
    turns = conversation(example, text, shown)
    return await conclude(example, ask, turns, extract=extract, extract_prompt=extract_prompt)
