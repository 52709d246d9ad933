"""The model's own thinking mode as System 2."""

from secondnature.techniques.turns import EXTRACT, Extract, conclude, conversation, fill, form_of
from secondnature.types import Ask, Example

ANSWER = "{prompt}\n\nAnswer with {form}."


async def think(
    example: Example, ask: Ask, *, answer: str = ANSWER, extract: Extract = "unparsable", extract_prompt: str = EXTRACT
) -> str:
    """The model's own thinking mode, one call (DeepSeek-R1, 2025, arXiv 2501.12948; Qwen3, 2025, arXiv 2505.09388).

    `answer` holds {prompt} and may hold {form}, what the answer should look like. What the model thought is dropped; the
    student is trained and served with thinking off. Where no answer can be read in the reply, one more call, without thinking,
    extracts it: `extract` is unparsable, always or never.
    """
    text = fill("answer", answer, may_miss=["form"], prompt=example.text, form=form_of(example))

    turns = conversation(example, text)
    return await conclude(
        example, ask, turns, reasoned=False, thinking=True, extract=extract, extract_prompt=extract_prompt
    )
