"""The tasks: built-in ones by name, and a user's own files.

Adding one is a file beside this one with a `TASK`, and a line in TASKS.
"""

from secondnature.tasks import biased_capitals
from secondnature.tasks.answers import KINDS, AnswerKind, label
from secondnature.tasks.base import Task
from secondnature.types import UserError, nearest

TASKS: dict[str, Task] = {
    "biased_capitals": biased_capitals.TASK,
}


def load_task(name: str) -> Task:
    """The built-in task `name`. Raises UserError where there is none."""
    if name not in TASKS:
        raise UserError(f"task: there is no {name!r}{nearest(name, TASKS)}; see `secondnature tasks`")
    return TASKS[name]


def answer_kind(name: str, labels: list[str]) -> AnswerKind:
    """The answer kind `name`; `labels` for the kind "label". Raises UserError for an unknown one."""
    if name == "label":
        if len(labels) < 2:
            raise UserError(
                "answer: the kind label needs its labels, at least two: answer: {kind: label, labels: [a, b]}"
            )
        return label(labels)
    if labels:
        raise UserError(f"answer: labels belong to the kind label, not to {name}")
    if name not in KINDS:
        known = [*KINDS, "label"]
        raise UserError(f"answer: there is no kind {name!r}{nearest(name, known)}; there are: {', '.join(known)}")
    return KINDS[name]
