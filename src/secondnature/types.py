"""The nouns of the project as plain data: no behaviour, no third-party imports."""

import difflib
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

T = TypeVar("T")
Role = Literal["system", "user", "assistant"]


class UserError(Exception):
    """Something the user can put right; shown as one line, without a traceback."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: which known one may be meant."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def lookup(registry: Mapping[str, T], name: str, what: str, see: str = "") -> T:
    """What `registry` has under `name`. Raises UserError, which begins with `what`, where there is no such name."""
    if name not in registry:
        raise UserError(
            f"{what}: there is no {name!r}{nearest(name, registry)}; {see or 'there are: ' + ', '.join(registry)}"
        )
    return registry[name]


def check_options(what: str, name: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises UserError where one of the options given to `name` is not a known one."""
    known = list(known)
    for option in given:
        if option not in known:
            raise UserError(f"{what}: {name} has no option {option!r}{nearest(option, [*known, 'name'])}")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def as_dict(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


Turn = Message | Mapping[str, str]  # a technique may write a message as {"role": "user", "content": "..."}


@dataclass(frozen=True, slots=True)
class Form:
    """What an answer should look like: `text` completes "The answer is", as in "yes or no".

    `conclusion` is the answer that a reply with reasoning ends with, and `reads` says whether an answer can be read in a text.
    """

    text: str
    conclusion: Callable[[str], str]
    reads: Callable[[str], bool]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt without its label: the conversation and the fields that it was made from.

    Where there is a `template`, the last user turn is `template.format(**fields)`. While it is answered, `form` says what
    the answer should look like.
    """

    id: str
    messages: tuple[Message, ...]
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    template: str = ""
    form: Form | None = field(default=None, compare=False)

    @property
    def text(self) -> str:
        """The last user turn."""
        return self.messages[-1].content

    def __getitem__(self, name: str) -> str:
        return self.fields[name]


@dataclass(frozen=True, slots=True)
class Row:
    """An example with what only measuring may see: its label, its group and its slices; and where it came from."""

    example: Example
    label: str | None
    group: str
    slices: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True, slots=True)
class Splits:
    """The three parts of a data set; no group is in two of them."""

    train: Sequence[Row]
    dev: Sequence[Row]
    test: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a reply is drawn. Temperature 0 is greedy; then top-p has no effect."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 128


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a model. `seed` is None where the reply is greedy.

    `thinking` turns on the model's own thinking mode, which is off otherwise; `logprobs` asks for `Reply.logprob`. A `cold`
    request is one that is timed: no engine may take any of its prompt from what it read before.
    """

    messages: tuple[Message, ...]
    decoding: Decoding
    seed: int | None
    adapter: str | None = None
    thinking: bool = False
    logprobs: bool = False
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered: `finish` is "length" where the token limit cut it off.

    A model's own thinking stands in `text` before `</think>`. `logprob` is the mean natural logarithm of the probabilities
    that the model gave to the reply's tokens, before temperature and top-p; None where it was not asked for.
    """

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    logprob: float | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A stored call as a sample's trace shows it."""

    key: str
    messages: tuple[Message, ...]
    reply: Reply


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of a technique on one example.

    `answer` is the answer as the model wrote it, or None with the reason in `failure`: "truncated" (a reply hit the token
    limit) or "unparsable" (no answer of the task's kind in it).
    """

    index: int
    text: str
    answer: str | None
    failure: Literal["truncated", "unparsable"] | None
    trace: tuple[Call, ...]

    @property
    def completion_tokens(self) -> int:
        """All tokens generated, the intermediate ones too."""
        return sum(call.reply.completion_tokens for call in self.trace)

    @property
    def prompt_tokens(self) -> int:
        return sum(call.reply.prompt_tokens for call in self.trace)

    @property
    def seconds(self) -> float:
        return sum(call.reply.seconds for call in self.trace)

    @property
    def confidence(self) -> float | None:
        """The geometric mean of the probabilities of all its tokens; None where a call has none."""
        logprobs = [call.reply.logprob for call in self.trace]
        total = self.completion_tokens
        if total == 0 or None in logprobs:
            return None
        tokens = (call.reply.completion_tokens for call in self.trace)
        return math.exp(sum(p * n for p, n in zip(logprobs, tokens, strict=True) if p is not None) / total)


class Ask(Protocol):
    """What a technique calls the model with: a prompt or a conversation in, the reply's text out.

    With `thinking` the model thinks first, in its own way; what it thought is not in the text that comes back.
    """

    async def __call__(self, prompt: str | Sequence[Turn], /, *, thinking: bool = False) -> str: ...


class Technique(Protocol):
    """A System 2 method: the example in, the final output out; deterministic given the replies."""

    def __call__(self, example: Example, ask: Ask, /) -> Coroutine[Any, Any, str]: ...
