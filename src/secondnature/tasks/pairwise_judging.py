"""Which of two answers is better, for pairs of a user's file."""

from pathlib import Path
from typing import Any

from secondnature.answers import KINDS
from secondnature.tasks.base import Task
from secondnature.tasks.questions import Data, read_rows, with_label, without_files
from secondnature.types import Example, Message, Row, Splits, UserError
from secondnature.untrusted import check_placeholders

VERDICT = KINDS["verdict"]
FIELDS = ("question", "answer_a", "answer_b")
TEMPLATE = (
    "Two answers to a question are given below. Which one is better?\n\nQuestion: {question}\n\nAnswer A:\n{answer_a}\n\n"
    "Answer B:\n{answer_b}\n\nReply with A or B, or with tie if they are equally good."
)


def task(
    cache: Path, /, *, data: Data | None = None, columns: dict[str, Any] | None = None, template: str = TEMPLATE
) -> Task:
    """Judge the two answers in each row of `data` (columns question, answer_a, answer_b, answer)."""
    check_placeholders("task.template", template, FIELDS)
    if data is None:
        return Task("pairwise_judging", VERDICT, without_files("pairwise_judging"))
    named = {"prompt": "question", **(columns or {})}
    sides = {side: str(named.pop(side, side)) for side in FIELDS[1:]}
    files = read_rows(data, named, tuple(sides.values()), cache)

    def judged(row: Row) -> Row:
        example = row.example
        fields = {"question": example.text, **{side: example[column].strip() for side, column in sides.items()}}
        for side in sides:
            if not fields[side]:
                raise UserError(f"{row.where}: the column {sides[side]!r} is empty")
        turns = (*example.messages[:-1], Message("user", template.format(**fields)))
        answer = row.label
        if answer is not None and answer.casefold() not in ("a", "b", "tie"):
            raise UserError(f"{row.where}: the verdict must be A, B or tie, not {answer[:60]!r}")
        verdict = None if answer is None else "tie" if answer.casefold() == "tie" else answer.upper()
        made = Example(example.id, turns, {**example.fields, **fields}, template)
        return with_label(Row(made, verdict, row.group, row.slices, row.where), VERDICT)

    parts = Splits(**{part: [judged(row) for row in rows] for part, rows in files.rows.items()})
    return Task("pairwise_judging", VERDICT, lambda: parts, files.version, files.notices)
