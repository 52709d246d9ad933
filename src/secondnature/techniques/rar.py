"""Rephrase and Respond: put the question more clearly first, then answer it."""

from collections.abc import Mapping, Sequence

from secondnature.techniques.turns import EXTRACT, Extract, conclude, conversation, demonstrated, fill, form_of
from secondnature.types import Ask, Example, UserError

ONE_STEP = (
    "{prompt}\n\nFirst say what is asked, in your own, clearer words, with every detail. Then answer it, step by step. "
    'End with "The answer is:" followed by {form}.'
)
REPHRASE = (  # the instruction comes last: small models answer a question that ends the prompt
    "Question: {prompt}\n\nDo not answer this question. Put it more clearly, with every detail that is needed to answer it and "
    "all the information it gives. Reply with the new question only."
)
RESPOND = (
    "{prompt}\n\nThe same question, put more clearly: {rephrased}\n\nAnswer it. "
    'End with "The answer is:" followed by {form}.'
)


async def rephrase_and_respond(
    example: Example,
    ask: Ask,
    *,
    steps: int = 2,
    one_step: str = ONE_STEP,
    rephrase: str = REPHRASE,
    respond: str = RESPOND,
    demonstrations: Sequence[Mapping[str, str]] = (),
    extract: Extract = "unparsable",
    extract_prompt: str = EXTRACT,
) -> str:
    """Rephrase and Respond, one or two calls by `steps` (Deng et al., 2023, arXiv 2311.04205).

    Of two, the second sees the question as it was and as it was rephrased. `one_step` and `respond` may hold {form}, what
    the answer should look like. `demonstrations` (`prompt`, `rephrased`, `answer`) take the place of the instruction to
    rephrase, and are answered before the second call. Where no answer can be read in the last reply, one more call extracts
    it: `extract` is unparsable, always or never.
    """
    if steps not in (1, 2):
        raise UserError(f"technique.steps: rar has 1 or 2 steps, not {steps}")
    form = form_of(example)
    if steps == 1:
        shown = demonstrated(demonstrations, "{prompt}", "{rephrased}\nThe answer is: {answer}")
        text = example.text if shown else fill("one_step", one_step, may_miss=["form"], prompt=example.text, form=form)
        turns = conversation(example, text, shown)
        return await conclude(example, ask, turns, extract=extract, extract_prompt=extract_prompt)
    shown = demonstrated(demonstrations, "{prompt}", "{rephrased}")
    text = example.text if shown else fill("rephrase", rephrase, prompt=example.text)
    rephrased = await ask(conversation(example, text, shown))
    text = fill("respond", respond, may_miss=["prompt", "form"], prompt=example.text, rephrased=rephrased, form=form)
    shown = demonstrated([{**one, "form": form} for one in demonstrations], respond, "{answer}")
    turns = conversation(example, text, shown)
    return await conclude(example, ask, turns, reasoned=False, extract=extract, extract_prompt=extract_prompt)
