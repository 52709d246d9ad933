"""The model's own thinking mode as System 2."""

from secondnature.types import Ask, Example


async def think(example: Example, ask: Ask) -> str:
    """The model's own thinking mode, one call (DeepSeek-R1, 2025, arXiv 2501.12948; Qwen3, 2025, arXiv 2505.09388).

    What the model thought is dropped; the student is trained and served with thinking off.
    """
    return await ask(example.messages, thinking=True)
