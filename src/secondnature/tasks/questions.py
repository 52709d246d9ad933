"""Questions with answers, and maybe choices, from a user's files: what the tasks over such files are made from."""

import ast
import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any, cast

from secondnature.answers import AnswerKind
from secondnature.tasks.base import shuffled
from secondnature.tasks.columns import AS_WRITTEN, Columns, is_place
from secondnature.tasks.data import Label, counting_from, load_parts
from secondnature.tasks.sources import Dataset, as_lines
from secondnature.types import Row, Splits, UserError, lookup
from secondnature.untrusted import parse_json

Data = str | dict[str, str | Dataset]  # a file to carve the parts from, or the files or datasets of train, dev and test
PARTS = ("train", "dev", "test")
_LETTERED = re.compile(r"\(?([A-Z])[).:]\s+(\S.*)")

_OF_OTHERS = re.compile(r"\b(?:all|none|both|neither|any)\b.*\b(?:above|these|those|them)\b|\b[A-Z] (?:and|or) [A-Z]\b")


@dataclass(frozen=True, slots=True)
class Question:
    """A row whose last turn asks, with its choices, if any, in the file's order.

    `labels` are what the file calls them; `count_from` is the first one's number where answers are numbers of choices.
    """

    row: Row
    choices: tuple[str, ...]
    labels: tuple[str, ...] = ()
    count_from: int | None = None

    @property
    def answer(self) -> str | None:
        """The answer; with choices the one that is meant, by its label, number, text or letter.

        Raises UserError where there is none.
        """
        answer = self.row.label
        if answer is None or not self.choices:
            return answer
        if self.count_from is not None and is_place(answer):
            place = int(answer) - self.count_from
            meant = self.choices[place] if 0 <= place < len(self.choices) else None
        else:
            meant = self.by_name(answer)
        if meant is not None:
            return meant
        raise UserError(
            f"{self.row.where}: the answer {answer[:60]!r} is not among the choices: {', '.join(self.choices)}"
        )

    def by_name(self, answer: str) -> str | None:
        """The choice whose label, text or letter the answer is."""
        if answer in self.labels:
            return self.choices[self.labels.index(answer)]
        as_choice = _one_line(answer).casefold()
        if found := [choice for choice in self.choices if choice.casefold() == as_choice]:
            return answer if answer in found else found[0]
        return dict(zip(ascii_uppercase, self.choices, strict=False)).get(answer.strip("(). ").upper())


@dataclass(frozen=True, slots=True)
class Files:
    """The rows of each part, notices on how they were read, and the version of what was read."""

    rows: dict[str, Sequence[Row]]
    notices: list[str]
    version: str
    count_from: int | None


def read_rows(data: Data, columns: Mapping[str, Any], needed: Sequence[str], cache: Path) -> Files:
    """The rows of `data`, whose fields have the columns `needed`; `cache` is for what has to be converted.

    Raises UserError naming file and row.
    """
    given = {"train": data} if isinstance(data, str) else data
    for name in given:
        lookup(dict.fromkeys(PARTS), name, "task.data")
    if "train" not in given:
        raise UserError("task.data: train is missing: data: {train: my.jsonl}")
    for name in columns:
        lookup({field.name: field for field in fields(Columns)}, name, "task.columns")
    named = Columns(**columns)
    named = replace(named, fields=(*named.fields, *needed))
    notices: list[str] = []
    sources = {
        part: as_lines(Path(source) if isinstance(source, str) else source, named, cache, notices.append)
        for part, source in given.items()
    }
    parts = load_parts(sources, named, AS_WRITTEN, notices.append)
    version = "; ".join(dict.fromkeys(lines.version for lines in sources.values() if lines.version))
    return Files({"train": parts.train, "dev": parts.dev, "test": parts.test}, notices, version, named.count_from)


def questions_of(files: Files, column: str | None) -> dict[str, list[Question]]:
    """The rows as questions, with the choices in a column, if any; adds a notice where answers are the choices' numbers."""
    questions = {part: [_question(row, column) for row in rows] for part, rows in files.rows.items()}
    count_from = files.count_from
    if count_from is None:
        option = "count_from in task.columns"
        labels = (label for some in questions.values() for one in some if (label := _label(one)) is not None)
        count_from = counting_from(labels, option, files.notices.append)
    return {part: [replace(one, count_from=count_from) for one in some] for part, some in questions.items()}


def _label(one: Question) -> Label | None:
    if one.row.label is None or not one.choices:
        return None
    return Label(one.row.label, len(one.choices), one.by_name(one.row.label) is not None, one.row.where)


def shown_order(one: Question) -> list[str]:
    """The choices shuffled, by the prompt; in the file's order where one of them refers to others ("none of the above")."""
    told = any(_OF_OTHERS.search(choice) for choice in one.choices)
    return list(one.choices) if told else shuffled(one.choices, "choices", one.row.example.text)


def lettered(choices: Sequence[str]) -> str:
    """The choices as lines "A) ...", "B) ..."."""
    return "\n".join(f"{letter}) {choice}" for letter, choice in zip(ascii_uppercase, choices, strict=False))


def without_files(name: str) -> Callable[[], Splits]:
    """The parts of a task over files that has none: how its answers are read is known, its prompts are not."""

    def parts() -> Splits:
        raise UserError(f"task: {name} needs data; see `secondnature tasks`")

    return parts


def with_label(row: Row, kind: AnswerKind) -> Row:
    """The row with its label extracted as from a reply. Raises UserError where it cannot be: it would score every system 0."""
    if row.label is None:
        return row
    answer = kind.extract(row.example, row.label)
    if answer is None:
        raise UserError(
            f"{row.where}: the answer {row.label[:60]!r} cannot be read as {kind.name} ({kind.description})"
        )
    return replace(row, label=answer)


def _question(row: Row, column: str | None) -> Question:
    choices, labels = ((), ()) if column is None else _choices(row.example[column], row.where)
    kept = {name: value for name, value in row.example.fields.items() if name != column}
    return Question(replace(row, example=replace(row.example, fields=kept)), choices, labels)


def _choices(text: str, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The choices in a column and their labels, if any; none where it is empty.

    They are a list, or lines, which may be lettered, or a record of the lists `text` and `label`.
    """
    if not text.strip():
        return (), ()
    listed, labels = _listed(text)
    choices = [_one_line(choice) for choice in listed]
    letters = [_LETTERED.fullmatch(choice) for choice in choices]
    if all(letters) and "".join(found[1] for found in letters if found) == ascii_uppercase[: len(choices)]:
        choices = [found[2] for found in letters if found]
    if len(choices) > len(ascii_uppercase):
        raise UserError(f"{where}: {len(choices)} choices are more than there are letters for")
    if len({choice.casefold() for choice in choices}) < max(2, len(choices)) or not all(choices):
        raise UserError(f"{where}: choices must be two or more, all different and not empty: {', '.join(choices)}")
    if labels and len({*labels}) != len(choices):
        raise UserError(f"{where}: {len(choices)} choices need as many labels, all different: {', '.join(labels)}")
    return tuple(choices), tuple(labels)


def _listed(text: str) -> tuple[list[str], list[str]]:
    """The choices and their labels as they are written."""
    loaded: Any = None
    with contextlib.suppress(SyntaxError, ValueError):
        loaded = parse_json(text) if text.startswith("{") else ast.literal_eval(text) if text[0] == "[" else None
    texts, labels = loaded, cast("Any", [])
    if isinstance(loaded, dict):
        record = cast("dict[str, Any]", loaded)
        texts, labels = record.get("text"), record.get("label")
    if isinstance(texts, list) and isinstance(labels, list):
        return [str(one) for one in cast("list[object]", texts)], [str(one) for one in cast("list[object]", labels)]
    return text.splitlines(), []


def _one_line(text: str) -> str:
    return " ".join(text.split())
