r"""Answers that are numbers: 18, $18.00, 1,234 km, 3/4, 5.4 million, 3 x 10^8, \frac{1}{2}, 3\sqrt{2}."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from secondnature.answers.expression import value_of
from secondnature.answers.text import AnswerKind, marked, plain, squeezed
from secondnature.types import Example

MOST_READ = 4000  # characters of a reply in which a number is looked for
MOST_ASKED = 20_000  # characters at either end of a prompt, likewise
_DECIMAL = r"(?:\d{1,3}(?:,\d{3})+(?![\d,]*\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+(?!\w))?"
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_TOKEN = re.compile(
    rf"""(?P<number>[$€£]?{_DECIMAL}(?:\s+(?:{"|".join(_SCALES)})\b)?)
    |(?P<function>\\(?:frac|sqrt|pi)(?![A-Za-z]))
    |(?P<operator>[-+*/^])
    |(?P<bracket>[(){{}}])
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SCALED = re.compile(
    rf"([-+]?{_DECIMAL})\s*(?:({'|'.join(_SCALES)})|\*\s*10\s*\^\s*[({{]?\s*([-+]?\d{{1,4}})\s*[)}}]?)?", re.I
)
_LATEX_FRACTION = re.compile(r"\\frac\s*(?:\{\s*(\d{1,30})\s*\}\s*\{\s*(\d{1,30})\s*\}|(\d)(\d))")
_FRACTION = re.compile(r"([-+]?)\s*(?:(\d{1,30})\s+)?(\d{1,30})\s*/\s*(\d{1,30})")
_RANGE = re.compile(r"[\d.]+\s*-\s*[\d.][\d.\-]*|\d+(?:/\d+){2,}")  # 5-10, and dates
_BELOW = re.compile(r"\d+\s*/\s*\d+(?![\d/])")  # what makes "2 1/2" of a 2
# Of 9:40, 3,5, 3.11.2, 5 to 10, 1 234 the second part; of "half of 12" the 12.
_BEFORE = re.compile(
    r"\d[:,. ]?$|\d\s+(?:to|or)\s+$|\b(?:half|twice|double|third|quarter)\s+(?:of\s+)?$", re.IGNORECASE
)
_AFTER = re.compile(r"[:,. ]\d|\s+(?:to|or)\s+[$€£]?\d")
_EQUALS = re.compile(r"\s*(?:=|≈|\\approx\b|\bis\s+equal\s+to\b|\bequals\b)\s*$")
# The signs of LaTeX and of Unicode as those that a keyboard has.
_SIGNS = [
    (re.compile(r"[\u2212\u2013](?=\s?[\d$.])"), "-"),
    (re.compile(r"(?<=\d)\\,(?=\d{3}(?!\d))|(?<=\d)\{,\}(?=\d{3})|(?<=\d)[\u00a0\u202f\u2009](?=\d{3}\b)"), ","),
    (re.compile(r"\\(?:left|right)(?![a-z])|\\[,;!:()\[\]\s]"), " "),
    (re.compile(r"\\[dt]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"×|·|\\times(?![A-Za-z])|\\cdot(?![A-Za-z])|(?<=\d)\s+x\s+(?=10\s*\^)"), "*"),
    (re.compile(r"÷|\\div(?![A-Za-z])"), "/"),
    (re.compile(r"√|(?<!\\)\bsqrt(?=\s*\()"), r"\\sqrt"),
    (re.compile(r"π"), r"\\pi"),
    (re.compile(r"(?<![⁻⁰¹²³⁴⁵⁶⁷⁸⁹])(?=[⁻⁰¹²³⁴⁵⁶⁷⁸⁹])"), "^"),
    (re.compile(r"(?m)^\s*\d+[.)]\s+(?=\S)|\bstep\s+\d+", re.IGNORECASE), " "),  # the numbers of a list
]
_SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
# Before a number that is nonetheless the first thing said.
_HEDGE = re.compile(
    r"(?:\W|\b(?:about|approximately|roughly|around|approx|exactly|now|only|just|USD|EUR|x|y)\b)*", re.I
)


@dataclass(frozen=True, slots=True)
class _Found:
    """A number or an expression in a text, from `start` on; one that is not `whole` has no one value (a range, a time)."""

    text: str
    start: int
    whole: bool

    @property
    def key(self) -> str | None:
        return _key_or_none(self.text) if self.whole else None


def _number(example: Example, text: str) -> str | None:
    answer = marked(text)
    part = _tidy(_end_of(plain(text)) if answer is None else answer[:MOST_READ])
    found = _results(part)
    if not found:
        return None
    if answer is None:
        last = found[-1]
        if span := re.fullmatch(r"[\d.]+-([\d.]+)", last.text):
            return span[1]  # the last number is the end of the range
        return last.text if last.key is not None else None
    if _HEDGE.fullmatch(part[: found[0].start]):
        return found[0].text if found[0].key is not None else None
    # A sentence: the one number in it, or the one that is not the question's.
    if len({one.key for one in found}) > 1:
        asked = _asked(example.text)
        found = [one for one in found if one.key not in asked]
    return found[0].text if len({one.key for one in found}) == 1 and found[0].key is not None else None


@lru_cache(maxsize=64)
def _asked(prompt: str) -> frozenset[str | None]:
    """The values of the numbers in a prompt, which all its samples share."""
    if len(prompt) > 2 * MOST_ASKED:
        prompt = f"{prompt[:MOST_ASKED].rpartition(' ')[0]} {prompt[-MOST_ASKED:].partition(' ')[2]}"
    return frozenset(one.key for one in _results(_tidy(prompt)))


def _end_of(text: str) -> str:
    """What of a long text the last number is looked for in."""
    return text if len(text) <= MOST_READ else text[-MOST_READ:].partition(" ")[2]


def _tidy(text: str) -> str:
    text = squeezed(text)
    for pattern, sign in _SIGNS:
        text = pattern.sub(sign, text)
    return text.translate(_SUPERSCRIPTS)


def _results(text: str) -> list[_Found]:
    """The numbers and expressions in a text; of "2 + 3 = 5" only the 5."""
    found: list[_Found] = []
    end = 0
    for start, stop in _spans(text):
        first = found.pop().start if found and _EQUALS.fullmatch(text[end:start]) else start
        written = _bare(text[start:stop])
        part_of_more = (
            _BEFORE.search(text[max(0, start - 24) : start]) or _AFTER.match(text, stop) or _RANGE.fullmatch(written)
        )
        found.append(_Found(written, first, part_of_more is None))
        end = stop
    return found


def _bare(text: str) -> str:
    """The number as written, without currency and thousands separators."""
    return re.sub(r"(?<=\d),(?=\d)|[$€£]", "", text).strip().lstrip("+")


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Where numbers and expressions stand: tokens with nothing but spaces between them, trimmed to what is whole."""
    run: list[re.Match[str]] = []
    for token in _TOKEN.finditer(text):
        if run and not _joins(run[-1], token, text):
            yield from _trimmed(run, text)
            run = []
        run.append(token)
    yield from _trimmed(run, text)


def _joins(before: re.Match[str], token: re.Match[str], text: str) -> bool:
    gap = text[before.end() : token.start()]
    if gap.strip():
        return False
    if before.lastgroup == token.lastgroup == "number":  # a mixed number, "2 1/2"; else two numbers
        return bool(gap) and bool(_BELOW.match(text, token.start()))
    if token[0] == "-" and gap and not text[token.end() : token.end() + 1].isspace():
        return False  # "5 -3" is no difference
    return token[0] != "(" or before.lastgroup != "number" or not gap  # "5 (not 7)"


def _letter_before(text: str, token: re.Match[str]) -> str:
    return text[token.start() - 1 : token.start()] if token.start() else ""


def _trimmed(run: list[re.Match[str]], text: str) -> Iterator[tuple[int, int]]:
    if run and run[0][0] == "^":
        return  # "m^2"
    if run and run[0].lastgroup == "number" and re.match(r"[A-Za-z_]", _letter_before(text, run[0])):
        run = run[1:]  # "H2O"
    if len(run) > 1 and run[0][0] in "-+" and re.match(r"\w", _letter_before(text, run[0])):
        run = run[1:]  # a hyphen
    while run and (run[0][0] in "*/^)}" or (run[0][0] in "-+" and (len(run) == 1 or run[0].end() < run[1].start()))):
        run = run[1:]
    while run and run[-1][0] in "-+*/^({":
        run = run[:-1]
    while run and (surplus := sum((t[0] in "({") - (t[0] in ")}") for t in run)):
        if surplus < 0 and run[-1][0] in ")}":
            run = run[:-1]
        elif surplus > 0 and run[0][0] in "({":
            run = run[1:]
        else:
            return
    if any(token.lastgroup == "number" or token[0] == r"\pi" for token in run):
        yield run[0].start(), run[-1].end()


def _number_key(answer: str) -> str:
    """Equal for equal values: 1/2 and 0.50, 1e3 and 1,000."""
    key = _key_or_none(_bare(_tidy(answer)).rstrip("."))
    return answer if key is None else key


@lru_cache(maxsize=4096)
def _key_or_none(text: str) -> str | None:
    if single := re.fullmatch(r"[({]\s*([^(){}]*?)\s*[)}]", text):
        text = single[1]
    if decimal := _SCALED.fullmatch(text):
        digits, scale, power = decimal.groups()
        return _decimal_key(digits, _SCALES[scale.lower()] if scale else int(power or 0))
    if fraction := _FRACTION.fullmatch(_LATEX_FRACTION.sub(r" \1\3/\2\4", text).strip()):
        sign, whole, above, below = fraction.groups(default="")
        if int(below) == 0:
            return None
        value = int(whole or 0) + Fraction(int(above), int(below))
        return _fraction_key(-value if sign == "-" else value)
    value = value_of(text)
    if isinstance(value, Fraction):
        return _fraction_key(value)
    return value


def _decimal_key(text: str, power: int) -> str | None:
    """Digit by digit: a float would merge large numbers."""
    try:
        sign, digits, exponent = Decimal(text).as_tuple()
    except ArithmeticError:  # an exponent beyond all bounds
        return None
    assert isinstance(exponent, int), text
    written = "".join(map(str, digits)).lstrip("0")
    bare = written.rstrip("0")
    if not bare:
        return "0"
    exponent += power + len(written) - len(bare)
    if exponent > 60 or exponent < -60:
        bare += f"e{exponent}"
    elif exponent >= 0:
        bare += "0" * exponent
    else:
        bare = bare.rjust(1 - exponent, "0")
        bare = f"{bare[:exponent]}.{bare[exponent:]}"
    return "-" + bare if sign else bare


def _fraction_key(value: Fraction) -> str | None:
    """A decimal where it ends: 1/2 as 0.5, 1/3 as 1/3."""
    rest, places = value.denominator, 0
    for factor in (2, 5):
        power = 0
        while rest % factor == 0:
            rest, power = rest // factor, power + 1
        places = max(places, power)
    if rest > 1 or places > 60:
        return str(value)
    return _decimal_key(f"{value.numerator * 10**places // value.denominator}e-{places}", 0)


NUMBER = AnswerKind(
    "number", "a number; the last one where none is marked as the answer", _number, _number_key, "a single number"
)
