"""What techniques share: prompts filled in, worked examples as turns, calls side by side, the answer after the reasoning."""

import asyncio
import re
import string
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from secondnature.types import Example, Message, UserError, nearest

T = TypeVar("T")
_MARKER = re.compile(
    r"\banswer\**\s*(?:is\b\s*:?|:)\s*"  # The answer is: Lima
    r"|^[#*\s]*(?:the\s+)?(?:final\s+)?answer[*\s]*\n"  # ## Final answer, and Lima on the line below
    r"|^\s*####[ \t]*(?=[^\n]+\s*\Z)",  # #### 42, as the last line: elsewhere it is a heading
    re.IGNORECASE | re.MULTILINE,
)
_BOX = re.compile(r"\\boxed\s*\{")
_WRAPPED = re.compile(r"\\(?:text|mathrm|mathbf)\s*\{([^{}]*)\}")


def fill(option: str, text: str, *, may_miss: Sequence[str] = (), **values: str) -> str:
    """The prompt `text`, which the technique's `option` gives, with its {placeholders} replaced by `values`.

    Raises UserError for a placeholder that is unknown, a stray brace, or one that is missing and not in `may_miss`.
    """
    known = ", ".join(f"{{{name}}}" for name in values)
    try:
        parts = [part[1:] for part in string.Formatter().parse(text)]
    except ValueError:
        parts = [("", "", None)]
    named = [f"{name}:{spec}" if spec or conversion else name for name, spec, conversion in parts if name is not None]
    for name in named:
        if name not in values:
            raise UserError(
                f"technique.{option}: {{{name}}} is no placeholder{nearest(name, values)}; there are {known}; "
                "a brace that is meant as one is written twice"
            )
    for name in values:
        if name not in named and name not in may_miss:
            raise UserError(f"technique.{option}: there is no {{{name}}} in it; it takes {known}")
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


def after_reasoning(text: str) -> str:
    r"""The answer that ends the reasoning: after the last "The answer is:" or "####", or in a \boxed{} that comes later.

    Nothing where there is none, so that reasoning is never a label.
    """
    markers = list(_MARKER.finditer(text))
    boxes = list(_BOX.finditer(text))
    if boxes and (not markers or boxes[-1].start() >= markers[-1].start()):
        answer = _WRAPPED.sub(r"\1", _braced(text[boxes[-1].end() :]))
    else:
        answer = text[markers[-1].end() :].lstrip().partition("\n")[0] if markers else ""
    answer = answer.strip(" *_`\t\r")
    return "" if re.fullmatch(r"<[^<>]*>\W*", answer) else answer  # the prompt's "<answer>", repeated and not filled in


def _braced(text: str) -> str:
    """`text` up to the brace that closes it; nothing where none does."""
    depth = 1
    for position, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[:position]
    return ""
