# pyright: basic
# (lm_eval is not typed)
"""Tasks of lm-evaluation-harness, on the base and with the adapter. The only file that knows lm_eval."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from secondnature.adapters import Adapter
from secondnature.context import RunContext
from secondnature.files import read_json, to_json, write
from secondnature.recipe import LmEval
from secondnature.report.model import TaskScore
from secondnature.types import UserError, nearest

ROWS_AT_ONCE = 8


def compare_tasks(context: RunContext, options: LmEval, model_path: str, adapter: Adapter) -> None:
    """Write both systems' scores to `lm_eval.json`, each unless it is there already.

    Raises UserError where lm_eval is not installed, a task is unknown or its data is out of reach.
    """
    if find_spec("lm_eval") is None:
        raise UserError("evaluate.lm_eval needs lm_eval: pip install 'secondnature[lm-eval]'")
    systems = {"base": None, "distilled": adapter}
    digests = {name: _digest(context, options, added) for name, added in systems.items()}
    stale = [name for name in systems if _stored(context).get(name, {}).get("digest") != digests[name]]
    manager = _known_tasks(options) if stale else None  # which takes seconds: it reads all of lm_eval's own tasks
    choice = context.run.recipe.engine
    for name in stale:
        context.display.say(f"lm_eval, {name}: {', '.join(options.tasks)}")
        folder = adapter.folder if systems[name] is not None else None
        with context.timed("lm_eval"):
            scores = run_tasks(options, manager, model_path, folder, choice.dtype, choice.device)
        entry = {"digest": digests[name], "lm_eval": version("lm_eval"), "scores": scores}
        write(_file(context), to_json({**_stored(context), name: entry}))


def _known_tasks(options: LmEval) -> Any:
    """lm_eval's own tasks and those below `include_path`. Raises UserError where one that is asked for is not there."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=options.include_path)
    for task in options.tasks:
        if not manager.match_tasks([task]):
            raise UserError(f"evaluate.lm_eval: there is no task {task!r}{nearest(task, manager.all_tasks)}")
    return manager


def run_tasks(
    options: LmEval, manager: Any, model_path: str, adapter: Path | None, dtype: str = "auto", device: str = "auto"
) -> dict[str, dict[str, Any]]:
    """{task: {"n": rows, "metrics": {name: (score, standard error or None)}}}, by `lm_eval.simple_evaluate`."""
    import torch
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    from secondnature.engines.loading import pick_dtype, quiet, usable_device

    quiet()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    device = usable_device(device)
    load: Any = HFLM
    measure: Any = simple_evaluate
    model = load(
        pretrained=model_path,
        tokenizer=model_path,
        peft=None if adapter is None else str(adapter),
        device=device,
        dtype=pick_dtype(device) if dtype == "auto" else getattr(torch, dtype),
        batch_size=ROWS_AT_ONCE,
    )
    try:
        results = measure(
            model, tasks=list(options.tasks), task_manager=manager, limit=options.limit, log_samples=False
        )
    except OSError as error:
        raise UserError(f"evaluate.lm_eval: a task's data cannot be had: {error}") from error
    found: dict[str, dict[str, Any]] = {}
    for task, values in results["results"].items():
        metrics = {
            name.removesuffix(",none"): (round(value, 4), round(error, 4) if isinstance(error, float) else None)
            for name, value in values.items()
            if isinstance(value, float) and "_stderr" not in name
            for error in [values.get(name.replace(",", "_stderr,", 1))]
        }
        found[task] = {"n": results["n-samples"].get(task, {}).get("effective"), "metrics": metrics}
    return found


def task_rows(context: RunContext, adapter: Adapter) -> list[TaskScore]:
    """The report's rows: every metric of every task, on the base and with the adapter; none where not up to date."""
    options, stored = context.run.recipe.evaluate.lm_eval, _stored(context)
    wanted = {} if options is None else {"base": None, "distilled": adapter}
    scores: dict[str, Any] = {
        name: stored[name]["scores"]
        for name, added in wanted.items()
        if options is not None and stored.get(name, {}).get("digest") == _digest(context, options, added)
    }
    if len(scores) < 2:
        return []
    rows: list[TaskScore] = []
    for task, base in scores["base"].items():
        for metric, (value, error) in base["metrics"].items():
            distilled, its_error = scores["distilled"][task]["metrics"][metric]
            rows.append(
                TaskScore(
                    task=task,
                    metric=metric,
                    n=base["n"],
                    base=value,
                    base_stderr=error,
                    distilled=distilled,
                    distilled_stderr=its_error,
                )
            )
    return rows


def _file(context: RunContext) -> Path:
    return context.run.folder / "lm_eval.json"


def _stored(context: RunContext) -> Mapping[str, Any]:
    return read_json(_file(context), "remove it, and `secondnature evaluate` makes it anew")


def _digest(context: RunContext, options: LmEval, adapter: Adapter | None) -> str:
    """What a system's scores depend on, the user's own tasks with all that lies beside them."""
    own = sorted(p for p in Path(options.include_path).rglob("*") if p.is_file()) if options.include_path else []
    content = {
        "model": context.run.state.get("model"),
        "base": context.run.recipe.train.base,
        "dtype": context.run.recipe.engine.dtype,
        "adapter": None if adapter is None else adapter.name,
        "options": options.model_dump(),
        "own": [[str(path), hashlib.sha256(path.read_bytes()).hexdigest()] for path in own],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
