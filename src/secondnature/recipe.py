"""The recipe: one YAML file that holds everything that decides a run."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from secondnature import engines
from secondnature.engines.endpoint import Budget, HTTPOptions, is_endpoint, parse_endpoint
from secondnature.tasks.columns import template_columns
from secondnature.tasks.sources import Dataset
from secondnature.types import UserError
from secondnature.untrusted import check_placeholders
from secondnature.user_code import is_user_code

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


@dataclass(frozen=True)
class PathChange:
    """Validating a recipe with this as its context changes each path in it: `path` what is one, `name` what may be one.

    A name may also be a model's or a data set's on the hub.
    """

    path: Callable[[str], str]
    name: Callable[[str], str]


UNCHANGED = PathChange(str, str)


def _change(info: ValidationInfo) -> PathChange:
    return info.context if isinstance(info.context, PathChange) else UNCHANGED


def _path(text: str, info: ValidationInfo) -> str:
    return _change(info).path(text)


def _name(text: str, info: ValidationInfo) -> str:
    return _change(info).name(text)


def _function(text: str, info: ValidationInfo) -> str:
    file, _, called = text.rpartition(":")
    return f"{_change(info).path(file)}:{called}" if is_user_code(text) else text


RecipePath = Annotated[str, AfterValidator(_path)]
NameOrPath = Annotated[str, AfterValidator(_name)]
FunctionName = Annotated[str, AfterValidator(_function)]  # a built-in one's name, or "file.py:function"


class Section(BaseModel):
    """A part of the recipe: unknown keys are errors, and no number is infinite or none at all."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def _zero_or_more_than(value: float, least: float) -> float:
    """What is divided by or squared must not vanish in floating point."""
    if 0 < value < least:
        raise ValueError(f"0, or {least:g} and more")
    return value


class HubDataset(Section):
    """A Hugging Face dataset; names and meanings as in `datasets.load_dataset`."""

    path: NameOrPath
    """An id on the hub, or a folder of data files."""
    name: str | None = None
    """The dataset's configuration, where it has several."""
    split: str
    """Such as `train`, `train[:1000]` or `train+validation`."""
    revision: str | None = None
    """A branch, tag or commit: give one to stay with it."""

    @property
    def source(self) -> Dataset:
        return Dataset(self.path, self.split, self.name, self.revision)


class Data(Section):
    """Files or datasets, and what their columns are called. Beside a task, a part replaces the task's."""

    train: str | HubDataset | None = None
    """The prompts to learn from: a file (JSON Lines, CSV, TSV, Parquet) or a dataset. Needed, unless there is a task."""
    dev: str | HubDataset | None = None
    """The prompts for choosing settings. Without it, a tenth of train's groups."""
    test: str | HubDataset | None = None
    """The prompts for the report. Without it, a fifth of train's groups."""
    template: str | None = None
    """Makes the prompt from columns: `{question}`. Then `prompt` has no effect."""
    system: str | None = None
    """A system message before every prompt."""
    prompt: str = "prompt"
    """The column with the prompt: a text, or a list of messages."""
    answer: str = "answer"
    """The column with the label. Labels are used for measuring only, and may be absent."""
    group: str = "group"
    """The column that says which rows belong together. A group is never split between train, dev and test."""
    id: str = "id"
    """The column with the row's name."""
    slices: list[str] = []
    """Columns whose values name the slices of the report."""
    fields: list[str] = []
    """Columns that a technique of your own reads, as `example["topic"]`."""
    count_from: Literal[0, 1] | None = None
    """Whether labels that are numbers of choices start at 0 or 1, where the files do not tell."""

    @field_validator("train", "dev", "test")
    @classmethod
    def _file(cls, part: str | HubDataset | None, info: ValidationInfo) -> str | HubDataset | None:
        return _path(part, info) if isinstance(part, str) else part

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
    """How answers are asked for and read."""

    kind: str
    """The kind of answer to read, such as `label` or `number`."""
    labels: list[str] = []
    """The labels, for the kind `label`."""
    fields: list[str] = []
    """The fields that an object must have, for the kind `json`."""


class Demonstration(Section):
    """A worked example of a fast answer."""

    prompt: str
    """What is asked."""
    answer: str
    """The answer, as the model should give it."""


class System1(Section):
    """How a fast answer is asked for. The student is trained, evaluated, exported and served with just that prompt."""

    instruction: str = ""
    """A system message. `{form}` in it becomes the form of the answer, such as "yes or no"."""
    demonstrations: list[Demonstration] = []
    """Worked examples, shown as earlier turns."""

    @property
    def options(self) -> dict[str, Any]:
        """Those of the technique `direct`."""
        return self.model_dump(exclude_defaults=True)


class TechniqueChoice(BaseModel):
    """A technique's name; the other keys are its options."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)
    name: FunctionName
    """A built-in technique, or `file.py:function`. Further keys are its options."""

    @property
    def options(self) -> Mapping[str, Any]:
        return self.__pydantic_extra__ or {}


class TaskChoice(BaseModel):
    """A built-in task's name; the other keys are its options."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)
    name: str
    """A built-in task. Further keys are its options."""

    @model_validator(mode="after")
    def _paths(self, info: ValidationInfo) -> "TaskChoice":
        """The paths of the task's own data."""
        if "data" in self.options and (change := _change(info)) is not UNCHANGED:
            return self.model_copy(update={"data": _of_task(self.options["data"], change)})
        return self

    @property
    def options(self) -> Mapping[str, Any]:
        return self.__pydantic_extra__ or {}


def _of_task(data: Any, change: PathChange) -> Any:
    """A task's data with its paths changed; the task itself checks it."""
    if isinstance(data, str):
        return change.path(data)
    if not isinstance(data, Mapping):
        return data
    parts = cast("Mapping[str, Any]", data)
    if "path" in parts:  # a dataset
        return {**parts, "path": change.name(parts["path"])} if isinstance(parts["path"], str) else parts
    return {part: _of_task(value, change) for part, value in parts.items()}


class Sampling(Section):
    """How System 2 is sampled."""

    n: int = Field(default=8, ge=1, le=MOST)
    """System 2's samples of a prompt, at most."""
    temperature: float = Field(default=0.7, ge=0, le=100)
    """The sampling temperature."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus sampling: the probability mass that is sampled from."""
    max_tokens: int = Field(default=512, ge=1, le=1_000_000)
    """The most tokens of one reply, in sampling and evaluation."""
    full_n: bool = False
    """Draw all n samples, also where the outcome is already decided."""

    @field_validator("temperature")
    @classmethod
    def _divides(cls, temperature: float) -> float:
        return _zero_or_more_than(temperature, 1e-3)


class Verify(Section):
    """Which answers are kept."""

    min_agreement: float = Field(default=0.75, gt=0, le=1)
    """The share of the n samples that must give the same answer."""
    min_margin: float = Field(default=0.0, ge=0, le=1)
    """The share of n by which that answer must lead the second."""
    weighted: bool = False
    """Weight votes by the model's confidence in them."""
    beta: float | None = Field(default=None, gt=0.5, lt=1)
    """Also stop once the outcome is this probable. Approximate."""
    universal: bool = False
    """The model itself picks the most consistent response, for free text."""
    choose: str | None = None
    """The prompt of `universal`."""
    perturb: list[FunctionName] = []
    """Changes of the prompt that must not change the answer, such as `swap`."""

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
    """Names and meanings as in TRL's SFTConfig and PEFT's LoraConfig."""

    base: NameOrPath | None = None
    """The weights to train, where the model is at an endpoint: a hub id or a folder."""
    num_train_epochs: float = Field(default=3.0, gt=0, le=100_000)
    """Passes over the kept answers."""
    learning_rate: float = Field(default=2e-4, gt=0, le=1)
    """The peak learning rate."""
    per_device_train_batch_size: int = Field(default=16, ge=1, le=100_000)
    """Examples of one forward pass."""
    gradient_accumulation_steps: int = Field(default=1, ge=1, le=100_000)
    """Forward passes of one optimizer step."""
    lr_scheduler_type: Schedule = "cosine"
    """The learning rate's schedule."""
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    """The share of steps that warm up."""
    weight_decay: float = Field(default=0.0, ge=0, le=100)
    """The weight decay."""
    max_steps: int = Field(default=-1, ge=-1, le=1_000_000_000)
    """Optimizer steps; -1 means those of `num_train_epochs`."""
    save_steps: int = Field(default=10, ge=1, le=1_000_000_000)
    """Optimizer steps between checkpoints."""
    lora_r: int = Field(default=16, ge=1, le=4096)
    """The adapter's rank."""
    lora_alpha: int = Field(default=32, ge=1, le=100_000)
    """The adapter's scale is `lora_alpha / lora_r`."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """The adapter's dropout."""
    seed: Seed = 0
    """The seed of the adapter that is shipped."""
    seeds: list[Seed] = []
    """Further seeds: one more training each, to show how much training varies."""
    report_to: list[Literal["mlflow", "tensorboard", "trackio", "wandb"]] = []
    """Experiment trackers to log to."""

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
    """Task names."""
    include_path: RecipePath | None = None
    """A folder with tasks of your own."""
    limit: int | None = Field(default=None, ge=1)
    """Rows of each task, at most."""


class Evaluate(Section):
    """How the systems are compared. Answers are greedy, except `votes`."""

    part: Literal["dev", "test"] = "test"
    """Which part is measured on: `dev` to choose settings, `test` for the report."""
    margin: float = Field(default=0.05, ge=0, lt=1)
    """The accuracy that the distilled model may lose against System 2. State it before you look."""
    headline: str | None = None
    """The slice that the verdict is about; all rows unless given."""
    controls: bool = False
    """Also train on unfiltered System 2 answers and on System 1's own filtered answers."""
    baselines: dict[str, TechniqueChoice] = {}
    """Simple alternatives to compare with, by name: each a technique with its options."""
    voted: bool = True
    """Also measure a majority vote of System 1 for System 2's tokens."""
    votes: list[Annotated[int, Field(ge=1, le=MOST)]] = []
    """Also measure majority votes of k samples, for each k."""
    temperature: float | None = Field(default=None, ge=1e-3, le=100)
    """The temperature of `votes`; that of `sampling` unless given."""
    perturb: list[FunctionName] = []
    """Changes of the prompt that must not change the answer: how often does it change?"""
    latency_prompts: int = Field(default=20, ge=0, le=1_000_000)
    """Prompts whose latency is measured, one at a time."""
    latency_seconds: float = Field(default=60.0, gt=0, le=1e9)
    """A system that took so many seconds is not timed further, once three prompts were."""
    regression: bool | str = True
    """Compare base and adapter on general prompts: built-in ones (`true`), a file's, or none (`false`)."""
    lm_eval: LmEval | None = None
    """Benchmarks of lm-evaluation-harness: task names, or a mapping."""
    contamination: bool = True
    """Look for test prompts among the training prompts."""

    @field_validator("regression")
    @classmethod
    def _file(cls, regression: bool | str, info: ValidationInfo) -> bool | str:
        return _path(regression, info) if isinstance(regression, str) else regression

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
    """Of a million prompt tokens."""
    completion: float = Field(ge=0)
    """Of a million generated tokens."""


class EngineChoice(Section):
    """What runs the model; the keys from `concurrency` on are for one at an endpoint."""

    kind: str = Field(default="auto", json_schema_extra={"enum": list(engines.KINDS)})
    """What runs the model. `auto`: OpenVINO on CPUs where it is installed, else transformers; an endpoint by its address."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """The precision of the weights."""
    device: str = "auto"
    """The device, as torch names it."""
    concurrency: int = Field(default=32, ge=1)
    """Requests in flight at first; it adapts to the server."""
    timeout: float = Field(default=600.0, gt=0)
    """Seconds that one request may take."""
    max_retries: int = Field(default=8, ge=0)
    """How often a request is tried again."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key, never the key itself."""
    max_tokens_total: int | None = Field(default=None, ge=1)
    """The run's budget of tokens."""
    max_cost: float | None = Field(default=None, gt=0)
    """The run's budget of money. Needs `price_per_million`."""
    price_per_million: Prices | None = None
    """Prices, in any currency."""

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        return engines.check_kind(kind)

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

    model: NameOrPath
    """A hub id, a folder, a .gguf file, `bundled:smollm2-135m`, or `http://host:8000/v1#served-name`."""
    task: TaskChoice | None = None
    """A built-in task: its name, or a mapping with its options."""
    data: Data | None = None
    """Your own prompts."""
    answer: Answer | None = None
    """How answers are read. Needed with `data`."""
    technique: TechniqueChoice
    """System 2, the slow way that is distilled."""
    system1: System1 = System1()
    """How a fast answer is asked for; the prompt as it is unless given."""
    sampling: Sampling = Sampling()
    """How System 2 is sampled."""
    verify: Verify = Verify()
    """Which answers are kept."""
    train: Train = Train()
    """How the adapter is trained; names as in TRL's SFTConfig and PEFT's LoraConfig."""
    evaluate: Evaluate = Evaluate()
    """How the systems are compared."""
    engine: EngineChoice = EngineChoice()
    """What runs the model; the keys from `concurrency` on are for endpoints."""
    store: RecipePath | None = None
    """A store of calls that several runs share; the run's own unless given."""
    limit: int | None = Field(default=None, ge=1)
    """Cut train, dev and test to this many prompts each."""

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
