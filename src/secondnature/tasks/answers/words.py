"""Answers of letters and words: a run of letters, a few words, a whole text."""

import re

from secondnature.tasks.answers.text import AnswerKind, fold, marked, plain
from secondnature.types import Example

MOST_WORDS = 10
_REFUSAL = re.compile(
    r"\W*(?:(?:i['’]?m|i am)\s+(?:very\s+|so\s+)?(?:sorry|afraid|not\s+(?:sure|able)|unable|here\s+to)"
    r"|i\s+(?:do\s+not|don['’]t|cannot|can['’]t|can\s+not)\b|sorry\b|as\s+an\s+ai\b|unknown\W*$)",
    re.IGNORECASE,
)
# "The capital of Peru is Lima", "The Mona Lisa was painted by Leonardo": what is asked about, the verb, the answer.
_RESTATED = re.compile(
    r"(?P<subject>.+?)\s+(?:is|are|was|were)\s+(?P<verb>(?:\w+\s+(?:by|in|at|on|as|from)|called|named|in|at|on|by)\s+)?"
    r"(?P<rest>\S.*)",
    re.IGNORECASE,
)
_CONCLUSION = re.compile(r"\W*(?:therefore|thus|hence|so|in conclusion|finally)\b", re.IGNORECASE)
_SMALL_WORDS = {"a", "an", "the", "of", "in", "on", "at", "to", "for", "by", "and", "that", "this", "it", "its"}
_QUOTES = " \t*_\"'“”‘’"
_LETTER = r"[^\W\d_]"  # of any language


def _letters(_example: Example, text: str) -> str | None:
    """A run of letters, also where a model spells it out ("n-a", "n, a", "n a")."""
    answer = marked(text)
    lines = (plain(text) if answer is None else answer).splitlines() or [""]
    answer = lines[-1] if _CONCLUSION.match(lines[-1]) else lines[0]
    if quoted := re.findall(rf"[\"'“‘]({_LETTER}+)[\"'”’]", answer):
        return quoted[-1].lower()
    if spelt := re.fullmatch(rf"{_LETTER}(?:[\s,\-]+{_LETTER})*\W*", answer):
        return "".join(re.findall(_LETTER, spelt[0].lower()))
    words = re.findall(rf"{_LETTER}+", answer)
    return words[0].lower() if len(words) == 1 else None


def _short_text(example: Example, text: str) -> str | None:
    answer = marked(text)
    answer = plain(text) if answer is None else answer
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    if not lines or _REFUSAL.match(lines[0]):
        return None
    answer = _trim(_after_restating(example, lines[0]))
    return answer if fold(answer) and len(answer.split()) <= MOST_WORDS else None


def _after_restating(example: Example, line: str) -> str:
    """The end of a sentence that says the question again first: "Lima" in "The capital of Peru is Lima"."""
    sentence = re.split(r"(?<=[a-z)\"'”]{2})[.!]\s|(?<=\w\))[.!]\s", line)[0]  # not after "St." or "J."
    restated = _RESTATED.fullmatch(sentence)
    if restated is None:
        return line
    questions: list[str] = re.findall(r"[^.?!\n]+\?", example.text) or [example.text]
    asked = set(fold(questions[-1]).split()) | _SMALL_WORDS
    if not set(fold(restated["subject"]).split()) <= asked:
        return "" if fold(sentence) in fold(example.text) else line  # another sentence of the prompt's answers nothing
    return re.split(r",\s+(?:which|who|whose|where|when|as|but|and)\b", restated["rest"])[0]


def _trim(text: str) -> str:
    text = text.strip(_QUOTES + ".")
    return text.strip(_QUOTES)


def _words_key(answer: str) -> str:
    """Without a leading article too: "the Nile" and "Nile" are one."""
    key = fold(answer)
    return re.sub(r"^(?:the|an?)\s+(?=\w)", "", key)


def _free_text(_example: Example, text: str) -> str | None:
    return text.strip() or None


def _free_key(answer: str) -> str:
    return fold(answer) or answer.strip()  # a text of signs alone


LETTERS = AnswerKind("letters", "a run of letters", _letters, str.lower)
SHORT_TEXT = AnswerKind(
    "short_text",
    f"at most {MOST_WORDS} words, compared without case, accents, punctuation and a leading article",
    _short_text,
    _words_key,
)
FREE_TEXT = AnswerKind(
    "free_text", "the whole reply, compared without case, accents, punctuation", _free_text, _free_key
)
