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

from secondnature.engines.chat import encode
from secondnature.export.base import Base
from secondnature.run import to_json, write
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
    config = json.loads((adapter / "adapter_config.json").read_text())
    write(
        out / "adapter_config.json",
        to_json({**config, "base_model_name_or_path": base.name, "revision": base.revision}),
    )


def adapter_rank(adapter: Path) -> int:
    return int(json.loads((adapter / "adapter_config.json").read_text())["r"])


def write_merged(
    model_path: str, adapter: Path, out: Path, base: Base, prompts: Sequence[Sequence[Message]], max_tokens: int
) -> Merged:
    """Add the adapter to the base in float32 and save the model in the base's own precision, with its tokenizer.

    Then open what was saved and compare its greedy answers to `prompts` with those of base and adapter, both computed in
    float32, so that only the rounding of the weights can make them differ.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from secondnature.engines.models import quiet

    quiet()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    tokenizer: Any = AutoTokenizer.from_pretrained(model_path)
    model: Any = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    own = getattr(AutoModelForCausalLM.from_pretrained(model_path, dtype="auto"), "dtype", torch.float32)
    adapted: Any = PeftModel.from_pretrained(model, str(adapter)).eval()
    expected = _greedy(adapted, tokenizer, prompts, max_tokens)
    whole = adapted.merge_and_unload(safe_merge=True).to(own)
    whole.config._name_or_path = base.name
    whole.save_pretrained(out)
    tokenizer.save_pretrained(out)
    del model, adapted, whole
    gc.collect()
    saved: Any = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    found = _greedy(saved.eval(), AutoTokenizer.from_pretrained(out), prompts, max_tokens)
    same = sum(a == b for a, b in zip(expected, found, strict=True))
    return Merged(same, len(prompts), str(own).removeprefix("torch."))


def _greedy(model: Any, tokenizer: Any, prompts: Sequence[Sequence[Message]], max_tokens: int) -> list[list[int]]:
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
    model.to("cpu")
    return answers
