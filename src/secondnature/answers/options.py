"""Answers that are one of a few: yes or no, the letter of an option, a label, a judge's verdict."""

import re
from collections.abc import Sequence

from secondnature.answers.text import MARKER, AnswerKind, Names, all_marked, fold, only, plain
from secondnature.types import Example, UserError


def _parts(text: str, marker: re.Pattern[str] = MARKER) -> list[str]:
    """Where to look: what is marked as the answer, the last first, then all of the text."""
    return list(filter(None, [*(all_marked(text, marker) or []), plain(text)]))


# "no" as an answer; not the "no" of "no dates are given".
_NO = r"no\b(?!\s+(?!(?:it|he|she|they|you|we|i|there|that|this|the|an?|because|since|as|not|but|and|or)\b)\w)"
_YES_NO = re.compile(rf"\b(yes|{_NO})\b", re.IGNORECASE)
_YES_OR_NO = re.compile(r"\byes\s*(?:or|/)\s*no\b", re.IGNORECASE)


def _yes_no(_example: Example, text: str) -> str | None:
    for part in _parts(text):
        part = _YES_OR_NO.sub(" ", part)
        if opening := re.match(rf"\W*(yes|{_NO})\b", part, re.IGNORECASE):
            return opening[1].lower()
        if word := only([word.lower() for word in _YES_NO.findall(part)]):
            return word
    return None


# A line that begins with an option: "B", "(B)", "B) Paris", "B. Paris", "Option B", "B because"; "A" as an article is none.
_OPENING = re.compile(
    r"[^\w\n]*(?:option\s+|choice\s+)?\b([A-Za-z])(?=[).:,\]]|\s*$|\s+(?:because|since|is)\b)[).:,\]\s]*(.*)",
    re.IGNORECASE | re.MULTILINE,
)
_CHOSEN = re.compile(rf"{MARKER.pattern}|\b(?:option|choice)\s+is\b(?!\s+not\b)\s*:?\s*", re.IGNORECASE)
_NAMED = re.compile(r"\(([A-Z])\)|\b(?i:option|choice)\s+([A-Z])\b")
_LISTED = re.compile(r"^[ \t]*\(?([A-Za-z])[).:\]][ \t]*(\S.*?)[ \t]*$", re.MULTILINE)


def lettered_options(text: str) -> dict[str, str]:
    """The options in a text by their letters, from lines such as "A) Lima", "(b) Quito"."""
    return {letter.upper(): option for letter, option in _LISTED.findall(text)}


def _choice(example: Example, text: str) -> str | None:
    """The letter of an option; where the example has the options as `choices`, also from the text of one."""
    options = lettered_options(example.fields.get("choices", ""))
    texts = Names(list(options.values())) if _can_be_told_apart(list(options.values())) else None
    for part in _parts(text, _CHOSEN):
        letter = _opening_letter(part, options)
        if letter is None:
            letter = only(["".join(found) for found in _NAMED.findall(part)])
        if letter is None and texts is not None and (name := only(texts.found(part))):
            letter = next(letter for letter, text in options.items() if text == name)
        if letter is not None:
            return letter if not options or letter in options else None
    return None


def _opening_letter(part: str, options: dict[str, str]) -> str | None:
    """The letter that a reply begins with: "" where it is named with the text of another option."""
    lines = [line for line in part.splitlines() if line.strip()]
    opening = _OPENING.match(lines[0])
    if opening is None:
        return None
    letter, rest = opening[1].upper(), fold(opening[2])
    following = _OPENING.match(lines[1]) if len(lines) > 1 else None
    if following is not None and following[1].upper() != letter:
        return ""  # the options one after the other
    other = any(rest == fold(name) for name in options.values()) and rest != fold(options.get(letter, ""))
    return "" if other else letter


def _can_be_told_apart(names: Sequence[str]) -> bool:
    return len({fold(name) for name in names}) == len(names) > 0 and all(fold(name) for name in names)


def label(labels: Sequence[str]) -> AnswerKind:
    """The kind that reads exactly one of `labels`, longest first, as whole words."""
    if not _can_be_told_apart(labels):
        raise UserError(f"answer.labels has an empty or a repeated label: {', '.join(labels)}")
    names = Names(labels)

    def read(_example: Example, text: str) -> str | None:
        for part in _parts(text):
            first = re.split(r"[.,;:!?\n(]|\s[-–—]\s", part.lstrip(" \n\"'(["))[0]
            if name := names.exactly(first) or only(names.found(part)) or only(names.stated(part)):
                return name
        return None

    return AnswerKind("label", f"one of {', '.join(labels)}", read, fold, f"one of these labels: {', '.join(labels)}")


# A judge's verdict on two responses.
_WHO = r"(?:the\s+)?(?:(?:response|assistant|answer|sentence|text|option|model|candidate)\s+)?[\"'(]*\b"
_DECISION = re.compile(
    r"\b(?:verdict|judge?ment|decision|winner|answer)(?:\s+(?:is|would\s+be)\b(?!\s+not\b)\s*:?|\s*:)\s*", re.IGNORECASE
)
_BRACKETS = re.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", re.IGNORECASE)
_BETTER = r"(?:better|best|preferable|preferred|stronger|superior|(?:the|a)\s+(?:clear\s+)?winner)\b"
_STATED = re.compile(
    rf"\b(?:(?i:response|assistant|answer|sentence|text|option|model|candidate)\s+)?\b([AB])[\"')]*\s+"
    rf"(?:(?i:is|was|seems|would\s+be)\s+(?:(?!(?i:not|no|neither)\b)\w+\s+){{0,3}}?(?i:{_BETTER})|(?i:wins)\b)"
    rf"|\b(?i:prefer|choose|pick|favou?r|go\s+with|vote\s+for|(?:better|best|winning|preferred)"
    rf"(?:\s+(?:response|assistant|answer|option|one))?\s+is:?)\s+(?i:{_WHO})([AB])\b"
)
_TIE = re.compile(
    r"\b(?:(?:is|be|as|call\s+it|declare|end\s+in)\s+a\s+(?:tie|draw)"
    r"|equally\s+(?:good|bad|well|helpful|correct|valid|strong|accurate)|neither(?:\s+\w+){0,3}?\s+is\s+better"
    r"|(?:no|not\s+a)\s+(?:clear\s+)?winner|(?:of\s+)?equal(?:ly)?\s+(?:in\s+)?quality)\b",
    re.IGNORECASE,
)
_NOT_EQUAL = re.compile(r"\b(?:not|n['’]t)\s+(?:be\s+|a\s+|both\s+)?(?:equal|equally|tie|draw)\b", re.IGNORECASE)
# A line that begins with the verdict: "B", "Assistant B: ...", "A is the more helpful one", "Tie."
_SHORT = re.compile(
    rf"\W*(?i:{_WHO})(?:([AB])\b(?=\W*(?:\n|$)|[\"')\]]*\s*[.:,;]|\s+is\s+(?:the\s+)?more\b)"
    rf"|(?i:tie|draw|both|neither)\b(?=\W*(?:\n|$)|\s*[.:,;]))"
)


def _verdict(_example: Example, text: str) -> str | None:
    """A, B or tie, where the reply decides; one that speaks of both and never decides has none."""
    for part in _parts(text, _DECISION):
        if found := {bracket.upper() for bracket in _BRACKETS.findall(part)}:
            return _winner(found)
        if verdict := _decided(part):
            return verdict
    return None


def _decided(part: str) -> str | None:
    part = re.sub(r"\b(?:if|whether)\s[^.,;\n]*", " ", part, flags=re.IGNORECASE)
    stated = {a or b for a, b in _STATED.findall(part)}
    if _TIE.search(part) and not _NOT_EQUAL.search(part):
        stated.add("TIE")
    if stated:
        return _winner(stated)
    openings = [_SHORT.match(line) for line in part.splitlines() if line.strip()]
    if not openings or openings[0] is None:
        return None
    return _winner({found[1] or "TIE" for found in openings if found})  # none: the two responses one after the other


def _winner(found: set[str]) -> str | None:
    if len(found) != 1:
        return None
    [one] = found
    return "tie" if one in ("C", "TIE") else one


YES_NO = AnswerKind("yes_no", "yes or no", _yes_no, str.lower, "yes or no")


def _letter_of(example: Example) -> str:
    letters = list(lettered_options(example.fields.get("choices", "")))
    return "the letter of one option" + (f": {', '.join(letters[:-1])} or {letters[-1]}" if len(letters) > 1 else "")


CHOICE = AnswerKind(
    "choice", "the letter of an option, or its text where the row has `choices`", _choice, str.upper, _letter_of
)
VERDICT = AnswerKind(
    "verdict", "which of two responses a judge prefers: A, B or tie", _verdict, str.casefold, "A, B or tie"
)
