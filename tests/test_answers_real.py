"""Replies that two small models gave, labelled by hand: the readers say what a careful person would say.

Models: SmolLM2-135M-Instruct and Qwen2.5-Coder-0.5B-Instruct (4-bit GGUF files), greedy and at temperature 0.7. Replies that
the token limit truncated are left out: they are never read. An answer counts where the reply states it in the form of its
kind; one that only follows from what is said ("A whale is a mammal" for yes) is none. A letter with the text of another
option is none. The label is what the reply says, right or wrong.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from secondnature.tasks import answer_kind
from secondnature.types import Example, Message

ROWS: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "real_outputs.jsonl").read_text(encoding="utf-8").splitlines()
]


def keys(row: dict[str, Any]) -> tuple[str | None, str | None]:
    """The keys of what is read and of the label."""
    kind = answer_kind(row["kind"], row.get("labels", []))
    example = Example("e", (Message("user", row["prompt"]),), row.get("fields", {}))
    read = kind.extract(example, row["reply"])
    return (None if read is None else kind.normalize(read)), (
        None if row["answer"] is None else kind.normalize(row["answer"])
    )


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['kind']}-{number}" for number, row in enumerate(ROWS)])
def test_a_real_reply_is_read_as_a_careful_person_would(row: dict[str, Any]) -> None:
    read, label = keys(row)
    if row.get("known_wrong"):
        assert read != label, "this one is read now: take its known_wrong away"
    else:
        assert read == label


def test_few_rows_are_known_to_be_wrong_and_every_kind_has_enough() -> None:
    assert sum(row.get("known_wrong", False) for row in ROWS) < 0.05 * len(ROWS)
    for kind, number in Counter(row["kind"] for row in ROWS).items():
        answers = [row["answer"] for row in ROWS if row["kind"] == kind]
        assert number >= 25, kind
        assert None in answers, kind
        assert len(set(answers)) > 2, kind
