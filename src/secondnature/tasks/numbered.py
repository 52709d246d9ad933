"""Labels that are the numbers of choices: whether a file's are, and whether they count from 0 or from 1."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from secondnature.answers import KINDS, AnswerKind
from secondnature.tasks.columns import AS_WRITTEN, Columns, is_place
from secondnature.tasks.data import File
from secondnature.tasks.sources import Lines
from secondnature.types import UserError

CHOICE = KINDS["choice"]
_LISTED = re.compile(r"^[A-Z]\) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Label:
    """A label as written, of a row with so many choices (0 where that is not known); `read`: it can be read as it is."""

    written: str
    choices: int
    read: bool
    where: str


def counting_from(labels: Iterable[Label], option: str, notice: Callable[[str], None]) -> int | None:
    """0 or 1 where the labels are numbers of choices, else None.

    They are where all are numbers that some choice may have, and not all can be read as they are: as the text of a choice.
    They count from 0 where one is 0, and from 1 where none is and one is the last choice's. Raises UserError, which names
    the option that decides it, where there is neither.
    """
    zero = last = False
    unread: Label | None = None
    for label in labels:
        if not is_place(label.written) or (label.choices and int(label.written) > label.choices):
            return None
        zero = zero or int(label.written) == 0
        last = last or int(label.written) == label.choices > 0
        unread = unread or (None if label.read else label)
    if unread is None or (zero and last):
        return None
    if not zero and not last:
        raise UserError(
            f"{unread.where}: the answer {unread.written!r} is the number of a choice, but no row tells whether they count "
            f"from 0 or from 1 (none is 0, none is the last one's): set {option} to 0 or 1"
        )
    notice(f"the answers are read as numbers of choices, from {0 if zero else 1}: {'one' if zero else 'none'} is 0")
    return 0 if zero else 1


def counted(
    sources: Iterable[Lines], columns: Columns, kind: AnswerKind, notice: Callable[[str], None] = lambda line: None
) -> Columns:
    """The columns with what numbers as labels count from, where the files tell; for the kind "choice" alone."""
    if kind is not CHOICE or columns.count_from is not None:
        return columns

    def labels() -> Iterable[Label]:
        for source in sources:
            file = File(source, columns, AS_WRITTEN)
            with file.open() as lines:
                for number, line in enumerate(lines):
                    row = file.row(line, number) if line.strip() else None
                    if row is not None and row.label is not None:
                        choices = len(_LISTED.findall(row.example.fields.get("choices", "")))
                        yield Label(row.label, choices, kind.extract(row.example, row.label) is not None, row.where)

    return replace(columns, count_from=counting_from(labels(), "data.count_from", notice))
