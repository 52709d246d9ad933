"""An engine whose replies a test writes."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from secondnature.types import Message, Reply, Request


@dataclass
class Scripted:
    """An engine that answers by a function of the request and keeps what it was asked."""

    answer: Callable[[Request], str | Reply] = lambda request: "yes"
    finish: Any = "stop"
    asked: list[Request] = field(default_factory=list[Request])
    identity: Mapping[str, str] = field(default_factory=lambda: {"weights": "w"})
    concurrency: int = 4
    context_length: int = 1000

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return 1

    async def reply(self, request: Request) -> Reply:
        self.asked.append(request)
        found = self.answer(request)
        await asyncio.sleep(0)
        return found if isinstance(found, Reply) else Reply(found, self.finish, 3, 2, 0.5)

    def load_adapter(self, name: str, path: str) -> None: ...

    def close(self) -> None: ...
