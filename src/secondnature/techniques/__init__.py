"""The techniques: a name in a recipe to an async function `(example, ask, **options) -> str`.

Adding one is a file beside this one and a line in TECHNIQUES; a user's own is `technique: {name: "file.py:function"}`.
"""

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from secondnature.techniques.bsm import branch_solve_merge
from secondnature.techniques.cot import chain_of_thought
from secondnature.techniques.direct import direct
from secondnature.techniques.rar import rephrase_and_respond
from secondnature.techniques.s2a import system_2_attention
from secondnature.techniques.think import think
from secondnature.types import Technique, check_options, lookup
from secondnature.user_code import UserFunction, is_user_code, option_names

TECHNIQUES: dict[str, Callable[..., Coroutine[Any, Any, str]]] = {
    "direct": direct,
    "cot": chain_of_thought,
    "rar": rephrase_and_respond,
    "s2a": system_2_attention,
    "bsm": branch_solve_merge,
    "think": think,
}


def load_technique(
    name: str, options: Mapping[str, Any], recorded: str | None = None, *, key: str = "technique"
) -> Technique:
    """The technique `name` with its `options` bound; a user's own is a UserFunction, whose file is not run here.

    Raises UserError for an unknown name or option, with the `key` of the recipe that names it.
    """
    if is_user_code(name):
        return UserFunction(key, name, options, recorded)
    function = lookup(TECHNIQUES, name, key, "see `secondnature techniques`")
    check_options(key, name, options, option_names(function))
    return functools.partial(function, **options)


def option_value(technique: Technique, name: str) -> object:
    """What an option of a technique is set to, or is by default; None where it has no such option, or is a user's own."""
    if isinstance(technique, UserFunction):
        return None
    option = inspect.signature(technique).parameters.get(name)
    return None if option is None else option.default
