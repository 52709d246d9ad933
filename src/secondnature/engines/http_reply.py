"""Parsing of what a server sent, none of which is trusted: completions, errors, models."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from secondnature.engines.base import THINKING, THOUGHT
from secondnature.types import UserError

MAX_WORDS = 4000  # characters of a server's own words that are looked at
TOKEN_CHARACTERS = 4  # for estimates where the server does not count tokens


class RetryableError(Exception):
    """A failure that may pass: worth another try, after `after` seconds where the server says so."""

    def __init__(self, problem: str, *, after: float | None = None, overloaded: bool = False):
        super().__init__(problem)
        self.after = after
        self.overloaded = overloaded


class RequestRejected(UserError):
    """A request that the server will never answer as it stands."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One completion that can be used."""

    text: str
    finish: Literal["stop", "length"]
    completion_tokens: int
    logprob: float | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """The usable choices of a response, how many it had in all, the tokens billed, and what is wrong with the others.

    `empty` where one of the others is an empty text with finish_reason "stop": a fault, or the model has nothing to say.
    """

    choices: tuple[Choice, ...]
    returned: int
    prompt_tokens: int
    completion_tokens: int
    problem: str
    empty: bool


def read_completion(body: bytes, prompt_characters: int) -> Completion:
    """The completions in a response's body, ordered by their index. Raises RetryableError where there is none.

    A choice that repeats another's index and text is a duplicate. One that a content filter ended counts as truncated,
    like one that the token limit ended: asking until the filter lets one through would bias the sample. One with any other
    finish_reason, or without text, is unusable. A response's tokens are shared among its choices in proportion to the
    length of their texts; where the server reports none they are estimated at four characters each.
    """
    answer = parse_json(body)
    entries = _list(answer.get("choices"))
    if not entries:
        raise RetryableError(f"a reply without choices ({error_text(body)})")
    indexed = sorted((_count(entry.get("index"), i), i) for i, entry in enumerate(entries))
    different = {(index, _text(entries[i])): entries[i] for index, i in indexed}
    texts = [text for _, text in different]
    usage = _dict(answer.get("usage"))
    prompt = _count(usage.get("prompt_tokens"), -(-prompt_characters // TOKEN_CHARACTERS))
    completion = _count(usage.get("completion_tokens"), sum(-(-len(text) // TOKEN_CHARACTERS) for text in texts))
    shares = _split_total(completion, [len(text) for text in texts])
    usable: list[Choice] = []
    problem, empty = "a choice without text", False
    for text, entry, tokens in zip(texts, different.values(), shares, strict=True):
        finish = entry.get("finish_reason")
        if finish in ("length", "content_filter"):
            usable.append(Choice(text, "length", tokens, _logprob(entry)))
        elif finish != "stop":
            problem = f"a choice that ended with {one_line(str(finish))}"
        elif text or (len(texts) == 1 and completion == 1) or _refuses(entry):  # the end of turn is one token
            usable.append(Choice(text, "stop", tokens, _logprob(entry)))
        else:
            empty = empty or _dict(entry.get("message")).get("content") == ""
    return Completion(tuple(usable), len(entries), prompt, completion, problem, empty)


def read_models(body: bytes) -> dict[str, Mapping[str, Any]]:
    """The models that a server has, by name. Raises RetryableError where the body is not a list of them."""
    listed = parse_json(body).get("data")
    if not isinstance(listed, list):
        raise RetryableError("GET /models brought no list of models")
    return {entry["id"]: entry for entry in _list(cast("object", listed)) if isinstance(entry.get("id"), str)}


def model_identity(name: str, entry: Mapping[str, Any]) -> dict[str, str]:
    """What a server says about a model that decides its replies, wherever it is served."""
    said = {"weights": name, "engine": "http"}
    for key in ("root", "parent"):
        if isinstance(entry.get(key), str):
            said[key] = entry[key]
    meta = _dict(entry.get("meta"))
    sizes = {key: meta[key] for key in ("n_params", "n_vocab", "n_embd", "size") if isinstance(meta.get(key), int)}
    return {**said, "meta": json.dumps(sizes, sort_keys=True)} if sizes else said


def parse_json(body: bytes) -> Mapping[str, Any]:
    """The JSON object in `body`. Raises RetryableError where there is none."""
    try:
        return _dict(json.loads(body))
    except (ValueError, RecursionError):
        raise RetryableError(
            f"a reply that is not JSON ({one_line(body.decode(errors='replace')) or 'empty'})"
        ) from None


def error_text(body: bytes) -> str:
    """A server's own words about an error, as one printable line."""
    try:
        said = parse_json(body)
    except RetryableError:
        return one_line(body.decode(errors="replace"))
    error = said.get("error")
    words = _dict(error).get("message") or error or said.get("message") or said.get("detail") or "it says nothing more"
    return one_line(words if isinstance(words, str) else json.dumps(words))


def one_line(text: str) -> str:
    """Untrusted text as one line of printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:MAX_WORDS]).split())


def _text(entry: Mapping[str, Any]) -> str:
    """What the model wrote; its thinking, which some servers give apart, stands before it as the model writes it."""
    message = _dict(entry.get("message"))
    content = message.get("content")
    text = content if isinstance(content, str) else ""
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought.strip():
        text = f"{THINKING}\n{thought.strip()}\n{THOUGHT}\n\n{text}"
    return text.encode(errors="replace").decode()  # a lone surrogate, which JSON can hold, cannot be stored


def _logprob(entry: Mapping[str, Any]) -> float | None:
    """The mean log-probability of a choice's tokens; None where the server gives none."""
    tokens = _list(_dict(entry.get("logprobs")).get("content"))
    found = [token.get("logprob") for token in tokens]
    numbers = [float(value) for value in found if isinstance(value, int | float) and value <= 0]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(found) else None


def _refuses(entry: Mapping[str, Any]) -> bool:
    """The model refused, and said nothing else: that is its reply, which asking again would pay for again."""
    return bool(_dict(entry.get("message")).get("refusal"))


def _split_total(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in whole parts, in proportion to `weights`, that add up to it."""
    weights = [weight + 1 for weight in weights]
    ends = [total * sum(weights[: i + 1]) // sum(weights) for i in range(len(weights))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _count(value: object, otherwise: int) -> int:
    return value if type(value) is int and 0 <= value < 2**53 else otherwise


def _dict(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[Mapping[str, Any]]:
    return [_dict(entry) for entry in cast("list[object]", value)] if isinstance(value, list) else []
