"""How answers are read out of replies, and when two of them are the same: a file for each family."""

from secondnature.answers.number import NUMBER
from secondnature.answers.options import CHOICE, VERDICT, YES_NO, label, lettered_options
from secondnature.answers.structured import JSON, composed, json_object
from secondnature.answers.text import AnswerKind, after_reasoning, fold, marked, plain
from secondnature.answers.words import FREE_TEXT, LETTERS, SHORT_TEXT

__all__ = [
    "KINDS",
    "AnswerKind",
    "after_reasoning",
    "composed",
    "fold",
    "json_object",
    "label",
    "lettered_options",
    "marked",
    "plain",
]

KINDS: dict[str, AnswerKind] = {
    kind.name: kind for kind in (YES_NO, NUMBER, CHOICE, VERDICT, LETTERS, SHORT_TEXT, FREE_TEXT, JSON)
}
