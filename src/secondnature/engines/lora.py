# pyright: basic
# (safetensors is not typed)
"""What a LoRA adapter adds to a model's weights, so that both engines can merge it and run at the base's speed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secondnature.engines.opening import plain
from secondnature.types import UserError

if TYPE_CHECKING:
    import torch

PREFIX = "base_model.model."  # PEFT's, before the name of a layer
MEND = "train it anew, or put the folder back from a copy"
DOWN, UP = ".lora_A.weight", ".lora_B.weight"


def updates(adapter: Path) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Each layer's name and B A alpha / r, the update of its weights, [out, in] in float32 (Hu et al., 2021, 2106.09685).

    Raises UserError at once where the PEFT adapter in the folder is damaged, or more than plain LoRA.
    """
    from safetensors import safe_open

    config = _config(adapter)
    with plain(f"adapter {adapter}: its weights cannot be opened", MEND):
        file: Any = safe_open(adapter / "adapter_model.safetensors", framework="pt")
        names: set[str] = set(file.keys())
    layers = sorted(name.removeprefix(PREFIX).removesuffix(DOWN) for name in names if name.endswith(DOWN))
    whole = {f"{PREFIX}{layer}{end}" for layer in layers for end in (DOWN, UP)}
    odd = [*sorted(names ^ whole), *(["alpha_pattern"] if config.get("alpha_pattern") else [])]
    if config.get("peft_type") != "LORA" or odd:
        raise UserError(
            f"adapter {adapter}: only plain LoRA can be merged, and this has {(odd or [config.get('peft_type')])[0]}"
        )
    ranks = {file.get_slice(f"{PREFIX}{layer}{DOWN}").get_shape()[0] for layer in layers}
    if not ranks or (not config.get("rank_pattern") and ranks != {config.get("r")}):
        raise UserError(
            f"adapter {adapter}: adapter_config.json says r {config.get('r')}, the weights are of rank "
            f"{', '.join(map(str, sorted(ranks))) or 'none'}: {MEND}"
        )
    if not isinstance(config.get("lora_alpha"), int | float):
        raise UserError(f"adapter {adapter}: adapter_config.json has no number as lora_alpha: {MEND}")

    def update(layer: str) -> "torch.Tensor":
        down, up = (file.get_tensor(f"{PREFIX}{layer}{end}").float() for end in (DOWN, UP))
        rank = len(down)
        scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
        return (up * scale) @ down

    return ((layer, update(layer)) for layer in layers)


def _config(adapter: Path) -> dict[str, Any]:
    path = adapter / "adapter_config.json"
    with plain(f"adapter {adapter}: adapter_config.json cannot be read", MEND):
        config: object = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise UserError(f"adapter {adapter}: adapter_config.json is no JSON object: {MEND}")
    return config
