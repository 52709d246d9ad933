# pyright: basic
# (transformers and PEFT are not typed)
"""The weights of an export: the adapter with a base that others can resolve, or base and adapter in one."""

import gc
import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secondnature.engines.chat import encode
from secondnature.export.base import Base
from secondnature.train import name_base
from secondnature.types import Message

WEIGHTS = "adapter_model.safetensors"


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
    return int(json.loads((adapter / "adapter_config.json").read_text())["r"])


def merge_steps(prompts: int) -> int:
    """How often `write_merged` calls `step`."""
    return 2 * prompts + 3


def write_merged(
    model_path: str,
    adapter: Path,
    out: Path,
    base: Base,
    prompts: Sequence[Sequence[Message]],
    max_tokens: int,
    step: Callable[[], None],
) -> Merged:
    """Add the adapter to the base in float32 and save the model in the base's own precision, with its tokenizer.

    Then open what was saved and compare its greedy answers to `prompts` with those of base and adapter, both computed in
    float32, so that only the rounding of the weights can make them differ. One copy of the model, in float32, is in memory
    at a time. Calls `step` as it goes.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from secondnature.engines.models import quiet

    quiet()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    tokenizer: Any = AutoTokenizer.from_pretrained(model_path)
    own = AutoConfig.from_pretrained(model_path).dtype or torch.float32
    model: Any = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    adapted: Any = PeftModel.from_pretrained(model, str(adapter)).eval()
    step()
    expected = _greedy(adapted, tokenizer, prompts, max_tokens, step)
    whole = adapted.merge_and_unload(safe_merge=True).to(own)
    whole.config._name_or_path = base.name
    whole.save_pretrained(out)
    tokenizer.save_pretrained(out)
    del model, adapted, whole
    gc.collect()
    step()
    saved: Any = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    step()
    found = _greedy(saved.eval(), AutoTokenizer.from_pretrained(out), prompts, max_tokens, step)
    same = sum(a == b for a, b in zip(expected, found, strict=True))
    return Merged(same, len(prompts), str(own).removeprefix("torch."))


def _greedy(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[Message]], max_tokens: int, step: Callable[[], None]
) -> list[list[int]]:
    import torch

    from secondnature.engines.transformers import pick_device

    device = pick_device()
    model.to(device)
    answers: list[list[int]] = []
    for messages in prompts:
        ids = torch.tensor([encode(tokenizer, messages)], device=device)
        with torch.inference_mode():
            whole = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                max_new_tokens=max_tokens,
                pad_token_id=tokenizer.eos_token_id,
            )
        answers.append(whole[0, ids.shape[1] :].tolist())
        step()
    model.to("cpu")
    return answers
