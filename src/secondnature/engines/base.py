"""What an engine is: requests in, replies out. Nothing else in the package knows what runs a model."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from secondnature.types import Message, Reply, Request

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
