"""The model's own thinking mode as System 2."""

from secondnature.types import Ask, Example


async def think(example: Example, ask: Ask) -> str:
    """Answer with the model's own thinking turned on, one call, as DeepSeek-R1 (2025, arXiv 2501.12948) and Qwen3 (2025,
    arXiv 2505.09388) do. What the model thought is dropped; the student is trained and served with thinking off."""
    return await ask(example.messages, thinking=True)
