"""The scheduler: prompts x techniques x samples over an engine, every call through the store."""

import asyncio
import contextlib
import functools
import hashlib
import json
import traceback
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast, get_args

from secondnature.answers import AnswerKind
from secondnature.engines.base import Engine, after_thinking
from secondnature.store import Store, decoding_dict
from secondnature.types import (
    Call,
    Decoding,
    Example,
    Message,
    Reply,
    Request,
    Role,
    Sample,
    Technique,
    Turn,
    UserError,
)
from secondnature.user_code import UserFunction, error_text

Item = TypeVar("Item")
Result = TypeVar("Result")
MISSING = "sampling is not finished: run `secondnature sample` on this folder"
AHEAD = 4  # how many times its width the scheduler may be ahead of a slow prompt
Purpose = tuple[str, str, int]  # the example, the system and the sample that a call is made for
_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode


class Truncated(Exception):
    """A reply hit the token limit: the sample that it belongs to says nothing."""


class MissingCall(UserError):
    """A stage that draws nothing needs a call that is not in the store."""


@dataclass
class Usage:
    """What was drawn by this process, for progress displays; `on_call` is told of every call."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    on_call: Callable[[], None] = lambda: None

    def count(self, reply: Reply) -> None:
        self.calls += 1
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        self.on_call()


@dataclass
class Model:
    """An engine seen through the store: a stored call is never drawn again, a drawn one is stored before it is used.

    With no engine, only the store answers; with no store, nothing is stored.
    """

    store: Store | None
    identity: Mapping[str, str]
    engine: Engine | None = None
    drawn: Usage = field(default_factory=Usage)
    _flying: dict[str, "asyncio.Task[Reply]"] = field(default_factory=dict[str, "asyncio.Task[Reply]"])
    _keeping: "set[asyncio.Task[None]]" = field(default_factory=set["asyncio.Task[None]"])

    async def call(self, key: str, request: Request, purpose: Purpose) -> Reply:
        """The reply to `request`, whose digest is `key`; equal calls in flight are made once."""
        if self.store is not None and (stored := self.store.get(key)) is not None:
            return stored
        if self.engine is None:
            raise MissingCall(MISSING)
        if key not in self._flying:
            self._flying[key] = asyncio.create_task(self._draw(key, request, purpose, self.engine))
            self._flying[key].add_done_callback(lambda _: self._land(key))
        return await asyncio.shield(self._flying[key])

    async def flown(self, key: str) -> Reply:
        """The reply to a call that was made before, maybe still in flight. Raises MissingCall where there is none."""
        if (flying := self._flying.get(key)) is not None:
            return await flying
        stored = None if self.store is None else self.store.get(key)
        if stored is None:
            raise MissingCall(MISSING)
        return stored

    def _land(self, key: str) -> None:
        task = self._flying.pop(key)
        if not task.cancelled():
            task.exception()  # whoever waited for it may be gone; asyncio complains of errors that nobody looks at

    async def _draw(self, key: str, request: Request, purpose: Purpose, engine: Engine) -> Reply:
        reply = await engine.reply(request)
        if self.store is not None:
            reply = await self.store.put(key, self.model_name, request, reply, purpose)
        self.drawn.count(reply)
        return reply

    def keep(self, key: str, value: object) -> None:
        """Keep what a user's own function made; `kept` waits until it is on disk."""
        if self.store is not None:
            task = asyncio.create_task(self.store.put_result(key, value))
            self._keeping.add(task)

    async def kept(self) -> None:
        while self._keeping:
            await self._keeping.pop()

    def made(self, key: str) -> Any:
        """What was kept under this key. Raises MissingCall where nothing was."""
        found = None if self.store is None else self.store.result(key)
        if found is None:
            raise MissingCall(MISSING)
        return found

    @property
    def width(self) -> int:
        """How many prompts to work on at once."""
        return self.engine.concurrency if self.engine is not None else 8

    @functools.cached_property
    def model_name(self) -> str:
        return json.dumps(dict(self.identity), sort_keys=True)


@dataclass(frozen=True)
class System:
    """A way of answering: a technique, a way of decoding, maybe an adapter."""

    technique: Technique
    decoding: Decoding
    adapter: str | None = None
    logprobs: bool = False
    cold: bool = False  # its replies are timed: no other system's stored ones serve, nor a cached prompt

    def greedy(self) -> "System":
        return replace(self, decoding=replace(self.decoding, temperature=0.0))

    @functools.cached_property
    def label(self) -> str:
        """What the system is called in the store, for a reader; no key depends on it."""
        technique: Any = getattr(self.technique, "func", self.technique)  # of a partial
        name = getattr(technique, "attribute", None) or getattr(technique, "__name__", type(technique).__name__)
        adapter = f", adapter {self.adapter}" if self.adapter else ""
        return f"{name}{adapter}{', timed' if self.cold else ''}"


@dataclass
class RecordedAsk:
    """The `ask` of one sample: makes its calls' keys and keeps its trace, in the order in which it was asked."""

    model: Model
    system: System
    index: int
    example: str
    asked_for: list[Call | None] = field(default_factory=list[Call | None])
    asked: Counter[tuple[tuple[Message, ...], bool]] = field(default_factory=Counter[tuple[tuple[Message, ...], bool]])
    failed: list[BaseException] = field(default_factory=list[BaseException])  # the model's own, not the technique's
    keys: list[tuple[str, tuple[Message, ...]]] = field(default_factory=list[tuple[str, tuple[Message, ...]]])
    tasks: "set[asyncio.Task[Any]]" = field(default_factory=set["asyncio.Task[Any]"])  # those that asked

    @property
    def trace(self) -> list[Call]:
        return [call for call in self.asked_for if call is not None]

    async def __call__(self, prompt: str | Sequence[Turn], /, *, thinking: bool = False) -> str:
        if (task := asyncio.current_task()) is not None:
            self.tasks.add(task)
        messages = _messages(prompt)
        repeat = self.asked[messages, thinking]
        self.asked[messages, thinking] += 1
        place = len(self.asked_for)
        self.asked_for.append(None)
        key, request = self.request(messages, repeat, thinking)
        self.keys.append((key, messages))
        try:
            reply = await self.model.call(key, request, (self.example, self.system.label, self.index))
        except BaseException as error:
            self.failed.append(error)
            raise
        self.asked_for[place] = Call(key, messages, reply)
        if reply.finish == "length":
            raise Truncated
        return after_thinking(reply.text)

    async def finish(self) -> None:
        """Let what a technique began beside itself, as with `asyncio.gather`, come to its end: its calls are part of the
        sample, those too that nobody waits for any more."""
        while others := {task for task in self.tasks if not task.done()} - {asyncio.current_task()}:
            await asyncio.wait(others)
        for place, call in enumerate(self.asked_for):
            if call is None:
                key, messages = self.keys[place]
                with contextlib.suppress(Exception):  # nobody waits for it, nor for its error
                    self.asked_for[place] = Call(key, messages, await self.model.flown(key))

    @property
    def truncated(self) -> Call | None:
        """The first call whose reply hit the token limit."""
        return next((call for call in self.trace if call.reply.finish == "length"), None)

    def recall(self, keys: Iterable[str]) -> None:
        """Take stored calls for the trace. Raises MissingCall where one is not there."""
        for key in keys:
            call = None if self.model.store is None else self.model.store.call(key)
            if call is None:
                raise MissingCall(MISSING)
            self.asked_for.append(call)

    def context(self) -> dict[str, Any]:
        """What decides every reply in this sample."""
        system = self.system
        return {
            "model": dict(self.model.identity),
            "adapter": system.adapter,
            "decoding": decoding_dict(system.decoding),
            "purpose": "cold" if system.cold else "",
            "sample": None if system.decoding.temperature == 0 else self.index,
            **({"logprobs": True} if system.logprobs else {}),
        }

    def request(self, messages: tuple[Message, ...], repeat: int, thinking: bool) -> tuple[str, Request]:
        """The call's key, a digest of all that decides its reply, and the request, whose seed derives from the key."""
        system = self.system
        greedy = system.decoding.temperature == 0
        content = {
            **self.context(),
            "messages": [message.as_dict() for message in messages],
            "sample": None if greedy else [self.index, repeat],
            **({"thinking": True} if thinking else {}),
        }
        digest = hashlib.sha256(_encode(content).encode())
        seed = None if greedy else int.from_bytes(digest.digest()[:8])
        request = Request(messages, system.decoding, seed, system.adapter, thinking, system.logprobs, system.cold)
        return digest.hexdigest(), request


def _messages(prompt: object) -> tuple[Message, ...]:
    """What a technique asks, as messages: it may give a text, or turns as mappings. Raises TypeError for anything else."""
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    is_list = isinstance(prompt, Iterable) and not isinstance(prompt, Mapping)
    turns = cast("Iterable[object]", prompt) if is_list else ()
    messages = tuple(turn if isinstance(turn, Message) else _message(turn) for turn in turns)
    if not messages:
        raise TypeError(f"ask takes a text or a list of messages, not {prompt!r:.80}")
    return messages


def _message(turn: object) -> Message:
    values: Mapping[str, Any] = cast("Mapping[str, Any]", turn) if isinstance(turn, Mapping) else {}
    role: Any = values.get("role")
    content: Any = values.get("content")
    if role not in get_args(Role) or not isinstance(content, str):
        raise TypeError(
            f'a message is {{"role": "user", "content": "..."}}, the role one of {", ".join(get_args(Role))}, not {turn!r:.80}'
        )
    return Message(role, content)


Made = Callable[[Example, RecordedAsk], Coroutine[Any, Any, Result]]  # a technique or a perturbation


async def made_by(
    function: Made[Result],
    example: Example,
    ask: RecordedAsk,
    what: str,
    as_json: Callable[[Result], object],
    from_json: Callable[[Any], Result],
) -> Result:
    """What a technique or a perturbation makes of the example. Raises Truncated where a reply that it asked for was.

    What one of the user's own makes is kept in the store, `as_json`: a model without an engine gives that, and its code does
    not run. An error of its own is a UserError, with the line that it came from.
    """
    if not isinstance(function, UserFunction):
        return await _guarded(function(example, ask), ask, what, example)
    key = _own_key(function, example, ask)
    if ask.model.engine is None:
        found = ask.model.made(key)
        ask.recall(found["calls"])
        if "made" not in found:
            raise Truncated
        return from_json(found["made"])
    made: dict[str, object] = {}
    try:
        result = await _guarded(function(example, ask), ask, what, example)
        made = {"made": as_json(result)}
    finally:
        if made or ask.truncated is not None:
            ask.model.keep(key, {"calls": [call.key for call in ask.trace], **made})
            await ask.model.kept()
    return result


def _own_key(function: UserFunction, example: Example, ask: RecordedAsk) -> str:
    """A digest of all that decides what the function makes, but for the replies."""
    content = {
        "own": [function.digest, function.attribute, function.options],
        "example": [example.id, [turn.as_dict() for turn in example.messages], dict(example.fields), example.template],
        **ask.context(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


async def _guarded(made: Coroutine[Any, Any, Result], ask: RecordedAsk, what: str, example: Example) -> Result:
    """The result of what somebody else may have written, once all that it began has ended."""
    try:
        result = await made
    except Truncated:
        await ask.finish()
        raise
    except UserError:
        raise
    except BaseException as error:
        task = asyncio.current_task()
        ended = isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling())
        if ended or isinstance(error, KeyboardInterrupt) or any(error is failure for failure in ask.failed):
            raise
        cause = error
        while isinstance(cause, BaseExceptionGroup):  # of a TaskGroup
            cause = cast("BaseExceptionGroup[BaseException]", cause).exceptions[0]
        if isinstance(cause, Truncated):
            await ask.finish()
        if isinstance(cause, Truncated | UserError):
            raise cause from None
        ours, *theirs = traceback.extract_tb(cause.__traceback__)
        where = next((frame for frame in reversed(theirs) if frame.filename == theirs[0].filename), ours)
        raise UserError(
            f"{what} failed on {example.id}: {type(cause).__name__}: {error_text(cause)} ({where.filename}:{where.lineno})"
        ) from error
    await ask.finish()
    return result


async def draw(model: Model, system: System, example: Example, index: int, kind: AnswerKind) -> Sample:
    """Run the system once on the example, whose answer is of a `kind`. A technique's own error is the user's to mend."""
    ask = RecordedAsk(model, system, index, example.id)
    example = kind.formed(example)
    try:
        text = await made_by(system.technique, example, ask, "the technique", _text, _text)
    except Truncated:
        truncated = ask.truncated
        return Sample(index, "" if truncated is None else truncated.reply.text, None, "truncated", tuple(ask.trace))
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # a user's own may forget `return`
        raise UserError(f"the technique returned no text on {example.id}, but a {type(text).__name__}")
    answer = kind.extract(example, text)
    await model.kept()
    return Sample(index, text, answer, None if answer is not None else "unparsable", tuple(ask.trace))


def _text(text: str) -> str:
    return text


async def in_order(
    items: Iterable[Item], work: Callable[[Item], Coroutine[Any, Any, Result]], width: int
) -> AsyncGenerator[Result, None]:
    """The results of `work` on each item, in order, with `width` items worked on as long as there are any.

    A slow item holds up the results after it, but not the work on them, up to AHEAD times `width` items: no more are in
    memory, however many there are. The first error ends it all.
    """
    free = asyncio.Semaphore(width)
    failed: list[BaseException] = []

    async def one(item: Item) -> Result:
        try:
            return await work(item)
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            free.release()

    begun: deque[asyncio.Task[Result]] = deque()
    try:
        for item in items:
            await free.acquire()
            if failed:
                raise failed[0]
            begun.append(asyncio.create_task(one(item)))
            while begun and (begun[0].done() or len(begun) >= AHEAD * width):
                yield await begun.popleft()
        while begun:
            yield await begun.popleft()
    finally:
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
