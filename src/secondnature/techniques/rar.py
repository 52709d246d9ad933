"""Rephrase and Respond: put the question more clearly first, then answer it."""

from secondnature.techniques.turns import after_reasoning
from secondnature.types import Ask, Example, Message

ONE_STEP = (
    "{prompt}\n\nFirst put the question in your own, clearer words. Then end with a line of the form:\n"
    "The answer is: <answer>"
)
REPHRASE = (
    "Put the following question more clearly, with every detail that is needed to answer it. Keep all the information "
    "it gives. Do not answer it.\n\nQuestion: {prompt}"
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
) -> str:
    """Rephrase and Respond, one or two calls by `steps` (Deng et al., 2023, arXiv 2311.04205)."""
    context = example.messages[:-1]
    if steps == 1:
        return after_reasoning(await ask([*context, Message("user", one_step.format(prompt=example.text))]))
    rephrased = await ask([*context, Message("user", rephrase.format(prompt=example.text))])
    return await ask([*context, Message("user", respond.format(prompt=example.text, rephrased=rephrased))])
