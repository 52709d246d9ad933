"""Give the people in a prompt other names."""

import hashlib
import re
from dataclasses import replace

from secondnature.types import Ask, Example, Message
from secondnature.verify.perturb.names import HE, SHE
from secondnature.verify.perturb.variant import Variant, changed, digest

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
