"""A user's own function, named "file.py:function" in a recipe."""

import importlib.util
import inspect
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from secondnature.types import UserError


def is_own(name: str) -> bool:
    return ".py:" in name


def load_own(what: str, name: str, base: Path = Path()) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The async function that "file.py:function" names, with the file looked for from `base`.

    Raises UserError, which begins with `what` the function is for, where there is none or its file does not import.
    """
    file, _, attribute = name.rpartition(":")
    path = (base / file).expanduser()
    if not path.is_file():
        raise UserError(f"{what}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{what}: {path} does not import: {type(error).__name__}: {error}") from error
    function = getattr(module, attribute, None)
    if not inspect.iscoroutinefunction(function):
        raise UserError(f"{what}: {path} has no async function {attribute!r}")
    return function
