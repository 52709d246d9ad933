"""Untrusted input: values that a message repeats, texts that are printed, JSON, paths."""

import contextlib
import errno
import json
import re
import reprlib
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

from secondnature.types import UserError, nearest

SHOWN = 80  # characters of a value that a message repeats
LONGEST = 500  # characters of a message
MOST_BITS = 10_000  # of a whole number that Python writes out


class _Brief(reprlib.Repr):
    """Never longer to make than it is to read: a recipe's aliases can name a list of a thousand millions."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 3, SHOWN, SHOWN, SHOWN

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if x.bit_length() < MOST_BITS else "a number of thousands of digits"


def brief(value: object) -> str:
    """A value as a message repeats it: as Python writes it, cut in the middle."""
    return cut(_Brief().repr(value), SHOWN)


def cut(text: str, most: int = LONGEST) -> str:
    """A text of at most `most` characters: a long one is cut in the middle, since messages end with what to do."""
    end = most // 3
    return text if len(text) <= most else f"{text[: most - end - 3]}...{text[-end:]}"


def plain(text: str) -> str:
    """A text without what could steer a terminal or turn its lines around."""
    return "".join(c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else " " for c in text)


def one_line(text: str) -> str:
    """A text in one line, without what could steer a terminal."""
    return " ".join(plain(text).split())


def parse_json(text: str) -> Any:
    """The value that `text` is in JSON; NaN, which is none, is a null as in a table.

    Raises ValueError, which says in a few words why it is no JSON, or none that can be used.
    """
    try:
        value: Any = json.loads(text, parse_constant=_constant)
        if re.search(r"\\u[dD][89a-fA-F]", text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.colno}") from None
    except UnicodeEncodeError:
        raise ValueError("half a character (a lone surrogate such as \\ud800), which is no text") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        raise ValueError("a number of more than 4,300 digits") from None
    return value


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


def path_of(text: str, base: Path = Path()) -> Path:
    """The absolute path that `text` means, from `base`, with ~ and links followed; there may be nothing there yet.

    Raises UserError where there can be nothing: no such user, a link that leads to itself, a name too long or no text.
    """
    try:
        path = (base / Path(text).expanduser()).resolve()
        str(path).encode()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            path.stat()
        return path
    except UnicodeEncodeError:
        reason = "it is not UTF-8 text"
    except RuntimeError as error:  # of `expanduser`, and of `resolve` before Python 3.13
        reason = "there is no such user" if "home" in str(error) else "it is a link that leads to itself"
    except ValueError:
        reason = "a NUL character is in it"
    except OSError as error:
        reason = "it is a link that leads to itself" if error.errno == errno.ELOOP else str(error.strerror).lower()
    raise UserError(f"{brief(text)} cannot be a path: {reason}")


def check_placeholders(option: str, text: str, names: Collection[str], may_miss: Sequence[str] = ()) -> None:
    """Raises UserError for a placeholder that is unknown, a stray brace, or one that is missing and not in `may_miss`."""
    known = ", ".join(f"{{{name}}}" for name in names)
    try:
        parts = [part[1:] for part in Formatter().parse(text)]
    except ValueError:
        parts = [("", "", None)]
    named = [f"{name}:{spec}" if spec or conversion else name for name, spec, conversion in parts if name is not None]
    for name in named:
        if name not in names:
            raise UserError(
                f"{option}: {{{name}}} is no placeholder{nearest(name, names)}; there are {known}; "
                "a brace that is meant as one is written twice"
            )
    for name in names:
        if name not in named and name not in may_miss:
            raise UserError(f"{option}: there is no {{{name}}} in it; it takes {known}")
