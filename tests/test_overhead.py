"""What a run costs beyond its calls: memory does not grow with the prompts."""

import tracemalloc
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from conftest import rows_of
from secondnature.context import RunContext, open_context
from secondnature.progress import Display
from secondnature.recipe_file import load_recipe
from secondnature.report import show
from secondnature.report.build import build_report
from secondnature.run import open_run
from secondnature.stages import sample, verify

LONG = 20_000  # characters of a prompt


@pytest.mark.parametrize("stages", [(sample,), (sample, verify), (sample, verify, build_report)])
def test_no_stage_holds_the_prompts_texts(
    stages: Iterable[Callable[[RunContext], Any]],
    recipe: Callable[..., Path],
    jsonl: Callable[[str, Iterable[Mapping[str, Any]]], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(show, "SHOWN", 5)  # the page holds the texts that it shows
    *before, measured = stages
    prompts = 600
    jsonl("train.jsonl", ({**row, "prompt": row["prompt"] + "?" * LONG} for row in rows_of("train", prompts)))
    file = recipe(technique={"name": "direct"}, sampling={"n": 1, "max_tokens": 16})
    with open_run(tmp_path / "run", load_recipe(file)) as run, open_context(run, Display(quiet=True)) as context:
        for stage in before:
            stage(context)
        tracemalloc.start()
        measured(context)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len((tmp_path / "train.jsonl").read_bytes()) > 12_000_000
    window = 4 * 32 * LONG
    assert peak < 3 * window < prompts * LONG
