"""What an engine is: requests in, replies out; and the queue between coroutines and an engine's worker thread."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from secondnature.types import Message, Reply, Request

GATHERING = 0.005  # seconds without an arrival after which requests that come together have all come
THOUGHT = "</think>"  # what ends a model's own thinking
THINKING = "<think>"


def after_thinking(text: str) -> str:
    """A reply without the model's own thinking; nothing where that has no end."""
    if THOUGHT in text:
        return text.rpartition(THOUGHT)[2].strip()
    return "" if text.lstrip().startswith(THINKING) else text


class Engine(Protocol):
    """Draws replies.

    `identity` holds all that decides a reply besides the request (weights, precision, tokenizer, chat template): it goes
    into every call's key. `concurrency` is how many requests the engine likes to have in flight.
    """

    @property
    def identity(self) -> Mapping[str, str]: ...

    @property
    def concurrency(self) -> int: ...

    @property
    def context_length(self) -> int: ...

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt as the model sees it, chat template included; 0 where they cannot be known beforehand."""
        ...

    async def reply(self, request: Request) -> Reply:
        """Draw one reply. Raises UserError where the prompt does not fit the context."""
        ...

    def load_adapter(self, name: str, path: str) -> None:
        """Make the PEFT adapter in the folder `path` available as `Request.adapter == name`; the folder must stay.

        Raises UserError where the engine cannot run it.
        """
        ...

    def close(self) -> None:
        """Stop drawing; requests in flight fail."""
        ...


@dataclass(eq=False)
class Pending:
    """A request that waits for its reply."""

    request: Request
    ids: list[int]
    future: "asyncio.Future[Reply]"
    loop: asyncio.AbstractEventLoop

    def resolve(self, outcome: Reply | BaseException) -> None:
        """Hand the reply, or what went wrong, to the coroutine that waits; from any thread."""

        def settle() -> None:
            if self.future.done():
                return
            if isinstance(outcome, Reply):
                self.future.set_result(outcome)
            else:
                self.future.set_exception(outcome)

        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(settle)


class RequestQueue:
    """Requests in from any loop, batches out to one worker thread."""

    def __init__(self) -> None:
        self._waiting: list[Pending] = []
        self._arrived = threading.Condition()
        self._ended: BaseException | None = None

    async def put(self, request: Request, ids: list[int]) -> Reply:
        """Leave a request and wait for its reply. Raises what ended the engine, where it has ended."""
        loop = asyncio.get_running_loop()
        pending = Pending(request, ids, loop.create_future(), loop)
        with self._arrived:
            if self._ended is not None:
                raise self._ended
            self._waiting.append(pending)
            self._arrived.notify()
        return await pending.future

    def take(
        self, choose: Callable[[Sequence[Pending]], Sequence[Pending]] = lambda waiting: waiting, *, wait: bool = True
    ) -> list[Pending] | None:
        """Those that `choose` picks of all that wait. None once the engine has ended.

        Where none waits, waits for some, or with `wait` false returns an empty list at once.
        """
        with self._arrived:
            while wait and not self._waiting and self._ended is None:
                self._arrived.wait()
            number = -1
            while wait and number < len(self._waiting) and self._ended is None:
                number = len(self._waiting)
                self._arrived.wait(GATHERING)
            if self._ended is not None:
                return None
            chosen = list(choose(self._waiting)) if self._waiting else []
            discarded = set(map(id, chosen))
            self._waiting = [pending for pending in self._waiting if id(pending) not in discarded]
            return chosen

    @property
    def ended(self) -> BaseException | None:
        """What ended the engine; None while it works."""
        return self._ended

    def end(self, error: BaseException) -> None:
        """Take no more requests: those that wait, and all to come, get `error`."""
        with self._arrived:
            self._ended = self._ended or error
            waiting, self._waiting = self._waiting, []
            self._arrived.notify_all()
        for pending in waiting:
            pending.resolve(error)
