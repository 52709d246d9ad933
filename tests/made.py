"""What the tests of tasks share: made-up rows, and what must hold for every task."""

import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secondnature import tasks
from secondnature.tasks.base import Task
from secondnature.types import Example, Row, Splits

WITH_CHOICES: dict[str, Any] = {"columns": {"choices": "choices"}}


def load_task(name: str, options: Mapping[str, Any], cache: Path = Path("nothing-is-converted")) -> Task:
    return tasks.load_task(name, options, cache)


def questions(number: int = 120) -> list[dict[str, Any]]:
    """Made-up places, each with four choices, one of which is right."""
    towns = [f"Town {chr(65 + n % 26)}{n}ville" for n in range(number)]
    rows: list[dict[str, Any]] = []
    for n, town in enumerate(towns):
        choices = [town, *(towns[(n + k * 7) % number] for k in (1, 2, 3))]
        random.Random(n).shuffle(choices)
        rows.append({"prompt": f"What is the main town of land {n}?", "answer": town, "choices": choices})
    return rows


def pairs(number: int = 60) -> list[dict[str, Any]]:
    verdicts = ("A", "B", "tie")
    return [
        {"question": f"Why {n}?", "answer_a": f"So {n} {{x}}.", "answer_b": f"Thus {n}.", "answer": verdicts[n % 3]}
        for n in range(number)
    ]


def rows_of(parts: Splits) -> list[Row]:
    return [*parts.train, *parts.dev, *parts.test]


def examples(parts: Splits) -> list[Example]:
    return [row.example for row in rows_of(parts)]


def gold(row: Row) -> str:
    assert row.label is not None
    return row.label


def reads_its_own_answers(task: Task) -> None:
    for row in rows_of(task.parts()):
        read = task.answer.extract(row.example, gold(row))
        assert read is not None, (row.example.text, row.label)
        assert task.answer.normalize(read) == task.answer.normalize(gold(row)), (row.example.text, row.label)


def is_split_by_group(parts: Splits) -> None:
    train, dev, test = ({row.group for row in part} for part in (parts.train, parts.dev, parts.test))
    assert train
    assert dev
    assert test
    assert not train & dev
    assert not train & test
    assert not dev & test
    ids = Counter(row.example.id for row in rows_of(parts))
    assert max(ids.values()) == 1
    prompts = [{row.example.text for row in part} for part in (parts.train, parts.dev, parts.test)]
    assert not prompts[0] & prompts[1]
    assert not prompts[0] & prompts[2]
    assert not prompts[1] & prompts[2]
