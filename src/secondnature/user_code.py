"""A user's own function, named "file.py:function" in a recipe. Its file is code, which runs only once it was loaded."""

import functools
import hashlib
import inspect
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from secondnature.files import file_digest
from secondnature.types import Ask, Example, UserError, check_options
from secondnature.untrusted import path_of

SHORT = 16  # digits of a digest that name what own code made; a yes is to all of them


def is_user_code(name: str) -> bool:
    return ".py:" in name


def option_names(function: Callable[..., Any]) -> list[str]:
    """The names of a technique's options: its keyword-only parameters."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def code_digest(file: str) -> str | None:
    """The digest of a file of code; None where there is no such file. Raises UserError for what cannot be a path."""
    path = path_of(file)
    return file_digest(path) if path.is_file() else None


class UserFunction:
    """An async function `(example, ask, **options)` in a file of the user's own, called once `load` has run the file.

    `key` of the recipe names it. `digest` stands for its code: that of the file, or where there is none the one that a run
    has `recorded`, so that what it made is found again without it.
    """

    def __init__(self, key: str, name: str, options: Mapping[str, Any] | None = None, recorded: str | None = None):
        """Raises UserError where its file is not there, and none was recorded."""
        file, _, self.attribute = name.rpartition(":")
        self.key, self.name, self.options = key, name, dict(options or {})
        self.path = path_of(file)
        self._whole = code_digest(file)
        digest = recorded if self._whole is None else self._whole[:SHORT]
        if digest is None:
            raise UserError(f"{key}: there is no file {self.path}")
        self.digest = digest
        self._function: Callable[..., Coroutine[Any, Any, Any]] | None = None

    def __call__(self, example: Example, ask: Ask, /) -> Coroutine[Any, Any, Any]:
        assert self._function is not None, "load it first"
        return self._function(example, ask)

    def load(self) -> None:
        """Run the file and find the function in it. Raises UserError where there is none, or the file does not run."""
        if self._function is None:
            function = getattr(_module(self.key, self.path, self._whole), self.attribute, None)
            if not inspect.iscoroutinefunction(function):
                raise UserError(f"{self.key}: {self.path} has no async function {self.attribute!r}")
            check_options(self.key, self.name, self.options, option_names(function))
            try:
                inspect.signature(function).bind("example", "ask", **self.options)
            except TypeError as error:
                raise UserError(
                    f"{self.key}: {self.name} is called with (example, ask), and its options by name: {error}"
                ) from None
            self._function = functools.partial(function, **self.options)


def error_text(error: BaseException) -> str:
    """The message of an error raised by user code, empty where making it fails too."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # the class is the user's
        return ""


def _module(key: str, path: Path, digest: str | None) -> ModuleType:
    """The file, run as a module, unless its digest is no longer `digest`: only that code is trusted."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserError(f"{key}: {path} cannot be read ({error.strerror})") from None
    if hashlib.sha256(source).hexdigest() != digest:
        raise UserError(f"{key}: {path} has changed since this command began: run it again")
    module = ModuleType(f"{path.stem}_{hashlib.sha256(source).hexdigest()[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where its dataclasses look for their annotations
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # `sys.exit()` too ends no run of ours
        raise UserError(f"{key}: {path} does not import: {type(error).__name__}: {error_text(error)}") from error
    return module
