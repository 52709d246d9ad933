"""Which of two answers is better: from a user's file, or two worked solutions of a word problem, one of which is wrong."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from secondnature.answers import KINDS
from secondnature.tasks.base import Size, Task
from secondnature.tasks.draws import draw, fair, generated
from secondnature.tasks.problems import STYLES, problem, solution, wrong_solution
from secondnature.tasks.questions import Data, check_template, read_rows, with_gold
from secondnature.types import Example, Message, Row, Splits, UserError

VERDICT = KINDS["verdict"]
FIELDS = ("question", "answer_a", "answer_b")
GENERATED = (3, 400, 60, 200)  # steps, and the sizes of train, dev and test
TEMPLATE = (
    "Two answers to a question are given below. Which one is better?\n\nQuestion: {question}\n\nAnswer A:\n{answer_a}\n\n"
    "Answer B:\n{answer_b}\n\nReply with A or B, or with tie if they are equally good."
)


def task(
    cache: Path,
    /,
    *,
    data: Data | None = None,
    columns: dict[str, Any] | None = None,
    template: str = TEMPLATE,
    steps: Annotated[int, Field(ge=2, le=8)] = GENERATED[0],
    train: Size = GENERATED[1],
    dev: Size = GENERATED[2],
    test: Size = GENERATED[3],
) -> Task:
    """Judge two answers: those of `data` (columns question, answer_a, answer_b, answer) or, without it, solutions of word
    problems of 2 to `steps` steps, one of them wrong."""
    check_template(template, FIELDS)
    if data is not None:
        if (steps, train, dev, test) != GENERATED:
            raise UserError("task: steps, train, dev and test are for generated pairs; `limit` cuts the rows of data")
        return _from_files(data, columns or {}, template, cache)

    def row(part: str, number: int, key: str) -> Row:
        key = f"pairwise_judging/{steps}/{key}"
        made = problem(part, 2 + draw(steps - 1, key, "steps"), key)
        style = draw(len(STYLES), key, "style")  # the same for both: it must not tell
        right, wrong = solution(made.begin, made.steps, style)[0], wrong_solution(made, style, key)
        first = fair(number, "pairwise_judging", part)
        answer_a, answer_b = (right, wrong) if first else (wrong, right)
        fields = {"question": made.question, "answer_a": answer_a, "answer_b": answer_b}
        example = Example(f"{part}-{number}", (Message("user", template.format(**fields)),), fields, template)
        return Row(example, "A" if first else "B", group=example.id)

    sizes = {"train": train, "dev": dev, "test": test}
    return Task("pairwise_judging", VERDICT, lambda: generated(sizes, row))


def _from_files(data: Data, columns: dict[str, Any], template: str, cache: Path) -> Task:
    named = {"prompt": "question", **columns}
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
        return with_gold(Row(made, verdict, row.group, row.slices, row.where), VERDICT)

    parts = Splits(**{part: [judged(row) for row in rows] for part, rows in files.rows.items()})
    return Task("pairwise_judging", VERDICT, lambda: parts, files.version, files.notices)
