"""The techniques: a name in a recipe to an async function `(example, ask, **options) -> str`.

Adding one is a file beside this one and a line in TECHNIQUES; one's own is `technique: {name: "file.py:function"}`.
"""

import functools
import importlib.util
import inspect
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

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
    "think": think,
}


def load_technique(name: str, options: Mapping[str, Any], base: Path = Path()) -> Technique:
    """The technique `name` with its `options` bound; "file.py:function" is looked for from `base`.

    Raises UserError for an unknown name or option.
    """
    if ".py:" in name:
        function = _from_file(name, base)
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


def _from_file(name: str, base: Path) -> Callable[..., Coroutine[Any, Any, str]]:
    file, _, attribute = name.rpartition(":")
    path = (base / file).expanduser()
    if not path.is_file():
        raise UserError(f"technique: there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"technique: {path} does not import: {type(error).__name__}: {error}") from error
    function = getattr(module, attribute, None)
    if not inspect.iscoroutinefunction(function):
        raise UserError(f"technique: {path} has no async function {attribute!r}")
    return function
