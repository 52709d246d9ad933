"""System 2 Attention: first rewrite the prompt without what should not sway the answer, then answer the rewritten one."""

from collections.abc import Mapping, Sequence

from secondnature.techniques.turns import demonstrated
from secondnature.types import Ask, Example, Message

REWRITE = (
    "Rewrite the user's message so that only the question and the facts needed to answer it are left. Leave out every "
    "opinion, guess and remark that could sway the answer. Do not answer the question.\n\nMessage:\n{prompt}"
)


async def system_2_attention(
    example: Example,
    ask: Ask,
    *,
    rewrite: str = REWRITE,
    answer: str = "{rewritten}",
    keep_original: bool = False,
    demonstrations: Sequence[Mapping[str, str]] = (),
) -> str:
    """System 2 Attention, two calls (Weston and Sukhbaatar, 2023, arXiv 2311.11829).

    `rewrite` may hold {prompt}; `answer` may hold {rewritten} and {prompt}. `keep_original` puts the prompt before it.
    `demonstrations` (`prompt`, `rewritten`, and `answer`, which baselines use) replace the instruction in the first call.
    """
    if demonstrations:
        first = [*demonstrated(demonstrations, "prompt", "rewritten"), Message("user", example.text)]
    else:
        first = [Message("user", rewrite.format(prompt=example.text))]
    rewritten = await ask(first)
    text = answer.format(rewritten=rewritten, prompt=example.text)
    if keep_original:
        text = f"{example.text}\n\n{text}"
    return await ask([*example.messages[:-1], Message("user", text)])
