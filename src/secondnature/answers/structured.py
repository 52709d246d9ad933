"""Answers that are JSON objects: what extractors write."""

import json
import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, cast

from secondnature.answers.text import AnswerKind, after_reasoning, marked
from secondnature.types import Example

_BEGINS, _BRACE = re.compile(r"\{\s*[\"}]"), re.compile(r"[{}]")
_DEEPEST = 40  # nesting that no real answer has


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Raises ValueError for a field with two different values."""
    fields = dict(pairs)
    if any(fields[name] != value for name, value in pairs):
        raise ValueError("a field is there twice")
    return fields


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _constant(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_float)


def _objects(text: str) -> list[str]:
    """The outermost JSON objects in the text, as written."""
    found: list[str] = []
    at = text.find("{")
    while at != -1:
        try:
            if not _BEGINS.match(text, at):  # the decoder would count all lines before it, each time
                raise ValueError
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            # What is inside a broken object is a part of the answer, not the answer: go on behind it.
            end = _end_of_broken(text, at)
        else:
            if _depth(value) <= _DEEPEST:
                found.append(text[at:end])
        at = text.find("{", end)
    return found


def _end_of_broken(text: str, start: int) -> int:
    depth = 0
    for brace in _BRACE.finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    return len(text)


def _depth(value: Any, above: int = 0) -> int:
    if above > _DEEPEST or not isinstance(value, dict | list):
        return above
    inside = list(cast("dict[str, Any]", value).values()) if isinstance(value, dict) else cast("list[Any]", value)
    return max((_depth(item, above + 1) for item in inside), default=above + 1)


def _json(_example: Example, text: str) -> str | None:
    found = _objects(text)
    if len({_json_key(answer) for answer in found}) == 1:
        return found[0]
    answer = marked(text)
    if len(found) > 1 and answer:  # several: the one that is marked as the answer
        behind = _objects(text[text.rfind(answer) :])
        return behind[0] if len({_json_key(answer) for answer in behind}) == 1 else None
    return None


def _json_key(answer: str) -> str:
    """Canonical JSON: sorted keys, texts without case and spare white space, 4.0 as 4."""
    return json.dumps(_canonical(_DECODER.decode(answer)), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def composed(key: str, answers: Sequence[str]) -> str:
    """The object of which `key` is the key, each field as the first of `answers` that has its value wrote it, in their order."""
    written = [cast("dict[str, Any]", _DECODER.decode(answer)) for answer in answers]
    values = cast("dict[str, Any]", json.loads(key))
    names = dict.fromkeys(raw.strip() for own in written for raw in own if raw.strip() in values)
    fields: dict[str, Any] = {}
    for name in names:
        value = values[name]
        like = (own[raw] for own in written for raw in own if raw.strip() == name and _canonical(own[raw]) == value)
        fields[name] = next(like, value)
    return json.dumps(fields, ensure_ascii=False)


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name.strip(): _canonical(inside) for name, inside in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_canonical(inside) for inside in cast("list[Any]", value)]
    if isinstance(value, str):
        return " ".join(unicodedata.normalize("NFKC", value).casefold().split())
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _last_object(reply: str) -> str:
    """The object that a reply ends with: the one behind "The answer is:", or the last one where nothing follows it."""
    behind = _objects(after_reasoning(reply, whole=True))
    found = behind or _objects(reply)
    if len({_json_key(answer) for answer in found}) == 1:
        return found[-1]
    return found[-1] if found and not reply.rpartition(found[-1])[2].strip("` *\n") else ""


def json_object(fields: Sequence[str] = ()) -> AnswerKind:
    """The kind that reads one JSON object, which must have all `fields`."""

    def read(example: Example, text: str) -> str | None:
        answer = _json(example, text)
        return answer if answer is not None and set(fields) <= _DECODER.decode(answer).keys() else None

    named = f" with the fields {', '.join(json.dumps(field, ensure_ascii=False) for field in fields)}" if fields else ""
    return AnswerKind(
        "json",
        "the one JSON object in the reply, in a code fence or not",
        read,
        _json_key,
        f"one JSON object{named}",
        _last_object,
        by_field=True,
    )


JSON = json_object()
