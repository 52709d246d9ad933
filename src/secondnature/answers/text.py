"""What all kinds of answers share: how an answer is asked for, where in a reply it stands, and folding."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from secondnature.types import Example, Form

# Where the answer that follows reasoning stands.
_CONCLUSION = re.compile(
    r"\banswer\**\s*(?:is\b\s*:?|:)\s*"  # The answer is: Lima
    r"|^[#*\s]{0,9}(?:the\s+)?(?:final\s+)?answer[*\s]*\n"  # ## Final answer, and Lima on the line below
    r"|^[ \t]*####[ \t]*(?=[^\n]+\Z)",  # #### 42, as the last line: elsewhere it is a heading
    re.IGNORECASE | re.MULTILINE,
)
MOST_SIGNS = 200  # in a row that are looked at
_SIGNS = re.compile(rf"[\W_]{{{MOST_SIGNS + 1},}}")


def squeezed(text: str) -> str:
    """The text with long runs of signs and white space cut, so that no pattern takes for ever: they hold no answer."""
    return _SIGNS.sub(lambda run: run[0][: MOST_SIGNS // 2] + run[0][-MOST_SIGNS // 2 :], text)


_BOX = re.compile(r"\\boxed\s*\{")


def after_reasoning(text: str, *, whole: bool = False) -> str:
    r"""The answer that ends the reasoning: after the last "The answer is:" or "####", or in a \boxed{} that comes later.

    Its line alone, or with `whole` all that follows. Nothing where there is none, so that reasoning is never a label.
    """
    text = squeezed(text).rstrip()
    markers, boxes = list(_CONCLUSION.finditer(text)), list(_BOX.finditer(text))
    if boxes and (not markers or boxes[-1].start() >= markers[-1].start()):
        answer = _TEXT.sub(r"\1", next(iter(_boxes(text[boxes[-1].start() :])), ""))
    else:
        answer = text[markers[-1].end() :].lstrip() if markers else ""
        answer = answer if whole else answer.partition("\n")[0]
    answer = answer.strip(" *_`\t\r\n")
    return "" if re.fullmatch(r"<[^<>]*>\W*", answer) else answer  # a placeholder of the prompt's, repeated


@dataclass(frozen=True, slots=True)
class AnswerKind:
    """One way of asking for answers and of reading them.

    `extract` returns the answer as the model wrote it, or None where there is none: never a default, never a guess. Two
    answers are the same where `normalize` makes the same text of them. `form` completes "The answer is", for a prompt: a
    text, or what makes it for an example. `ending` finds the answer at the end of a reply that reasons.
    With `by_field` a key is a JSON object,
    and its fields may be voted on one by one.
    """

    name: str
    description: str
    extract: Callable[[Example, str], str | None]
    normalize: Callable[[str], str]
    form: str | Callable[[Example], str]
    ending: Callable[[str], str] = after_reasoning
    by_field: bool = False

    def formed(self, example: Example) -> Example:
        """The example with the form that its answer should have."""
        form = self.form if isinstance(self.form, str) else self.form(example)

        def reads(text: str) -> bool:
            repeated = fold(text) == fold(form)  # the prompt's own words are no answer
            return not repeated and self.extract(example, text) is not None

        def conclusion(reply: str) -> str:
            return answer if reads(answer := self.ending(reply)) else ""

        return replace(example, form=Form(form, conclusion, reads))


# "The answer is 12", "Final answer: 12", "The answer to your question is 12", "#### 12": what follows is the answer,
# whatever came before.
MARKER = re.compile(
    r"\banswer(?:\s+(?:to|for)\s[^\n:]{1,200}?)?(?:\s+(?:is|would\s+be|should\s+be)\b(?!\s+not\b)\s*:?|\s*:)\s*|####\s*",
    re.IGNORECASE,
)
# How what matches a marker begins: those that do are many where a model has lost the thread, and each is looked at closely.
_MAY_MARK = re.compile(r"\b(?:answer|option|choice|verdict|judge?ment|decision|winner)|####", re.IGNORECASE)
MOST_PLACES = 100
MOST_MARKED = 20  # models that have lost the thread say it hundreds of times
_TEXT = re.compile(r"\\(?:text|mathrm|mathbf)\w*\s*\{([^{}]*)\}")
_TAGGED = re.compile(r"<(\w+)>([^<>]*)</\1>")
# What a model copies of "The answer is: <answer>".
_PLACEHOLDER = re.compile(r"<[^<>\n]*\b(?:answer|letters?|label|number|verdict)\b[^<>\n]*>", re.IGNORECASE)


def plain(text: str) -> str:
    """The text without Markdown emphasis, code marks, tags around an answer and surrounding white space."""
    text = re.sub(r"(?<![\d)])\*\*|\*\*(?![\d(])|__|`", "", squeezed(text))  # "2**10" is a power
    return _TAGGED.sub(r"\2", text).strip()


def marked(text: str, marker: re.Pattern[str] = MARKER) -> str | None:
    r"""What stands in the last \boxed{}, or follows the last "the answer is" (or its like) on its line.

    None where nothing is marked so, "" where what is marked is empty.
    """
    parts = all_marked(text, marker)
    return None if parts is None else next(iter(parts), "")


def all_marked(text: str, marker: re.Pattern[str] = MARKER) -> list[str] | None:
    """All that is marked as an answer and not empty, the last first; None where nothing is marked."""
    if boxes := _boxes(text):
        return [plain(_TEXT.sub(r"\1", box)) for box in reversed(boxes) if box.strip()]
    text = plain(text)
    places = [place.start() for place in _MAY_MARK.finditer(text)][-MOST_PLACES:]
    ends = list(dict.fromkeys(found.end() for place in places if (found := marker.match(text, place))))[-MOST_MARKED:]
    answers = (_PLACEHOLDER.sub("", text[end:]).strip().partition("\n")[0].strip() for end in reversed(ends))
    return list(filter(None, answers)) if ends else None


def _boxes(text: str) -> list[str]:
    """What stands in each box that is closed, in the order in which they open."""
    open_at: list[int | None] = []  # for each open brace where its box begins; None where it is no box's
    found: list[tuple[int, str]] = []
    for brace in re.finditer(r"\\boxed\s*\{|[{}]", text):
        if brace[0] != "}":
            open_at.append(brace.end() if len(brace[0]) > 1 else None)
        elif open_at and (start := open_at.pop()) is not None:
            found.append((start, text[start : brace.start()]))
    return [box for _, box in sorted(found)]


def bare(text: str) -> str:
    """Case and accents folded away."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()


def fold(text: str) -> str:
    """Case, accents, punctuation and white space folded away: "São Tomé." and "sao tome" are one."""
    return " ".join(re.sub(r"[^\w\s]", " ", bare(text)).split())


def only(found: Sequence[str]) -> str | None:
    """The one value that all of `found` agree on."""
    return found[0] if len(set(found)) == 1 else None


class Names:
    """Finds names in running text as whole words, the longest first, but for those that are denied ("not good")."""

    def __init__(self, names: Sequence[str]) -> None:
        self._by_key = {fold(name): name for name in names}
        longest_first = sorted(self._by_key, key=len, reverse=True)
        name = r"\b(?:" + "|".join(r"\W+".join(map(re.escape, key.split())) for key in longest_first) + r")\b"
        self._name = re.compile(name)
        self._denied = re.compile(
            rf"(?:\b(?:not|no|nor|neither|never|without|rather than)|n['’]t)\s+(?:(?:an?|the|very|really)\s+)?{name}"
            rf"(?:\s*(?:,\s*)?(?:\b(?:or|nor|and)\s+)?{name})*"
        )
        self._stated = re.compile(
            r"(?:\b(?:is|as|be|label|sentiment|category|class)\b|:)\s*"
            rf"(?:(?:an?|the|clearly|therefore|thus|overall|mostly)\s+)*[\W_]{{0,3}}({name})"
        )

    def found(self, text: str) -> list[str]:
        """The names in the text, in order."""
        return [self._by_key[fold(match)] for match in self._name.findall(self._affirmed(text))]

    def stated(self, text: str) -> list[str]:
        """The names in the text that something is said to be."""
        return [self._by_key[fold(match)] for match in self._stated.findall(self._affirmed(text))]

    def exactly(self, text: str) -> str | None:
        """The name that the text is."""
        return self._by_key.get(fold(text))

    def _affirmed(self, text: str) -> str:
        # A name that holds its own "not" ("not supported") is no denial: it is matched first and left alone.
        text = bare(text)
        names = [match.span() for match in self._name.finditer(text)]

        def taken_out(denial: re.Match[str]) -> str:
            place = bisect_right(names, (denial.start(), len(text))) - 1
            return denial[0] if place >= 0 and denial.start() < names[place][1] else " # "

        return self._denied.sub(taken_out, text)
