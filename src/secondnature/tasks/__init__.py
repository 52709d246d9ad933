"""The tasks: built-in ones by name, and a user's own files.

Adding one is a file beside this one with a function `task` that returns a `Task`, and a line in TASKS.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError, validate_call

from secondnature.answers import KINDS, AnswerKind, json_object, label
from secondnature.tasks import (
    arithmetic,
    biased_capitals,
    biased_qa,
    coin_flip,
    last_letters,
    multiple_choice,
    pairwise_judging,
)
from secondnature.tasks.base import Task
from secondnature.types import UserError, nearest

TASKS: dict[str, Callable[..., Task]] = {
    "biased_capitals": biased_capitals.task,
    "biased_qa": biased_qa.task,
    "last_letters": last_letters.task,
    "coin_flip": coin_flip.task,
    "arithmetic": arithmetic.task,
    "multiple_choice": multiple_choice.task,
    "pairwise_judging": pairwise_judging.task,
}


def load_task(name: str, options: Mapping[str, Any], cache: Path) -> Task:
    """The built-in task `name` with its `options`; `cache` is a folder for files that have to be converted.

    Raises UserError for an unknown name or option, or a value out of range.
    """
    if name not in TASKS:
        raise UserError(f"task: there is no {name!r}{nearest(name, TASKS)}; see `secondnature tasks`")
    known = option_names(name)
    for option in options:
        if option not in known:
            raise UserError(f"task: {name} has no option {option!r}{nearest(option, [*known, 'name'])}")
    parameters = inspect.signature(TASKS[name]).parameters
    for option in known:
        if parameters[option].default is inspect.Parameter.empty and option not in options:
            raise UserError(f"task: {name} needs {option}; see `secondnature tasks`")
    folder = () if len(parameters) == len(known) else (cache,)  # what reads files takes it as its first argument
    try:
        return validate_call(TASKS[name])(*folder, **options)
    except ValidationError as error:
        wrong = error.errors()[0]
        where, message = ".".join(map(str, wrong["loc"])), wrong["msg"]
        raise UserError(f"task.{where}: {message[0].lower()}{message[1:]}, not {wrong['input']!r}") from None


def task_kind(name: str, options: Mapping[str, Any], cache: Path) -> AnswerKind:
    """How answers to the task are read. Its files need not be there. Raises UserError as `load_task` does."""
    if name == "biased_qa":  # which cannot be loaded without files
        return biased_qa.kind_of(as_choices=bool(options.get("as_choices")))
    return load_task(
        name, {key: value for key, value in options.items() if key not in ("data", "columns")}, cache
    ).answer


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
