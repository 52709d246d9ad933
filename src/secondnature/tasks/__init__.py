"""The tasks: built-in ones by name, and a user's own files.

Adding one is a file beside this one with a function that returns a `Task`, and a line in TASKS.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError, validate_call

from secondnature.answers import KINDS, AnswerKind, json_object, label
from secondnature.tasks import biased_capitals, biased_qa, multiple_choice, pairwise_judging, symbolic
from secondnature.tasks.base import Task
from secondnature.types import UserError, check_options, lookup, nearest

TASKS: dict[str, Callable[..., Task]] = {
    "biased_capitals": biased_capitals.task,
    "biased_qa": biased_qa.task,
    "last_letters": symbolic.last_letters,
    "coin_flip": symbolic.coin_flip,
    "multiple_choice": multiple_choice.task,
    "pairwise_judging": pairwise_judging.task,
}


def load_task(name: str, options: Mapping[str, Any], cache: Path) -> Task:
    """The built-in task `name` with its `options`; `cache` is a folder for files that have to be converted.

    Raises UserError for an unknown name or option, or a value out of range.
    """
    function = lookup(TASKS, name, "task", "see `secondnature tasks`")
    known = option_names(name)
    check_options("task", name, options, known)
    reads_files = len(inspect.signature(function).parameters) > len(known)
    folder = (cache,) if reads_files else ()  # the first argument of a task over files
    try:
        return validate_call(function)(*folder, **options)
    except ValidationError as error:
        wrong = error.errors()[0]
        where, message = ".".join(map(str, wrong["loc"])), wrong["msg"]
        raise UserError(f"task.{where}: {message[0].lower()}{message[1:]}, not {wrong['input']!r}") from None


def task_kind(name: str, options: Mapping[str, Any], cache: Path) -> AnswerKind:
    """How answers to the task are read. Its files need not be there. Raises UserError as `load_task` does."""
    without = {key: value for key, value in options.items() if key not in ("data", "columns")}
    return load_task(name, without, cache).answer


def option_names(name: str) -> list[str]:
    """The options of a task: the keyword-only parameters of its function."""
    parameters = inspect.signature(TASKS[name]).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def answer_kind(name: str, labels: Sequence[str] = (), fields: Sequence[str] = ()) -> AnswerKind:
    """The answer kind `name`; `labels` for the kind "label", `fields` for "json". Raises UserError for an unknown one."""
    if fields and name != "json":
        raise UserError(f"answer: fields belong to the kind json, not to {name}")
    if name == "label":
        if len(labels) < 2:
            raise UserError(
                "answer: the kind label needs its labels, at least two: answer: {kind: label, labels: [a, b]}"
            )
        return label(labels)
    if name == "json":
        return json_object(fields)
    if labels:
        raise UserError(f"answer: labels belong to the kind label, not to {name}")
    if name not in KINDS:
        known = [*KINDS, "label"]
        raise UserError(f"answer: there is no kind {name!r}{nearest(name, known)}; there are: {', '.join(known)}")
    return KINDS[name]
