"""Questions with lettered choices: from a user's file, or generated, on the capitals of countries."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from secondnature.answers import KINDS
from secondnature.tasks.base import Task, pick, shuffled
from secondnature.tasks.biased_capitals import QUESTIONS, SOURCE, Fact, load_facts, split
from secondnature.tasks.questions import (
    Data,
    Question,
    lettered,
    questions_of,
    read_rows,
    shown_order,
    with_label,
)
from secondnature.types import Example, Message, Row, Splits
from secondnature.untrusted import check_placeholders

CHOICE = KINDS["choice"]
TEMPLATE = "{question}\n\n{choices}\n\nAnswer with the letter of the right choice."
NUMBER = 4  # of choices, where they are generated
PROMPTS = 3  # per country, each with choices of its own


def task(
    cache: Path, /, *, data: Data | None = None, columns: dict[str, Any] | None = None, template: str = TEMPLATE
) -> Task:
    """Lettered choices, shuffled: the rows of `data` (columns prompt, choices, answer) or, without it, capital cities."""
    check_placeholders("task.template", template, ("question", "choices"))
    if data is None:
        return Task("multiple_choice", CHOICE, lambda: _capitals(template), SOURCE)
    named = dict(columns or {})
    column = str(named.pop("choices", "choices"))
    files = read_rows(data, named, (column,), cache)
    rows = {part: [_from_file(one, template) for one in some] for part, some in questions_of(files, column).items()}
    return Task("multiple_choice", CHOICE, lambda: Splits(**rows), files.version, files.notices)


def _from_file(one: Question, template: str) -> Row:
    return with_label(_row(one.row.example, shown_order(one), one.answer, template, one.row), CHOICE)


def _capitals(template: str) -> Splits:
    """Countries are in the parts that they have in biased_capitals."""
    facts = load_facts()
    pool = sorted(fact.capital for fact in facts)
    train, dev, test = (
        [_of_country(fact, number, pool, template) for number in range(PROMPTS) for fact in some]
        for some in split(facts)
    )
    return Splits(train, dev, test)


def _of_country(fact: Fact, number: int, pool: Sequence[str], template: str) -> Row:
    key = ("multiple_choice", fact.code, str(number))
    others = [city for city in shuffled(pool, *key, "others") if city != fact.capital]
    order = shuffled(sorted([fact.capital, *others[: NUMBER - 1]]), *key, "order")
    question = pick(QUESTIONS, *key, "question").format(country=fact.country)
    example = Example(f"{fact.code}-{number}", (Message("user", question),))
    return _row(example, order, fact.capital, template, Row(example, None, fact.code))


def _row(example: Example, order: Sequence[str], answer: str | None, template: str, row: Row) -> Row:
    """The row with the choices under the question; the label is a letter."""
    fields = {**example.fields, "question": example.text, "choices": lettered(order)}
    turns = (*example.messages[:-1], Message("user", template.format(**fields)))
    letter = None if answer is None else ascii_uppercase[order.index(answer)]
    return replace(row, example=replace(example, messages=turns, fields=fields, template=template), label=letter)
