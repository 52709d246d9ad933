"""Without labels means without labels: nothing that measuring may see reaches what is kept and trained on."""

import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from conftest import rows_of
from secondnature.context import open_context
from secondnature.curated import training_examples
from secondnature.progress import Display
from secondnature.recipe_file import load_recipe
from secondnature.run import open_run
from secondnature.stages import sample, verify
from secondnature.train import TrainingExample

Rows = list[dict[str, Any]]


def permuted(rows: Rows, *columns: str) -> Rows:
    shuffled = [dict(row) for row in rows]
    for column in columns:
        values = [row[column] for row in rows]
        random.Random(column).shuffle(values)
        assert values != [row[column] for row in rows]
        for row, value in zip(shuffled, values, strict=True):
            row[column] = value
    return shuffled


def without(rows: Rows, *columns: str) -> Rows:
    return [{name: value for name, value in row.items() if name not in columns} for row in rows]


def turned(rows: Rows) -> Rows:
    return [{**row, "answer": "no" if row["answer"] == "yes" else "yes"} for row in rows]


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: permuted(rows, "answer"),
        lambda rows: without(rows, "answer"),
        lambda rows: [{**row, "answer": None} for row in rows],
        lambda rows: without(rows[:20], "answer") + turned(rows[20:]),
        turned,
        lambda rows: permuted(rows, "kind"),
        lambda rows: permuted(rows, "group", "kind", "answer"),
        lambda rows: without(rows, "group"),
        lambda rows: [{"more": number, **row} for number, row in enumerate(rows)],
        lambda rows: [dict(reversed(row.items())) for row in rows],
    ],
)
def test_labels_and_metadata_do_not_move_a_byte_of_what_is_kept(
    change: Callable[[Rows], Rows],
    recipe: Callable[..., Path],
    jsonl: Callable[[str, Iterable[Mapping[str, Any]]], Path],
    tmp_path: Path,
) -> None:
    file, rows = recipe(), rows_of("train", 40)

    def curated(name: str, training: Rows) -> tuple[bytes, bytes, list[TrainingExample], bytes]:
        jsonl("train.jsonl", training)
        with (
            open_run(tmp_path / name, load_recipe(file), print) as run,
            open_context(run, Display(quiet=True)) as context,
        ):
            sample(context)
            verify(context)
            return (
                run.curated.read_bytes(),
                run.discarded.read_bytes(),
                [*training_examples(run)],
                run.curation.read_bytes(),
            )

    expected = curated("before", rows)
    assert curated("after", change(rows)) == expected
    kept, discarded, pairs, _ = expected
    assert len(pairs) == len(kept.splitlines()) > 10
    assert len(discarded.splitlines()) > 2
