"""What perturbations share: the perturbed prompt with consistent fields and template, and deterministic permutations."""

import hashlib
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any

from secondnature.types import Ask, Example, Message


@dataclass(frozen=True, slots=True)
class Variant:
    """A perturbed prompt with the same id; `back` maps an answer to it to the answer to the original."""

    example: Example
    back: Callable[[str], str]


Perturbation = Callable[[Example, Ask], Coroutine[Any, Any, Variant | None]]  # None: it does not apply to this prompt


def unchanged(answer: str) -> str:
    return answer


def changed(example: Example, text: str, fields: Mapping[str, str], template: str) -> Example | None:
    """The example with `text` as its last turn, or None where its fields and template would no longer say the same."""
    if template:
        if template.format(**fields) != text:
            return None
    elif any(fields[name] not in text for name, value in example.fields.items() if value in example.text):
        return None
    return replace(example, messages=(*example.messages[:-1], Message("user", text)), fields=fields, template=template)


def with_part(example: Example, old: str, new: str) -> Example | None:
    """The example with `old`, a part of its last turn, replaced there and in the field or template that it comes from.

    None where that is ambiguous: `old` is there twice, or comes from two places.
    """
    if example.text.count(old) != 1:
        return None
    fields = {name: value.replace(old, new) for name, value in example.fields.items()}
    template = example.template.replace(old, new.replace("{", "{{").replace("}", "}}"))
    return changed(example, example.text.replace(old, new), fields, template)


def digest(example: Example, purpose: str) -> bytes:
    """32 bytes to seed a shuffle with: a hash of the prompt, the same on all machines."""
    turns = [message.as_dict() for message in example.messages]
    return hashlib.sha256(json.dumps([purpose, turns], sort_keys=True).encode()).digest()


def moved(count: int, seed: bytes) -> list[int]:
    """An order of `count` (at least 2) things in which none stays in its place (Sattolo's algorithm)."""
    order, number = list(range(count)), int.from_bytes(seed)
    for last in range(count - 1, 0, -1):
        number, other = divmod(number, last)
        order[last], order[other] = order[other], order[last]
    return order
