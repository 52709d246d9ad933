"""The recipe: one YAML file that holds everything that decides a run."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from secondnature.engines.endpoint import Budget, HTTPOptions, is_endpoint, parse_endpoint
from secondnature.tasks.columns import template_columns
from secondnature.tasks.tables import Dataset
from secondnature.types import UserError, nearest


class Section(BaseModel):
    """A part of the recipe: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class HubDataset(Section):
    """A Hugging Face dataset; names and meanings as in `datasets.load_dataset`."""

    path: str
    name: str | None = None
    split: str
    revision: str | None = None

    @property
    def source(self) -> Dataset:
        return Dataset(self.path, self.split, self.name, self.revision)


class Data(Section):
    """Files (JSON Lines, CSV, Parquet) or datasets, what their columns are called, and what prompts are made of them.

    With a `template`, `prompt` has no effect; `system` is a system message before every prompt. Beside a task, a part
    that is given here takes the place of the task's.
    """

    train: str | HubDataset | None = None
    dev: str | HubDataset | None = None
    test: str | HubDataset | None = None
    template: str | None = None
    system: str | None = None
    prompt: str = "prompt"
    answer: str = "answer"
    group: str = "group"
    id: str = "id"
    slices: list[str] = []
    fields: list[str] = []

    @model_validator(mode="after")
    def _makes_prompts(self) -> "Data":
        if self.template is not None:
            if not self.template.strip():
                raise UserError("data.template is empty: name a column in it, such as {question}, or leave it out")
            template_columns(self.template)
        if self.system is not None and not self.system.strip():
            raise UserError("data.system is empty: leave it out where there is no system message")
        return self


class Answer(Section):
    """How answers are read."""

    kind: str
    labels: list[str] = []


class TechniqueChoice(BaseModel):
    """A technique's name; the other keys are its options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> Mapping[str, Any]:
        return self.__pydantic_extra__ or {}


class TaskChoice(BaseModel):
    """A built-in task's name; the other keys are its options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> Mapping[str, Any]:
        return self.__pydantic_extra__ or {}


class Sampling(Section):
    """How System 2 is sampled: `n` times a prompt at most, all of them with `full_n`."""

    n: int = Field(default=8, ge=1)
    temperature: float = Field(default=0.7, ge=0)
    top_p: float = Field(default=0.95, gt=0, le=1)
    max_tokens: int = Field(default=128, ge=1)
    full_n: bool = False


class Verify(Section):
    """Which answers are kept: the share of the n samples that must give the same one, the share by which it must lead the
    second, votes weighted by confidence, changes of the prompt that must not change it; or the model's own choice."""

    min_agreement: float = Field(default=0.75, gt=0, le=1)
    min_margin: float = Field(default=0.0, ge=0, le=1)
    weighted: bool = False
    beta: float | None = Field(default=None, gt=0.5, lt=1)
    universal: bool = False
    choose: str | None = None
    perturb: list[str] = []

    @model_validator(mode="after")
    def _together(self) -> "Verify":
        if self.universal and (self.weighted or self.beta is not None or self.min_margin or self.perturb):
            raise ValueError("universal goes with none of min_margin, weighted, beta, perturb")
        if self.weighted and self.beta is not None:
            raise ValueError("beta counts votes as whole ones: it does not go with weighted")
        if self.choose is not None and not self.universal:
            raise ValueError("choose is the prompt of universal: set universal: true")
        return self


class Train(Section):
    """Names and meanings as in TRL's SFTConfig and PEFT's LoraConfig; `base` has the weights of a model at an endpoint."""

    base: str | None = None
    num_train_epochs: float = Field(default=3, gt=0)
    learning_rate: float = Field(default=2e-4, gt=0)
    per_device_train_batch_size: int = Field(default=16, ge=1)
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    lr_scheduler_type: str = "cosine"
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_steps: int = -1
    save_steps: int = Field(default=10, ge=1)
    lora_r: int = Field(default=16, ge=1)
    lora_alpha: int = Field(default=32, ge=1)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    seed: int = 0


class Evaluate(Section):
    """How the systems are compared: on the slice `headline` (all rows where null), with a non-inferiority `margin`.

    `part: dev` is for choosing settings; test is looked at for the report.
    """

    part: Literal["dev", "test"] = "test"
    margin: float = Field(default=0.05, ge=0, lt=1)
    headline: str | None = None
    controls: bool = False
    baselines: dict[str, TechniqueChoice] = {}
    voted: bool = True
    latency_prompts: int = Field(default=8, ge=0)


class Prices(Section):
    """Of a million tokens, in any currency."""

    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)


class EngineChoice(Section):
    """What runs the model; the keys from `concurrency` on are for one at an endpoint."""

    kind: Literal["auto", "openvino", "transformers", "http", "fake"] = "auto"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    device: str = "auto"
    concurrency: int = Field(default=32, ge=1)
    timeout: float = Field(default=600.0, gt=0)
    max_retries: int = Field(default=8, ge=0)
    api_key_env: str = "OPENAI_API_KEY"
    max_tokens_total: int | None = Field(default=None, ge=1)
    max_cost: float | None = Field(default=None, gt=0)
    price_per_million: Prices | None = None

    @field_validator("api_key_env")
    @classmethod
    def _a_name(cls, name: str) -> str:
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):  # it may be the key itself, which no message may repeat
            raise UserError("engine.api_key_env: give the name of the environment variable that holds the key")
        return name

    @model_validator(mode="after")
    def _priced(self) -> "EngineChoice":
        if self.max_cost is not None and self.price_per_million is None:
            raise UserError("engine.max_cost needs price_per_million: {prompt: ..., completion: ...}")
        return self

    def http(self, prompt_tokens: int = 0, completion_tokens: int = 0) -> HTTPOptions:
        """How to use an endpoint, after so many tokens were spent on it."""
        price = self.price_per_million
        prices = (price.prompt, price.completion) if price is not None else (0.0, 0.0)
        budget = Budget(self.max_tokens_total, self.max_cost, prices, prompt_tokens, completion_tokens)
        return HTTPOptions(self.concurrency, self.timeout, self.max_retries, self.api_key_env, budget)


class Recipe(Section):
    """One YAML file: everything that decides a run."""

    model: str
    task: TaskChoice | None = None
    data: Data | None = None
    answer: Answer | None = None
    technique: TechniqueChoice
    sampling: Sampling = Sampling()
    verify: Verify = Verify()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    engine: EngineChoice = EngineChoice()
    store: str | None = None
    limit: int | None = Field(default=None, ge=1)

    @field_validator("task", mode="before")
    @classmethod
    def _named(cls, task: object) -> object:
        return {"name": task} if isinstance(task, str) else task

    @model_validator(mode="after")
    def _one_source(self) -> "Recipe":
        if self.task is None and self.data is None:
            raise ValueError("give task (a built-in one), or data (your own files)")
        if self.task is None and self.data is not None and self.data.train is None:
            raise ValueError("'data.train' is missing")
        if self.task is None and self.answer is None:
            raise ValueError("data needs answer, the kind of answer to read, such as answer: {kind: short_text}")
        if is_endpoint(self.model):
            parse_endpoint(self.model)
        return self


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
        return f"{absolute(file)}:{function}" if ".py:" in name else name

    def from_base(choice: TechniqueChoice) -> TechniqueChoice:
        return choice.model_copy(update={"name": python_from_base(choice.name)})

    changes["technique"] = from_base(recipe.technique)
    perturb = [python_from_base(name) for name in recipe.verify.perturb]
    changes["verify"] = recipe.verify.model_copy(update={"perturb": perturb})
    baselines = {name: from_base(choice) for name, choice in recipe.evaluate.baselines.items()}
    changes["evaluate"] = recipe.evaluate.model_copy(update={"baselines": baselines})

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
