"""A user's own prompts: JSON Lines files with a prompt and, where measuring is wanted, an answer, a group and slices."""

import hashlib
import json
from array import array
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast, overload
from zlib import crc32

from secondnature.tasks.answers import AnswerKind
from secondnature.types import Example, Message, Parts, Row, UserError, nearest

ROLES = ("system", "user", "assistant")
CARVED = {"dev": 0.1, "test": 0.2}  # the share of the training groups that a part without a file gets


@dataclass(frozen=True)
class Columns:
    """What the columns of a file are called. Only `prompt` must be there."""

    prompt: str = "prompt"
    answer: str = "answer"
    group: str = "group"
    id: str = "id"
    slices: Sequence[str] = ()
    fields: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class File:
    """A data file that was read through once: where each line begins, its checksum, the digest of its row's group.

    With the row numbers of `Rows` that makes 24 bytes a line, however long the prompts are.
    """

    path: Path
    columns: Columns
    kind: AnswerKind
    starts: "array[int]" = field(default_factory=lambda: array("Q"))
    checks: "array[int]" = field(default_factory=lambda: array("I"))
    groups: "array[int]" = field(default_factory=lambda: array("Q"))
    copies: dict[int, int] = field(
        default_factory=dict[int, int]
    )  # a prompt without an id that comes again: which time

    def open(self) -> BinaryIO:
        if not self.path.is_file():
            raise UserError(f"data: there is no file {self.path}")
        return self.path.open("rb")

    def row(self, line: bytes, number: int) -> Row:
        """The row in line `number`, counted from 0."""
        where = f"{self.path}, row {number + 1}"
        row = _row(line.removeprefix(BOM_UTF8) if number == 0 else line, where, self.columns, self.kind)
        name = row.example.id or _digest(row.example.messages)
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
                        f"{self.file.path}, row {number + 1}: changed while it was in use: run the same command again"
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
    files: dict[str, Path], columns: Columns, kind: AnswerKind, notice: Callable[[str], None] = lambda line: None
) -> Parts:
    """Read the files of `train`, `dev` and `test`; a part without a file is carved from train, by group.

    Training rows whose group is in dev or test are left out, with a notice. Raises UserError naming file and row.
    """
    parts = {name: read_file(path, columns, kind) for name, path in files.items()}
    for name in ("test", "dev"):
        if name not in parts:
            parts[name], parts["train"] = parts["train"].split(partial(_is_carved, name))
            notice(f"no {name} file: {len(parts[name])} rows of train, split by group, are kept for {name}")
    held_out = parts["dev"].groups() | parts["test"].groups()
    left_out, train = parts["train"].split(held_out.__contains__)
    if left_out:
        notice(f"{len(left_out)} training rows are left out: their group (or the same prompt) is in dev or test")
    if not train:
        raise UserError(f"{files['train']}: no training rows are left after the split by group")
    return Parts(train, parts["dev"], parts["test"])


def _is_carved(part: str, group: int) -> bool:
    """Whether a group goes to `part`: a fixed number decides, so that a split does not change with the other rows."""
    return _number(f"{part}:{group}") / 2**64 < CARVED[part]


def _number(text: str) -> int:
    """64 bits that stand for a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def read_file(path: Path, columns: Columns, kind: AnswerKind) -> Rows:
    """The rows of a JSON Lines file, each read once to see that it can be.

    Raises UserError for the first row that cannot be read, with its number.
    """
    file, lines = File(path, columns, kind), array("I")
    seen: set[int] = set()  # the ids' hashes: about 70 bytes a row, while the file is read
    copies: dict[str, int] = {}
    start = 0
    with file.open() as source:
        for number, line in enumerate(source):
            file.starts.append(start)
            file.checks.append(crc32(line))
            start += len(line)
            if not line.strip():
                file.groups.append(0)
                continue
            row = file.row(line, number)
            name = row.example.id
            if hash(name) in seen:
                if name == _digest(row.example.messages):
                    copies[name] = file.copies[number] = copies.get(name, 1) + 1
                    name = f"{name}-{copies[name]}"
                else:
                    first = next((r.where for r in Rows(file, lines) if r.example.id == name), None)
                    raise UserError(f"{row.where}: the id {name!r} is already that of {first}")
            seen.add(hash(name))
            file.groups.append(_number(row.group))
            lines.append(number)
    if not lines:
        raise UserError(f"{path}: no rows")
    return Rows(file, lines)


def _row(line: bytes, where: str, columns: Columns, kind: AnswerKind) -> Row:
    """The row in a line; its id is empty where it has none."""
    try:
        loaded: object = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 text ({error.reason} at byte {error.start} of the row)") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: broken JSON ({error.msg} at column {error.colno})") from None
    try:
        json.dumps(loaded, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: half a character (a lone surrogate such as \\ud800), which is no text") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{where}: a row must be a JSON object, this is a {type(loaded).__name__}")
    values = cast("dict[str, Any]", loaded)
    if columns.prompt not in values:
        raise UserError(
            f"{where}: no column {columns.prompt!r}{nearest(columns.prompt, values)}; there are: {', '.join(values)}"
        )
    for name in (*columns.slices, *columns.fields):
        if name not in values:
            raise UserError(f"{where}: no column {name!r}{nearest(name, values)}")
    messages = _messages(values[columns.prompt], where)
    fields = {name: str(values[name]) for name in columns.fields}
    identifier = values.get(columns.id)
    example = Example("" if identifier is None else str(identifier), messages, fields)
    group = values.get(columns.group)
    slices = tuple(f"{name}={values[name]}" for name in columns.slices)
    answer = _gold(values.get(columns.answer), example, where, columns.answer, kind)
    return Row(example, answer, _digest(messages) if group is None else str(group), slices, where)


def _messages(prompt: object, where: str) -> tuple[Message, ...]:
    if isinstance(prompt, str):
        if not prompt.strip():
            raise UserError(f"{where}: the prompt is empty")
        return (Message("user", prompt),)
    if not isinstance(prompt, list) or not prompt:
        raise UserError(f"{where}: a prompt is a text or a list of messages")
    messages: list[Message] = []
    for turn in cast("list[Any]", prompt):
        keys = cast("dict[str, Any]", turn) if isinstance(turn, dict) else {}
        if not {"role", "content"} <= keys.keys():
            raise UserError(f"{where}: each message of a prompt needs a role and a content")
        role, content = keys["role"], keys["content"]
        if role not in ROLES:
            raise UserError(f"{where}: unknown role {role!r}; a role is {', '.join(ROLES)}")
        if not isinstance(content, str) or not content.strip():
            raise UserError(f"{where}: a message's content must be a text that is not empty")
        messages.append(Message(role, content))
    if messages[-1].role != "user":
        raise UserError(f"{where}: the last message of a prompt must be the user's")
    return tuple(messages)


def _gold(value: object, example: Example, where: str, column: str, kind: AnswerKind) -> str | None:
    """The label, read as a reply would be: a label that cannot be read would score every system 0."""
    if value is None:
        return None
    if isinstance(value, bool):
        value = "yes" if value else "no"
    answer = kind.read(example, str(value))
    if answer is None:
        raise UserError(
            f"{where}: the {column!r} {str(value)[:60]!r} cannot be read as {kind.name} ({kind.description})"
        )
    return answer


def _digest(messages: Sequence[Message]) -> str:
    content = json.dumps([message.as_dict() for message in messages], ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
