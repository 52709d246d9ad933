"""Which of some names a reply asserts: a mention that is denied, asked or attributed to somebody asserts nothing."""

import re
import unicodedata
from collections.abc import Callable, Iterable

from secondnature.answers import fold, plain

_GAP = r"[^\w\n]{0,3}"  # between the words of a name: "Port-au-Prince", "St. John's", "NDjamena"
_WORDS = r"(?:(?:that|it|it's|its|is|the|capital|city|of|in|be|called|named|necessarily|actually|really|simply)\s+)"
_DENIED_BEFORE = re.compile(
    rf"(?:\bnot|n't|\b(?:is|was)nt|\bnor|\bneither|\bnever|\bno longer|\brather than|\binstead of|\bunlike|\bother than"
    rf"|\bas opposed to|\bcontrary to|\b(?:confused?|confusing|mistaken?|mistaking)(?: it)? (?:with|for))"
    rf"\s+{_WORDS}{{0,6}}\W*$"
    r"|(?:n't|\bnot)\s+(?:think|believe|say|mean|agree)\b[^,.;:!?\n]*$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    r"[^\w.!?\n]*(?:which\s+|that\s+)?(?:is|was|would be|can)\s*(?:actually\s+|simply\s+)?"
    r"(?:(?:n't|nt\b|not\b|never\b)\s*(?:actually\s+|be\s+)?"
    r"(?:[.,;]|$|(?:the |a |in )?(?:\w+ )?(?:capital|correct|right|true|answer|it|case)\b|in\b)"
    r"|\b(?:wrong|incorrect|false|mistaken|a (?:common )?mistake)\b)"
    r"|\W*\((?:incorrect|wrong)\b|[^.!?\n]{0,3}\?",
    re.IGNORECASE,
)
_ATTRIBUTED = re.compile(
    r"(?:(?<!as )\byou|\b(?:the user|people|many|some|friend))\b"
    r"(?:(?!\b(?:but|however|and|while|actually|right|correct)\b)[^,.;:!?\n])*"
    r"\b(?:sa(?:y|ys|id)|th(?:ink|inks|ought|inking)|believe\w*|suggest\w*|mention\w*|claim\w*|propos\w*|assum\w*"
    r"|remember\w*|confus\w+|mixing|guess\w*|heard|bet)\b"
    r"(?:(?!\b(?:but|however|while|actually|right|correct)\b)[^,.;:!?\n])*$"
    r"|\byour (?:guess|answer|opinion|belief|idea|hunch|suggestion|memory|claim|money|bet|friend)\b"
    r"(?:(?!\b(?:but|however|right|correct)\b)[^.;:!?\n])*$",
    re.IGNORECASE,
)
_AGREED = re.compile(
    r"\b(?:you(?:'re| are| were)|that(?:'s| is)|your \w+,?(?: \w+,)? is) (?:(?!not\b)\w+ly )?(?:right|correct)\b",
    re.IGNORECASE,
)
_FINAL = re.compile(r"(?:\bfinal answer(?:\s+is)?\s*:?|^[^\w\n]*answer\s*:)\s*", re.IGNORECASE | re.MULTILINE)


def bare(text: str) -> str:
    """The reply without Markdown and accents, with straight apostrophes."""
    text = re.sub("[\u2018\u2019\u02bb\u02bc\u00b4]", "'", plain(text).replace("_", " "))
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def final_answer(text: str) -> str:
    """The line after the last "final answer:", or all of the text where there is none."""
    marks = list(_FINAL.finditer(text))
    return text[marks[-1].end() :].strip().split("\n")[0] if marks else text


def spelt(key: str) -> str:
    """A regular expression for a folded name, with any few signs between its words."""
    return _GAP.join(map(re.escape, key.split()))


def asserted(
    text: str, named: Iterable[tuple[int, int, str]], beside: Callable[[str, str], bool] = lambda before, after: False
) -> list[str]:
    """The names that a bare text asserts, each once; `named` has (start, end, name) of all mentions.

    Denied, asked and attributed mentions ("not Paris", "Paris?", "you said Paris, but") do not count, nor do those that are
    `beside` the point, given the text before and after them.
    """
    agreed = _AGREED.search(text) is not None
    found: dict[str, str] = {}
    denied_until = -1  # the end of the last denied name: "not Paris or Rome" denies both
    for start, end, name in sorted(named):
        before, after = text[max(0, start - 200) : start], text[end : end + 200]
        chained = denied_until >= 0 and re.fullmatch(r",?\s+n?or\s+", text[denied_until:start])
        if chained or _DENIED_BEFORE.search(before):
            denied_until = end
        elif not (_DENIED_AFTER.match(after) or (_ATTRIBUTED.search(before) and not agreed) or beside(before, after)):
            found[fold(name)] = name
    return list(found.values())
