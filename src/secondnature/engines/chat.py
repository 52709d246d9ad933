# pyright: basic
# (transformers is not typed)
"""How a conversation becomes tokens: one place, so that the tokens trained on are the tokens served."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secondnature.engines.base import THINKING
from secondnature.types import Message, Request, UserError
from secondnature.untrusted import brief

MARK = "[second nature: a turn]"  # stands for what somebody says
SHOWN = 160  # characters of what a template's author said
SWITCHES = ("enable_thinking", "thinking")  # what chat templates call the switch of the model's thinking mode


def encode(tokenizer: Any, messages: Sequence[Message], *, thinking: bool = False) -> list[int]:
    """Token ids of the conversation and the generation prompt, by the tokenizer's own chat template.

    Where the template has a switch for the model's thinking mode, it is set to `thinking`. Raises UserError where thinking
    is asked of a model that has no such mode, or the template refuses the conversation.
    """
    switches = _switches(tokenizer, thinking)
    if thinking and not switches and THINKING not in str(tokenizer.chat_template or ""):
        raise UserError(
            "the model has no thinking mode: its chat template has no enable_thinking; use another technique, such as cot"
        )
    return list(_applied(tokenizer, messages, switches, return_dict=False))


def render(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The text whose tokens `encode` gives."""
    return str(_applied(tokenizer, messages, _switches(tokenizer, False), tokenize=False))


def _applied(tokenizer: Any, messages: Sequence[Message], switches: Mapping[str, bool], **options: Any) -> Any:
    """The conversation and the generation prompt by the chat template. Raises UserError where that refuses it."""
    turns = [message.as_dict() for message in messages]
    try:
        return tokenizer.apply_chat_template(turns, **{"add_generation_prompt": True, **switches, **options})
    except Exception as error:  # noqa: BLE001 - a template is a program, and may raise anything
        roles = [message.role for message in messages]
        mend = "it may want turns of user and assistant to alternate; ask in another form"
        if "system" in roles:
            mend = (
                "it may take no system message: leave out data.system and system1.instruction, and say it in the prompt"
            )
        said = " ".join(str(error).split())[:SHOWN]
        raise UserError(
            f"the model's chat template refuses a conversation of {', '.join(roles)} ({said}): {mend}"
        ) from None


def check_template(tokenizer: Any, where: str) -> None:
    """Raises UserError, which begins with `where`, unless the tokenizer can put a prompt and a reply to it has an end."""
    if not str(tokenizer.chat_template or "").strip():
        raise UserError(
            f"{where} has no chat template, so nothing says how to put a prompt to it, or where its answer ends (is it a base "
            "model?): take its instruction-tuned variant, or write its template into chat_template.jinja in a copy of its folder"
        )
    try:
        text = render(tokenizer, [Message("user", MARK)])
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if MARK not in text:
        raise UserError(
            f"{where}: its chat template leaves out what the user says: mend chat_template.jinja in its folder"
        )
    if end_of_turn(tokenizer) is None:
        raise UserError(
            f"{where}: nothing ends a reply: its chat template writes no token at the end of a turn, and its tokenizer names no "
            "eos_token: name one in tokenizer_config.json"
        )


@dataclass(frozen=True, slots=True)
class End:
    """How a turn ends: the text before the token that ends it, most often none, and that token's id."""

    before: str
    id: int


def end_of_turn(tokenizer: Any) -> End | None:
    """What the chat template writes after an answer, up to the first token of its own; None where nothing ends a turn.

    That is often another token than the tokenizer's `eos_token`, which is taken where the template writes none.
    """
    turns = [{"role": "user", "content": MARK}, {"role": "assistant", "content": MARK}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False, **_switches(tokenizer, False)))
    except Exception:  # noqa: BLE001 - it has the user speak last, or is damaged
        text = ""
    _, answered, after = text.rpartition(MARK)
    ids = {token.content: id for id, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}
    if tokenizer.eos_token is not None:
        ids[tokenizer.eos_token] = tokenizer.eos_token_id
    places = [(after.find(token), -len(token), token) for token in ids if answered and token in after]
    if not places:
        return None if tokenizer.eos_token is None else End("", tokenizer.eos_token_id)
    place, _, token = min(places)
    return End(after[:place], ids[token])


def answer_ids(tokenizer: Any, text: str, end: End | None) -> list[int]:
    """Token ids of an answer as it stands after the generation prompt, with the `end` of its turn where it has one."""
    before, ids = ("", []) if end is None else (end.before, [end.id])
    return list(tokenizer(text + before, add_special_tokens=False)["input_ids"]) + ids


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
    """The tokens that end a reply: those that the model names, and the one with which its template ends a turn."""
    return stop_ids_named(tokenizer, generation_config) | _own_end(tokenizer)


def stop_ids_named(tokenizer: Any, generation_config: Any) -> set[int]:
    """Those that the tokenizer and the model name. Raises UserError where the model names what is no token's number."""
    configured = generation_config.eos_token_id
    named: list[Any] = configured if isinstance(configured, list) else [configured]
    if odd := [value for value in named if not isinstance(value, int | None)]:
        raise UserError(f"model: generation_config.json says eos_token_id {brief(odd[0])}, which is no token's number")
    return {value for value in [tokenizer.eos_token_id, *named] if value is not None}


def _own_end(tokenizer: Any) -> set[int]:
    end = end_of_turn(tokenizer)
    return set() if end is None else {end.id}


def template_digest(tokenizer: Any, generation_config: Any) -> str:
    """A digest of what turns text into ids, and ids into a reply: the chat template, the vocabulary, and the end of turn.

    The end is left out where the model names it itself, as its weights' digest has it then.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    own = _own_end(tokenizer) - stop_ids_named(tokenizer, generation_config)
    content = json.dumps([tokenizer.chat_template, vocabulary, *own])
    return hashlib.sha256(content.encode()).hexdigest()[:16]
