"""The values of expressions such as 3\\sqrt{2}, by the library math-verify, which is loaded only where one is met."""

import logging
import math
import re
import threading
from fractions import Fraction
from itertools import accumulate
from typing import Any

from secondnature.types import UserError

LONGEST = 80  # letters of an expression; what is longer is no final answer, and might take for ever
MOST_BITS = 4096  # beyond, Python refuses to write a whole number out
DEEPEST = 8  # brackets in brackets: its parser takes twice as long for each
_SAFE = re.compile(r"(?:\\frac|\\sqrt|\\pi|[\d.+\-*/^(){}\s])+")
_POWER = re.compile(r"\^\s*(?:[({]\s*)?(-?\d{1,3})(?!\d)(?:\s*[)}])?")
_TOO_LARGE = re.compile(r"\d{21}|\^\s*[({]?\s*-?\d+\s*[)}]?\s*\^")  # towers of powers too
_AS_LATEX = [
    (_POWER, r"^{\1}"),
    (re.compile(r"\\sqrt\s*\(([^()]*)\)|\\sqrt\s*(\d+)"), r"\\sqrt{\1\2}"),
    (re.compile(r"\*"), r" \\cdot "),
]
_PARSING = threading.Lock()  # its grammar keeps a cache that all threads share


def value_of(expression: str) -> Fraction | str | None:
    """The value: exact where it is rational, else to 12 digits; None where it has none.

    Raises UserError where math-verify is not installed.
    """
    if len(expression) > LONGEST or not _SAFE.fullmatch(expression):
        return None
    depths = accumulate((sign in "({") - (sign in ")}") for sign in expression)
    if max(depths, default=0) > DEEPEST:
        return None
    powers = expression.count("^")
    if powers > 2 or len(_POWER.findall(expression)) < powers or _TOO_LARGE.search(expression):
        return None
    try:
        import math_verify  # pyright: ignore[reportMissingTypeStubs]
    except ModuleNotFoundError:
        raise UserError(
            f"answer: reading the number {expression!r} needs math-verify: pip install 'secondnature[math]'"
        ) from None
    for pattern, latex in _AS_LATEX:
        expression = pattern.sub(latex, expression)
    logging.getLogger("math_verify.parser").setLevel(logging.ERROR)  # it warns of the missing time limit
    try:
        with _PARSING:
            # Its time limit is a signal, which only the main thread can set; the short input is the limit here.
            parse: Any = math_verify.parse
            targets = [math_verify.LatexExtractionConfig()]
            found: list[Any] = parse(f"${expression}$", targets, fallback_mode="no_fallback", parsing_timeout=None)
            return _number(found[0]) if len(found) == 1 else None
    except (ArithmeticError, AttributeError, RecursionError, TypeError, ValueError):
        return None


def _number(value: Any) -> Fraction | str | None:
    if not (value.is_number and value.is_real and value.is_finite):
        return None
    value = value.doit()
    if not value.is_Rational:
        number = float(value.evalf(20))
        return f"{number:.12g}" if math.isfinite(number) else None
    exact = Fraction(int(value.p), int(value.q))
    return exact if max(exact.numerator.bit_length(), exact.denominator.bit_length()) <= MOST_BITS else None
