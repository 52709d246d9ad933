"""Two perturbations for English prompts, as a file of your own: `rename` the people in them, `reorder` their facts.

    verify: {perturb: ["examples/perturbations/english.py:rename", "examples/perturbations/english.py:reorder"]}

Both are word lists and rules of thumb. Read what they made of your prompts before you trust them (`secondnature look`).
"""

import hashlib
import itertools
import re
from dataclasses import dataclass, replace

from secondnature.perturb import Variant, unchanged
from secondnature.perturb.base import changed, digest, moved, with_part
from secondnature.types import Ask, Example, Message

# --- rename
# Given names of many languages, by the pronouns that go with them. None of them is also an English word, a month, a flower or
# a well-known place: "Will", "May", "Rose" or "Paris" would be renamed where they are no names. Names borne by everyone alike
# ("Kim", "Sasha") are left out too.

SHE = """
Aaliyah Agnieszka Aisha Alice Alina Amina Amy Ana Anastasia Anita Anna Anne Annika Astrid Ayesha Barbara Beatriz Begoña Betty
Bianca Birgit Brenda Camila Catherine Chiara Chidinma Chloé Clara Claudia Cynthia Daniela Deborah Diana Ebba Ekaterina Elena
Elif Elizabeth Ellen Emily Emma Eva Fatima Fatoumata Frida Gabriela Giulia Greta Gudrun Hanna Hannah Hatice Heidi Helen Helena
Hiroko Ingrid Irina Jane Jelena Jessica Johanna Julia Julie Karin Katarzyna Kate Katerina Keiko Khadija Laila Lakshmi Larissa
Laura Leila Linda Lisa Lucy Magdalena Margaret Maria Marie Marta Mary Meera Megan Meiling Michelle Mia Miriam Monika Nadia
Nancy Naomi Natalia Ngozi Nina Noémie Olga Olivia Patricia Priya Rachel Rania Rebecca Renée Rosa Sandra Sara Sarah Shreya Sigrid
Sofie Solveig Sonia Sophie Stella Susan Svetlana Tamara Tatiana Teresa Tina Ulrike Valentina Valeria Wanjiru Wendy Xiulan Yasmin
Yelena Zahra Zainab Zanele Zeynep Zoë Zofia Zuzana
""".split()

HE = """
Adam Adebayo Ahmed Alejandro Aleksander Alexei Ali Andrei Andrew André Anthony Arjun Arthur Ashok Ben Benjamin Björn Bob Bogdan
Brian Carlo Charlie Chukwuma Dan Daniel Danilo David Dmitri Eduardo Emeka Emmanuel Enrique Eric Erik Ethan Fabio Farid Filip
Fred George Giovanni Goran Greg Gunnar Gustav Hamza Harold Hassan Henrik Henry Hiroshi Hugo Hussein Ibrahim Igor Ivan Jakub
Jamal Javier Jim Jiri Joe Johann John Jorge José Joseph Joshua Jürgen Kamal Karim Keith Kenji Kevin Khalid Kofi Kwame Leo
Leonardo Liam Lorenzo Luca Łukasz Mahmoud Marek Mateo Matteo Mehmet Michael Miguel Mikhail Mustafa Nikolai Noah Olaf Omar Pablo
Paul Pavel Pedro Peter Philip Pierre Piotr Rafael Rajesh Ravi Ricardo Richard Robert Roberto Rohan Ryan Salman Sanjay Sergei
Simon Stefan Stephen Steve Sven Søren Takeshi Tariq Ted Thabo Tim Tom Tomasz Umar Vikram Viktor Vladimir Walter William Yusuf
Zoltan
""".split()

_GROUP = {name: group for group in (SHE, HE) for name in group}
_ACCENT = "\u0300-\u036f"  # a combining mark makes another letter of the one before
_STRICT = rf"(?<![\w@#/.\-])(?:{{}})(?![\w{_ACCENT}]|[-@/.][^\W_])"
_LOOSE = r"(?<![^\W\d_]){}s?(?![^\W\d_])"  # in any case, with a plural or genitive s, anywhere but inside a word
_TITLE = (
    r"(?:Mr|Mrs|Ms|Dr|Prof|St|Sir|Lady|Lord|King|Queen|Prince|Princess|Emperor|Empress|Tsar|Sultan|Pope|Saint|San|Santa|"
    r"President|Captain|General|Professor|Doctor)\.?"
)
_PARTICLE = r"(?:(?:da|de|del|della|di|du|van|von|der|den|bin|ibn|al|el|la|le|of|the)[ \t]+){0,2}"
_ANY = re.compile(_STRICT.format("|".join(sorted(_GROUP, key=len, reverse=True))))


async def rename(example: Example, ask: Ask) -> Variant | None:
    """The prompt, all its turns, with people's given names replaced by others that go with the same pronouns.

    Assumes that the right answer does not depend on the names themselves: not for tasks about their letters or about what
    is known of a person. A name that may belong to someone known ("Marie Curie", "Queen Anne") stays, and so does one that is
    also written in another way ("anna", "Annas", "@Anna"). None where no name is left to replace.
    """
    whole = "\n\n".join([*(turn.content for turn in example.messages), *example.fields.values()])
    seen = digest(example, "rename")
    new: dict[str, str] = {}
    for name in dict.fromkeys(_ANY.findall(whole)):
        if _is_anyone(name, whole) and (other := _another(name, whole, {*new.values()}, seen)):
            new[name] = other
    if not new:
        return None
    strict = re.compile(_STRICT.format("|".join(sorted(map(re.escape, new), key=len, reverse=True))))

    def renamed(text: str) -> str:
        return strict.sub(lambda found: new[found[0]], text)

    fields = {key: renamed(value) for key, value in example.fields.items()}
    turns = tuple(Message(turn.role, renamed(turn.content)) for turn in example.messages)
    variant = changed(replace(example, messages=turns), turns[-1].content, fields, renamed(example.template))
    old = {replacement: name for name, replacement in new.items()}
    return None if variant is None else Variant(variant, lambda answer: _map_back(answer, old))


def _is_anyone(name: str, whole: str) -> bool:
    """Whether every mention of the name is plainly one person's given name alone, which can be replaced."""
    mentions = re.findall(_STRICT.format(name), whole)
    if len(mentions) != len(re.findall(_LOOSE.format(name), whole, re.IGNORECASE)):
        return False
    if name.endswith("s") and re.search(rf"\b{name}['’](?!s\b)", whole):
        return False  # "Niklas' hat" would need another ending
    followed = re.findall(rf"\b{name}[ \t]+{_PARTICLE}([^\W\d_])", whole)
    titled = rf"\b{_TITLE}[ \t]+{name}\b"
    preceded = rf"[^\s.!?:\"“(][ \t]+[A-Z][\w'’]*[ \t]+{name}\b"  # by a capital letter that begins no sentence
    return not any(map(str.isupper, followed)) and not re.search(rf"{titled}|{preceded}", whole)


def _another(name: str, whole: str, taken: set[str], seen: bytes) -> str | None:
    """A name of the same group that is nowhere in the prompt, not even in a word, and that any model can spell."""
    lower = whole.casefold()
    free = [
        other
        for other in _GROUP[name]
        if other.isascii() and not other.endswith("s") and other.casefold() not in lower and other not in taken
    ]
    return min(free, key=lambda other: hashlib.sha256(seen + name.encode() + other.encode()).digest(), default=None)


def _map_back(answer: str, old: dict[str, str]) -> str:
    names = re.compile(rf"(?<![^\W\d_])(?:{'|'.join(sorted(old, key=len, reverse=True))})(?![^\W\d_])", re.IGNORECASE)

    def original(found: re.Match[str]) -> str:
        name = old[found[0].capitalize()]
        return name.upper() if found[0].isupper() else name.lower() if found[0].islower() else name

    return names.sub(original, answer)


# --- reorder

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
