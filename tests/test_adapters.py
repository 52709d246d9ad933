"""Which adapters of a run belong to its recipe as it is now."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secondnature import curated
from secondnature.adapters import (
    CONTROLS,
    adapter_digest,
    control_digest,
    current_adapters,
    train_controls,
    training_summary,
)
from secondnature.context import RunContext, open_context
from secondnature.progress import Display
from secondnature.recipe_file import load_recipe
from secondnature.run import open_run
from secondnature.stages import sample, verify
from secondnature.train import CONFIG, WEIGHTS
from secondnature.types import UserError

EASY: dict[str, Any] = {"verify": {"min_agreement": 0.1}, "evaluate": {"controls": True}}
Recipes = Callable[..., Path]


# What training notes beside the digests.
TRAINED = {
    "examples": 9, "steps": 5, "tokens": 90, "seconds": 1.0, "tokens_per_second": None, "loss_first": None, "loss_last": None,
    "history": [],
}  # fmt: skip


def left_by_training(folder: Path, digest: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / WEIGHTS).write_bytes(folder.name.encode())
    (folder / CONFIG).write_text("{}")
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (WEIGHTS, CONFIG)}
    (folder / "training.json").write_text(json.dumps({**TRAINED, "digest": digest, "files": files}))


def train_all(context: RunContext) -> None:
    """What training leaves, without training."""
    verify(context)
    curation = curated.current(context)
    left_by_training(context.run.adapter, adapter_digest(context.run, curation.examples, None, 0))
    train_controls(context, curation)  # draws System 1's votes; the fake engine has no weights to train
    for name in CONTROLS:
        left_by_training(context.run.folder / name, adapter_digest(context.run, control_digest(curation, name), 5, 0))


def current(file: Path, folder: Path, prepare: Callable[[RunContext], None] = lambda context: None) -> set[str]:
    with (
        open_run(folder, load_recipe(file), lambda line: None) as run,
        open_context(run, Display(quiet=True)) as context,
    ):
        sample(context)
        verify(context)
        prepare(context)
        return {*current_adapters(context)}


def test_adapters_are_current_until_something_that_they_depend_on_changes(recipe: Recipes, tmp_path: Path) -> None:
    run = tmp_path / "run"
    everything = {"distilled", *CONTROLS}
    assert current(recipe(**EASY), run) == set()
    assert current(recipe(**EASY), run, train_all) == everything
    assert current(recipe(**{**EASY, "evaluate": {"latency_prompts": 3, "controls": True}}), run) == everything
    assert current(recipe(**EASY, train={"learning_rate": 0.5}), run) == set()


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_of_an_older_recipe_is_not_measured_as_todays(name: str, recipe: Recipes, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert name in current(recipe(**EASY), run, train_all)
    left_by_training(run / name, "an older one's")
    assert current(recipe(**EASY), run) == {"distilled", *CONTROLS} - {name}


def test_controls_of_another_training_set_are_not_current(recipe: Recipes, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert len(current(recipe(**EASY), run, train_all)) == 3
    assert current(recipe(**{**EASY, "sampling": {"n": 3}}), run) == set()


def test_controls_that_are_not_asked_for_are_left_out(recipe: Recipes, tmp_path: Path) -> None:
    run = tmp_path / "run"
    current(recipe(**EASY), run, train_all)
    assert current(recipe(**{**EASY, "evaluate": {"controls": False}}), run) == {"distilled"}


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
@pytest.mark.parametrize("name", ["adapter", *CONTROLS])
def test_an_adapter_that_is_not_what_training_wrote_is_not_measured(
    file: str, name: str, recipe: Recipes, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert len(current(recipe(**EASY), run, train_all)) == 3
    whole = (run / name / file).read_bytes()
    for content in (b"", whole[:-1], b"x" + whole):
        (run / name / file).write_bytes(content)
        with pytest.raises(UserError, match=f"{file} is not what training wrote.*`secondnature train {run}`"):
            current(recipe(**EASY), run)
    (run / name / file).unlink()
    with pytest.raises(UserError, match=f"{file} is missing: `secondnature train {run}` makes it anew"):
        current(recipe(**EASY), run)
    (run / name / file).write_bytes(whole)
    assert len(current(recipe(**EASY), run)) == 3
    (run / name / "training.json").write_text(
        json.dumps({**json.loads((run / name / "training.json").read_text()), "files": []})
    )
    with pytest.raises(UserError, match="is not what training wrote"):
        current(recipe(**EASY), run)


@pytest.mark.parametrize(
    "values",
    [{"seconds": 1e308}, {"steps": "x"}, {"history": 3}, {"history": [3]}, {"history": [{"step": 1, "loss": "x"}]}],
)
def test_what_training_did_not_write_is_not_told(values: dict[str, Any], tmp_path: Path) -> None:
    left_by_training(tmp_path / "adapter", "d")
    file = tmp_path / "adapter" / "training.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    with pytest.raises(UserError, match="training.json: holds something else than training wrote: remove"):
        training_summary(tmp_path / "adapter")
