"""The adapters of a run: trained where what they depend on has changed, found again where it has not."""

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from secondnature.context import RunContext
from secondnature.curate import system1_examples, unfiltered_examples
from secondnature.curated import Curation, current, examples_digest, training_examples
from secondnature.engines import has_weights
from secondnature.engines.endpoint import is_endpoint
from secondnature.engines.models import check_name
from secondnature.files import digest_of, file_digest, read_json
from secondnature.recipe import Recipe
from secondnature.report.model import Report
from secondnature.run import Run
from secondnature.trackers import Tracking, log_figures, tracked
from secondnature.train import CONFIG, WEIGHTS, TrainingExample, last_checkpoint, train
from secondnature.types import UserError

SEED = "distilled_seed_"
NUMBERS = ("examples", "steps", "tokens", "seconds", "tokens_per_second", "loss_first", "loss_last")  # in training.json
# What they are trained on: System 2 unfiltered, and System 1's own filtered answers.
CONTROLS: dict[str, Callable[[RunContext, int], list[TrainingExample]]] = {
    "control_unfiltered": unfiltered_examples,
    "control_system1_self": system1_examples,
}


@dataclass(frozen=True, slots=True)
class Adapter:
    """A folder with a PEFT adapter; `name` is the digest of its weights, and part of the key of every call made with it."""

    name: str
    folder: Path


def seed_name(seed: int) -> str:
    """What the system with the adapter of a further training seed is called."""
    return f"{SEED}{seed}"


def is_seed(system: str) -> bool:
    return system.startswith(SEED)


def train_adapter(
    context: RunContext,
    examples: Sequence[TrainingExample],
    made_from: str,
    folder: Path,
    title: str,
    max_steps: int | None = None,
    seed: int | None = None,
) -> None:
    """Train on the examples, whose digest is `made_from`, into `folder`, unless the adapter there was made from just these."""
    recipe = context.run.recipe
    seed = recipe.train.seed if seed is None else seed
    if not has_weights(recipe.engine.kind):
        context.display.say(f"{title}: the {recipe.engine.kind} engine has no weights to train")
        return
    if recipe.train.base is None and is_endpoint(recipe.model):
        raise UserError(
            f"{title}: a model at an endpoint has no weights here to train: name the same model's folder or hub id as "
            f"train.base; {context.run.curated} is ready, and `secondnature evaluate {context.run.folder}` goes on without it"
        )
    from secondnature.engines.models import locate, public_name

    digest = adapter_digest(context.run, made_from, max_steps, seed)
    if _made_from(folder) == digest:
        if (harm := damage(folder)) is None:
            context.display.say(f"{title}: {folder} was trained on just this")
            return
        context.display.say(f"{title}: {harm}; it is trained anew")
    context.release_engine()
    changes = {"seed": seed, "max_steps": recipe.train.max_steps if max_steps is None else max_steps}
    options = recipe.train.model_copy(update=changes)
    tracking = tracking_of(context)
    label = tracking.label(folder.name, digest)
    checkpoints = context.run.folder / "checkpoints" / f"{folder.name}-{digest}"
    context.run.save_recipe()
    context.display.say(f"{title}: loading the model, to train on {len(examples):,} answers")
    with (
        context.timed(title),
        _resumes_from(checkpoints, options.save_steps),
        context.display.stage(title, 0) as bar,
        tracked(tracking, label),
    ):

        def on_step(step: int, steps: int, loss: float | None, tokens: int) -> None:
            bar.total = steps
            bar.advance(step - bar.done, None if loss is None else [f"loss {loss:.3f}"], tokens)

        base = recipe.train.base or recipe.model
        files = locate(base, say=context.display.say)
        train(
            examples,
            files.path,
            options,
            folder,
            checkpoints,
            digest=digest,
            dtype=recipe.engine.dtype,
            device=recipe.engine.device,
            on_begin=bar.begin,
            on_step=on_step,
            run_name=label,
            on_tracker_error=tracking.failed,
            base=public_name(base, files.digest),
            say=lambda line: context.display.say(f"{title}: {line}"),
        )


def check_base(recipe: Recipe) -> None:
    """Raises UserError where `train.base` names no model or the device to train on is not here: before a sample is paid for."""
    if recipe.train.base is None:
        return
    check_name(recipe.train.base, key="train.base")
    if find_spec("torch") is not None and find_spec("transformers") is not None:
        from secondnature.engines.loading import usable_device

        usable_device(recipe.engine.device)


@contextlib.contextmanager
def _resumes_from(checkpoints: Path, save_steps: int) -> Generator[None]:
    """A Ctrl-C says what it means for training: the steps since the last checkpoint are done again."""
    try:
        yield
    except KeyboardInterrupt:
        last = last_checkpoint(checkpoints)
        where = "starts again" if last is None else f"goes on from step {last.name.rpartition('-')[2]}"
        raise KeyboardInterrupt(
            f"training {where}: there is a checkpoint every {save_steps} steps (train.save_steps); all replies are stored"
        ) from None


def train_controls(context: RunContext, curation: Curation) -> None:
    """Train the controls that a result needs, on as many examples and steps as the distilled model."""
    steps = training_summary(context.run.adapter).get("steps")
    for name, examples_for in CONTROLS.items():
        title = f"train {name.replace('_', ' ')}"
        made_from, folder = control_digest(curation, name), context.run.folder / name
        examples = examples_for(context, curation.kept)
        if examples:
            train_adapter(context, examples, made_from, folder, title, steps)
        else:
            context.display.say(f"{title}: nothing was kept, so there is nothing to train on")


def control_digest(curation: Curation, name: str) -> str:
    """What a control is made from: the same settings as the distilled model's training set, and as many examples."""
    return f"{name} {curation.settings} {curation.examples}"


def tracking_of(context: RunContext) -> Tracking:
    return Tracking(context.run.recipe.train.report_to, context.run.folder, context.display.say)


def track_report(context: RunContext, report: Report) -> None:
    """Add the figures of `report.json` to the tracker run of the adapter that they were measured with."""
    made_from = _made_from(context.run.adapter) if report.training is not None else None
    tracking = tracking_of(context)
    label = tracking.label("adapter", made_from or "untrained")
    step = report.training.steps if report.training is not None and made_from else 0
    log_figures(tracking, label, report.as_json(), context.run.recipe.model_dump(exclude_none=True), step)


def current_adapters(context: RunContext, *, checked: bool = True) -> dict[str, Adapter]:
    """The adapters that belong to the recipe as it is now: "distilled", and the controls where asked for.

    Raises UserError where one is damaged; where they are not `checked` it is left out.
    """
    if not context.run.adapter.exists():
        return {}
    curation, train = current(context), context.run.recipe.train
    made_from = curation.examples
    if not curation.kept or _made_from(context.run.adapter) != adapter_digest(context.run, made_from, None, train.seed):
        return {}
    found = {"distilled": context.run.adapter}
    for seed in train.seeds:
        folder = context.run.folder / seed_name(seed)
        if _made_from(folder) == adapter_digest(context.run, made_from, None, seed):
            found[seed_name(seed)] = folder
    steps = training_summary(context.run.adapter).get("steps")
    for name in CONTROLS if context.run.recipe.evaluate.controls else ():
        folder = context.run.folder / name
        digest = adapter_digest(context.run, control_digest(curation, name), steps, train.seed)
        if folder.exists() and _made_from(folder) == digest:
            found[name] = folder
    if not checked:
        found = {name: folder for name, folder in found.items() if damage(folder) is None}
    return {name: _adapter(folder) if checked else _named(folder) for name, folder in found.items()}


def find_adapter(folder: Path) -> Adapter | None:
    """The adapter in the folder, whatever it was made from; None where there is none. Raises UserError for a damaged one."""
    return _adapter(folder) if training_summary(folder) else None


def _adapter(folder: Path) -> Adapter:
    check_adapter(folder)
    return _named(folder)


def _named(folder: Path) -> Adapter:
    return Adapter(file_digest(folder / WEIGHTS)[:16], folder)


def check_adapter(folder: Path) -> None:
    """Raises UserError unless the adapter is what training wrote."""
    if (harm := damage(folder)) is not None:
        raise UserError(f"{harm}: `secondnature train {folder.parent}` makes it anew")


def damage(folder: Path) -> str | None:
    """In what the adapter is not what training wrote; None where it is."""
    digests: object = training_summary(folder).get("files")
    if not isinstance(digests, dict):
        return (
            f"adapter {folder}: is not what training wrote, or of an older version (training.json has no digests of it)"
        )
    for name in (WEIGHTS, CONFIG):
        if not (path := folder / name).is_file():
            return f"adapter {folder}: {name} is missing"
        if cast("dict[str, Any]", digests).get(name) != file_digest(path):
            return f"adapter {folder}: {name} is not what training wrote (training.json has its SHA-256)"
    return None


def is_current(run: Run) -> bool:
    """Whether the adapter was trained on what the recipe and curated.jsonl say now."""
    made_from = examples_digest(training_examples(run))
    return _made_from(run.adapter) == adapter_digest(run, made_from, None, run.recipe.train.seed)


def training_summary(folder: Path) -> dict[str, Any]:
    """What training left beside the adapter: digest, examples, steps, seconds, losses. Empty where there is none.

    Raises UserError where it holds something else.
    """
    path, mend = folder / "training.json", f"remove {folder}, and `secondnature train` makes it anew"
    found = read_json(path, mend)
    history: object = found.get("history", [])
    steps = cast("list[object]", history) if isinstance(history, list) else [None]
    numbers = [found.get(name) for name in NUMBERS]
    numbers += [
        cast("dict[str, object]", s).get(k) if isinstance(s, dict) else "" for s in steps for k in ("step", "loss")
    ]
    if not all(n is None or (isinstance(n, int | float) and abs(n) < 1e15) for n in numbers):
        raise UserError(f"{path}: holds something else than training wrote: {mend}")
    return found


def _made_from(folder: Path) -> str | None:
    return training_summary(folder).get("digest")


def adapter_digest(run: Run, made_from: str, max_steps: int | None, seed: int) -> str:
    """What an adapter depends on: its training set, whose digest is `made_from`, the model and the settings of training."""
    content = {
        "model": run.state.get("model"),
        "examples": made_from,
        "train": {
            **run.recipe.train.model_dump(exclude={"save_steps", "seeds", "report_to"}, exclude_none=True),
            "seed": seed,
        },
        "max_steps": max_steps,
    }
    return digest_of(content)[:16]
