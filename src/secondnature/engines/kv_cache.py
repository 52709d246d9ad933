# pyright: basic
# (transformers is not typed)
"""transformers' cache of keys and values, made to grow in place."""

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


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
