"""The recipe: what is read, what is refused, and that a run's own copy means the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from secondnature.recipe import Recipe
from secondnature.recipe_file import AGAIN, differences, done_again, load_recipe, parse_recipe
from secondnature.run import open_run
from secondnature.start import TEMPLATES
from secondnature.types import UserError

EXAMPLES = sorted(TEMPLATES.rglob("*.yaml"))
SMALLEST: dict[str, Any] = {"model": "bundled:smollm2-135m", "task": "biased_capitals", "technique": {"name": "s2a"}}


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_examples_are_recipes(path: Path) -> None:
    assert load_recipe(path).technique.name


def test_there_are_examples() -> None:
    assert EXAMPLES


def test_a_number_in_scientific_notation_is_a_number_without_a_point_too(tmp_path: Path) -> None:
    path = written(tmp_path, yaml.safe_dump(SMALLEST) + "train: {learning_rate: 2e-4}\n")
    assert load_recipe(path).train.learning_rate == 0.0002
    assert load_recipe(path, ["train.learning_rate=1e-3"]).train.learning_rate == 0.001


def test_overrides_reach_any_section_and_are_read_as_yaml(tmp_path: Path) -> None:
    sets = [
        "sampling.n=3",
        "evaluate.controls=true",
        "evaluate.headline=mix",
        "verify.min_agreement=1",
        "technique.keep_original=yes",
        "evaluate.baselines={plain: {name: direct}}",
        "limit=",
    ]
    recipe = load_recipe(written(tmp_path, yaml.safe_dump({**SMALLEST, "limit": 5})), sets)
    assert (recipe.sampling.n, recipe.evaluate.controls, recipe.evaluate.headline) == (3, True, "mix")
    assert recipe.verify.min_agreement == 1.0
    assert recipe.technique.options == {"keep_original": True}
    assert recipe.evaluate.baselines["plain"].name == "direct"
    assert recipe.limit is None


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["train.learning_rate"], "done again: train, evaluate"),
        (["train.save_steps"], "nothing is done again"),
        (["evaluate.margin"], "done again: evaluate"),
        (["evaluate.controls"], "done again: train, evaluate"),
        (["engine.concurrency"], "nothing is done again"),
        (["engine.dtype"], "done again: sample, verify, train, evaluate"),
        (["verify.min_agreement"], "done again: sample, verify, train, evaluate"),
        (["technique.name"], "done again: sample, verify, train, evaluate"),
        (["model"], "done again: sample, verify, train, evaluate"),
        (["evaluate.perturb", "train.seeds"], "done again: train, evaluate"),
    ],
)
def test_a_changed_key_says_which_stages_are_done_again(keys: list[str], said: str) -> None:
    assert done_again(keys) == said


def test_the_table_of_stages_names_keys_of_a_recipe() -> None:
    for key in AGAIN:
        values: Any = Recipe.model_validate(SMALLEST)
        for name in key.split("."):
            assert name in type(values).model_fields, key
            values = getattr(values, name)


def test_the_limit_of_the_command_line_is_the_recipes(tmp_path: Path) -> None:
    assert load_recipe(written(tmp_path, yaml.safe_dump({**SMALLEST, "limit": 5})), limit=7).limit == 7


def test_relative_paths_start_at_the_recipes_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home" / "weights").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    written(
        tmp_path / "home",
        yaml.safe_dump(
            {
                "model": "weights",
                "data": {"train": "a.jsonl", "test": "../b.jsonl"},
                "answer": {"kind": "yes_no"},
                "technique": {"name": "mine.py:think", "depth": 3},
                "evaluate": {"baselines": {"mine": {"name": "mine.py:quick"}, "plain": {"name": "direct"}}},
                "store": "shared.sqlite",
            }
        ),
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    recipe = load_recipe(Path("../home/recipe.yaml"))
    home = (tmp_path / "home").resolve()
    assert recipe.data is not None
    assert (recipe.data.train, recipe.data.dev) == (str(home / "a.jsonl"), None)
    assert recipe.data.test == str(home.parent / "b.jsonl")
    assert recipe.model == str(home / "weights")
    assert recipe.store == str(home / "shared.sqlite")
    assert recipe.technique.name == f"{home / 'mine.py'}:think"
    assert recipe.technique.options == {"depth": 3}
    assert recipe.evaluate.baselines["mine"].name == f"{home / 'mine.py'}:quick"
    assert recipe.evaluate.baselines["plain"].name == "direct"


@pytest.mark.parametrize("model", ["owner/name", "bundled:smollm2-135m", "http://host:8000/v1#served"])
def test_a_model_that_is_no_path_stays_as_it_is(model: str, tmp_path: Path) -> None:
    assert load_recipe(written(tmp_path, yaml.safe_dump({**SMALLEST, "model": model}))).model == model


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_runs_copy_of_an_example_is_the_same_recipe(path: Path, tmp_path: Path) -> None:
    same_after_a_round_trip(load_recipe(path, ["limit=3"]), tmp_path)


def test_a_runs_copy_of_a_recipe_is_the_same_recipe(recipe: Callable[..., Path], tmp_path: Path) -> None:
    file = recipe(
        technique={"name": "cot", "think": 'say "{prompt}": ünïcode\n\n  and\ttabs # no comment', "demonstrations": []},
        train={"learning_rate": 1e-05},
        evaluate={"headline": "kind=odd", "baselines": {"no": {"name": "direct", "instruction": "yes"}}},
        sampling={"n": 3, "temperature": 0.1 + 0.2},
    )
    same_after_a_round_trip(load_recipe(file), tmp_path)


def same_after_a_round_trip(recipe: Recipe, folder: Path) -> None:
    said: list[str] = []
    with open_run(folder / "run", recipe, said.append) as run:
        run.save_recipe()
    with open_run(folder / "run", None, said.append) as run:
        assert run.recipe == recipe
    with open_run(folder / "run", load_recipe(folder / "run" / "recipe.yaml"), said.append) as run:
        assert run.recipe == recipe
    assert said == []


def test_differences_name_what_changed_by_its_whole_path() -> None:
    before = parse_recipe({**SMALLEST, "sampling": {"n": 4}})
    after = parse_recipe(
        {**SMALLEST, "technique": {"name": "s2a", "keep_original": True}, "sampling": {"n": 8}, "limit": 2}
    )
    assert list(differences(before.model_dump(), after.model_dump())) == [
        ("limit", None, 2),
        ("sampling.n", 4, 8),
        ("technique.keep_original", None, True),
    ]
    assert list(differences(before.model_dump(), before.model_dump())) == []


def test_several_mistakes_are_all_named_in_one_error() -> None:
    with pytest.raises(
        UserError, match=r"unknown key 'modle' \(did you mean 'model'\?\).*'sampling.n'|sampling.n.*'modle'"
    ):
        parse_recipe({**SMALLEST, "modle": "x", "sampling": {"n": 0}})


def test_a_recipe_read_back_from_its_run_folder_is_the_same_to_a_digest(recipe: Callable[..., Path]) -> None:
    first = load_recipe(recipe())
    again = parse_recipe(yaml.safe_load(yaml.safe_dump(first.model_dump(exclude_none=True))))
    assert json.dumps(again.model_dump()) == json.dumps(first.model_dump()), "3 and 3.0 are two numbers to a digest"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("train.seed", "-1", "greater than or equal to 0"),
        ("train.seed", str(2**32), "less than 4294967296"),
        ("train.seeds", "[1, -1]", "greater than or equal to 0"),
        ("train.lr_scheduler_type", "foo", "'linear', 'cosine'"),
        ("train.learning_rate", "200", "less than or equal to 1"),
        ("train.lora_r", "1000000000", "less than or equal to 4096"),
        ("train.lora_alpha", "1000000000", "less than or equal"),
        ("train.per_device_train_batch_size", "1000000000", "less than or equal"),
        ("train.max_steps", "0", "1 or more, or -1"),
        ("train.max_steps", "-5", "greater than or equal to -1"),
        ("sampling.temperature", "1e-320", "0, or 0.001 and more"),
        ("sampling.n", "1000000000", "less than or equal to 10000"),
        ("sampling.max_tokens", "100000000000", "less than or equal to 1000000"),
        ("evaluate.votes", "[1, 1000000]", "less than or equal to 10000"),
        ("evaluate.margin", "1e-320", "0, or 1e-06 and more"),
    ],
)
def test_what_would_fail_only_once_sampling_is_paid_for_is_refused_first(
    key: str, value: str, said: str, tmp_path: Path
) -> None:
    path = written(tmp_path, yaml.safe_dump(SMALLEST))
    with pytest.raises(UserError) as refused:
        load_recipe(path, [f"{key}={value}"])
    assert f"{key}" in str(refused.value)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_ends_of_what_is_allowed_are_allowed(tmp_path: Path) -> None:
    sets = [
        f"train.seed={2**32 - 1}",
        "train.max_steps=-1",
        "train.max_steps=1",
        "sampling.temperature=0",
        "evaluate.margin=0",
    ]
    assert load_recipe(written(tmp_path, yaml.safe_dump(SMALLEST)), sets).train.seed == 2**32 - 1


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize(
    "key",
    [
        "train.num_train_epochs",
        "train.learning_rate",
        "train.weight_decay",
        "sampling.temperature",
        "evaluate.temperature",
    ],
)
def test_a_number_without_an_end_is_refused_in_a_file_and_in_python(key: str, value: float, tmp_path: Path) -> None:
    section, name = key.split(".")
    values = {**SMALLEST, section: {name: value}}
    with pytest.raises(UserError):
        load_recipe(written(tmp_path, yaml.safe_dump(values)))
    with pytest.raises(ValidationError, match="finite"):
        Recipe.model_validate(values)
