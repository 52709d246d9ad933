"""Exchange the two answers that a judge compares."""

import re
import string

from secondnature.types import Ask, Example, UserError
from secondnature.verify.perturb.variant import Variant, changed

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
