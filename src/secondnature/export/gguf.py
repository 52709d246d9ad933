"""GGUF, for llama.cpp and what is built on it: llama.cpp's own converter does the work, where there is one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from secondnature.export.base import gguf_fields
from secondnature.types import UserError

VARIABLE = "SECONDNATURE_GGUF_CONVERTER"
NAMES = ("convert_hf_to_gguf.py", "convert-hf-to-gguf")
HOW = (
    "get llama.cpp (git clone https://github.com/ggml-org/llama.cpp), install its requirements.txt into an environment of "
    "its own, and give the path of its convert_hf_to_gguf.py as --converter or in the environment variable " + VARIABLE
)


def find_converter(given: Path | None) -> Path:
    """The converter: the given one, that of the environment variable, or one on the PATH. Raises UserError without one."""
    named = given or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if named is not None:
        path = named.expanduser()
        if not path.is_file():
            raise UserError(f"--gguf: there is no converter {path}: {HOW}")
        return path.absolute()
    for name in NAMES:
        if (found := shutil.which(name)) is not None:
            return Path(found)
    raise UserError(f"--gguf: no converter is here: {HOW}")


def convert(converter: Path, model: Path, target: Path) -> None:
    """Run the converter on a saved model, in 16 bits. Raises UserError with its last words where it fails."""
    runs_itself = converter.suffix != ".py" or os.access(converter, os.X_OK)
    command = [] if runs_itself else [sys.executable]
    command += [str(converter), str(model), "--outfile", str(target), "--outtype", "f16"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(f"--gguf: {converter} cannot be run: {error.strerror}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"--gguf: {converter.name} failed: {last}")
    try:
        architecture = gguf_fields(target).get("general.architecture")
    except (OSError, ValueError) as error:
        raise UserError(f"--gguf: {converter.name} wrote no GGUF file ({error})") from None
    if architecture is None:
        raise UserError(f"--gguf: {converter.name} wrote a GGUF file that names no architecture")
