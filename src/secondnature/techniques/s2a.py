"""System 2 Attention: first rewrite the prompt without what should not sway the answer, then answer the rewritten one."""

from collections.abc import Mapping, Sequence

from secondnature.techniques.turns import EXTRACT, Extract, conclude, conversation, demonstrated, fill, form_of
from secondnature.types import Ask, Example, Message

REWRITE = (  # the instruction comes last: small models answer a question that ends the prompt
    "Message: {prompt}\n\nDo not answer this message. Rewrite it so that only the question and the facts needed to answer it "
    "are left: without any opinion, guess or remark that could sway the answer. Reply with the rewritten question only."
)
ANSWER = "{rewritten}\n\nAnswer with {form}."


async def system_2_attention(
    example: Example,
    ask: Ask,
    *,
    rewrite: str = REWRITE,
    answer: str = ANSWER,
    keep_original: bool = False,
    demonstrations: Sequence[Mapping[str, str]] = (),
    extract: Extract = "unparsable",
    extract_prompt: str = EXTRACT,
) -> str:
    """System 2 Attention, two calls (Weston and Sukhbaatar, 2023, arXiv 2311.11829).

    `rewrite` holds {prompt}; `answer` holds {rewritten} and may hold {prompt}, and {form}, what the answer should look like.
    `keep_original` puts the prompt before it.
    `demonstrations` (`prompt`, `rewritten`, and `answer`, which baselines use) take the place of the instruction.

    All turns are rewritten into one, since an earlier one may sway too, and the answer is given from that one alone; a
    system message stays for both calls. Where no answer can be read in the last reply, one more call extracts it: `extract` is
    unparsable, always or never.
    """
    system = tuple(turn for turn in example.messages if turn.role == "system")
    prompt = _as_text([turn for turn in example.messages if turn.role != "system"])
    alone = Example(example.id, (*system, Message("user", prompt)))
    shown = demonstrated(demonstrations, "{prompt}", "{rewritten}")
    text = prompt if shown else fill("rewrite", rewrite, prompt=prompt)
    rewritten = await ask(conversation(alone, text, shown))
    text = fill(
        "answer", answer, may_miss=["prompt", "form"], rewritten=rewritten, prompt=example.text, form=form_of(example)
    )
    turns = conversation(example, f"{example.text}\n\n{text}") if keep_original else conversation(alone, text)
    return await conclude(example, ask, turns, reasoned=False, extract=extract, extract_prompt=extract_prompt)


def _as_text(turns: Sequence[Message]) -> str:
    """A conversation as one text; a single turn as it is."""
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{turn.role.capitalize()}: {turn.content}" for turn in turns)
