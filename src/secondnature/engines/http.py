"""Any OpenAI-compatible endpoint as an engine.

A worker thread with a loop of its own sends requests and hands out replies, so that connections and the pace outlive the
loop of a stage. As soon as a reply is in, the next waiting request goes out. Waiting samples of one prompt go out as one
request with `n` once the server has shown that it draws `n` different replies; before that, one request at a time tries.
What a request brought is used, what it did not bring is asked for again, and an error that does not pass ends the
engine: nothing more goes out, what is in flight is still delivered, and then all that waits gets the error.
"""

import asyncio
import json
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from secondnature.engines.base import GATHERING, Pending
from secondnature.engines.chat import SWITCHES
from secondnature.engines.endpoint import FORM, HTTPOptions, api_key, parse_endpoint
from secondnature.engines.http_client import FIRST_WAIT, MAX_WAIT, AdaptiveConcurrency, Client, backoff, max_reply_bytes
from secondnature.engines.http_reply import (
    Choice,
    Completion,
    RequestRejected,
    RetryableError,
    model_identity,
    read_completion,
)
from secondnature.types import Decoding, Message, Reply, Request, UserError, nearest

SILENCE = 30.0  # seconds without a reply after which a line tells the user; then after twice as long
NOTICED_WAIT = 5.0  # seconds that a server asks to wait for, from which on a line tells the user
UNKNOWN_CONTEXT = 1 << 30  # tokens
MAX_CHOICES = 16  # of one request
PROBE_CHOICES = 4  # of a request that tries whether the server honours n
TEMPLATE_SERVERS = (
    "vllm",
    "sglang",
    "llamacpp",
)  # they take the chat template's and the cache's switches; others refuse unknown keys
PROBES = 4  # requests with n whose replies are all the same until the server is taken to copy one
STORED = "every reply so far is stored; run the same command again to go on"

Result = TypeVar("Result")
Key = tuple[tuple[Message, ...], Decoding, str | None, bool, bool, int | None]


@dataclass(eq=False)
class _Queued:
    """A request that is not answered yet, how often asking for it failed, and whether a trial of n took it along."""

    pending: Pending
    tries: int = 0
    tried_n: bool = False

    @property
    def key(self) -> Key:
        """Equal for samples of one prompt, drawn in the same way. Greedy replies stay alone."""
        request = self.pending.request
        alone = id(self) if request.seed is None else None
        return request.messages, request.decoding, request.adapter, request.thinking, request.logprobs, alone


class HTTPEngine:
    """See the module. Raises UserError where the server cannot be reached or does not serve the model."""

    def __init__(self, model: str, options: HTTPOptions | None = None, say: Callable[[str], None] = lambda line: None):
        self._options = options or HTTPOptions()
        self._endpoint = parse_endpoint(model)
        variable = self._options.api_key_env
        key = api_key(variable, os.environ) if self._options.send_key else ""
        self._client = Client(self._endpoint.url, key, variable, self._options.max_retries, say)
        self._say = say
        self._adaptive = AdaptiveConcurrency(self._options.concurrency)
        self._queue: dict[Key, list[_Queued]] = {}
        self._open: set[_Queued] = set()  # in the queue, in flight, or waiting to be tried again
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = 0.0
        self._supports_n: bool | None = None  # whether the server honours n; None until it has shown
        self._probing = False
        self._probes = 0
        self._adapters: set[str] = set()
        self._error: BaseException | None = None
        self._heard, self._silences = (
            time.monotonic(),
            0,
        )  # when a request was last answered, and how often since it was said
        self._problem = ""  # the last one of a request that is tried again
        self._closed = False
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine", daemon=True)
        self._thread.start()
        try:
            served = self._wait_for(self._client.models())
            name = self._endpoint.model
            if name not in served:
                wrong = f"does not serve {name!r}{nearest(name, served)}" if name else f"is named as {FORM}"
                there = ", ".join(served) or "none"
                raise UserError(f"model: {self._endpoint.url} {self._client.public(f'{wrong}; it serves: {there}')}")
        except BaseException:
            self.close()
            raise
        self._identity = model_identity(name, served[name])
        self._has_templates = served[name].get("owned_by") in TEMPLATE_SERVERS
        self._loop.call_soon_threadsafe(self._watch)
        length = served[name].get("max_model_len")
        self._context = length if isinstance(length, int) and length > 0 else UNKNOWN_CONTEXT

    @property
    def identity(self) -> Mapping[str, str]:
        return self._identity

    @property
    def concurrency(self) -> int:
        return self._adaptive.most

    @property
    def context_length(self) -> int:
        return self._context

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return 0  # only the server knows

    async def reply(self, request: Request) -> Reply:
        if request.adapter is not None and request.adapter not in self._adapters:
            raise ValueError(f"adapter {request.adapter} is not loaded")
        loop = asyncio.get_running_loop()
        waiting = _Queued(Pending(request, [], loop.create_future(), loop))
        with self._lock:
            if self._closed:
                raise RuntimeError("the engine was closed")
            self._loop.call_soon_threadsafe(self._arrive, waiting)
        return await waiting.pending.future

    def load_adapter(self, name: str, path: str) -> None:
        """Ask the server to load the adapter, unless it serves one of that name; `path` must mean the same to it."""
        if name in self._adapters:
            return
        folder = Path(path).resolve()
        body = {"lora_name": name, "lora_path": str(folder)}
        if name not in self._wait_for(self._client.models()):
            try:
                self._wait_for(self._client.send("load_lora_adapter", body, self._options.timeout))
            except (RetryableError, UserError) as error:
                rank = json.loads((folder / "adapter_config.json").read_text()).get("r")
                reason = self._client.public(str(error))
                raise UserError(
                    f"the server could not load the adapter ({reason}): serve it and run the same command again, with vLLM: "
                    f"vllm serve ... --enable-lora --max-lora-rank {rank} --lora-modules {name}={folder}"
                ) from None
        self._adapters.add(name)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._wait_for(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait_for(self, context: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(context, self._loop).result()

    # --- in the worker's loop ----------------------------------------------------------------------------------------

    async def _shut(self) -> None:
        self._error = RuntimeError("the engine was closed")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._in_flight = 0  # one that was cancelled before its first step did not count down
        self._fail_all()
        await self._client.close()

    def _watch(self) -> None:
        """Say so where nothing is answered for long; less and less often."""
        if self._error is not None:
            return
        if not self._open:
            self._heard, self._silences = time.monotonic(), 0
        silent = time.monotonic() - self._heard
        if silent >= SILENCE * 2**self._silences:
            self._silences += 1
            last = f"; the last problem: {self._problem}" if self._problem else ""
            each = f"each try takes at most {self._options.timeout:g} s"
            self._say(
                f"{self._endpoint.url}: no reply for {silent:.0f} s, {len(self._open)} wait for one, {each}{last}"
            )
        self._loop.call_later(min(1.0, SILENCE / 4), self._watch)

    def _arrive(self, waiting: _Queued) -> None:
        self._open.add(waiting)
        if self._error is not None:
            self._fail_all()
            return
        self._queue.setdefault(waiting.key, []).append(waiting)
        if self._timer is None:  # requests that come together have then all come
            self._timer = self._loop.call_later(GATHERING, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._dispatch()

    def _dispatch(self) -> None:
        """Send as many of the waiting requests as the pace, the server and the budget allow."""
        while self._queue and self._error is None and self._in_flight < int(self._adaptive.limit):
            if (pause := self._not_before - time.monotonic()) > 0:
                self._timer = self._timer or self._loop.call_later(pause, self._on_timer)
                return
            if (reason := self._options.budget.used_up()) is not None:
                self._fail(UserError(reason))
                return
            if group := self._next_group():
                self._in_flight += len(group)
                task = self._loop.create_task(self._request(group))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _next_group(self) -> list[_Queued]:
        """The request that has waited longest, with others of its kind where the server can draw several at once."""
        key, waiting = next(iter(self._queue.items()))
        discarded = {w for w in waiting if w.pending.future.done()}  # nobody waits for it any more
        self._open -= discarded
        waiting = [w for w in waiting if w not in discarded]
        may_probe = self._supports_n is None and not self._probing and not any(w.tried_n for w in waiting)
        number = MAX_CHOICES if self._supports_n else PROBE_CHOICES if may_probe else 1
        group, rest = waiting[:number], waiting[number:]
        if rest:
            self._queue[key] = rest
        else:
            del self._queue[key]
        if self._supports_n is None and len(group) > 1:
            self._probing = True
            for one in group:
                one.tried_n = True
        return group

    async def _request(self, group: list[_Queued]) -> None:
        """Ask for the replies of a group, hand out what comes, and see to it that the rest is asked for again."""
        sent, full = time.monotonic(), self._in_flight >= int(self._adaptive.limit)
        request = group[0].pending.request
        probing = len(group) > 1 and self._supports_n is None
        try:
            body = await self._client.send(
                "chat/completions",
                self._body(request, len(group)),
                self._options.timeout,
                max_reply_bytes(len(group) * request.decoding.max_tokens, logprobs=request.logprobs),
            )
            completion = read_completion(body, sum(len(m.content) for m in request.messages))
            self._options.budget.spend(completion.prompt_tokens, completion.completion_tokens)
            seconds = time.monotonic() - sent
            self._adaptive.succeeded(len(group), seconds, full=full)
            self._deliver(group, completion, seconds)
        except RetryableError as again:
            if again.overloaded:
                self._adaptive.overloaded(sent, time.monotonic())
            self._retry_later(group, again)
        except RequestRejected as error:
            if probing:  # it may refuse n, and not the request
                self._supports_n = False
                self._requeue(group)
            else:
                begins = request.messages[-1].content[:60]
                self._fail(UserError(f"{error} (the prompt begins {begins!r})"))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            self._fail(error)
        finally:
            self._in_flight -= len(group)
            if probing:
                self._probing = False
                self._probes += 1
                if self._supports_n is None and self._probes >= PROBES:
                    self._supports_n = False
            if self._error is not None:
                self._fail_all()
            self._dispatch()

    def _deliver(self, group: list[_Queued], completion: Completion, seconds: float) -> None:
        choices = list(completion.choices)
        if len(group) > 1 and completion.returned != len(group):
            self._supports_n = False
        alike = len({choice.text for choice in choices}) == 1
        if len(group) > 1 and self._supports_n is None and len(choices) > 1 and not alike:
            self._supports_n = True
        if alike and not self._supports_n:
            choices = choices[:1]  # they may be copies, which would count as votes
        if not choices and completion.empty:
            silent = [w for w in group if w.tries >= self._options.max_retries]
            self._assign(silent, [Choice("", "stop", 0)] * len(silent), completion, seconds)
            group = [w for w in group if w not in silent]
        missing = self._assign(group, choices, completion, seconds)
        left = choices[len(group) :]
        if left and (others := self._queue.pop(group[0].key, [])):
            self._requeue(self._assign(others, left, completion, seconds))
        if choices:
            self._requeue(missing)
        elif missing:
            self._retry_later(missing, RetryableError(completion.problem))

    def _assign(
        self, group: Sequence[_Queued], choices: Sequence[Choice], completion: Completion, seconds: float
    ) -> list[_Queued]:
        """Give each its choice; returns those for whom there is none."""
        self._heard, self._silences, self._problem = time.monotonic(), 0, ""
        for waiting, choice in zip(group, choices, strict=False):
            self._open.discard(waiting)
            reply = Reply(
                choice.text,
                choice.finish,
                completion.prompt_tokens,
                choice.completion_tokens,
                seconds,
                choice.logprob if waiting.pending.request.logprobs else None,
            )
            waiting.pending.resolve(reply)
        return list(group[len(choices) :])

    def _requeue(self, group: Sequence[_Queued]) -> None:
        if group and self._error is None:
            self._queue.setdefault(group[0].key, []).extend(group)

    def _retry_later(self, group: list[_Queued], again: RetryableError) -> None:
        self._problem = self._client.public(str(again))
        if again.after is not None:
            if NOTICED_WAIT < again.after <= MAX_WAIT and time.monotonic() > self._not_before:
                self._say(f"{self._client.problem(again)}, and asks to wait {again.after:.0f} s: waiting")
            self._not_before = max(self._not_before, time.monotonic() + again.after)
        if (again.after or 0) > MAX_WAIT:
            self._fail(UserError(f"{self._client.problem(again)}, and asks to wait {again.after:.0f} s: {STORED}"))
        for waiting in group:
            waiting.tries += 1
            if waiting.tries > self._options.max_retries:
                self._fail(UserError(f"{self._client.problem(again)}, {waiting.tries} times: {STORED}"))
            wait = backoff(waiting.tries) if again.after is None else again.after + random.uniform(0, FIRST_WAIT)
            self._loop.call_later(wait, self._retry, waiting)

    def _retry(self, waiting: _Queued) -> None:
        self._requeue([waiting])
        self._dispatch()

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._queue.clear()
        self._fail_all()

    def _fail_all(self) -> None:
        """Once it is over and nothing is in flight, give all that still wait the error."""
        if self._error is not None and not self._in_flight:
            for waiting in self._open:
                waiting.pending.resolve(self._error)
            self._open.clear()

    def _body(self, request: Request, number: int) -> dict[str, Any]:
        decoding = request.decoding
        body: dict[str, Any] = {
            "model": request.adapter or self._endpoint.model,
            "messages": [message.as_dict() for message in request.messages],
            "max_tokens": decoding.max_tokens,
            "temperature": decoding.temperature,
        }
        if decoding.temperature > 0:
            body["top_p"] = decoding.top_p
        if request.logprobs:
            body["logprobs"] = True
        if request.thinking or self._has_templates:
            body["chat_template_kwargs"] = dict.fromkeys(SWITCHES, request.thinking)
        if request.seed is not None:
            body["seed"] = request.seed % 2**31  # servers differ in how large a seed they take
        if request.cold and self._has_templates:  # vLLM and SGLang heed the first, llama.cpp the second
            body |= {"cache_salt": uuid.uuid4().hex, "cache_prompt": False}
        return {**body, "n": number} if number > 1 else body
