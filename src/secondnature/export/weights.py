# pyright: basic
# (transformers and PEFT are not typed)
"""The weights of an export: the adapter with a base that others can resolve, or base and adapter in one."""

import gc
import json
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secondnature.engines.chat import encode, stop_ids, stop_ids_named
from secondnature.export.base import Base
from secondnature.progress import Bar, Display
from secondnature.train import CONFIG, WEIGHTS, name_base
from secondnature.types import Message


@dataclass(frozen=True, slots=True)
class Merged:
    """How the merged model compares: greedy answers equal to the adapter's, of so many; and what it is saved as."""

    same: int
    prompts: int
    dtype: str


def write_adapter(adapter: Path, out: Path, base: Base) -> None:
    """Copy the adapter; its base is named as others can find it, not by a path of this machine."""
    shutil.copyfile(adapter / WEIGHTS, out / WEIGHTS)
    name_base(adapter, out, base.public)


def adapter_rank(adapter: Path) -> int:
    return int(json.loads((adapter / CONFIG).read_text())["r"])


def write_merged(
    model_path: str,
    adapter: Path,
    out: Path,
    base: Base,
    prompts: Sequence[Sequence[Message]],
    max_tokens: int,
    display: Display,
) -> Merged:
    """Add the adapter to the base in float32 and save the model in the base's own precision, with its tokenizer.

    Then open what was saved and compare its greedy answers to `prompts` with those of base and adapter, both computed in
    float32, so that only the rounding of the weights can make them differ. One copy of the model, in float32, is in memory
    at a time. What is done is shown.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoConfig

    from secondnature.engines.models import quiet
    from secondnature.engines.opening import open_model, open_tokenizer

    quiet()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    tokenizer: Any = open_tokenizer(model_path)
    model: Any = open_model(model_path, dtype=torch.float32)
    own = AutoConfig.from_pretrained(model_path).dtype or torch.float32
    adapted: Any = PeftModel.from_pretrained(model, str(adapter)).eval()
    with display.stage("merge: answers of base and adapter", max_tokens) as bar:
        expected = _greedy(adapted, tokenizer, prompts, max_tokens, bar)
    whole = adapted.merge_and_unload(safe_merge=True).to(own)
    whole.config._name_or_path = base.name
    stops = stop_ids(tokenizer, whole.generation_config)
    if stops > stop_ids_named(tokenizer, whole.generation_config):  # others stop at no token that is not named here
        whole.generation_config.eos_token_id = sorted(stops)
    whole.save_pretrained(out)
    tokenizer.save_pretrained(out)
    del model, adapted, whole
    gc.collect()
    saved: Any = open_model(out, dtype=torch.float32).eval()
    with display.stage("merge: answers of the saved model", max_tokens) as bar:
        found = _greedy(saved, open_tokenizer(out), prompts, max_tokens, bar)
    same = sum(a == b for a, b in zip(expected, found, strict=True))
    return Merged(same, len(prompts), str(own).removeprefix("torch."))


def _greedy(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[Message]], max_tokens: int, bar: Bar
) -> list[list[int]]:
    """The tokens of each answer, with the one that ends it; all prompts are asked together."""
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    from secondnature.engines.transformers import pick_device

    class Watch(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
            bar.advance()
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    device = pick_device()
    model.to(device)
    stops = stop_ids(tokenizer, model.generation_config)
    ids = [encode(tokenizer, messages) for messages in prompts]
    width = max(map(len, ids)) + 1  # padding everywhere: without a mask, attention on the CPU takes a much slower path
    pad = min(stops)
    whole = model.generate(
        input_ids=torch.tensor([[pad] * (width - len(row)) + row for row in ids], device=device),
        attention_mask=torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=device),
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        max_new_tokens=max_tokens,
        pad_token_id=pad,
        stopping_criteria=StoppingCriteriaList([Watch()]),
    )
    bar.total = bar.done  # answers that all end are fewer tokens than there might have been
    model.to("cpu")
    answers: list[list[int]] = []
    for row in whole[:, width:].tolist():
        end = next((place + 1 for place, token in enumerate(row) if token in stops), len(row))
        answers.append(row[:end])
    return answers
