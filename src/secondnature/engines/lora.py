# pyright: basic
# (safetensors is not typed)
"""What a LoRA adapter adds to a model's weights, so that both engines can merge it and run at the base's speed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secondnature.types import UserError

if TYPE_CHECKING:
    import torch

PREFIX = "base_model.model."  # PEFT's, before the name of a layer
DOWN, UP = ".lora_A.weight", ".lora_B.weight"


def updates(adapter: Path) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Each layer's name and B A alpha / r, the update of its weights, [out, in] in float32 (Hu et al., 2021, 2106.09685).

    Raises UserError at once where the PEFT adapter in the folder is more than plain LoRA.
    """
    from safetensors import safe_open

    config: dict[str, Any] = json.loads((adapter / "adapter_config.json").read_text())
    file: Any = safe_open(adapter / "adapter_model.safetensors", framework="pt")
    names: set[str] = set(file.keys())
    layers = sorted(name.removeprefix(PREFIX).removesuffix(DOWN) for name in names if name.endswith(DOWN))
    plain = {f"{PREFIX}{layer}{end}" for layer in layers for end in (DOWN, UP)}
    odd = [*sorted(names ^ plain), *(["alpha_pattern"] if config.get("alpha_pattern") else [])]
    if config["peft_type"] != "LORA" or odd:
        raise UserError(
            f"adapter {adapter}: only plain LoRA can be merged, and this has {(odd or [config['peft_type']])[0]}"
        )

    def update(layer: str) -> "torch.Tensor":
        down, up = (file.get_tensor(f"{PREFIX}{layer}{end}").float() for end in (DOWN, UP))
        rank = len(down)
        scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
        return (up * scale) @ down

    return ((layer, update(layer)) for layer in layers)
