"""What in a recipe needs the user's yes: Python that it runs, and keys that it sends. A yes is remembered, by content.

A recipe and a run folder may be somebody else's. What they name runs or leaves this machine only after a yes on the command
line (`--trust`), to a question on the terminal, or from Python (`trust=True`).
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from secondnature.engines.endpoint import HTTPOptions, is_endpoint, parse_endpoint
from secondnature.files import digest_of, digests, to_json, write
from secondnature.recipe import Recipe
from secondnature.recipe_file import own_files
from secondnature.types import UserError
from secondnature.untrusted import path_of
from secondnature.user_code import SHORT, code_digest

# The variables that a recipe may name, each with the host that its key is for, where there is one: there it goes without a yes.
KEYS = {
    "OPENAI_API_KEY": "https://api.openai.com",
    "ANTHROPIC_API_KEY": "https://api.anthropic.com",
    "CEREBRAS_API_KEY": "https://api.cerebras.ai",
    "DEEPINFRA_API_KEY": "https://api.deepinfra.com",
    "DEEPSEEK_API_KEY": "https://api.deepseek.com",
    "FIREWORKS_API_KEY": "https://api.fireworks.ai",
    "GEMINI_API_KEY": "https://generativelanguage.googleapis.com",
    "GROQ_API_KEY": "https://api.groq.com",
    "HF_TOKEN": "https://router.huggingface.co",
    "LITELLM_API_KEY": None,
    "MISTRAL_API_KEY": "https://api.mistral.ai",
    "NVIDIA_API_KEY": "https://integrate.api.nvidia.com",
    "OPENROUTER_API_KEY": "https://openrouter.ai",
    "TOGETHER_API_KEY": "https://api.together.xyz",
    "VLLM_API_KEY": None,
    "XAI_API_KEY": "https://api.x.ai",
}
MORE_KEYS = "SECONDNATURE_KEYS"  # the variable in which a user lists more of them
CODE = {".py", ".yaml", ".yml"}  # what runs of a folder of benchmark tasks: its YAML may name functions


@dataclass(frozen=True, slots=True)
class Need:
    """Something that needs a yes: `what`, to be read, and `digest`, by which the yes is remembered."""

    what: str
    digest: str


def needs(recipe: Recipe) -> Iterator[Need]:
    """All that the recipe needs a yes for, given before or not. Raises UserError for a key that no recipe may name."""
    for file in own_files(recipe):
        if (digest := code_digest(file)) is not None:
            yield Need(f"run the Python file {path_of(file)} ({digest[:SHORT]})", f"code {digest}")
    if (tasks := recipe.evaluate.lm_eval) is not None and tasks.include_path is not None:
        digest = _folder_digest(Path(tasks.include_path))
        yield Need(f"run what the benchmark tasks in {tasks.include_path} name ({digest[:SHORT]})", f"tasks {digest}")
    if (key := _key(recipe)) is not None:
        yield key


def missing(recipe: Recipe) -> list[Need]:
    """What the recipe needs a yes for that was not given yet."""
    given = _given()
    return [need for need in needs(recipe) if need.digest not in given]


def check(recipe: Recipe) -> None:
    """Raises UserError where a yes is missing, but for the key in OPENAI_API_KEY, which is then not sent."""
    default = _default_key(recipe)
    _refuse([need for need in missing(recipe) if need != default])


def http_options(recipe: Recipe, options: HTTPOptions) -> HTTPOptions:
    """`options`, without the key in OPENAI_API_KEY where a yes to sending it is missing. Raises UserError for another key."""
    key = _key(recipe)
    if key is None or key.digest in _given():
        return options
    if key != _default_key(recipe):
        _refuse([key])
    return options.without_key()


def _refuse(lacking: Sequence[Need]) -> None:
    if lacking:
        raise UserError(
            f"this recipe wants to {' and to '.join(need.what for need in lacking)}: if you trust it, say so with --trust "
            "(from Python, trust=True); it is remembered as long as nothing of it changes"
        )


def remember(wanted: Iterable[Need]) -> None:
    """Remember a yes to each of them, in the user's own settings."""
    path = _file()
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, to_json({**_given(), **{need.digest: need.what for need in wanted}}))


def _key(recipe: Recipe) -> Need | None:
    """The key that the recipe's model is asked with, where there is one and it is not for its own host."""
    if not is_endpoint(recipe.model):
        return None
    variable, parts = recipe.engine.api_key_env, urlsplit(parse_endpoint(recipe.model).url)
    host = f"{parts.scheme}://{parts.netloc}".lower()
    if variable not in [*KEYS, *os.environ.get(MORE_KEYS, "").replace(",", " ").split()]:
        raise UserError(
            "engine.api_key_env: a recipe alone may not name this variable, which may hold anything, to be sent to "
            f"{host}: it may name {', '.join(sorted(KEYS))}; list others that it may in the environment variable {MORE_KEYS}"
        )
    if not os.environ.get(variable, "").strip() or KEYS.get(variable) == host:
        return None
    return Need(f"send the key in the environment variable {variable} to {host}", f"key {variable} {host}")


def _default_key(recipe: Recipe) -> Need | None:
    """The need of a key in the variable that is looked at where the recipe names none: without a yes it is not sent."""
    return _key(recipe) if recipe.engine.api_key_env == HTTPOptions.api_key_env else None


def _folder_digest(folder: Path) -> str:
    return digest_of(digests(folder, (path for path in folder.rglob("*") if path.suffix in CODE)))


def _file() -> Path:
    """`trusted.json` in `$SECONDNATURE_CONFIG`, or in `secondnature` in the user's folder of settings."""
    home = Path(os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config")))
    return Path(os.environ.get("SECONDNATURE_CONFIG", str(home / "secondnature"))) / "trusted.json"


def _given() -> Mapping[str, str]:
    try:
        found: object = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cast("dict[str, str]", found) if isinstance(found, dict) else {}
