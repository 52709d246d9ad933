"""Have the model put the question in other words."""

import re
from collections import Counter

from secondnature.perturb.base import Variant, unchanged, with_part
from secondnature.perturb.order import find_options
from secondnature.types import Ask, Example, Message

REWORD = (
    "Say the text below in other words, so that it asks for the same. Keep every fact, name and number, and keep what is in "
    "quotation marks letter by letter. Do not answer it. Reply with the new text only.\n\nText:\n{text}"
)
SHOWN = (  # small models answer a question rather than reword it, unless they are shown how
    (
        "A gardener plants 14 bulbs and buys 6 more. How many bulbs does she have?",
        "If a gardener who has planted 14 bulbs buys another 6, what is the number of her bulbs?",
    ),
    (
        'Write the word "lantern" in capital letters.',
        'How is "lantern" written if all its letters are capitals? Write it so.',
    ),
    (
        "Which town is the largest in Iceland? My friend says it is Bergen.",
        "A friend of mine names Bergen. What is the name of the largest town in Iceland?",
    ),
)
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_SPELT = dict(
    zip("two three four five six seven eight nine ten eleven twelve".split(), map(str, range(2, 13)), strict=True)
)
_QUOTED = re.compile(r"\"([^\"]*)\"|“([^”]*)”|«([^»]*)»|`([^`]*)`")
_NAME = re.compile(r"(?<=[\w,;'’)\"”][ ])[^\W\d_a-z][\w\-]*")  # a capital letter that begins no sentence
_LEAD_IN = re.compile(  # "Here is the text in other words:", "Reworded question:"
    r"[^\n]{0,80}:[ \t]*\n+(?=\S)|(?:(?:re\w+|new|the|text|question|version)\s+)*(?:text|question|version):\s*",
    re.IGNORECASE,
)


async def reword(example: Example, ask: Ask) -> Variant | None:
    """The prompt with its question (the field `question`, else the last turn up to a list of options) in the model's words.

    None where the rewording has not the same numbers and quotations, lacks a name, is much shorter or longer,
    asks nothing where something was asked, or has the same words as before. That it means the same ("odd" for "even") is not
    checked. The turns before it are not shown to the model: they may say how to answer, which it is not to do.
    """
    old = _question(example)
    shown = [
        turn
        for given, reworded in SHOWN
        for turn in (Message("user", REWORD.format(text=given)), Message("assistant", reworded))
    ]
    new = _unwrapped(await ask([*shown, Message("user", REWORD.format(text=old))]), old)
    if not new or not says_the_same(old, new):
        return None
    variant = with_part(example, old, new)
    return None if variant is None else Variant(variant, unchanged)


def _question(example: Example) -> str:
    question = example.fields.get("question", "").strip()
    if question and example.text.count(question) == 1:
        return question
    options = find_options(example.text)
    before = example.text if options is None else "".join(options.lines[: options.at[0]])
    return before.strip() or example.text


def _unwrapped(reply: str, old: str) -> str:
    """The reply without a line that leads in to it and without quotation marks around it, where the original has none."""
    text = reply.strip()
    if not _LEAD_IN.match(old) and (lead_in := _LEAD_IN.match(text)):
        text = text[lead_in.end() :]
    whole = _QUOTED.fullmatch(text)
    return text if whole is None or _QUOTED.fullmatch(old) else "".join(whole.groups("")).strip()


def says_the_same(old: str, new: str) -> bool:
    """Whether the rewording keeps all that can be checked without understanding it, and is one."""
    before, after = _words(old), _words(new)
    if before == after or 2 * len(after) < len(before) or len(after) > 2 * len(before) + 6:
        return False
    if ("?" in old and "?" not in new) or (old.endswith("?") and not new.endswith("?")):
        return False
    names = {name.casefold() for name in _NAME.findall(old) if name[0].isupper()} - {"i"}
    kept = new.casefold()
    return _numbers(old) == _numbers(new) and _quoted(old) == _quoted(new) and all(name in kept for name in names)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _numbers(text: str) -> Counter[str]:
    spelt = [_SPELT[word] for word in _words(text) if word in _SPELT]
    return Counter([number.replace(",", "") for number in _NUMBER.findall(text)] + spelt)


def _quoted(text: str) -> Counter[str]:
    return Counter("".join(found) for found in _QUOTED.findall(text))
