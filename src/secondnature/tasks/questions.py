"""Questions with answers, and maybe choices, from a user's files: what the tasks over such files are made from."""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from string import Formatter, ascii_uppercase
from typing import Any, cast

from secondnature.tasks.answers import AnswerKind
from secondnature.tasks.columns import Columns
from secondnature.tasks.data import load_parts
from secondnature.tasks.draws import shuffled
from secondnature.tasks.sources import as_lines
from secondnature.tasks.tables import Dataset
from secondnature.types import Row, UserError, nearest

Data = str | dict[str, str | Dataset]  # a file to carve the parts from, or the files or datasets of train, dev and test
PARTS = ("train", "dev", "test")
AS_WRITTEN = AnswerKind("text", "a text", lambda _example, text: text.strip() or None, str)
_LETTERED = re.compile(r"\(?([A-Z])[).:]\s+(\S.*)")

_OF_OTHERS = re.compile(r"\b(?:all|none|both|neither|any)\b.*\b(?:above|these|those|them)\b|\b[A-Z] (?:and|or) [A-Z]\b")


@dataclass(frozen=True, slots=True)
class Question:
    """A row whose last turn asks, with its choices, if any, in the file's order."""

    row: Row
    choices: tuple[str, ...]

    @property
    def answer(self) -> str | None:
        """The answer; with choices the one that is meant, by its text or its letter. Raises UserError where there is none."""
        answer = self.row.answer
        if answer is None or not self.choices or answer in self.choices:
            return answer
        as_choice = _one_line(answer).casefold()
        by_letter = dict(zip(ascii_uppercase, self.choices, strict=False))
        if meant := [choice for choice in self.choices if choice.casefold() == as_choice]:
            return meant[0]
        if letter := by_letter.get(answer.strip("(). ").upper()):
            return letter
        raise UserError(
            f"{self.row.where}: the answer {answer[:60]!r} is not among the choices: {', '.join(self.choices)}"
        )


@dataclass(frozen=True, slots=True)
class Files:
    """The rows of each part, what is to be said of how they were split, and what exactly was read."""

    rows: dict[str, Sequence[Row]]
    notices: Sequence[str]
    version: str


def read_rows(data: Data, columns: Mapping[str, Any], needed: Sequence[str], cache: Path) -> Files:
    """The rows of `data`, whose fields have the columns `needed`; `cache` is for what has to be converted.

    Raises UserError naming file and row.
    """
    given = {"train": data} if isinstance(data, str) else data
    for name in given:
        if name not in PARTS:
            raise UserError(
                f"task.data: there is no part {name!r}{nearest(name, PARTS)}; there are: {', '.join(PARTS)}"
            )
    if "train" not in given:
        raise UserError("task.data: train is missing: data: {train: my.jsonl}")
    known = [field.name for field in fields(Columns)]
    for name in columns:
        if name not in known:
            raise UserError(f"task.columns: there is no {name!r}{nearest(name, known)}; there are: {', '.join(known)}")
    named = Columns(**columns)
    named = replace(named, fields=(*named.fields, *needed))
    notices: list[str] = []
    sources = {
        part: as_lines(Path(source) if isinstance(source, str) else source, named, cache, notices.append)
        for part, source in given.items()
    }
    parts = load_parts(sources, named, AS_WRITTEN, notices.append)
    version = "; ".join(dict.fromkeys(lines.version for lines in sources.values() if lines.version))
    return Files({"train": parts.train, "dev": parts.dev, "test": parts.test}, notices, version)


def questions_of(files: Files, column: str | None) -> dict[str, list[Question]]:
    """The rows as questions, with the choices in a column, if any."""
    return {part: [_question(row, column) for row in rows] for part, rows in files.rows.items()}


def drawn_order(one: Question) -> list[str]:
    """The choices in an order that tells nothing; in the file's where one of them speaks of others ("none of the above")."""
    told = any(_OF_OTHERS.search(choice) for choice in one.choices)
    return list(one.choices) if told else shuffled(one.choices, "choices", one.row.example.text)


def lettered(choices: Sequence[str]) -> str:
    """The choices as lines "A) ...", "B) ..."."""
    return "\n".join(f"{letter}) {choice}" for letter, choice in zip(ascii_uppercase, choices, strict=False))


def check_template(template: str, names: Sequence[str]) -> None:
    """Raises UserError where a template does not show all of the fields, or shows others."""
    try:
        shown = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise UserError(f"task.template: {error} (a brace that is no field is doubled: {{{{ or }}}})") from None
    if shown != set(names):
        raise UserError(f"task.template: it must show {', '.join(f'{{{name}}}' for name in names)} and no other field")


def with_gold(row: Row, kind: AnswerKind) -> Row:
    """The row with its label read as a reply would be. Raises UserError where it cannot be: it would score every system 0."""
    if row.answer is None:
        return row
    answer = kind.read(row.example, row.answer)
    if answer is None:
        raise UserError(
            f"{row.where}: the answer {row.answer[:60]!r} cannot be read as {kind.name} ({kind.description})"
        )
    return replace(row, answer=answer)


def _question(row: Row, column: str | None) -> Question:
    choices = () if column is None else _choices(row.example[column], row.where)
    kept = {name: value for name, value in row.example.fields.items() if name != column}
    return Question(replace(row, example=replace(row.example, fields=kept)), choices)


def _choices(text: str, where: str) -> tuple[str, ...]:
    """The choices in a column, which is a list, or lines, which may be lettered; none where it is empty."""
    if not text.strip():
        return ()
    try:
        loaded: object = ast.literal_eval(text) if text.startswith("[") else text.splitlines()
    except (SyntaxError, ValueError):
        loaded = text.splitlines()
    choices = [_one_line(str(choice)) for choice in cast("list[object]", loaded)]
    labels = [_LETTERED.fullmatch(choice) for choice in choices]
    if all(labels) and "".join(label[1] for label in labels if label) == ascii_uppercase[: len(choices)]:
        choices = [label[2] for label in labels if label]
    if len(choices) > len(ascii_uppercase):
        raise UserError(f"{where}: {len(choices)} choices are more than there are letters for")
    if len({choice.casefold() for choice in choices}) < max(2, len(choices)) or not all(choices):
        raise UserError(f"{where}: choices must be two or more, all different and not empty: {', '.join(choices)}")
    return tuple(choices)


def _one_line(text: str) -> str:
    return " ".join(text.split())
