# pyright: basic
# (transformers and PEFT are not typed)
"""How far an adapter moves a model's next-token distributions, on given answers: two forward passes of the same tokens."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secondnature.engines.chat import end_of_turn
from secondnature.train import IGNORED, TrainingExample, logits_at, tokens

AT_ONCE = 512  # tokens that go through the model together: their logits over a large vocabulary are a gigabyte


@dataclass(frozen=True, slots=True)
class Divergence:
    """Of one answer: its tokens, and their means in nats: KL(base || adapter), and the negative log-likelihoods."""

    tokens: int
    kl: float
    nll_base: float
    nll_distilled: float


def divergences(
    answers: Sequence[TrainingExample],
    ended: Sequence[bool],
    model_path: str,
    adapter: Path,
    *,
    dtype: str = "auto",
    device: str = "auto",
    on_answers: Callable[[int], None] = lambda done: None,
) -> list[Divergence]:
    """Teacher-forced on each answer, whose end of turn counts where it `ended` there and was not truncated.

    Calls `on_answers(done)` after every batch. The model is in the precision that it is served in; the divergence is
    taken in float32.
    """
    import torch
    from peft import PeftModel

    from secondnature.engines.loading import open_model, open_tokenizer, pick_dtype, quiet, usable_device

    quiet()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    device = usable_device(device)
    precision = pick_dtype(device) if dtype == "auto" else getattr(torch, dtype)
    tokenizer: Any = open_tokenizer(model_path)
    base: Any = open_model(model_path, dtype=precision)
    model: Any = PeftModel.from_pretrained(base, str(adapter)).to(device=device, dtype=precision).eval()
    end = end_of_turn(tokenizer)
    rows = [tokens(tokenizer, pair, end if whole else None) for pair, whole in zip(answers, ended, strict=True)]
    found: dict[int, Divergence] = {}
    for batch in _batches([len(row["input_ids"]) for row in rows]):
        longest = max(len(rows[i]["input_ids"]) for i in batch)

        def padded(name: str, filler: int, batch: list[int] = batch, longest: int = longest) -> Any:
            values = [rows[i][name] for i in batch]
            return torch.tensor([row + [filler] * (longest - len(row)) for row in values], device=device)

        ids, labels = padded("input_ids", 0), padded("labels", IGNORED)
        labels = torch.nn.functional.pad(labels, (0, 1), value=IGNORED)[:, 1:]  # of the next token
        wanted = labels != IGNORED
        lengths = torch.tensor([len(rows[i]["input_ids"]) for i in batch], device=device)
        seen = (torch.arange(longest, device=device) < lengths[:, None]).long()
        with torch.inference_mode(), logits_at(model, wanted):

            def logprobs(ids: Any = ids, seen: Any = seen) -> Any:
                return model(input_ids=ids, attention_mask=seen, use_cache=False).logits[0].float().log_softmax(-1)

            moved = logprobs()
            with model.disable_adapter():
                before = logprobs()
        kl = (before.exp() * (before - moved)).sum(-1).clamp(min=0)  # rounding alone makes it negative
        given = labels[wanted][:, None]
        values = torch.stack([kl, -before.gather(1, given)[:, 0], -moved.gather(1, given)[:, 0]])
        counts = wanted.sum(1).tolist()
        for i, part in zip(batch, values.split(counts, dim=1), strict=True):
            found[i] = Divergence(part.shape[1], *(float(mean) for mean in part.mean(1)))
        on_answers(len(found))
    return [found[i] for i in range(len(rows))]


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """The places of the rows, those of like length together, up to AT_ONCE tokens with their padding."""
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batches and (len(batches[-1]) + 1) * lengths[i] <= AT_ONCE:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
