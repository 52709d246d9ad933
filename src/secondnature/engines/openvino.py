# pyright: basic
# (OpenVINO GenAI is not typed)
"""The fast engine on CPUs: OpenVINO GenAI's continuous batching, one token of all running requests a step.

A worker thread adds requests as they arrive and hands out replies as they finish, so a free slot is taken at the next
step. Waiting samples of one prompt go in as one request, whose prompt is read once; a prefix that was read before comes
from the cache. An adapter is merged into a copy of the weights and has a pipeline of its own, made at its first request:
it runs as fast as the base, no cached prefix of one model can serve another, and requests with and without it run side
by side. So have requests that are timed, with no cache of prefixes. Beside the base one such pipeline stays.
"""

import contextlib
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai as genai
from transformers import GenerationConfig

from secondnature.engines.base import Pending, RequestQueue
from secondnature.engines.chat import encode, prompt_ids, stop_ids, template_digest
from secondnature.engines.loading import AGAIN, lora_updates, open_tokenizer, plain, quiet
from secondnature.engines.models import ModelFiles, to_stderr
from secondnature.engines.openvino_export import export, merged
from secondnature.types import Decoding, Message, Reply, Request, UserError

MAX_ROWS = 128  # sequences that advance together
MAX_STEP_TOKENS = 4096  # tokens, prompts included, of one step
CACHE_GB = 4  # of keys and values, of each model; a quarter of the memory where that is less
BLOCK = 32  # tokens of a prompt that are cached together
MOST_BLOCKS = 1_000_000  # that are remembered as read
Served = tuple[str | None, bool]  # what a pipeline serves: an adapter or the base, and whether it is cold
BASE: Served = (None, False)
PRECISIONS = {"bfloat16": "bf16", "float32": "f32"}


class OpenVINOEngine:
    """See the module. `dtype` "auto" takes bfloat16 where the processor multiplies it, else float32."""

    def __init__(self, files: ModelFiles, *, dtype: str = "auto", say: Callable[[str], None] = to_stderr):
        quiet()
        precision = _pick_dtype() if dtype == "auto" else dtype
        if precision not in PRECISIONS:
            raise UserError(f"engine: openvino computes in {' or '.join(PRECISIONS)}, not in {precision}")
        self.tokenizer: Any = open_tokenizer(files.path)
        self.folder = export(files, say, dtype=precision)
        self.precision = PRECISIONS[precision]
        generation_config = GenerationConfig.from_pretrained(self.folder)
        self.stop_ids = stop_ids(self.tokenizer, generation_config)
        config = json.loads((self.folder / "config.json").read_text())
        self._context = int(config.get("max_position_embeddings", 1 << 20))
        self._identity = {
            "weights": files.digest,
            "dtype": precision,
            "template": template_digest(self.tokenizer, generation_config),
            "engine": "openvino",
        }
        self._adapters: dict[str, Path] = {}
        self._pipelines: dict[Served, Any] = {}  # the worker's
        self._requests = RequestQueue()
        self._worker = threading.Thread(target=self._work, name="engine", daemon=True)
        self._worker.start()

    @property
    def identity(self) -> Mapping[str, str]:
        return self._identity

    @property
    def concurrency(self) -> int:
        return MAX_ROWS

    @property
    def context_length(self) -> int:
        return self._context

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return len(encode(self.tokenizer, messages))

    def load_adapter(self, name: str, path: str) -> None:
        lora_updates(Path(path))  # which is refused here where it cannot be merged
        self._adapters[name] = Path(path)

    async def reply(self, request: Request) -> Reply:
        if request.adapter is not None and request.adapter not in self._adapters:
            raise ValueError(f"adapter {request.adapter} is not loaded")
        return await self._requests.put(request, prompt_ids(self.tokenizer, request, self.context_length))

    def close(self) -> None:
        self._requests.end(RuntimeError("the engine was closed"))
        self._worker.join()
        self._pipelines.clear()

    def _pipeline(self, served: Served = BASE) -> Any:
        adapter, cold = served
        with merged(self.folder, self._adapters[adapter]) if adapter else contextlib.nullcontext(self.folder) as folder:
            return self._opened(folder, cached=not cold)

    def _opened(self, folder: Path, *, cached: bool) -> Any:
        scheduler = genai.SchedulerConfig()
        scheduler.max_num_seqs = MAX_ROWS
        scheduler.max_num_batched_tokens = MAX_STEP_TOKENS
        scheduler.cache_size = _cache_gb()
        scheduler.enable_prefix_caching = cached
        hints = {"INFERENCE_PRECISION_HINT": self.precision, "KV_CACHE_PRECISION": self.precision}  # 8 bits by default
        with plain(f"model: OpenVINO cannot open what was converted to {folder}", AGAIN):
            pipeline = genai.ContinuousBatchingPipeline(str(folder), scheduler, "CPU", hints)
        # The first steps rearrange the weights: no request's time is to have that in it.
        pipeline.add_request(0, _tensor([0, 0]), genai.GenerationConfig(max_new_tokens=2, ignore_eos=True))
        while pipeline.has_non_finished_requests():
            pipeline.step()
        return pipeline

    # --- the worker thread -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        running: dict[Served, list[ActiveRequest]] = {}
        held: list[Pending] = []
        read: set[int] = set()
        numbers = itertools.count()
        while (arrived := self._requests.take(wait=not held and not any(running.values()))) is not None:
            try:
                groups, held = hold_back(_groups([*held, *arrived]), read)
                for group in groups:
                    served = _served(group[0])
                    if served not in self._pipelines:
                        for idle in [one for one in self._pipelines if one != BASE and not running.get(one)]:
                            del self._pipelines[idle]
                        self._pipelines[served] = self._pipeline(served)
                    handle = self._add(next(numbers), group)
                    running.setdefault(served, []).append(ActiveRequest(group, handle, time.perf_counter()))
                for served, batch in running.items():
                    if batch:
                        self._pipelines[served].step()
                        running[served] = [one for one in batch if not self._deliver(one)]
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
                self._requests.end(error)
                held += arrived
        assert self._requests.ended is not None
        for served, batch in running.items():
            if batch:  # a pipeline that is closed with requests in it complains on the terminal
                for one in batch:
                    one.handle.cancel()
                with contextlib.suppress(Exception):
                    self._pipelines[served].step()
        for pending in [*held, *(p for batch in running.values() for one in batch for p in one.group)]:
            pending.resolve(self._requests.ended)

    def _add(self, number: int, group: list[Pending]) -> Any:
        request = group[0].request
        config = genai.GenerationConfig()
        config.max_new_tokens = request.decoding.max_tokens
        config.stop_token_ids = self.stop_ids
        config.num_return_sequences = len(group)
        if request.logprobs:
            config.logprobs = 1
        if request.decoding.temperature > 0:
            config.do_sample = True
            config.temperature = request.decoding.temperature
            config.top_p = request.decoding.top_p
            config.rng_seed = (request.seed or 0) % 2**32
        return self._pipelines[_served(group[0])].add_request(number, _tensor(group[0].ids), config)

    def _deliver(self, one: "ActiveRequest") -> bool:
        """Hand out the replies of a request that is finished; False while it is not."""
        status = one.handle.get_status()
        if status == genai.GenerationStatus.RUNNING:
            return False
        if status != genai.GenerationStatus.FINISHED:
            raise UserError(
                f"the engine gave up a prompt of {len(one.group[0].ids)} tokens ({status.name}): its keys and values do "
                f"not fit {_cache_gb()} GB"
            )
        seconds = time.perf_counter() - one.started
        for pending, output in zip(one.group, one.handle.read_all(), strict=True):
            ids = list(output.generated_ids)
            stopped = output.finish_reason == genai.GenerationFinishReason.STOP
            if stopped and ids[-1] in self.stop_ids:
                text = self.tokenizer.decode(ids[:-1], skip_special_tokens=True)
            else:
                text = self.tokenizer.decode(ids, skip_special_tokens=True)
            finish = "stop" if stopped else "length"
            logprob = float(np.mean(output.generated_log_probs)) if pending.request.logprobs else None
            pending.resolve(Reply(text, finish, len(pending.ids), len(ids), seconds, logprob))
        return True


@dataclass(eq=False)
class ActiveRequest:
    """A request in a pipeline and the samples that it draws."""

    group: list[Pending]
    handle: Any
    started: float


def _tensor(ids: Sequence[int]) -> openvino.Tensor:
    return openvino.Tensor(np.array([ids], dtype=np.int64))


def _served(pending: Pending) -> Served:
    return pending.request.adapter, pending.request.cold


def _groups(arrived: Sequence[Pending]) -> list[list[Pending]]:
    """Samples of the same prompt, drawn in the same way: they go in as one request. Greedy replies stay alone."""
    groups: dict[tuple[tuple[int, ...], Decoding, Served, bool, int], list[Pending]] = {}
    for number, pending in enumerate(arrived):
        alone = number if pending.request.seed is None else -1
        key = (tuple(pending.ids), pending.request.decoding, _served(pending), pending.request.logprobs, alone)
        groups.setdefault(key, []).append(pending)
    return list(groups.values())


def hold_back(groups: Sequence[list[Pending]], read: set[int]) -> tuple[list[list[Pending]], list[Pending]]:
    """What to add now, and what to hold until the next step: a prompt that begins as one that is about to be read.

    The cache serves whole blocks of prompts that were read before the request was added. `read` has the digests of
    those, and gets those that will be.
    """
    if len(read) > MOST_BLOCKS:
        read.clear()
    now: list[list[Pending]] = []
    held: list[Pending] = []
    reading: set[int] = set()
    for group in groups:
        unread = _blocks(group[0]) - read
        if unread & reading:
            held += group
        else:
            reading |= unread
            now.append(group)
    read |= reading
    return now, held


def _blocks(pending: Pending) -> set[int]:
    """Digests of the prompt's beginnings, block by block."""
    digest, found = hash(_served(pending)), set[int]()
    for start in range(0, len(pending.ids) - BLOCK + 1, BLOCK):
        digest = hash((digest, *pending.ids[start : start + BLOCK]))
        found.add(digest)
    return found


def _cache_gb() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return max(1, min(CACHE_GB, int(memory / 4)))


def _pick_dtype() -> str:
    return "bfloat16" if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "float32"
