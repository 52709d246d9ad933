"""A recipe's file: reading it, overriding its keys, saying what is wrong with it and what differs between two."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, ValidationError

from secondnature.engines.endpoint import is_endpoint
from secondnature.own import is_own
from secondnature.recipe import HubDataset, Recipe, TechniqueChoice
from secondnature.types import UserError, nearest

STAGES = ("sample", "verify", "train", "evaluate")
# The stages whose results depend on a key of the recipe: the longest key that fits decides, and all do where none does.
AGAIN: dict[str, tuple[str, ...]] = {
    "train": ("train", "evaluate"),
    "train.save_steps": (),
    "train.report_to": (),
    "evaluate": ("evaluate",),
    "evaluate.controls": ("train", "evaluate"),
    "engine": (),
    "engine.kind": STAGES,
    "engine.dtype": STAGES,
    "engine.device": STAGES,
}


def done_again(keys: Iterable[str]) -> str:
    """What a change of these keys means for a run, to be read: the stages that are done again."""
    stages = {stage for key in keys for stage in _stages_of(key)}
    listed = ", ".join(stage for stage in STAGES if stage in stages)
    return f"done again: {listed}" if listed else "nothing is done again"


def _stages_of(key: str) -> tuple[str, ...]:
    while key not in AGAIN:
        key, dot, _ = key.rpartition(".")
        if not dot:
            return STAGES
    return AGAIN[key]


def own_files(recipe: Recipe) -> dict[str, list[str]]:
    """The files of the user's own functions, each with the keys of the recipe that name it."""
    evaluate = recipe.evaluate
    named = [
        ("technique", recipe.technique.name),
        *(("verify.perturb", name) for name in recipe.verify.perturb),
        *(("evaluate.perturb", name) for name in evaluate.perturb),
        *(("evaluate.baselines", choice.name) for choice in evaluate.baselines.values()),
    ]
    files: dict[str, list[str]] = {}
    for key, name in named:
        if is_own(name):
            files.setdefault(name.rpartition(":")[0], []).append(key)
    return files


def load_recipe(path: Path, sets: Sequence[str] = (), limit: int | None = None) -> Recipe:
    """Read a recipe, with overrides such as "train.learning_rate=1e-4"; its relative paths become absolute.

    Raises UserError, in one line, for a file that is not there, broken YAML, an unknown key (naming the nearest) or a
    value that does not fit.
    """
    values = read_yaml(path)
    for override in sets:
        _override(values, override)
    if limit is not None:
        values["limit"] = limit
    return _with_absolute_paths(parse_recipe(values, str(path)), path.parent.resolve())


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys of a recipe file, unchecked. Raises UserError where it is not there or is no mapping."""
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a recipe")
    try:
        loaded: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no recipe {path}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise UserError(f"{path}{where}: broken YAML ({getattr(error, 'problem', None) or error})") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path}: a recipe is a mapping of keys such as model, task, technique")
    return cast("dict[str, Any]", loaded)


def parse_recipe(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """A recipe from a mapping. Raises UserError as `load_recipe` does."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        # Of a part, which is a text or a mapping, what is wrong with it as a mapping says it all.
        errors = [dict(e) for e in error.errors() if (e["type"], e["loc"][-1:]) != ("string_type", ("str",))]
        raise UserError(f"{where}: " + "; ".join(map(_explain, errors))) from None


def _explain(error: dict[str, Any]) -> str:
    path = [part for part in error["loc"] if part != HubDataset.__name__]
    location = ".".join(map(str, path))
    if error["type"] == "extra_forbidden":
        *section, name = path
        return f"unknown key {location!r}{nearest(str(name), _keys(section))}"
    if error["type"] == "model_type" and error["loc"][-1] == HubDataset.__name__:
        return f"{location}: a file, or a dataset as {{path: ..., split: ...}}, not {error['input']!r}"
    if error["type"] == "missing":
        return f"{location!r} is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{location}: {message[0].lower()}{message[1:]}, not {error['input']!r}" if location else message


def _keys(section: Sequence[str | int]) -> list[str]:
    """The keys of a section of the recipe, from its path."""
    model: Any = Recipe
    for name in section:
        annotation = model.model_fields[name].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return list(model.model_fields)


def _override(values: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    if not separator:
        raise UserError(f"--set takes key=value, such as train.learning_rate=1e-4, not {override!r}")
    *sections, name = path.strip().split(".")
    for section in sections:
        below = values.setdefault(section, {})
        if section == "task" and isinstance(below, str):
            below = values[section] = {"name": below}
        if not isinstance(below, dict):
            raise UserError(f"--set {override}: {section!r} is not a section of the recipe")
        values = cast("dict[str, Any]", below)
    try:
        values[name] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {override}: the value is not YAML") from None


def _with_absolute_paths(recipe: Recipe, base: Path) -> Recipe:
    def absolute(path: str | None) -> str | None:
        return None if path is None else str((base / Path(path).expanduser()).resolve())

    def located(part: str | HubDataset | None) -> str | HubDataset | None:
        if not isinstance(part, HubDataset):
            return absolute(part)
        is_folder = (base / Path(part.path).expanduser()).is_dir()
        return part.model_copy(update={"path": absolute(part.path)}) if is_folder else part

    changes: dict[str, Any] = {"store": absolute(recipe.store)}
    if recipe.data is not None:
        data = recipe.data
        parts = {"train": located(data.train), "dev": located(data.dev), "test": located(data.test)}
        changes["data"] = data.model_copy(update=parts)
    if recipe.task is not None and "data" in recipe.task.options:
        changes["task"] = recipe.task.model_copy(update={"data": _from(base, recipe.task.options["data"])})

    def python_from_base(name: str) -> str:
        file, _, function = name.rpartition(":")
        return f"{absolute(file)}:{function}" if is_own(name) else name

    def from_base(choice: TechniqueChoice) -> TechniqueChoice:
        return choice.model_copy(update={"name": python_from_base(choice.name)})

    changes["technique"] = from_base(recipe.technique)
    perturb = [python_from_base(name) for name in recipe.verify.perturb]
    changes["verify"] = recipe.verify.model_copy(update={"perturb": perturb})
    baselines = {name: from_base(choice) for name, choice in recipe.evaluate.baselines.items()}
    stability = [python_from_base(name) for name in recipe.evaluate.perturb]
    evaluate, tasks = recipe.evaluate, recipe.evaluate.lm_eval
    regression = absolute(evaluate.regression) if isinstance(evaluate.regression, str) else evaluate.regression
    if tasks is not None:
        tasks = tasks.model_copy(update={"include_path": absolute(tasks.include_path)})
    changed = {"baselines": baselines, "perturb": stability, "regression": regression, "lm_eval": tasks}
    changes["evaluate"] = evaluate.model_copy(update=changed)

    def is_path(model: str) -> bool:
        return not is_endpoint(model) and (model.endswith(".gguf") or (base / Path(model).expanduser()).is_dir())

    if is_path(recipe.model):
        changes["model"] = absolute(recipe.model)
    if recipe.train.base is not None and is_path(recipe.train.base):
        changes["train"] = recipe.train.model_copy(update={"base": absolute(recipe.train.base)})
    return recipe.model_copy(update=changes)


def _from(base: Path, data: Any) -> Any:
    """A task's data with the paths of files and of datasets' folders from `base`; the rest is for the task to check."""
    if isinstance(data, str):
        return str((base / Path(data).expanduser()).resolve())
    if not isinstance(data, Mapping):
        return data
    parts = cast("Mapping[str, Any]", data)
    if "path" not in parts:
        return {part: _from(base, given) for part, given in parts.items()}
    folder = base / Path(str(parts["path"])).expanduser()
    return {**parts, "path": str(folder.resolve())} if folder.is_dir() else {**parts}


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(key, old value, new value) of all that differs between two resolved recipes."""
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from differences(
                cast("Mapping[str, Any]", before), cast("Mapping[str, Any]", after), f"{prefix}{key}."
            )
        elif before != after:
            yield f"{prefix}{key}", before, after
