"""Let statements that do not build on each other change places."""

import itertools
import re
from dataclasses import dataclass

from secondnature.types import Ask, Example
from secondnature.verify.perturb.variant import Variant, digest, moved, unchanged, with_part

_BREAK = re.compile(r"(?<=[.!?])[ \t]+(?=[^\W\d_a-z])")
_ABBREVIATED = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|No|[A-Z])|\b[a-z](?:\.[a-z])+)\.$")
_LISTED = re.compile(r"\s*(?:[-*•+>|#]|\(?\w{1,2}[.):]\s)")
_STATES = frozenset(
    """is are was were has have had isn't aren't hasn't owns own costs cost weighs weigh contains contain holds hold lives live
    likes like loves love prefers prefer needs need knows know speaks speak earns earn works work measures measure belongs
    belong consists consist means mean""".split()
)
_EVENT = re.compile(
    r"\b(?:is|are|was|were|has|have|had)\s+(?:not\s+|just\s+)?(?:\w+ly\s+)?"
    r"(?:\w{2,}(?:ed|ing)|given|eaten|taken|made|sold|bought|lost|found|gone|put|got|become|left|spent|won|built|cut|come|run)\b",
    re.IGNORECASE,
)
_LEANS = frozenset(  # on what was said before
    """he him his she her hers it its they them their theirs himself herself itself themselves this that these those such same
    other others another both either neither former latter respectively also too so thus therefore hence however instead
    otherwise else one ones rest remaining remainder left again still already yet more there here""".split()
)
_TIMES = frozenset(
    """then after afterwards before next later first second third finally last lastly now when while until since once
    yesterday today tomorrow soon earlier previously initially originally meanwhile eventually suddenly begin begins start
    starts end ends""".split()
)
_OPENS = frozenset("and but or nor so yet".split())
_EXISTS = re.compile(
    r"\bthere (?:is|are|was|were)\b|\b(?:is|are|was|were) there\b", re.IGNORECASE
)  # this "there" is no place
_COUNTS = frozenset("one two three four five six seven eight nine ten eleven twelve some many few none several".split())


@dataclass(frozen=True, slots=True)
class _Sentence:
    text: str
    start: int
    end: int
    leans: bool  # on an earlier one
    moves: bool


async def reorder(example: Example, ask: Ask) -> Variant | None:
    """The prompt with neighbouring statements of its last turn in another order; None where fewer than two can move.

    For English prompts that state facts and then ask. A sentence moves if it says how something is (not what happens) and
    has no word that points back ("he", "this", "then", "the box" of a box named before), no time, no quotation; only among
    such neighbours on its line. The last sentence stays, and the one before a sentence that points back; so does the first if
    any but the last points back. Assumes that statements so chosen hold all at once. A judge's answers are left alone.
    """
    sentences = _sentences(example.text)
    for run in _runs(example.text, sentences):
        order = moved(len(run), digest(example, "reorder"))
        old = example.text[run[0].start : run[-1].end]
        if any(old in value for name, value in example.fields.items() if name.startswith("answer")):
            continue
        spaces = [example.text[a.end : b.start] for a, b in itertools.pairwise(run)]
        new = "".join(run[n].text + space for n, space in zip(order, [*spaces, ""], strict=True))
        if new != old and (variant := with_part(example, old, new)) is not None:
            return Variant(variant, unchanged)
    return None


def _sentences(text: str) -> list[_Sentence]:
    found: list[_Sentence] = []
    said: set[str] = set()  # the words of the sentences before
    start = 0
    for line in text.splitlines(keepends=True):
        for first, last in _spans(line):
            sentence = line[first:last]
            words = re.findall(r"[\w'’]+", _EXISTS.sub("are", sentence).casefold().replace("’", "'"))
            leans = _leans(sentence, words, said)
            moves = not leans and not _LISTED.match(line) and _is_statement(sentence, words)
            found.append(_Sentence(sentence, start + first, start + last, leans, moves))
            said.update(words)
        start += len(line)
    return found


def _spans(line: str) -> list[tuple[int, int]]:
    """Where the sentences of a line begin and end, without the white space between them."""
    ends = [0]
    for found in _BREAK.finditer(line):
        if not _ABBREVIATED.search(line[: found.start()]):
            ends += [found.start(), found.end()]
    ends.append(len(line.rstrip()))
    first = len(line) - len(line.lstrip())
    ends[0] = first
    return [(a, b) for a, b in zip(ends[::2], ends[1::2], strict=True) if a < b]


def _leans(sentence: str, words: list[str], said: set[str]) -> bool:
    if not words or words[0] in _OPENS or not _LEANS.isdisjoint(words) or not _TIMES.isdisjoint(words):
        return True
    if words[-1] in _COUNTS or words[-1].isdigit():
        return True  # "Ann has 5": of what was said before
    known = re.findall(r"\bthe\s+(\w+)(?:\s+(\w+))?", sentence.casefold())
    return any(word in said for pair in known for word in pair)


def _is_statement(sentence: str, words: list[str]) -> bool:
    plain = sentence.endswith(".") and not re.search(r"[\"“”«»:;?!]|\bif\b", sentence)
    return plain and len(words) > 2 and not _STATES.isdisjoint(words[1:]) and not _EVENT.search(sentence)


def _runs(text: str, sentences: list[_Sentence]) -> list[list[_Sentence]]:
    """Neighbours on a line that may change places with each other."""
    runs: list[list[_Sentence]] = [[]]
    for number, sentence in enumerate(sentences[:-1]):
        first_is_needed = number == 0 and any(later.leans for later in sentences[1:-1])
        if not sentence.moves or first_is_needed or sentences[number + 1].leans:
            runs.append([])
            continue
        if runs[-1] and "\n" in text[runs[-1][-1].end : sentence.start]:
            runs.append([])
        runs[-1].append(sentence)
    return [run for run in runs if len(run) > 1]
