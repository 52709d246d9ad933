"""How answers are read out of replies, and when two of them are the same.

`read` returns the answer as the model wrote it, or None where there is none: never a default, never a guess. Two answers
are the same where their `key`s are equal.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from secondnature.types import Example, UserError


@dataclass(frozen=True, slots=True)
class AnswerKind:
    """One way of reading answers."""

    name: str
    description: str
    read: Callable[[Example, str], str | None]
    key: Callable[[str], str]


# "The answer is 12", "Final answer: 12", "\boxed{12}", "#### 12": what follows is the answer, whatever came before.
_MARKER = re.compile(r"(?:\b(?:final\s+)?answer(?:\s+is)?\s*:|\b(?:final\s+)?answer\s+is\b|####)\s*", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_TEXT = re.compile(r"\\(?:text|mathrm|mathbf)\w*\s*\{([^{}]*)\}")
_FRACTION_BEFORE = re.compile(r"(?:\d\s*/\s*|\\[dt]?frac\s*\{\s*|\}\s*\{\s*)$")
_FRACTION_AFTER = re.compile(r"\s*/\s*\d")
_NUMBER = re.compile(r"(?:(?<!\d)[-+])?(?:\$?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\$?\d*\.?\d+(?:[eE][-+]?\d+)?)")


def plain(text: str) -> str:
    """The text without Markdown emphasis, code marks and surrounding white space."""
    return re.sub(r"\*\*|__|`", "", text).strip()


def marked(text: str) -> str | None:
    """What follows the last "the answer is" (or its like) on its line, or stands in the last box."""
    if boxes := _BOXED.findall(text):
        return plain(_TEXT.sub(r"\1", boxes[-1]))
    text = plain(text)
    ends = [match.end() for match in _MARKER.finditer(text)]
    if not ends:
        return None
    rest = text[ends[-1] :].strip().splitlines()
    return rest[0].strip() if rest else None


def fold(text: str) -> str:
    """Case, accents, punctuation and white space folded away: "São Tomé." and "sao tome" are one."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(re.sub(r"[^\w\s]", " ", bare.casefold()).split())


def _only(found: Sequence[str]) -> str | None:
    """The one value that all of `found` agree on."""
    return found[0] if len(set(found)) == 1 else None


def _yes_no(_example: Example, text: str) -> str | None:
    for part in (marked(text), plain(text)):
        if part is None:
            continue
        if opening := re.match(r"\W*(yes|no)\b", part, re.IGNORECASE):
            return opening[1].lower()
        if word := _only([w.lower() for w in re.findall(r"\b(?:yes|no)\b", part, re.IGNORECASE)]):
            return word
    return None


def _number(_example: Example, text: str) -> str | None:
    answer = marked(text)
    text = (plain(text) if answer is None else answer).replace("\u2212", "-")
    found = list(_NUMBER.finditer(text))
    if not found:
        return None
    number = found[-1 if answer is None else 0]
    if _FRACTION_BEFORE.search(text[: number.start()]) or _FRACTION_AFTER.match(text[number.end() :]):
        return None  # half of "1/2" is another number
    return _decimal(number[0])


def _decimal(text: str) -> str:
    return text.replace(",", "").replace("$", "").lstrip("+")


def _number_key(answer: str) -> str:
    text = _decimal(answer)
    if whole := re.fullmatch(r"(-?)0*(\d+?)(?:\.0*)?", text):  # digit by digit: a float would merge large ones
        return "0" if whole[2] == "0" else whole[1] + whole[2]
    value = float(text)
    return str(int(value)) if value.is_integer() else repr(value)


def _choice(_example: Example, text: str) -> str | None:
    for part in (marked(text), plain(text)):
        if part is None:
            continue
        # An option named at the very start ("B", "(B)", "B) Paris", "B. Paris", "Option B"); "A" as an article is none.
        if opening := re.match(r"\W*(?:option\s+|choice\s+)?([A-Za-z])(?=[).:,\]]|\s*$)", part, re.IGNORECASE):
            return opening[1].upper()
        if letter := _only(re.findall(r"\(([A-Z])\)|\b(?i:option|choice)\s+([A-Z])\b", part)):
            return "".join(letter)
    return None


def _letters(_example: Example, text: str) -> str | None:
    """A run of letters, also where a model spells it out ("n-a", "n, a", "n a")."""
    answer = marked(text) or plain(text)
    answer = answer.splitlines()[0] if answer else ""
    if quoted := re.findall(r"[\"'“‘]([A-Za-z]+)[\"'”’]", answer):
        return quoted[-1].lower()
    if spelt := re.fullmatch(r"[A-Za-z](?:[\s,\-]+[A-Za-z])*\W*", answer):
        return "".join(re.findall("[a-z]", spelt[0].lower()))
    words = re.findall(r"[A-Za-z]+", answer)
    return words[0].lower() if len(words) == 1 else None


def _short_text(_example: Example, text: str) -> str | None:
    answer = marked(text) or plain(text)
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    if not lines:
        return None
    answer = lines[0].strip(" \t.*_\"'“”‘’")
    return answer if fold(answer) else None


def label(labels: Sequence[str]) -> AnswerKind:
    """The kind that reads exactly one of `labels`, longest first, as whole words."""
    if len({fold(name) for name in labels}) < len(labels) or not all(fold(name) for name in labels):
        raise UserError(f"answer.labels has an empty or a repeated label: {', '.join(labels)}")
    by_key = {fold(name): name for name in labels}
    longest_first = sorted(by_key, key=len, reverse=True)
    pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b")

    def read(_example: Example, text: str) -> str | None:
        for part in (marked(text), text):
            if part is not None and (name := _only(pattern.findall(fold(part)))):
                return by_key[name]
        return None

    return AnswerKind("label", f"one of {', '.join(labels)}", read, fold)


KINDS: dict[str, AnswerKind] = {
    "yes_no": AnswerKind("yes_no", "yes or no", _yes_no, str.lower),
    "number": AnswerKind("number", "a number; the last one where none is marked as the answer", _number, _number_key),
    "choice": AnswerKind("choice", "the letter of an option", _choice, str.upper),
    "letters": AnswerKind("letters", "a run of letters", _letters, str.lower),
    "short_text": AnswerKind(
        "short_text", "a few words, compared without case, accents, punctuation", _short_text, fold
    ),
}
