# pyright: basic
# (transformers is not typed)
"""A model's parts, opened by transformers. Whatever is wrong with them is one line that says what, where and what to do."""

import contextlib
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

from secondnature.engines.chat import check_template
from secondnature.types import UserError

AGAIN = "fetch or copy the model again"
WEIGHTS = ("*.safetensors", "*.bin")
SHOWN = 160  # characters of what a library said


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
