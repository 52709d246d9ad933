# pyright: basic
# (transformers and PEFT are not typed)
"""The portable engine: any causal language model of transformers, in process, on CPU, CUDA or MPS.

Requests from many coroutines wait in one list; a worker thread takes those that go well together (the same adapter, a
long prefix in common, similar length), left-pads them into a batch, prefills a shared prefix once and each distinct
prompt once, and hands out every reply the moment it is finished. An adapter is merged into weights of its own, which
take the place of the base's while its requests run: so it runs as fast as the base.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.pytorch_utils import Conv1D

from secondnature.engines.base import Pending, RequestQueue
from secondnature.engines.chat import encode, prompt_ids, stop_ids, template_digest
from secondnature.engines.loading import (
    check_fits,
    lora_updates,
    open_model,
    open_tokenizer,
    pick_dtype,
    plain,
    quiet,
    usable_device,
)
from secondnature.engines.models import ModelFiles
from secondnature.types import Message, Reply, Request, UserError

MAX_ROWS = {"cpu": 128, "mps": 64, "cuda": 256, "xpu": 64}
CACHE_BYTES = 4 << 30  # of keys and values of a batch; a quarter of the memory where that is less
GPU_SHARE = 0.5  # of the memory that is free on a GPU once the weights are there
MIN_SHARED_PREFIX = 16
NUCLEUS = 64  # candidates looked at first; rows whose nucleus is wider look again


class TransformersEngine:
    """See the module. `dtype` "auto" takes bfloat16 where the machine is fast at it, else float32.

    Beside the weights, the keys and values of a batch take CACHE_BYTES at most, on a GPU GPU_SHARE of what is free; one
    request that takes more runs alone.
    """

    def __init__(self, files: ModelFiles, *, dtype: str = "auto", device: str = "auto", max_rows: int | None = None):
        quiet()
        self.device = usable_device(device)
        self.dtype = pick_dtype(self.device) if dtype == "auto" else getattr(torch, dtype)
        self.tokenizer: Any = open_tokenizer(files.path)
        model: Any = open_model(files.path, dtype=self.dtype)
        with plain(f"model: {files.path} cannot be put on {self.device}", "take another engine.device"):
            self.model = model.to(self.device).eval()
        self.max_rows = max_rows or MAX_ROWS[torch.device(self.device).type]
        self.max_tokens = cache_budget(self.device) // bytes_per_token(model.config, self.dtype)
        self.stop_ids = stop_ids(self.tokenizer, self.model.generation_config)
        self._identity = {
            "weights": files.digest,
            "dtype": str(self.dtype).removeprefix("torch."),
            "template": template_digest(self.tokenizer, self.model.generation_config),
            "engine": "transformers",
        }
        self._adapters: dict[str, Path] = {}
        self._applied: str | None = None  # the adapter whose weights the model has
        self._merged: str | None = None  # the adapter that was merged last
        self._others: dict[str, torch.Tensor] = {}  # its weights, or the base's own while the model has those
        self._requests = RequestQueue()
        self._worker = threading.Thread(target=self._work, name="engine", daemon=True)
        self._worker.start()

    @property
    def identity(self) -> Mapping[str, str]:
        return self._identity

    @property
    def concurrency(self) -> int:
        return 2 * self.max_rows

    @property
    def context_length(self) -> int:
        return int(getattr(self.model.config, "max_position_embeddings", 1 << 20))

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

    # --- the worker thread -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (
            batch := self._requests.take(lambda waiting: choose_batch(waiting, self.max_rows, self.max_tokens))
        ) is not None:
            try:
                self._run(batch)
            except BaseException as error:  # noqa: BLE001 - it belongs to those who wait, not to this thread
                for pending in batch:
                    pending.resolve(error)

    def _run(self, batch: list[Pending]) -> None:
        self._apply(batch[0].request.adapter)
        with torch.inference_mode():
            self._generate(batch)

    def _apply(self, adapter: str | None) -> None:
        """Give the model the weights of the adapter, or the base's own, which are the same ones again."""
        if adapter == self._applied:
            return
        if self._applied is not None:
            self._exchange()
            self._applied = None
        if adapter is None:
            return
        if adapter != self._merged:
            self._merged, self._others = None, {}  # the memory of one, before another takes it
            self._others = dict(self._updated(lora_updates(self._adapters[adapter])))
            self._merged = adapter
        self._exchange()
        self._applied = adapter

    def _exchange(self) -> None:
        """Those that are not in use are in the host's memory, which on a CPU is where they are anyway."""
        for name, other in self._others.items():
            layer = self.model.get_submodule(name)
            self._others[name] = layer.weight.detach().to("cpu")
            layer.weight = torch.nn.Parameter(other.to(self.device), requires_grad=False)

    def _updated(self, updates: Iterator[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
        layers: dict[str, Any] = dict(self.model.named_modules())
        for name, update in updates:
            layer = layers.get(name)
            turned = update.T if isinstance(layer, Conv1D) else update
            weight = getattr(layer, "weight", None)
            if layer is not None and (weight is None or not weight.is_floating_point()):
                raise UserError(f"engine: an adapter cannot be merged into {name}, whose weights are quantised")
            check_fits(name, turned, None if weight is None else weight.shape)
            assert weight is not None, "it fits"
            yield name, (weight.detach().float() + turned.to(self.device)).to(weight.dtype).to("cpu")

    def _generate(self, rows: list[Pending]) -> None:
        started = time.perf_counter()
        prompts, first_row_of = distinct(row.ids for row in rows)
        cache, mask, logits = self._prefill(prompts)
        order = torch.tensor(first_row_of)
        cache.batch_select_indices(order)
        mask, logits = mask[order], logits[order]

        positions = torch.tensor([len(row.ids) for row in rows])
        decodings = [row.request.decoding for row in rows]
        temperature = torch.tensor([d.temperature for d in decodings])
        top_p = torch.tensor([d.top_p for d in decodings])
        limit = torch.tensor([d.max_tokens for d in decodings])
        uniform = torch.zeros((len(rows), int(limit.max())))
        for row, numbers in zip(rows, uniform, strict=True):
            numbers[: row.request.decoding.max_tokens] = torch.from_numpy(uniforms(row.request))
        stops = torch.tensor(sorted(self.stop_ids))
        written = torch.zeros((len(rows), int(limit.max())), dtype=torch.long)
        logprobs = torch.zeros(len(rows)) if any(row.request.logprobs for row in rows) else None
        alive = torch.arange(len(rows))  # original row of each row of the batch

        for step in range(int(limit.max())):
            token = sample_tokens(logits.float(), temperature[alive], top_p[alive], uniform[alive, step])
            written[alive, step] = token
            if logprobs is not None:
                chances = logits.float().log_softmax(dim=-1)
                logprobs[alive] += chances.gather(1, token[:, None].to(chances.device)).flatten().cpu()
            stopped = torch.isin(token, stops)
            finished = stopped | (step + 1 >= limit[alive])
            if self._requests.ended:
                raise RuntimeError("the engine was closed")
            for i in finished.nonzero().flatten().tolist():
                row = rows[int(alive[i])]
                ids = written[int(alive[i]), : step + 1].tolist()
                text = self.tokenizer.decode(ids[:-1] if stopped[i] else ids, skip_special_tokens=True)
                finish = "stop" if stopped[i] else "length"
                seconds = time.perf_counter() - started
                logprob = None
                if logprobs is not None and row.request.logprobs:
                    logprob = float(logprobs[alive[i]]) / len(ids)
                row.resolve(Reply(text, finish, len(row.ids), len(ids), seconds, logprob))
            if finished.all():
                return
            if finished.any():
                keep = (~finished).nonzero().flatten()
                alive, token, mask, positions = alive[keep], token[keep], mask[keep], positions[keep]
                cache.batch_select_indices(keep)
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            logits = self._forward(token[:, None], mask, positions[:, None], cache)
            positions = positions + 1

    def _prefill(self, prompts: list[list[int]]) -> tuple[DynamicCache, torch.Tensor, torch.Tensor]:
        """The cache, mask and last logits of left-padded `prompts`; a prefix they all share is computed once."""
        cache = growing_cache(self.model.config)
        shared = common_prefix(prompts) if len(prompts) > 1 else 0
        if shared < MIN_SHARED_PREFIX:
            shared = 0
        if shared:
            prefix = torch.tensor([prompts[0][:shared]])
            self._forward(prefix, torch.ones_like(prefix), torch.arange(shared)[None], cache)
            cache.batch_select_indices(torch.zeros(len(prompts), dtype=torch.long))
        rest = [prompt[shared:] for prompt in prompts]
        # One column of padding even where all are of one length: without a mask, transformers' attention on the CPU takes
        # a path that is five times slower for grouped queries.
        width = max(map(len, rest)) + 1
        ids = torch.tensor([[0] * (width - len(r)) + r for r in rest])
        own = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rest])
        mask = torch.cat([own.new_ones(len(rest), shared), own], dim=1)
        positions = (shared + own.cumsum(1) - 1).clamp(min=0)
        return cache, mask, self._forward(ids, mask, positions, cache)

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache
    ) -> torch.Tensor:
        out = self.model(
            input_ids=ids.to(self.device),
            attention_mask=mask.to(self.device),
            position_ids=positions.to(self.device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1]


def choose_batch(waiting: Sequence[Pending], max_rows: int, max_tokens: int) -> list[Pending]:
    """The oldest request and those that go best with it: same adapter, long shared prefix, then similar length.

    Rows times their longest prompt and reply are `max_tokens` at most.
    """
    oldest = waiting[0]
    ids = oldest.ids

    def distance(pending: Pending) -> tuple[bool, int]:
        shares = 2 * common_prefix([ids, pending.ids]) >= len(ids)
        return not shares, abs(len(pending.ids) - len(ids))

    near = sorted((p for p in waiting if p.request.adapter == oldest.request.adapter), key=distance)
    batch: list[Pending] = []
    width = 0
    for pending in near[:max_rows]:
        width = max(width, len(pending.ids) + pending.request.decoding.max_tokens)
        if batch and width * (len(batch) + 1) > max_tokens:
            break
        batch.append(pending)
    return batch


def common_prefix(prompts: Sequence[list[int]]) -> int:
    """How many leading tokens all prompts share, leaving at least one token of each."""
    low, high = min(prompts), max(prompts)
    most = min(map(len, prompts)) - 1
    for i in range(most):
        if low[i] != high[i]:
            return i
    return most


def distinct(prompts: Any) -> tuple[list[list[int]], list[int]]:
    """The distinct prompts, and for each given one the index of its like among them."""
    index: dict[tuple[int, ...], int] = {}
    places = [index.setdefault(tuple(p), len(index)) for p in prompts]
    return [list(p) for p in index], places


def bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    """What the keys and values of one token take, as if every layer kept them."""
    config = config.get_text_config()
    queries = getattr(config, "num_attention_heads", 1)
    heads = getattr(config, "num_key_value_heads", None) or queries
    width = getattr(config, "head_dim", None) or config.hidden_size // queries
    return 2 * config.num_hidden_layers * heads * width * dtype.itemsize


def cache_budget(device: str) -> int:
    """Bytes that the keys and values of a batch may take."""
    if device.startswith("cuda"):
        return int(GPU_SHARE * torch.cuda.mem_get_info(device)[0])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else CACHE_BYTES * 4
    return min(CACHE_BYTES, memory // 4)


def uniforms(request: Request) -> np.ndarray:
    """One number in [0, 1) for each token that the request may draw: a function of its seed alone."""
    if request.seed is None:
        return np.zeros(request.decoding.max_tokens, dtype=np.float32)
    return np.random.default_rng(request.seed).random(request.decoding.max_tokens, dtype=np.float32)


def sample_tokens(
    logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor, uniform: torch.Tensor
) -> torch.Tensor:
    """Draw a token a row by inverse transform from the nucleus (Holtzman et al., 2019, arXiv 1904.09751).

    `logits` [rows, vocabulary] float32; the others [rows]. Temperature 0 takes the most likely token. Instead of sorting
    the vocabulary, the NUCLEUS most likely tokens are taken; only rows whose nucleus is wider are looked at again.
    """
    token = logits.argmax(dim=-1).cpu()
    drawn = (temperature > 0).nonzero().flatten()
    width = NUCLEUS
    while len(drawn):
        scaled = logits[drawn.to(logits.device)] / temperature[drawn].to(logits.device)[:, None]
        width = min(width, scaled.shape[1])
        top, ids = scaled.topk(width, dim=-1)
        share = (top - scaled.logsumexp(dim=-1, keepdim=True)).exp().cpu()
        mass = share.cumsum(dim=-1)
        whole = (mass[:, -1] >= top_p[drawn]) | torch.tensor(width == scaled.shape[1])
        inside = (mass - share) < top_p[drawn][:, None]  # the tokens up to and including the one that reaches top-p
        inside[:, 0] = True
        mass = (share * inside).cumsum(dim=-1)
        target = uniform[drawn][:, None] * mass[:, -1:]
        place = (mass <= target).sum(dim=-1, keepdim=True)
        place = place.minimum(inside.sum(dim=-1, keepdim=True) - 1)
        token[drawn[whole]] = ids.cpu().gather(1, place).flatten()[whole]
        drawn, width = drawn[~whole], width * 16
    return token


class GrowingLayer(DynamicLayer):
    """transformers' layer of the cache, with room to grow: a token is written in place instead of copying the cache."""

    ROOM = 64
    keys: Any
    values: Any
    _room: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._room is None or end > self._room[0].shape[-2]:
            shape = (*key_states.shape[:-2], end + self.ROOM)
            room = tuple(new.new_empty((*shape, new.shape[-1])) for new in (key_states, value_states))
            if start:
                room[0][..., :start, :] = self.keys
                room[1][..., :start, :] = self.values
            self._room = (room[0], room[1])
        self._room[0][..., start:end, :] = key_states
        self._room[1][..., start:end, :] = value_states
        self.keys = self._room[0][..., :end, :]
        self.values = self._room[1][..., :end, :]
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices.to(self.keys.device))
        self._room = None


def growing_cache(config: Any) -> DynamicCache:
    """A DynamicCache of the kinds of layers that `config` asks for, the plain ones with room to grow."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    if not cache.layers:
        cache.layer_class_to_replicate = GrowingLayer
    return cache
