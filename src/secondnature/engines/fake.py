"""An engine without a model, for tests of logic: its replies are a function of the request, whatever is batched with it."""

import asyncio
import hashlib
import random
from collections.abc import Mapping, Sequence

from secondnature.types import Message, Reply, Request, UserError

DELAY = 0.002  # seconds a reply takes


class FakeEngine:
    """Answers yes or no: mostly the same for one prompt; sometimes otherwise, unparsable or truncated. Or always `text`."""

    concurrency = 32
    context_length = 4096

    def __init__(self, name: str, text: str | None = None):
        self._name = name
        self._text = text

    @property
    def identity(self) -> Mapping[str, str]:
        return {"weights": self._name, "dtype": "none", "template": "none"}

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return sum(len(message.content.split()) for message in messages)

    async def reply(self, request: Request) -> Reply:
        await asyncio.sleep(DELAY)
        asked = "\n".join(message.content for message in request.messages)
        prompt_tokens = self.count_tokens(request.messages)
        if prompt_tokens + request.decoding.max_tokens > self.context_length:
            raise UserError(f"a prompt of {prompt_tokens} tokens exceeds the context of {self.context_length}")
        if self._text is not None:
            return Reply(self._text, "stop", prompt_tokens, len(self._text.split()), DELAY)
        usual = random.Random(hashlib.sha256(asked.encode()).digest())
        answer, steadiness = usual.choice(["yes", "no"]), usual.random()
        drawn = random.Random(f"{request.seed}:{request.adapter}:{asked}")
        chance = 0.0 if request.seed is None else drawn.random()
        text, finish = f"The answer is: {answer}", "stop"
        if chance > 0.97:
            text, finish = "Let me think about this", "length"
        elif chance > 0.94:
            text = "I cannot tell."
        elif chance > 0.5 + steadiness / 2:
            text = f"The answer is: {'no' if answer == 'yes' else 'yes'}"
        logprob = -0.1 - usual.random() if request.logprobs else None
        return Reply(text, "length" if finish == "length" else "stop", prompt_tokens, len(text.split()), DELAY, logprob)

    def load_adapter(self, name: str, path: str) -> None:
        raise UserError("the fake engine has no adapters")

    def close(self) -> None:
        return
