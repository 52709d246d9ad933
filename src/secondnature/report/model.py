"""`report.json` as a typed model: what the report, its page, the viewer, the model card and the trackers read and write."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError, WithJsonSchema

from secondnature.files import to_json, write
from secondnature.systems import SystemId
from secondnature.types import UserError
from secondnature.untrusted import cut, parse_json

Decision = Literal["ship", "route", "keep-system2", "keep-system1", "inconclusive"]
Interval = Annotated[tuple[float, float], Field(description="A 95% interval: lower and upper end.")]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


def _system(key: object) -> SystemId:
    return key if isinstance(key, SystemId) else SystemId.parse(str(key))


SystemKey = Annotated[
    SystemId,
    PlainValidator(_system),
    PlainSerializer(lambda system: system.key, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "description": (
                "A system: system1, system2, distilled, system1_voted (as many samples as System 2's tokens pay for), "
                "control_unfiltered, control_system1_self, baseline_NAME, or system1_voted_K and the like."
            ),
        }
    ),
]


class Part(BaseModel):
    """A part of a report: frozen, without unknown keys, and with finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class Scores(Part):
    """How a system did on some test prompts."""

    n: Count = Field(description="Test prompts.")
    accuracy: Share | None = Field(description="Share answered as labelled; null without labels.")
    accuracy_ci: Interval | None
    agreement_with_system2: Share | None = Field(
        description="Share answered as System 2 did; of System 2 itself, as its second sample did. Needs no labels."
    )
    agreement_ci: Interval | None


class Stability(Part):
    """How often a system's answer changes with a perturbation of the prompt that must not change it."""

    n: Count = Field(description="Test prompts that could be perturbed.")
    changed: Share = Field(description="Share whose answer changed or became unparsable.")
    changed_ci: Interval


class SystemFigures(Scores):
    """What was measured of one system, on the headline slice."""

    tokens_per_answer: float = Field(description="Generated tokens an answer, all intermediate calls included.")
    prompt_tokens_per_answer: float = Field(description="Prompt tokens an answer, all calls included.")
    cost_per_1000: float | None = Field(
        description="Cost of 1,000 answers at engine.price_per_million; null without it."
    )
    unparsable: Share = Field(description="Share of answers that could not be parsed.")
    truncated: Share | None = Field(description="Share of answers truncated at sampling.max_tokens; null of votes.")
    latency_ms_p50: float | None = Field(
        description="Median latency of one prompt at a time; null where none was timed."
    )
    latency_ms_p95: float | None = Field(description="95th percentile of that latency.")
    latency_prompts: Count = Field(description="Prompts that were timed one at a time.")
    answers_per_second: float | None = Field(
        default=None,
        description="Throughput with as many prompts at once as the engine takes; null where not measured.",
    )
    tokens_per_second: float | None = Field(default=None, description="Generated tokens per second at that throughput.")
    same_answer: Share = Field(description="Share of the prompts that got the system's most frequent answer.")
    votes: Annotated[int, Field(ge=1)] = Field(
        description="Samples an answer is the majority of; 1 where there is no vote."
    )
    description: str = Field(description="What the system is.")
    slices: dict[str, Scores] = Field(description="The scores on each slice of the test prompts.")
    stability: dict[str, Stability] | None = Field(description="By perturbation; null where none was asked for.")

    def caption(self, system: SystemId) -> str:
        """Its name in tables, with the number of votes that System 2's tokens paid for."""
        return system.caption if system.votes or self.votes == 1 else f"{system.caption} ({self.votes} votes)"


class Agreement(Part):
    """Between which bounds agreement with System 2 is to be read."""

    floor: Share | None = Field(description="System 1 with System 2.")
    ceiling: Share | None = Field(description="System 2 with an independent sample of itself.")


class Test(Part):
    """A hypothesis test behind the verdict."""

    __test__ = False  # pytest: no test class

    name: str = Field(description="What is compared, as first - second.")
    question: str
    kind: Literal["superiority", "non-inferiority"]
    margin: float = Field(description="The non-inferiority margin; 0 in tests of superiority.")
    n: Count = Field(description="Test prompts.")
    groups: Count = Field(description="Independent groups of test prompts.")
    difference: float = Field(description="Mean of the first less mean of the second, paired by prompt.")
    ci: Interval
    p: Share = Field(description="The p value.")
    decided: bool = Field(description="Whether the answer to the question is yes at the 5% level.")


class Constant(Part):
    """What one answer to every prompt would come to: the most frequent label; without labels, System 2's most frequent answer."""

    answer: str = Field(description="That answer, normalized.")
    share: Share = Field(description="Its accuracy on the headline slice; without labels, its agreement with System 2.")


class Saving(Part):
    """Generated tokens an answer of the distilled model against the cheaper of System 1 and System 2."""

    than: str = Field(description="The system compared with.")
    tokens: float
    tokens_other: float
    ratio: float = Field(description="tokens / tokens_other.")
    ci: Interval
    decided: bool = Field(description="Whether saving less than half is ruled out.")


class Power(Part):
    """What so many groups of test prompts can show."""

    groups: Count
    minimum_detectable_difference: float = Field(description="A smaller difference is easily missed (power 80%).")
    needed: int | None = Field(
        description="Groups that show in 80% of all tests that equal systems are within the margin."
    )
    sentence: str


class Difference(Part):
    """Accuracy of the first system less that of the second, on the same prompts."""

    first: SystemKey
    second: SystemKey
    slice: str | None = Field(description="The slice; null for all test prompts.")
    difference: float
    ci: Interval


class Seed(Scores):
    """One training seed of the distilled model."""

    seed: int
    verdict: Decision = Field(description="What the verdict would be with this seed.")


class Threshold(Part):
    """What a number of required votes would keep."""

    votes: Count
    kept: Count
    label_precision: Share | None = Field(
        description="Share of the kept answers that are the label; null without labels."
    )


class Curation(Part):
    """What sampling and voting made of the training prompts."""

    prompts: Count
    samples: Count
    samples_fixed_n: Count = Field(description="Samples that a fixed sampling.n would have taken.")
    tokens_saved_by_early_stopping: int
    kept: Count
    discarded: dict[str, Count] = Field(description="Discarded prompts by reason, the most frequent first.")
    calls: Count = Field(description="Distinct model calls behind the samples.")
    calls_reused: Count = Field(description="Calls that were answered from the store.")
    tokens_prompt: Count = Field(description="Prompt tokens of the distinct calls.")
    tokens_completion: Count = Field(description="Generated tokens of the distinct calls.")
    thresholds: list[Threshold] | None = Field(
        description="Null unless every sample of every prompt was taken (full_n)."
    )
    label_precision: Share | None = Field(
        description="Share of the kept answers that are the label. Labels choose nothing."
    )
    label_precision_single: Share | None = Field(description="The same of single samples.")
    seconds: float = Field(default=0.0, description="Time that sampling took, over all its restarts.")


class Loss(Part):
    step: Count
    loss: float


class Training(Part):
    """How the adapter was trained; adapter/training.json."""

    digest: str = Field(description="Digest of everything the adapter was made from.")
    files: dict[str, str] | None = Field(default=None, description="SHA-256 of the adapter's files.")
    examples: Count
    steps: Count
    tokens: Count = Field(description="Tokens of the examples, prompts included.")
    seconds: float
    tokens_per_second: float | None = Field(description="Null where training was resumed.")
    loss_first: float | None
    loss_last: float | None
    history: list[Loss]


class Divergence(Part):
    """How far the adapter moves the base model's next-token distribution on the base's answers."""

    kl: float = Field(description="KL(base || distilled) in nats a token.")
    kl_ci: Interval
    perplexity_base: float = Field(description="Of the base's answers, under the base.")
    perplexity_distilled: float = Field(description="Of the base's answers, under the distilled model.")


class ChangedAnswer(Part):
    """A general prompt whose answer changed."""

    prompt: str
    base: str
    distilled: str
    kl: float | None


class GeneralPrompts(Part):
    """General prompts, answered by the base and by the distilled model."""

    source: str
    n: Count
    same: Share = Field(description="Share answered word for word as before.")
    same_ci: Interval
    tokens_base: float = Field(description="Generated tokens an answer.")
    tokens_distilled: float
    divergence: Divergence | None = Field(description="Null where the weights were not at hand.")
    changed: list[ChangedAnswer] = Field(description="The answers that moved most.")


class TaskScore(Part):
    """A metric of a task of lm-evaluation-harness."""

    task: str
    metric: str
    n: Count | None
    base: float
    base_stderr: float | None
    distilled: float
    distilled_stderr: float | None


class Regression(Part):
    """What distilling did to everything else."""

    general: GeneralPrompts | None = None
    tasks: list[TaskScore] = []


Overlap = Literal["exact", "n-gram", "near-duplicate"]


class Flagged(Part):
    """A test prompt that is also in training."""

    id: str
    kind: Overlap
    train_id: str = Field(description="The id of the training prompt.")
    score: Share = Field(description="The share of the test prompt's distinctive words that is in the training prompt.")
    text: str
    train_text: str


class Without(Part):
    """The systems without the flagged test prompts."""

    n: Count
    systems: dict[SystemKey, Scores]


class Contamination(Part):
    """Test prompts that are also in training."""

    n: Count = Field(description="Test prompts of the headline slice.")
    flagged: Count
    kinds: dict[Overlap, Count]
    rows: list[Flagged]
    without: Without


class Caveat(Part):
    """What to mind when reading the figures."""

    kind: str = Field(description="A short name that does not change, such as contamination.")
    text: str = Field(description="One sentence.")


class Settings(Part):
    """The settings of the recipe that the figures depend on most."""

    n: int
    min_agreement: float
    temperature: float
    top_p: float
    max_tokens: int
    margin: float
    limit: int | None = Field(description="--limit; null where all prompts were used.")


class Report(Part):
    """`report.json`: the verdict of a run, and everything it rests on. A run may be half finished: what is missing is null."""

    verdict: Decision
    reason: str = Field(description="One sentence.")
    caveats: list[Caveat]
    next_step: str = Field(default="", description="What to do now; RUN stands for the run folder.")
    model: str
    task: str
    technique: str
    system1: dict[str, Any] = Field(description="How a fast answer is asked for: the options of system1 in the recipe.")
    part: Literal["dev", "test"] = Field(description="The part of the data that was measured on.")
    headline: str | None = Field(description="The slice that the verdict is about; null for all test prompts.")
    systems: dict[SystemKey, SystemFigures | None] = Field(description="By system; null where it was not run.")
    agreement: Agreement | None
    tests: list[Test]
    constant: Constant | None = Field(description="Null where there are no test answers.")
    saving: Saving | None
    power: Power | None
    differences: list[Difference]
    seeds: list[Seed] | None = Field(description="The main run's first; null where only one seed was trained.")
    curation: Curation | None = Field(description="Null where sampling is not finished.")
    training: Training | None
    regression: Regression | None = None
    contamination: Contamination | None = None
    settings: Settings
    seconds: dict[str, float] = Field(description="Time per stage, over all its restarts.")
    versions: dict[str, str] | None
    hardware: dict[str, str | int] | None
    model_identity: dict[str, str] | None = Field(description="What identifies the model: digests, precision, adapter.")
    source: str | None = Field(description="Where the data come from, with their licence.")

    def measured(self) -> dict[SystemId, SystemFigures]:
        """The systems that were run, in the order of tables."""
        there = {system: figures for system, figures in self.systems.items() if figures is not None}
        return dict(sorted(there.items(), key=lambda item: item[0].order))

    def of(self, system: SystemId) -> SystemFigures | None:
        return self.systems.get(system)

    @property
    def labelled(self) -> bool:
        return any(figures.accuracy is not None for figures in self.measured().values())

    def as_json(self) -> dict[str, Any]:
        """What `report.json` holds."""
        return self.model_dump(mode="json")


def write_report(path: Path, report: Report) -> None:
    write(path, to_json(report.as_json()))


def read_report(path: Path) -> Report | None:
    """The report in a file; None where there is no file. Raises UserError where it holds something else."""
    if not path.exists():
        return None
    try:
        return Report.model_validate(parse_json(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"]) or "all of it"
        found = f"{cut(place, 80)}: {first['msg']}"
    except (OSError, ValueError, RecursionError) as error:
        found = str(error)
    raise UserError(f"{path}: no report of this version ({found}): `secondnature report {path.parent}` writes it anew")
