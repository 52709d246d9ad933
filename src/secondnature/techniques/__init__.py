"""The techniques: a name in a recipe to an async function `(example, ask, **options) -> str`.

Adding one is a file beside this one and a line in TECHNIQUES; one's own is `technique: {name: "file.py:function"}`.
"""

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from secondnature.own import is_own, load_own
from secondnature.techniques.bsm import branch_solve_merge
from secondnature.techniques.cot import chain_of_thought
from secondnature.techniques.direct import direct
from secondnature.techniques.rar import rephrase_and_respond
from secondnature.techniques.s2a import system_2_attention
from secondnature.techniques.think import think
from secondnature.types import Technique, UserError, nearest

TECHNIQUES: dict[str, Callable[..., Coroutine[Any, Any, str]]] = {
    "direct": direct,
    "cot": chain_of_thought,
    "rar": rephrase_and_respond,
    "s2a": system_2_attention,
    "bsm": branch_solve_merge,
    "think": think,
}


def load_technique(name: str, options: Mapping[str, Any], base: Path = Path()) -> Technique:
    """The technique `name` with its `options` bound; "file.py:function" is looked for from `base`.

    Raises UserError for an unknown name or option.
    """
    if is_own(name):
        function = load_own("technique", name, base)
    elif name in TECHNIQUES:
        function = TECHNIQUES[name]
    else:
        raise UserError(f"technique: there is no {name!r}{nearest(name, TECHNIQUES)}; see `secondnature techniques`")
    known = option_names(function)
    for option in options:
        if option not in known:
            raise UserError(f"technique: {name} has no option {option!r}{nearest(option, [*known, 'name'])}")
    return functools.partial(function, **options)


def option_names(function: Callable[..., Any]) -> list[str]:
    """The names of a technique's options: its keyword-only parameters."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def option_value(technique: Technique, name: str) -> object:
    """What an option of a loaded technique is set to, or is by default; None where it has no such option."""
    option = inspect.signature(technique).parameters.get(name)
    return None if option is None else option.default
