"""What the adapter did to everything else: general prompts, asked of the model with it and without it."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from secondnature.adapters import Adapter
from secondnature.answers import AnswerKind
from secondnature.context import RunContext, run_async
from secondnature.engines import has_weights
from secondnature.engines.endpoint import is_endpoint
from secondnature.evaluate.answers import answers
from secondnature.evaluate.divergence import Divergence, divergences
from secondnature.evaluate.harness import compare_tasks, task_rows
from secondnature.evaluate.statistics import Interval, mean_interval
from secondnature.files import read_json, to_json, write
from secondnature.report.model import ChangedAnswer, GeneralPrompts, Regression
from secondnature.report.model import Divergence as Moved
from secondnature.sampling import MissingCall, Model, System
from secondnature.techniques.direct import direct
from secondnature.train import TrainingExample
from secondnature.types import Decoding, Example, Sample

MAX_TOKENS = 64  # of an answer to a general prompt: enough to see that it changed
SHOWN = 20  # changed answers in the report


@dataclass(frozen=True)
class General:
    """The answers to the general prompts, without the adapter and with it."""

    examples: Sequence[Example]
    base: Sequence[Sample]
    distilled: Sequence[Sample]


async def ask_general(context: RunContext, model: Model, adapter: Adapter) -> General:
    """Greedy answers to the general prompts. Raises MissingCall where the model has no engine and the store not all."""
    examples, decoding = context.resolved.general, Decoding(temperature=0.0, max_tokens=MAX_TOKENS)
    base = System(direct, decoding)  # without what the recipe says to System 1: these are other jobs
    asked = [("general prompts, base", base), ("general prompts, distilled", replace(base, adapter=adapter.name))]
    return General(examples, *[await answers(context, model, s, examples, _ANY_TEXT, title) for title, s in asked])


_ANY_TEXT = AnswerKind("text", "any text", lambda _, text: text, str, "the answer")


def measure_regression(context: RunContext, adapter: Adapter) -> None:
    """Draw the answers into the store, and write `regression.json` and `lm_eval.json` where they are not up to date.

    Needs the model's weights for those two. Releases the engine, whose memory they take.
    """
    recipe = context.run.recipe
    general = run_async(ask_general(context, context.online(), adapter)) if context.resolved.general else None
    weights = _weights(context)
    if weights is None:
        if recipe.evaluate.lm_eval is not None:
            context.display.say("evaluate.lm_eval: left out, since the model's weights are not here (see train.base)")
        return
    from secondnature.engines.models import locate

    if general is not None and (digest := _digest(context, general, adapter)) != _stored(context).get("digest"):
        context.release_engine()
        pairs = [TrainingExample(e.messages, s.text) for e, s in zip(general.examples, general.base, strict=True)]
        with context.display.stage("divergence from the base", len(pairs)) as bar:
            rows = divergences(
                pairs,
                [sample.failure is None for sample in general.base],
                locate(weights).path,
                adapter.folder,
                dtype=recipe.engine.dtype,
                device=recipe.engine.device,
                on_answers=lambda done: bar.advance(done - bar.done),
            )
        write(_file(context), to_json({"digest": digest, "rows": [asdict(row) for row in rows]}))
    if recipe.evaluate.lm_eval is not None:
        context.release_engine()
        compare_tasks(context, recipe.evaluate.lm_eval, locate(weights).path, adapter)


def regression_report(context: RunContext, model: Model, adapter: Adapter | None) -> Regression | None:
    """The report's part on everything else; None where nothing of it was measured. Draws nothing."""
    if adapter is None:
        return None
    found: GeneralPrompts | None = None
    if context.resolved.general:
        try:
            general = run_async(ask_general(context, model, adapter))
        except MissingCall:
            pass
        else:
            stored = _stored(context)
            rows: list[dict[str, Any]] = (
                stored["rows"] if stored.get("digest") == _digest(context, general, adapter) else []
            )
            wanted = context.run.recipe.evaluate.regression
            source = Path(wanted).name if isinstance(wanted, str) else "built-in general prompts"
            found = describe(general, [Divergence(**row) for row in rows], source)
    tasks = task_rows(context, adapter)
    return Regression(general=found, tasks=tasks) if found is not None or tasks else None


def describe(general: General, rows: Sequence[Divergence], source: str) -> GeneralPrompts:
    """The figures of two systems' answers; `rows`, one a prompt, may be missing altogether.

    Divergence and perplexity are means over tokens, with intervals that resample prompts.
    """
    names = [example.id for example in general.examples]
    pairs = list(zip(general.base, general.distilled, strict=True))
    same = [float(base.text == distilled.text) for base, distilled in pairs]
    moved = [row.kl for row in rows] or [None] * len(pairs)
    order = sorted((i for i, alike in enumerate(same) if not alike), key=lambda i: -(moved[i] or 0.0))
    return GeneralPrompts(
        source=source,
        n=len(pairs),
        same=round(sum(same) / len(same), 4),
        same_ci=_rounded(mean_interval(same, names), 4),
        tokens_base=round(sum(base.completion_tokens for base, _ in pairs) / len(pairs), 2),
        tokens_distilled=round(sum(distilled.completion_tokens for _, distilled in pairs) / len(pairs), 2),
        divergence=_divergence(rows, names) if rows else None,
        changed=[
            ChangedAnswer(
                prompt=general.examples[i].text,
                base=general.base[i].text,
                distilled=general.distilled[i].text,
                kl=None if (kl := moved[i]) is None else round(kl, 4),
            )
            for i in order[:SHOWN]
        ],
    )


def _divergence(rows: Sequence[Divergence], names: Sequence[str]) -> Moved:
    total = sum(row.tokens for row in rows)

    def mean(values: Sequence[float]) -> float:
        return sum(value * row.tokens for value, row in zip(values, rows, strict=True)) / total

    each = [row.kl for row in rows for _ in range(row.tokens)]
    groups = [name for row, name in zip(rows, names, strict=True) for _ in range(row.tokens)]
    bounds = (min(each), max(each))  # a divergence has no bounds but those that were seen
    return Moved(
        kl=round(mean([row.kl for row in rows]), 5),
        kl_ci=_rounded(mean_interval(each, groups, bounds), 5),
        perplexity_base=round(math.exp(mean([row.nll_base for row in rows])), 4),
        perplexity_distilled=round(math.exp(mean([row.nll_distilled for row in rows])), 4),
    )


def _rounded(interval: Interval, digits: int) -> Interval:
    return round(interval[0], digits), round(interval[1], digits)


def _weights(context: RunContext) -> str | None:
    """The model whose weights are at hand to be looked into; None where there is none."""
    recipe = context.run.recipe
    model = recipe.train.base or (None if is_endpoint(recipe.model) else recipe.model)
    return model if has_weights(recipe.engine.kind) and find_spec("peft") is not None else None


def _file(context: RunContext) -> Path:
    return context.run.folder / "regression.json"


def _stored(context: RunContext) -> Mapping[str, Any]:
    return read_json(_file(context), "remove it, and `secondnature evaluate` makes it anew")


def _digest(context: RunContext, general: General, adapter: Adapter) -> str:
    """What `regression.json` depends on."""
    content = {
        "model": context.run.state.get("model"),
        "base": context.run.recipe.train.base,
        "dtype": context.run.recipe.engine.dtype,
        "adapter": adapter.name,
        "answers": [
            [[m.as_dict() for m in example.messages], sample.text, sample.failure]
            for example, sample in zip(general.examples, general.base, strict=True)
        ],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
