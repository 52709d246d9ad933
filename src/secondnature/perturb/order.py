"""Perturbations of order: a judge's two answers exchanged, the options of a multiple-choice prompt moved."""

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

from secondnature.perturb.base import Variant, changed, digest, moved
from secondnature.types import Ask, Example, UserError

# swap

SIDES = ("answer_a", "answer_b")
_PAIRS = (("a", "b"), ("1", "2"), ("first", "second"))
_OTHER = {one: other for pair in _PAIRS for one, other in (pair, pair[::-1])}
_NAMED = re.compile(r"(?<![^\W_])(?P<side>[A-Za-z]+|\d+)[\W_]*\Z")


async def swap(example: Example, ask: Ask) -> Variant | None:
    """The judge's prompt with the fields answer_a and answer_b exchanged; the other verdict is meant, a tie stays.

    Two equal answers make the same prompt again, to which only a tie is consistent. Raises UserError where the prompt was
    not made from a template that shows both fields.
    """
    shown = {name for _, name, _, _ in string.Formatter().parse(example.template)}
    for name in SIDES:
        if name not in example.fields or name not in shown:
            raise UserError(
                f"verify.perturb: swap exchanges the fields answer_a and answer_b of a judge's prompt, and {example.id} has "
                f"no {name!r} in a template: make the prompts with data.template from both, or leave swap out"
            )
    a, b = SIDES
    fields = {**example.fields, a: example[b], b: example[a]}
    exchanged = changed(example, example.template.format(**fields), fields, example.template)
    return None if exchanged is None else Variant(exchanged, other_side)


def other_side(answer: str) -> str:
    """The verdict for the other side where the answer is or ends with one ("A", "(b)", "Answer B", "the first")."""
    found = _NAMED.search(answer)
    if found is None or (other := _OTHER.get(found["side"].lower())) is None:
        return answer
    side = found["side"]
    other = other.upper() if side.isupper() else other.capitalize() if side[0].isupper() else other
    return answer[: found.start("side")] + other + answer[found.end("side") :]


# shuffle

_OPTION = re.compile(
    r"(?P<label>[ \t]*(?:[-*•][ \t]+)?(?:\*\*)?[(\[]?(?P<letter>[A-Za-z])[)\].:](?:\*\*)?[ \t]+)(?P<text>\S.*?)(?P<end>\s*)"
)
_LAST = re.compile(r"\W*(?:all|none|any|both|neither|either)\b.*\b(?:above|these|them|those)\b.*", re.IGNORECASE)
_POINTS = re.compile(  # to another option
    r"\b(?:above|below|previous|preceding|following)\b|(?<!\w)\(?[A-Z]\)?\s*(?:,|and|or|&)\s*\(?[A-Z](?!\w)"
    r"|\b(?i:option|choice|answer|same as)\s*\(?[A-Z](?!\w)"
)
_LETTER = re.compile(r"(?<![\w'’])[(\[]?(?P<letter>[A-Z])[)\]]?(?![\w'’])(?!(?<=A) (?!and\b|or\b|is\b|to\b)[a-z])")
_ANSWERED = re.compile(r"(?P<before>\W*)(?P<letter>[A-Za-z])(?P<after>(?:[).:\]].*|\W*))", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Options:
    """The one list of options in a text: the lines that they are in, their letters and what they say."""

    lines: Sequence[str]
    at: Sequence[int]
    letters: Sequence[str]
    texts: Sequence[str]

    def in_order(self, order: Sequence[int]) -> str:
        """The text with option order[i] in place i; the labels stay."""
        lines = list(self.lines)
        for place, source in enumerate(order):
            found = _OPTION.fullmatch(lines[self.at[place]])
            assert found is not None
            lines[self.at[place]] = found["label"] + self.texts[source] + found["end"]
        return "".join(lines)


async def shuffle(example: Example, ask: Ask) -> Variant | None:
    """The prompt with the texts of its options moved, none in its old place; an answered letter is mapped back.

    Options are lines of the last turn that begin with A, B, C... in order ("A) Paris", "(B) Rome", "C. Oslo"). None where
    there is no such list or several, an option comes twice or speaks of another one, or the prompt names some of the letters
    elsewhere. "None of the above" stays last.
    """
    options = find_options(example.text)
    if options is None:
        return None
    pinned = 1 if _LAST.fullmatch(options.texts[-1]) else 0
    count = len(options.texts) - pinned
    if count < 2 or len({text.casefold() for text in options.texts}) < len(options.texts):
        return None
    if any(_POINTS.search(text) or _LAST.fullmatch(text) for text in options.texts[:count]) or _names_some(options):
        return None
    order = [*moved(count, digest(example, "shuffle")), *range(count, count + pinned)]

    def permuted(text: str) -> str:
        found = find_options(text)
        return text if found is None or len(found.texts) != len(order) else found.in_order(order)

    fields = {name: permuted(value) for name, value in example.fields.items()}
    text = options.in_order(order)
    variant = changed(example, text, fields, permuted(example.template))
    if variant is None:
        return None
    original = {options.letters[place]: options.letters[source] for place, source in enumerate(order)}
    return Variant(variant, lambda answer: _map_back(answer, original))


def find_options(text: str) -> Options | None:
    """The one list of at least two options in a text, with nothing but empty lines in between; None where there is not one."""
    lines = text.splitlines(keepends=True)
    found = [(number, option) for number, line in enumerate(lines) if (option := _OPTION.fullmatch(line))]
    letters = [option["letter"] for _, option in found]
    first = ord(letters[0]) if letters else 0
    if len(found) < 2 or chr(first) not in "Aa" or [ord(c) for c in letters] != list(range(first, first + len(found))):
        return None
    at = [number for number, _ in found]
    between = {*range(at[0], at[-1])} - {*at}
    if any(lines[number].strip() for number in between):
        return None
    after = lines[at[-1] + 1] if at[-1] + 1 < len(lines) else ""
    if after.strip() and len(after) - len(after.lstrip()) > len(lines[at[-1]]) - len(lines[at[-1]].lstrip()):
        return None  # the last option goes on in an indented line
    return Options(lines, at, letters, [option["text"] for _, option in found])


def _names_some(options: Options) -> bool:
    """Whether the prompt speaks of some of the options by letter, as in "I think it is B"; all of them are none in particular."""
    letters = [letter.upper() for letter in options.letters]
    rest = "".join(
        line for number, line in enumerate(options.lines) if number not in options.at and line.strip() != "A:"
    )
    rest = re.sub(rf"\b{letters[0]}\s*(?:-|–|to|through)\s*{letters[-1]}\b", "", rest)
    named = {found["letter"] for found in _LETTER.finditer(rest)} & {*letters}
    return bool(named) and named != {*letters}


def _map_back(answer: str, original: dict[str, str]) -> str:
    found = _ANSWERED.fullmatch(answer)
    if found is None:
        return answer
    letter = found["letter"]
    known = {name.upper(): old.upper() for name, old in original.items()}
    old = known.get(letter.upper(), letter)
    return found["before"] + (old if letter.isupper() else old.lower()) + found["after"]
