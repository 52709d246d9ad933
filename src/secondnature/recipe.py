"""The recipe: one YAML file that holds everything that decides a run."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from secondnature.engines.endpoint import Budget, HTTPOptions, is_endpoint, parse_endpoint
from secondnature.tasks.columns import template_columns
from secondnature.tasks.tables import Dataset
from secondnature.techniques.turns import check_placeholders
from secondnature.types import UserError

SEEDS = 2**32  # that NumPy's generators take
MOST = 10_000  # samples of a prompt: more is a slip of the keyboard, and would be drawn without a word
# Those of transformers that need no arguments but the recipe's.
Schedule = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
]
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]


class Section(BaseModel):
    """A part of the recipe: unknown keys are errors, and no number is infinite or none at all."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _zero_or_more_than(value: float, least: float) -> float:
    """What is divided by or squared must not vanish in floating point."""
    if 0 < value < least:
        raise ValueError(f"0, or {least:g} and more")
    return value


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

    With a `template`, `prompt` has no effect; `system` is a system message before every prompt. Labels that are numbers of
    choices count from `count_from`, where the files do not tell. Beside a task, a part that is given here takes the place of the
    task's.
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
    count_from: Literal[0, 1] | None = None

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
    """How answers are asked for and read: `labels` are those of the kind label, `fields` those of the kind json."""

    kind: str
    labels: list[str] = []
    fields: list[str] = []


class Demonstration(Section):
    """A worked example of a fast answer."""

    prompt: str
    answer: str


class System1(Section):
    """How a fast answer is asked for: a system `instruction`, which may hold {form}, and worked examples; by default the
    prompt as it is. The student is trained, evaluated, exported and served with just that prompt."""

    instruction: str = ""
    demonstrations: list[Demonstration] = []

    @property
    def options(self) -> dict[str, Any]:
        """Those of the technique `direct`."""
        return self.model_dump(exclude_defaults=True)


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

    n: int = Field(default=8, ge=1, le=MOST)
    temperature: float = Field(default=0.7, ge=0, le=100)
    top_p: float = Field(default=0.95, gt=0, le=1)
    max_tokens: int = Field(default=512, ge=1, le=1_000_000)
    full_n: bool = False

    @field_validator("temperature")
    @classmethod
    def _divides(cls, temperature: float) -> float:
        return _zero_or_more_than(temperature, 1e-3)


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
        if self.choose is not None:
            check_placeholders("verify.choose", self.choose, ("prompt", "n", "responses"), may_miss=("prompt", "n"))
        return self


class Train(Section):
    """Names and meanings as in TRL's SFTConfig and PEFT's LoraConfig; `base` has the weights of a model at an endpoint.

    `seeds` are further ones, with an adapter each, which show how much training varies; `seed` is the one that is shipped.
    """

    base: str | None = None
    num_train_epochs: float = Field(default=3.0, gt=0, le=100_000)
    learning_rate: float = Field(default=2e-4, gt=0, le=1)
    per_device_train_batch_size: int = Field(default=16, ge=1, le=100_000)
    gradient_accumulation_steps: int = Field(default=1, ge=1, le=100_000)
    lr_scheduler_type: Schedule = "cosine"
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0, le=100)
    max_steps: int = Field(default=-1, ge=-1, le=1_000_000_000)
    save_steps: int = Field(default=10, ge=1, le=1_000_000_000)
    lora_r: int = Field(default=16, ge=1, le=4096)
    lora_alpha: int = Field(default=32, ge=1, le=100_000)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    seed: Seed = 0
    seeds: list[Seed] = []
    report_to: list[Literal["mlflow", "tensorboard", "trackio", "wandb"]] = []

    @model_validator(mode="after")
    def _further_seeds(self) -> "Train":
        if self.seed in self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds are further ones: each once, and not seed itself")
        return self

    @field_validator("max_steps")
    @classmethod
    def _some(cls, steps: int) -> int:
        if steps == 0:
            raise ValueError("1 or more, or -1 for all the steps of num_train_epochs")
        return steps

    @field_validator("report_to", mode="before")
    @classmethod
    def _trackers(cls, names: object) -> object:
        return [] if names in (None, "none") else [names] if isinstance(names, str) else names


class LmEval(Section):
    """Tasks of lm-evaluation-harness; names and meanings as in `lm_eval.simple_evaluate` and `TaskManager`."""

    tasks: list[str] = Field(min_length=1)
    include_path: str | None = None
    limit: int | None = Field(default=None, ge=1)


class Evaluate(Section):
    """How the systems are compared: on the slice `headline` (all rows where null), with a non-inferiority `margin`.

    `part: dev` is for choosing settings; test is looked at for the report. Answers are greedy; `votes` adds the majority of k
    samples of each main system, at `temperature` (that of `sampling` where null). `perturb` says how often an answer changes
    with changes of the prompt that must not change it.
    `regression` asks general prompts too, built-in ones or a file's; `contamination` looks for test prompts in train, and
    `known` asks what the model knows of them.
    """

    part: Literal["dev", "test"] = "test"
    margin: float = Field(default=0.05, ge=0, lt=1)
    headline: str | None = None
    controls: bool = False
    baselines: dict[str, TechniqueChoice] = {}
    voted: bool = True
    votes: list[Annotated[int, Field(ge=1, le=MOST)]] = []
    temperature: float | None = Field(default=None, ge=1e-3, le=100)
    perturb: list[str] = []
    latency_prompts: int = Field(default=20, ge=0, le=1_000_000)
    regression: bool | str = True
    lm_eval: LmEval | None = None
    contamination: bool = True
    known: bool = False

    @field_validator("margin")
    @classmethod
    def _can_be_seen(cls, margin: float) -> float:
        return _zero_or_more_than(margin, 1e-6)

    @field_validator("lm_eval", mode="before")
    @classmethod
    def _listed(cls, tasks: object) -> object:
        return {"tasks": cast("list[object]", tasks)} if isinstance(tasks, list) else tasks


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

    @property
    def prices(self) -> tuple[float, float] | None:
        """Of a million prompt tokens and of a million completion tokens."""
        price = self.price_per_million
        return None if price is None else (price.prompt, price.completion)

    def http(self, prompt_tokens: int = 0, completion_tokens: int = 0) -> HTTPOptions:
        """How to use an endpoint, after so many tokens were spent on it."""
        prices = self.prices or (0.0, 0.0)
        budget = Budget(self.max_tokens_total, self.max_cost, prices, prompt_tokens, completion_tokens)
        return HTTPOptions(self.concurrency, self.timeout, self.max_retries, self.api_key_env, budget)


class Recipe(Section):
    """One YAML file: everything that decides a run."""

    model: str
    task: TaskChoice | None = None
    data: Data | None = None
    answer: Answer | None = None
    technique: TechniqueChoice
    system1: System1 = System1()
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
