# pyright: basic
# (torch is not wholly typed)
"""Drawing tokens from logits, a row a request, each with a seed of its own."""

import numpy as np
import torch

from secondnature.types import Request

NUCLEUS = 64  # candidates looked at first; rows whose nucleus is wider look again


def uniforms(request: Request) -> np.ndarray:
    """One number in [0, 1) for each token that the request may draw: a function of its seed alone."""
    if request.seed is None:
        return np.zeros(request.decoding.max_tokens, dtype=np.float32)
    return np.random.default_rng(request.seed).random(request.decoding.max_tokens, dtype=np.float32)


def sample(logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
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
