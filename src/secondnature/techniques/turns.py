"""What techniques share: prompts filled in, worked examples as turns, calls side by side, the answer at the end of a reply."""

import asyncio
import string
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from secondnature.answers import after_reasoning
from secondnature.types import Ask, Example, Message, UserError
from secondnature.untrusted import check_placeholders

T = TypeVar("T")
Extract = Literal["unparsable", "always", "never"]
EXTRACTS = ("unparsable", "always", "never")
EXTRACT = "So what is the answer? Reply with {form} and nothing else."


def fill(option: str, text: str, *, may_miss: Sequence[str] = (), **values: str) -> str:
    """The prompt `text`, which the technique's `option` gives, with its {placeholders} replaced by `values`.

    Raises UserError as `check_placeholders` does.
    """
    check_placeholders(f"technique.{option}", text, values, may_miss)
    return text.format(**values)


def demonstrated(demonstrations: Sequence[Mapping[str, str]], user: str, assistant: str) -> list[Message]:
    """A user and an assistant turn for each worked example: the prompts `user` and `assistant` with its fields filled in.

    Small models follow an example where they do not follow an instruction. Raises UserError for a field that is missing.
    """
    turns: list[Message] = []
    for number, demonstration in enumerate(demonstrations, 1):
        for _, name, _, _ in (*string.Formatter().parse(user), *string.Formatter().parse(assistant)):
            if name and not str(demonstration.get(name, "")).strip():
                raise UserError(f"technique: number {number} of the demonstrations has no {name!r}")
        turns += [
            Message("user", user.format(**demonstration)),
            Message("assistant", assistant.format(**demonstration)),
        ]
    return turns


def conversation(example: Example, text: str, shown: Sequence[Message] = (), instruction: str = "") -> list[Message]:
    """The example's conversation with `text` as its last turn, and worked examples before its first.

    There is one system message at most, and it comes first: chat templates refuse others. An `instruction` is added to it.
    """
    turns = example.messages[:-1]
    said = [turn.content for turn in turns if turn.role == "system"] + ([instruction] if instruction else [])
    system = [Message("system", "\n\n".join(said))] if said else []
    return [*system, *shown, *(turn for turn in turns if turn.role != "system"), Message("user", text)]


async def side_by_side(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of calls that do not depend on each other; where some fail, the first failure once all have ended.

    So what a sample has asked does not depend on which reply came first.
    """
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


async def conclude(
    example: Example,
    ask: Ask,
    turns: str | Sequence[Message],
    *,
    reasoned: bool = True,
    thinking: bool = False,
    extract: Extract = "unparsable",
    extract_prompt: str = EXTRACT,
) -> str:
    """Ask `turns` and return the answer that ends the reply, without the reasoning before it; nothing where there is none.

    Where none can be read, one more call only extracts it (Kojima et al., 2022, arXiv 2205.11916): with `extract` "always"
    that call is always made, with "never" never. Unless it is `reasoned`, a reply may be the answer as a whole. `thinking` is
    for the first call.
    """
    if extract not in EXTRACTS:
        raise UserError(f"technique.extract: one of {', '.join(EXTRACTS)}, not {extract!r}")
    turns = [Message("user", turns)] if isinstance(turns, str) else [*turns]
    reply = await (ask(turns, thinking=True) if thinking else ask(turns))
    answer = _answer_in(example, reply, reasoned=reasoned)
    if extract == "always" or (extract == "unparsable" and not answer and example.form is not None):
        question = fill("extract_prompt", extract_prompt, may_miss=["form"], form=form_of(example))
        extracted = await ask([*turns, Message("assistant", reply), Message("user", question)])
        answer = _answer_in(example, extracted, reasoned=False) or extracted.strip()
    return answer if answer or reasoned else reply


def form_of(example: Example) -> str:
    """What the answer should look like, in words that complete "The answer is"."""
    return "the answer" if example.form is None else example.form.text


def _answer_in(example: Example, reply: str, *, reasoned: bool) -> str:
    """The answer in a reply; nothing where none can be read."""
    if example.form is None:
        return after_reasoning(reply) or ("" if reasoned else reply)
    if answer := example.form.conclusion(reply):
        return answer
    return reply if not reasoned and example.form.reads(reply) else ""
