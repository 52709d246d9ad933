"""From one row of a user's data to an example: which columns are read, and what is made of them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from string import Formatter, ascii_uppercase
from typing import Any, cast

from secondnature.answers import KINDS, AnswerKind
from secondnature.types import Example, Message, Row, UserError, nearest
from secondnature.untrusted import brief, cut, parse_json

ROLES = ("system", "user", "assistant")
AS_WRITTEN = AnswerKind("text", "a text", lambda _example, text: text.strip() or None, str, "the answer")
_ABSENT = object()


@dataclass(frozen=True)
class Columns:
    """What the columns are called, and what prompts are made of them. Only `prompt`, or a `template`'s, must be there.

    A dot goes into a nested column, and a number into a list: `answers.text.0`. `count_from`: labels that are numbers are
    those of choices, the first of which is 0 or 1. Raises UserError where two columns of the
    template and `fields` would be one field of an example.
    """

    prompt: str = "prompt"
    answer: str = "answer"
    group: str = "group"
    id: str = "id"
    slices: Sequence[str] = ()
    fields: Sequence[str] = ()
    template: str = ""
    system: str = ""
    count_from: int | None = None

    def __post_init__(self) -> None:
        if self.count_from not in (None, 0, 1):
            raise UserError(f"columns.count_from: choices are counted from 0 or from 1, not from {self.count_from!r}")
        named: dict[str, str] = {}
        for field, column in self.field_columns:
            if named.setdefault(field, column) != column:
                raise UserError(
                    f"data.template: the columns {named[field]!r} and {column!r} would both be the field {field!r} of an "
                    "example: give one of them another name in the file"
                )

    @property
    def field_columns(self) -> tuple[tuple[str, str], ...]:
        """An example's fields with the columns that they come from."""
        shown = ((field_name(column), column) for column in template_columns(self.template))
        return (*shown, *((column, column) for column in self.fields))

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns whose texts an example keeps."""
        return tuple(dict.fromkeys(column for _, column in self.field_columns))

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that every row must have."""
        return (*(() if self.template else (self.prompt,)), *self.texts, *self.slices)

    def among(self, names: Sequence[str], where: str) -> list[str]:
        """Those of a table's columns that are read. Raises UserError where one that must be there is not."""
        for name in self.needed:
            if _outermost(name, names) is None:
                raise _no_column(name, names, where)
        read = {_outermost(name, names) for name in (*self.needed, self.answer, self.group, self.id)}
        return [name for name in names if name in read]


def _outermost(name: str, names: Sequence[str]) -> str | None:
    """The table's column that `name` is, or is nested in."""
    return next((known for known in (name, name.partition(".")[0]) if known in names), None)


def _no_column(name: str, known: Sequence[str], where: str) -> UserError:
    listed = cut(", ".join(known), 200) or "none"
    return UserError(f"{where}: no column {brief(name)}{nearest(name, known)}; there are: {listed}")


@cache
def template_columns(template: str) -> tuple[str, ...]:
    """The columns named in a template, each once. Raises UserError where it has more than {name} or {name.inner} fields."""
    names: list[str] = []
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise UserError(f"data.template: {error} (a brace that is no field is doubled: {{{{ or }}}})") from None
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if not name or name.isdecimal() or form or conversion or "[" in name:
            raise UserError(
                f"data.template: a field is a column's name, such as {{question}} or {{answers.text}}, not {{{name}"
                f"{'!' + conversion if conversion else ''}{':' + form if form else ''}}}"
            )
        names.append(name)
    if template and not names:
        raise UserError("data.template: no column is named in it, such as {question}: all prompts would be the same")
    return tuple(dict.fromkeys(names))


def field_name(column: str) -> str:
    """The field that a template's column is in an example: str.format would take a dot for an attribute."""
    return column.replace(".", "_")


@cache
def field_template(template: str) -> str:
    """The template by the fields' names, to be filled by str.format: {answers_text} for the column {answers.text}."""
    parts = [(text, name) for text, name, _, _ in Formatter().parse(template)]
    doubled = str.maketrans({"{": "{{", "}": "}}"})
    return "".join(
        text.translate(doubled) + ("" if name is None else f"{{{field_name(name)}}}") for text, name in parts
    )


def read_row(line: bytes, where: str, columns: Columns, kind: AnswerKind, cells: bool = False) -> Row:
    """The row in a JSON object; its id is empty where it has none.

    `cells`: the columns are cells of text, so that one that begins with "[{" is a conversation. Raises UserError.
    """
    values = _object(line, where)
    for name in columns.needed:
        if _look_up(values, name, _ABSENT) is _ABSENT:
            raise _no_column(name, list(values), where)
    texts = {name: _text(_look_up(values, name), f"{where}: the column {name!r}") for name in columns.texts}
    fields = {field: texts[column] for field, column in columns.field_columns}
    template = field_template(columns.template)
    if template:
        messages = _filled(template, fields, where, template_columns(columns.template))
    else:
        prompt = _look_up(values, columns.prompt)
        messages = messages_of(_conversation(prompt, where) if cells else prompt, where)
    if columns.system:
        if messages[0].role == "system":
            raise UserError(f"{where}: the prompt has a system message of its own: remove it, or data.system")
        messages = (Message("system", columns.system), *messages)
    identifier, group = _named(_look_up(values, columns.id)), _named(_look_up(values, columns.group))
    example = Example(identifier or "", messages, fields, template)
    slices = tuple(f"{name}={_look_up(values, name)}" for name in columns.slices)
    answer = _label_of(_look_up(values, columns.answer), example, where, columns, kind)
    return Row(example, answer, digest(messages) if group is None else group, slices, where)


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        loaded = parse_json(line.decode())
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 text ({error.reason} at byte {error.start} of the row)") from None
    except ValueError as error:
        raise UserError(f"{where}: broken JSON ({error})") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{where}: a row must be a JSON object, this is a {type(loaded).__name__}")
    return cast("dict[str, Any]", loaded)


def _look_up(values: dict[str, Any], name: str, absent: object = None) -> object:
    if name in values:
        return values[name]
    found: Any = values
    for part in name.split("."):
        if isinstance(found, dict) and part in found:
            found = cast("dict[str, Any]", found)[part]
        elif isinstance(found, list) and is_place(part) and int(part) < len(cast("list[Any]", found)):
            found = cast("list[Any]", found)[int(part)]
        else:
            return absent
    return found


def _named(value: object) -> str | None:
    """An id or a group; an empty text, as an empty cell is, means that there is none."""
    return None if value is None or value == "" else str(value)


def _text(value: object, what: str) -> str:
    """A column as a prompt shows it: a list of texts or numbers as lettered lines, nothing for a null."""
    if value is None:
        return ""
    if isinstance(value, list):
        items = cast("list[object]", value)
        if not any(isinstance(item, dict | list) for item in items):
            if len(items) > len(ascii_uppercase):
                raise UserError(f"{what} has {len(items)} items, more than there are letters for")
            return "\n".join(f"{letter}) {item}" for letter, item in zip(ascii_uppercase, items, strict=False))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _filled(template: str, fields: Mapping[str, str], where: str, shown: Sequence[str]) -> tuple[Message, ...]:
    if not any(fields[field_name(column)].strip() for column in shown):
        raise UserError(f"{where}: the prompt is empty: nothing is in {', '.join(shown)}")
    return (Message("user", template.format(**fields)),)


def _conversation(prompt: object, where: str) -> object:
    """The messages in a cell that begins as a list of messages does, and any other cell as it is."""
    if not isinstance(prompt, str) or not prompt.lstrip().startswith("[{"):
        return prompt
    try:
        return parse_json(prompt)
    except ValueError as error:
        raise UserError(
            f"{where}: a prompt that begins with [{{ is read as a list of messages, but this is broken JSON ({error}); "
            "a text that begins so can be given in JSON Lines"
        ) from None


def messages_of(prompt: object, where: str) -> tuple[Message, ...]:
    """The conversation that a text or a list of messages is. Raises UserError, which begins with `where`."""
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
            raise UserError(f"{where}: unknown role {brief(role)}; a role is {', '.join(ROLES)}")
        if not isinstance(content, str) or not content.strip():
            raise UserError(f"{where}: a message's content must be a text that is not empty")
        messages.append(Message(role, content))
    if messages[-1].role != "user":
        raise UserError(f"{where}: the last message of a prompt must be the user's")
    return tuple(messages)


def _label_of(value: object, example: Example, where: str, columns: Columns, kind: AnswerKind) -> str | None:
    """The label, extracted as from a reply. Raises UserError where it cannot be: it would score every system 0."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool):
        value = "yes" if value else "no"
    value = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
    if columns.count_from is not None and kind is KINDS["choice"] and is_place(value):
        place = int(value) - columns.count_from
        answer = kind.extract(example, ascii_uppercase[place]) if 0 <= place < len(ascii_uppercase) else None
    else:
        answer = kind.extract(example, value)
    if answer is None:
        raise UserError(
            f"{where}: the {columns.answer!r} {value[:60]!r} cannot be read as {kind.name} ({kind.description})"
        )
    return answer


def is_place(text: str) -> bool:
    """Whether a text is a number that something in a list may have."""
    return text.isdecimal() and len(text) < 10


def digest(messages: Sequence[Message]) -> str:
    """The id of a prompt that has none."""
    content = json.dumps([message.as_dict() for message in messages], ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
