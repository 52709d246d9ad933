# pyright: basic
# (transformers is not typed)
"""How a conversation becomes tokens: one place, so that the tokens trained on are the tokens served."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from secondnature.engines.base import THINKING
from secondnature.types import Message, Request, UserError

SWITCHES = ("enable_thinking", "thinking")  # what chat templates call the switch of the model's thinking mode


def encode(tokenizer: Any, messages: Sequence[Message], *, thinking: bool = False) -> list[int]:
    """Token ids of the conversation and the generation prompt, by the tokenizer's own chat template.

    Where the template has a switch for the model's thinking mode, it is set to `thinking`. Raises UserError where thinking
    is asked of a model that has no such mode.
    """
    turns = [message.as_dict() for message in messages]
    switches = _switches(tokenizer, thinking)
    if thinking and not switches and THINKING not in str(tokenizer.chat_template or ""):
        raise UserError(
            "the model has no thinking mode: its chat template has no enable_thinking; use another technique, such as cot"
        )
    return list(tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False, **switches))


def render(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The text whose tokens `encode` gives."""
    turns = [message.as_dict() for message in messages]
    return str(
        tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, **_switches(tokenizer, False))
    )


def _switches(tokenizer: Any, thinking: bool) -> dict[str, bool]:
    template = str(tokenizer.chat_template or "")
    return {name: thinking for name in SWITCHES if re.search(rf"\b{name}\b", template)}


def prompt_ids(tokenizer: Any, request: Request, context: int) -> list[int]:
    """The request's prompt as token ids. Raises UserError where it leaves no room for the reply in the context."""
    ids = encode(tokenizer, request.messages, thinking=request.thinking)
    if len(ids) + request.decoding.max_tokens > context:
        raise UserError(
            f"a prompt of {len(ids)} tokens and max_tokens {request.decoding.max_tokens} exceed the model's context "
            f"of {context} (it begins {request.messages[-1].content[:60]!r}): shorten it, or lower max_tokens"
        )
    return ids


def stop_ids(tokenizer: Any, generation_config: Any) -> set[int]:
    """The tokens that end a reply."""
    ids: set[int] = {tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set()
    configured = generation_config.eos_token_id
    if configured is not None:
        ids |= set(configured) if isinstance(configured, list) else {configured}
    return ids


def template_digest(tokenizer: Any) -> str:
    """A digest of what turns text into ids: the chat template and the vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    content = json.dumps([tokenizer.chat_template, vocabulary])
    return hashlib.sha256(content.encode()).hexdigest()[:16]
