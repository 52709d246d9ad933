"""A user's own prompts: a prompt a row and, where measuring is wanted, an answer, a group and slices."""

import hashlib
from array import array
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import BinaryIO, overload
from zlib import crc32

from secondnature.answers import KINDS, AnswerKind, lettered_options
from secondnature.tasks.columns import AS_WRITTEN, Columns, digest, is_place, read_row
from secondnature.tasks.sources import Lines
from secondnature.types import Row, Splits, UserError

CHOICE = KINDS["choice"]
CARVED = {"dev": 0.1, "test": 0.2}  # the share of the training groups that a part without a file gets


@dataclass(frozen=True, eq=False)
class File:
    """A data file that was read through once: where each line begins, its checksum, the digest of its row's group.

    With the row numbers of `Rows` that makes 24 bytes a line, however long the prompts are.
    """

    source: Lines
    columns: Columns
    kind: AnswerKind
    starts: "array[int]" = field(default_factory=lambda: array("Q"))
    checks: "array[int]" = field(default_factory=lambda: array("I"))
    groups: "array[int]" = field(default_factory=lambda: array("Q"))
    copies: dict[int, int] = field(
        default_factory=dict[int, int]
    )  # a prompt without an id that comes again: which time

    def open(self) -> BinaryIO:
        try:
            return self.source.path.open("rb")
        except FileNotFoundError:
            raise UserError(f"data: there is no file {self.source.path} any more: run the same command again") from None

    def row(self, line: bytes, number: int) -> Row:
        """The row in line `number`, counted from 0."""
        line = line.removeprefix(BOM_UTF8) if number == 0 else line
        row = read_row(line, self.source.where(number), self.columns, self.kind, self.source.cells)
        name = row.example.id or digest(row.example.messages)
        copy = self.copies.get(number, 1)
        return replace(row, example=replace(row.example, id=name if copy == 1 else f"{name}-{copy}"))


@dataclass(frozen=True, eq=False)
class Rows(Sequence[Row]):
    """Some lines of a file as rows, which are read from it whenever they are asked for."""

    file: File
    lines: "array[int]"

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[Row]:
        with self.file.open() as source:
            for number in self.lines:
                source.seek(self.file.starts[number])
                line = source.readline()
                if crc32(line) != self.file.checks[number]:
                    raise UserError(
                        f"{self.file.source.where(number)}: changed while it was in use: run the same command again"
                    )
                yield self.file.row(line, number)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "Rows": ...
    def __getitem__(self, index: int | slice) -> "Row | Rows":
        if isinstance(index, slice):
            return Rows(self.file, self.lines[index])
        [row] = Rows(self.file, array("I", [self.lines[index]]))
        return row

    def groups(self) -> set[int]:
        return {self.file.groups[number] for number in self.lines}

    def split(self, wanted: Callable[[int], bool]) -> "tuple[Rows, Rows]":
        """The rows whose group's digest is `wanted`, and the others."""
        taken, rest = array("I"), array("I")
        for number in self.lines:
            (taken if wanted(self.file.groups[number]) else rest).append(number)
        return Rows(self.file, taken), Rows(self.file, rest)


def load_parts(
    sources: Mapping[str, Lines], columns: Columns, kind: AnswerKind, notice: Callable[[str], None] = lambda line: None
) -> Splits:
    """Read what `train`, `dev` and `test` come from; a part without a source is carved from train, by group.

    Training rows whose group is in dev or test are left out, with a notice. Raises UserError naming file and row.
    """
    parts = {name: read_lines(source, columns, kind) for name, source in sources.items()}
    for name in ("test", "dev"):
        if name not in parts:
            parts[name], parts["train"] = parts["train"].split(partial(_is_carved, name))
            notice(f"no {name} data: {len(parts[name])} rows of train, split by group, are kept for {name}")
    held_out = parts["dev"].groups() | parts["test"].groups()
    left_out, train = parts["train"].split(held_out.__contains__)
    if left_out:
        notice(f"{len(left_out)} training rows are left out: their group (or the same prompt) is in dev or test")
    if not train:
        raise UserError(f"{sources['train'].name}: no training rows are left after the split by group")
    return Splits(train, parts["dev"], parts["test"])


def _is_carved(part: str, group: int) -> bool:
    """Whether a group goes to `part`: a fixed number decides, so that a split does not change with the other rows."""
    return _number(f"{part}:{group}") / 2**64 < CARVED[part]


def _number(text: str) -> int:
    """64 bits that stand for a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def read_lines(source: Lines, columns: Columns, kind: AnswerKind) -> Rows:
    """The rows of a source, each read once to see that it can be.

    Raises UserError for the first row that cannot be read, with its number.
    """
    file, lines = File(source, columns, kind), array("I")
    seen: set[int] = set()  # the ids' hashes: about 70 bytes a row, while the file is read
    copies: dict[str, int] = {}
    start = 0
    with file.open() as opened:
        for number, line in enumerate(opened):
            file.starts.append(start)
            file.checks.append(crc32(line))
            start += len(line)
            if not line.strip():
                file.groups.append(0)
                continue
            row = file.row(line, number)
            name = row.example.id
            if hash(name) in seen:
                if name == digest(row.example.messages):
                    copies[name] = file.copies[number] = copies.get(name, 1) + 1
                    name = f"{name}-{copies[name]}"
                else:
                    first = next((r.where for r in Rows(file, lines) if r.example.id == name), None)
                    raise UserError(f"{row.where}: the id {name!r} is already that of {first}")
            seen.add(hash(name))
            file.groups.append(_number(row.group))
            lines.append(number)
    if not lines:
        raise UserError(f"{source.name}: no rows")
    return Rows(file, lines)


# --- labels that are the numbers of choices: whether a file's are, and whether they count from 0 or from 1


@dataclass(frozen=True, slots=True)
class Label:
    """A label as written, of a row with so many choices (0 where that is not known); `read`: it can be read as it is."""

    written: str
    choices: int
    read: bool
    where: str


def counting_from(labels: Iterable[Label], option: str, notice: Callable[[str], None]) -> int | None:
    """0 or 1 where the labels are numbers of choices, else None.

    They are if every label is an integer from 0 to the number of choices, and at least one is not the text of a choice. They
    count from 0 if one is 0, and from 1 if none is and one is the last choice's. Raises UserError, which names the option
    that decides it, where the labels do not tell.
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
                        choices = len(lettered_options(row.example.fields.get("choices", "")))
                        yield Label(row.label, choices, kind.extract(row.example, row.label) is not None, row.where)

    return replace(columns, count_from=counting_from(labels(), "data.count_from", notice))
