"""A user's own prompts: JSON Lines files with a prompt and, where measuring is wanted, an answer, a group and slices."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

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


def load_parts(
    files: dict[str, Path], columns: Columns, kind: AnswerKind, notice: Callable[[str], None] = lambda line: None
) -> Parts:
    """Read the files of `train`, `dev` and `test`; a part without a file is carved from train, by group.

    Training rows whose group is in dev or test are left out, with a notice. Raises UserError naming file and row.
    """
    parts = {name: read_file(path, columns, kind) for name, path in files.items()}
    for name in ("test", "dev"):
        if name not in parts:
            parts[name] = [row for row in parts["train"] if _share(row.group, name) < CARVED[name]]
            groups = {row.group for row in parts[name]}
            parts["train"] = [row for row in parts["train"] if row.group not in groups]
            notice(f"no {name} file: {len(parts[name])} rows of train, split by group, are kept for {name}")
    held_out = {row.group for name in ("dev", "test") for row in parts[name]}
    train = [row for row in parts["train"] if row.group not in held_out]
    if left_out := len(parts["train"]) - len(train):
        notice(f"{left_out} training rows are left out: their group (or the same prompt) is in dev or test")
    if not train:
        raise UserError(f"{files['train']}: no training rows are left after the split by group")
    return Parts(train, parts["dev"], parts["test"])


def _share(group: str, part: str) -> float:
    """A fixed number in [0, 1) for a group, so that a split does not change with the other rows."""
    return int.from_bytes(hashlib.sha256(f"{part}:{group}".encode()).digest()[:8]) / 2**64


def read_file(path: Path, columns: Columns, kind: AnswerKind) -> list[Row]:
    """The rows of a JSON Lines file. Raises UserError for the first row that cannot be read, with its number."""
    if not path.is_file():
        raise UserError(f"data: there is no file {path}")
    rows: list[Row] = []
    seen: dict[str, int] = {}
    copies: dict[str, int] = {}
    with path.open(encoding="utf-8-sig", errors="strict") as file:
        try:
            lines = list(file)
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, row {number}"
        row = _row(line, where, columns, kind)
        if not row.example.id:  # no id column: the digest of the prompt, numbered where the prompt comes again
            digest = _digest(row.example.messages)
            copies[digest] = copies.get(digest, 0) + 1
            name = digest if copies[digest] == 1 else f"{digest}-{copies[digest]}"
            row = replace(row, example=replace(row.example, id=name))
        if row.example.id in seen:
            raise UserError(f"{where}: the id {row.example.id!r} is already that of row {seen[row.example.id]}")
        seen[row.example.id] = number
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: no rows")
    return rows


def _row(line: str, where: str, columns: Columns, kind: AnswerKind) -> Row:
    try:
        loaded: object = json.loads(line)
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
