"""Changed prompts whose right answer must not change."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from secondnature.types import Ask, Example


@dataclass(frozen=True, slots=True)
class Variant:
    """A changed prompt, and what an answer to it says about the original."""

    example: Example
    back: Callable[[str], str]


Perturb = Callable[[Example, Ask], Coroutine[Any, Any, Variant | None]]


def load_perturbation(name: str) -> Perturb:
    raise NotImplementedError(name)
