"""From a recipe to what the stages work with: the rows, the answer kind, the systems."""

import functools
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from secondnature.engines.base import Engine
from secondnature.engines.models import cache_folder
from secondnature.perturb import Perturbation, load_perturbation
from secondnature.recipe import Answer, Data, Recipe
from secondnature.sampling import System
from secondnature.tasks import AnswerKind, answer_kind, load_task, task_kind
from secondnature.tasks.columns import AS_WRITTEN, Columns
from secondnature.tasks.data import File, counted, load_parts, read_lines
from secondnature.tasks.general import general_prompts
from secondnature.tasks.sources import Lines, as_lines
from secondnature.techniques import load_technique, option_value
from secondnature.techniques.direct import direct_prompt
from secondnature.trackers import check_trackers
from secondnature.types import Decoding, Example, Message, Row, Splits, Technique, UserError, nearest
from secondnature.user_code import UserFunction
from secondnature.verifier import CHOOSE, Verifier
from secondnature.vote import Rule

MOST_LABELS = 50


@dataclass(frozen=True)
class Resolved:
    """A recipe with its data loaded and its names looked up."""

    name: str
    source: str
    train: Sequence[Row]  # may be read from its file at every iteration
    held_out: Sequence[Row]  # what the systems are compared on: test, or dev while settings are chosen
    general: Sequence[Example]  # prompts unlike the task's, to see what else the adapter changed
    kind: AnswerKind
    system1: System
    system2: System
    student_prompt: Callable[[Example], tuple[Message, ...]]  # System 1's prompt, which the student is trained on
    baselines: dict[str, System]
    verifier: Verifier
    stability: dict[str, Perturbation]  # the perturbations that the systems are compared under

    @functools.cached_property
    def prompts_digest(self) -> str:
        """A digest of the training prompts without their labels: reads them all, once."""
        digest = hashlib.sha256()
        for row in self.train:
            example = row.example
            turns = [turn.as_dict() for turn in example.messages]
            digest.update(json.dumps([example.id, turns, dict(example.fields), example.template]).encode() + b"\n")
        return digest.hexdigest()

    def load_user_code(self) -> None:
        """Run the files of the user's own functions. Raises UserError where one does not run or has no such function."""
        techniques = (system.technique for system in (self.system2, *self.baselines.values()))
        for function in (*techniques, *self.verifier.perturb.values(), *self.stability.values()):
            if isinstance(function, UserFunction):
                function.load()


def prepare(
    recipe: Recipe, say: Callable[[str], None] = lambda line: None, own: Mapping[str, str] | None = None
) -> Resolved:
    """Load the data and look up the techniques that `recipe` names; no user code runs.

    `own` has the digests of user code that the run recorded. Raises UserError for what cannot be used.
    """
    check_trackers(recipe.train.report_to)
    name, source, parts, kind = _rows(recipe, say)
    limit = recipe.limit
    train = parts.train[:limit]
    held_out = list((parts.dev if recipe.evaluate.part == "dev" else parts.test)[:limit])
    headline = recipe.evaluate.headline
    slices = sorted({name for row in held_out for name in row.slices})
    if headline is not None and held_out and headline not in slices:
        raise UserError(
            f"evaluate.headline: no {recipe.evaluate.part} row is in {headline!r}{nearest(headline, slices)}; "
            f"there are: {', '.join(slices) or 'none'}"
        )
    sampling = recipe.sampling
    if recipe.technique.name != "direct" and sampling.temperature == 0 and sampling.n > 1:
        raise UserError("sampling: at temperature 0 all n samples are the same; set a temperature, or n: 1")
    recorded = own or {}
    system2 = system2_of(recipe, recorded)

    def student_prompt(example: Example) -> tuple[Message, ...]:
        return direct_prompt(kind.formed(example), **recipe.system1.options)

    return Resolved(
        name=name,
        source=source,
        train=train,
        held_out=held_out,
        general=_general(recipe),
        kind=kind,
        system1=system1_of(recipe),
        system2=system2,
        student_prompt=student_prompt,
        baselines={
            name: System(
                load_technique(other.name, other.options, _of(other.name, recorded), key="evaluate.baselines"),
                _decoding(recipe),
            )
            for name, other in recipe.evaluate.baselines.items()
        },
        verifier=_verifier(recipe, system2.technique, kind, recorded),
        stability={
            name: load_perturbation(name, _of(name, recorded), key="evaluate.perturb")
            for name in recipe.evaluate.perturb
        },
    )


def _of(name: str, recorded: Mapping[str, str]) -> str | None:
    """The recorded digest of the file that "file.py:function" names."""
    return recorded.get(name.rpartition(":")[0])


def system1_of(recipe: Recipe) -> System:
    """The model asked for a direct answer; with the adapter it is the distilled model."""
    return System(load_technique("direct", recipe.system1.options), _decoding(recipe))


def system2_of(recipe: Recipe, recorded: Mapping[str, str] | None = None) -> System:
    """The model with the recipe's technique. Raises UserError where there is no such technique."""
    chosen = recipe.technique
    return System(load_technique(chosen.name, chosen.options, _of(chosen.name, recorded or {})), _decoding(recipe))


def _decoding(recipe: Recipe) -> Decoding:
    sampling = recipe.sampling
    return Decoding(sampling.temperature, sampling.top_p, sampling.max_tokens)


def kind_of(recipe: Recipe) -> AnswerKind:
    """The recipe's answer kind. It needs no data: the files may no longer exist when a finished run is asked."""
    if recipe.answer is not None:
        return _kind(recipe.answer)
    assert recipe.task is not None
    return task_kind(recipe.task.name, recipe.task.options, cache_folder())


def columns_of(data: Data) -> Columns:
    """The names of the columns in the recipe's files, and how prompts are made of them."""
    return Columns(**data.model_dump(exclude={"train", "dev", "test"}, exclude_none=True))


def _general(recipe: Recipe) -> Sequence[Example]:
    wanted = recipe.evaluate.regression
    return general_prompts(None if wanted is True else wanted, cache_folder()) if wanted else []


def _rows(recipe: Recipe, say: Callable[[str], None]) -> tuple[str, str, Splits, AnswerKind]:
    """The name of the data, where it comes from, the rows, and the kind of their answers."""
    task = None if recipe.task is None else load_task(recipe.task.name, recipe.task.options, cache_folder())
    if task is not None:
        for line in task.notices:
            say(line)
    if recipe.data is None:
        assert task is not None
        kind = task.answer if recipe.answer is None else _kind(recipe.answer)
        return task.name, task.source, task.parts(), kind
    data = recipe.data
    columns = columns_of(data)
    given = {part: value for part in ("train", "dev", "test") if (value := getattr(data, part)) is not None}
    sources = {
        part: as_lines(Path(value) if isinstance(value, str) else value.source, columns, cache_folder(), say)
        for part, value in given.items()
    }
    if recipe.answer is not None and recipe.answer.kind == "label" and not recipe.answer.labels:
        raise UserError(_proposed_labels(sources.values(), columns))
    kind = task.answer if task is not None else None
    kind = kind if recipe.answer is None else _kind(recipe.answer)
    assert kind is not None
    columns = counted(sources.values(), columns, kind, say)
    source = "; ".join(dict.fromkeys(lines.version for lines in sources.values() if lines.version))
    if task is None:
        name = Path(data.train).stem if isinstance(data.train, str) else Path(given["train"].path).name
        return name, source, load_parts(sources, columns, kind, say), kind
    parts = replace(task.parts(), **{part: read_lines(lines, columns, kind) for part, lines in sources.items()})
    tested = (*parts.dev, *parts.test)
    prompts, groups = {row.example.messages for row in tested}, {row.group for row in tested}
    train = [row for row in parts.train if row.example.messages not in prompts and row.group not in groups]
    if len(train) < len(parts.train):
        say(
            f"{len(parts.train) - len(train)} training rows are left out: their prompt, or its group, is in dev or test"
        )
    if not train:
        raise UserError(
            f"data: no training row is left: the prompt or the group of each is also in {' or '.join(given)}"
        )
    return task.name, "; ".join(filter(None, (task.source, source))), replace(parts, train=train), kind


def _kind(answer: Answer) -> AnswerKind:
    return answer_kind(answer.kind, answer.labels, answer.fields)


def _proposed_labels(sources: Iterable[Lines], columns: Columns) -> str:
    """The error for a recipe without labels: it lists those in the files, most frequent first."""
    need = "answer: the kind label needs its labels"
    found: Counter[str] = Counter()
    for source in sources:
        file = File(source, columns, AS_WRITTEN)
        with file.open() as lines:
            rows = (file.row(line, number) for number, line in enumerate(lines) if line.strip())
            found.update(row.label for row in rows if row.label is not None)
    if len(found) < 2:
        return f"{need}, at least two: answer: {{kind: label, labels: [a, b]}}"
    if len(found) > MOST_LABELS:
        return f"{need}; the column {columns.answer!r} has {len(found):,} different values: are they labels? See docs/data.md"
    listed = json.dumps([label for label, _ in found.most_common()], ensure_ascii=False)
    return f"{need}; found {len(found)} in the column {columns.answer!r}: answer: {{kind: label, labels: {listed}}}"


def _verifier(recipe: Recipe, technique: Technique, kind: AnswerKind, recorded: Mapping[str, str]) -> Verifier:
    sampling, options = recipe.sampling, recipe.verify
    if "swap" in options.perturb and option_value(technique, "both_orders"):
        raise UserError(
            f"verify.perturb: {recipe.technique.name} asks both orders itself, so swap would find what is so by construction: "
            "set technique.both_orders: false, or leave swap out"
        )
    return Verifier(
        rule=Rule(sampling.n, options.min_agreement, options.min_margin, options.beta, kind.by_field),
        kind=kind,
        full_n=sampling.full_n,
        weighted=options.weighted,
        universal=(options.choose or CHOOSE) if options.universal else None,
        perturb={name: load_perturbation(name, _of(name, recorded)) for name in options.perturb},
    )


def check_lengths(resolved: Resolved, engine: Engine, max_tokens: int) -> None:
    """Raises UserError for the first prompt that leaves no room for an answer in the model's context."""
    for row in itertools.chain(resolved.train, resolved.held_out):
        tokens = engine.count_tokens(resolved.student_prompt(row.example))
        if tokens + max_tokens > engine.context_length:
            raise UserError(
                f"{row.where or row.example.id}: the prompt has {tokens} tokens, which with max_tokens {max_tokens} "
                f"exceeds the model's context of {engine.context_length}: shorten or remove it, or lower sampling.max_tokens"
            )
