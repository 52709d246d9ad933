"""Text that a model or a stranger wrote, made safe in Markdown: it can be neither markup nor a table's edge."""

import re
from collections.abc import Iterable, Sequence

SPECIAL = re.compile(r"[\\`*_{}\[\]|~$^@]|:(?=//)|(?<=www)\.|^[#+=-]|^\d+(?=[.)] )", re.IGNORECASE)
LONGEST = 160


def cell(text: str, longest: int = LONGEST) -> str:
    """One line of plain text, cut at `longest` characters."""
    plain = " ".join(re.sub(r"[\x00-\x1f\x7f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", " ", text).split())
    plain = plain if len(plain) <= longest else plain[: longest - 1] + "…"
    escaped = SPECIAL.sub(_escape, plain.replace("&", "&amp;"))
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


def _escape(found: re.Match[str]) -> str:
    """A backslash before a sign; a number that would begin a list gets an invisible word joiner before it."""
    return ("&#8288;" if found[0].isdigit() else "\\") + found[0]


def fenced(text: str, language: str = "") -> str:
    """A block shown as it is: its fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already; all columns but the first are flush right."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
