"""Rephrase and Respond: put the question more clearly first, then answer it."""

from collections.abc import Mapping, Sequence

from secondnature.techniques.turns import after_reasoning, conversation, demonstrated, fill
from secondnature.types import Ask, Example, UserError

ONE_STEP = (
    "{prompt}\n\nFirst say what is asked, in your own, clearer words, with every detail. Then answer it. Reply in this form:\n"
    "In other words: <the question>\nThe answer is: <answer>"
)
REPHRASE = (  # the instruction comes last: small models answer a question that ends the prompt
    "Question: {prompt}\n\nDo not answer this question. Put it more clearly, with every detail that is needed to answer it and "
    "all the information it gives. Reply with the new question only."
)
RESPOND = "{prompt}\n\nThe same question, put more clearly: {rephrased}\n\nAnswer it."


async def rephrase_and_respond(
    example: Example,
    ask: Ask,
    *,
    steps: int = 2,
    one_step: str = ONE_STEP,
    rephrase: str = REPHRASE,
    respond: str = RESPOND,
    demonstrations: Sequence[Mapping[str, str]] = (),
) -> str:
    """Rephrase and Respond, one or two calls by `steps` (Deng et al., 2023, arXiv 2311.04205).

    Of two, the second sees the question as it was and as it was rephrased. `demonstrations` (`prompt`, `rephrased`,
    `answer`) take the place of the instruction to rephrase, and are answered before the second call.
    """
    if steps not in (1, 2):
        raise UserError(f"technique.steps: rar has 1 or 2 steps, not {steps}")
    if steps == 1:
        shown = demonstrated(demonstrations, "{prompt}", "{rephrased}\nThe answer is: {answer}")
        text = example.text if shown else fill("one_step", one_step, prompt=example.text)
        return after_reasoning(await ask(conversation(example, text, shown)))
    shown = demonstrated(demonstrations, "{prompt}", "{rephrased}")
    text = example.text if shown else fill("rephrase", rephrase, prompt=example.text)
    rephrased = await ask(conversation(example, text, shown))
    text = fill("respond", respond, may_miss=["prompt"], prompt=example.text, rephrased=rephrased)
    reply = await ask(conversation(example, text, demonstrated(demonstrations, respond, "{answer}")))
    return after_reasoning(reply) or reply  # reasoning on the way to "The answer is" is no part of the answer
