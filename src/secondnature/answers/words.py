"""Answers of letters and words: a run of letters, a few words, a whole text."""

import re
from functools import partial

from secondnature.answers.text import AnswerKind, after_reasoning, fold, marked, plain
from secondnature.types import Example

MOST_WORDS = 10
LONGEST_SENTENCE = 2000  # characters: a longer one ends in no short answer
_REFUSAL = re.compile(
    r"\W*(?:(?:i['’]?m|i am)\s+(?:very\s+|so\s+)?(?:sorry|afraid|not\s+(?:sure|able)|unable|here\s+to)"
    r"|i\s+(?:do\s+not|don['’]t|cannot|can['’]t|can\s+not|apologi[sz]e)\b|sorry\b|as\s+an\s+ai\b|unknown\W*$)",
    re.IGNORECASE,
)
# "The capital of Peru is Lima", "The Mona Lisa was painted by Leonardo": the verb between what is asked about and the answer.
_VERB = re.compile(
    r"\s+(?:is|are|was|were)\s+(?:(?:actually|indeed|also|really)\s+)?"
    r"(?:(?:\w+\s+(?:by|in|at|on|as|from)|called|named|in|at|on|by)\s+)?(?=\S)",
    re.IGNORECASE,
)
_NEGATED = re.compile(r"not\b|n['’]t\b", re.IGNORECASE)
# What follows the answer and explains it.
_AFTERTHOUGHT = re.compile(
    r",\s+(?:(?:which|who|whose|where|when|as|but|not|located|situated|known)\b"
    r"|and\s+(?:it|its|he|she|they|this|that|there|is|are|was|were|has|have)\b)",
    re.IGNORECASE,
)
_RELATIVE = re.compile(r",\s+(?:which|who|where|that)\Z", re.IGNORECASE)
_ASKING = r"(?:what|who|whom|whose|which|where|when|why|how)\b"
# A question and no title: "What is it?", not "Who Framed Roger Rabbit?"
_QUESTION = re.compile(rf"\W*(?i:(?:in|on|at|by|for|from|to|of|with)\s+)?(?i:{_ASKING})(?:['’]s)?\s+[a-z].*\?\W*")
_CONCLUSION = re.compile(r"\W*(?:therefore|thus|hence|so|in conclusion|finally)\b", re.IGNORECASE)
_SMALL_WORDS = {"a", "an", "the", "of", "in", "on", "at", "to", "for", "by", "and", "that", "this", "it", "its"}
_PRONOUNS = {"he", "she", "they", "there", "i", "you", "we", "yes", "no", "which", "what", "who"}  # are no answers
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
    if len(lines) == 2 and lines[0].endswith(":"):
        del lines[0]
    if not lines or _REFUSAL.match(lines[0]) or lines[0].endswith(":") or _asks(example, lines[0]):
        return None
    answer = _trim(_after_restating(example, lines[0]))
    return answer if fold(answer) and len(answer.split()) <= MOST_WORDS else None


def _asks(example: Example, line: str) -> bool:
    """Whether the reply is a question, often the prompt's own, which answers nothing."""
    return _QUESTION.fullmatch(line) is not None or (line.endswith("?") and fold(line) in fold(example.text))


def _after_restating(example: Example, line: str) -> str:
    """What a sentence says beside the question's own words: "Lima" in "The capital of Peru is Lima" and the other way round."""
    sentence = re.split(r"(?<=[a-z)\"'”]{2})[.!]\s|(?<=\w\))[.!]\s", line)[0]  # not after "St." or "J."
    verbs = list(_VERB.finditer(sentence[:LONGEST_SENTENCE]))
    if not verbs or len(sentence) > LONGEST_SENTENCE:
        return line
    asked = set(fold(_question(example)).split()) | _SMALL_WORDS
    for verb in reversed(verbs):  # "The river that is the longest is the Nile"
        subject, rest = sentence[: verb.start()], sentence[verb.end() :]
        if set(fold(subject).split()) <= asked and not _RELATIVE.search(subject):
            return "" if _NEGATED.match(rest) else _AFTERTHOUGHT.split(rest)[0]
    if fold(sentence) in fold(example.text):
        return ""  # another sentence of the prompt's answers nothing
    subject, rest = sentence[: verbs[0].start()], _AFTERTHOUGHT.split(sentence[verbs[0].end() :])[0]
    said = set(fold(subject).split()) - _SMALL_WORDS
    new = said - asked
    if set(fold(rest).split()) <= asked and not said & _PRONOUNS and len(new) * 2 >= len(said) > 0:
        return subject
    return line


def _question(example: Example) -> str:
    """The prompt's last question that asks for something: "It is Lima, isn't it?" after it does not."""
    sentences: list[str] = re.findall(r"(?:[^.?!\n]|\.(?=\w))++\??", example.text)
    questions = [sentence for sentence in sentences if sentence.endswith("?")]
    asking = [question for question in questions if re.search(rf"\b{_ASKING}", question, re.IGNORECASE)]
    return asking[-1] if asking else max(questions, key=len, default=example.text)


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


LETTERS = AnswerKind("letters", "a run of letters", _letters, str.lower, "the letters alone, written as one word")
SHORT_TEXT = AnswerKind(
    "short_text",
    f"at most {MOST_WORDS} words, compared without case, accents, punctuation and a leading article",
    _short_text,
    _words_key,
    "the answer alone, in a few words",
)
FREE_TEXT = AnswerKind(
    "free_text",
    "the whole reply, compared without case, accents, punctuation",
    _free_text,
    _free_key,
    "the whole answer",
    partial(after_reasoning, whole=True),
)
