# pyright: basic
# (neither torch nor transformers is typed)
"""Opening a model's parts and adapters, and choosing device and dtype. Whatever is wrong with them is one line for the user."""

import contextlib
import json
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secondnature.engines.chat import check_template
from secondnature.types import UserError

if TYPE_CHECKING:
    import torch

AGAIN = "fetch or copy the model again"
RETRAIN = "train it anew, or put the folder back from a copy"
WEIGHTS = ("*.safetensors", "*.bin")
SHOWN = 160  # characters of what a library said
DEVICES = ("cpu", "mps", "cuda", "xpu")
ADAPTER_PREFIX = "base_model.model."  # PEFT's, before the name of a layer
DOWN, UP = ".lora_A.weight", ".lora_B.weight"


def quiet() -> None:
    """Keep the libraries' own bars and notices off the screen, where the run's progress is shown."""
    from huggingface_hub.utils import disable_progress_bars
    from transformers.utils import logging

    disable_progress_bars()
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def read_config(folder: str | Path) -> dict[str, Any]:
    """What `config.json` of a model's folder holds. Raises UserError where it is none."""
    path = Path(folder) / "config.json"
    try:
        config: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"model: the folder {folder} has no config.json: is it a model saved by transformers?"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"model: {path} is broken JSON ({first_line(error)}): {AGAIN}") from None
    if not isinstance(config, dict):
        raise UserError(f"model: {path} is no JSON object: {AGAIN}")
    return config


def open_tokenizer(folder: str | Path) -> Any:
    """The tokenizer of a model's folder, which has a chat template and knows what ends a reply.

    Raises UserError where there is none, or it cannot put a prompt.
    """
    from transformers import AutoTokenizer

    with plain(f"model: the tokenizer of {folder} cannot be opened", AGAIN):
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        if tokenizer.eos_token_id is None:
            tokenizer.eos_token = _end_of_generation(folder, tokenizer)
    check_template(tokenizer, f"model: {folder}")
    return tokenizer


def open_model(folder: str | Path, **options: Any) -> Any:
    """The model of a folder, whole; `options` are those of `from_pretrained`. Raises UserError where it cannot be opened."""
    from transformers import AutoModelForCausalLM, __version__
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = read_config(folder)
    kind = config.get("model_type")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        if config.get("auto_map"):
            raise UserError(
                f"model: {folder} needs code of its own (auto_map in config.json), which is never run here: take a model "
                "whose architecture transformers has"
            )
        raise UserError(
            f"model: {folder} is of the architecture {str(kind)[:40]!r} (model_type in config.json), which is no causal "
            f"language model that transformers {__version__} knows: take another model, or a newer transformers"
        )
    if not any(path for pattern in WEIGHTS for path in Path(folder).glob(pattern)):
        raise UserError(f"model: the folder {folder} has no weights (*.safetensors): {AGAIN}")
    with plain(f"model: the weights of {folder} cannot be opened", AGAIN):
        opened: Any = AutoModelForCausalLM.from_pretrained(folder, **options, output_loading_info=True)
    model, found = opened
    if missing := sorted(found["missing_keys"]):  # transformers makes them up at random, without a word
        raise UserError(
            f"model: the weights of {folder} lack {missing[0]}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
            + f": {AGAIN}"
        )
    return model


def _end_of_generation(folder: str | Path, tokenizer: Any) -> str | None:
    """What ends a reply by `generation_config.json`, for a tokenizer that does not say."""
    path = Path(folder) / "generation_config.json"
    configured = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.exists() else None
    first = configured[0] if isinstance(configured, list) and configured else configured
    return tokenizer.convert_ids_to_tokens(first) if isinstance(first, int) else None


@contextlib.contextmanager
def plain(what: str, mend: str) -> Generator[None]:
    """Whatever a library raises on a file that is damaged or made to harm, as a UserError: `what` (its words): `mend`.

    A package that is missing is told of elsewhere, with how to install it.
    """
    try:
        yield
    except (UserError, ModuleNotFoundError):
        raise
    except Exception as error:  # such files make them raise anything
        said = "" if isinstance(error, MemoryError) else first_line(error)
        if isinstance(error, MemoryError) or "out of memory" in said.lower():
            raise UserError(f"{what}: it does not fit into the memory: take a smaller model or dtype") from error
        if "ignore_mismatched_sizes" in said:
            said = "they have other sizes than config.json says"
        raise UserError(f"{what} ({said}): {mend}") from error


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:SHOWN]


def lora_updates(adapter: Path) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Each layer's name and B A alpha / r, the update of its weights, [out, in] in float32 (Hu et al., 2021, 2106.09685).

    Raises UserError at once where the PEFT adapter in the folder is damaged, or more than plain LoRA.
    """
    from safetensors import safe_open

    config = adapter_config(adapter)
    with plain(f"adapter {adapter}: its weights cannot be opened", RETRAIN):
        file: Any = safe_open(adapter / "adapter_model.safetensors", framework="pt")
        names: set[str] = set(file.keys())
    layers = sorted(name.removeprefix(ADAPTER_PREFIX).removesuffix(DOWN) for name in names if name.endswith(DOWN))
    whole = {f"{ADAPTER_PREFIX}{layer}{end}" for layer in layers for end in (DOWN, UP)}
    odd = [*sorted(names ^ whole), *(["alpha_pattern"] if config.get("alpha_pattern") else [])]
    if config.get("peft_type") != "LORA" or odd:
        raise UserError(
            f"adapter {adapter}: only plain LoRA can be merged, and this has {(odd or [config.get('peft_type')])[0]}"
        )
    shapes = {
        layer: [file.get_slice(f"{ADAPTER_PREFIX}{layer}{end}").get_shape() for end in (DOWN, UP)] for layer in layers
    }
    for layer, (down, up) in shapes.items():
        if len(down) != 2 or len(up) != 2 or down[0] != up[1]:
            raise UserError(
                f"adapter {adapter}: the two matrices of {layer} do not fit together ({down}, {up}): {RETRAIN}"
            )
    ranks = {down[0] for down, _ in shapes.values()}
    if not ranks or (not config.get("rank_pattern") and ranks != {config.get("r")}):
        raise UserError(
            f"adapter {adapter}: adapter_config.json says r {config.get('r')}, the weights are of rank "
            f"{', '.join(map(str, sorted(ranks))) or 'none'}: {RETRAIN}"
        )
    if not isinstance(config.get("lora_alpha"), int | float):
        raise UserError(f"adapter {adapter}: adapter_config.json has no number as lora_alpha: {RETRAIN}")

    def update(layer: str) -> "torch.Tensor":
        down, up = (file.get_tensor(f"{ADAPTER_PREFIX}{layer}{end}").float() for end in (DOWN, UP))
        rank = len(down)
        scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
        return (up * scale) @ down

    return ((layer, update(layer)) for layer in layers)


def check_fits(layer: str, update: "torch.Tensor", weights: Sequence[int] | None) -> None:
    """Raises UserError unless an update has the size of the weights, [out, in], that it is to be added to."""
    if weights is None:
        raise UserError(
            f"the adapter changes {layer}, which the model does not have: it is of another model: {RETRAIN}"
        )
    if tuple(weights) != tuple(update.shape):
        raise UserError(
            f"the adapter changes {layer} by {tuple(update.shape)} values, and the model has {tuple(weights)} there: it is of "
            f"another model: {RETRAIN}"
        )


def adapter_config(adapter: Path) -> dict[str, Any]:
    """What `adapter_config.json` holds. Raises UserError where that is none."""
    path = adapter / "adapter_config.json"
    with plain(f"adapter {adapter}: adapter_config.json cannot be read", RETRAIN):
        config: object = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise UserError(f"adapter {adapter}: adapter_config.json is no JSON object: {RETRAIN}")
    return config


def pick_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def usable_device(wanted: str = "auto") -> str:
    """The device to use: the one that is `wanted`, or the best. Raises UserError where this machine does not have it."""
    import torch

    if wanted == "auto":
        return pick_device()
    here = [name for name in DEVICES if getattr(torch, name).is_available()]
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = None
    if device is None or device.type not in DEVICES:
        raise UserError(f"engine.device: there is no device {wanted[:40]!r}: auto, or one of {', '.join(here)}")
    if device.type not in here or (device.index or 0) >= getattr(torch, device.type).device_count():
        raise UserError(f"engine.device: this machine has no {wanted}: auto, or one of {', '.join(here)}")
    return wanted


def pick_dtype(device: str) -> "torch.dtype":
    """bfloat16 where the hardware multiplies it, else float32."""
    import torch

    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device == "cpu" and _cpu_has_bf16():
        return torch.bfloat16
    return torch.float32


def _cpu_has_bf16() -> bool:
    info = Path("/proc/cpuinfo")
    return info.exists() and any(flag in info.read_text() for flag in ("avx512_bf16", "amx_bf16"))
